//! A small run made in a folder: real tokens, real dictionaries from the collector, an untrained model with an untrained SAE. Its features
//! are regular expressions, so that what a page must show is known; its documents hold what breaks careless pages.

use monosem::artifact::{Manifest, RunDir, seed};
use monosem::corpus::{EncodedDocument, ShardWriter, Split, TokenStream, Tokenizer, counts};
use monosem::features::collect::{CollectSettings, Collected, Collector, Shape, Windows};
use monosem::features::store::{self, Category, CategoryCount, Flag, Kind, LossEffects, Meta, Row};
use monosem::features::text::StreamText;
use monosem::lm::{Activation, Lm, LmConfig};
use monosem::sae::history::{self, Moment};
use monosem::sae::{Origin, Sae, Select, SparseRows};
use rand::RngExt;
use regex::bytes::Regex;
use std::path::Path;

pub const N_CTX: usize = 64;

/// Documents that a careless page breaks on.
pub const NASTY: [&str; 5] = [
    "A page once said </script><script>alert('pwned')</script> and <img src=x onerror=alert(1)> & \"went on\" with 'quotes'.",
    "שלום עולם, זה טקסט בעברית שנקרא מימין לשמאל. הוא מדבר על שלום ועל מלחמה, ועל ספרים.",
    "The owl 🦉 met a family 👨‍👩‍👧 and said naïve café 日本語 words; then it flew 🚀 away.",
    "control \u{0}\u{1}\u{7}\u{1b}[31m red \u{7f} tab\there\r\nnew line\n\n\n  two  spaces \u{a0}nbsp \u{200b}zero \u{202e}reversed\u{202c} end",
    "int main() {\n\treturn 0 < 1 && 2 > 1; // {{ template }} {% raw %}\n}\n",
];

const SUBJECTS: [&str; 6] = ["The captain", "Nobody", "My sister", "An old farmer", "Everyone", "The committee"];
const VERBS: [&str; 6] = ["did not answer", "does the work", "has done nothing", "was doing well", "would do it again", "made a plan"];
const TIMES: [&str; 6] = ["for two weeks", "in the past three centuries", "every day", "within six months", "last year", "at the second gate"];
const ENDS: [&str; 5] =
    [", as the letter said.", " while it rained.", "; the price was 25 dollars.", ", and somebody laughed.", ". It cost 1984 crowns."];

/// Features in the order of their numbers: name of what they fire on, expression (the token with a match's last byte fires), flags.
pub const FEATURES: [(&str, &str, &[Flag]); 9] = [
    ("forms of do", r"\b(do|does|did|done|doing)\b", &[]),
    ("time spans", r"\b(weeks?|centuries|months|year|day)\b", &[]),
    ("Hebrew", r"\xd7[\x90-\xaa]", &[]),
    ("markup", r"[<>]", &[]),
    ("nothing", r"zzzzzz", &[Flag::Dead]),
    ("any letter", r"[a-z]", &[Flag::Dense]),
    ("owl", "🦉", &[Flag::SingleToken]),
    ("indefinite pronouns", r"\b([Nn]obody|[Ee]veryone|[Ss]omebody|nothing)\b", &[]),
    ("control", r"[\x00-\x08\x1b]", &[]),
];

