//! JumpReLU: a trained threshold for each latent (Rajamanoharan et al. 2024, "Jumping Ahead").
//!
//! a = z where z > theta, else 0; theta is the trained number itself, in f32 (as its logarithm, Adam moves a small threshold by a share of a share).
//!
//! Where a jumps, a derivative is put in its place, with the rectangle K(u) = 1 for |u| < 1/2 and the bandwidth e:
//! da/dtheta = -(theta / e) K((z - theta) / e),  d[z > theta]/dtheta = -(1 / e) K((z - theta) / e); below z = 0 there is nothing to switch, and K counts as 0.
//!
//! Two losses:
//! - step (the paper): |x - x_hat|^2 + l0 * number of active latents.
//! - tanh (Anthropic, January 2025 update): |x - x_hat|^2 + l0 * sum tanh(c a_j n_j) + pre_act * sum over all latents of relu(theta_j - z_j) n_j, in which the gradient
//!   of a reaches z through the jump as well: da/dz = [z > theta] + (theta / e) K. Decoder norms n_j are free, and held fixed in the last term. Its other defaults: a wide
//!   band (2), thresholds of 0.1, l0 10, decoder norms of 1/sqrt(3) (entries uniform in +-1/sqrt(D) there), w_enc = (D/F) w_dec, and biases at which every latent is on
//!   in 10,000/F of the rows, half of them at most.
//!
//! The last term has a gradient at every latent that is off. It is exact and costs no dense product: the sum of x over the rows where a latent is off is the sum
//! over all rows less that over the rows where it is on.

use super::tanh::tanh_penalty;
use super::{Architecture, Entries, Init, LatentStep, Select, Selection, Trained};
use crate::kernels::sparse::{axpy, dot};
use crate::sae::TrainConfig;
use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// Coefficient of the step loss above which all that thresholds do is rise.
const SATURATED: f64 = 1.0;

/// A threshold moves by a learning rate a step at most. In a short run the rate is such that one could cover this way, and at most [`FASTEST`].
const WAY: f64 = 2.0;
const FASTEST: f64 = 1e-3;

/// What JumpReLU is made sparse by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JumpLoss {
    /// The number of active latents.
    #[default]
    Step,
    /// tanh of the activations, and a pull at latents that are off.
    Tanh,
}

/// Settings of JumpReLU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(from = "Given")]
pub struct JumpRelu {
    /// Coefficient of the sparsity term, not a number of latents, beside the squared error summed over d_in, in units in which E|x|^2 = d_in; 10 with the tanh loss. That of the step loss saturates
    /// above some 1: set a target for L0 instead.
    pub l0: f64,
    /// What is charged: "step" a latent that is on, "tanh" a saturating function of how strongly it is (January 2025), which has other defaults.
    pub loss: JumpLoss,
    /// Width of the band around a threshold that its gradient comes from; 2 with the tanh loss.
    pub bandwidth: f32,
    /// First threshold of every latent; 0.1 with the tanh loss.
    pub threshold: f32,
    /// c of the tanh loss, tanh(c a |w_dec|).
    pub scale: f32,
    /// Coefficient of the pull at latents that are off (tanh loss).
    pub pre_act: f64,
}

/// The settings that were given. What was not follows from the loss.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(default)]
    loss: JumpLoss,
    l0: Option<f64>,
    bandwidth: Option<f32>,
    threshold: Option<f32>,
    scale: Option<f32>,
    pre_act: Option<f64>,
}

impl From<Given> for JumpRelu {
    fn from(given: Given) -> Self {
        let default = JumpRelu::with(given.loss);
        JumpRelu {
            l0: given.l0.unwrap_or(default.l0),
            loss: given.loss,
            bandwidth: given.bandwidth.unwrap_or(default.bandwidth),
            threshold: given.threshold.unwrap_or(default.threshold),
            scale: given.scale.unwrap_or(default.scale),
            pre_act: given.pre_act.unwrap_or(default.pre_act),
        }
    }
}

impl Default for JumpRelu {
    fn default() -> Self {
        JumpRelu::with(JumpLoss::Step)
    }
}

impl JumpRelu {
    /// The defaults that go with a loss.
    pub fn with(loss: JumpLoss) -> Self {
        let (l0, bandwidth, threshold) = if loss == JumpLoss::Step { (1.0, 1.0, 1.0) } else { (10.0, 2.0, 0.1) };
        JumpRelu { l0, loss, bandwidth, threshold, scale: 4.0, pre_act: 3e-6 }
    }

