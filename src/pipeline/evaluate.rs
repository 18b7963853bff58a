//! `eval.json` of an SAE: reconstruction on exactly so many held-out tokens, cross-entropies with the SAE spliced in, and the controls beside them.

use super::stages::lm_manifest;
use super::{Error, Result};
use crate::activations::{Sequential, counts};
use crate::artifact::{Manifest, Named, Progress, RunDir, write_json};
use crate::corpus::{Split, TokenStream};
use crate::intervene::{Baseline, CeReport, NeuronsReport};
use crate::lm::{Engine, HookPoint};
use crate::sae::{self, Encoder, Eval, Metrics, SAE_FORMAT_VERSION, Sae, SparseRows, controls, metric_formulas};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Of `eval.json` and `controls.json`: raised when a figure changes its meaning.
pub(super) const EVAL_FORMAT_VERSION: u32 = 3;

/// Rows that the random-decoder control is fitted on.
const CONTROL_ROWS: usize = 8192;

/// What an SAE's cross-entropies are to be read beside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Controls {
    /// The SAE itself.
    pub sae: CeReport,
    /// Keeping the largest neurons of each token, as many as the SAE has active latents at least; the rest at their mean or zero, whichever loses less.
    pub largest_neurons: NeuronsReport,
    /// Random unit decoder directions, as many active per token.
    pub random_decoder: CeReport,
    pub random_decoder_explained_variance: f64,
    /// Held-out tokens that it was measured on, fewer than those of the SAE's. Absent in what an older program wrote, like the formulas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_decoder_eval_tokens: Option<u64>,
    /// Name of a number -> its formula.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub formulas: BTreeMap<String, String>,
}

/// Formulas of [`Controls`]: those of cross-entropies, which hold for all three.
fn formulas_of_controls() -> BTreeMap<String, String> {
    let mut formulas = metric_formulas();
    formulas.retain(|name, _| name.starts_with("ce_") || ["l0", "fvu", "gap_nats", "kl"].contains(&&name[..]));
    formulas.insert("random_decoder_explained_variance".into(), "1 - fvu of the random decoder on random_decoder_eval_tokens".into());
    formulas.insert("ce".into(), "ce_spliced, with all but the k largest neurons of each token at rest in place of x_hat".into());
    formulas
}

/// A sparser SAE is put beside this many neurons all the same, or half of them: too few of them are no opponent, and all of them are the model itself.
const FEWEST_NEURONS: usize = 40;

fn neurons_beside(l0: f64, d_in: usize) -> usize {
    (l0.round() as usize).max(FEWEST_NEURONS.min(d_in / 2)).min(d_in).max(1)
}

/// How an SAE is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalConfig {
    pub hook: HookPoint,
    /// Held-out tokens for the reconstruction: the first that count of half A, then of half B.
    pub tokens: u64,
    /// Tokens of half B for the cross-entropies, about.
    pub ce_tokens: u64,
    /// How many of the largest neurons the control keeps; none: as many as latents are active, at least [`FEWEST_NEURONS`] or half of them.
    pub neurons: Option<usize>,
    /// Of the random decoder.
    pub seed: u64,
}

impl EvalConfig {
    /// What `eval.json` and `controls.json` of an SAE of the run are made from now, and how; see [`Manifest::is_fresh_beside`].
    pub fn record(&self, run: &RunDir, sae: &str, stream: &TokenStream) -> Result<Manifest> {
        let config = serde_json::to_value(self).expect("a config is plain data");
        let mut record = Manifest::new("eval", EVAL_FORMAT_VERSION, config, self.seed);
        record.inputs = inputs_of_sae_results(run, sae, stream)?;
        Ok(record)
    }
}

