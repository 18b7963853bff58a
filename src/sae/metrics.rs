//! Metrics of an SAE over held-out rows, as global sums in f64; each formula is named in `formulas` of eval.json.

use super::{Sae, SparseRows};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A latent is junk when the cosine between its encoder row and its decoder direction is below this: real features lie near 1, the cluster
/// that never learned is spread about 0.
pub const JUNK_COSINE: f64 = 0.1;

/// Below this density a latent that fired is ultra-rare (Bricken et al. 2023).
const ULTRA_RARE: f64 = 1e-6;

/// A direction with a larger cosine than this with another is nearly its double.
const NEAR_DUPLICATE: f32 = 0.9;

/// Rows whose variance is less than this of their mean square have none.
pub(super) const NO_VARIANCE: f64 = 1e-12;

/// Latents whose nearest direction is looked for.
const GEOMETRY_LATENTS: usize = 1024;

/// What `eval.json` holds. The cross-entropies need the language model and are added by the stage that has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Eval {
    pub l0: f64,
    pub l1: f64,
    pub mse: f64,
    pub nmse: f64,
    pub fvu: f64,
    pub explained_variance: f64,
    pub cosine: f64,
    pub l2_ratio: f64,
    /// Above 1 reconstructions are too long along x, below 1 too short (shrinkage). Absent in an `eval.json` of an older program, like the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_reconstruction_bias: Option<f64>,
    /// How near decoder directions lie to each other; over at most [`GEOMETRY_LATENTS`] of them at even distances, each beside all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_max_decoder_cosine: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near_duplicate_frac: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_clean: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_spliced: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_zero: Option<f64>,
    /// With the mean over training text in place of each row; over which rows, [`metric_formulas`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_mean: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_recovered_zero: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_recovered_mean: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// Tokens of `ce_split` that the cross-entropies are means over, and those of them that `kl` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_ce_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_kl_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_split: Option<String>,
    /// Share of latents that fired on none of `n_eval_tokens`.
    pub dead_frac: f64,
    /// Share of latents that fired, but on fewer than one in a million tokens; none where so few tokens were seen that one firing is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ultra_rare_frac: Option<f64>,
    /// Share of latents whose encoder and decoder directions have a cosine below `junk_cosine`; none for a transcoder, whose ends are different places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub junk_frac: Option<f64>,
    /// The threshold of `junk_frac`.
    pub junk_cosine: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_encoder_decoder_cosine: Option<f64>,
    pub n_latents: u64,
    pub n_eval_tokens: u64,
    /// Latents by density: entry 0 never fired, entry 1 is below 1e-7, then a decade each, [1e-7, 1e-6) ... [1e-1, 1].
    pub density_histogram: Vec<u64>,
    /// Name of a number -> its formula.
    pub formulas: BTreeMap<String, String>,
}

/// Running sums over rows, all in f64.
pub struct Metrics {
    /// Width of what is reconstructed.
    d: usize,
    n: u64,
    /// The first row: sums of squares are taken around it, so that a large mean does not cancel them away.
    shift: Vec<f64>,
    /// Sum of x - shift, (D,), and of |x - shift|^2.
    sum: Vec<f64>,
    shifted_squares: f64,
    squares: f64,
    squared_error: f64,
    /// Sums of |x_hat|^2 and of x . x_hat.
    reconstructed: f64,
    products: f64,
    cosine: f64,
    ratio: f64,
    /// Rows with a norm, over which cosine and ratio are means.
    n_directed: u64,
    l1: f64,
    active: u64,
    /// (F,): rows that each latent fired on.
    fires: Vec<u64>,
}

impl Metrics {
    pub fn new(sae: &Sae) -> Self {
        Metrics {
            d: sae.d_out(),
            n: 0,
            shift: Vec::new(),
            sum: vec![0.0; sae.d_out()],
            shifted_squares: 0.0,
            squares: 0.0,
            squared_error: 0.0,
            reconstructed: 0.0,
            products: 0.0,
            cosine: 0.0,
            ratio: 0.0,
            n_directed: 0,
            l1: 0.0,
            active: 0,
            fires: vec![0; sae.d_sae],
        }
    }

