//! Exports of a small run, read back: what is in the files is what the dictionary says.

use crate::demo;
use monosem::artifact::{RunDir, Silent};
use monosem::corpus::{TokenStream, Tokenizer};
use monosem::features::export::dashboard::Feature;
use monosem::features::export::saedashboard::{Batch, read as read_batches};
use monosem::features::export::{Format, LabelText, Source, export, jsonl, neuronpedia};
use monosem::features::import;
use monosem::features::store::{Example, FeatureDetail, Flag, GroupKind, LogitEffect, TokenText};
use monosem::features::text::StreamText;
use monosem::features::{Dictionary, axes};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The demo run, opened.
struct Opened {
    dir: tempfile::TempDir,
    dictionary: Dictionary,
    stream: TokenStream,
    tokenizer: Tokenizer,
}

impl Opened {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let run = demo::make(dir.path(), false);
        let dictionary = Dictionary::open(&run.features("main")).unwrap();
        let stream = TokenStream::open(&run.tokens()).unwrap();
        let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).unwrap();
        Opened { dir, dictionary, stream, tokenizer }
    }

    fn text(&self) -> StreamText<'_> {
        StreamText { stream: &self.stream, tokenizer: &self.tokenizer }
    }

    fn with_source<T>(&self, work: impl FnOnce(&Source) -> T) -> T {
        let n_units = self.dictionary.meta().n_units as usize;
        work(&Source {
            dictionary: &self.dictionary,
            text: &self.text(),
            labels: &labels(),
            directions: Some(axes(self.dictionary.meta().d_in, n_units)),
            lm: None,
            model_id: "demo".into(),
            set: "main".into(),
            dataset: "demo text".into(),
            created_at: "2026-01-02T03:04:05Z".into(),
        })
    }

    fn export(&self, format: Format) -> PathBuf {
        let out = self.dir.path().join("out");
        self.with_source(|source| {
            export(format, source, &out, &mut Silent).unwrap();
            let again = export(format, source, &out, &mut Silent).unwrap_err().to_string();
            assert!(again.contains("not empty"), "{again}");
        });
        out
    }

    /// Each feature as other programs' files have it.
    fn dashboards(&self) -> Vec<Feature> {
        self.with_source(|source| (0..self.dictionary.meta().n_units).map(|id| Feature::read(source, id).unwrap().0).collect())
    }

    fn details(&self) -> Vec<FeatureDetail> {
        (0..self.dictionary.meta().n_units).map(|id| self.dictionary.feature_in(id, &self.text()).unwrap()).collect()
    }
}

fn labels() -> Vec<LabelText> {
    [(0, "forms of <b>do</b>"), (0, "\"auxiliary\" do"), (2, "עברית")]
        .map(|(latent, text)| LabelText { latent, text: text.into(), author: "ann".into(), time: "2026-01-01T00:00:00Z".into() })
        .to_vec()
}

#[test]
fn json_lines_read_back_are_the_dictionary() {
    let opened = Opened::new();
    let out = opened.export(Format::Jsonl);
    let text = std::fs::read_to_string(out.join("features.jsonl")).unwrap();
    let lines: Vec<jsonl::Line> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.iter().map(|l| l.feature.clone()).collect::<Vec<_>>(), opened.details());
    assert_eq!(lines.into_iter().flat_map(|l| l.labels).collect::<Vec<_>>(), labels());
    let meta: Value = serde_json::from_str(&std::fs::read_to_string(out.join("meta.json")).unwrap()).unwrap();
    assert_eq!(meta, serde_json::to_value(opened.dictionary.meta()).unwrap());
}

fn parquet_rows(path: &Path) -> Vec<Vec<Field>> {
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().into_columns().into_iter().map(|(_, field)| field).collect());
    rows.collect()
}

fn as_field(value: rusqlite::types::Value, kind: monosem::features::store::ColumnKind) -> Field {
    use monosem::features::store::ColumnKind;
    use rusqlite::types::Value;
    match value {
        Value::Null => Field::Null,
        Value::Integer(n) if kind == ColumnKind::Real => Field::Double(n as f64),
        Value::Integer(n) => Field::Long(n),
        Value::Real(x) => Field::Double(x),
        Value::Text(text) => Field::Str(text),
        Value::Blob(bytes) => Field::Bytes(bytes.into()),
    }
}

