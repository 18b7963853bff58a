//! Why cross-entropy makes neurons polysemantic even where nothing is sparse: one neuron, four contexts, worked out.
//!
//! n contexts, equally frequent and one at a time, each with a next token of its own. A single neuron a in {0, 1} fires in k of them, and the logits are
//! w a + c with w, c (n,): any v = c when it is silent, any u = w + c when it fires. It can tell the k from the other n - k and no more, so that the best loss is (k/n) ln k + ((n - k)/n) ln (n - k): a neuron
//! dedicated to one context of four leaves (3/4) ln 3, one that two of them share ln 2. Squared error of the same answers is 1 - 2/n for any 0 < k < n.
//! Source: Bricken et al. 2023, on why models trained with cross-entropy are polysemantic; the comparison with squared error is ours.

use super::{Ask, Experiment, Outcome, Picture};
use crate::artifact::{Figure, Progress, seed};
use crate::toy::Result;
use crate::toy::draw::charts::{Axis, Chart};
use crate::toy::draw::{Anchor, BLUE, Colour, ORANGE, Scene};
use rand::RngExt;
use serde_json::json;

pub const CROSS_ENTROPY: Experiment = Experiment {
    name: "cross-entropy",
    about: "one neuron and four contexts: with cross-entropy it is better shared than dedicated, with squared error it does not matter",
    source: "Towards Monosemanticity (Bricken et al. 2023), section on polysemanticity under cross-entropy",
    run,
};

/// Contexts.
const N: usize = 4;

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    progress.begin("logit weights", N as u64, "neurons");
    let mut figures = Vec::new();
    let mut trained = Vec::new();
    for k in 0..N {
        let loss = descend(k, ask.seed);
        let want = cross_entropy(N, k);
        let of = match k {
            0 => "a neuron that never fires".into(),
            1 => "a neuron dedicated to one context of four".into(),
            k => format!("a neuron shared by {k} contexts of four"),
        };
        figures.push(Figure::new(&of, "best cross-entropy, nats", &[loss]).published(want).within(want - 1e-6, want + 1e-6));
        trained.push(loss);
        progress.advance(1);
    }
    progress.end();
    let gain = trained[1] - trained[2];
    let closed = 0.75 * 3f64.ln() - 2f64.ln();
    figures.push(Figure::new("sharing instead of dedicating", "nats gained", &[gain]).published(closed).within(closed - 2e-6, closed + 2e-6));
    let gap = squared_error(N, 1) - squared_error(N, 2);
    figures.push(Figure::new("sharing instead of dedicating", "squared error gained", &[gap]).published(0.0).within(-1e-12, 1e-12));
    let best: Vec<f64> = [4usize, 8, 16, 64].into_iter().map(|n| best_share(n) as f64 / n as f64).collect();
    figures.push(Figure::new("4, 8, 16, 64 contexts", "part of them that the best neuron fires in", &best).within(0.5, 0.5));

    let scene = Scene::side_by_side("One neuron, four contexts", &[weights_chart(), sharing_chart(16)], 2);
    let says = "A single neuron that fires in one context of four names that one and leaves three to guess between, which costs 3/4 ln 3 = 0.824 nats; \
                firing in two of them leaves two guesses between two, ln 2 = 0.693 nats. So cross-entropy prefers the neuron that means two things, although \
                the contexts are not sparse and nothing interferes. Squared error of the very same answers is one half in both cases, so it is the loss \
                that makes this neuron polysemantic."
        .into();
    let sharing: Vec<_> = (0..=16).map(|k| json!({ "k": k, "cross_entropy": cross_entropy(16, k), "squared_error": squared_error(16, k) })).collect();
    let data = json!({ "n": N, "trained": trained, "closed": (0..N).map(|k| cross_entropy(N, k)).collect::<Vec<_>>(), "of_16": sharing });
    let caption =
        "Left: loss of a dedicated and of a shared neuron as its logit weight grows, and where they end. Right: best loss of a neuron that fires \
                   in k contexts of 16; cross-entropy is lowest for half of them, squared error does not care"
            .into();
    Ok(Outcome { says, figures, data, pictures: vec![Picture { name: "cross-entropy", caption, scene }] })
}

