//! Features without trees: rates, who fires together (`copula`), magnitudes from one distribution.
//!
//! N = features.

use super::{Dictionary, copula::Copula};
use crate::sae::SparseRows;
use crate::synth::normal;
use crate::synth::source::Generator;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// How strongly an active feature is on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Magnitude {
    /// On [0, 1).
    Uniform,
    /// relu(N(mean, sd)); a feature with magnitude 0 does not fire.
    Normal { mean: f32, sd: f32 },
    /// exp(N(0, sd)).
    LogNormal { sd: f32 },
}

impl Magnitude {
    fn draw(self, rng: &mut ChaCha8Rng) -> f32 {
        match self {
            Magnitude::Uniform => rng.random(),
            Magnitude::Normal { mean, sd } => (mean + sd * normal::draw(rng)).max(0.0),
            Magnitude::LogNormal { sd } => (sd * normal::draw(rng)).exp(),
        }
    }
}

pub struct Plain {
    dictionary: Dictionary,
    copula: Copula,
    magnitude: Magnitude,
}

impl Plain {
    /// Shapes: rates (N,), in falling order where many are small, for neighbours share a bound; factor (N, rank), rank 0: independent features.
    pub fn new(dictionary: Dictionary, rates: &[f64], factor: &[f32], rank: usize, magnitude: Magnitude) -> Self {
        assert_eq!(dictionary.n_features(), rates.len(), "directions and rates");
        Plain { dictionary, copula: Copula::new(rates, factor, rank), magnitude }
    }
}

impl Generator for Plain {
    fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    fn draw(&self, rng: &mut ChaCha8Rng, n: usize, rows: &mut SparseRows) {
        let shared = self.copula.shared(rng, n);
        let mut active: Vec<(Vec<u32>, Vec<f32>)> = vec![Default::default(); n];
        // Tile by tile, ascending: the features of a row come in order.
        self.copula.each_rare(0..self.dictionary.n_features(), &shared, rng, |rng, row, feature| {
            let magnitude = self.magnitude.draw(rng);
            if magnitude > 0.0 {
                active[row].0.push(feature as u32);
                active[row].1.push(magnitude);
            }
        });
        active.iter().for_each(|(ids, magnitudes)| rows.push_row(ids, magnitudes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;

    #[test]
    fn features_fire_at_their_rates_with_the_magnitudes_asked_for() {
        // Mean and mean square: of U[0, 1); of N(1, 0.15^2); of exp(N(0, 0.25^2)), exp(s^2 / 2) and exp(2 s^2).
        let cases = [
            (Magnitude::Uniform, 0.5, 1.0 / 3.0),
            (Magnitude::Normal { mean: 1.0, sd: 0.15 }, 1.0, 1.0225),
            (Magnitude::LogNormal { sd: 0.25 }, 1.03174, 1.13315),
        ];
        let rates: Vec<f64> = (0..40).map(|i| 0.3 * 0.8f64.powi(i)).collect();
        for (magnitude, mean, square) in cases {
            let plain = Plain::new(Dictionary::random(40, 6, 1), &rates, &[], 0, magnitude);
            let mut rows = SparseRows::default();
            plain.draw(&mut seed::rng(1, "test/plain", 0), 20_000, &mut rows);
            let fired = rows.n_active() as f64;
            assert!((fired / 20_000.0 - rates.iter().sum::<f64>()).abs() < 0.04, "{magnitude:?}: {fired}");
            let moment = |power| rows.act.iter().map(|&a| (a as f64).powi(power)).sum::<f64>() / fired;
            assert!((moment(1) - mean).abs() < 0.01 && (moment(2) - square).abs() < 0.02, "{magnitude:?}: {} {}", moment(1), moment(2));
            for feature in [0u32, 7, 20] {
                let rate = rows.latent.iter().filter(|&&i| i == feature).count() as f64 / 20_000.0;
                let p = rates[feature as usize];
                assert!((rate - p).abs() < 4.0 * (p / 20_000.0).sqrt(), "feature {feature}: {rate}, not {p}");
            }
        }
    }
}
