//! Adversarial vulnerability: superposition opens a model to small attacks, about in proportion to the features it packs into a dimension.
//!
//! n = 400, m = 10, I = 1, p from 1 to 0.01. Gradients are masked where a ReLU is off, so the attack is the analytic one: x moves by a tenth of the mean
//! input norm along plus or minus (W^T W)_i, for the feature i and sign that hurt this sample most. What it adds to the loss is measured beside what it
//! adds to that of a model without superposition on the same samples: m features of weight 1, the mean for the others.

use super::{Ask, Experiment, Outcome, Picture, train};
use crate::artifact::{Figure, Progress};
use crate::kernels::simd::{LANES, dispatch, sum_lanes};
use crate::toy::Result;
use crate::toy::data::{Draws, Inputs};
use crate::toy::draw::charts::{Axis, Chart};
use crate::toy::draw::{BLUE, ORANGE, Scene};
use crate::toy::model::{Instances, Model, Schedule, Setting, Weights};
use crate::toy::theory;
use rayon::prelude::*;
use serde_json::json;

pub const ADVERSARIAL: Experiment = Experiment {
    name: "adversarial",
    about: "400 equal features in 10 dimensions: what the worst small change of an input costs, from dense to sparse",
    source: "Superposition and adversarial robustness",
    run,
};

const N: usize = 400;
const M: usize = 10;

/// Length of the attack by the mean norm of an input.
const ATTACK: f32 = 0.1;

/// One model at one p.
#[derive(Clone, Copy)]
struct Point {
    p: f64,
    /// 1/D*.
    features_per_dimension: f64,
    /// Loss that the attack adds, by that of the model without superposition.
    vulnerability: f64,
}

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let (n_points, models) = (ask.pick(8, 12), ask.pick(1, 2));
    let ps: Vec<f64> = (0..n_points).map(|i| 100f64.powf(-(i as f64) / (n_points - 1) as f64)).collect();
    let settings = ps.iter().flat_map(|&p| vec![Setting::uniform(N, p); models]).collect();
    let mut all = Instances::new(Model::relu_output(N, M), settings, ask.seed);
    train("models to attack", &mut all, Schedule::falling(ask.pick(1_500, 3_000), 256, 1e-2), progress)?;
    let samples = ask.pick(256, 768);
    let point = |i: usize| {
        let (p, w) = (ps[i / models], all.weights(i));
        let mut x = vec![0.0; N * samples];
        Inputs::INDEPENDENT.fill(&mut Draws::new(ask.seed, "toy/attack", (i / models) as u64), &[p as f32; N], &mut x);
        let apart = Apart::new(p);
        let vulnerability = attacked(w, &x) / attacked(apart.weights(), &x);
        Point { p, features_per_dimension: 1.0 / theory::dimensions_per_feature(w.w_in, M), vulnerability }
    };
    let each: Vec<Point> = (0..all.len()).into_par_iter().map(point).collect();
    let mean = |of: &[Point], what: fn(&Point) -> f64| of.iter().map(what).sum::<f64>() / of.len() as f64;
    let points: Vec<Point> = each
        .chunks(models)
        .map(|of| Point { p: of[0].p, features_per_dimension: mean(of, |o| o.features_per_dimension), vulnerability: mean(of, |o| o.vulnerability) })
        .collect();

    let (dense, sparse) = (points[0], points[n_points - 1]);
    let (vulnerability, density): (Vec<f64>, Vec<f64>) = points.iter().map(|o| (o.vulnerability, o.features_per_dimension)).unzip();
    let figures = vec![
        Figure::new("p=1", "vulnerability beside a model without superposition", &[dense.vulnerability]).published(1.0),
        Figure::new("p=0.01", "vulnerability beside a model without superposition", &[sparse.vulnerability]).at_least(3.0),
        Figure::new("p=0.01 beside p=1", "times as vulnerable", &[sparse.vulnerability / dense.vulnerability]).published(3.0).at_least(3.0),
        Figure::new("all p", "rank correlation of vulnerability and 1/D*", &[theory::spearman(&vulnerability, &density)]).at_least(0.95),
    ];
    let says = "A dense model has no superposition, and the worst small change of its input costs it what it costs a model that gives every feature it keeps a \
                direction of its own. As features get sparse the same relative change costs several times as much, because a change along one feature's \
                direction moves all that share it at once. Vulnerability rises in the order in which the model packs features into its dimensions."
        .into();
    let numbers: Vec<_> =
        points.iter().map(|o| json!({ "p": o.p, "features_per_dimension": o.features_per_dimension, "vulnerability": o.vulnerability })).collect();
    let caption = "Loss that the worst attack adds, as a multiple of what it adds without superposition, and features per dimension (1/D*), against \
                   sparsity; right: one against the other, a point for each model"
        .into();
    let picture = Picture { name: "adversarial", caption, scene: picture(&points, &each) };
    Ok(Outcome { says, figures, data: json!({ "n": N, "m": M, "points": numbers }), pictures: vec![picture] })
}

