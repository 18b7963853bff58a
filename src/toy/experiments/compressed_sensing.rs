//! Compressed sensing: how many features a dimension holds, beside how many measurements a sparse vector needs.
//!
//! To recover an n-dimensional vector whose entries are on with probability p takes m of the order of -n p ln p measurements. A trained model need not
//! store all n: with |W|_F^2 features in m dimensions the bound reads D* = m / |W|_F^2 >= c (-p ln p). The theory leaves c open, so the test is whether
//! one c serves all p and m, as D* itself falls by an order of magnitude. n = 400, so that no model runs out of features.

use super::{Ask, Experiment, Outcome, Picture, train};
use crate::artifact::{Figure, Progress};
use crate::toy::Result;
use crate::toy::draw::charts::{Axis, Chart};
use crate::toy::draw::{Anchor, BLUE, GREEN, ORANGE, Scene};
use crate::toy::model::{Instances, Model, Schedule, Setting};
use crate::toy::theory;
use serde_json::json;

pub const COMPRESSED_SENSING: Experiment = Experiment {
    name: "compressed-sensing",
    about: "dimensions that a model spends on a feature, beside the compressed-sensing bound -p ln p",
    source: "Superposition and compressed sensing",
    run,
};

const N: usize = 400;
const M: [usize; 2] = [8, 16];

struct Point {
    m: usize,
    p: f64,
    /// D*.
    dimensions: f64,
    learned: usize,
}

impl Point {
    /// Measurements by the bound without its constant, for as many features as the model represents.
    fn constant(&self) -> f64 {
        self.dimensions / theory::compressed_sensing_bound(1, self.p)
    }
}

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let ps: &[f64] = if ask.quick { &[0.2, 0.1, 0.05, 0.02, 0.01] } else { &[0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03, 0.02, 0.014, 0.01] };
    let mut points = Vec::new();
    for m in M {
        let settings = ps.iter().map(|&p| Setting::uniform(N, p)).collect();
        let mut all = Instances::new(Model::relu_output(N, m), settings, ask.seed);
        train(&format!("m = {m}"), &mut all, Schedule::falling(ask.pick(1_500, 5_000), 256, 1e-2), progress)?;
        points.extend(ps.iter().enumerate().map(|(i, &p)| {
            let w = all.weights(i).w_in;
            Point { m, p, dimensions: theory::dimensions_per_feature(w, m), learned: theory::learned(w, m) }
        }));
    }
    let (dimensions, bound): (Vec<f64>, Vec<f64>) = points.iter().map(|o| (o.dimensions, theory::compressed_sensing_bound(1, o.p))).unzip();
    let spread = |of: &[f64]| of.iter().copied().fold(0.0, f64::max) / of.iter().copied().fold(f64::INFINITY, f64::min);
    let constants: Vec<f64> = points.iter().map(Point::constant).collect();
    let c = constants.iter().copied().fold(f64::INFINITY, f64::min);
    let growth: Vec<f64> = points.iter().zip(&points[ps.len()..]).map(|(a, b)| 2.0 * a.dimensions / b.dimensions).collect();
    let figures = vec![
        Figure::new("all models", "rank correlation of D* and -p ln p", &[theory::spearman(&dimensions, &bound)]).at_least(0.95),
        Figure::new("all models", "largest D* by the smallest", &[spread(&dimensions)]).at_least(5.0),
        Figure::new("all models", "largest D* / (-p ln p) by the smallest", &[spread(&constants)]).at_most(2.0),
        Figure::new("m=16 beside m=8, mean over p", "times as many features represented", &[growth.iter().sum::<f64>() / growth.len() as f64])
            .at_least(2.0),
        Figure::new("all models", "c: smallest D* / (-p ln p)", &[c]),
        Figure::new("all models", "most features learned of 400", &[points.iter().map(|o| o.learned as f64).fold(0.0, f64::max)]),
    ];
    let says = "Sparse features need fewer dimensions each, and the dimensions that trained models spend on a feature fall with its probability p as -p ln p \
                does. Over all p and both sizes they stay between c and twice c of it, while they themselves change by far more; a model of twice the \
                dimensions holds a little more than twice the features, since many dimensions pack better than few. This shows the shape that the bound \
                allows, not the bound itself: its constant is read off these models, and they minimise a squared error instead of recovering every vector."
        .into();
    let numbers: Vec<_> = points
        .iter()
        .map(|o| json!({ "m": o.m, "p": o.p, "dimensions_per_feature": o.dimensions, "learned": o.learned, "constant": o.constant() }))
        .collect();
    let caption =
        "Dimensions per represented feature (D*) of trained models beside c times -p ln p, with c from the most crowded model; right: their ratio"
            .into();
    let picture = Picture { name: "compressed-sensing", caption, scene: picture(&points, c) };
    Ok(Outcome { says, figures, data: json!({ "n": N, "c": c, "points": numbers }), pictures: vec![picture] })
}

fn picture(points: &[Point], c: f64) -> Scene {
    let (w, h) = (430.0, 300.0);
    let x = Axis::log(2.8, 115.0);
    let mut left = Chart::new("Dimensions per feature, D*", "1 / p", "", x, Axis::around(points.iter().map(|o| o.dimensions), true), w, h);
    let shape: Vec<(f64, f64)> =
        (0..=100).map(|i| 0.01 * 30f64.powf(i as f64 / 100.0)).map(|p| (1.0 / p, c * theory::compressed_sensing_bound(1, p))).collect();
    let mut right = Chart::new("D* / (-p ln p)", "1 / p", "", x, Axis::linear(0.0, 2.0), w, h);
    for (m, colour) in M.into_iter().zip([BLUE, GREEN]) {
        let of = |what: fn(&Point) -> f64| points.iter().filter(|o| o.m == m).map(|o| (1.0 / o.p, what(o))).collect::<Vec<_>>();
        left.named(&format!("trained, m = {m}"), &of(|o| o.dimensions), colour);
        left.points(&of(|o| o.dimensions), 3.5, colour);
        right.named(&format!("m = {m}"), &of(Point::constant), colour);
        right.points(&of(Point::constant), 3.5, colour);
    }
    left.named("c (-p ln p)", &shape, ORANGE);
    right.level(c, "c", Anchor::End);
    Scene::side_by_side("Superposition beside compressed sensing, n = 400", &[left.scene, right.scene], 2)
}