/// Hashes of what every measurement of an SAE reads.
pub(super) fn inputs_of_sae_results(run: &RunDir, sae: &str, stream: &TokenStream) -> Result<BTreeMap<String, String>> {
    let sae = Manifest::read(&run.sae(sae), "sae", SAE_FORMAT_VERSION)?;
    Ok([("lm", lm_manifest(run)?.hash()), ("sae", sae.hash()), ("tokens", stream.manifest().hash())].map(|(k, v)| (k.into(), v)).into())
}

/// Writes `eval.json` of a transcoder into its folder, then the record of what it was made from.
pub fn write_eval(dir: &Path, eval: &Eval, mut record: Manifest) -> Result<()> {
    write_json(&dir.join("eval.json"), eval)?;
    record.record_file(dir, "eval.json")?;
    Ok(record.write_beside(dir)?)
}

/// Writes `eval.json` and `controls.json` into the SAE's folder `dir`, then the record of what they were made from.
pub fn write_evaluated(dir: &Path, evaluated: &Evaluated, mut record: Manifest) -> Result<()> {
    write_json(&dir.join("eval.json"), &evaluated.eval)?;
    write_json(&dir.join("controls.json"), &evaluated.controls)?;
    record.record_file(dir, "eval.json")?;
    record.record_file(dir, "controls.json")?;
    Ok(record.write_beside(dir)?)
}

/// `eval.json` and `controls.json` as one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluated {
    pub eval: Eval,
    pub controls: Controls,
}

/// Measures a transcoder: how well it makes the rows at `target` out of those at the hook, and what the model says with them in place of its own. The
/// controls of an SAE do not apply.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_transcoder(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    sae: &Sae,
    target: HookPoint,
    config: &EvalConfig,
    progress: &mut dyn Progress,
) -> Result<Eval> {
    let hook = config.hook;
    let (d, e) = (hook.d_in(engine.config()), target.d_in(engine.config()));
    let baseline = Baseline::measure(engine, stream, Split::HeldOutB, target, config.ce_tokens, progress)?;
    let ce = baseline.transcoded(engine, stream, sae, hook, progress)?;
    let (mut encoder, mut metrics) = (sae.encoder(), Metrics::new(sae));
    let (mut x, mut y, mut y_hat, mut acts) = (Vec::new(), Vec::new(), Vec::new(), SparseRows::default());
    let (n_ctx, end_of_text) = (engine.config().n_ctx, stream.end_of_text());
    let mut left = config.tokens;
    let (total, mut done) = (left.min(held_out(stream)), 0);
    progress.begin("reconstruction of held-out text", total, "tokens");
    for split in [Split::HeldOutA, Split::HeldOutB] {
        let windows = stream.windows(split, n_ctx);
        let per_batch = (4096 / n_ctx).max(1);
        for first in windows.clone().step_by(per_batch) {
            if left == 0 {
                break;
            }
            if progress.interrupted() {
                return Err(Error::Interrupted);
            }
            let n = (windows.end - first).min(per_batch as u64) as usize * n_ctx;
            let mut ids = vec![0; n];
            stream.read(first * n_ctx as u64, &mut ids);
            let mut rows = vec![0.0; n * (d + e)];
            engine.forward_to_both(&ids, n_ctx, (hook, target), &mut rows);
            x.clear();
            y.clear();
            let counted = (0..n).filter(|&i| counts(ids[i], i % n_ctx, end_of_text)).take(left as usize);
            for row in counted.map(|i| &rows[i * (d + e)..][..d + e]) {
                x.extend_from_slice(&row[..d]);
                y.extend_from_slice(&row[d..]);
            }
            check_finite(&x, d, config.tokens - left)?;
            check_finite(&y, e, config.tokens - left)?;
            encoder.encode(&x, &mut acts);
            y_hat.resize(y.len(), 0.0);
            sae.reconstruct(&x, &acts, &mut y_hat);
            metrics.add(&y, &y_hat, &acts);
            let n = acts.n_rows() as u64;
            (left, done) = (left - n, done + n);
            progress.advance(n);
        }
    }
    // Where the text ended first, the rest of it was read and does not count.
    progress.advance(total - done);
    progress.end();
    let mut eval = metrics.finish(sae);
    with_cross_entropies(&mut eval, &ce);
    Ok(eval)
}