    /// Adds what was to be reconstructed, x (n, E), the reconstruction x_hat (n, E) and the activations. x is the input but for transcoders.
    pub fn add(&mut self, x: &[f32], x_hat: &[f32], rows: &SparseRows) {
        let d = self.d;
        assert!(x.len() == x_hat.len() && x.len() == rows.n_rows() * d, "{} and {} elements for {} rows", x.len(), x_hat.len(), rows.n_rows());
        if self.shift.is_empty() && !x.is_empty() {
            self.shift = x[..d].iter().map(|&v| v as f64).collect();
        }
        for (x, x_hat) in x.chunks_exact(d).zip(x_hat.chunks_exact(d)) {
            let (mut square, mut square_hat, mut product) = (0.0, 0.0, 0.0);
            for (i, (&x, &x_hat)) in x.iter().zip(x_hat).enumerate() {
                let (x, x_hat) = (x as f64, x_hat as f64);
                let shifted = x - self.shift[i];
                self.sum[i] += shifted;
                self.shifted_squares += shifted * shifted;
                self.squared_error += (x - x_hat) * (x - x_hat);
                square += x * x;
                square_hat += x_hat * x_hat;
                product += x * x_hat;
            }
            self.squares += square;
            self.reconstructed += square_hat;
            self.products += product;
            if square > 0.0 {
                self.n_directed += 1;
                self.ratio += (square_hat / square).sqrt();
                self.cosine += if square_hat > 0.0 { product / (square * square_hat).sqrt() } else { 0.0 };
            }
        }
        self.n += rows.n_rows() as u64;
        self.active += rows.n_active() as u64;
        self.l1 += rows.act.iter().map(|&a| a as f64).sum::<f64>();
        rows.latent.iter().for_each(|&j| self.fires[j as usize] += 1);
    }

    /// Mean active latents so far.
    pub fn l0(&self) -> f64 {
        self.active as f64 / self.n.max(1) as f64
    }

    /// The figures of the rows that were added.
    pub fn finish(self, sae: &Sae) -> Eval {
        let n = self.n.max(1) as f64;
        let f = sae.d_sae as f64;
        let variance = self.shifted_squares - self.sum.iter().map(|s| s * s).sum::<f64>() / n;
        // Rows that are all alike have no variance to explain: exact reconstruction explains all of it, anything else none.
        let fvu = match variance > NO_VARIANCE * self.squares.max(f64::MIN_POSITIVE) {
            true => self.squared_error / variance,
            false => f64::from(u8::from(self.squared_error > NO_VARIANCE * self.squares)),
        };
        let cosines = sae.encoder_decoder_cosines();
        let nearest = sae.nearest_directions(GEOMETRY_LATENTS);
        let mean_max = nearest.iter().map(|&c| c as f64).sum::<f64>() / nearest.len().max(1) as f64;
        let doubles = nearest.iter().filter(|&&c| c > NEAR_DUPLICATE).count() as f64 / nearest.len().max(1) as f64;
        let share = |count: usize| count as f64 / f;
        let density = |fires: u64| fires as f64 / n;
        let mut density_histogram = vec![0; 9];
        for &fires in &self.fires {
            let decade = (density(fires).log10().floor() as i64 + 9).clamp(1, 8) as usize;
            density_histogram[if fires == 0 { 0 } else { decade }] += 1;
        }
        let directed = self.n_directed.max(1) as f64;
        Eval {
            l0: self.active as f64 / n,
            l1: self.l1 / n,
            mse: self.squared_error / n,
            nmse: if self.squares > 0.0 { self.squared_error / self.squares } else { 0.0 },
            fvu,
            explained_variance: 1.0 - fvu,
            cosine: self.cosine / directed,
            l2_ratio: self.ratio / directed,
            relative_reconstruction_bias: (self.products != 0.0).then(|| self.reconstructed / self.products),
            mean_max_decoder_cosine: (!nearest.is_empty()).then_some(mean_max),
            near_duplicate_frac: (!nearest.is_empty()).then_some(doubles),
            dead_frac: share(self.fires.iter().filter(|&&k| k == 0).count()),
            ultra_rare_frac: (density(1) < ULTRA_RARE).then(|| share(self.fires.iter().filter(|&&k| k > 0 && density(k) < ULTRA_RARE).count())),
            junk_frac: (!cosines.is_empty()).then(|| share(cosines.iter().filter(|&&c| (c as f64) < JUNK_COSINE).count())),
            junk_cosine: JUNK_COSINE,
            mean_encoder_decoder_cosine: (!cosines.is_empty()).then(|| cosines.iter().map(|&c| c as f64).sum::<f64>() / f),
            n_latents: sae.d_sae as u64,
            n_eval_tokens: self.n,
            density_histogram,
            formulas: metric_formulas(),
            ..Eval::default()
        }
    }
}

