//! One small whole file of each kind.

use monosem::activations::{CacheConfig, CacheDtype, cache};
use monosem::artifact::{Manifest, RunDir, Silent, Tensor, hash_file, seed, write_tensors};
use monosem::corpus::{EncodedDocument, ShardWriter, Split, TokenStream, Tokenizer};
use monosem::features::map::{self, Map};
use monosem::labels::{Format, Labels};
use monosem::lm::{Activation, CpuEngine, HookPoint, Lm, LmConfig};
use monosem::pipeline::Recipe;
use monosem::sae::history::{self, Moment};
use monosem::sae::{Eval, Origin, Sae, Select, Transcoder};
use rand::RngExt;
use std::io::Write;
use std::path::{Path, PathBuf};

pub const TEXTS: [&str; 4] = ["The captain did not answer.", "שלום עולם", "naïve café 日本語 🦉 words", "a </script> b\n\nc\td"];

/// Sizes of the SAE and of the model.
pub const D_IN: usize = 3;
pub const D_SAE: usize = 5;
pub const N_CTX: usize = 4;

/// A folder with a whole file of every kind.
pub struct Whole {
    pub dir: tempfile::TempDir,
}

impl Whole {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let whole = Whole { dir };
        whole.tokens();
        whole.sae();
        whole.sources();
        whole.labels();
        whole.records();
        whole.lm().save(&whole.run().lm(), Some(0)).unwrap();
        whole
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn run(&self) -> RunDir {
        RunDir::new(self.dir.path(), "run")
    }

    fn tokens(&self) {
        let tokenizer = Tokenizer::train(TEXTS.into_iter(), 300).unwrap();
        let tokens = self.run().tokens();
        let concepts = ["a".to_string(), "b".into()];
        let mut writer = ShardWriter::create(&tokens, tokenizer.d_vocab(), tokenizer.end_of_text(), &concepts, 64).unwrap();
        for (i, text) in TEXTS.iter().cycle().take(9).enumerate() {
            let document = EncodedDocument { ids: tokenizer.encode(text), kind: Some("k".into()), labels: vec![(0, (i % 2) as u16)] };
            writer.push(Split::ALL[i % 3], document).unwrap();
        }
        tokenizer.save(&tokens.join("tokenizer.json")).unwrap();
        writer.finish(Manifest::new("tokens", 1, serde_json::json!({ "x": [1, 2] }), 0)).unwrap().write(&tokens).unwrap();
    }

    fn sae(&self) {
        let (d_in, d_sae) = (D_IN, D_SAE);
        let mut rng = seed::rng(0, "test/fuzz", 0);
        let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let mut w_dec = numbers(d_sae * d_in);
        for row in w_dec.chunks_mut(d_in) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
        let (w_enc, b_enc) = (numbers(d_sae * d_in), numbers(d_sae));
        let sae = Sae {
            d_in,
            d_sae,
            select: Select::JumpRelu { threshold: vec![0.1; d_sae] },
            w_enc,
            b_enc,
            w_dec,
            b_dec: vec![0.5; d_in],
            apply_b_dec_to_input: false,
            transcoder: None,
        };
        let origin =
            Origin { model_name: "m".into(), hook_name: "blocks.0.mlp.hook_post".into(), hook_name_out: None, context_size: 8, dataset: "d".into() };
        sae.save(&self.run().sae("main"), &origin, &numbers(4 * d_in)).unwrap();
        let gated = Sae { select: Select::Gated { b_mag: numbers(d_sae), r_mag: numbers(d_sae) }, ..sae.clone() };
        gated.save(&self.run().sae("gated"), &origin, &numbers(4 * d_in)).unwrap();
        let refined = Select::Refined { step: 0.25, first: numbers(d_sae), threshold: numbers(d_sae) };
        Sae { select: refined, ..sae.clone() }.save(&self.run().sae("refined"), &origin, &numbers(4 * d_in)).unwrap();
        // As wide at its other end as at this one, so that the decoder fits.
        let transcoder = Sae { transcoder: Some(Transcoder { d_out: d_in, w_skip: numbers(d_in * d_in) }), ..sae.clone() };
        transcoder.save(&self.run().sae("transcoder"), &origin, &numbers(4 * d_in)).unwrap();
        let moment =
            Moment { step: 3, steps: 8, rows: 30, loss: 2.5, fvu: 0.5, l0: 3.0, dead_frac: 0.25, hook: "h".into(), hook_out: None, run: "{}".into() };
        history::write(&self.run().sae("main"), &sae, &moment).unwrap();
        let (f, n) = (vec![1.0f32, 2.0, 3.0], vec![7u64, 8]);
        write_tensors(&self.path("plain.safetensors"), &[Tensor::f32("f", &[3], &f), Tensor::u64("n", &[2], &n)], &[("k", "v".into())]).unwrap();
    }

