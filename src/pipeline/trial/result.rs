//! What came out of a trial, concept by concept, and when it counts.

use super::Zeroed;
use serde::{Deserialize, Serialize};

/// Fewer concept tokens than this in the unedited texts say nothing about a rate.
pub const MIN_BASELINE: u64 = 20;

/// What one way of changing the model did to a concept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    pub rate: f64,
    /// Rate over that of the unedited texts; none where these have nothing of the concept.
    pub times: Option<f64>,
    pub perplexity_ratio: f64,
    pub distinct_2_ratio: f64,
    pub kl: f64,
}

/// One concept's outcome with one SAE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConceptTrial {
    pub concept: String,
    pub kind: String,
    pub from_context: bool,
    /// Name of the SAE.
    pub sae: String,
    /// Concept tokens in the unedited texts, and their rate.
    pub baseline_tokens: u64,
    pub baseline_rate: f64,
    /// None where the concept's features were only held at zero.
    pub raising: Option<Raising>,
    /// The feature without which it is least likely held at zero, the four, and all there is at the hook.
    pub zeroed: Zeroed,
    pub zeroed_four: Zeroed,
    pub zeroed_hook: Zeroed,
}

/// What holding a feature up does, and what else would have done the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Raising {
    /// Chosen on half A and pilot texts; the strength is in maxima.
    pub latent: u32,
    pub strength: f32,
    /// Whether the strength left the pilot texts whole.
    pub whole: bool,
    pub feature: Arm,
    /// The logits of the concept's tokens raised so that the KL is the feature's.
    pub logit_bias: Arm,
    /// The mean activation before the concept less that elsewhere added, at the feature's KL.
    pub mean_difference: Arm,
    /// A stretch of held-out text with the concept before the text; its KL is what it is.
    pub prompt: Arm,
    /// Features of like density, clamped to the same multiple of their maxima.
    pub random: Vec<Arm>,
    /// The feature at zero in place of held up.
    #[serde(default)]
    pub zeroed: Option<Zeroed>,
}

impl Raising {
    /// Mean rate with the features drawn at random, over that of the unedited texts; none where there were none of either.
    pub fn random_times(&self) -> Option<f64> {
        let times: Vec<f64> = self.random.iter().filter_map(|arm| arm.times).collect();
        (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64)
    }
}

impl ConceptTrial {
    /// At least 5 times the rate, from a baseline that says something, with the text whole by the wider bounds (perplexity at most 2, distinct-2 at least 0.8 times).
    pub fn raised(&self) -> bool {
        let enough = |f: &Arm| f.times.is_some_and(|t| t >= 5.0) && f.perplexity_ratio <= 2.0 && f.distinct_2_ratio >= 0.8;
        self.baseline_tokens >= MIN_BASELINE && self.raising.as_ref().is_some_and(|r| enough(&r.feature))
    }

    /// Raised, and features drawn at random do not do a third of it: they leave the rate below 1.5 times.
    pub fn raised_beyond_chance(&self) -> bool {
        self.raised() && self.raising.as_ref().and_then(Raising::random_times).is_some_and(|t| t < 1.5)
    }

    /// One feature at zero, the raised one or the one without which it is least likely, takes at least 60 % of it where it is called for, and changes the loss
    /// elsewhere by less than 1 %.
    pub fn lowered(&self) -> bool {
        let enough = |zeroed: &Zeroed| zeroed.lowered().is_some_and(|l| l >= 0.6) && zeroed.cost().abs() < 0.01;
        enough(&self.zeroed) || self.raising.as_ref().and_then(|r| r.zeroed.as_ref()).is_some_and(enough)
    }

    /// One line of what came out.
    pub(super) fn told(&self) -> String {
        let raised = self.raising.as_ref().map_or(String::new(), |r| {
            let (times, perplexity) = (r.feature.times.unwrap_or(f64::NAN), r.feature.perplexity_ratio);
            let zeroed = r.zeroed.as_ref().map_or(String::new(), |zeroed| format!(", at zero {}", less(zeroed)));
            format!("latent {} at {} x max, {times:.1} times as often (perplexity x{perplexity:.2}){zeroed}; ", r.latent, r.strength)
        });
        let latents: Vec<String> = self.zeroed.latents.iter().map(u32::to_string).collect();
        format!("{}: {raised}latent {} at zero: {}", self.concept, latents.join(", "), less(&self.zeroed))
    }
}

fn less(zeroed: &Zeroed) -> String {
    format!("{:.0} % less", 100.0 * zeroed.lowered().unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(times: f64) -> Arm {
        Arm { rate: 0.1, times: Some(times), perplexity_ratio: 1.9, distinct_2_ratio: 0.9, kl: 1.0 }
    }

    /// Raised 6 times where features at random raise it 1.2 times, and lowered by 70 % at 0.5 %.
    fn good() -> ConceptTrial {
        let zeroed =
            Zeroed { latents: vec![1], unedited: 100, zeroed: 30, n_texts: 200, n_places: 150, other_loss_unedited: 2.0, other_loss_zeroed: 2.01 };
        let raising = Raising {
            latent: 1,
            strength: 2.0,
            whole: true,
            feature: arm(6.0),
            logit_bias: arm(2.0),
            mean_difference: arm(2.0),
            prompt: arm(2.0),
            random: vec![arm(1.0), arm(1.4)],
            zeroed: None,
        };
        ConceptTrial {
            concept: "gem".into(),
            kind: "class".into(),
            from_context: false,
            sae: "main".into(),
            baseline_tokens: 20,
            baseline_rate: 0.01,
            raising: Some(raising),
            zeroed_four: zeroed.clone(),
            zeroed_hook: zeroed.clone(),
            zeroed,
        }
    }

    #[test]
    fn a_concept_counts_as_raised_or_lowered_only_within_every_bound() {
        assert!(good().raised() && good().raised_beyond_chance() && good().lowered());
        let raising = |change: &dyn Fn(&mut Raising)| {
            let mut trial = good();
            change(trial.raising.as_mut().unwrap());
            trial
        };
        for change in [
            &(|r: &mut Raising| r.feature.times = Some(4.9)) as &dyn Fn(&mut Raising),
            &|r| r.feature.times = None,
            &|r| r.feature.perplexity_ratio = 2.1,
            &|r| r.feature.distinct_2_ratio = 0.7,
        ] {
            assert!(!raising(change).raised());
        }
        assert!(!ConceptTrial { baseline_tokens: 19, ..good() }.raised() && !ConceptTrial { raising: None, ..good() }.raised());
        let by_any = raising(&|r| r.random = vec![arm(3.0), arm(0.5)]);
        assert!(by_any.raised() && !by_any.raised_beyond_chance());
        let lowered = |unedited, zeroed, other_loss_zeroed| {
            let mut trial = good();
            trial.zeroed = Zeroed { unedited, zeroed, other_loss_zeroed, ..trial.zeroed };
            trial.lowered()
        };
        assert!(!lowered(100, 50, 2.0) && !lowered(100, 30, 2.03) && !lowered(100, 30, 1.97) && lowered(100, 0, 1.99));
        assert!(!lowered(19, 0, 2.0) && lowered(20, 0, 2.0), "too little to say");
        let by_itself = |zeroed, other_loss_zeroed| {
            let mut trial = raising(&|r| r.zeroed = Some(Zeroed { zeroed, other_loss_zeroed, ..good().zeroed }));
            trial.zeroed.zeroed = 50;
            trial.lowered()
        };
        assert!(by_itself(40, 2.0) && !by_itself(41, 2.0) && !by_itself(0, 2.03), "the raised feature at zero");
    }
}
