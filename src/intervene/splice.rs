//! What it costs the model to see the SAE's reconstruction in place of its own activations.
//!
//! Every cross-entropy is a mean in nats over the same held-out tokens, those that count, and changes are made at those positions only.
//! ce_clean: nothing changed. ce_spliced: x becomes x_hat. ce_zero: x becomes 0. ce_mean: x becomes its mean over training text: over the rows that
//! count in about `MEAN_TOKENS` tokens of it, whole windows at even distances; all of it where there is less.
//!
//! > ce_recovered_zero = (ce_zero - ce_spliced) / (ce_zero - ce_clean), ce_recovered_mean likewise with ce_mean.
//!
//! SAELens and SAEBench call the first `ce_loss_score`; they change every position, this leaves out the first of a window and
//! `<|endoftext|>`, where no SAE was trained.

use super::measure::{batches, mean_activation};
use super::{Error, Result, check_width, check_widths};
use crate::artifact::Progress;
use crate::corpus::{Split, TokenStream};
use crate::kernels::softmax::kl_divergence;
use crate::lm::{Edit, Engine, HookPoint};
use crate::sae::{Encoder, Sae, SparseRows};
use serde::{Deserialize, Serialize};

/// Tokens of training text that the mean activation is taken over, about: whole windows at even distances, and of these the rows that count.
pub const MEAN_TOKENS: u64 = 100_000;
/// Tokens that the KL divergence is averaged over, at most.
pub const KL_TOKENS: usize = 2048;
/// Of these, so many in one window: two blocks of positions x vocabulary logits are held at once.
const KL_PER_WINDOW: usize = 16;

/// A change to the rows (N, D) of a batch, which is told what tokens count and, of a transcoder, what the rows (N, d_in) are that it reads.
type Change<'a> = dyn FnMut(&[bool], &[f32], &mut [f32]) + 'a;

/// What splicing an SAE does to the model's predictions. Nats per token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CeReport {
    pub ce_clean: f64,
    pub ce_spliced: f64,
    pub ce_zero: f64,
    /// With the mean over some `MEAN_TOKENS` tokens of training text in place of each row.
    pub ce_mean: f64,
    /// `None` where ablation does not hurt, so that there is nothing to recover.
    pub ce_recovered_zero: Option<f64>,
    pub ce_recovered_mean: Option<f64>,
    /// ce_spliced - ce_clean.
    pub gap_nats: f64,
    /// KL(clean || spliced) of the next-token distribution, mean over `n_kl_tokens`.
    pub kl: f64,
    /// Latents active per token.
    pub l0: f64,
    pub n_tokens: u64,
    pub n_kl_tokens: u64,
}

/// What the neurons become that are not kept; those are kept that are farthest from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rest {
    /// Their mean over training text.
    #[default]
    Mean,
    /// 0, which most neurons of a ReLU are anyway.
    Zero,
}

impl Rest {
    pub fn in_words(self) -> &'static str {
        match self {
            Rest::Mean => "the rest's mean",
            Rest::Zero => "the rest zero",
        }
    }
}

/// The k largest neurons kept: what a budget of k numbers per token buys without an SAE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeuronsReport {
    pub k: usize,
    /// What the others were.
    #[serde(default)]
    pub rest: Rest,
    pub ce: f64,
    /// ce - ce_clean.
    pub gap_nats: f64,
    pub ce_recovered_zero: Option<f64>,
    pub ce_recovered_mean: Option<f64>,
}

/// The model without an SAE on a set of held-out windows; several SAEs are measured against one baseline.
#[derive(Debug, Clone)]
pub struct Baseline {
    hook: HookPoint,
    windows: Vec<u64>,
    mean: Vec<f32>,
    pub ce_clean: f64,
    pub ce_zero: f64,
    pub ce_mean: f64,
    pub n_tokens: u64,
}

/// Evaluates an SAE on about `n_tokens` tokens of `split`, spread evenly over it, after [`check`]ing the hook.
pub fn evaluate(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    split: Split,
    hook: HookPoint,
    sae: &Sae,
    n_tokens: u64,
    progress: &mut dyn Progress,
) -> Result<CeReport> {
    check_width(engine.config(), hook, sae)?;
    Baseline::measure(engine, stream, split, hook, n_tokens, progress)?.spliced(engine, stream, sae, progress)
}

