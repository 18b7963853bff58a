//! Computation in superposition: the absolute value of more features than there are pairs of neurons.
//!
//! x in [-1, 1] when on, y = |x|; h = ReLU(W1 x), y' = ReLU(W2 h + b). With neurons enough the circuit is |x| = ReLU(x) + ReLU(-x), two neurons for a
//! feature. Neurons are rescaled, as the paper does, so that their largest input weight has size 1, and their output weights by the inverse.
//! A neuron is monosemantic if one feature holds its input weights (`theory::MONOSEMANTIC`); neurons that are idle are not counted.
//!
//! An output whose ReLU is off on every sample learns no more, and the usual start kills important features: sparse targets are 0 almost always, so that
//! all outputs are first pushed down. Each p is therefore trained from two starts (`STARTS`), and the model with the lowest loss is kept.

use super::{Ask, Experiment, Outcome, Picture, train};
use crate::artifact::{Figure, Progress};
use crate::toy::Result;
use crate::toy::data::Inputs;
use crate::toy::draw::charts::{self, Axis, Chart};
use crate::toy::draw::{BLUE, Scene};
use crate::toy::model::{Instances, Model, Schedule, Setting, Weights};
use crate::toy::theory;
use serde_json::{Value, json};

pub const ABSOLUTE_VALUE: Experiment = Experiment {
    name: "absolute-value",
    about: "|x| of 3 features on 6 ReLU neurons, and of 100 on 40, from dense to sparse",
    source: "Computation in superposition",
    run,
};

const P: [f64; 7] = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001];
const N: usize = 100;
const M: usize = 40;

/// A way to start, and the rate that suits it.
type Start = (fn(&Setting, &mut [f32], &mut [f32], &mut [f32]), f32);

/// Small weights, outputs at their mean; and outputs that read a little of every neuron which their feature enters. The first finds the better model
/// where features are dense, the second where they are sparse.
const STARTS: [Start; 2] = [
    (
        |setting, w_in, w_out, b| {
            w_in.iter_mut().chain(w_out).for_each(|w| *w *= 0.1);
            b.fill(setting.p[0] / 2.0);
        },
        1e-2,
    ),
    (|_, w_in, w_out, _| w_out.iter_mut().zip(w_in).for_each(|(out, w)| *out = w.abs()), 3e-3),
];

/// The best model of one p.
struct Point {
    p: f64,
    /// Of the loss of a model that answers 0.
    loss: f64,
    neurons: Neurons,
}

