//! A privileged basis: with a ReLU on the hidden layer features align with neurons, and superposition becomes a matter of which neurons share.
//!
//! h = ReLU(W x), x' = ReLU(W^T h + b), n = 10, m = 5, I_i = 0.75^i. The landscape is rough: of many restarts the one with the lowest loss is kept.
//! A neuron is monosemantic if one feature holds it (`theory::MONOSEMANTIC`); a feature is on the neurons that it turns on, which are those with a positive
//! weight of at least a quarter of its largest. Negative weights keep it from other neurons.

use super::{Ask, Experiment, Outcome, Picture, best_of, train};
use crate::artifact::{Figure, Progress};
use crate::toy::Result;
use crate::toy::draw::{Scene, charts};
use crate::toy::model::{Instances, Model, Schedule, Setting};
use crate::toy::theory;
use serde_json::{Value, json};

pub const PRIVILEGED_BASIS: Experiment = Experiment {
    name: "privileged-basis",
    about: "10 features on 5 ReLU neurons, the best of many restarts: from a neuron for each feature to a pair of neurons for each",
    source: "Superposition in a privileged basis",
    run,
};

const N: usize = 10;
const M: usize = 5;

/// Probabilities, and the monosemantic neurons that the paper shows at each.
const P: [(f64, f64); 7] = [(1.0, 5.0), (0.5, 5.0), (0.3, 3.0), (0.15, 2.0), (0.12, 1.0), (0.06, 0.0), (0.03, 0.0)];

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let quick = [P[0], P[1], P[3], P[6]];
    let ps: &[(f64, f64)] = if ask.quick { &quick } else { &P };
    let restarts = ask.pick(130, 300);
    let settings = ps.iter().flat_map(|&(p, _)| vec![Setting::falling(N, p, 0.75); restarts]).collect();
    let model = Model { hidden_relu: true, ..Model::relu_output(N, M) };
    let mut all = Instances::new(model, settings, ask.seed);
    train("restarts", &mut all, Schedule::falling(ask.pick(2_000, 3_000), 256, 1e-2), progress)?;
    let best = best_of(&all, restarts, ask.pick(30_000, 100_000));

    let stacks = best.iter().map(|&(i, _)| charts::tallest(all.weights(i).w_in, M));
    let high = stacks.fold((0.0, 0.0), |high: (f64, f64), stack| (high.0.max(stack.0), high.1.max(stack.1)));
    let (mut figures, mut panels, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for (&(p, published), &(i, loss)) in ps.iter().zip(&best) {
        let w = all.weights(i);
        let held = theory::held(w.w_in, M);
        let mono = held.iter().filter(|(_, share)| *share > theory::MONOSEMANTIC).count();
        let on: Vec<usize> = (0..N).filter(|&i| theory::norms(w.w_in, M)[i] > theory::LEARNED).map(|i| neurons_of(w.feature(i))).collect();
        let figure = |what: &str, value: f64| Figure::new(&format!("p={p}"), what, &[value]);
        let neurons = figure("monosemantic neurons of 5", mono as f64).published(published);
        figures.push(if p >= 0.5 { neurons.within(5.0, 5.0) } else { neurons });
        figures.push(figure("features learned", on.len() as f64));
        if p <= 0.03 {
            let least = on.iter().copied().min().unwrap_or(0) as f64;
            figures.push(figure("neurons that the learned feature with the fewest turns on", least).published(2.0).at_least(2.0));
        }
        let mut order: Vec<usize> = (0..M).collect();
        order.sort_by_key(|&k| (held[k].1 <= theory::MONOSEMANTIC, held[k].0));
        let title = format!("p = {p}: {} features", on.len());
        panels.push(charts::neurons(&title, w.w_in, M, &order, high, (190.0, 230.0)));
        data.push(json!({ "p": p, "loss": loss, "monosemantic": mono, "learned": on.len(), "w": w.w_in, "b": w.b }));
    }
    let says = "With a ReLU on the hidden layer the axes of the hidden space matter, and while features are dense the most important ones get a neuron each, with \
                hardly anything shared. As features get sparse a few neurons begin to carry several features while the others stay pure. In the end no neuron belongs to one \
                feature, and a feature is known by the pair or set of neurons that fire for it, while large negative weights keep it off others."
        .into();
    let caption = "The weights of each neuron to its features (numbers), stacked: blue neurons belong to one feature, orange ones are shared".into();
    let scene = Scene::side_by_side("ReLU hidden layer, 10 features on 5 neurons", &panels, 4);
    Ok(Outcome { says, figures, data: Value::from(data), pictures: vec![Picture { name: "privileged-basis", caption, scene }] })
}

/// On how many neurons a feature (m,) is.
fn neurons_of(feature: &[f32]) -> usize {
    let most = feature.iter().copied().fold(0.0, f32::max);
    feature.iter().filter(|w| **w > 0.0 && **w >= 0.25 * most).count()
}