#[test]
fn parquet_files_read_back_are_the_tables_and_the_contexts() {
    let opened = Opened::new();
    let out = opened.export(Format::Parquet);
    let tables = opened.dictionary.tables().unwrap();
    assert!(["features", "examples", "groups", "firing_tokens", "logits"].iter().all(|t| tables.contains(&t.to_string())), "{tables:?}");
    for table in &tables {
        let kinds: Vec<_> = opened.dictionary.columns(table).unwrap().into_iter().map(|c| c.kind).collect();
        let mut want: Vec<Vec<Field>> = vec![];
        let take = &mut |row: Vec<_>| {
            want.push(row.into_iter().zip(&kinds).map(|(value, kind)| as_field(value, *kind)).collect());
            Ok(())
        };
        opened.dictionary.dump(table, take).unwrap();
        let got = parquet_rows(&out.join(format!("{table}.parquet")));
        assert_eq!(got.len(), want.len(), "{table}");
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(&got[..want.len()], &want[..], "{table}");
        }
    }
    let examples = opened.details().into_iter().flat_map(|d| d.groups).flat_map(|g| g.examples);
    let list = |field: &Field| if let Field::ListInternal(list) = field { list.elements().to_vec() } else { panic!("{field} is no list") };
    let n_columns = opened.dictionary.columns("examples").unwrap().len();
    let mut n = 0;
    for (row, example) in parquet_rows(&out.join("examples.parquet")).iter().zip(examples) {
        let [start, tokens, pieces, acts, text] = &row[n_columns..] else { panic!("{} columns", row.len()) };
        assert_eq!(*start, Field::Long(example.start as i64));
        assert_eq!(list(tokens), example.tokens.iter().map(|t| Field::Int(t.id as i32)).collect::<Vec<_>>());
        assert_eq!(list(pieces), example.tokens.iter().map(|t| Field::Bytes(t.bytes.clone().into())).collect::<Vec<_>>());
        assert_eq!(list(acts), example.acts.iter().map(|a| Field::Float(*a)).collect::<Vec<_>>());
        let bytes: Vec<u8> = example.tokens.iter().flat_map(|t| t.bytes.clone()).collect();
        assert_eq!(*text, Field::Str(String::from_utf8_lossy(&bytes).into_owned()));
        n += 1;
    }
    assert!(n > 100, "{n} examples");
    let text = |s: &str| Field::Str(s.into());
    let want: Vec<_> = labels().iter().map(|l| vec![Field::Long(i64::from(l.latent)), text(&l.text), text(&l.author), text(&l.time)]).collect();
    assert_eq!(parquet_rows(&out.join("labels.parquet")), want);
    let meta: Value = serde_json::from_str(&std::fs::read_to_string(out.join("meta.json")).unwrap()).unwrap();
    assert_eq!(meta, serde_json::to_value(opened.dictionary.meta()).unwrap());
}

/// Keys in order with the JSON type of each value; of a list, those of its first item.
fn shape(value: &Value) -> String {
    match value {
        Value::Object(map) => format!("{{{}}}", map.iter().map(|(k, v)| format!("{k}: {}", shape(v))).collect::<Vec<_>>().join(", ")),
        Value::Array(items) => format!("[{}]", items.first().map(shape).unwrap_or_default()),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "bool".into(),
        Value::Null => "null".into(),
    }
}