fn model(n: usize, m: usize) -> Model {
    let inputs = Inputs { signed: true, ..Inputs::INDEPENDENT };
    Model { hidden_relu: true, tied: false, absolute: true, inputs, ..Model::relu_output(n, m) }
}

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let mut figures = Vec::new();
    let exact = exact(ask, progress, &mut figures)?;
    let points = superposed(ask, progress)?;
    let share = |o: &Point| o.neurons.monosemantic() as f64 / o.neurons.used().len().max(1) as f64;
    for o in &points {
        let of = format!("n=100 m=40 p={}", o.p);
        let mono = Figure::new(&of, "part of the neurons in use that is monosemantic", &[share(o)]);
        figures.push(match o.p {
            1.0 => mono.published(1.0).within(1.0, 1.0),
            0.3 => mono.published(1.0),
            p if p <= 0.01 => mono.published(0.0).at_most(0.1),
            _ => mono,
        });
        figures.push(Figure::new(&of, "loss, by that of answering 0", &[o.loss]).at_most(0.5));
    }
    let falls = points.windows(2).filter(|two| share(&two[1]) <= share(&two[0])).count() as f64;
    figures.push(Figure::new("n=100 m=40", "steps of p at which no more neurons are monosemantic", &[falls]).at_least(points.len() as f64 - 1.0));
    let motif = best_motif(&points);
    if let Some((at, motif)) = &motif {
        let of = format!("neuron nearest to asymmetric superposition, p={at}");
        figures.push(Figure::new(&of, "its larger input weight by the smaller", &[motif.inputs]).published(4.0));
        figures.push(Figure::new(&of, "output weight of the smaller by that of the larger", &[motif.outputs]).published(4.0));
    }
    let motifs: usize = points.iter().map(|o| o.neurons.motifs().len()).sum();
    figures.push(Figure::new("all p", "neurons of two features in asymmetric superposition", &[motifs as f64]).at_least(1.0));

    let mut panels: Vec<Scene> = points
        .iter()
        .map(|o| {
            let title = format!("p = {}: {} of {} monosemantic", o.p, o.neurons.monosemantic(), o.neurons.used().len());
            charts::neurons(&title, &o.neurons.w_in, M, &o.neurons.order(), charts::tallest(&o.neurons.w_in, M), (300.0, 150.0))
        })
        .collect();
    let mut chart = Chart::new("Monosemantic neurons", "1 / p", "part", Axis::log(1.0, 1000.0), Axis::linear(0.0, 1.05), 310.0, 170.0);
    let curve: Vec<(f64, f64)> = points.iter().map(|o| (1.0 / o.p, share(o))).collect();
    chart.curve(&curve, 2.0, BLUE);
    chart.points(&curve, 3.5, BLUE);
    panels.push(chart.scene);
    let mut beside = vec![circuit("|x| of 3 features on 6 neurons", &exact, &exact.order())];
    if let Some((at, _)) = motif {
        let shared = &points.iter().find(|o| o.p == at).expect("it is one of them").neurons;
        let mut nearest = shared.motifs();
        nearest.sort_by(|a, b| a.away().total_cmp(&b.away()));
        let nearest: Vec<usize> = nearest.iter().take(3).map(|m| m.neuron).collect();
        beside.push(circuit(&format!("Asymmetric, p = {at}"), shared, &nearest));
    }
    let pictures = vec![
        Picture {
            name: "absolute-value-circuit",
            caption: "Left: the exact circuit, input weights above and output weights below, neuron by neuron; right, where there are any: neurons of \
                      two features, one with a large input and a small output weight, the other the opposite way round (small weights are left out; \
                      blue where one feature outweighs all others)"
                .into(),
            scene: Scene::side_by_side("", &beside, 2),
        },
        Picture {
            name: "absolute-value",
            caption: "Input weights of the 40 neurons, stacked and rescaled to a largest of 1: blue neurons compute for one feature, orange ones for several"
                .into(),
            scene: Scene::side_by_side("|x| of 100 features on 40 neurons", &panels, 2),
        },
    ];
    let data: Vec<Value> = points.iter().map(|o| json!({ "p": o.p, "loss": o.loss, "monosemantic": o.neurons.monosemantic() })).collect();
    let asymmetric = match motif {
        Some(_) => {
            "Some of the neurons of two features are asymmetric: what enters with the smaller weight leaves with the larger one, so that each is \
                    amplified about right and disturbs the other unequally."
        }
        None => {
            "No neuron of two features is asymmetric here, as some are in other runs: what enters with the smaller weight leaving with the larger one."
        }
    };
    let says = "With two neurons for a feature the model finds the exact circuit, one neuron for the positive side and one for the negative. With fewer neurons \
                than that it still gives the important features pure pairs while features are dense, and as they get sparse neurons begin to compute for \
                several features at once, until none is pure. "
        .to_string()
        + asymmetric;
    Ok(Outcome {
        says,
        figures,
        data: json!({ "points": data, "motif": motif.map(|(p, m)| json!({ "p": p, "inputs": m.inputs, "outputs": m.outputs })) }),
        pictures,
    })
}