impl Baseline {
    /// Checks the hook, then measures the model clean, zero-ablated and mean-ablated.
    pub fn measure(
        engine: &mut dyn Engine,
        stream: &TokenStream,
        split: Split,
        hook: HookPoint,
        n_tokens: u64,
        progress: &mut dyn Progress,
    ) -> Result<Self> {
        let n_ctx = engine.config().n_ctx;
        let windows = stream.spread_windows(split, n_ctx, n_tokens.div_ceil(n_ctx as u64));
        let two = &windows[..windows.len().min(2)];
        for batch in batches(stream, two, n_ctx) {
            check(engine, hook, &batch.ids, n_ctx)?;
        }
        let mean = mean_activation(engine, stream, hook, MEAN_TOKENS, progress)?;
        let mut base = Baseline { hook, windows, mean, ce_clean: 0.0, ce_zero: 0.0, ce_mean: 0.0, n_tokens: 0 };
        (base.ce_clean, base.n_tokens) = base.ce(engine, stream, "clean", (None, None), progress)?;
        base.ce_zero = base.ce(engine, stream, "zero-ablated", (None, Some(&mut |_, _, rows| rows.fill(0.0))), progress)?.0;
        let mean = base.mean.clone();
        let to_mean = &mut |_: &[bool], _: &[f32], rows: &mut [f32]| rows.chunks_exact_mut(mean.len()).for_each(|row| row.copy_from_slice(&mean));
        base.ce_mean = base.ce(engine, stream, "mean-ablated", (None, Some(to_mean)), progress)?.0;
        Ok(base)
    }

    /// Mean activation over training text, (d_in,).
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The model with `sae` spliced in. Takes any SAE, so also a control with random decoder directions.
    pub fn spliced(&self, engine: &mut dyn Engine, stream: &TokenStream, sae: &Sae, progress: &mut dyn Progress) -> Result<CeReport> {
        check_width(engine.config(), self.hook, sae)?;
        self.measure_with(engine, stream, sae, None, progress)
    }

    /// The model with what a transcoder makes of the rows at `from` in place of those at the baseline's hook.
    pub fn transcoded(
        &self,
        engine: &mut dyn Engine,
        stream: &TokenStream,
        sae: &Sae,
        from: HookPoint,
        progress: &mut dyn Progress,
    ) -> Result<CeReport> {
        check_widths(engine.config(), (from, self.hook), sae)?;
        self.measure_with(engine, stream, sae, Some(from), progress)
    }

    fn measure_with(
        &self,
        engine: &mut dyn Engine,
        stream: &TokenStream,
        sae: &Sae,
        from: Option<HookPoint>,
        progress: &mut dyn Progress,
    ) -> Result<CeReport> {
        let (mut encoder, mut acts, mut n_active) = (sae.encoder(), SparseRows::default(), 0u64);
        let splice = &mut |counted: &[bool], input: &[f32], rows: &mut [f32]| {
            replace(sae, &mut encoder, &mut acts, input, rows);
            n_active += (0..counted.len()).filter(|&r| counted[r]).map(|r| acts.row(r).0.len() as u64).sum::<u64>();
        };
        let (ce_spliced, n_tokens) = self.ce(engine, stream, "spliced", (from, Some(splice)), progress)?;
        let (kl, n_kl_tokens) = self.kl(engine, stream, sae, from, progress)?;
        Ok(CeReport {
            ce_clean: self.ce_clean,
            ce_spliced,
            ce_zero: self.ce_zero,
            ce_mean: self.ce_mean,
            ce_recovered_zero: recovered(self.ce_clean, ce_spliced, self.ce_zero),
            ce_recovered_mean: recovered(self.ce_clean, ce_spliced, self.ce_mean),
            gap_nats: ce_spliced - self.ce_clean,
            kl,
            l0: n_active as f64 / n_tokens as f64,
            n_tokens,
            n_kl_tokens,
        })
    }

    /// The model with only the k largest neurons of each token kept, the rest at what loses less, their mean or zero: a control is to be as strong as it can be.
    pub fn largest_neurons(&self, engine: &mut dyn Engine, stream: &TokenStream, k: usize, progress: &mut dyn Progress) -> Result<NeuronsReport> {
        let [mean, zero] = [Rest::Mean, Rest::Zero].map(|rest| self.neurons(engine, stream, (k, rest), progress));
        let (mean, zero) = (mean?, zero?);
        Ok(if zero.ce < mean.ce { zero } else { mean })
    }

    /// The model with only the k neurons of each token kept that are farthest from what the rest become.
    pub fn neurons(
        &self,
        engine: &mut dyn Engine,
        stream: &TokenStream,
        (k, rest): (usize, Rest),
        progress: &mut dyn Progress,
    ) -> Result<NeuronsReport> {
        let mut order = Vec::new();
        let others = match rest {
            Rest::Mean => self.mean.clone(),
            Rest::Zero => vec![0.0; self.mean.len()],
        };
        let keep = &mut |_: &[bool], _: &[f32], rows: &mut [f32]| {
            rows.chunks_exact_mut(others.len()).for_each(|row| keep_largest(row, &others, k, &mut order));
        };
        let (ce, _) = self.ce(engine, stream, &format!("largest neurons, {}", rest.in_words()), (None, Some(keep)), progress)?;
        Ok(NeuronsReport {
            k,
            rest,
            ce,
            gap_nats: ce - self.ce_clean,
            ce_recovered_zero: recovered(self.ce_clean, ce, self.ce_zero),
            ce_recovered_mean: recovered(self.ce_clean, ce, self.ce_mean),
        })
    }

