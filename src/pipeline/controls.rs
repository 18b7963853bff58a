//! What an SAE's figures are to be read beside: the same training with less to learn or less freedom, and reconstructions that learned nothing.
//!
//! The SAEs among them are trained with the settings of the SAE itself, on as many rows, and stay in `sae/<name>-frozen`, `-soft-frozen` and `-shuffled`.

use super::evaluate::{each_held_out, first_rows, reconstruction};
use super::{EvalConfig, Result};
use crate::activations::{ShuffleConfig, Streamed};
use crate::artifact::{self, Manifest, Progress, RunDir, Start};
use crate::corpus::{Split, TokenStream};
use crate::intervene::Rest;
use crate::intervene::splice::keep_largest;
use crate::intervene::{Baseline, CeReport};
use crate::lm::{CpuEngine, Engine, HookPoint};
use crate::sae::{self, Decoder, Place, SAE_FORMAT_VERSION, Sae, TrainConfig, WEIGHTS, read_origin};
use serde::{Deserialize, Serialize};

const SHUFFLED: &str = "shuffled, seed ";

/// Rows that random directions and principal components are fitted on.
const SAMPLE_ROWS: usize = 16_384;

/// Of a control's SAE: the seed by which the weights of its model were shuffled.
pub fn shuffled_by(manifest: &Manifest) -> Option<u64> {
    manifest.inputs.get(WEIGHTS)?.strip_prefix(SHUFFLED)?.parse().ok()
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlKind {
    /// The SAE itself.
    Trained,
    /// Decoder directions kept as they were drawn; encoder and biases trained.
    FrozenDecoder,
    /// Decoder directions within a cosine of 0.8 of what was drawn.
    SoftFrozenDecoder,
    /// Trained on a model whose weights were shuffled within each matrix; its cross-entropies would be of no use.
    ShuffledModel,
    /// Random directions, nothing trained but one scale.
    RandomDecoder,
    /// The principal components with the largest variance, as many as latents are active.
    Pca,
    /// The neurons of each token that are farthest from their mean, as many as latents are active; the rest at it.
    LargestNeurons,
    /// As many that are farthest from zero, the rest zero.
    LargestNeuronsZero,
}

/// The figures of one of them; absent where they have no meaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlRow {
    pub control: ControlKind,
    pub l0: f64,
    pub explained_variance: Option<f64>,
    /// Nats above the unchanged model.
    pub gap_nats: Option<f64>,
    pub ce_recovered_zero: Option<f64>,
    pub ce_recovered_mean: Option<f64>,
    pub dead_frac: Option<f64>,
    /// Held-out tokens that l0, explained variance and dead latents are told from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_eval_tokens: Option<u64>,
    /// Rows that it was trained on.
    pub rows: u64,
}

/// How an SAE was trained, as its manifest tells.
struct Known {
    train: TrainConfig,
    hook: HookPoint,
    shuffle: ShuffleConfig,
    place: Place,
}

impl Known {
    fn of(run: &RunDir, name: &str) -> Result<Self> {
        let dir = run.sae(name);
        let manifest = Manifest::read(&dir, "sae", SAE_FORMAT_VERSION)?;
        let unknown = || {
            super::Error::Recipe(format!(
                "how the SAE {name} was trained is not recorded in {}\n  train it: monosem sae train --name {} {}",
                dir.display(),
                artifact::shell_word(name),
                run.flags()
            ))
        };
        let train: TrainConfig = serde_json::from_value(manifest.config.clone()).map_err(|_| unknown())?;
        let (hook, shuffle) = manifest.inputs.get("rows").and_then(|rows| ShuffleConfig::of_rows(rows)).ok_or_else(unknown)?;
        let shuffle = ShuffleConfig { max_rows: Some(train.rows), ..shuffle };
        let mut inputs = manifest.inputs.clone();
        inputs.insert("rows".into(), shuffle.rows(hook));
        inputs.remove("activations");
        let origin = read_origin(&dir)?;
        let place = Place { out: dir, checkpoints: run.sae_checkpoints(name), start: Start::Resume, origin, inputs };
        // Nobody watches a control.
        Ok(Known { train: TrainConfig { snapshots: 0, ..train }, hook, shuffle, place })
    }
}

/// Those controls of an SAE that [`controls`] would have to train, each with its place.
///
/// # Errors
/// An SAE that this program did not train.
pub fn controls_to_train(run: &RunDir, name: &str) -> Result<Vec<(TrainConfig, Place)>> {
    let Known { train, place: real, .. } = Known::of(run, name)?;
    let mut all = held(&train, &real, run, name);
    all.push((train.clone(), shuffled_place(&real, run, name, train.seed)));
    all.retain(|(train, place)| !place.is_fresh(train));
    Ok(all)
}

