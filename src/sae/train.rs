//! The training loop: one SAE, or several from one stream of rows. Reads a [`RowSource`]; writes `sae/<name>/` and checkpoints.
//!
//! While it trains everything that it writes lies beside its checkpoints: an SAE that is finished stays as it is, log and snapshots included, until
//! the one that takes its place is complete.

use super::checkpoint::Checkpoint;
use super::history;
use super::place::{LOG, Place, already, hand_over, identity};
use super::training::{Training, check_finite};
use super::{Error, Result, RowSource, Sae, TrainConfig};
use crate::artifact::{Manifest, Named, Progress, Start};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;

/// Raised when the files of `sae/<name>/` change meaning.
pub const SAE_FORMAT_VERSION: u32 = 1;

/// What a finished training hands back; everything is on disk as well.
#[derive(Debug, Clone)]
pub struct TrainedSae {
    pub sae: Sae,
    pub steps: u64,
    pub rows: u64,
    /// Of the last step, like `l0`.
    pub fvu: f64,
    pub l0: f64,
    /// Share of latents that fired on none of the last `dead_window_rows`.
    pub dead_frac: f64,
    /// What the recipe's coefficient was multiplied by in the end: 1 where L0 was not steered and the penalty kept its shape; none where an older program trained.
    pub sparsity_factor: Option<f64>,
}

/// Trains on the rows of `source`, from its present position, or from that of the checkpoint; writes `place.out` when done. Where the source ends too early it starts over.
///
/// An SAE that is finished with the same settings from the same inputs is returned as it is, unless it is to be replaced.
///
/// # Errors
/// A finished SAE of other settings and, without [`Start::Resume`], a checkpoint are refused, unless they are to be replaced;
/// [`Error::Config`] before anything is read; [`Error::Interrupted`] after a checkpoint was written; [`Error::Diverged`] and [`Error::NotFinite`]
/// with the checkpoints of before kept.
pub fn train(source: &mut dyn RowSource, config: &TrainConfig, place: &Place, progress: &mut dyn Progress) -> Result<TrainedSae> {
    let mut trained = train_all(source, &[(config, place)], progress)?;
    Ok(trained.pop().expect("one for each that was asked for"))
}

/// As [`train`], several SAEs from one stream: every batch is read once and each of them takes a step on it. The result of each is, bit for bit, that of
/// training it alone.
///
/// # Errors
/// As [`train`]; [`Error::Config`] where they do not have batch and number of rows in common.
pub fn train_all(source: &mut dyn RowSource, jobs: &[(&TrainConfig, &Place)], progress: &mut dyn Progress) -> Result<Vec<TrainedSae>> {
    let mut done: Vec<Option<TrainedSae>> = Vec::new();
    for &(config, place) in jobs {
        config.check()?;
        if source.width() != config.sae.d_row() {
            return Err(Error::Width { found: source.width(), expected: config.sae.d_row() });
        }
        let (first, _) = jobs[0];
        if (config.batch, config.rows) != (first.batch, first.rows) {
            let what = format!(
                "SAEs of one stream need one batch and one number of rows: {} and {}, {} and {}",
                first.batch, config.batch, first.rows, config.rows
            );
            return Err(Error::Config { what });
        }
        done.push(already(config, place)?);
    }
    for (_, place) in jobs.iter().zip(&done).filter(|(_, done)| done.is_none()).map(|(job, _)| job) {
        place.try_to_write()?;
    }
    let left: Vec<(&TrainConfig, &Place)> = jobs.iter().zip(&done).filter(|(_, done)| done.is_none()).map(|(job, _)| *job).collect();
    if left.is_empty() {
        progress.note(if jobs.len() == 1 { "this SAE is trained already; nothing to do" } else { "these SAEs are trained already; nothing to do" });
        return Ok(done.into_iter().flatten().collect());
    }
    let mut trainings = begin(source, &left, progress)?;
    let config = left[0].0;
    progress.begin("sae", config.rows_of_steps(), "rows");
    progress.resume(trainings[0].step * config.batch as u64);
    let ran = run(source, &mut trainings, progress);
    progress.end();
    ran?;
    // One that cannot be kept takes none of the others with it.
    let new: Vec<Result<TrainedSae>> = trainings.into_iter().map(|training| keep(training, source)).collect();
    let mut new = new.into_iter().collect::<Result<Vec<_>>>()?.into_iter();
    Ok(done.into_iter().map(|done| done.or_else(|| new.next()).expect("what was not there was trained")).collect())
}

