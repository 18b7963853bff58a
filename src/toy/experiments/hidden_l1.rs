//! L1 on the hidden layer: it removes superposition by killing the features that are not worth their price, and the loss pays for it.
//!
//! n = 20, m = 5, I_i = 0.7^i, p = 0.03; the penalty is lambda times the sum of |h|. A feature alone on an axis with weight u costs
//! p (I (1 - u^2)^2 / 3 + lambda u / 2); that is below p I / 3, the price of ignoring it, for some u exactly if lambda / I < (8/9) sqrt(2/3) = 0.726.
//! A feature off the axes pays more, so that no model should learn a feature of importance below lambda / 0.726.
//! Source: Elhage et al. 2022, "Strategic picture: approach 1"; the threshold is ours.

use super::{Ask, Experiment, Outcome, Picture, best_of, train};
use crate::artifact::{Figure, Progress};
use crate::toy::Result;
use crate::toy::draw::charts::{self, Axis, Chart};
use crate::toy::draw::{Anchor, BLUE, FAINT, GREY, ORANGE, Scene};
use crate::toy::model::{Instances, Model, Schedule, Setting};
use crate::toy::theory;
use serde_json::json;

pub const HIDDEN_L1: Experiment = Experiment {
    name: "hidden-l1",
    about: "a penalty on the hidden layer of a sparse ReLU model: superposition falls, the loss rises",
    source: "The strategic picture of superposition (approach 1)",
    run,
};

const N: usize = 20;
const M: usize = 5;
const P: f64 = 0.03;
const BASE: f64 = 0.7;

/// Coefficients of the penalty.
const LAMBDAS: [f64; 8] = [0.0, 0.02, 0.04, 0.08, 0.12, 0.16, 0.2, 0.3];

/// The best model of one lambda.
struct Point {
    lambda: f64,
    /// Without the penalty.
    loss: f64,
    learned: usize,
    /// Of the learned features, the mean interference.
    interference: f64,
}

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let restarts = ask.pick(10, 24);
    let rows = ask.pick(50_000, 200_000);
    let (mut points, mut panels): (Vec<Point>, Vec<Scene>) = (Vec::new(), Vec::new());
    for lambda in LAMBDAS {
        let model = Model { hidden_l1: lambda as f32, ..Model::relu_output(N, M) };
        let mut all = Instances::new(model, vec![Setting::falling(N, P, BASE); restarts], ask.seed);
        train(&format!("lambda {lambda}"), &mut all, Schedule::falling(ask.pick(3_000, 8_000), 256, 1e-2), progress)?;
        let (best, _) = best_of(&all, restarts, rows)[0];
        // The same weights and samples without the penalty.
        all.model.hidden_l1 = 0.0;
        let (loss, w) = (all.losses(rows)[best], all.weights(best));
        points.push(point(lambda, loss, w.w_in));
        panels.push(charts::superposition(&format!("lambda = {lambda}"), w.w_in, M, w.b, 150.0));
    }
    let (free, last) = (&points[0], &points[LAMBDAS.len() - 1]);
    let steps = LAMBDAS.len() as f64 - 1.0;
    let mut figures = vec![
        Figure::new("lambda=0", "features learned in 5 dimensions", &[free.learned as f64]).published(10.0).within(9.0, 11.0),
        Figure::new("all lambda", "steps at which no more features are learned", &[count(&points, |a, b| b.learned <= a.learned)]).at_least(steps),
        Figure::new("all lambda", "steps at which the loss without the penalty rises", &[count(&points, |a, b| b.loss > a.loss)]).at_least(steps),
        Figure::new(&format!("lambda={}", last.lambda), "times the loss at lambda 0", &[last.loss / free.loss]).at_least(2.0),
        Figure::new(&format!("lambda={}", last.lambda), "interference that a learned feature meets", &[last.interference]).at_most(0.01),
    ];
    for o in &points[1..] {
        let worth = worth(o.lambda) as f64;
        let figure = Figure::new(&format!("lambda={}", o.lambda), "features learned", &[o.learned as f64]).published(worth);
        // Where there is an axis for each that is worth it, all of them are learned.
        figures.push(if worth <= M as f64 { figure.within(worth, worth) } else { figure.at_most(worth) });
    }
    let scene = Scene::side_by_side("A penalty on the hidden layer, 20 features in 5 dimensions, p = 0.03", &panels, 4);
    let caption = "W^T W, bias, and each feature's length from blue (a direction of its own) to orange (shared), as the penalty lambda grows".into();
    let price = "Features learned and loss without the penalty, against lambda; grey: features that are worth their price".into();
    let pictures =
        vec![Picture { name: "hidden-l1", caption, scene }, Picture { name: "hidden-l1-price", caption: price, scene: price_picture(&points) }];
    let says = "Without a penalty the sparse model stores twice as many features as it has dimensions. A penalty on the hidden activations turns features onto \
                the axes and takes the least important ones away, where one no longer pays for the activation it needs; pairs on the two sides of an axis \
                stay longest, because sharing an axis costs no activation. At the largest penalty three features are left, each with a direction of its \
                own, and the loss without the penalty is many times what it was."
        .into();
    let data: Vec<_> = points
        .iter()
        .map(|o| json!({ "lambda": o.lambda, "loss": o.loss, "learned": o.learned, "worth": worth(o.lambda), "interference": o.interference }))
        .collect();
    Ok(Outcome { says, figures, data: data.into(), pictures })
}