/// Three features on six neurons.
fn exact(ask: &Ask, progress: &mut dyn Progress, figures: &mut Vec<Figure>) -> Result<Neurons> {
    let mut all = Instances::new(model(3, 6), vec![Setting::uniform(3, 0.3); 24], ask.seed);
    train("3 features, 6 neurons", &mut all, Schedule::falling(ask.pick(3_000, 6_000), 256, 1e-2), progress)?;
    let (i, loss) = super::best_of(&all, 24, 20_000)[0];
    let neurons = Neurons::of(all.weights(i));
    let held = theory::held(&neurons.w_in, 6);
    let sides =
        |sign: f32| (0..3).filter(|&f| (0..6).filter(|&k| held[k].0 == f && neurons.w_in[f * 6 + k] * sign > 0.0).count() == 1).count() as f64;
    let through = held.iter().enumerate().map(|(k, &(f, _))| (neurons.w_out[f * 6 + k] as f64 - 1.0).abs()).fold(0.0, f64::max);
    let of = "n=3 m=6";
    figures.push(Figure::new(of, "loss", &[loss]).published(0.0).at_most(1e-6));
    figures.push(Figure::new(of, "neurons of one feature", &[held.iter().filter(|h| h.1 > 0.999).count() as f64]).published(6.0).within(6.0, 6.0));
    figures.push(
        Figure::new(of, "features with one neuron for x > 0 and one for x < 0", &[sides(1.0).min(sides(-1.0))]).published(3.0).within(3.0, 3.0),
    );
    figures.push(Figure::new(of, "largest distance of an output weight from 1", &[through]).published(0.0).at_most(0.01));
    Ok(neurons)
}

fn superposed(ask: &Ask, progress: &mut dyn Progress) -> Result<Vec<Point>> {
    let ps: &[f64] = if ask.quick { &[1.0, 0.1, 0.01] } else { &P };
    let restarts = ask.pick(2, 4);
    let settings = || ps.iter().flat_map(|&p| vec![Setting::falling(N, p, 0.8); restarts]).collect::<Vec<_>>();
    let mut best: Vec<Option<(f64, Neurons)>> = ps.iter().map(|_| None).collect();
    for (number, (start, lr)) in STARTS.into_iter().enumerate() {
        let mut all = Instances::new(model(N, M), settings(), ask.seed).starting(start);
        train(&format!("100 features, start {}", number + 1), &mut all, Schedule::falling(ask.pick(2_500, 8_000), 256, lr), progress)?;
        for (best, (i, loss)) in best.iter_mut().zip(super::best_of(&all, restarts, ask.pick(20_000, 100_000))) {
            if best.as_ref().is_none_or(|b| loss < b.0) {
                *best = Some((loss, Neurons::of(all.weights(i))));
            }
        }
    }
    let importance: f64 = Setting::falling(N, 1.0, 0.8).importance.iter().map(|&i| i as f64).sum();
    let points = ps.iter().zip(best).filter_map(|(&p, best)| best.map(|(loss, neurons)| Point { p, loss: loss / (importance * p / 3.0), neurons }));
    Ok(points.collect())
}

/// The neuron nearest to the motif of the paper, input weights (2, -1/2) and output weights (1/2, 2), and the p of its model.
fn best_motif(points: &[Point]) -> Option<(f64, Motif)> {
    let all = points.iter().flat_map(|o| o.neurons.motifs().into_iter().map(|m| (o.p, m)));
    all.min_by(|a, b| a.1.away().total_cmp(&b.1.away()))
}

/// Input weights over output weights, without those below 15 hundredths of a neuron's largest.
fn circuit(title: &str, of: &Neurons, order: &[usize]) -> Scene {
    let (m, size) = (of.m, (44.0 * order.len().max(3) as f64, 140.0));
    let panel = |title: &str, w: &[f32]| {
        let largest = |k: usize| w.iter().skip(k).step_by(m).fold(0.0, |most: f32, w| w.abs().max(most));
        let kept = |w: f32, k: usize| if w.abs() < 0.15 * largest(k) { 0.0 } else { w };
        let chosen: Vec<f32> = w.chunks_exact(m).flat_map(|row| order.iter().map(|&k| kept(row[k], k))).collect();
        let places: Vec<usize> = (0..order.len()).collect();
        charts::neurons(title, &chosen, order.len(), &places, charts::tallest(&chosen, order.len()), size)
    };
    let panels = [panel("input weights", &of.w_in), panel("output weights", &of.w_out)];
    Scene::side_by_side(title, &panels, 1)
}