#[test]
fn saedashboard_batches_have_the_structure_of_real_ones() {
    let real = Path::new("../shared/data/sae/saedashboard-gpt2-small-res-jb");
    if !real.is_dir() {
        println!("skipped: {} is not there", real.display());
        return;
    }
    let opened = Opened::new();
    let folder = opened.export(Format::Saedashboard).join("demo_main_blocks.0.mlp.hook_post_9");
    let read = |path: &Path| -> Value { serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() };
    let (mut ours, mut theirs) = (read(&folder.join("batch-0.json")), read(&real.join("batch-0.json")));
    let width = |v: &Value, key: &str| v["features"][0][key].as_array().unwrap().len();
    for key in ["freq_hist_data_bar_values", "freq_hist_data_bar_heights", "neg_str", "pos_values"] {
        assert_eq!(width(&ours, key), width(&theirs, key), "{key}");
    }
    // Without a model there are no effects on every token; the demo's other lists are shorter than three.
    for batch in [&mut ours, &mut theirs] {
        for feature in batch["features"].as_array_mut().unwrap() {
            for key in ["logits_hist_data_bar_heights", "logits_hist_data_bar_values"].into_iter().chain(RELATED) {
                assert!(feature[key].is_array(), "{key}");
                feature[key] = Value::Array(vec![]);
            }
        }
    }
    assert_eq!(shape(&ours), shape(&theirs));
    let activations = ours["features"][0]["activations"].as_array().unwrap();
    assert_eq!((activations.last().unwrap()["bin_min"].as_f64(), activations.last().unwrap()["bin_contains"].as_f64()), (Some(-1.0), Some(-1.0)));
    let real_batches = read_batches(real).unwrap();
    assert_eq!(real_batches.iter().map(|b| b.features.len()).collect::<Vec<_>>(), [2, 2]);
    // What we read of theirs, written again, is theirs: nothing is dropped.
    let again: Value = serde_json::to_value(&real_batches[0]).unwrap();
    same(&again, &read(&real.join("batch-0.json")), "batch");
}

/// Whether two JSON values are equal, numbers as f32.
fn same(a: &Value, b: &Value, at: &str) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            assert_eq!(x.keys().collect::<Vec<_>>(), y.keys().collect::<Vec<_>>(), "{at}");
            x.iter().for_each(|(k, v)| same(v, &y[k], &format!("{at}.{k}")));
        }
        (Value::Array(x), Value::Array(y)) => {
            assert_eq!(x.len(), y.len(), "{at}");
            x.iter().zip(y).enumerate().for_each(|(i, (x, y))| same(x, y, &format!("{at}[{i}]")));
        }
        (Value::Number(x), Value::Number(y)) => assert_eq!(x.as_f64().map(|x| x as f32), y.as_f64().map(|y| y as f32), "{at}"),
        _ => assert_eq!(a, b, "{at}"),
    }
}

const RELATED: [&str; 9] = [
    "neuron_alignment_indices",
    "neuron_alignment_values",
    "neuron_alignment_l1",
    "correlated_neurons_indices",
    "correlated_neurons_l1",
    "correlated_neurons_pearson",
    "correlated_features_indices",
    "correlated_features_l1",
    "correlated_features_pearson",
];

#[test]
fn saedashboard_batches_read_back_are_what_was_written() {
    let opened = Opened::new();
    let folder = opened.export(Format::Saedashboard).join("demo_main_blocks.0.mlp.hook_post_9");
    let batches: Vec<Batch> = read_batches(&folder).unwrap();
    let features: Vec<_> = batches.iter().flat_map(|b| &b.features).collect();
    let (alive, written): (Vec<FeatureDetail>, Vec<Feature>) =
        opened.details().into_iter().zip(opened.dashboards()).filter(|(d, _)| d.summary.n_active > 0).unzip();
    assert_eq!(features.len(), alive.len());
    for ((feature, detail), written) in features.iter().zip(&alive).zip(&written) {
        assert_eq!(*feature, written);
        assert_eq!((feature.feature_index, feature.frac_nonzero), (detail.summary.id, detail.summary.density));
        assert_eq!(feature.freq_hist_data_bar_heights.iter().sum::<u64>(), detail.summary.n_active, "no firing is lost in the bars");
        let top = detail.groups.iter().find(|g| g.kind == GroupKind::Top).unwrap();
        let theirs: Vec<_> = feature.activations.iter().filter(|a| a.bin_contains == -1.0).collect();
        assert_eq!(theirs.len(), top.examples.len());
        for (a, e) in theirs.iter().zip(&top.examples) {
            assert_eq!((&a.values, a.qualifying_token_index, a.values[e.focus]), (&e.acts, e.focus as i64, e.act));
            assert_eq!(a.tokens.len(), e.tokens.len());
        }
    }
    assert!(batches.iter().all(|b| (b.model_id.as_str(), b.layer, b.sae_set.as_str()) == ("demo", 0, "main")));
    let skipped: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("skipped_indexes.json")).unwrap()).unwrap();
    assert_eq!(skipped["skipped_indexes"], serde_json::json!([4]), "the dead one");
}