fn point(lambda: f64, loss: f64, w: &[f32]) -> Point {
    let (norms, interference) = (theory::norms(w, M), theory::interference(w, M));
    let met: Vec<f64> = norms.iter().zip(interference).filter(|(norm, _)| **norm > theory::LEARNED).map(|(_, i)| i).collect();
    Point { lambda, loss, learned: met.len(), interference: met.iter().sum::<f64>() / met.len().max(1) as f64 }
}

/// At how many steps of lambda something holds.
fn count(points: &[Point], holds: fn(&Point, &Point) -> bool) -> f64 {
    points.windows(2).filter(|two| holds(&two[0], &two[1])).count() as f64
}

/// Features of importance above lambda / 0.726.
fn worth(lambda: f64) -> usize {
    let price = lambda / (8.0 / 9.0 * (2.0f64 / 3.0).sqrt());
    (0..N as i32).filter(|&i| BASE.powi(i) > price).count()
}

fn price_picture(points: &[Point]) -> Scene {
    // Lambda 0 stands where a logarithmic axis begins.
    let at = |o: &Point| o.lambda.max(0.005);
    let x = Axis::log(0.005, 0.4);
    let mut left = Chart::new("Features learned", "lambda (leftmost: 0)", "", x, Axis::linear(0.0, 15.5), 400.0, 280.0);
    let lambdas = || (0..=200).map(|i| 0.005 * 80f64.powf(i as f64 / 200.0));
    left.named("worth their price", &lambdas().map(|l| (l, worth(l) as f64)).collect::<Vec<_>>(), GREY);
    let learned: Vec<(f64, f64)> = points.iter().map(|o| (at(o), o.learned as f64)).collect();
    left.named("learned", &learned, BLUE);
    left.points(&learned, 3.5, BLUE);
    left.level(M as f64, "", Anchor::End);
    let corner = left.at(0.005, M as f64);
    left.scene.text(corner.0 + 8.0, corner.1 - 4.0, "hidden dimensions", 10.0, Anchor::Start, FAINT);
    let losses: Vec<(f64, f64)> = points.iter().map(|o| (at(o), o.loss)).collect();
    let y = Axis::around(losses.iter().map(|l| l.1), true);
    let mut right = Chart::new("Loss without the penalty", "lambda (leftmost: 0)", "", x, y, 400.0, 280.0);
    right.curve(&losses, 2.0, ORANGE);
    right.points(&losses, 3.5, ORANGE);
    Scene::side_by_side("", &[left.scene, right.scene], 2)
}
