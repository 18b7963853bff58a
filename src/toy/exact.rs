//! The expected loss of a small model, without drawing a sample: over every set of active features, by a midpoint rule over their values.
//!
//! What trainings of two to six features are compared by; their losses differ by less than samples scatter. Independent features only.

use super::data::Together;
use super::model::{Instances, Model, Setting, Weights};
use super::theory;
use rayon::prelude::*;

/// Points of the rule along each of so many active features: errors of 1e-4 of the loss for up to three, and sets of more are rare where models are
/// compared.
const POINTS: [usize; 7] = [1, 192, 48, 20, 9, 6, 4];

/// E over x of sum_i I_i (x_i - x'_i)^2.
///
/// # Panics
/// For more than six features, for features in sets and for signed ones.
pub fn expected_loss(model: &Model, setting: &Setting, w: Weights) -> f64 {
    assert!(model.n < POINTS.len() && model.inputs.together == Together::Independent && !model.inputs.signed, "{model:?} has no exact loss here");
    (0..1usize << model.n).map(|on| probability(&setting.p, on) * given(model, setting, w, on)).sum()
}

/// E over x of sum_i I_i (x_i - x'_i)^2 of a linear model of any size, x' = G x + b with G (n, n): I_i times the variance of what G leaves of x, plus the
/// square of the mean error. Features are independent with mean p_j / 2.
pub fn expected_loss_linear(setting: &Setting, w: Weights) -> f64 {
    let gram = theory::gram(w.w_in, w.m);
    let of = |i: usize| {
        let (mut spread, mut mean) = (0.0, -(w.b[i] as f64));
        for (j, &p) in setting.p.iter().enumerate() {
            let left = f64::from(i == j) - gram[i * w.n + j];
            spread += left * left * theory::variance(p as f64);
            mean += left * p as f64 / 2.0;
        }
        setting.importance[i] as f64 * (spread + mean * mean)
    };
    (0..w.n).map(of).sum()
}

/// Expected losses of all instances.
pub fn expected_losses(all: &Instances) -> Vec<f64> {
    (0..all.len()).into_par_iter().map(|i| expected_loss(&all.model, &all.settings[i], all.weights(i))).collect()
}

/// That exactly the features of the set are active; bit i of `on` is feature i.
fn probability(p: &[f32], on: usize) -> f64 {
    p.iter().enumerate().map(|(i, &p)| if on >> i & 1 == 1 { p as f64 } else { 1.0 - p as f64 }).product()
}

/// The mean loss while these features are active.
fn given(model: &Model, setting: &Setting, w: Weights, on: usize) -> f64 {
    let active: Vec<usize> = (0..model.n).filter(|i| on >> i & 1 == 1).collect();
    let points = POINTS[active.len()];
    let n_points = points.pow(active.len() as u32);
    let (mut x, mut h, mut total) = (vec![0.0f64; model.n], vec![0.0f64; model.m], 0.0);
    for point in 0..n_points {
        let mut rest = point;
        for &i in &active {
            x[i] = ((rest % points) as f64 + 0.5) / points as f64;
            rest /= points;
        }
        h.fill(0.0);
        for &i in &active {
            h.iter_mut().zip(w.feature(i)).for_each(|(h, w)| *h += *w as f64 * x[i]);
        }
        if model.hidden_relu {
            h.iter_mut().for_each(|h| *h = h.max(0.0));
        }
        for (i, x) in x.iter().enumerate() {
            let out = w.w_out[i * model.m..(i + 1) * model.m].iter().zip(&h).map(|(w, h)| *w as f64 * h).sum::<f64>() + w.b[i] as f64;
            let out = if model.output_relu { out.max(0.0) } else { out };
            total += setting.importance[i] as f64 * (x - out).powi(2);
        }
    }
    total / n_points as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(w: &[f32], b: &[f32], setting: &Setting) -> f64 {
        let model = Model::relu_output(b.len(), w.len() / b.len());
        expected_loss(&model, setting, Weights { n: model.n, m: model.m, w_in: w, w_out: w, b })
    }

    #[test]
    fn the_papers_phases_have_the_closed_forms() {
        let (importance, p) = (0.4, 0.3f64);
        let setting = Setting { p: vec![p as f32; 2], importance: vec![1.0, importance as f32] };
        let [ignored, dedicated, superposed, _] = theory::phase_losses(2, importance, p);
        let half = (p / 2.0) as f32;
        for (ours, want) in [
            (loss(&[1.0, 0.0], &[0.0, half], &setting), ignored),
            (loss(&[0.0, 1.0], &[half, 0.0], &setting), dedicated),
            (loss(&[1.0, -1.0], &[0.0, 0.0], &setting), superposed),
        ] {
            assert!((ours - want).abs() < 1e-3 * want, "{ours} {want}");
        }
        // Three features in two dimensions, the first two opposite each other.
        let setting = Setting { p: vec![p as f32; 3], importance: vec![1.0, 1.0, importance as f32] };
        let ours = loss(&[1.0, 0.0, -1.0, 0.0, 0.0, 1.0], &[0.0; 3], &setting);
        let want = theory::phase_losses(3, importance, p)[3];
        assert!((ours - want).abs() < 1e-3 * want, "{ours} {want}");
    }

    #[test]
    fn it_agrees_with_the_mean_over_samples() {
        let mut all = Instances::new(Model::relu_output(3, 2), vec![Setting::falling(3, 0.4, 0.7)], 1);
        all.train_for(super::super::model::Schedule::falling(100, 64, 1e-2), 50);
        let (exact, drawn) = (expected_losses(&all)[0], all.losses(400_000)[0]);
        assert!((exact - drawn).abs() < 0.01 * exact, "{exact} {drawn}");
        let mut linear = Instances::new(Model::linear(3, 2), vec![Setting::falling(3, 0.4, 0.7)], 1);
        linear.train(super::super::model::Schedule::falling(50, 64, 1e-2));
        let (exact, by_rule) = (expected_loss_linear(&linear.settings[0], linear.weights(0)), expected_losses(&linear)[0]);
        assert!((exact - by_rule).abs() < 1e-3 * exact, "{exact} {by_rule}");
    }
}
