//! Superposition live: one small model of *Toy Models of Superposition* (Elhage et al. 2022), drawn while it trains. Needs no language model and no dictionary;
//! of the run it reads only the page that `monosem toy all` leaves.

use super::app::{App, Missing, Page, Part, Problem};
use crate::toy::draw::{Colour, charts};
use crate::toy::exact::expected_loss_linear;
use crate::toy::model::{Instances, Model, Schedule, Setting};
use crate::toy::theory;
use serde::Deserialize;
use std::fmt::Display;
use std::ops::RangeInclusive;

/// Bounds of what may be asked: the largest training takes half a second, pictures and losses included.
pub const FEATURES: RangeInclusive<usize> = 2..=40;
pub const DIMENSIONS: RangeInclusive<usize> = 1..=10;
/// Below its low end a batch seldom sees a feature, and the picture only jitters.
pub const PROBABILITY: RangeInclusive<f64> = 0.005..=1.0;
pub const BASE: RangeInclusive<f64> = 0.5..=1.0;
/// The largest whole number that a browser's field keeps exact.
pub const SEED: RangeInclusive<u64> = 0..=(1 << 53) - 1;

/// The training of the experiment `basic` in its quick form.
const STEPS: u64 = 3_000;
const BATCH: usize = 256;
const RATE: f32 = 1e-2;
/// Pictures of one training, after that of the weights that it begins with.
const FRAMES: u64 = 60;

/// What the form asks for.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    pub n: usize,
    pub m: usize,
    /// Probability that a feature is on.
    pub p: f64,
    /// Feature i has importance `base`^i.
    pub base: f64,
    pub output: Output,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    Linear,
    Relu,
}

/// Five features in the plane, seldom on: the paper's pentagon.
impl Default for Ask {
    fn default() -> Self {
        Ask { n: 5, m: 2, p: 0.05, base: 0.9, output: Output::Relu, seed: 0 }
    }
}

impl Ask {
    fn checked(self) -> Page<Self> {
        within("n, the number of features,", self.n, FEATURES)?;
        within("m, the number of hidden dimensions,", self.m, DIMENSIONS)?;
        if self.m >= self.n {
            return Err(Problem::bad(&format!(
                "m, the number of hidden dimensions, must be below n, the number of features: m is {} and n is {}.",
                self.m, self.n
            )));
        }
        within("p, the probability that a feature is on,", self.p, PROBABILITY)?;
        within("base, whose powers are the importances,", self.base, BASE)?;
        within("seed", self.seed, SEED)?;
        Ok(self)
    }

    pub fn is_linear(&self) -> bool {
        self.output == Output::Linear
    }
}

/// Refuses what lies outside; also what is no number.
fn within<T: PartialOrd + Display>(what: &str, value: T, range: RangeInclusive<T>) -> Page<()> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(Problem::bad(&format!("{what} must be {} to {}, not {value}.", range.start(), range.end()))),
    }
}

/// A model in training, and how many pictures of it were made.
pub struct Training {
    ask: Ask,
    model: Instances,
    frames: u64,
}

/// One moment of a training.
#[derive(Debug)]
pub struct Frame {
    pub step: u64,
    pub steps: u64,
    /// In expectation where the model is linear; otherwise the mean over fresh samples, the same for every frame of a training.
    pub loss: f64,
    /// Samples of that mean.
    pub samples: usize,
    /// What the best linear model loses: the optimum of this one where it is linear.
    pub optimum: f64,
    pub learned: usize,
    pub n: usize,
    pub m: usize,
    pub linear: bool,
    /// Sum of D_i.
    pub dimensionality: f64,
    /// W^T W with bias and lengths, as SVG.
    pub matrix: String,
    /// Features as vectors, as SVG, where there are two dimensions.
    pub plane: Option<String>,
}

impl Training {
    pub fn new(ask: Ask) -> Page<Self> {
        let ask = ask.checked()?;
        let model = if ask.is_linear() { Model::linear(ask.n, ask.m) } else { Model::relu_output(ask.n, ask.m) };
        let model = Instances::new(model, vec![Setting::falling(ask.n, ask.p, ask.base)], ask.seed);
        Ok(Training { ask, model, frames: 0 })
    }

    /// Trains on to the next picture; none after the last.
    pub fn next(&mut self) -> Option<Frame> {
        if self.frames > FRAMES {
            return None;
        }
        self.train_to(frame_step(self.frames));
        self.frames += 1;
        Some(self.frame())
    }

    /// Trains to the end.
    pub fn last(mut self) -> Frame {
        self.train_to(STEPS);
        self.frame()
    }

    fn train_to(&mut self, step: u64) {
        self.model.train_for(Schedule::falling(STEPS, BATCH, RATE), step - self.model.step());
    }