    /// K((z - theta) / e), and 0 where z is not above zero.
    fn kernel(&self, z: f32, theta: f32) -> f32 {
        f32::from(u8::from(z > 0.0 && (z - theta).abs() < 0.5 * self.bandwidth))
    }
}

impl Architecture for JumpRelu {
    fn about(&self) -> &'static str {
        "A trained threshold for each latent (Rajamanoharan et al. 2024)"
    }

    fn in_words(&self) -> String {
        let loss = match self.loss {
            JumpLoss::Step => "step",
            JumpLoss::Tanh => "tanh",
        };
        format!("JumpReLU ({loss} loss, l0 coefficient {})", self.l0)
    }

    fn check(&self, _: usize, _: usize) -> Result<(), String> {
        for (name, value) in [("bandwidth", self.bandwidth), ("threshold", self.threshold), ("scale", self.scale)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(format!("{name} is {value}; it must be positive"));
            }
        }
        if !(self.pre_act >= 0.0 && self.pre_act.is_finite()) {
            return Err(format!("pre_act is {}; it must be 0 or more", self.pre_act));
        }
        let default = JumpRelu::default();
        if self.loss == JumpLoss::Step && (self.scale, self.pre_act) != (default.scale, default.pre_act) {
            return Err("scale and pre_act are of the tanh loss; say loss=tanh as well, or leave them out".into());
        }
        if self.loss == JumpLoss::Step && 2.0 * self.threshold < self.bandwidth {
            return Err(format!(
                "threshold {} is below half of the bandwidth {}: the band would reach below zero, where nothing can be switched on",
                self.threshold, self.bandwidth
            ));
        }
        Ok(())
    }

    fn unused(&self) -> &'static [&'static str] {
        if self.loss == JumpLoss::Step { &["scale", "pre_act"] } else { &[] }
    }

    fn caution(&self) -> Option<String> {
        let said = |l0: f64| {
            format!(
                "the coefficient of JumpReLU is {l0}: from some 1 on it saturates, and more of it makes latents die, not rows sparse; --target-l0 steers it"
            )
        };
        (self.loss == JumpLoss::Step && self.l0 >= SATURATED).then(|| said(self.l0))
    }

    fn tune(&self, config: &mut TrainConfig) {
        let steps = config.steps().max(1) as f64;
        (config.lr, config.beta1) = ((WAY / steps).clamp(3e-4, FASTEST), 0.0);
        if self.loss == JumpLoss::Tanh {
            (config.lr, config.beta1, config.l1_warmup) = (2e-4, 0.9, 1.0);
        }
    }

    fn init(&self, d_in: usize, d_sae: usize) -> Init {
        match self.loss {
            JumpLoss::Step => Init::Tied { norm: 1.0, encoder: 1.0 },
            JumpLoss::Tanh => Init::Tied { norm: 1.0 / 3f32.sqrt(), encoder: d_in as f32 / d_sae as f32 },
        }
    }

    fn first_firing(&self, d_sae: usize) -> Option<(f64, f32)> {
        (self.loss == JumpLoss::Tanh).then(|| ((10_000.0 / d_sae as f64).min(0.5), self.threshold))
    }

    fn unit_decoder(&self) -> bool {
        self.loss == JumpLoss::Step
    }

    fn selection(&self) -> Selection {
        Selection::Above { margin: 0.5 * self.bandwidth }
    }

    fn select(&self, trained: &Trained) -> Select {
        let threshold = trained.vectors[0].iter().enumerate().map(|(j, t)| t.max(0.0) * trained.factor(j));
        Select::JumpRelu { threshold: threshold.collect() }
    }

    fn sparsity(&self, _: usize) -> Option<f64> {
        Some(self.l0)
    }

    fn coefficient(&self) -> &'static str {
        "l0"
    }

    fn saturates(&self) -> Option<f64> {
        (self.loss == JumpLoss::Step).then_some(SATURATED)
    }

    fn vectors(&self) -> Vec<(&'static str, f32)> {
        vec![("threshold", self.threshold)]
    }

    fn shapes_activations(&self) -> bool {
        true
    }

    fn activate(&self, entries: &mut Entries, vectors: &[Vec<f32>]) {
        for ((act, &z), &j) in entries.act.iter_mut().zip(entries.z).zip(entries.latent) {
            *act = if z > vectors[0][j as usize].max(0.0) { z } else { 0.0 };
        }
    }

    /// Without the pull at latents that are off.
    fn row_penalty(&self, u: &mut [f32]) -> Option<f64> {
        match self.loss {
            JumpLoss::Step => Some(u.iter().filter(|&&u| u > 0.0).count() as f64),
            JumpLoss::Tanh => self.penalty(u),
        }
    }

    /// The step loss is made in `backward`, where the pre-activations are at hand; here it is nothing, with a slope of nothing.
    fn penalty(&self, u: &mut [f32]) -> Option<f64> {
        match self.loss {
            JumpLoss::Step => {
                u.fill(0.0);
                Some(0.0)
            }
            JumpLoss::Tanh => Some(tanh_penalty(self.scale, u)),
        }
    }

    fn backward(&self, entries: &mut Entries, vectors: &[Vec<f32>]) {
        let Entries { latent, z, act, d_pre, d_vectors, range, sparsity, scale, norms, .. } = entries;
        let d_theta = &mut d_vectors[0][range.clone()];
        let step = self.loss == JumpLoss::Step;
        // 1 / B
        let per_row = *scale / 2.0;
        let pull = self.pre_act as f32 * per_row;
        for (i, &j) in latent.iter().enumerate() {
            let theta = vectors[0][j as usize].max(0.0);
            let (on, band) = (act[i] > 0.0, self.kernel(z[i], theta) / self.bandwidth);
            let d_act = d_pre[i];
            // A threshold that has fallen below zero counts as zero and has no slope.
            let alive = f32::from(u8::from(vectors[0][j as usize] > 0.0));
            d_theta[i] = -alive * theta * band * d_act;
            d_pre[i] = if on { d_act } else { 0.0 };
            if step {
                d_theta[i] -= alive * band * *sparsity;
                entries.penalty += f64::from(u8::from(on));
            } else {
                d_pre[i] += theta * band * d_act;
                if on {
                    // What finish_latent takes for all rows is given back for those where the latent is on.
                    let norm = norms[j as usize];
                    d_pre[i] += pull * norm;
                    d_theta[i] -= alive * pull * norm;
                    entries.other -= self.pre_act * f64::from(norm * (theta - z[i]));
                }
            }
        }
    }

    fn finish_latent(&self, step: &mut LatentStep) {
        if self.loss == JumpLoss::Step {
            return;
        }
        let theta = step.vectors[0][step.latent];
        let rows = step.batch as f32;
        let pull = self.pre_act as f32 * step.norm;
        axpy(-pull / rows, step.sum_centred, step.d_w_enc);
        *step.d_b_enc -= pull;
        *step.sum_d_pre -= pull;
        step.d_vectors[0] += if theta > 0.0 { pull } else { 0.0 };
        let sum_z = dot(step.w_enc, step.sum_centred) + rows * step.b_enc;
        *step.loss += f64::from(pull * (rows * theta.max(0.0) - sum_z));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::cpu::check::*;
    use crate::sae::{Recipe, StepSettings};

    /// The loss whose derivative the pseudo-derivatives are: inside the band a is replaced by its line through the jump, held at the point `at`.
    fn loss(recipe: &JumpRelu, p: &Tensors, at: &Tensors, sparsity: f64) -> f64 {
        let band = |z: f64, theta: f64| f64::from(u8::from(z > 0.0 && (z - theta).abs() < 0.5 * recipe.bandwidth as f64)) / recipe.bandwidth as f64;
        let tanh = recipe.loss == JumpLoss::Tanh;
        let row = |x: &[f32]| {
            let (z, z_at) = (pre_acts(p, x, true), pre_acts(at, x, true));
            let mut extra = 0.0;
            let mut acts = Vec::new();
            for j in 0..F {
                let (theta, theta_at) = (p[4][j], at[4][j]);
                let on = f64::from(u8::from(z_at[j] > theta_at));
                let k = band(z_at[j], theta_at);
                let through_z = if tanh { theta_at * k * (z[j] - z_at[j]) } else { 0.0 };
                let act = on * z[j] - theta_at * k * (theta - theta_at) + through_z;
                acts.push((j, act));
                extra += match recipe.loss {
                    JumpLoss::Step => sparsity * (on - k * (theta - theta_at)),
                    JumpLoss::Tanh => {
                        let off = 1.0 - on;
                        sparsity * (recipe.scale as f64 * act * norm(p, j)).tanh() + recipe.pre_act * norm(at, j) * off * (theta - z[j])
                    }
                };
            }
            squared_error(p, x, &acts) + extra
        };
        rows().chunks_exact(D).map(row).sum::<f64>() / B as f64
    }

    #[test]
    fn gradients_are_those_of_the_pseudo_derivatives_sparse_and_dense() {
        let step = JumpRelu { threshold: 0.5, bandwidth: 0.95, ..JumpRelu::default() };
        let tanh = JumpRelu { loss: JumpLoss::Tanh, pre_act: 0.3, ..step.clone() };
        for recipe in [step, tanh] {
            for dense_above in [0.0, 1.1] {
                let settings = StepSettings { lr: 0.0, sparsity: 0.7, dead: &[] };
                let checked = gradient_error(&recipe.clone().into(), &settings, dense_above, |p, at| loss(&recipe, p, at, 0.7));
                assert!(checked.worst < 5e-5, "{recipe:?} dense above {dense_above}: {}", checked.worst);
                // The band is reached: some thresholds have a gradient, and not all for the pull alone.
                assert!(checked.gradient[4].iter().filter(|g| g.abs() > 1e-3).count() >= 3, "{:?}", checked.gradient[4]);
            }
        }
    }

    #[test]
    fn steps_are_repeatable_at_any_thread_count() {
        let tanh: Recipe = JumpRelu { threshold: 1.0, bandwidth: 1.0, ..JumpRelu::with(JumpLoss::Tanh) }.into();
        for (recipe, dense_above) in [(JumpRelu::default().into(), 0.0), (JumpRelu::default().into(), 1.1), (tanh, 1.1)] {
            assert_repeatable_at_any_thread_count(&recipe, dense_above, &[]);
        }
    }

    #[test]
    fn the_losses_have_defaults_of_their_own_and_what_is_given_stays() {
        let named = |settings: &[(&str, serde_json::Value)]| Recipe::named("jump-relu", settings).unwrap();
        assert_eq!(named(&[]), JumpRelu::default().into());
        let tanh = ("loss", "tanh".into());
        assert_eq!(
            named(std::slice::from_ref(&tanh)),
            JumpRelu { l0: 10.0, bandwidth: 2.0, threshold: 0.1, ..JumpRelu::with(JumpLoss::Tanh) }.into()
        );
        let given = named(&[("bandwidth", 0.5.into()), tanh.clone(), ("l0", 3.into())]);
        assert_eq!(given, JumpRelu { l0: 3.0, bandwidth: 0.5, threshold: 0.1, ..JumpRelu::with(JumpLoss::Tanh) }.into());
        // Written out it is read as it is, whatever the defaults.
        assert_eq!(serde_json::from_value::<Recipe>(serde_json::to_value(&given).unwrap()).unwrap(), given);
    }

    #[test]
    fn latents_of_the_tanh_loss_are_on_to_begin_with_as_often_as_they_are_to_be() {
        let (d, f, n) = (16, 30_000, 4096);
        let recipe: Recipe = JumpRelu::with(JumpLoss::Tanh).into();
        let mut rng = crate::artifact::seed::rng(0, "test/jump-relu", 0);
        let x: Vec<f32> = (0..n * d).map(|_| crate::sae::init::gaussian(&mut rng)).collect();
        let config = crate::sae::SaeConfig::new(d, f, recipe);
        let first = crate::sae::init::init_params(&config, 1, &x);
        for j in (0..f).step_by(1000) {
            let w = &first.w_enc[j * d..][..d];
            let on = x.chunks_exact(d).filter(|x| dot(w, x) + first.b_enc[j] > 0.1).count() as f64 / n as f64;
            assert!((on - 1.0 / 3.0).abs() < 0.04, "latent {j} is on in {on} of the rows");
            assert!((dot(w, w).sqrt() / (16.0 / 30_000.0 / 3f32.sqrt()) - 1.0).abs() < 1e-4);
        }
    }

    #[test]
    fn a_coefficient_in_the_saturated_zone_is_warned_of_and_the_default_is_at_its_edge() {
        let cautions = |l0, loss| JumpRelu { l0, ..JumpRelu::with(loss) }.caution().is_some();
        assert_eq!(JumpRelu::default().l0, SATURATED);
        assert_eq!([0.5, 1.0, 100.0].map(|l0| cautions(l0, JumpLoss::Step)), [false, true, true]);
        assert!(!cautions(10.0, JumpLoss::Tanh));
    }

    #[test]
    fn a_band_that_reaches_below_zero_is_refused() {
        let odd = JumpRelu { threshold: 0.001, bandwidth: 1.0, ..JumpRelu::default() };
        assert!(odd.check(5, 7).unwrap_err().contains("below half of the bandwidth"));
    }
}
