//! One small whole file of each kind.

use monosem::artifact::{Manifest, RunDir, Tensor, seed, write_tensors};
use monosem::corpus::{EncodedDocument, ShardWriter, Split, Tokenizer};
use monosem::labels::{Format, Labels};
use monosem::sae::{Origin, Sae, Select};
use rand::RngExt;
use std::io::Write;
use std::path::{Path, PathBuf};

pub const TEXTS: [&str; 4] = ["The captain did not answer.", "שלום עולם", "naïve café 日本語 🦉 words", "a </script> b\n\nc\td"];

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
        let (d_in, d_sae) = (3, 5);
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
        };
        let origin = Origin { model_name: "m".into(), hook_name: "blocks.0.mlp.hook_post".into(), context_size: 8, dataset: "d".into() };
        sae.save(&self.run().sae("main"), &origin, &numbers(4 * d_in)).unwrap();
        let (f, n) = (vec![1.0f32, 2.0, 3.0], vec![7u64, 8]);
        write_tensors(&self.path("plain.safetensors"), &[Tensor::f32("f", &[3], &f), Tensor::u64("n", &[2], &n)], &[("k", "v".into())]).unwrap();
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
    let mut file = SerializedFileWriter::new(std::fs::File::create(path).unwrap(), schema.into(), Default::default()).unwrap();
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