    fn frame(&self) -> Frame {
        let (ask, w) = (self.ask, self.model.weights(0));
        // Enough samples for each feature to be on in two hundred of them.
        let rows = (200.0 / ask.p).max(2048.0) as usize;
        let kind = if ask.is_linear() { "linear" } else { "ReLU" };
        let step = self.model.step();
        // Cells of at most 48 pixels: few features make a small matrix instead of a coarse one.
        let side = (48.0 * ask.n as f64).min(320.0);
        let matrix = charts::superposition("WᵀW, bias and length of each feature", w.w_in, ask.m, w.b, side);
        let plane = (ask.m == 2).then(|| {
            let colours: Vec<Colour> = theory::interference(w.w_in, 2).into_iter().map(Colour::shared).collect();
            let scene = charts::plane("Features as directions in the plane", w.w_in, &colours, 300.0);
            scene.svg(&format!("{} features as vectors from one origin, at step {step}", ask.n))
        });
        Frame {
            step,
            steps: STEPS,
            loss: if ask.is_linear() { expected_loss_linear(&self.model.settings[0], w) } else { self.model.losses(rows)[0] },
            samples: rows,
            optimum: theory::linear_optimum(&self.model.settings[0].importance, ask.m, ask.p),
            learned: theory::learned(w.w_in, ask.m),
            n: ask.n,
            m: ask.m,
            linear: ask.is_linear(),
            dimensionality: theory::dimensionality(w.w_in, ask.m).iter().sum(),
            matrix: matrix.svg(&format!("W transposed times W of the {kind} model, its biases and the lengths of its features, at step {step}")),
            plane,
        }
    }
}

/// Steps that were done when a picture is made. Most happens at the beginning, so pictures lie closer together there.
fn frame_step(frame: u64) -> u64 {
    (STEPS * frame * frame).div_ceil(FRAMES * FRAMES)
}

impl App {
    /// The page of all experiments, as it was written.
    pub fn toy_paper(&self) -> Part<String> {
        let path = self.run.root.join("toy/index.html");
        let next = format!("monosem toy all {}", self.run.flags());
        let missing = |what: String| Missing { what, next: next.clone() };
        if !path.is_file() {
            return Err(missing("The page of all experiments of the paper has not been made for this run.".into()));
        }
        std::fs::read_to_string(&path).map_err(|e| missing(format!("The page of all experiments cannot be read: {e}.")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_bounds_are_named_with_their_value_and_range() {
        let plain = Ask::default();
        let bad = [
            (Ask { n: 41, ..plain }, "n, the number of features, must be 2 to 40, not 41."),
            (Ask { m: 0, ..plain }, "m, the number of hidden dimensions, must be 1 to 10, not 0."),
            (Ask { m: 5, ..plain }, "m is 5 and n is 5."),
            (Ask { p: 0.001, ..plain }, "must be 0.005 to 1, not 0.001."),
            (Ask { p: f64::NAN, ..plain }, "must be 0.005 to 1, not NaN."),
            (Ask { base: 1.5, ..plain }, "must be 0.5 to 1, not 1.5."),
            (Ask { seed: 1 << 53, ..plain }, "seed must be 0 to 9007199254740991, not 9007199254740992."),
        ];
        for (ask, says) in bad {
            let problem = Training::new(ask).err().unwrap();
            assert!(problem.status == 400 && problem.message.contains(says), "{}", problem.message);
        }
        assert!(
            [Ask::default(), Ask { n: 2, m: 1, p: 0.005, base: 0.5, ..plain }, Ask { n: 40, m: 10, p: 1.0, ..plain }]
                .map(Ask::checked)
                .iter()
                .all(Page::is_ok)
        );
    }

    #[test]
    fn pictures_lie_closer_together_at_the_beginning_and_end_with_the_training() {
        let steps: Vec<u64> = (0..=FRAMES).map(frame_step).collect();
        assert!(steps[..3] == [0, 1, 4] && steps[FRAMES as usize] == STEPS);
        assert!(steps.windows(3).skip(3).all(|s| s[1] > s[0] && s[2] - s[1] + 1 >= s[1] - s[0]), "{steps:?}");
    }

    #[test]
    fn a_training_in_pictures_ends_where_one_without_them_does() {
        let ask = Ask { n: 3, m: 2, p: 1.0, output: Output::Linear, ..Ask::default() };
        let (mut training, mut last, mut count) = (Training::new(ask).unwrap(), None, 0);
        while let Some(frame) = training.next() {
            assert!(frame.step == frame_step(count) && frame.plane.is_some());
            (last, count) = (Some(frame), count + 1);
        }
        let (last, whole) = (last.unwrap(), Training::new(ask).unwrap().last());
        assert_eq!((count, last.step, last.loss), (FRAMES + 1, STEPS, whole.loss));
        assert_eq!((&last.matrix, &last.plane), (&whole.matrix, &whole.plane));
        // The linear model keeps two of three features and reaches its optimum, in expectation.
        assert!(last.learned == 2 && last.loss >= last.optimum && last.loss / last.optimum - 1.0 < 0.01, "{} {}", last.loss, last.optimum);
        assert!(Training::new(Ask { n: 5, m: 3, ..ask }).unwrap().next().unwrap().plane.is_none());
    }
}