/// Trains what must be trained and is not there, measures everything as `config` says, in the order of [`ControlKind`]. What was trained or begun with other settings in a
/// control's place is refused, unless `replace`.
///
/// # Errors
/// An SAE that this program did not train, whose settings are not known; those of training and splicing; [`super::Error::Interrupted`], after which the same call
/// goes on.
pub fn controls(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    run: &RunDir,
    name: &str,
    config: &EvalConfig,
    replace: bool,
    progress: &mut dyn Progress,
) -> Result<Vec<ControlRow>> {
    let sae = Sae::load(&run.sae(name))?;
    let Known { train, hook, shuffle, place: real } = Known::of(run, name)?;
    let held = held(&train, &real, run, name);
    for (train, place) in held.iter().filter(|(train, place)| !place.is_fresh(train)) {
        let mut source = Streamed::open(engine, stream, hook, shuffle)?;
        train_in(&mut source, train, place, replace, progress)?;
    }
    let held = held.iter().map(|(_, place)| Ok(Sae::load(&place.out)?)).collect::<Result<Vec<Sae>>>()?;
    let (mut shuffled_model, shuffled) = shuffled(engine, stream, (hook, shuffle), &train, (&real, run, name), (train.seed, replace), progress)?;

    let sample = first_rows(engine, stream, hook, SAMPLE_ROWS)?;
    let measured = reconstruction(engine, stream, hook, &[&sae], config.tokens, progress)?.remove(0);
    let random = sae::controls::random_decoder(&sae, measured.l0, &sample, config.seed);
    let k = (measured.l0.round() as usize).min(sae.d_in);
    let pca = sae::controls::pca(&sample, sae.d_in, k);
    let baseline = Baseline::measure(engine, stream, Split::HeldOutB, hook, config.ce_tokens, progress)?;
    let subjects = [
        (ControlKind::Trained, &sae),
        (ControlKind::FrozenDecoder, &held[0]),
        (ControlKind::SoftFrozenDecoder, &held[1]),
        (ControlKind::RandomDecoder, &random),
        (ControlKind::Pca, &pca),
    ];
    let mut rows = vec![];
    for (control, subject) in subjects {
        let eval = match control {
            ControlKind::Trained => measured.clone(),
            _ => reconstruction(engine, stream, hook, &[subject], config.tokens, progress)?.remove(0),
        };
        let ce = baseline.spliced(engine, stream, subject, progress)?;
        rows.push(row(
            control,
            &eval,
            Some(&ce),
            if matches!(control, ControlKind::RandomDecoder | ControlKind::Pca) { 0 } else { train.rows_of_steps() },
        ));
        if control == ControlKind::SoftFrozenDecoder {
            let eval = reconstruction(&mut shuffled_model, stream, hook, &[&shuffled], config.tokens, progress)?.remove(0);
            rows.push(row(ControlKind::ShuffledModel, &eval, None, train.rows_of_steps()));
        }
    }
    let mut kept = [Rest::Mean, Rest::Zero].map(|rest| KeptVariance::new(baseline.mean(), k, rest));
    each_held_out(engine, stream, hook, config.tokens, progress, |x| kept.iter_mut().for_each(|kept| kept.add(x)))?;
    for ((control, rest), kept) in [(ControlKind::LargestNeurons, Rest::Mean), (ControlKind::LargestNeuronsZero, Rest::Zero)].into_iter().zip(kept) {
        let neurons = baseline.neurons(engine, stream, (k, rest), progress)?;
        rows.push(ControlRow {
            control,
            l0: neurons.k as f64,
            explained_variance: Some(kept.explained()),
            gap_nats: Some(neurons.gap_nats),
            ce_recovered_zero: neurons.ce_recovered_zero,
            ce_recovered_mean: neurons.ce_recovered_mean,
            dead_frac: None,
            n_eval_tokens: Some(kept.n_rows),
            rows: 0,
        });
    }
    Ok(rows)
}

/// What is left of the variance of rows (n, D) where k neurons of each are kept.
struct KeptVariance {
    /// (D,): what the others become.
    others: Vec<f32>,
    k: usize,
    n_rows: u64,
    /// (D,): of all rows.
    sums: Vec<f64>,
    /// Of |x|^2, and of |x - kept|^2.
    squares: f64,
    left: f64,
    order: Vec<u32>,
}

impl KeptVariance {
    /// `mean` (D,) is that over training text.
    fn new(mean: &[f32], k: usize, rest: Rest) -> Self {
        let others = if rest == Rest::Mean { mean.to_vec() } else { vec![0.0; mean.len()] };
        KeptVariance { others, k, n_rows: 0, sums: vec![0.0; mean.len()], squares: 0.0, left: 0.0, order: Vec::new() }
    }

    fn add(&mut self, rows: &[f32]) {
        for row in rows.chunks_exact(self.others.len()) {
            let mut kept = row.to_vec();
            keep_largest(&mut kept, &self.others, self.k, &mut self.order);
            self.left += row.iter().zip(&kept).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
            self.squares += row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
            self.sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            self.n_rows += 1;
        }
    }

