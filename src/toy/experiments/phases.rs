//! Phase diagrams: an extra feature beside one (n = 2, m = 1) or two (n = 3, m = 2) of importance 1, over its importance and the probability of all.
//!
//! Twenty models a cell (with three features one in three finds the best pair); the best by exact loss is classified and compared with the closed forms of `theory::phase_losses`. Cells nearer than a tenth of a
//! decade to a boundary are left out of the score: trained biases move it a little, and around I = 1, p = 1 there is a blurred corner.

use super::{Ask, Experiment, Outcome, Picture, train};
use crate::artifact::{Figure, Progress};
use crate::toy::Result;
use crate::toy::draw::charts::{Axis, Chart, key};
use crate::toy::draw::{BLUE, Colour, GREEN, GREY, HAIR, INK, ORANGE, Scene};
use crate::toy::exact::expected_losses;
use crate::toy::model::{Instances, Model, Schedule, Setting, Weights};
use crate::toy::theory::{self, PHASES, Phase};
use serde_json::json;

pub const PHASES_EXPERIMENT: Experiment = Experiment {
    name: "phases",
    about: "phase diagrams of an extra feature beside one in one dimension, and beside two in two",
    source: "Superposition as a phase change",
    run,
};

/// Decades of a boundary within which a cell is not scored.
const MARGIN: f64 = 0.1;

/// One cell: what its best model became.
struct Cell {
    importance: f64,
    p: f64,
    phase: Phase,
    loss: f64,
}

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let (mut figures, mut pictures, mut data) = (Vec::new(), Vec::new(), Vec::new());
    let mut diagrams = Vec::new();
    for n in [2, 3] {
        let case = format!("n={n} m={}", n - 1);
        let side = ask.pick(9, 20);
        let log = |low: f64, high: f64, i: usize| low * (high / low).powf(i as f64 / (side - 1) as f64);
        let at: Vec<(f64, f64)> = (0..side * side).map(|i| (log(0.1, 10.0, i % side), log(0.01, 1.0, i / side))).collect();
        let cells = trained(&format!("{case}, {side} x {side} cells"), n, &at, ask, progress)?;
        let scored: Vec<&Cell> = cells.iter().filter(|c| distance(n, c) > MARGIN).collect();
        let right = scored.iter().filter(|c| c.phase == predicted(n, c.importance, c.p)).count() as f64 / scored.len() as f64;
        figures.push(Figure::new(&case, "share of cells in the predicted phase", &[right]).published(1.0).at_least(0.95));
        let worst = cells.iter().map(|c| c.loss / best(n, c.importance, c.p)).fold(0.0, f64::max);
        figures.push(Figure::new(&case, "largest loss over the best closed form", &[worst]).published(1.0).at_most(1.02));
        diagrams.push(diagram(n, side, &cells));
        let entry = |c: &Cell| json!([c.importance, c.p, format!("{:?}", c.phase), c.loss]);
        data.push(json!({ "n": n, "cells": cells.iter().map(entry).collect::<Vec<_>>() }));

        let (slopes, chart) = crossing(n, ask, progress)?;
        let v = theory::variance(CROSSING_P);
        figures.push(
            Figure::new(&case, &format!("slope of the loss by I below 1, p={CROSSING_P}"), &[slopes.0]).published(v).within(0.95 * v, 1.05 * v),
        );
        figures.push(
            Figure::new(&case, &format!("slope of the loss by I above 1, p={CROSSING_P}"), &[slopes.1]).published(0.0).within(-0.05 * v, 0.05 * v),
        );
        pictures.push(Picture {
            name: if n == 2 { "crossing-2-1" } else { "crossing-3-2" },
            caption: format!("The best loss of trained models at p = {CROSSING_P} (orange) follows one closed form and then the other: its slope jumps where they cross, as in a first-order phase change; v is a feature's variance, and trained biases gain a little on the closed forms ({case})"),
            scene: chart,
        });
    }
    let keys = key(&[
        ("ignored", GREY),
        ("a direction of its own", BLUE),
        ("shared, in opposite directions", ORANGE),
        ("of its own; two others share", GREEN),
    ]);
    diagrams.push(keys);
    pictures.insert(
        0,
        Picture {
            name: "phases",
            caption: "What becomes of the extra feature, over its importance and the probability of all features; lines are where closed forms cross"
                .into(),
            scene: Scene::side_by_side("Phases of an extra feature", &diagrams, 2),
        },
    );
    let says = "Whether a feature is ignored, gets a direction of its own or shares one changes at sharp lines, not bit by bit. Below the curved line features \
                are so rarely active together that two of them in opposite directions of one dimension cost less than dropping one. The lines are where \
                three simple loss formulas cross, and trained models find the side that is predicted."
        .into();
    Ok(Outcome { says, figures, data: data.into(), pictures })
}

/// The best of several models for each importance and probability.
fn trained(what: &str, n: usize, at: &[(f64, f64)], ask: &Ask, progress: &mut dyn Progress) -> Result<Vec<Cell>> {
    let restarts = ask.pick(16, 20);
    let setting = |&(importance, p): &(f64, f64)| {
        let mut setting = Setting::uniform(n, p);
        setting.importance[n - 1] = importance as f32;
        vec![setting; restarts]
    };
    let mut all = Instances::new(Model::relu_output(n, n - 1), at.iter().flat_map(setting).collect(), ask.seed);
    train(what, &mut all, Schedule::falling(ask.pick(2_000, 2_500), 128, 1e-2), progress)?;
    let losses = expected_losses(&all);
    let cell = |(i, &(importance, p)): (usize, &(f64, f64))| {
        let of = i * restarts..(i + 1) * restarts;
        let best = of.min_by(|a, b| losses[*a].total_cmp(&losses[*b])).expect("there are restarts");
        Cell { importance, p, phase: classified(all.weights(best)), loss: losses[best] }
    };
    Ok(at.iter().enumerate().map(cell).collect())
}

