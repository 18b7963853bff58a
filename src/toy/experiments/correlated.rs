//! Correlated and anticorrelated features: sets that are on together stand at right angles or side by side, of sets that exclude each other the members
//! stand opposite.

use super::{Ask, Experiment, Outcome, Picture, best_of, train};
use crate::artifact::{Figure, Progress};
use crate::toy::Result;
use crate::toy::data::{Inputs, Together};
use crate::toy::draw::charts::plane;
use crate::toy::draw::{Colour, Scene};
use crate::toy::model::{Instances, Model, Schedule, Setting};
use crate::toy::theory::cosine;
use serde_json::json;

pub const CORRELATED: Experiment = Experiment {
    name: "correlated",
    about: "pairs of features that are on together, or never together, in the plane",
    source: "Correlated and anticorrelated features",
    run,
};

/// Probability of each feature.
const P: f64 = 0.04;

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let restarts = 32;
    let cases = [
        ("two correlated pairs", 4, Together::Correlated(2), P),
        // A set is on twice as often as each of its two members.
        ("two anticorrelated pairs", 4, Together::Anticorrelated(2), 2.0 * P),
        ("three correlated pairs", 6, Together::Correlated(2), P),
    ];
    let (mut figures, mut planes, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for (name, n, together, p) in cases {
        let model = Model { inputs: Inputs { together, signed: false }, ..Model::relu_output(n, 2) };
        let mut all = Instances::new(model, vec![Setting::uniform(n, p); restarts], ask.seed);
        train(name, &mut all, Schedule::falling(ask.pick(3_000, 5_000), 256, 1e-2), progress)?;
        let (best, loss) = best_of(&all, restarts, ask.pick(100_000, 400_000))[0];
        let w = all.weights(best);
        let pairs: Vec<f64> = (0..n / 2).map(|i| cosine(w.feature(2 * i), w.feature(2 * i + 1))).collect();
        let (low, high) = pairs.iter().fold((1.0f64, -1.0f64), |(l, h), c| (l.min(*c), h.max(*c)));
        let figure = |what: &str, value: f64| Figure::new(name, what, &[value]);
        match (together, n) {
            (Together::Correlated(_), 4) => {
                figures.push(figure("largest |cosine| within a pair", low.abs().max(high.abs())).published(0.01).at_most(0.1));
            }
            (Together::Anticorrelated(_), _) => figures.push(figure("largest cosine within a pair", high).published(-1.0).at_most(-0.95)),
            _ => {
                figures.push(figure("smallest cosine within a pair", low).published(0.44).within(0.2, 0.8));
                figures.push(figure("largest cosine within a pair", high).published(0.46).within(0.2, 0.8));
            }
        }
        let colours: Vec<Colour> = (0..n).map(|i| Colour::of(i / 2)).collect();
        planes.push(plane(name, w.w_in, &colours, 210.0));
        data.push(json!({ "case": name, "loss": loss, "w": w.w_in, "cosines": pairs }));
    }
    let pictures = vec![Picture {
        name: "pairs",
        caption: "Features in the plane; those of one colour are on together (left, right) or never together (middle)".into(),
        scene: Scene::side_by_side("Pairs of features", &planes, 3),
    }];
    let says = "Features that are on together interfere with each other all the time, so the model puts them at right angles where it can. Features that \
                are never on together can be opposite for free. Where three correlated pairs must share a plane, partners stand side by side: positive \
                interference between them is the lesser evil, and looks like the beginning of a common direction."
        .into();
    Ok(Outcome { says, figures, data: data.into(), pictures })
}