    /// A model of the tokens, with weights from its seed.
    pub fn lm(&self) -> Lm {
        let d_vocab = Tokenizer::load(&self.run().tokens().join("tokenizer.json")).unwrap().d_vocab();
        Lm::init(&LmConfig { d_vocab, n_ctx: N_CTX, d_model: 2, n_layers: 1, n_heads: 1, d_mlp: D_IN, activation: Activation::Relu, tied: true }, 0)
    }

    /// Its activations in two shards; the manifest of the model that they are of.
    pub fn cache(&self) -> Manifest {
        let (lm, stream) = (Manifest::new("lm", 1, serde_json::json!({}), 0), TokenStream::open(&self.run().tokens()).unwrap());
        let config = CacheConfig { hook: HookPoint::mlp_post(0), n_tokens: Some(12), dtype: CacheDtype::F32, max_gb: 1.0, replace: false };
        cache(&mut CpuEngine::new(self.lm()), &lm, &stream, &self.run().activations("main"), config, &mut Silent).unwrap();
        lm
    }

    /// The text of the folder's manifest in which the hash of `name` is that of the file that is there now.
    pub fn with_hash(manifest: &Manifest, dir: &Path, name: &str) -> Vec<u8> {
        let mut manifest = manifest.clone();
        manifest.files.insert(name.into(), hash_file(&dir.join(name)).unwrap());
        serde_json::to_vec(&manifest).unwrap()
    }

