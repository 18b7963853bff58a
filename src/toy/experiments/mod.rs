//! The experiments, a file each. Each trains its models, measures them beside closed forms or what was published, draws them, and says what one sees.

mod absolute_value;
mod adversarial;
mod basic;
mod compressed_sensing;
mod correlated;
mod cross_entropy;
mod decomposition;
mod dynamics;
mod geometry;
mod hidden_l1;
mod local_bases;
mod pentagon;
mod phases;
mod principal_components;
mod privileged_basis;
mod sae;

use super::draw::Scene;
use super::model::{Instances, Schedule};
use super::{Error, Result};
use crate::artifact::{Figure, Progress};
use serde::Serialize;
use serde_json::Value;

/// All of them, in the order of the paper.
pub const EXPERIMENTS: [&Experiment; 16] = [
    &basic::BASIC,
    &phases::PHASES_EXPERIMENT,
    &hidden_l1::HIDDEN_L1,
    &compressed_sensing::COMPRESSED_SENSING,
    &geometry::GEOMETRY,
    &pentagon::PENTAGON,
    &correlated::CORRELATED,
    &local_bases::LOCAL_BASES,
    &principal_components::PRINCIPAL_COMPONENTS,
    &dynamics::DYNAMICS,
    &adversarial::ADVERSARIAL,
    &privileged_basis::PRIVILEGED_BASIS,
    &absolute_value::ABSOLUTE_VALUE,
    &cross_entropy::CROSS_ENTROPY,
    &sae::SAE,
    &decomposition::DECOMPOSITION,
];

pub struct Experiment {
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Where it stands in the paper, or the other paper that it is from.
    pub source: &'static str,
    pub run: fn(&Ask, &mut dyn Progress) -> Result<Outcome>,
}

/// The experiment of that name.
///
/// # Errors
/// One that lists the names there are.
pub fn find(name: &str) -> Result<&'static Experiment> {
    let known = || EXPERIMENTS.map(|e| e.name).join(", ");
    EXPERIMENTS.into_iter().find(|e| e.name == name).ok_or_else(|| Error::Unknown { name: name.into(), known: known() })
}

/// What is asked of an experiment.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub seed: u64,
    /// Fewer points, restarts and steps: what the tests run. The figures and their bands are the same, where there are enough of them.
    pub quick: bool,
}

impl Ask {
    /// One thing when quick, the other otherwise.
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What one sees, in three sentences.
    pub says: String,
    pub figures: Vec<Figure>,
    /// What the pictures show, as numbers.
    pub data: Value,
    #[serde(skip)]
    pub pictures: Vec<Picture>,
}

/// A picture of an experiment.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Name of its files.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub caption: String,
    pub scene: Scene,
}

/// Parts of a training between two looks at Ctrl-C.
const PARTS: u64 = 20;

/// Trains all instances to the end of `schedule`, and says how far it is.
///
/// # Errors
/// Ctrl-C was pressed.
pub fn train(what: &str, instances: &mut Instances, schedule: Schedule, progress: &mut dyn Progress) -> Result<()> {
    progress.begin(what, schedule.steps * instances.len() as u64, "instance-steps");
    let part = schedule.steps.div_ceil(PARTS);
    while instances.step() < schedule.steps {
        let steps = part.min(schedule.steps - instances.step());
        let losses = instances.train_for(schedule, steps);
        progress.advance(steps * instances.len() as u64);
        progress.figure(&format!("loss {:.5}", losses.iter().sum::<f64>() / losses.len().max(1) as f64));
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
    }
    progress.end();
    Ok(())
}

/// Of each run of `restarts` instances, the one with the lowest loss on `rows` fresh samples: its number and that loss.
pub fn best_of(instances: &Instances, restarts: usize, rows: usize) -> Vec<(usize, f64)> {
    let losses = instances.losses(rows);
    let best = |(group, losses): (usize, &[f64])| {
        let (i, loss) = losses.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).expect("a group has instances");
        (group * restarts + i, *loss)
    };
    losses.chunks(restarts).enumerate().map(best).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Silent;

    /// Every experiment in its quick form: what it asserts holds, and its pictures are drawn.
    fn holds(name: &str) {
        let outcome = (find(name).unwrap().run)(&Ask { seed: 0, quick: true }, &mut Silent).unwrap();
        let missed: Vec<&Figure> = outcome.figures.iter().filter(|f| f.holds() == Some(false)).collect();
        assert!(missed.is_empty(), "{missed:#?}");
        assert!(outcome.figures.iter().any(|f| f.holds().is_some()), "an experiment asserts something");
        assert!(!outcome.pictures.is_empty() && outcome.says.matches(". ").count() == 2, "three sentences and a picture: {}", outcome.says);
    }

    macro_rules! hold {
        ($($test:ident $name:literal)*) => { $(#[test] fn $test() { holds($name) })* };
    }

    hold! {
        basic_holds "basic"
        phases_holds "phases"
        hidden_l1_holds "hidden-l1"
        compressed_sensing_holds "compressed-sensing"
        geometry_holds "geometry"
        pentagon_holds "pentagon"
        correlated_holds "correlated"
        local_bases_holds "local-bases"
        principal_components_holds "principal-components"
        dynamics_holds "dynamics"
        adversarial_holds "adversarial"
        privileged_basis_holds "privileged-basis"
        absolute_value_holds "absolute-value"
        cross_entropy_holds "cross-entropy"
        sae_holds "sae"
        decomposition_holds "decomposition"
    }

    #[test]
    fn experiments_are_found_by_name_and_others_are_told_which_there_are() {
        assert!(EXPERIMENTS.iter().all(|e| find(e.name).is_ok() && !e.about.ends_with('.')));
        let error = find("nope").err().unwrap().to_string();
        assert!(error.contains("nope") && error.contains("basic"), "{error}");
    }
}