/// The trainings at the newest step that all of them have a checkpoint of, or at their beginning; the source is where the next step reads.
fn begin<'a>(source: &mut dyn RowSource, jobs: &[(&'a TrainConfig, &'a Place)], progress: &mut dyn Progress) -> Result<Vec<Training<'a>>> {
    let mut limit = u64::MAX;
    loop {
        let newest = |(config, place): &(&TrainConfig, &Place)| match place.start {
            Start::Resume => Checkpoint::newest(&place.checkpoints, &config.sae, &identity(config, place), limit),
            _ => Ok(None),
        };
        let found = jobs.iter().map(newest).collect::<Result<Vec<_>>>()?;
        for ((_, place), checkpoint) in jobs.iter().zip(&found).filter(|_| limit == u64::MAX) {
            let Some(checkpoint) = checkpoint else { continue };
            if let Some((path, why)) = Checkpoint::passed_over(&place.checkpoints, checkpoint.step)? {
                progress.note(&format!("{} is passed over: {why}", path.display()));
            }
        }
        let steps: Vec<u64> = found.iter().flatten().map(|checkpoint| checkpoint.step).collect();
        let without: Vec<&Place> = jobs.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|((_, place), _)| *place).collect();
        // A kill while the first checkpoints were written leaves some of them without one, but all with a log: little is lost by beginning again.
        let first = steps.iter().all(|&step| step <= jobs[0].0.checkpoint_every) && without.iter().all(|place| place.checkpoints.join(LOG).exists());
        if steps.is_empty() || (steps.len() < jobs.len() && limit == u64::MAX && first) {
            if !steps.is_empty() {
                progress.note(&format!("{} of {} SAEs have a first checkpoint; all begin again", steps.len(), jobs.len()));
            }
            let start = |(config, place): &(&'a TrainConfig, &'a Place)| {
                Training::start(source, config, place, identity(config, place), &mut Named { name: place.name(jobs.len()), to: progress })
            };
            return jobs.iter().map(start).collect();
        }
        let least = *steps.iter().min().expect("there is one");
        if steps.len() < jobs.len() {
            let names: Vec<String> = without.iter().map(|place| place.name(jobs.len())).collect();
            let what = format!(
                "of {} SAEs that are trained together {} {} no checkpoint that goes with step {least} of the others; go on with each by its own name and --resume, or train all anew with --yes in place of --resume",
                jobs.len(),
                names.join(", "),
                if names.len() == 1 { "has" } else { "have" }
            );
            return Err(Error::Config { what });
        }
        if steps.iter().any(|&step| step != least) {
            // A kill between two writes leaves some of them a checkpoint ahead.
            limit = least;
            continue;
        }
        let position = found[0].as_ref().expect("all have one").position;
        progress.note(&format!("going on after step {least} of {}", jobs[0].0.steps()));
        source.seek(position).map_err(|source| Error::Source { position, source })?;
        return jobs
            .iter()
            .zip(found.into_iter().flatten())
            .map(|((config, place), checkpoint)| Training::resume(config, place, checkpoint))
            .collect();
    }
}

