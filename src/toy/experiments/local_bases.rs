//! Local almost-orthogonal bases: where two large sets of correlated features share few dimensions, each keeps a nearly orthogonal basis of its own.

use super::{Ask, Experiment, Outcome, Picture, best_of, train};
use crate::artifact::{Figure, Progress};
use crate::toy::Result;
use crate::toy::data::{Inputs, Together};
use crate::toy::draw::Scene;
use crate::toy::draw::charts::superposition;
use crate::toy::model::{Instances, Model, Schedule, Setting};
use crate::toy::theory::cosine;
use serde_json::json;

pub const LOCAL_BASES: Experiment = Experiment {
    name: "local-bases",
    about: "two sets of ten correlated features in ten dimensions, each with a nearly orthogonal basis of its own",
    source: "Correlated and anticorrelated features: local almost-orthogonal bases",
    run,
};

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let restarts = 12;
    let (n, m, p) = (20, 10, 0.05);
    let mut models = Vec::new();
    for (name, together) in [("two correlated sets", Together::Correlated(10)), ("independent features", Together::Independent)] {
        let model = Model { inputs: Inputs { together, signed: false }, ..Model::relu_output(n, m) };
        let mut all = Instances::new(model, vec![Setting::uniform(n, p); restarts], ask.seed);
        train(name, &mut all, Schedule::falling(ask.pick(3_000, 6_000), 256, 1e-2), progress)?;
        let (best, loss) = best_of(&all, restarts, ask.pick(50_000, 200_000))[0];
        models.push((name, all, best, loss));
    }
    let (mut figures, mut panels, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for (name, all, best, loss) in &models {
        // Over all runs: twenty independent features stand in ten opposite pairs, and how many of one run's pairs are within a set is chance.
        let mean = |same: bool| {
            let pairs: Vec<(usize, usize)> = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).filter(|(i, j)| (i / 10 == j / 10) == same).collect();
            let of_run =
                |run: usize| pairs.iter().map(|&(i, j)| cosine(all.weights(run).feature(i), all.weights(run).feature(j)).powi(2)).sum::<f64>();
            (0..restarts).map(of_run).sum::<f64>() / (restarts * pairs.len()) as f64
        };
        let (within, across) = (mean(true), mean(false));
        let figure = |what: &str, value: f64| Figure::new(name, what, &[value]);
        figures.push(figure("mean squared cosine within a set", within));
        figures.push(figure("mean squared cosine across sets", across));
        let ratio = figure("within over across", within / across);
        figures.push(if name.starts_with("two") { ratio.at_most(0.25) } else { ratio.at_least(0.5) });
        let w = all.weights(*best);
        panels.push(superposition(name, w.w_in, m, w.b, 220.0));
        data.push(json!({ "case": name, "loss": loss, "within": within, "across": across }));
    }
    let pictures = vec![Picture {
        name: "bases",
        caption: "W^T W of 20 features: with two sets of ten that are on together, interference keeps out of the squares along the diagonal".into(),
        scene: Scene::side_by_side("Two sets of ten features in ten dimensions", &panels, 2),
    }];
    let says = "Ten dimensions hold twenty features, so something must overlap. Where features come in two sets that are on together, each set gets nearly \
                orthogonal directions and the overlap is put between the sets, which are rarely on at once. A set looks like an ordinary basis from within, \
                and only the whole shows the superposition."
        .into();
    Ok(Outcome { says, figures, data: data.into(), pictures })
}