/// Whom the extra feature, the last one, shares its direction with.
fn classified(w: Weights) -> Phase {
    let extra = w.feature(w.n - 1);
    if theory::norms(extra, w.m)[0] < theory::LEARNED {
        return Phase::Ignored;
    }
    let opposite = |a: usize, b: usize| theory::cosine(w.feature(a), w.feature(b)) < -0.5 && theory::learned(w.w_in, w.m) == w.n;
    let others = w.n - 1;
    if (0..others).any(|i| opposite(i, others)) {
        Phase::Superposed
    } else if (0..others).any(|i| (0..i).any(|j| opposite(i, j))) {
        Phase::OthersSuperposed
    } else {
        Phase::Dedicated
    }
}

fn best(n: usize, importance: f64, p: f64) -> f64 {
    theory::phase_losses(n, importance, p).into_iter().fold(f64::INFINITY, f64::min)
}

fn predicted(n: usize, importance: f64, p: f64) -> Phase {
    let losses = theory::phase_losses(n, importance, p);
    let lowest = (0..4).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).expect("there are phases");
    PHASES[lowest]
}

/// Decades to the nearest boundary: of superposition along p, of importance along I.
fn distance(n: usize, cell: &Cell) -> f64 {
    let boundary = theory::phase_boundary(n, cell.importance);
    let along_p = (cell.p / boundary).log10().abs();
    // With two others they share among themselves from I = 1 on, also below the boundary.
    let sides_differ = n > 2 || cell.p > boundary * 10f64.powf(-MARGIN);
    if sides_differ { along_p.min(cell.importance.log10().abs()) } else { along_p }
}

fn colour(phase: Phase) -> Colour {
    match phase {
        Phase::Ignored => GREY.alpha(0.45),
        Phase::Dedicated => BLUE,
        Phase::Superposed => ORANGE,
        Phase::OthersSuperposed => GREEN,
    }
}

fn diagram(n: usize, side: usize, cells: &[Cell]) -> Scene {
    let half = |low: f64, high: f64| (high / low).powf(0.5 / (side - 1) as f64);
    let (wide, tall) = (half(0.1, 10.0), half(0.01, 1.0));
    let (x, y) = (Axis::log(0.1 / wide, 10.0 * wide), Axis::log(0.01 / tall, tall));
    let title = format!("{n} features in {} dimension{}", n - 1, if n == 2 { "" } else { "s" });
    let mut chart = Chart::new(&title, "importance of the extra feature", "probability p", x, y, 380.0, 330.0);
    for c in cells {
        chart.cell((c.importance / wide, c.importance * wide), (c.p / tall, c.p * tall), colour(c.phase));
    }
    let curve: Vec<(f64, f64)> =
        (0..=80).map(|i| 0.1 / wide * (100.0 * wide * wide).powf(i as f64 / 80.0)).map(|i| (i, theory::phase_boundary(n, i))).collect();
    chart.curve(&curve, 2.0, INK);
    let lower = if n == 2 { theory::phase_boundary(2, 1.0) } else { 0.01 / tall };
    chart.curve(&[(1.0, lower), (1.0, tall)], 2.0, INK);
    chart.scene
}

/// Where nothing is superposed and ignoring crosses dedicating.
const CROSSING_P: f64 = 0.75;

/// Slopes of the best loss by I on both sides of 1, and a chart.
fn crossing(n: usize, ask: &Ask, progress: &mut dyn Progress) -> Result<((f64, f64), Scene)> {
    let steps = ask.pick(8, 16);
    let at: Vec<(f64, f64)> = (0..=steps).map(|i| (0.4 * 6.25f64.powf(i as f64 / steps as f64), CROSSING_P)).collect();
    let cells = trained(&format!("n={n} along the importance"), n, &at, ask, progress)?;
    // Both ends of each side, away from the blurred corner.
    let slope = |side: Vec<&Cell>| {
        let (a, b) = (side[0], side[side.len() - 1]);
        (b.loss - a.loss) / (b.importance - a.importance)
    };
    let below = slope(cells.iter().filter(|c| c.importance < 0.75).collect());
    let above = slope(cells.iter().filter(|c| c.importance > 1.35).collect());
    let v = theory::variance(CROSSING_P);
    let y = Axis::linear(0.0, 1.25 * v);
    let mut chart = Chart::new(
        &format!("The crossing at p = {CROSSING_P}, n = {n}"),
        "importance I of the extra feature",
        "loss",
        Axis::log(0.4, 2.5),
        y,
        460.0,
        260.0,
    );
    let line = |f: &dyn Fn(f64) -> f64| (0..=60).map(|i| 0.4 * 6.25f64.powf(i as f64 / 60.0)).map(|i| (i, f(i))).collect::<Vec<_>>();
    chart.named("ignored: I v", &line(&|i| i * v), GREY);
    chart.named("of its own: v", &line(&|_| v), BLUE);
    chart.curve(&[(1.0, 0.0), (1.0, 1.25 * v)], 1.0, HAIR);
    chart.points(&cells.iter().map(|c| (c.importance, c.loss)).collect::<Vec<_>>(), 4.0, ORANGE);
    Ok(((below, above), chart.scene))
}
