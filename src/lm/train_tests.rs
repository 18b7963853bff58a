//! Whole small runs: what is learnt, what is saved, what is resumed.

use super::*;
use crate::artifact::{Manifest, Progress, RunDir, Silent, Start};
use crate::corpus::{EncodedDocument, ShardWriter, Split, TokenStream};

fn config() -> LmConfig {
    LmConfig { d_vocab: 17, n_ctx: 8, d_model: 12, n_layers: 2, n_heads: 3, d_mlp: 16, activation: Activation::Relu, tied: false }
}

fn settings() -> TrainConfig {
    TrainConfig {
        tokens: 30 * 2 * 3 * 8,
        batch: 3,
        accumulate: 2,
        lr: 1e-2,
        evals: 3,
        eval_windows: 5,
        log_every: 7,
        checkpoint_every: Some(4),
        ..Default::default()
    }
}

/// Documents in which every token follows from the one before, so that there is something to learn.
fn tokens(run: &RunDir, seed: u64) -> TokenStream {
    let mut writer = ShardWriter::create(&run.tokens(), 17, 16, &[], 1 << 20).unwrap();
    for doc in 0..40u32 {
        let split = if doc % 4 == 3 { Split::HeldOutA } else { Split::Train };
        let ids = (0..23 + doc % 5).map(|i| (doc * 7 + i * 3 + seed as u32) % 16).collect();
        writer.push(split, EncodedDocument { ids, kind: None, labels: vec![] }).unwrap();
    }
    writer.finish(Manifest::new("tokens", 1, serde_json::json!({}), seed)).unwrap();
    TokenStream::open(&run.tokens()).unwrap()
}

fn run_dir(seed: u64) -> (tempfile::TempDir, RunDir, TokenStream) {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::new(dir.path(), "r");
    let stream = tokens(&run, seed);
    (dir, run, stream)
}

/// Says stop after so many steps.
struct StopAfter(std::cell::Cell<u32>);

impl Progress for StopAfter {
    fn begin(&mut self, _: &str, _: u64, _: &str) {}
    fn advance(&mut self, _: u64) {}
    fn figure(&mut self, _: &str) {}
    fn note(&mut self, _: &str) {}
    fn end(&mut self) {}
    fn interrupted(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left == 0
    }
}

fn losses(run: &RunDir) -> Vec<(u64, f64, f32, f64, Option<f64>)> {
    let text = std::fs::read_to_string(run.lm().join("train.jsonl")).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str::<TrainLine>(l).unwrap());
    lines.map(|l| (l.step, l.loss, l.lr, l.grad_norm, l.held_out_loss)).collect()
}

#[test]
fn a_run_learns_and_saves_a_model_with_the_loss_it_reports() {
    let (_dir, run, stream) = run_dir(0);
    let report = train(&stream, &config(), &settings(), &run, Start::New, &mut Silent).unwrap();
    assert_eq!((report.steps, report.tokens), (30, 30 * 48));
    assert!(report.held_out_loss < 17f64.ln() - 0.3, "{report:?}");
    let lm = Lm::load(&run.lm()).unwrap();
    let windows: Vec<u64> = stream.windows(Split::HeldOutA, 8).collect();
    let spread: Vec<u64> = (0..5).map(|i| windows[i * windows.len() / 5]).collect();
    assert_eq!(held_out_loss(&mut CpuEngine::new(lm), &stream, &spread), report.held_out_loss);
    let steps: Vec<u64> = losses(&run).iter().map(|l| l.0).collect();
    assert_eq!(steps, [7, 10, 14, 20, 21, 28, 30]);
    assert_eq!(std::fs::read_dir(run.checkpoints("lm")).unwrap().count(), 0, "a finished run needs no checkpoints");
}

#[test]
fn an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit() {
    let (_a, whole, stream) = run_dir(0);
    let report = train(&stream, &config(), &settings(), &whole, Start::New, &mut Silent).unwrap();
    let (_b, cut, stream) = run_dir(0);
    for (stop, step) in [(9, 9), (0, 9), (12, 21)] {
        let start = if stop == 9 { Start::New } else { Start::Resume };
        let error = train(&stream, &config(), &settings(), &cut, start, &mut StopAfter(stop.into())).unwrap_err();
        assert!(matches!(error, Error::Interrupted { step: s } if s == step), "{error}");
    }
    let resumed = train(&stream, &config(), &settings(), &cut, Start::Resume, &mut Silent).unwrap();
    assert_eq!((resumed.train_loss, resumed.held_out_loss), (report.train_loss, report.held_out_loss));
    assert_eq!(losses(&cut), losses(&whole));
    for file in ["model.safetensors", "config.json"] {
        assert_eq!(std::fs::read(cut.lm().join(file)).unwrap(), std::fs::read(whole.lm().join(file)).unwrap());
    }
    let again = train(&stream, &config(), &settings(), &cut, Start::Resume, &mut Silent).unwrap();
    assert_eq!(again.held_out_loss, report.held_out_loss, "a finished run is returned as it is");
}

