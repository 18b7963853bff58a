//! Uniform superposition: n = 400 features of equal importance in m = 30 dimensions. Dimensions per feature stick at 1/2 over a range of sparsity, and
//! the dimensionality of single features sticks at the fractions of regular polytopes.

use super::{Ask, Experiment, Outcome, Picture, train};
use crate::artifact::{Figure, Progress};
use crate::toy::Result;
use crate::toy::draw::charts::{Axis, Chart};
use crate::toy::draw::{Anchor, BLUE, ORANGE, Scene};
use crate::toy::model::{Instances, Model, Schedule, Setting};
use crate::toy::theory;
use serde_json::json;

pub const GEOMETRY: Experiment = Experiment {
    name: "geometry",
    about: "400 equal features in 30 dimensions: dimensions per feature, and fractions at which single features stick",
    source: "The geometry of superposition",
    run,
};

const N: usize = 400;
const M: usize = 30;

/// Polytopes and the dimensionality of each of their vertices.
const STICKY: [(f64, &str); 6] = [
    (1.0, "1"),
    (3.0 / 4.0, "3/4 tetrahedron"),
    (2.0 / 3.0, "2/3 triangle"),
    (0.5, "1/2 digon"),
    (0.4, "2/5 pentagon"),
    (0.375, "3/8 square antiprism"),
];

/// A reference run at one p: D*, features learned, how many of them are within 0.02 of 1/2, 0.02 of 2/5, 0.012 of 3/8.
const REFERENCE: [(f64, f64, [f64; 4]); 10] = [
    (0.50, 0.970, [6.0, 0.0, 2.0, 1.0]),
    (0.40, 0.852, [32.0, 10.0, 3.0, 2.0]),
    (0.35, 0.607, [51.0, 30.0, 1.0, 2.0]),
    (0.30, 0.504, [58.0, 55.0, 0.0, 0.0]),
    (0.25, 0.482, [60.0, 58.0, 0.0, 0.0]),
    (0.20, 0.441, [64.0, 22.0, 10.0, 0.0]),
    (0.17, 0.394, [70.0, 0.0, 11.0, 11.0]),
    (0.14, 0.331, [84.0, 0.0, 2.0, 26.0]),
    (0.10, 0.242, [126.0, 0.0, 0.0, 0.0]),
    (0.03, 0.088, [290.0, 0.0, 0.0, 0.0]),
];