#[test]
fn a_neuronpedia_tree_reads_back_and_every_line_of_a_file_has_the_same_keys() {
    let opened = Opened::new();
    let out = opened.export(Format::Neuronpedia);
    let root = out.join("demo/0-main");
    let tree = neuronpedia::read(&out).unwrap();
    assert_eq!(tree, neuronpedia::read(&root).unwrap());
    assert_eq!((tree.features.len(), tree.source["id"].as_str()), (9, Some("0-main")));
    assert_eq!(tree.explanations.iter().map(|e| e.label()).collect::<Vec<_>>(), labels());
    let details = opened.details();
    for (line, detail) in tree.features.iter().zip(&details) {
        assert_eq!(
            (line.index, line.max_act_approx, line.dashboard.frac_nonzero),
            (detail.summary.id, Some(detail.summary.max_act), Some(detail.summary.density))
        );
    }
    // The server's answer about a feature is its line with its activations inside.
    let mut activations = tree.activations.iter();
    for line in &tree.features {
        let mut whole = opened.with_source(|source| neuronpedia::whole(source, line.index)).unwrap();
        for want in whole["activations"].as_array().unwrap() {
            same(&serde_json::to_value(activations.next().unwrap()).unwrap(), want, "activation");
        }
        whole["index"] = line.index.into();
        for inside in ["activations", "explanations"] {
            whole.as_object_mut().unwrap().remove(inside);
        }
        same(&serde_json::to_value(line).unwrap(), &whole, "feature");
    }
    assert!(activations.next().is_none());
    for table in ["features", "activations", "explanations"] {
        let path = root.join(table).join("batch-0.jsonl.gz");
        let lines: Vec<Value> = neuronpedia::lines(&path, flate2::read::GzDecoder::new(std::fs::File::open(&path).unwrap())).unwrap();
        let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert!(!lines.is_empty() && lines.iter().all(|l| keys(l) == keys(&lines[0])), "{table}");
    }
    let ids: std::collections::BTreeSet<&str> = tree.activations.iter().map(|a| a.id.as_str()).collect();
    assert_eq!(ids.len(), tree.activations.len(), "no two activations have one id");
    assert!(ids.iter().all(|id| id.len() == 25 && id.starts_with(|c: char| c.is_ascii_lowercase())));
    // What it belongs to: one line each, and each names the next.
    let line = |name: &str| -> Value {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        assert_eq!(text.lines().count(), 1, "{name}");
        serde_json::from_str(&text).unwrap()
    };
    let (release, model, set, source) = (line("release.jsonl"), line("model.jsonl"), line("sourceset.jsonl"), line("source.jsonl"));
    assert_eq!(source, tree.source);
    assert_eq!(
        [&model["id"], &set["name"], &set["modelId"], &set["releaseName"], &source["modelId"], &source["setName"]],
        [&Value::from("demo"), &Value::from("main"), &model["id"], &release["name"], &model["id"], &set["name"]]
    );
}

#[derive(serde::Deserialize)]
struct Logit {
    token: String,
    value: f32,
}

/// An activation of an upload body.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    tokens: Vec<String>,
    values: Vec<f32>,
    quantile_min: Option<f32>,
    quantile_max: Option<f32>,
    quantile_fraction: Option<f64>,
}

