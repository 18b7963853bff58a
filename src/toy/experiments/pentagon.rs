//! Non-uniform superposition: five features in two dimensions make a regular pentagon; one of them made rarer or denser deforms it, until it snaps into
//! two opposite pairs with that feature at the origin.

use super::{Ask, Experiment, Outcome, Picture, train};
use crate::artifact::{Figure, Progress};
use crate::toy::Result;
use crate::toy::draw::charts::{Axis, Chart, plane};
use crate::toy::draw::{BLUE, Colour, GREY, ORANGE, Scene};
use crate::toy::exact::{expected_loss, expected_losses};
use crate::toy::model::{Instances, Model, Schedule, Setting, Weights};
use crate::toy::theory;
use serde_json::json;
use std::f64::consts::TAU;

pub const PENTAGON: Experiment = Experiment {
    name: "pentagon",
    about: "five features in two dimensions, and what one of another density does to the pentagon",
    source: "Non-uniform superposition",
    run,
};

const P: f64 = 0.05;

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let mut figures = Vec::new();
    let restarts = ask.pick(12, 24);
    let mut all = Instances::new(Model::relu_output(5, 2), vec![Setting::uniform(5, P); restarts], ask.seed);
    train("five equal features", &mut all, Schedule::falling(ask.pick(3_000, 5_000), 512, 1e-2), progress)?;
    let losses = expected_losses(&all);
    let best = (0..restarts).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).expect("there are restarts");
    let w = all.weights(best);
    let mut angles: Vec<f64> = w.w_in.chunks_exact(2).map(|v| (v[1] as f64).atan2(v[0] as f64)).collect();
    angles.sort_by(f64::total_cmp);
    let gap = |i: usize| (angles[(i + 1) % 5] - angles[i]).rem_euclid(TAU).to_degrees();
    let off = (0..5).map(|i| (gap(i) - 72.0).abs()).fold(0.0, f64::max);
    let dimensions = theory::dimensionality(w.w_in, 2);
    let furthest = dimensions.iter().map(|d| (d - 0.4).abs()).fold(0.0, f64::max);
    let length = theory::norms(w.w_in, 2).iter().sum::<f64>() / 5.0;
    let bias = w.b.iter().map(|b| *b as f64).sum::<f64>() / 5.0;
    let uniform = |what: &str, value: f64| Figure::new("pentagon", what, &[value]);
    figures.push(uniform("largest distance of a gap from 72 degrees", off).published(0.2).at_most(1.0));
    figures.push(uniform("largest distance of a dimensionality from 2/5", furthest).published(0.001).at_most(0.005));
    // The published loss is a mean over samples, the lowest of twelve: no regular pentagon has less than 0.00888 in expectation.
    figures.push(uniform("loss", losses[best]).published(0.00855));
    figures.push(uniform("loss over that of the best regular pentagon", losses[best] / regular_optimum()).published(1.0).within(0.995, 1.005));
    figures.push(uniform("mean |W_i|", length).published(1.133));
    figures.push(uniform("mean bias", bias).published(-0.24));
    figures.push(uniform("|W_i|^2 + b_i", length * length + bias).published(1.04).within(0.95, 1.15));

    let swept = sweep(P, ask, progress)?;
    // Where the paper's "two and a half times rarer" is: the denser all features are, the sooner the pairs win.
    let denser = sweep(2.0 * P, ask, progress)?;
    let crosses = |p: f64, swept: &[Branches]| {
        Figure::new(&format!("one feature rarer, p={p}"), "density ratio at which pairs win", &[crossing(swept)]).published(0.4)
    };
    figures.push(crosses(P, &swept));
    figures.push(crosses(2.0 * P, &denser).within(0.3, 0.5));

    let better = |s: &Branches| s.pentagon.min(s.digons);
    let ratio = |of: fn(&Branches) -> f64| swept.iter().map(|s| (s.ratio, of(s) / better(s))).collect::<Vec<_>>();
    let mut chart = Chart::new(
        "Loss of both arrangements over that of the better one",
        "density of one feature over that of the others",
        "",
        Axis::log(0.2, 2.0),
        Axis::linear(0.98, 1.02 * swept.iter().map(|s| s.pentagon.max(s.digons) / better(s)).fold(1.1, f64::max)),
        640.0,
        280.0,
    );
    for (name, branch, colour) in [("started as a pentagon", ratio(|s| s.pentagon), ORANGE), ("started as two pairs", ratio(|s| s.digons), BLUE)] {
        chart.named(name, &branch, colour);
        chart.points(&branch, 2.5, colour);
    }
    let mut shown = Vec::new();
    for wanted in [0.2, 0.3, 0.45, 0.7, 1.0, 2.0] {
        let off = |s: &Branches| (s.ratio / wanted).ln().abs();
        let s = swept.iter().min_by(|a, b| off(a).total_cmp(&off(b))).expect("the sweep has points");
        shown.push(plane(&format!("{:.2} times", s.ratio), &s.best, &colours(), 150.0));
    }
    let pictures = vec![
        Picture {
            name: "shapes",
            caption: "The better arrangement for one feature (orange) that is so many times as dense as the others (grey)".into(),
            scene: Scene::side_by_side("One feature of another density", &shown, 6),
        },
        Picture {
            name: "branches",
            caption: "Both arrangements are local optima for a rare feature; which is lower changes at a density ratio of about a quarter here, and of two fifths where all features are twice as dense".into(),
            scene: chart.scene,
        },
    ];
    let data = json!({ "pentagon": { "w": w.w_in, "b": w.b }, "sweep": swept.iter().map(|s| json!([s.ratio, s.pentagon, s.digons])).collect::<Vec<_>>(), "denser": denser.iter().map(|s| json!([s.ratio, s.pentagon, s.digons])).collect::<Vec<_>>() });
    let says = "Five equal features in a plane make a regular pentagon. A denser feature pushes its neighbours away and a rarer one lets them come closer, \
                smoothly, until the pentagon snaps into two opposite pairs that leave the rare feature at the origin. The snap is where the losses of two \
                local optima cross, so both shapes can be found on either side of it."
        .into();
    Ok(Outcome { says, figures, data, pictures })
}