/// A neuron of two features in asymmetric superposition.
struct Motif {
    neuron: usize,
    /// Size of the larger input weight by the smaller.
    inputs: f64,
    /// Output weight of the feature with the smaller input weight by that of the other.
    outputs: f64,
}

impl Motif {
    /// How far it is from the motif of the paper, with 4 for both.
    fn away(&self) -> f64 {
        (self.inputs / 4.0).ln().abs() + (self.outputs / 4.0).ln().abs()
    }
}

/// Weights of the rescaled neurons: the largest input weight of each has size 1.
struct Neurons {
    m: usize,
    /// (n, m).
    w_in: Vec<f32>,
    /// (n, m).
    w_out: Vec<f32>,
}

impl Neurons {
    fn of(w: Weights) -> Self {
        let largest: Vec<f32> = (0..w.m).map(|k| w.w_in.iter().skip(k).step_by(w.m).fold(0.0, |most: f32, w| w.abs().max(most)).max(1e-6)).collect();
        let scaled = |of: &[f32], by: fn(f32, f32) -> f32| of.iter().enumerate().map(|(index, &v)| by(v, largest[index % w.m])).collect();
        Neurons { m: w.m, w_in: scaled(w.w_in, |v, most| v / most), w_out: scaled(w.w_out, |v, most| v * most) }
    }

    /// Neurons whose output weights have a norm of 1/10 or more. One that is idle (now and then a neuron is, at p = 1) computes for nobody, and its input
    /// weights are what the start left there.
    fn used(&self) -> Vec<usize> {
        let norm = |k: usize| self.w_out.iter().skip(k).step_by(self.m).map(|w| w * w).sum::<f32>().sqrt();
        (0..self.m).filter(|&k| norm(k) >= 0.1).collect()
    }

    fn monosemantic(&self) -> usize {
        let held = theory::held(&self.w_in, self.m);
        self.used().into_iter().filter(|&k| held[k].1 > theory::MONOSEMANTIC).count()
    }

    /// Monosemantic neurons first, by feature and sign.
    fn order(&self) -> Vec<usize> {
        let held = theory::held(&self.w_in, self.m);
        let mut order: Vec<usize> = (0..self.m).collect();
        order.sort_by_key(|&k| (held[k].1 <= theory::MONOSEMANTIC, held[k].0, self.w_in[held[k].0 * self.m + k] < 0.0));
        order
    }

    /// Neurons whose two largest input weights have opposite signs and hold 9/10 of the squares, and where the smaller by a factor of 1.5 or more leaves
    /// with an output weight that is larger by 1.5 or more.
    fn motifs(&self) -> Vec<Motif> {
        let of = |k: usize| {
            let weight = |w: &[f32], f: usize| w[f * self.m + k] as f64;
            let mut features: Vec<usize> = (0..self.w_in.len() / self.m).collect();
            features.sort_by(|a, b| weight(&self.w_in, *b).abs().total_cmp(&weight(&self.w_in, *a).abs()));
            let (large, small) = (weight(&self.w_in, features[0]), weight(&self.w_in, features[1]));
            let total: f64 = features.iter().map(|&f| weight(&self.w_in, f).powi(2)).sum();
            let [first, second] = [features[0], features[1]].map(|f| weight(&self.w_out, f));
            let two = large * small < 0.0 && small.abs() > 0.1 && large * large + small * small > 0.9 * total;
            let motif = Motif { neuron: k, inputs: (large / small).abs(), outputs: second / first };
            (two && first > 0.0 && motif.inputs > 1.5 && motif.outputs > 1.5).then_some(motif)
        };
        (0..self.m).filter_map(of).collect()
    }
}