#[test]
fn upload_bodies_hold_the_features_and_keep_the_limits_of_the_server() {
    let opened = Opened::new();
    let out = opened.export(Format::Upload);
    let body: Value = serde_json::from_str(&std::fs::read_to_string(out.join("upload-0000.json")).unwrap()).unwrap();
    assert_eq!((body["modelId"].as_str(), body["source"].as_str()), (Some("demo"), Some("0-main")));
    let features = body["features"].as_array().unwrap();
    assert_eq!(features.len(), 8, "the dead one has no activation to send");
    assert_eq!(features[0]["explanations"][0]["text"], "forms of <b>do</b>");
    let written = opened.dashboards();
    for feature in features {
        let want = &written[feature["index"].as_u64().unwrap() as usize];
        let tops = |key: &str| -> (Vec<String>, Vec<f32>) {
            serde_json::from_value::<Vec<Logit>>(feature[key].clone()).unwrap().into_iter().map(|l| (l.token, l.value)).unzip()
        };
        assert_eq!(
            (tops("topLogits"), tops("bottomLogits")),
            ((want.pos_str.clone(), want.pos_values.clone()), (want.neg_str.clone(), want.neg_values.clone()))
        );
        assert_eq!(feature["density"].as_f64(), Some(want.frac_nonzero));
        for (got, want) in feature["activations"].as_array().unwrap().iter().zip(&want.activations) {
            let got: Sent = serde_json::from_value(got.clone()).unwrap();
            let interval = (want.bin_contains >= 0.0).then_some((want.bin_min, want.bin_max, want.bin_contains));
            let sent = got.quantile_min.zip(got.quantile_max).zip(got.quantile_fraction).map(|((min, max), share)| (min, max, share));
            assert_eq!((&got.tokens, &got.values, sent), (&want.tokens, &want.values, interval));
        }
        assert_eq!(feature["activations"].as_array().unwrap().len(), want.activations.len());
        let density = feature["density"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&density) && feature["topLogits"].as_array().unwrap().len() <= 20);
        let activations = feature["activations"].as_array().unwrap();
        assert!(!activations.is_empty());
        for a in activations {
            let n = a["tokens"].as_array().unwrap().len();
            assert!(n == a["values"].as_array().unwrap().len() && (1..=1024).contains(&n));
            assert!(a.get("quantileFraction").is_none_or(|q| (0.0..=1.0).contains(&q.as_f64().unwrap())));
        }
    }
}

/// The JSON inside `monosem.NAME(...)`.
fn called(path: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    let json = text.strip_prefix(&format!("monosem.{name}(")).and_then(|t| t.strip_suffix(");\n"));
    serde_json::from_str(json.unwrap_or_else(|| panic!("{}: {text:.80}", path.display()))).unwrap()
}

