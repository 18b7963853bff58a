//! Generation with and without edits: tokens per second of one text after another, on the laptop preset with 4,096 latents at the neurons.
//!
//! With `--run DIR` the model and the SAE `main` of that run; otherwise a model and SAEs drawn at random, whose latents are active about as often. Kinds take turns in
//! each round, so that all meet the same machine. Goals, as shares of the unedited rate: 0.8 for added directions and for clamps where latents decide alone (ten
//! edits each), 0.35 for clamps at TopK.
//!
//! `cargo bench --bench generate -- [--json] [--rounds 15] [--tokens 100] [--run DIR]`

mod peer;

use monosem::artifact::{RunDir, seed};
use monosem::corpus::Tokenizer;
use monosem::intervene::write::{Change, Rig, Writing, texts};
use monosem::intervene::{LatentEdit, Rule, Steering};
use monosem::lm::{HookPoint, Lm, LmConfig, Sampling};
use monosem::sae::{Sae, Select};
use rand::RngExt;
use std::path::Path;

const D_SAE: usize = 4096;
const K: usize = 32;

fn main() {
    peer::knows(&["--json", "--rounds", "--tokens", "--run"]);
    let (rounds, n_tokens) = (peer::number("--rounds", 15), peer::number("--tokens", 100));
    let (lm, tokenizer, topk) = match peer::flag("--run") {
        Some(dir) => of_run(Path::new(&dir)),
        None => at_random(),
    };
    let jump = Sae { select: Select::JumpRelu { threshold: vec![0.5; topk.d_sae] }, ..topk.clone() };
    let relu = Sae { select: Select::Relu, ..topk.clone() };
    let latents: Vec<u32> = (0..10).map(|i| i * topk.d_sae as u32 / 10).collect();
    let edits = |n: usize, rule: Rule| Steering::of(latents[..n].iter().map(|&l| LatentEdit::new(l, rule)).collect());
    let kinds: Vec<(&str, &Sae, Option<Steering>, Option<f64>)> = vec![
        ("unedited", &topk, None, None),
        ("add x 10", &topk, Some(edits(10, Rule::Add(0.3))), Some(0.8)),
        ("ReLU clamp x 10", &relu, Some(edits(10, Rule::Set(0.3))), Some(0.8)),
        ("JumpReLU clamp x 10", &jump, Some(edits(10, Rule::Set(0.3))), Some(0.8)),
        ("TopK clamp x 1", &topk, Some(edits(1, Rule::Set(0.3))), Some(0.35)),
        ("TopK clamp x 10", &topk, Some(edits(10, Rule::Set(0.3))), Some(0.35)),
    ];
    let mut rates = vec![Vec::new(); kinds.len()];
    for round in 0..rounds {
        for (kind, (_, sae, steering, _)) in kinds.iter().enumerate() {
            let rig = Rig { lm: &lm, tokenizer: &tokenizer, sae, hook: HookPoint::mlp_post(0) };
            let writing = Writing::new(n_tokens, &Sampling { temperature: 1.0, top_k: None, top_p: None, seed: round as u64 });
            let change = steering.as_ref().map_or(Change::default(), Change::from);
            let mut written = 0;
            let seconds = peer::seconds(|| written = texts(rig, change, &[rig.prompt("")], &writing).expect("it writes")[0].len());
            // A text may end at once; short ones say more about their beginning.
            if written >= n_tokens / 2 {
                rates[kind].push(written as f64 / seconds);
            }
        }
    }
    let median = |rates: &Vec<f64>| if rates.is_empty() { f64::NAN } else { peer::median(&mut rates.clone()) };
    let unedited = median(&rates[0]);
    let mut out = serde_json::Map::new();
    for ((name, _, _, goal), rates) in kinds.iter().zip(&rates) {
        let (rate, share) = (median(rates), median(rates) / unedited);
        let verdict = match goal {
            Some(goal) if share < *goal => format!(" (goal {goal}, MISSED)"),
            Some(goal) => format!(" (goal {goal})"),
            None => String::new(),
        };
        if !peer::has("--json") {
            println!("{name:<20} {rate:8.0} tokens/s  {share:.2}{verdict}");
        }
        out.insert((*name).into(), serde_json::json!({ "tokens_per_s": rate, "share": share, "n": rates.len() }));
    }
    if peer::has("--json") {
        println!("{}", serde_json::Value::Object(out));
    }
}

fn of_run(dir: &Path) -> (Lm, Tokenizer, Sae) {
    let (parent, name) = (dir.parent().expect("a run is in a folder"), dir.file_name().expect("a run has a name").to_string_lossy());
    let run = RunDir::new(parent, &name);
    let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).expect("the run has a tokenizer");
    (Lm::load(&run.lm()).expect("the run has a model"), tokenizer, Sae::load(&run.sae("main")).expect("the run has an SAE"))
}

fn at_random() -> (Lm, Tokenizer, Sae) {
    let words: String = (0..2000).map(|i| format!("word{} ", i * i % 1733)).collect();
    let tokenizer = Tokenizer::train([words.as_str()].into_iter(), 1024).expect("text enough");
    let config = LmConfig { d_vocab: 4096.max(tokenizer.d_vocab()), ..LmConfig::preset("laptop").expect("it is known") };
    let lm = Lm::init(&config, 0);
    let d_in = config.d_mlp;
    let mut rng = seed::rng(0, "bench/generate", 0);
    let mut w_dec: Vec<f32> = (0..D_SAE * d_in).map(|_| rng.random_range(-1.0..1.0)).collect();
    for row in w_dec.chunks_exact_mut(d_in) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    let sae = Sae {
        d_in,
        d_sae: D_SAE,
        select: Select::TopK { k: K },
        w_enc: w_dec.clone(),
        b_enc: vec![0.0; D_SAE],
        w_dec,
        b_dec: vec![0.0; d_in],
        apply_b_dec_to_input: false,
        transcoder: None,
    };
    (lm, tokenizer, sae)
}