/// Makes the run; the dictionary of neurons only where asked for.
pub fn make(dir: &Path, neurons: bool) -> RunDir {
    let run = RunDir::new(dir, "demo");
    let documents = documents();
    let tokenizer = Tokenizer::train(documents.iter().map(String::as_str), 384).unwrap();
    let mut writer = ShardWriter::create(&run.tokens(), tokenizer.d_vocab(), tokenizer.end_of_text(), &[], 1 << 20).unwrap();
    for text in &documents {
        writer.push(Split::Train, EncodedDocument { ids: tokenizer.encode(text), ..Default::default() }).unwrap();
    }
    tokenizer.save(&run.tokens().join("tokenizer.json")).unwrap();
    let manifest = writer.finish(Manifest::new("tokens", 1, serde_json::json!({}), 0)).unwrap();
    manifest.write(&run.tokens()).unwrap();
    let stream = TokenStream::open(&run.tokens()).unwrap();
    std::fs::create_dir_all(run.sae("main")).unwrap();

    let units: Vec<(Vec<&str>, &[Flag])> = FEATURES.iter().map(|&(_, e, flags)| (vec![e], flags)).collect();
    dictionary(&run, &stream, &tokenizer, "main", &units);
    if neurons {
        let mixed: Vec<(Vec<&str>, &[Flag])> = (0..FEATURES.len())
            .map(|i| ((0..3).map(|j| FEATURES[(i * 2 + j * 3) % FEATURES.len()].1).filter(|e| *e != "[a-z]").collect(), &[][..]))
            .collect();
        dictionary(&run, &stream, &tokenizer, monosem::features::NEURONS, &mixed);
    }
    run
}

/// The same with an untrained model and an untrained SAE of as many latents as there are features.
#[allow(dead_code)]
pub fn make_with_model(dir: &Path) -> RunDir {
    let run = make(dir, false);
    add_model(&run);
    run
}

/// All that a run has: dictionaries of features and of neurons, a model and an SAE.
#[allow(dead_code)]
pub fn make_full(dir: &Path) -> RunDir {
    let run = make(dir, true);
    add_model(&run);
    run
}

fn add_model(run: &RunDir) {
    let stream = TokenStream::open(&run.tokens()).unwrap();
    let config = LmConfig {
        d_vocab: stream.d_vocab(),
        n_ctx: N_CTX,
        d_model: 16,
        n_layers: 1,
        n_heads: 2,
        d_mlp: 24,
        activation: Activation::Gelu,
        tied: true,
    };
    Lm::init(&config, 0).save(&run.lm(), Some(stream.end_of_text())).unwrap();
    let (d_in, d_sae) = (config.d_mlp, FEATURES.len());
    let mut rng = seed::rng(0, "demo/sae", 0);
    let mut rows = |scale: f32| -> Vec<f32> { (0..d_sae * d_in).map(|_| scale * (rng.random::<f32>() - 0.5)).collect() };
    let (w_enc, mut w_dec) = (rows(9.0), rows(1.0));
    for row in w_dec.chunks_mut(d_in) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    let b_enc = vec![0.01; d_sae];
    let sae = Sae { d_in, d_sae, select: Select::Relu, w_enc, b_enc, w_dec, b_dec: vec![0.0; d_in], apply_b_dec_to_input: true, transcoder: None };
    let origin = Origin {
        model_name: "demo".into(),
        hook_name: "blocks.0.mlp.hook_post".into(),
        hook_name_out: None,
        context_size: N_CTX,
        dataset: "demo".into(),
    };
    let sample: Vec<f32> = (0..8 * d_in).map(|i| (i % 7) as f32 * 0.1).collect();
    sae.save(&run.sae("main"), &origin, &sample).unwrap();
    // It was another when half of its training was done, and less like itself before.
    for (step, turned) in [(1, 1.0), (4, 0.6)] {
        let mut then = sae.clone();
        then.w_dec.iter_mut().zip(rows(turned)).for_each(|(w, noise)| *w += noise);
        then.w_enc.iter_mut().zip(rows(9.0 * turned)).for_each(|(w, noise)| *w += noise);
        snapshot(run, &then, step);
    }
}

/// A snapshot of the demo's SAE after `step` of 8 steps.
#[allow(dead_code)]
pub fn snapshot(run: &RunDir, sae: &Sae, step: u64) {
    let hook = "blocks.0.mlp.hook_post".into();
    let training = monosem::artifact::settings::identity(&serde_json::json!({ "rows": 80 }), &Default::default());
    let moment = Moment { step, steps: 8, rows: 10 * step, loss: 2.5, fvu: 0.5, l0: 3.0, dead_frac: 0.25, hook, hook_out: None, run: training };
    history::write(&run.sae("main"), sae, &moment).unwrap();
}