    /// Mean cross-entropy over tokens that count, with `change` made to their rows, told those at `from`; and how many they are.
    fn ce(
        &self,
        engine: &mut dyn Engine,
        stream: &TokenStream,
        what: &str,
        (from, mut change): (Option<HookPoint>, Option<&mut Change<'_>>),
        progress: &mut dyn Progress,
    ) -> Result<(f64, u64)> {
        let n_ctx = engine.config().n_ctx;
        let (mut sum, mut n, mut nll) = (0.0f64, 0u64, Vec::new());
        progress.begin(&format!("cross-entropy, {what}"), (self.windows.len() * n_ctx) as u64, "tokens");
        for batch in batches(stream, &self.windows, n_ctx) {
            if progress.interrupted() {
                return Err(Error::Interrupted);
            }
            nll.resize(batch.ids.len(), 0.0);
            match change.as_deref_mut() {
                None => engine.nll(&batch.ids, &batch.targets, n_ctx, None, &mut nll),
                Some(change) => {
                    let input = rows_at(engine, from, &batch.ids, n_ctx);
                    let mut apply = |rows: &mut [f32]| where_counted(&batch.counted, &input, rows, change);
                    engine.nll(&batch.ids, &batch.targets, n_ctx, Some(Edit { hook: self.hook, apply: &mut apply }), &mut nll);
                }
            }
            for (&nll, _) in nll.iter().zip(&batch.counted).filter(|&(_, &counted)| counted) {
                sum += nll as f64;
                n += 1;
            }
            progress.advance(batch.ids.len() as u64);
        }
        progress.end();
        if n == 0 {
            return Err(Error::NoTokens { n_ctx });
        }
        Ok((sum / n as f64, n))
    }

    /// Mean KL(clean || spliced) over a sample of the tokens that count: 16 evenly spaced positions in each of evenly spaced windows.
    fn kl(
        &self,
        engine: &mut dyn Engine,
        stream: &TokenStream,
        sae: &Sae,
        from: Option<HookPoint>,
        progress: &mut dyn Progress,
    ) -> Result<(f64, u64)> {
        let (n_ctx, d_vocab) = (engine.config().n_ctx, engine.config().d_vocab);
        let n_windows = (KL_TOKENS / KL_PER_WINDOW).min(self.windows.len());
        let sample: Vec<u64> = (0..n_windows).map(|i| self.windows[i * self.windows.len() / n_windows]).collect();
        let (mut sum, mut n, mut acts) = (0.0f64, 0u64, SparseRows::default());
        let (mut encoder, mut clean, mut spliced) = (sae.encoder(), Vec::new(), Vec::new());
        for window in sample.chunks(1) {
            if progress.interrupted() {
                return Err(Error::Interrupted);
            }
            let batch = batches(stream, window, n_ctx).next().expect("one window is one batch");
            let counted: Vec<usize> = (0..n_ctx).filter(|&p| batch.counted[p]).collect();
            let n_positions = counted.len().min(KL_PER_WINDOW);
            let positions: Vec<usize> = (0..n_positions).map(|i| counted[i * counted.len() / n_positions]).collect();
            clean.resize(n_positions * d_vocab, 0.0);
            spliced.resize(n_positions * d_vocab, 0.0);
            let input = rows_at(engine, from, &batch.ids, n_ctx);
            let splice = &mut |_: &[bool], input: &[f32], rows: &mut [f32]| replace(sae, &mut encoder, &mut acts, input, rows);
            let mut apply = |rows: &mut [f32]| where_counted(&batch.counted, &input, rows, splice);
            engine.logits(&batch.ids, n_ctx, &positions, None, &mut clean);
            engine.logits(&batch.ids, n_ctx, &positions, Some(Edit { hook: self.hook, apply: &mut apply }), &mut spliced);
            for (p, q) in clean.chunks_exact(d_vocab).zip(spliced.chunks_exact(d_vocab)) {
                sum += kl_divergence(p, q);
                n += 1;
            }
        }
        Ok((sum / n.max(1) as f64, n))
    }
}

/// The rows that a transcoder reads; none where the hook's own are read.
fn rows_at(engine: &mut dyn Engine, from: Option<HookPoint>, ids: &[u32], n_ctx: usize) -> Vec<f32> {
    let Some(from) = from else { return Vec::new() };
    let mut rows = vec![0.0; ids.len() * from.d_in(engine.config())];
    engine.forward_to(ids, n_ctx, from, &mut rows);
    rows
}

/// The reconstruction in place of the rows: of themselves, or of a transcoder's `input`.
fn replace(sae: &Sae, encoder: &mut Encoder, acts: &mut SparseRows, input: &[f32], rows: &mut [f32]) {
    if sae.transcoder.is_some() {
        encoder.encode(input, acts);
        sae.reconstruct(input, acts, rows);
    } else {
        encoder.encode(rows, acts);
        sae.decode(acts, rows);
    }
}

/// Applies `change` and puts the rows that do not count back as they were.
fn where_counted(counted: &[bool], input: &[f32], rows: &mut [f32], change: &mut Change<'_>) {
    let d_in = rows.len() / counted.len();
    let kept: Vec<(usize, Vec<f32>)> =
        counted.iter().enumerate().filter(|&(_, &c)| !c).map(|(i, _)| (i, rows[i * d_in..][..d_in].to_vec())).collect();
    change(counted, input, rows);
    for (i, row) in kept {
        rows[i * d_in..][..d_in].copy_from_slice(&row);
    }
}

pub(super) fn recovered(clean: f64, ce: f64, ablated: f64) -> Option<f64> {
    (ablated > clean).then(|| (ablated - ce) / (ablated - clean))
}

/// Keeps the k entries of `row` that are farthest from `others`, ties to the lower index; the rest become these.
pub fn keep_largest(row: &mut [f32], others: &[f32], k: usize, order: &mut Vec<u32>) {
    if k >= row.len() {
        return;
    }
    order.clear();
    order.extend(0..row.len() as u32);
    let distance = |i: u32| (row[i as usize] - others[i as usize]).abs();
    order.select_nth_unstable_by(k, |&a, &b| distance(b).total_cmp(&distance(a)).then(a.cmp(&b)));
    for &i in &order[k..] {
        row[i as usize] = others[i as usize];
    }
}

/// Two checks before any number is believed: the identity at `hook` changes no bit of any logit, and a vector added at one position
/// changes its logits and none of an earlier position or another window. `ids` holds whole windows of `window` tokens; at most 16
/// positions of each are looked at.
///
/// # Errors
/// [`Error::Check`] with what was found.
pub fn check(engine: &mut dyn Engine, hook: HookPoint, ids: &[u32], window: usize) -> Result<()> {
    let d_vocab = engine.config().d_vocab;
    let d_in = hook.d_in(engine.config());
    let fail = |what: String| Err(Error::Check { hook, what });
    let at = window / 2;
    // Positions around the one that is changed, and the same of the other windows.
    let near: Vec<usize> = (at.saturating_sub(8)..(at + 8).min(window)).collect();
    let positions: Vec<usize> = (0..ids.len() / window).flat_map(|w| near.iter().map(move |p| w * window + p)).collect();
    let mut logits = |edit: Option<Edit>| {
        let mut out = vec![0.0f32; positions.len() * d_vocab];
        engine.logits(ids, window, &positions, edit, &mut out);
        out
    };
    let clean = logits(None);
    if clean.iter().any(|x| !x.is_finite()) {
        return fail("its logits are not finite".into());
    }
    let mut seen = Vec::new();
    let identity = logits(Some(Edit { hook, apply: &mut |rows| seen = rows.to_vec() }));
    if let Some(i) = (0..clean.len()).find(|&i| clean[i].to_bits() != identity[i].to_bits()) {
        return fail(format!("the identity changed a logit at position {} from {} to {}", positions[i / d_vocab], clean[i], identity[i]));
    }
    let size = (seen.iter().map(|&x| (x as f64).powi(2)).sum::<f64>() / seen.len() as f64).sqrt().max(1e-3) as f32;
    let mut add =
        |rows: &mut [f32]| rows[at * d_in..][..d_in].iter_mut().enumerate().for_each(|(j, x)| *x += if j % 2 == 0 { size } else { -0.5 * size });
    let added = logits(Some(Edit { hook, apply: &mut add }));
    for (i, &position) in positions.iter().enumerate() {
        let changed = clean[i * d_vocab..][..d_vocab].iter().zip(&added[i * d_vocab..]).any(|(a, b)| a.to_bits() != b.to_bits());
        let may_change = (at..window).contains(&position);
        if changed && !may_change {
            return fail(format!("a vector added at position {at} changed a logit at position {position} of {window} per window"));
        }
        if position == at && !changed {
            return fail(format!("a vector added at position {at} changed no logit there"));
        }
    }
    let mut read = vec![0.0; ids.len() * d_in];
    engine.forward_to(ids, window, hook, &mut read);
    if let Some(i) = (0..read.len()).find(|&i| (read[i] - seen[i]).abs() > 1e-3 * size) {
        return fail(format!("activations read there ({}) are not those edited ({}) at position {}", read[i], seen[i], i / d_in));
    }
    Ok(())
}