/// Steps until all are done. The next batch is read while a step is taken, by the same pool of threads: what either leaves idle the other uses.
fn run(source: &mut dyn RowSource, trainings: &mut [Training], progress: &mut dyn Progress) -> Result<()> {
    let (config, start, n) = (trainings[0].config, trainings[0].start, trainings.len());
    let (mut since, mut rows_since) = (Instant::now(), 0);
    let mut rows = vec![0.0; config.batch * config.sae.d_row()];
    let mut next_rows = vec![0.0; rows.len()];
    let mut read = read_batch(source, start, &mut rows);
    while trainings[0].step < config.steps() {
        read?.iter().for_each(|note| progress.note(note));
        // Of the rows that follow: where a resampling draws from and a checkpoint goes on.
        let position = source.position();
        let ahead = trainings[0].step + 1 < config.steps() && !trainings.iter().any(Training::resamples_next);
        read = Ok(Vec::new());
        let mut steps = Ok(Vec::new());
        rayon::in_place_scope(|scope| {
            if ahead {
                scope.spawn(|_| read = read_batch(source, start, &mut next_rows));
            }
            let step = |training: &mut Training| training.one_step(&rows, &mut Named { name: training.place.name(n), to: progress });
            steps = trainings.iter_mut().map(step).collect::<Result<Vec<_>>>();
        });
        rows_since += config.batch as u64;
        for (training, taken) in trainings.iter_mut().zip(steps?) {
            training.resample_if_due(taken, source, &mut Named { name: training.place.name(n), to: progress })?;
            let (config, step) = (training.config, training.step);
            if step.is_multiple_of(config.log_every) || step == config.steps() {
                training.log(taken.lr, rows_since as f64 / since.elapsed().as_secs_f64().max(1e-9))?;
            }
            if config.snapshot_steps().contains(&step)
                && let Err(error) = training.snapshot()
            {
                // What is trained is the same without it.
                progress.note(&format!("step {step}: {error}"));
            }
        }
        progress.advance(config.batch as u64);
        let step = trainings[0].step;
        if step.is_multiple_of(config.log_every) || step == config.steps() {
            progress.figure(&figures(trainings));
        }
        if step.is_multiple_of(config.log_every) {
            (since, rows_since) = (Instant::now(), 0);
        }
        let interrupted = progress.interrupted() && step < config.steps();
        if interrupted || (step.is_multiple_of(config.checkpoint_every) && step < config.steps()) {
            for training in trainings.iter() {
                let path = training.checkpoint(position).write(&training.place.checkpoints)?;
                if interrupted && std::ptr::eq(training, &trainings[trainings.len() - 1]) {
                    return Err(Error::Interrupted { step, path });
                }
            }
        }
        if ahead {
            std::mem::swap(&mut rows, &mut next_rows);
        } else if step < config.steps() {
            read = read_batch(source, start, &mut rows);
        }
    }
    Ok(())
}

/// How the last step went, of several SAEs in the order in which they were named.
fn figures(trainings: &[Training]) -> String {
    let of_each = |of: &dyn Fn(&Training) -> String| trainings.iter().map(of).collect::<Vec<_>>().join(" | ");
    let (fvu, l0) = (of_each(&|t| format!("{:.4}", t.fvu())), of_each(&|t| format!("{:.1}", t.last.l0)));
    format!("fvu {fvu}  l0 {l0}  dead {} %", of_each(&|t| format!("{:.1}", 100.0 * t.dead_frac())))
}

/// Fills `rows` (B, D), from `start` again where the rows end; returns what there is to say of it.
fn read_batch(source: &mut dyn RowSource, start: u64, rows: &mut [f32]) -> Result<Vec<String>> {
    let d = source.width();
    let batch = rows.len() / d;
    let mut filled = 0;
    let mut wrapped = false;
    let mut notes = Vec::new();
    while filled < batch {
        let position = source.position();
        let n = source.next_rows(&mut rows[filled * d..]).map_err(|source| Error::Source { position, source })?;
        check_finite(&rows[filled * d..(filled + n) * d], d, position)?;
        filled += n;
        if filled < batch {
            if wrapped && n == 0 {
                return Err(Error::TooFewRows { found: filled as u64, expected: batch as u64 });
            }
            wrapped = n == 0 || wrapped;
            notes.push(format!("the rows ended after {}; starting over", position + n as u64 - start));
            source.seek(start).map_err(|source| Error::Source { position: start, source })?;
        }
    }
    Ok(notes)
}

/// Writes the finished SAE with its manifest.
fn keep(training: Training, source: &mut dyn RowSource) -> Result<TrainedSae> {
    let (config, place, seconds) = (training.config, training.place, training.seconds());
    let trained = training.finish(source)?;
    let mut manifest = Manifest::new("sae", SAE_FORMAT_VERSION, serde_json::to_value(config).expect("plain data"), config.seed);
    manifest.counts = BTreeMap::from([("rows".into(), trained.rows), ("steps".into(), trained.steps), ("latents".into(), config.sae.d_sae as u64)]);
    manifest.details = json!({ "fvu": trained.fvu, "l0": trained.l0, "dead_frac": trained.dead_frac, "sparsity_factor": trained.sparsity_factor });
    manifest.inputs.clone_from(&place.inputs);
    manifest.wall_seconds = seconds;
    for name in ["cfg.json", "sae_weights.safetensors", "selftest.safetensors"] {
        manifest.record_file(&place.out, name)?;
    }
    // Those of an SAE that was here before; once the manifest is written what is here is this one's.
    history::keep_until(&place.out, 0)?;
    manifest.write(&place.out)?;
    hand_over(place)?;
    Ok(trained)
}

#[cfg(test)]
#[path = "ahead_tests.rs"]
mod ahead;
#[cfg(test)]
#[path = "known_bugs_tests.rs"]
mod known_bugs;
#[cfg(test)]
#[path = "train_tests.rs"]
pub(crate) mod tests;