    fn records(&self) {
        let write = |name: &str, what: &str| std::fs::write(self.path(name), what).unwrap();
        write("run/run.toml", &Recipe::tiny(3).to_toml());
        write("hook", "blocks.0.mlp.hook_post");
        write(
            "edit.toml",
            "about = \"a\"\nscope = { from = 5 }\nkeep_error = false\n[[edits]]\nlatent = 17\nrule = \"set\"\nvalue = 2\nunit = \"norm\"\n[[edits]]\nlatent = 4\nrule = \"zero\"\nonly_active = true\n",
        );
        write("train.jsonl", "{\"step\":1,\"loss\":3.5,\"l0\":null}\n{\"step\":2,\"loss\":1e-3,\"note\":[{}]}\n{\"st");
        let file = serde_json::json!({ "bytes": 5, "modified": 7, "blake3": "ab" });
        write("run/tokens/sources.json", &serde_json::json!({ "files": { "a.txt": file }, "datasets": { "d": "c" } }).to_string());
        let unit = serde_json::json!({ "id": 1, "positive": true, "threshold": 0.5, "f1_a": 0.5, "f1_b": 0.5, "precision": 0.5, "recall": 0.5 });
        let found = serde_json::json!({ "ranked": [unit], "union": { "ids": [[1, true]], "f1_a": 0.5, "f1_b": 0.5 }, "auc": 0.5 });
        let concept = serde_json::json!({
            "concept": "do", "kind": "class", "n_pos": [30, 40], "too_rare": false, "token_only": 0.5, "from_context": true, "latents": found,
            "neurons": found, "random": found, "untrained": null, "probe": 0.5, "forms": [], "n_forms_found": 0, "effective_forms": 1.0,
        });
        let exam = serde_json::json!({ "n_tokens": [5, 6], "n_latents": 5, "concepts": [concept], "best_of_latent": [[1, "do", 0.5]] });
        let ce = serde_json::json!({
            "ce_clean": 2.5, "ce_spliced": 2.75, "ce_zero": 4.0, "ce_mean": 3.0, "ce_recovered_zero": 0.5, "ce_recovered_mean": null,
            "gap_nats": 0.25, "kl": 0.5, "l0": 3.0, "n_tokens": 5, "n_kl_tokens": 5,
        });
        let neurons = serde_json::json!({ "k": 3, "ce": 2.5, "gap_nats": 0.5, "ce_recovered_zero": 0.5, "ce_recovered_mean": 0.5 });
        let controls = serde_json::json!({
            "sae": ce, "largest_neurons": neurons, "random_decoder": ce, "random_decoder_explained_variance": 0.5,
        });
        let gaps = serde_json::json!([{ "concept": "do", "n_tokens": 40, "model": 2.5, "generator": 2.0 }]);
        let scores = serde_json::json!({ "eval": Eval::default(), "exam": exam, "controls": controls, "gaps": gaps });
        write("scores.json", &scores.to_string());
        let map = Map { latents: vec![0, 2, 4], xy: vec![0.5; 6] };
        map::save(&self.run().features("main").with_file_name("main.map.safetensors"), "w", &map).unwrap();
        let tokenizer = serde_json::from_slice::<serde_json::Value>(&self.bytes("run/tokens/tokenizer.json")).unwrap();
        let merges: Vec<String> = tokenizer["model"]["merges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m.as_str().map_or_else(|| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap()), String::from))
            .collect();
        write("vocab.json", &tokenizer["model"]["vocab"].to_string());
        write("merges.txt", &format!("#version: 0.2\n{}\n", merges.join("\n")));
    }

    fn sources(&self) {
        let lines: String = TEXTS.iter().map(|t| serde_json::json!({ "text": t, "kind": "k", "n": [1, { "a": null }] }).to_string() + "\n").collect();
        std::fs::write(self.path("a.jsonl"), &lines).unwrap();
        std::fs::write(self.path("a.txt"), TEXTS.join("\n\n")).unwrap();
        let mut gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        gz.write_all(lines.as_bytes()).unwrap();
        std::fs::write(self.path("a.jsonl.gz"), gz.finish().unwrap()).unwrap();
        std::fs::write(self.path("a.jsonl.zst"), zstd::encode_all(lines.as_bytes(), 1).unwrap()).unwrap();
        parquet(&self.path("a.parquet"));
    }

    fn labels(&self) {
        let mut labels = Labels::open(&self.path("labels.sqlite")).unwrap();
        for (i, text) in TEXTS.iter().enumerate() {
            labels.set("w", i as u32, text, "ann, \"the first\"").unwrap();
        }
        labels.put("w", "good ones", 3, true, "ann").unwrap();
        for (format, name) in [(Format::Csv, "labels.csv"), (Format::Jsonl, "labels.jsonl")] {
            let mut out = vec![];
            labels.export("w", format, &mut out).unwrap();
            std::fs::write(self.path(name), out).unwrap();
        }
    }
}

fn parquet(path: &Path) {
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::writer::SerializedFileWriter;
    let schema =
        parquet::schema::parser::parse_message_type("message m { REQUIRED BYTE_ARRAY text (UTF8); OPTIONAL BYTE_ARRAY kind (UTF8); }").unwrap();
    let properties = parquet::file::properties::WriterProperties::builder();
    // One column with a dictionary, the other with delta-encoded lengths.
    let kind = parquet::schema::types::ColumnPath::from("kind");
    let properties =
        properties.set_column_dictionary_enabled(kind.clone(), false).set_column_encoding(kind, parquet::basic::Encoding::DELTA_BYTE_ARRAY).build();
    let mut file = SerializedFileWriter::new(std::fs::File::create(path).unwrap(), schema.into(), properties.into()).unwrap();
    let mut group = file.next_row_group().unwrap();
    for levels in [None, Some([1, 1, 1, 1])] {
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = TEXTS.iter().map(|t| ByteArray::from(t.as_bytes().to_vec())).collect();
        column.typed::<ByteArrayType>().write_batch(&values, levels.as_ref().map(|l| &l[..]), None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
}