fn colours() -> Vec<Colour> {
    std::iter::once(ORANGE).chain(std::iter::repeat_n(GREY, 4)).collect()
}

/// Losses of both arrangements where feature 0 is `ratio` times as dense as the others.
struct Branches {
    ratio: f64,
    pentagon: f64,
    digons: f64,
    /// W (5, 2) of the better one.
    best: Vec<f32>,
}

/// Where the pairs' loss falls below the pentagon's, coming from equal densities; NaN if it does not.
fn crossing(swept: &[Branches]) -> f64 {
    let lead = |s: &Branches| s.pentagon - s.digons;
    // From 1 on both starts end in the same pentagon.
    let crossed = |two: &&[Branches]| two[1].ratio < 0.95 && lead(&two[0]) >= 0.0 && lead(&two[1]) < 0.0;
    swept.windows(2).rfind(crossed).map_or(f64::NAN, |two| {
        let t = lead(&two[0]) / (lead(&two[0]) - lead(&two[1]));
        two[0].ratio + t * (two[1].ratio - two[0].ratio)
    })
}

/// The lowest expected loss of a regular pentagon, over its radius and a common bias.
fn regular_optimum() -> f64 {
    let (model, setting) = (Model::relu_output(5, 2), Setting::uniform(5, P));
    let loss = |radius: f64, bias: f64| {
        let w: Vec<f32> = pentagon(radius);
        expected_loss(&model, &setting, Weights { n: 5, m: 2, w_in: &w, w_out: &w, b: &[bias as f32; 5] })
    };
    let (mut radius, mut bias, mut step) = (1.1, -0.2, 0.04);
    while step > 1e-3 {
        let around = (-1..=1).flat_map(|i| (-1..=1).map(move |j| (i as f64, j as f64))).map(|(i, j)| (radius + i * step, bias + j * step));
        let best = around.min_by(|a, b| loss(a.0, a.1).total_cmp(&loss(b.0, b.1))).expect("there are nine");
        if best == (radius, bias) {
            step /= 2.0;
        }
        (radius, bias) = best;
    }
    loss(radius, bias)
}

/// W (5, 2) of a regular pentagon.
fn pentagon(radius: f64) -> Vec<f32> {
    (0..5).flat_map(|i| [(radius * (TAU * i as f64 / 5.0).cos()) as f32, (radius * (TAU * i as f64 / 5.0).sin()) as f32]).collect()
}

/// Follows both arrangements: each is trained from its own ideal shape.
fn sweep(p: f64, ask: &Ask, progress: &mut dyn Progress) -> Result<Vec<Branches>> {
    let n = ask.pick(10, 19);
    let ratios: Vec<f64> = (0..n).map(|i| 0.2 * 10f64.powf(i as f64 / (n - 1) as f64)).collect();
    let setting = |ratio: &f64| {
        let mut setting = Setting::uniform(5, p);
        setting.p[0] = (p * ratio) as f32;
        [setting.clone(), setting]
    };
    let mut all = Instances::new(Model::relu_output(5, 2), ratios.iter().flat_map(setting).collect(), ask.seed);
    let digons = [0.05, 0.02, 1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0, -1.0];
    for (i, ratio) in ratios.iter().enumerate() {
        all.start_from(2 * i, &pentagon(1.13), &[-0.24; 5]);
        all.start_from(2 * i + 1, &digons, &[(0.5 * p * ratio) as f32, 0.0, 0.0, 0.0, 0.0]);
    }
    // Gently: a large first step would shake an arrangement out of its basin.
    train(&format!("both arrangements over density, p={p}"), &mut all, Schedule::falling(ask.pick(3_000, 6_000), 512, 2e-3), progress)?;
    let losses = expected_losses(&all);
    let branches = |(i, &ratio): (usize, &f64)| {
        let (pentagon, digons) = (losses[2 * i], losses[2 * i + 1]);
        Branches { ratio, pentagon, digons, best: all.weights(if pentagon < digons { 2 * i } else { 2 * i + 1 }).w_in.to_vec() }
    };
    Ok(ratios.iter().enumerate().map(branches).collect())
}
