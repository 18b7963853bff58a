//! Basic results: linear models keep the most important features, ReLU models superpose as features get sparse.
//!
//! n = 20, m = 5, I_i = 0.7^i, and n = 80, m = 20, I_i = 0.9^i, at seven probabilities. Oracle of the linear model: `theory::linear_optimum`.

use super::{Ask, Experiment, Outcome, Picture, best_of, train};
use crate::artifact::{Figure, Progress};
use crate::toy::Result;
use crate::toy::draw::{Scene, charts};
use crate::toy::exact::expected_loss_linear;
use crate::toy::model::{Instances, Model, Schedule, Setting};
use crate::toy::theory;
use serde_json::{Value, json};

pub const BASIC: Experiment = Experiment {
    name: "basic",
    about: "linear and ReLU models of 20 features in 5 dimensions and 80 in 20, from dense to sparse",
    source: "Demonstrating superposition; Basic results",
    run,
};

const P: [f64; 7] = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001];

/// Features with a norm above 1/2 that a reference run found at each p, n = 20, m = 5.
const LEARNED: [(f64, f64); 5] = [(1.0, 5.0), (0.3, 7.0), (0.1, 9.0), (0.03, 10.0), (0.01, 11.0)];

/// Instances of each p; the best is shown.
const RESTARTS: usize = 4;

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let (mut figures, mut pictures, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for (n, m, base, side) in [(20, 5, 0.7, 150.0), (80, 20, 0.9, 190.0)] {
        let case = format!("n={n} m={m}");
        let ps: &[f64] = if ask.quick && n == 80 { &[1.0, 0.01] } else { &P };
        let settings = || ps.iter().flat_map(|&p| vec![Setting::falling(n, p, base); RESTARTS]).collect::<Vec<_>>();
        let schedule = Schedule::falling(ask.pick(3_000, 6_000), 256, 1e-2);
        for (kind, model) in [("linear", Model::linear(n, m)), ("relu", Model::relu_output(n, m))] {
            if kind == "linear" && n == 80 && ask.quick {
                continue;
            }
            let mut all = Instances::new(model, settings(), ask.seed);
            train(&format!("{kind} {case}"), &mut all, schedule, progress)?;
            let best = best_of(&all, RESTARTS, ask.pick(50_000, 200_000));
            let panels: Vec<Scene> = ps
                .iter()
                .zip(&best)
                .map(|(&p, &(i, _))| {
                    let w = all.weights(i);
                    charts::superposition(&format!("p = {p}"), w.w_in, m, w.b, side)
                })
                .collect();
            pictures.push(Picture {
                name: match (kind, n) {
                    ("linear", 20) => "linear-20-5",
                    ("linear", _) => "linear-80-20",
                    (_, 20) => "relu-20-5",
                    _ => "relu-80-20",
                },
                caption: format!(
                    "W^T W (orange positive, blue negative), bias, and the length of each feature's direction from blue (its own) to orange (shared \
                     with others): the {kind} model, {n} features in {m} dimensions, importance {base}^i"
                ),
                scene: Scene::side_by_side(&format!("{} model, {case}", if kind == "linear" { "Linear" } else { "ReLU" }), &panels, 4),
            });
            for (&p, &(i, drawn)) in ps.iter().zip(&best) {
                let w = all.weights(i);
                let loss = if kind == "linear" { expected_loss_linear(&all.settings[i], w) } else { drawn };
                let (shown_w, shown_b) = if n == 20 { (w.w_in, w.b) } else { (&[] as &[f32], &[] as &[f32]) };
                data.push(json!({ "model": kind, "n": n, "m": m, "p": p, "loss": loss, "w": shown_w, "b": shown_b }));
                figures.extend(measured(&case, kind, p, &Measured { w: w.w_in, b: w.b, m, loss, importance: &all.settings[i].importance }));
            }
            if kind == "relu" {
                // Below p = 0.01 a feature is seen too rarely for its norm to settle.
                let seen = ps.iter().zip(&best).filter(|(p, _)| **p >= 0.01);
                let counts: Vec<usize> = seen.map(|(_, &(i, _))| theory::learned(all.weights(i).w_in, m)).collect();
                let rises = counts.windows(2).filter(|two| two[1] >= two[0]).count() as f64;
                let what = "steps from p = 1 to 0.01 at which as many features are learned or more";
                figures.push(Figure::new(&format!("relu {case}"), what, &[rises]).at_least(counts.len() as f64 - 1.0));
            }
        }
    }
    let says = "A linear model gives the most important features directions of their own and answers the mean for all others, however sparse they are. \
                With a ReLU the model does the same while features are dense; as they get sparse it stores more features than it has dimensions, first in \
                opposite pairs, then all over each other. The price is interference, which a negative bias filters out."
        .into();
    Ok(Outcome { says, figures, data: Value::from(data), pictures })
}

struct Measured<'a> {
    /// (n, m).
    w: &'a [f32],
    /// (n,).
    b: &'a [f32],
    m: usize,
    loss: f64,
    importance: &'a [f32],
}

/// What is asserted of one model; rows 1 to 4 of the target table.
fn measured(case: &str, kind: &str, p: f64, of: &Measured) -> Vec<Figure> {
    let n = of.b.len();
    let figure = |what: &str, value: f64| Figure::new(&format!("{kind} {case} p={p}"), what, &[value]);
    let optimum = theory::linear_optimum(of.importance, of.m, p);
    let mut figures = Vec::new();
    if kind == "linear" && p >= 0.01 {
        figures.push(figure("expected loss", of.loss).published(optimum).within(0.995 * optimum, 1.005 * optimum));
        if n == 20 {
            let norms = theory::norms(of.w, of.m);
            let kept = norms.iter().enumerate().filter(|(i, norm)| (*i < of.m) == (**norm > 0.5)).count();
            figures.push(figure("features kept or dropped as importance says", kept as f64).published(n as f64).at_least(n as f64));
            let off = of.b.iter().enumerate().map(|(i, b)| (*b as f64 - if i < of.m { 0.0 } else { p / 2.0 }).abs()).fold(0.0, f64::max);
            figures.push(figure("largest distance of a bias from 0 (kept) or p/2 (dropped)", off).at_most(0.02));
        }
    }
    if kind == "relu" {
        if p == 1.0 {
            figures.push(figure("loss", of.loss).published(optimum).within(0.98 * optimum, 1.01 * optimum));
        }
        let learned = figure("features learned", theory::learned(of.w, of.m) as f64);
        figures.push(match (n, LEARNED.iter().find(|(at, _)| *at == p)) {
            // The reference is 11 to 12 here.
            (20, Some((0.01, reference))) => learned.published(*reference).within(reference - 1.0, reference + 2.0),
            (20, Some((_, reference))) => learned.published(*reference).within(reference - 1.0, reference + 1.0),
            (80, _) if p == 0.01 => learned.at_least(35.0),
            _ => learned,
        });
        if n == 20 && p >= 0.01 {
            let sum = theory::dimensionality(of.w, of.m).iter().sum::<f64>();
            figures.push(figure("sum of dimensionalities", sum).published(5.0).within(4.95, 5.0 + 1e-4));
        }
    }
    figures
}