/// Points between those of the reference, for the curve.
const BETWEEN: [f64; 6] = [1.0, 0.7, 0.225, 0.12, 0.07, 0.05];

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let all_p: Vec<f64> = REFERENCE.iter().map(|r| r.0).chain(BETWEEN).collect();
    let mut ps = ask.pick(vec![0.30, 0.25, 0.17, 0.14], all_p);
    ps.sort_by(|a, b| b.total_cmp(a));
    let settings = ps.iter().map(|&p| Setting::uniform(N, p)).collect();
    let mut all = Instances::new(Model::relu_output(N, M), settings, ask.seed);
    train(&format!("{} models of {N} features", ps.len()), &mut all, Schedule::falling(ask.pick(1_500, 3_000), 128, 1e-2), progress)?;

    let (mut figures, mut curve, mut dots, mut data) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut largest_sum = 0.0f64;
    // Learned features of the range in which pentagons and antiprisms are expected, and how many of them are there.
    let (mut of_range, mut near_either) = (0.0, 0.0);
    for (i, &p) in ps.iter().enumerate() {
        let w = all.weights(i).w_in;
        let (norms, dimensions, star) = (theory::norms(w, M), theory::dimensionality(w, M), theory::dimensions_per_feature(w, M));
        largest_sum = largest_sum.max(dimensions.iter().sum());
        let learned: Vec<f64> = dimensions.iter().zip(&norms).filter(|(_, norm)| **norm > theory::LEARNED).map(|(d, _)| *d).collect();
        if (0.14..=0.17).contains(&p) {
            of_range += learned.len() as f64;
            near_either += learned.iter().filter(|d| (*d - 0.4).abs() < 0.02 || (*d - 0.375).abs() < 0.012).count() as f64;
        }
        curve.push((1.0 / p, star));
        dots.extend(learned.iter().map(|&d| (1.0 / p, d)));
        data.push(json!({ "p": p, "d_star": star, "sum": dimensions.iter().sum::<f64>(), "dimensionality": learned }));
        figures.extend(measured(p, star, &learned));
    }
    figures.push(Figure::new("p=.14 and .17 together", "share near 2/5 or 3/8", &[near_either / of_range]).published(50.0 / 154.0).at_least(0.25));
    figures.push(Figure::new("all", "largest sum of dimensionalities", &[largest_sum]).published(M as f64).at_most(M as f64 + 1e-4));

    let mut stars = Chart::new(
        "Dimensions per feature, D* = m / |W|^2",
        "1 / p (sparser to the right)",
        "D*",
        Axis::log(1.0, 40.0),
        Axis::linear(0.0, 1.05),
        640.0,
        300.0,
    );
    stars.level(1.0, "1 a feature: no superposition", Anchor::End);
    stars.level(0.5, "1/2: opposite pairs", Anchor::End);
    stars.curve(&curve, 2.0, ORANGE);
    stars.points(&curve, 3.5, ORANGE);
    let mut scatter = Chart::new(
        "Dimensionality of each learned feature",
        "1 / p (sparser to the right)",
        "D_i",
        Axis::log(1.0, 40.0),
        Axis::linear(0.0, 1.05),
        640.0,
        420.0,
    );
    // Neighbours have their names at different ends.
    let (last, others) = STICKY.split_last().expect("there are fractions");
    others.iter().enumerate().for_each(|(i, (at, name))| scatter.level(*at, name, if i % 2 == 0 { Anchor::End } else { Anchor::Start }));
    // 2/5 is close above it.
    scatter.level_below(last.0, last.1, Anchor::Start);
    scatter.points(&dots, 2.2, BLUE.alpha(0.55));
    scatter.curve(&curve, 1.5, ORANGE);
    let pictures = vec![
        Picture {
            name: "dimensions-per-feature",
            caption: "Hidden dimensions for each feature stored, over sparsity: a plateau at one half, where all features are in opposite pairs"
                .into(),
            scene: stars.scene,
        },
        Picture {
            name: "dimensionality",
            caption: "Each dot is a feature: dimensionalities gather on the fractions of regular polytopes; the curve is D* = m / |W|^2, which features that are hardly learned bring down".into(),
            scene: scatter.scene,
        },
        Picture { name: "histogram", caption: "How many features of all models have which dimensionality; orange lines are the fractions of the regular bodies named above".into(), scene: histogram(&dots) },
    ];
    let says = "Features of equal importance do not share dimensions evenly: over a wide range of sparsity all of them stand in opposite pairs, half a \
                dimension each. Where the pairs give way, single features gather at the fractions of other regular bodies, pentagons and square antiprisms \
                before all. Whatever the arrangement, the fractions add up to the number of dimensions."
        .into();
    Ok(Outcome { says, figures, data: data.into(), pictures })
}

/// Rows 7 to 9 of the target table, and the reference run's figures beside ours.
fn measured(p: f64, star: f64, learned: &[f64]) -> Vec<Figure> {
    let figure = |what: &str, value: f64| Figure::new(&format!("p={p}"), what, &[value]);
    let near = |at: f64, within: f64| learned.iter().filter(|d| (*d - at).abs() < within).count() as f64;
    let counts = [learned.len() as f64, near(0.5, 0.02), near(0.4, 0.02), near(0.375, 0.012)];
    let mut star = figure("D*", star);
    if p == 0.25 {
        star = star.within(0.46, 0.51);
    }
    if p == 0.30 {
        star = star.within(0.48, 0.53);
    }
    let Some((_, reference, of_reference)) = REFERENCE.iter().find(|r| r.0 == p) else { return vec![star] };
    let mut figures = vec![star.published(*reference)];
    let what = ["features learned", "within .02 of 1/2", "within .02 of 2/5", "within .012 of 3/8"];
    figures.extend(what.iter().zip(counts).zip(of_reference).map(|((what, ours), reference)| figure(what, ours).published(*reference)));
    if p == 0.25 {
        figures.push(figure("share within .02 of 1/2", counts[1] / counts[0]).published(58.0 / 60.0).at_least(0.85));
    }
    figures
}

fn histogram(dots: &[(f64, f64)]) -> Scene {
    const BINS: usize = 84;
    let mut counts = [0usize; BINS];
    dots.iter().for_each(|(_, d)| counts[((d / 1.05 * BINS as f64) as usize).min(BINS - 1)] += 1);
    let top = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let mut chart =
        Chart::new("Features by dimensionality, all models", "D_i", "features", Axis::linear(0.0, 1.05), Axis::linear(0.0, 1.05 * top), 640.0, 260.0);
    for (i, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let edge = |i: usize| i as f64 * 1.05 / BINS as f64;
        chart.cell((edge(i), edge(i + 1)), (0.0, count as f64), BLUE);
    }
    for (at, _) in STICKY {
        chart.curve(&[(at, 0.0), (at, 1.05 * top)], 1.0, ORANGE.alpha(0.6));
    }
    chart.scene
}