fn held_out(stream: &TokenStream) -> u64 {
    [Split::HeldOutA, Split::HeldOutB].map(|split| stream.range(split)).iter().map(|range| range.end - range.start).sum()
}

fn with_cross_entropies(eval: &mut Eval, ce: &CeReport) {
    eval.ce_clean = Some(ce.ce_clean);
    eval.ce_spliced = Some(ce.ce_spliced);
    eval.ce_zero = Some(ce.ce_zero);
    eval.ce_mean = Some(ce.ce_mean);
    eval.ce_recovered_zero = ce.ce_recovered_zero;
    eval.ce_recovered_mean = ce.ce_recovered_mean;
    eval.kl = Some(ce.kl);
    (eval.n_ce_tokens, eval.n_kl_tokens) = (Some(ce.n_tokens), Some(ce.n_kl_tokens));
    eval.ce_split = Some(Split::HeldOutB.name().into());
}

/// Measures `sae` and its controls.
///
/// # Errors
/// Those of the splice (among them a failed identity check), and [`Error::Interrupted`].
pub fn evaluate(engine: &mut dyn Engine, stream: &TokenStream, sae: &Sae, config: &EvalConfig, progress: &mut dyn Progress) -> Result<Evaluated> {
    let EvalConfig { hook, tokens: n_tokens, ce_tokens: n_ce_tokens, neurons, seed } = *config;
    let sample = first_rows(engine, stream, hook, CONTROL_ROWS)?;
    let mut eval = reconstruction(engine, stream, hook, &[sae], n_tokens, progress)?.remove(0);
    let random = controls::random_decoder(sae, eval.l0, &sample, seed);
    let of_random = || "random decoder".to_string();
    let random_eval =
        reconstruction(engine, stream, hook, &[&random], n_tokens.min(n_ce_tokens), &mut Named { name: of_random(), to: progress })?.remove(0);
    let baseline = Baseline::measure(engine, stream, Split::HeldOutB, hook, n_ce_tokens, progress)?;
    let ce = baseline.spliced(engine, stream, sae, progress)?;
    let kept = neurons.unwrap_or_else(|| neurons_beside(eval.l0, sae.d_in));
    let controls = Controls {
        largest_neurons: baseline.largest_neurons(engine, stream, kept, progress)?,
        random_decoder: baseline.spliced(engine, stream, &random, &mut Named { name: of_random(), to: progress })?,
        random_decoder_explained_variance: random_eval.explained_variance,
        random_decoder_eval_tokens: Some(random_eval.n_eval_tokens),
        formulas: formulas_of_controls(),
        sae: ce,
    };
    with_cross_entropies(&mut eval, &controls.sae);
    Ok(Evaluated { eval, controls })
}

/// Reconstruction metrics of several SAEs on exactly the first `n_tokens` held-out tokens that count, or all there are.
pub(super) fn reconstruction(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    hook: HookPoint,
    saes: &[&Sae],
    n_tokens: u64,
    progress: &mut dyn Progress,
) -> Result<Vec<Eval>> {
    let mut encoders: Vec<Encoder> = saes.iter().map(|sae| sae.encoder()).collect();
    let mut metrics: Vec<Metrics> = saes.iter().map(|sae| Metrics::new(sae)).collect();
    let (mut x_hat, mut acts) = (Vec::new(), SparseRows::default());
    each_held_out(engine, stream, hook, n_tokens, progress, |x| {
        x_hat.resize(x.len(), 0.0);
        for ((sae, encoder), metrics) in saes.iter().zip(&mut encoders).zip(&mut metrics) {
            encoder.encode(x, &mut acts);
            sae.decode(&acts, &mut x_hat);
            metrics.add(x, &x_hat, &acts);
        }
    })?;
    Ok(metrics.into_iter().zip(saes).map(|(metrics, sae)| metrics.finish(sae)).collect())
}