/// The manifest that makes the demo's SAE the finished one of its training.
#[allow(dead_code)]
pub fn finish(run: &RunDir) {
    let mut manifest = Manifest::new("sae", monosem::sae::SAE_FORMAT_VERSION, serde_json::json!({ "rows": 80 }), 0);
    manifest.counts = [("rows".to_string(), 80), ("steps".to_string(), 8)].into();
    manifest.details = serde_json::json!({ "fvu": 0.125, "l0": 3.0, "dead_frac": 0.0 });
    manifest.write(&run.sae("main")).unwrap();
}

/// The demo's SAE with its snapshots once more, under another name.
#[allow(dead_code)]
pub fn copy_sae(run: &RunDir, name: &str) {
    for part in ["", "history"] {
        let (from, to) = (run.sae("main").join(part), run.sae(name).join(part));
        std::fs::create_dir_all(&to).unwrap();
        for path in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn documents() -> Vec<String> {
    let mut rng = seed::rng(0, "demo/documents", 0);
    let mut sentence = || {
        let mut pick = |from: &[&str]| from[rng.random_range(0..from.len())].to_string();
        format!("{} {} {}{}", pick(&SUBJECTS), pick(&VERBS), pick(&TIMES), pick(&ENDS))
    };
    let mut documents: Vec<String> = (0..220).map(|i| (0..3 + i % 6).map(|_| sentence()).collect::<Vec<_>>().join(" ")).collect();
    for (i, nasty) in NASTY.iter().cycle().take(60).enumerate() {
        documents.insert(i * 4, format!("{nasty} {}", sentence()));
    }
    documents
}

fn dictionary(run: &RunDir, stream: &TokenStream, tokenizer: &Tokenizer, name: &str, units: &[(Vec<&str>, &[Flag])]) {
    let ids: Vec<u32> = {
        let mut ids = vec![0; stream.len() as usize / N_CTX * N_CTX];
        stream.read(0, &mut ids);
        ids
    };
    let counted: Vec<bool> = ids.iter().enumerate().map(|(t, &id)| counts(id, t % N_CTX, tokenizer.end_of_text())).collect();
    let acts: Vec<Vec<f32>> = units.iter().map(|(expressions, _)| fire(tokenizer, &ids, expressions)).collect();
    let mut rows = SparseRows::default();
    for t in 0..ids.len() {
        let (latents, values): (Vec<u32>, Vec<f32>) =
            acts.iter().enumerate().filter(|(_, a)| counted[t] && a[t] > 0.0).map(|(f, a)| (f as u32, a[t])).unzip();
        rows.push_row(&latents, &values);
    }
    let t0: Vec<u64> = (0..ids.len() as u64).step_by(N_CTX).collect();
    let docs: Vec<u32> = (0..ids.len()).map(|t| stream.doc_of(t as u64) as u32).collect();
    let shape = Shape { n_units: units.len(), d_in: 0, n_ctx: N_CTX, n_windows: t0.len() as u64 };
    let mut collector = Collector::new(shape, CollectSettings { n_before: 40, n_after: 16, ..Default::default() });
    collector.add(Windows { n_ctx: N_CTX, t0: &t0, ids: &ids, docs: &docs, counted: &counted, x: &[] }, &rows);
    let findings = collector.finish();
    let vocabulary = tokenizer.d_vocab() as u32;
    let rows: Vec<Row> = findings
        .units
        .into_iter()
        .zip(units)
        .enumerate()
        .map(|(f, (collected, (expressions, flags)))| Row {
            flags: flags.to_vec(),
            polysemantic: expressions.len() as f64,
            enc_dec_cosine: (name == "main").then_some(0.8),
            logits_up: (0..10).map(|i| ((f as u32 * 31 + i * 7 + 260) % vocabulary, 3.0 - 0.2 * i as f32)).collect(),
            logits_down: (0..10).map(|i| ((f as u32 * 17 + i * 5 + 300) % vocabulary, -2.0 + 0.1 * i as f32)).collect(),
            collected: Collected { neurons: if name == "main" { vec![(f as u32, 0.5, 0.625)] } else { vec![] }, ..with_effects(collected) },
            similar: if name == "main" && f != 4 { vec![((f as u32 + 5) % 9, 0.25)] } else { vec![] },
            alignment: if name == "main" { vec![(f as u32, -0.75, 0.5), (8 - f as u32, 0.125, 0.25)] } else { vec![] },
            category: Some(if flags.contains(&Flag::Dead) { Category::Dead } else { Category::Context }),
        })
        .collect();
    let count = |flag| rows.iter().filter(|r| r.flags.contains(&flag)).count() as u64;
    let meta = Meta {
        kind: if name == "main" { Kind::Latent } else { Kind::Neuron },
        name: name.into(),
        hook: "blocks.0.mlp.hook_post".into(),
        n_units: units.len() as u32,
        d_in: units.len(),
        n_ctx: N_CTX,
        n_tokens: findings.n_tokens,
        tokens_from: "train".into(),
        seed: 0,
        n_before: 40,
        n_after: 16,
        tokens_hash: stream.manifest().hash(),
        lm_hash: "none".into(),
        sae_hash: None,
        weights_hash: format!("weights of {name}"),
        n_dead: count(Flag::Dead),
        n_ultra_rare: 0,
        n_dense: count(Flag::Dense),
        n_single_token: count(Flag::SingleToken),
        program_version: "0".into(),
        n_windows: findings.n_windows,
        time_tokens: findings.time_tokens,
        position_edges: findings.position_edges,
        position_tokens: findings.position_tokens,
        coactive_sd: 0.5 / 16.0,
        census: vec![CategoryCount { category: Category::Dead, n: 1 }, CategoryCount { category: Category::Context, n: units.len() as u64 - 1 }],
        loss_effects: LossEffects::Exact,
        ..Default::default()
    };
    store::write(&run.features(name), &meta, &rows, &findings.tokens, &StreamText { stream, tokenizer }).unwrap();
}

/// Made-up effects on the loss: removing the feature where it fires costs 0.3 nat, at its other firings nearby it gains 0.05.
fn with_effects(mut unit: Collected) -> Collected {
    for firing in unit.groups.iter_mut().flat_map(|g| &mut g.firings).filter(|f| f.act > 0.0) {
        firing.loss = firing.around.iter().map(|&(distance, _)| (distance, if distance == 0 { 0.3 } else { -0.05 })).collect();
    }
    unit
}

/// Activation of each token: the token that holds a match's last byte fires, more or less.
fn fire(tokenizer: &Tokenizer, ids: &[u32], expressions: &[&str]) -> Vec<f32> {
    let mut owner = vec![];
    let mut bytes = vec![];
    for (t, &id) in ids.iter().enumerate() {
        // The end of a document is no text: it must not look like markup.
        let of_token = if id == tokenizer.end_of_text() { &b"\n"[..] } else { tokenizer.bytes(id) };
        bytes.extend_from_slice(of_token);
        owner.extend(std::iter::repeat_n(t, of_token.len()));
    }
    let mut acts = vec![0.0f32; ids.len()];
    for (i, expression) in expressions.iter().enumerate() {
        let expression = Regex::new(&format!("(?-u){expression}")).unwrap();
        for found in expression.find_iter(&bytes) {
            let t = owner[found.end() - 1];
            let luck: f32 = seed::rng(t as u64, "demo/act", i as u64).random();
            acts[t] = acts[t].max(0.4 + 3.6 * luck * luck);
        }
    }
    acts
}
