//! `eval.json` of an SAE: reconstruction on exactly so many held-out tokens, cross-entropies with the SAE spliced in, and the controls beside them.

use super::{Error, Result};
use crate::activations::Sequential;
use crate::artifact::Progress;
use crate::corpus::{Split, TokenStream};
use crate::intervene::{Baseline, CeReport, NeuronsReport};
use crate::lm::{Engine, HookPoint};
use crate::sae::{Encoder, Eval, Metrics, Sae, SparseRows, controls};
use serde::{Deserialize, Serialize};

/// Rows that the random-decoder control is fitted on.
const CONTROL_ROWS: usize = 8192;

/// What an SAE's cross-entropies are to be read beside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Controls {
    /// The SAE itself.
    pub sae: CeReport,
    /// Keeping the largest neurons of each token, as many as the SAE has active latents at most; the rest at their mean.
    pub largest_neurons: NeuronsReport,
    /// Random unit decoder directions, as many active per token.
    pub random_decoder: CeReport,
    pub random_decoder_explained_variance: f64,
}

/// Measures `sae` on the first `n_tokens` held-out tokens that count (half A, then half B) and its cross-entropies on about `n_ce_tokens` of half B.
///
/// `k_neurons` is how many of the largest neurons the control keeps.
///
/// # Errors
/// Those of the splice (among them a failed identity check), and [`Error::Interrupted`].
#[allow(clippy::too_many_arguments)]
pub fn evaluate(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    hook: HookPoint,
    sae: &Sae,
    n_tokens: u64,
    n_ce_tokens: u64,
    k_neurons: usize,
    seed: u64,
    progress: &mut dyn Progress,
) -> Result<(Eval, Controls)> {
    let sample = first_rows(engine, stream, hook, CONTROL_ROWS)?;
    let mut eval = reconstruction(engine, stream, hook, &[sae], n_tokens, progress)?.remove(0);
    let random = controls::random_decoder(sae, eval.l0, &sample, seed);
    let random_eval = reconstruction(engine, stream, hook, &[&random], n_tokens.min(n_ce_tokens), progress)?.remove(0);
    let baseline = Baseline::measure(engine, stream, Split::HeldOutB, hook, n_ce_tokens, progress)?;
    let ce = baseline.spliced(engine, stream, sae, progress)?;
    let controls = Controls {
        largest_neurons: baseline.largest_neurons(engine, stream, k_neurons, progress)?,
        random_decoder: baseline.spliced(engine, stream, &random, progress)?,
        random_decoder_explained_variance: random_eval.explained_variance,
        sae: ce,
    };
    let ce = &controls.sae;
    eval.ce_clean = Some(ce.ce_clean);
    eval.ce_spliced = Some(ce.ce_spliced);
    eval.ce_zero = Some(ce.ce_zero);
    eval.ce_mean = Some(ce.ce_mean);
    eval.ce_recovered_zero = ce.ce_recovered_zero;
    eval.ce_recovered_mean = ce.ce_recovered_mean;
    eval.kl = Some(ce.kl);
    Ok((eval, controls))
}

/// Reconstruction metrics of several SAEs on exactly the first `n_tokens` held-out tokens that count, or all there are.
fn reconstruction(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    hook: HookPoint,
    saes: &[&Sae],
    n_tokens: u64,
    progress: &mut dyn Progress,
) -> Result<Vec<Eval>> {
    let d_in = hook.d_in(engine.config());
    let mut encoders: Vec<Encoder> = saes.iter().map(|sae| sae.encoder()).collect();
    let mut metrics: Vec<Metrics> = saes.iter().map(|sae| Metrics::new(sae)).collect();
    let (mut x, mut x_hat, mut acts) = (Vec::new(), Vec::new(), SparseRows::default());
    let mut left = n_tokens;
    progress.begin("reconstruction of held-out text", n_tokens, "tokens");
    for split in [Split::HeldOutA, Split::HeldOutB] {
        let mut windows = Sequential::open(engine, stream, hook, split, None)?;
        while left > 0 {
            if progress.interrupted() {
                return Err(Error::Interrupted);
            }
            let Some(batch) = windows.next() else { break };
            counted_rows(&batch, d_in, left, &mut x);
            let n = (x.len() / d_in) as u64;
            x_hat.resize(x.len(), 0.0);
            for ((sae, encoder), metrics) in saes.iter().zip(&mut encoders).zip(&mut metrics) {
                encoder.encode(&x, &mut acts);
                sae.decode(&acts, &mut x_hat);
                metrics.add(&x, &x_hat, &acts);
            }
            left -= n;
            progress.advance(n);
        }
    }
    progress.end();
    Ok(metrics.into_iter().zip(saes).map(|(metrics, sae)| metrics.finish(sae)).collect())
}

/// The rows of a batch that count, at most `at_most`, into `x` (n, d_in).
fn counted_rows(batch: &crate::activations::Batch, d_in: usize, at_most: u64, x: &mut Vec<f32>) {
    x.clear();
    let counted = (0..batch.ids.len()).filter(|&i| batch.counts(i)).take(at_most as usize);
    counted.for_each(|i| x.extend_from_slice(&batch.rows[i * d_in..(i + 1) * d_in]));
}

/// The first `n` training rows that count, shape (n, d_in).
fn first_rows(engine: &mut dyn Engine, stream: &TokenStream, hook: HookPoint, n: usize) -> Result<Vec<f32>> {
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