/// Loss against the logit weight w: the k tokens of the neuron get w (a - 1/2), the others nothing.
fn weights_chart() -> Scene {
    let mut chart = Chart::new("Loss while the weight grows", "logit weight", "nats", Axis::linear(0.0, 16.0), Axis::linear(0.65, 1.4), 420.0, 290.0);
    for (name, k, colour) in [("dedicated to one context", 1, BLUE), ("shared by two", 2, ORANGE)] {
        let points: Vec<(f64, f64)> = (0..=160).map(|i| i as f64 / 10.0).map(|w| (w, at_weight(N, k, w))).collect();
        chart.named(name, &points, colour);
    }
    chart.level(cross_entropy(N, 1), "3/4 ln 3 = 0.824", Anchor::End);
    chart.level(cross_entropy(N, 2), "ln 2 = 0.693", Anchor::End);
    chart.scene
}

/// Best losses against how many of n contexts share the neuron, each as a part of what no neuron at all leaves.
fn sharing_chart(n: usize) -> Scene {
    let title = format!("Best loss of a neuron for k of {n} contexts");
    let mut chart =
        Chart::new(&title, "contexts that share the neuron, k", "1: no neuron", Axis::linear(0.0, n as f64), Axis::linear(0.7, 1.05), 420.0, 290.0);
    let mut draw = |name: &str, loss: fn(usize, usize) -> f64, colour: Colour| {
        let points: Vec<(f64, f64)> = (0..=n).map(|k| (k as f64, loss(n, k) / loss(n, 0))).collect();
        chart.named(name, &points, colour);
        chart.points(&points, 3.0, colour);
    };
    draw("squared error", squared_error, BLUE);
    draw("cross-entropy", cross_entropy, ORANGE);
    chart.scene
}

/// k ln k, which is 0 for 0.
fn k_ln_k(k: usize) -> f64 {
    if k == 0 { 0.0 } else { k as f64 * (k as f64).ln() }
}

/// Best cross-entropy in nats of a neuron that fires in k of n contexts.
fn cross_entropy(n: usize, k: usize) -> f64 {
    (k_ln_k(k) + k_ln_k(n - k)) / n as f64
}

/// Squared error of the same answers, 1/k or 1/(n - k) for each token that is possible: a group of k costs k (1 - 1/k) of n.
fn squared_error(n: usize, k: usize) -> f64 {
    [k, n - k].into_iter().filter(|&group| group > 0).map(|group| group as f64 - 1.0).sum::<f64>() / n as f64
}

/// Cross-entropy where the k tokens of the neuron have the logit w/2 when it fires, -w/2 when it does not, and all others 0.
fn at_weight(n: usize, k: usize, w: f64) -> f64 {
    let (k, rest, wrong) = (k as f64, (n - k) as f64, (-w / 2.0).exp());
    (k * (k + rest * wrong).ln() + rest * (rest + k * wrong).ln()) / (k + rest)
}

/// How many of n contexts the best neuron fires in.
fn best_share(n: usize) -> usize {
    (0..=n / 2).min_by(|&a, &b| cross_entropy(n, a).total_cmp(&cross_entropy(n, b))).expect("there is a zero")
}

/// Cross-entropy of the u and v (n,) that descent finds from a random start; it is convex in them. Its best weights are infinite, and gradients vanish on
/// the way there: every step is divided by the size of the last gradients, and the rate falls to 0.
fn descend(k: usize, seed: u64) -> f64 {
    const STEPS: u32 = 4_000;
    let mut rng = seed::rng(seed, "toy/cross-entropy", k as u64);
    let mut params: [f64; 2 * N] = std::array::from_fn(|_| rng.random::<f64>() - 0.5);
    let mut squares = [0.0; 2 * N];
    for step in 0..STEPS {
        let (_, gradient) = loss_and_gradient(k, &params);
        let rate = 0.1 * (1.0 - step as f64 / STEPS as f64);
        for ((param, square), d) in params.iter_mut().zip(&mut squares).zip(gradient) {
            *square = 0.9 * *square + 0.1 * d * d;
            *param -= rate * d / (square.sqrt() + 1e-12);
        }
    }
    loss_and_gradient(k, &params).0
}

/// Mean cross-entropy over the contexts, and its gradient by u, then v.
fn loss_and_gradient(k: usize, params: &[f64; 2 * N]) -> (f64, [f64; 2 * N]) {
    let (mut loss, mut gradient) = (0.0, [0.0; 2 * N]);
    for context in 0..N {
        let from = if context < k { 0 } else { N };
        let logits = &params[from..from + N];
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total = logits.iter().map(|l| (l - most).exp()).sum::<f64>();
        loss += (most + total.ln() - logits[context]) / N as f64;
        for i in 0..N {
            gradient[from + i] += ((logits[i] - most).exp() / total - if i == context { 1.0 } else { 0.0 }) / N as f64;
        }
    }
    (loss, gradient)
}