/// Calls `with` on exactly the first `n_tokens` held-out rows that count, or all there are, batch after batch, each (n, d_in).
pub(super) fn each_held_out(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    hook: HookPoint,
    n_tokens: u64,
    progress: &mut dyn Progress,
    mut with: impl FnMut(&[f32]),
) -> Result<()> {
    let d_in = hook.d_in(engine.config());
    let (mut x, mut left) = (Vec::new(), n_tokens);
    let (total, mut done) = (n_tokens.min(held_out(stream)), 0);
    progress.begin("reconstruction of held-out text", total, "tokens");
    for split in [Split::HeldOutA, Split::HeldOutB] {
        let mut windows = Sequential::open(engine, stream, hook, split, None)?;
        while left > 0 {
            if progress.interrupted() {
                return Err(Error::Interrupted);
            }
            let Some(batch) = windows.next() else { break };
            counted_rows(&batch, d_in, left, &mut x);
            check_finite(&x, d_in, n_tokens - left)?;
            with(&x);
            let n = (x.len() / d_in) as u64;
            (left, done) = (left - n, done + n);
            progress.advance(n);
        }
    }
    // Where the text ended first, the rest of it was read and does not count.
    progress.advance(total - done);
    progress.end();
    Ok(())
}

/// Figures of numbers that are none would say nothing. x (n, d) begins at row `first`.
fn check_finite(x: &[f32], d: usize, first: u64) -> Result<()> {
    match x.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(sae::Error::NotFinite { row: first + (i / d) as u64, value: x[i] }.into()),
        None => Ok(()),
    }
}

/// The rows of a batch that count, at most `at_most`, into `x` (n, d_in).
fn counted_rows(batch: &crate::activations::Batch, d_in: usize, at_most: u64, x: &mut Vec<f32>) {
    x.clear();
    let counted = (0..batch.ids.len()).filter(|&i| batch.counts(i)).take(at_most as usize);
    counted.for_each(|i| x.extend_from_slice(&batch.rows[i * d_in..(i + 1) * d_in]));
}

/// The first `n` training rows that count, shape (n, d_in).
pub(super) fn first_rows(engine: &mut dyn Engine, stream: &TokenStream, hook: HookPoint, n: usize) -> Result<Vec<f32>> {
    let d_in = hook.d_in(engine.config());
    let (mut sample, mut x) = (Vec::new(), Vec::new());
    let mut windows = Sequential::open(engine, stream, hook, Split::Train, None)?;
    while sample.len() < n * d_in {
        let Some(batch) = windows.next() else { break };
        counted_rows(&batch, d_in, (n - sample.len() / d_in) as u64, &mut x);
        sample.extend_from_slice(&x);
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_neurons_are_kept_as_latents_are_active_and_of_a_narrow_row_half_of_them_at_least() {
        let kept = [(8.2, 512), (60.4, 512), (8.0, 50), (30.0, 50), (500.0, 128), (0.0, 1)].map(|(l0, d_in)| neurons_beside(l0, d_in));
        assert_eq!(kept, [40, 60, 25, 30, 128, 1]);
    }

    #[test]
    fn a_number_that_is_none_is_named_with_its_row() {
        assert!(check_finite(&[1.0; 6], 2, 10).is_ok());
        let error = check_finite(&[1.0, 1.0, 1.0, f32::NAN], 2, 10).unwrap_err().to_string();
        assert!(error.contains("row 11") && error.contains("NaN"), "{error}");
    }

    #[test]
    fn every_figure_of_the_controls_has_a_formula() {
        let formulas = formulas_of_controls();
        for name in ["ce_clean", "ce_spliced", "ce_zero", "ce_mean", "ce_recovered_zero", "ce_recovered_mean", "gap_nats", "kl", "l0", "ce"] {
            assert!(formulas.contains_key(name), "{name}");
        }
    }
}