#[test]
fn the_site_holds_every_feature_finds_its_words_and_has_nothing_inline() {
    let opened = Opened::new();
    let out = opened.export(Format::Site);
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    let inline = regex::Regex::new(r#"(?i)<style|<script>|\s(style|on[a-z]+)=|(src|href)="(https?:|//)"#).unwrap();
    assert!(!inline.is_match(&page), "{page}");
    let script = std::fs::read_to_string(out.join("site.js")).unwrap();
    for unsafe_way in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "fetch("] {
        assert!(!script.contains(unsafe_way), "{unsafe_way}");
    }
    let (meta, list) = (called(&out.join("data/meta.js"), "meta"), called(&out.join("data/list-0.js"), "list"));
    assert_eq!((meta["n_units"].as_u64(), list["rows"].as_array().unwrap().len()), (Some(9), 9));
    assert_eq!(list["rows"][2][4], serde_json::json!(["עברית"]));
    let shard = called(&out.join("data/feature-0.js"), "features");
    for (detail, row) in opened.details().iter().zip(list["rows"].as_array().unwrap()) {
        let (s, plain) = (&detail.summary, |t: &TokenText| monosem::features::render::plain(&t.bytes));
        let said: Vec<LabelText> = labels().into_iter().filter(|l| l.latent == s.id).collect();
        let texts: Vec<&str> = said.iter().map(|l| l.text.as_str()).collect();
        let flags: Vec<&str> = s.flags.iter().map(|f| f.name()).collect();
        let tops: Vec<String> = s.top_tokens.iter().take(6).map(|t| plain(&t.token)).collect();
        let concept = s.concept.as_ref().map(|c| (c.name.clone(), c.f1));
        same(row, &serde_json::json!([s.id, s.density, s.max_act, flags, texts, concept, tops]), "row");
        let feature = &shard["features"][s.id.to_string()];
        let tokens: Vec<_> = s.top_tokens.iter().map(|t| (plain(&t.token), t.n, t.mass)).collect();
        let effects = |of: &[LogitEffect]| of.iter().map(|e| (plain(&e.token), e.effect)).collect::<Vec<_>>();
        let mut figures = feature.clone();
        figures.as_object_mut().unwrap().remove("groups");
        let want = serde_json::json!({
            "n": s.n_active, "mean": s.mean_act, "effective": s.effective_tokens, "polysemantic": s.polysemantic, "cosine": s.enc_dec_cosine,
            "tokens": tokens, "up": effects(&detail.logits_up), "down": effects(&detail.logits_down), "histogram": detail.histogram, "labels": said,
        });
        same(&figures, &want, "figures");
        let groups = feature["groups"].as_array().unwrap();
        let shown: Vec<_> = detail.groups.iter().filter(|g| !g.examples.is_empty()).collect();
        assert_eq!(groups.len(), shown.len());
        assert!(shown.first().is_none_or(|g| g.kind == GroupKind::Random), "random firings first");
        for (group, want) in groups.iter().zip(shown) {
            let contexts = group["contexts"].as_array().unwrap();
            assert_eq!(contexts.len(), want.examples.len());
            for (context, example) in contexts.iter().zip(&want.examples) {
                assert_eq!((context[0].as_f64().unwrap() as f32, context[1].as_u64()), (example.act, Some(example.t)));
                assert_eq!(
                    context.as_array().unwrap()[2..6],
                    serde_json::json!([example.doc, example.focus, example.window.0, example.window.1]).as_array().unwrap()[..]
                );
                let mut acts = vec![0f32; example.acts.len()];
                for pair in context[7].as_array().unwrap().chunks(2) {
                    acts[pair[0].as_u64().unwrap() as usize] = pair[1].as_f64().unwrap() as f32;
                }
                assert_eq!(acts, example.acts, "what fires, and how strongly");
                let text: String =
                    context[6].as_array().unwrap().iter().map(|p| shard["texts"][p.as_u64().unwrap() as usize].as_str().unwrap()).collect();
                let bytes: Vec<u8> = example.tokens.iter().flat_map(|t| t.bytes.clone()).collect();
                assert_eq!(text, monosem::features::render::plain(&bytes), "joined, the texts of the tokens are the context");
            }
        }
    }
    // "committee" and "crowns" stand in contexts; the Hebrew label is found by its word.
    let find = |word: &str| -> Value {
        let mut chars = word.chars().map(u32::from);
        let bucket = (chars.next().unwrap() * 31 + chars.next().unwrap_or(0)) % meta["n_buckets"].as_u64().unwrap() as u32;
        let path = out.join(format!("data/words-{bucket}.js"));
        if path.is_file() { called(&path, "words")["words"][word].clone() } else { Value::Null }
    };
    assert_eq!(find("עברית")[0], serde_json::json!([2]));
    assert!(!find("committee")[2].as_array().unwrap().is_empty() && find("zzzz").is_null());
}

/// Imports what `format` wrote, and opens what came of it.
fn imported(opened: &Opened, format: Format) -> (tempfile::TempDir, RunDir, monosem::features::store::Meta) {
    let out = opened.export(format);
    let folder = if format == Format::Saedashboard { out.join("demo_main_blocks.0.mlp.hook_post_9") } else { out };
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::new(dir.path(), "foreign");
    let foreign = import::read(&folder).unwrap();
    let (meta, report) = import::write_run(&foreign, &run).unwrap();
    assert_eq!((report.n_bad, report.n_silent), (0, 0));
    (dir, run, meta)
}