    /// The share of the variance of these rows around their own mean that is not lost.
    fn explained(&self) -> f64 {
        let all = self.squares - self.sums.iter().map(|sum| sum * sum).sum::<f64>() / self.n_rows.max(1) as f64;
        if all > 0.0 { 1.0 - self.left / all } else { 0.0 }
    }
}

fn row(control: ControlKind, eval: &sae::Eval, ce: Option<&CeReport>, rows: u64) -> ControlRow {
    ControlRow {
        control,
        l0: eval.l0,
        explained_variance: Some(eval.explained_variance),
        gap_nats: ce.map(|ce| ce.gap_nats),
        ce_recovered_zero: ce.and_then(|ce| ce.ce_recovered_zero),
        ce_recovered_mean: ce.and_then(|ce| ce.ce_recovered_mean),
        dead_frac: (control != ControlKind::Pca).then_some(eval.dead_frac),
        n_eval_tokens: Some(eval.n_eval_tokens),
        rows,
    }
}

/// The place of a control of the SAE in `real`.
fn beside(real: &Place, run: &RunDir, name: &str) -> Place {
    Place { out: run.sae(name), checkpoints: run.sae_checkpoints(name), ..real.clone() }
}

/// The controls whose decoder is held, in the order of [`ControlKind`].
fn held(train: &TrainConfig, real: &Place, run: &RunDir, name: &str) -> Vec<(TrainConfig, Place)> {
    let of = |(decoder, word): (Decoder, &str)| (train.held(decoder), beside(real, run, &format!("{name}-{word}")));
    [(Decoder::Frozen, "frozen"), (Decoder::SoftFrozen, "soft-frozen")].map(of).into()
}

/// The place of the SAE of the model whose weights were shuffled by `seed`.
fn shuffled_place(real: &Place, run: &RunDir, name: &str, seed: u64) -> Place {
    let mut place = beside(real, run, &format!("{name}-shuffled"));
    place.inputs.insert(WEIGHTS.into(), format!("{SHUFFLED}{seed}"));
    place
}

/// Trains a control, or goes on with it. One of an SAE, or of a model, that is no more is replaced; what was asked for with other settings only where `replace` says so.
fn train_in(source: &mut dyn sae::RowSource, train: &TrainConfig, place: &Place, replace: bool, progress: &mut dyn Progress) -> Result<()> {
    let Err(refused) = sae::train(source, train, place, progress) else { return Ok(()) };
    let anew = match refused {
        sae::Error::OtherRun { settings, .. } => replace || !settings,
        sae::Error::Artifact(artifact::Error::Finished { .. }) => replace,
        _ => false,
    };
    if !anew {
        return Err(refused.into());
    }
    sae::train(source, train, &Place { start: Start::Replace, ..place.clone() }, progress)?;
    Ok(())
}

/// The trained model with the entries of each weight matrix shuffled, and an SAE trained on it exactly as the real one, which is `name` in `real`.
pub(super) fn shuffled(
    engine: &dyn Engine,
    stream: &TokenStream,
    (hook, shuffle): (HookPoint, ShuffleConfig),
    train: &TrainConfig,
    (real, run, name): (&Place, &RunDir, &str),
    (seed, replace): (u64, bool),
    progress: &mut dyn Progress,
) -> Result<(CpuEngine, Sae)> {
    let mut model = CpuEngine::new(engine.lm().shuffled(seed));
    let place = shuffled_place(real, run, name, seed);
    // Nobody watches the control.
    let train = TrainConfig { snapshots: 0, ..train.clone() };
    if !place.is_fresh(&train) {
        let mut source = Streamed::open(&mut model, stream, hook, shuffle)?;
        train_in(&mut source, &train, &place, replace, progress)?;
    }
    Ok((model, Sae::load(&place.out)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_neurons_hold_the_share_of_the_variance_that_they_are_off_the_mean_by() {
        // Around their mean (2, 1, 1) both rows are off by 2, 1 and 0: the first neuron holds 4 of 5.
        let explained = |k: usize, rest: Rest| {
            let mut kept = KeptVariance::new(&[2.0, 1.0, 1.0], k, rest);
            [[4.0, 0.0, 1.0], [0.0, 2.0, 1.0]].iter().for_each(|row| kept.add(row));
            assert_eq!(kept.n_rows, 2);
            kept.explained()
        };
        let mean = |k| explained(k, Rest::Mean);
        assert!((mean(1) - 0.8).abs() < 1e-9);
        assert_eq!((mean(0), mean(2), mean(9)), (0.0, 1.0, 1.0));
        // With zeros the rows (4, 0, 0) and (0, 2, 0) are a 1 off each, of 10 in all; with none kept 17 and 5.
        let zero = |k| explained(k, Rest::Zero);
        assert!((zero(1) - 0.8).abs() < 1e-9 && (zero(0) + 1.2).abs() < 1e-9 && zero(2) == 1.0);
    }
}