/// The formula of each number of [`Eval`]; t runs over the evaluated tokens, i over latents.
pub fn metric_formulas() -> BTreeMap<String, String> {
    let list = [
        ("l0", "mean_t #{i: act_ti > 0}"),
        ("l1", "mean_t sum_i act_ti"),
        ("mse", "mean_t |x_t - x_hat_t|^2 (summed over d_out; x is what is reconstructed, the input but for transcoders)"),
        ("nmse", "sum_t |x_t - x_hat_t|^2 / sum_t |x_t|^2"),
        ("fvu", "sum_t |x_t - x_hat_t|^2 / sum_t |x_t - mean(x)|^2"),
        ("explained_variance", "1 - fvu"),
        ("cosine", "mean over t with x_t != 0 of cos(x_t, x_hat_t), which is 0 where x_hat_t = 0"),
        ("l2_ratio", "mean over t with x_t != 0 of |x_hat_t| / |x_t|"),
        ("relative_reconstruction_bias", "sum_t |x_hat_t|^2 / sum_t x_t . x_hat_t"),
        ("mean_max_decoder_cosine", &format!("mean over at most {GEOMETRY_LATENTS} latents i of max over j != i of cos(w_dec_i, w_dec_j)")),
        ("near_duplicate_frac", &format!("share of these latents whose maximum is above {NEAR_DUPLICATE}")),
        (
            "ce_clean",
            "mean next-token cross-entropy in nats, model unchanged, over predictions in whole windows of the stream that are made neither at the first position of one nor at <|endoftext|>",
        ),
        ("ce_spliced", "the same with x replaced by x_hat"),
        ("ce_zero", "the same with x replaced by zero"),
        (
            "ce_mean",
            "the same with x replaced by its mean over the rows that count (neither at the first position of a window nor at <|endoftext|>) in about 100,000 tokens of training text, whole windows at even distances",
        ),
        ("gap_nats", "ce_spliced - ce_clean"),
        ("ce_recovered_zero", "(ce_zero - ce_spliced) / (ce_zero - ce_clean)"),
        ("ce_recovered_mean", "(ce_mean - ce_spliced) / (ce_mean - ce_clean)"),
        ("kl", "mean_t KL(clean || spliced) of the next-token distributions, nats"),
        ("dead_frac", "share of latents with no firing on n_eval_tokens"),
        (
            "ultra_rare_frac",
            &format!(
                "share of latents that fired, on fewer than {ULTRA_RARE:e} of n_eval_tokens; absent up to a million tokens, of which one is more"
            ),
        ),
        ("junk_frac", "share of latents with cos(w_enc_i, w_dec_i) < junk_cosine"),
        ("mean_encoder_decoder_cosine", "mean_i cos(w_enc_i, w_dec_i)"),
        ("density_histogram", "latents by density: none, < 1e-7, then [1e-7, 1e-6) to [1e-1, 1] by decade"),
    ];
    list.into_iter().map(|(name, formula)| (name.into(), formula.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use crate::sae::Select;
    use rand::RngExt;

    /// Rows around a large mean, positive.
    fn rows(n: usize, d: usize) -> Vec<f32> {
        let mut rng = seed::rng(0, "test/metrics", 0);
        (0..n * d).map(|i| 100.0 * (1 + i % d) as f32 + rng.random_range(0.0..1.0f32)).collect()
    }

    fn identity(d: usize) -> Sae {
        let eye: Vec<f32> = (0..d * d).map(|i| f32::from(u8::from(i / d == i % d))).collect();
        Sae {
            d_in: d,
            d_sae: d,
            select: Select::Relu,
            w_enc: eye.clone(),
            b_enc: vec![0.0; d],
            w_dec: eye,
            b_dec: vec![0.0; d],
            apply_b_dec_to_input: false,
            transcoder: None,
        }
    }

    fn measure(sae: &Sae, x: &[f32], batch: usize) -> Eval {
        let mut metrics = Metrics::new(sae);
        let mut encoded = SparseRows::default();
        for x in x.chunks(batch * sae.d_in) {
            let mut x_hat = vec![0.0; x.len()];
            sae.encode(x, &mut encoded);
            sae.decode(&encoded, &mut x_hat);
            metrics.add(x, &x_hat, &encoded);
        }
        metrics.finish(sae)
    }

    #[test]
    fn the_identity_explains_everything() {
        let eval = measure(&identity(5), &rows(60, 5), 7);
        assert_eq!((eval.explained_variance, eval.fvu, eval.mse, eval.l0), (1.0, 0.0, 0.0, 5.0));
        assert!((eval.cosine - 1.0).abs() < 1e-12 && (eval.l2_ratio - 1.0).abs() < 1e-12);
        assert_eq!((eval.dead_frac, eval.junk_frac, eval.mean_encoder_decoder_cosine), (0.0, Some(0.0), Some(1.0)));
        assert!((eval.relative_reconstruction_bias.unwrap() - 1.0).abs() < 1e-12);
        assert_eq!((eval.mean_max_decoder_cosine, eval.near_duplicate_frac), (Some(0.0), Some(0.0)));
        assert_eq!(eval.density_histogram, [0, 0, 0, 0, 0, 0, 0, 0, 5]);
    }

    #[test]
    fn the_figures_of_rows_with_unequal_errors_are_ratios_of_sums() {
        let mut sae = identity(2);
        sae.b_dec = vec![1.0, 0.0];
        // Of the third row the second number is below zero and lost: x = (2, -6), x_hat = (3, 0), off by (1, 6). The mean is (10 / 3, -2 / 3).
        let eval = measure(&sae, &[5.0, 0.0, 3.0, 4.0, 2.0, -6.0], 2);
        // 1 + 1 + 37 beside 25 + 25 + 40, and beside 90 - 3 (100 + 4) / 9.
        assert_eq!(eval.mse, 13.0);
        assert!((eval.nmse - 39.0 / 90.0).abs() < 1e-12 && (eval.fvu - 39.0 / (90.0 - 104.0 / 3.0)).abs() < 1e-12, "{} {}", eval.nmse, eval.fvu);
    }

    #[test]
    fn the_figures_of_two_rows_are_those_worked_out_by_hand() {
        let mut sae = identity(2);
        sae.b_dec = vec![1.0, 0.0];
        // x = (5, 0) and (3, 4), acts the same, x_hat = (6, 0) and (4, 4): off by (1, 0) in each row. Centred, these errors would be none at all.
        let eval = measure(&sae, &[5.0, 0.0, 3.0, 4.0], 2);
        // Summed over d_in, averaged over rows: (1 + 1) / 2.
        assert_eq!(eval.mse, 1.0);
        // (5 + (3 + 4)) / 2; one active latent in the first row, two in the second.
        assert_eq!((eval.l1, eval.l0), (6.0, 1.5));
        // (1 + 1) / (25 + 25)
        assert_eq!(eval.nmse, 0.04);
        // The mean is (4, 2), the rows (1, -2) and (-1, 2) from it: (1 + 1) / (5 + 5).
        assert_eq!((eval.fvu, eval.explained_variance), (0.2, 0.8));
        // (5, 0) . (6, 0) / (5 * 6) = 1 and (3, 4) . (4, 4) / (5 * 5.656854249) = 0.989949494; 6 / 5 and 5.656854249 / 5; (36 + 32) / (30 + 28).
        assert!((eval.cosine - 0.994974747).abs() < 1e-9 && (eval.l2_ratio - 1.165685425).abs() < 1e-9);
        assert!((eval.relative_reconstruction_bias.unwrap() - 1.172413793).abs() < 1e-9);
        assert_eq!((eval.dead_frac, eval.n_latents, eval.n_eval_tokens), (0.0, 2, 2));
    }

    #[test]
    fn predicting_the_mean_explains_nothing() {
        let x = rows(60, 5);
        let mut sae = identity(5);
        sae.w_dec.fill(0.0);
        for i in 0..5 {
            sae.b_dec[i] = (x.iter().skip(i).step_by(5).map(|&v| v as f64).sum::<f64>() / 60.0) as f32;
        }
        let eval = measure(&sae, &x, 60);
        // The mean is rounded to f32 at values of some 500: error 3e-5 beside a spread of 0.3.
        assert!(eval.explained_variance.abs() < 1e-6, "{}", eval.explained_variance);
        assert_eq!(eval.junk_frac, Some(1.0));
    }

    #[test]
    fn the_reconstruction_bias_is_the_factor_that_reconstructions_are_off_by_and_twins_are_near_duplicates() {
        let mut sae = identity(5);
        sae.w_dec.iter_mut().for_each(|w| *w *= 0.5);
        let eval = measure(&sae, &rows(60, 5), 60);
        // |x / 2|^2 / (x . x / 2)
        assert!((eval.relative_reconstruction_bias.unwrap() - 0.5).abs() < 1e-6 && (eval.l2_ratio - 0.5).abs() < 1e-6);
        // Latents 0 and 1 now point the same way, 2 is at 45 degrees to them, 3 and 4 at right angles to all.
        sae.w_dec[5..10].copy_from_slice(&[3.0, 0.0, 0.0, 0.0, 0.0]);
        sae.w_dec[10..15].copy_from_slice(&[1.0, 0.0, 1.0, 0.0, 0.0]);
        let eval = measure(&sae, &rows(60, 5), 60);
        let want = (1.0 + 1.0 + std::f64::consts::FRAC_1_SQRT_2 + 0.0 + 0.0) / 5.0;
        assert!((eval.mean_max_decoder_cosine.unwrap() - want).abs() < 1e-6, "{:?}", eval.mean_max_decoder_cosine);
        assert_eq!(eval.near_duplicate_frac, Some(0.4));
    }

    #[test]
    fn figures_do_not_depend_on_how_rows_are_cut_into_batches() {
        let x = rows(60, 5);
        let mut sae = identity(5);
        sae.b_enc = vec![-150.0; 5];
        let (whole, parts) = (measure(&sae, &x, 60), measure(&sae, &x, 7));
        assert_eq!(whole.l0, 4.0);
        assert_eq!(whole.density_histogram[0], 1);
        for (a, b) in [(whole.fvu, parts.fvu), (whole.mse, parts.mse), (whole.cosine, parts.cosine), (whole.l1, parts.l1)] {
            assert!((a - b).abs() <= 1e-12 * a.abs(), "{a} {b}");
        }
        assert!(!serde_json::to_string(&whole).unwrap().contains("\"ce_clean\":n"));
    }

    #[test]
    fn every_figure_has_a_formula_and_every_formula_a_figure() {
        let mut all = Eval::default();
        let Eval { relative_reconstruction_bias, mean_max_decoder_cosine, near_duplicate_frac, ce_clean, ce_spliced, ce_zero, ce_mean, .. } =
            &mut all;
        [relative_reconstruction_bias, mean_max_decoder_cosine, near_duplicate_frac, ce_clean, ce_spliced, ce_zero, ce_mean]
            .into_iter()
            .for_each(|v| *v = Some(0.0));
        let Eval { ce_recovered_zero, ce_recovered_mean, kl, ultra_rare_frac, junk_frac, mean_encoder_decoder_cosine, .. } = &mut all;
        [ce_recovered_zero, ce_recovered_mean, kl, ultra_rare_frac, junk_frac, mean_encoder_decoder_cosine].into_iter().for_each(|v| *v = Some(0.0));
        let all = serde_json::to_value(&all).unwrap();
        let figures = all.as_object().unwrap().keys().map(String::as_str);
        let mut figures: Vec<&str> = figures.filter(|key| !key.starts_with("n_") && !["junk_cosine", "formulas"].contains(key)).collect();
        // What controls have beside it.
        figures.push("gap_nats");
        figures.sort_unstable();
        assert_eq!(metric_formulas().keys().map(String::as_str).collect::<Vec<_>>(), figures);
    }

    #[test]
    fn ultra_rare_is_told_only_where_one_firing_is_rarer_than_one_in_a_million() {
        let told = |n: u64| {
            let mut metrics = Metrics::new(&identity(4));
            (metrics.n, metrics.fires) = (n, vec![0, 1, 2, 1000]);
            metrics.finish(&identity(4)).ultra_rare_frac
        };
        assert_eq!((told(1_000_000), told(1_500_000), told(2_500_000)), (None, Some(0.25), Some(0.5)));
    }
}