#[test]
fn an_exported_tree_is_imported_with_its_contexts_densities_and_effects() {
    let opened = Opened::new();
    for format in [Format::Neuronpedia, Format::Saedashboard] {
        let opened = if format == Format::Neuronpedia { &opened } else { &Opened::new() };
        let (_dir, run, meta) = imported(opened, format);
        assert_eq!((meta.n_units, meta.name.as_str(), meta.whole_documents), (9, "0-main", true));
        let dictionary = Dictionary::open(&run.features("0-main")).unwrap();
        let stream = TokenStream::open(&run.tokens()).unwrap();
        let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).unwrap();
        dictionary.check(&stream).unwrap();
        dictionary.check_run(&run).unwrap();
        for want in opened.details() {
            let got = dictionary.feature(want.summary.id, &stream, &tokenizer).unwrap();
            if want.summary.n_active == 0 {
                assert_eq!(got.summary.flags, [Flag::Dead]);
                continue;
            }
            assert!((got.summary.density - want.summary.density).abs() < 1e-3, "{} {}", got.summary.density, want.summary.density);
            assert!((got.summary.max_act - want.summary.max_act).abs() < 1e-6);
            let kinds = |d: &FeatureDetail| {
                d.groups
                    .iter()
                    .filter(|g| matches!(g.kind, GroupKind::Top | GroupKind::Interval))
                    .map(|g| (g.kind, g.low, g.examples.len()))
                    .collect::<Vec<_>>()
            };
            let lows = |kinds: Vec<(GroupKind, f32, usize)>| {
                kinds.into_iter().map(|(k, low, n)| (k, if k == GroupKind::Top { 0.0 } else { low }, n)).collect::<Vec<_>>()
            };
            assert_eq!(lows(kinds(&got)), lows(kinds(&want)));
            let text = |e: &Example| e.tokens.iter().flat_map(|t| t.bytes.clone()).collect::<Vec<u8>>();
            for (g, w) in got.groups.iter().zip(want.groups.iter().filter(|g| matches!(g.kind, GroupKind::Top | GroupKind::Interval))) {
                for (g, w) in g.examples.iter().zip(&w.examples) {
                    assert_eq!((text(g), &g.acts, g.focus, g.act), (text(w), &w.acts, w.focus, w.act));
                    assert_eq!(g.window, (0, g.tokens.len()), "nothing is greyed");
                }
            }
            let effects = |d: &FeatureDetail| d.logits_up.iter().map(|e| (e.token.bytes.clone(), e.effect)).collect::<Vec<_>>();
            assert_eq!(effects(&got), effects(&want));
            assert_eq!((&got.alignment, &got.neurons), (&want.alignment, &want.neurons));
            // Three are exported, their errors are not; which directions are near only Neuronpedia's files say.
            let along = |d: &FeatureDetail| d.correlated.iter().take(3).map(|c| (c.id, c.pearson, c.cosine)).collect::<Vec<_>>();
            assert_eq!(along(&got), along(&want));
            assert_eq!(got.similar, if format == Format::Neuronpedia { want.similar } else { vec![] });
        }
    }
}

#[test]
fn a_neuronpedia_dump_opens_in_the_explorer_and_is_searched_there() {
    let opened = Opened::new();
    let out = opened.export(Format::Neuronpedia);
    let served = crate::served::Served::new(|dir| {
        let path = out.display().to_string();
        let done = crate::program::works(dir, &["features", "import", &path, "--run", "foreign"]);
        assert!(done.contains("9 features") && done.contains("3 labels"), "{done}");
        RunDir::new(dir, "foreign")
    });
    for path in ["/", "/features", "/features/2", "/features/4", "/live", "/steer", "/toy"] {
        let page = served.get(path);
        assert_eq!(page.status, 200, "{path}: {}", page.visible());
    }
    // What needs the model is not offered, and says why where it is asked for.
    let page = served.get("/features/2");
    assert!(
        !page.body.contains("/why?")
            && !page.body.contains("href=\"/map\"")
            && page.body.contains("href=\"/toy\"")
            && page.visible().contains("imported, without its model")
    );
    for path in ["/map/state", "/live/result?text=the", "/features/2/why?t=3"] {
        let refused = served.get(path);
        assert!(refused.status == 404 && refused.visible().contains("came without the model"), "{path}: {} {}", refused.status, refused.visible());
    }
    assert!(served.get("/features/2").visible().contains("שלום"));
    assert!(served.get("/features/0").visible().contains("forms of <b>do</b>"));
    let found = served.json("/api/features?q=committee");
    assert!(found["total"].as_u64().unwrap() > 0, "{found}");
    let feature = served.json("/api/feature/foreign/0-main/0");
    assert_eq!(feature["layer"], "0-main");
    assert_eq!(feature["explanations"].as_array().unwrap().len(), 1, "one label to an author: {feature}");
}