#[test]
fn a_checkpoint_of_other_settings_or_tokens_is_refused() {
    let (_dir, run, stream) = run_dir(0);
    assert!(matches!(train(&stream, &config(), &settings(), &run, Start::Resume, &mut Silent), Err(Error::NoCheckpoint { .. })));
    train(&stream, &config(), &settings(), &run, Start::New, &mut StopAfter(3.into())).unwrap_err();
    let other = TrainConfig { lr: 2e-2, ..settings() };
    assert!(matches!(train(&stream, &config(), &other, &run, Start::Resume, &mut Silent), Err(Error::OtherRun { .. })));
    let (_other_dir, _, other_tokens) = run_dir(1);
    assert!(matches!(train(&other_tokens, &config(), &settings(), &run, Start::Resume, &mut Silent), Err(Error::OtherRun { .. })));
}

#[test]
fn finished_work_and_checkpoints_are_replaced_only_when_that_is_asked_for() {
    let (_dir, run, stream) = run_dir(0);
    train(&stream, &config(), &settings(), &run, Start::New, &mut StopAfter(3.into())).unwrap_err();
    let error = train(&stream, &config(), &settings(), &run, Start::New, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("--resume") && error.contains("--yes"), "{error}");
    train(&stream, &config(), &settings(), &run, Start::Resume, &mut Silent).unwrap();
    let (weights, log) = (run.lm().join("model.safetensors"), run.lm().join("train.jsonl"));
    let made = [&weights, &log].map(|path| std::fs::read(path).unwrap());
    let other = TrainConfig { lr: 2e-2, ..settings() };
    for start in [Start::New, Start::Resume] {
        let error = train(&stream, &config(), &other, &run, start, &mut Silent).unwrap_err().to_string();
        assert!(error.contains("train.lr is 0.01") && error.contains("0.02") && error.contains("--run") && error.contains("--yes"), "{error}");
        // Asked for what is there, nothing is trained.
        train(&stream, &config(), &settings(), &run, start, &mut StopAfter(0.into())).unwrap();
        assert!(made == [&weights, &log].map(|path| std::fs::read(path).unwrap()), "{start:?}");
    }
    // The old one stays whole until the new one is.
    train(&stream, &config(), &other, &run, Start::Replace, &mut StopAfter(9.into())).unwrap_err();
    assert!(made == [&weights, &log].map(|path| std::fs::read(path).unwrap()));
    assert!(std::fs::metadata(run.checkpoints("lm").join("train.jsonl")).unwrap().len() > 0);
    train(&stream, &config(), &other, &run, Start::Replace, &mut Silent).unwrap();
    assert!([&weights, &log].iter().zip(&made).all(|(path, old)| std::fs::read(path).unwrap() != *old));
    // Rebuilt tokens make it stale, and what is stale is made anew.
    let (_other_dir, _, other_tokens) = run_dir(1);
    train(&other_tokens, &config(), &other, &run, Start::New, &mut Silent).unwrap();
}

#[test]
fn a_loss_that_is_not_a_number_stops_the_run_with_its_step() {
    let (_dir, run, stream) = run_dir(0);
    let wild = TrainConfig { lr: 1e30, warmup: 0.0, ..settings() };
    let error = train(&stream, &config(), &wild, &run, Start::New, &mut Silent).unwrap_err();
    assert!(matches!(error, Error::NotFinite { step, .. } if step > 0), "{error}");
    assert!(error.to_string().contains("--lr"));
}

#[test]
fn sizes_that_do_not_fit_the_stream_are_refused_with_both_numbers() {
    let (_dir, run, stream) = run_dir(0);
    let error = train(&stream, &LmConfig { d_vocab: 18, ..config() }, &settings(), &run, Start::New, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("18") && error.contains("17"), "{error}");
    let error = train(&stream, &LmConfig { n_ctx: 5000, ..config() }, &settings(), &run, Start::New, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("5000"), "{error}");
}

#[test]
fn a_model_that_is_gone_on_from_is_fine_tuned_and_resumed_bit_for_bit() {
    let (_dir, first, stream) = run_dir(0);
    let before = train(&stream, &config(), &settings(), &first, Start::New, &mut Silent).unwrap();
    let (_other, second, _) = run_dir(0);
    let tuned = TrainConfig { from: Some(first.lm()), lr: 1e-3, ..settings() };
    let after = train(&stream, &config(), &tuned, &second, Start::New, &mut Silent).unwrap();
    assert!(after.held_out_loss < before.held_out_loss, "{} and {}", after.held_out_loss, before.held_out_loss);
    assert_ne!(Lm::load(&first.lm()).unwrap().weights, Lm::load(&second.lm()).unwrap().weights);
    let (_third, third, _) = run_dir(0);
    train(&stream, &config(), &tuned, &third, Start::New, &mut StopAfter(std::cell::Cell::new(11))).unwrap_err();
    train(&stream, &config(), &tuned, &third, Start::Resume, &mut Silent).unwrap();
    assert_eq!(Lm::load(&third.lm()).unwrap().weights, Lm::load(&second.lm()).unwrap().weights);
    let wide = LmConfig { d_mlp: 20, ..config() };
    let error = train(&stream, &wide, &tuned, &third, Start::Replace, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("d_mlp: 16") && error.contains("d_mlp: 20"), "{error}");
}