fn picture(points: &[Point], each: &[Point]) -> Scene {
    let both = || each.iter().flat_map(|o| [o.vulnerability, o.features_per_dimension]);
    let (w, h) = (430.0, 300.0);
    let mut left = Chart::new("Over sparsity", "1 / p", "", Axis::log(1.0, 100.0), Axis::linear(0.0, both().fold(0.0, f64::max) * 1.2), w, h);
    left.named("vulnerability", &points.iter().map(|o| (1.0 / o.p, o.vulnerability)).collect::<Vec<_>>(), ORANGE);
    left.named("features per dimension, 1/D*", &points.iter().map(|o| (1.0 / o.p, o.features_per_dimension)).collect::<Vec<_>>(), BLUE);
    left.points(&each.iter().map(|o| (1.0 / o.p, o.vulnerability)).collect::<Vec<_>>(), 2.5, ORANGE);
    let (x, y) = (Axis::around(each.iter().map(|o| o.features_per_dimension), false), Axis::around(each.iter().map(|o| o.vulnerability), false));
    let mut right = Chart::new("One against the other", "features per dimension, 1/D*", "vulnerability", x, y, w, h);
    for o in each {
        right.points(&[(o.features_per_dimension, o.vulnerability)], 4.0, BLUE.towards(ORANGE, -o.p.log10() / 2.0));
    }
    Scene::side_by_side("Attacks on a ReLU model, 400 features in 10 dimensions", &[left.scene, right.scene], 2)
}

/// The model without superposition: the first m features have directions of their own, the others are answered by their mean.
struct Apart {
    w: Vec<f32>,
    b: Vec<f32>,
}

impl Apart {
    fn new(p: f64) -> Self {
        let one = |index: usize| if index / M == index % M { 1.0 } else { 0.0 };
        Apart { w: (0..N * M).map(one).collect(), b: (0..N).map(|i| if i < M { 0.0 } else { p as f32 / 2.0 }).collect() }
    }

    fn weights(&self) -> Weights<'_> {
        Weights { n: N, m: M, w_in: &self.w, w_out: &self.w, b: &self.b }
    }
}

/// What the worst attack adds to the loss, mean over the samples of x (n, R).
fn attacked(w: Weights, x: &[f32]) -> f64 {
    let r = x.len() / N;
    let sample = |s: usize| x.iter().skip(s).step_by(r).copied().collect::<Vec<f32>>();
    let norm = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
    let size = ATTACK * (0..r).map(|s| norm(&sample(s))).sum::<f32>() / r as f32;
    let gram: Vec<f32> = theory::gram(w.w_in, M).into_iter().map(|g| g as f32).collect();
    let through = |x: &[f32]| gram.chunks_exact(N).map(|row| row.iter().zip(x).map(|(g, x)| g * x).sum()).collect::<Vec<f32>>();
    // What each attack adds to the outputs before their ReLU. W^T W is symmetric: its rows are its columns.
    let moves: Vec<Vec<f32>> = gram
        .chunks_exact(N)
        .filter(|row| norm(row) > 1e-6)
        .flat_map(|row| [size / norm(row), -size / norm(row)].map(|scale| through(row).iter().map(|v| v * scale).collect()))
        .collect();
    let added = |s: usize| {
        let x = sample(s);
        let pre: Vec<f32> = through(&x).iter().zip(w.b).map(|(v, b)| v + b).collect();
        let worst = moves.iter().map(|by| moved_loss(&pre, by, &x)).fold(0.0, f32::max);
        (worst - moved_loss(&pre, &[0.0; N], &x)) as f64
    };
    (0..r).map(added).sum::<f64>() / r as f64
}

dispatch! {
    /// Sum of (ReLU(pre + by) - x)^2 over features. Shapes: all (n,).
    fn moved_loss(pre: &[f32], by: &[f32], x: &[f32]) -> f32 {
        let mut sums = [0.0f32; LANES];
        for ((pre, by), x) in pre.chunks(LANES).zip(by.chunks(LANES)).zip(x.chunks(LANES)) {
            for (((pre, by), x), sum) in pre.iter().zip(by).zip(x).zip(sums.iter_mut()) {
                let error = (pre + by).max(0.0) - x;
                *sum = error.mul_add(error, *sum);
            }
        }
        sum_lanes(&sums)
    }
}
