//! Sparse but wrong (Chanin and Garriga-Alonso 2025): at too low an L0 an SAE mixes correlated features, and reconstructs better for it.
//!
//! 50 orthogonal features in 100 dimensions, rates 0.345 (49 - i) / 50 + 0.05, firing with random correlations (7 of 10 pairs, size 0.3 to 0.9, either
//! sign, then near what a copula can have), magnitudes N(1, 0.15); 50 latents. Mean L0 is 10.95. With k = 11 the features are found; with
//! k = 9 they are mixed, and the error is below that of the true directions at the same mean number: those whose products with a row are above one threshold for all, at
//! which as many a row are on average as the SAE has, as BatchTopK keeps them.
//!
//! What tells the right L0 without the truth: of a batch of B rows all B F products (x - b_dec) . w_j in falling order, with their signs; the one at place n B, n somewhat above L0. Mixed
//! directions see features that are not theirs; it is small where directions are clean, and from there on. Source: the code beside the paper, which takes the k where it is least. With more than the right k
//! it stays near zero, though, and what is left there is of single features that a training lost; so the finder here takes the smallest k at which it has fallen by [`FALLEN`] of all that it falls by.
//!
//! As published the rate is constant and rows are taken as they come, with a b_dec that begins at zero. Where they are centred first (as selections have it here by themselves) directions at k = 9
//! are mixed more, but with too large a k latents stand for the absence of a feature, products are negative, and the least of them is no judge (LOG.md).

use super::{Architecture, Ask, Chosen, Experiment, Outcome};
use crate::artifact::{Figure, Progress, seed};
use crate::kernels::gemm::matmul_nt;
use crate::sae::{RowSource, Sae, SaeConfig, Select, TrainConfig, Units};
use crate::synth::data::plain::{Magnitude, Plain};
use crate::synth::data::{Dictionary, copula};
use crate::synth::source::{Generator, Rows};
use crate::synth::{Result, scores};
use rand::RngExt;
use serde_json::{Value, json};

pub const WRONG_L0: Experiment = Experiment {
    name: "wrong-l0",
    about: "50 correlated features: too small a k mixes them and reconstructs better; how to find the right k",
    source: "Chanin and Garriga-Alonso 2025, Sparse but Wrong",
    rows: 15_000_000,
    takes: "7 minutes",
    run,
};

const N: usize = 50;
const D: usize = 100;
/// Share of the pairs that are correlated, and between which sizes.
const CORRELATED: f64 = 0.7;
const SIZES: (f64, f64) = (0.3, 0.9);
const MAGNITUDE: Magnitude = Magnitude::Normal { mean: 1.0, sd: 0.15 };

/// The k that are tried; the one that is right, and the one that is too small.
const KS: std::ops::RangeInclusive<usize> = 7..=15;
const RIGHT: usize = 11;
const SMALL: usize = 9;
/// Mean matched cosine above which directions are the true ones: of 50 at most one is lost.
const CLEAN: f64 = 0.98;
/// How much of its fall the product that judges directions has behind it at the k that is found.
const FALLEN: f64 = 0.9;
/// n of that product.
const NTH: usize = 20;

/// Rows that SAEs are scored on, and rows of the batch whose products are put in order.
const EVAL_ROWS: usize = 50_000;
const ORDERED_ROWS: usize = 20_000;

fn rates() -> Vec<f64> {
    (0..N).map(|i| 0.345 * (49 - i) as f64 / 50.0 + 0.05).collect()
}

fn data() -> Plain {
    let mut rng = seed::rng(0, "synth/wrong-l0/correlations", 0);
    let mut correlation = vec![0.0; N * N];
    for i in 0..N {
        correlation[i * N + i] = 1.0;
        for j in 0..i {
            let sign = if rng.random() { 1.0 } else { -1.0 };
            let r = if rng.random_bool(CORRELATED) { sign * rng.random_range(SIZES.0..SIZES.1) } else { 0.0 };
            (correlation[i * N + j], correlation[j * N + i]) = (r, r);
        }
    }
    Plain::new(Dictionary::orthogonal(N, D, 0), &rates(), &copula::factor_of(&correlation, N), N, MAGNITUDE)
}

/// What the rows follow from.
fn identity() -> Value {
    json!({ "generator": "wrong-l0", "world": 0, "d_in": D, "rates": rates(), "correlated": CORRELATED, "sizes": SIZES, "magnitude": MAGNITUDE })
}

/// What is seen of an SAE of one seed.
#[derive(Clone)]
struct Seen {
    l0: f64,
    mcc: f64,
    mse: f64,
    projection: f64,
}

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let data = data();
    let mut figures = Vec::new();
    for architecture in ask.architectures(&[("batch-topk", json!({}))]) {
        let tried = tried(&architecture)?;
        let small = tried.iter().position(|(k, _)| *k == SMALL as f64);
        // Of each k, and the error of the true directions with as many active as the small one has, for each seed.
        let (mut seen, mut truth) = (vec![Vec::new(); tried.len()], Vec::new());
        for &seed in &ask.seeds {
            let config = |chosen: &Chosen| {
                let sae = SaeConfig::new(D, N, chosen.recipe.clone());
                let short = TrainConfig::short(sae, ask.rows(&WRONG_L0), 1024, seed);
                let units = Some(Units::Raw).filter(|units| *units != chosen.recipe.units());
                chosen.tuned(TrainConfig { lr: 3e-4, lr_warmup: 0.0, lr_decay: 0.0, units, snapshots: 0, ..short })
            };
            let jobs: Vec<(String, TrainConfig)> = tried.iter().map(|(_, chosen)| (chosen.label.clone(), config(chosen))).collect();
            let scored = ask.trained(&data, &identity(), &jobs, EVAL_ROWS as u64, progress)?;
            for ((seen, (label, _)), scored) in seen.iter_mut().zip(&jobs).zip(scored) {
                let sae = Sae::load(&ask.place(label, seed))?;
                let projection = nth_projection(&sae, &data, seed, ORDERED_ROWS);
                seen.push(Seen { l0: scored.scores.l0, mcc: scored.scores.mcc, mse: scored.scores.mse, projection });
            }
            if let Some(small) = small {
                let l0 = seen[small].last().expect("of this seed").l0;
                let sae = true_sae(&data, threshold(&data, l0, seed, EVAL_ROWS));
                truth.push(scores::score(&sae, &data, seed, EVAL_ROWS as u64, progress)?.scores.mse);
            }
        }
        for ((_, chosen), seen) in tried.iter().zip(&seen) {
            figures.push(Figure::new(&chosen.label, &format!("{NTH}th projection"), &column(seen, |s| s.projection)));
        }
        figures.extend(conclusions(&architecture.as_it_is()?.label, &tried, &seen, &truth));
    }
    let says = format!(
        "As published: with as many latents per row as features fire, directions are the true ones; with fewer the SAE does better than the truth could at the same mean \
         number, for it mixes features that fire together; and which k is right shows without the truth in what latents that are not used still see of the rows, the {NTH}th \
         largest product per row in the order of a whole batch. Published is that it is least there; found here is the k at which its fall ends. What of it holds is beside each figure.{}",
        not_clean(&figures, &ask.on_rows(&WRONG_L0))
    );
    Ok(Outcome { experiment: WRONG_L0.name, says, figures })
}

/// The name of the figure that the others rest on: whether directions are the true ones where k is right.
fn cosine_where_right() -> String {
    format!("matched cosine, k = {RIGHT}")
}

/// What to say behind all else where features were not found even at the right k: no k tells anything then. `rows` says on how many.
fn not_clean(figures: &[Figure], rows: &str) -> String {
    let missed = figures.iter().filter(|figure| figure.what == cosine_where_right() && figure.holds() == Some(false));
    let missed: Vec<String> = missed.map(|figure| format!("{} ({:.2}, below {CLEAN})", figure.of, figure.ours)).collect();
    match missed.is_empty() {
        true => String::new(),
        false => format!(
            " On {rows} directions are not the true ones even at k = {RIGHT}, by the matched cosine of {}: nothing follows from its figures.",
            missed.join(", nor by that of ")
        ),
    }
}

/// The k that are tried, each with its SAE: the one that the settings have, or all.
fn tried(architecture: &Architecture) -> Result<Vec<(f64, Chosen)>> {
    let mut tried: Vec<(f64, Chosen)> = Vec::new();
    for k in KS {
        let chosen = architecture.at_l0(k as f64)?;
        if tried.iter().all(|(_, before)| before.label != chosen.label) {
            tried.push((chosen.asked_l0().unwrap_or(k as f64), chosen));
        }
    }
    Ok(tried)
}

/// What follows from the k that were tried, as far as they were. `seen` has a list for each, over seeds; `truth` is the error of the true directions at the small k.
fn conclusions(label: &str, tried: &[(f64, Chosen)], seen: &[Vec<Seen>], truth: &[f64]) -> Vec<Figure> {
    let figure = |what: &str, values: &[f64]| Figure::new(label, what, values);
    let at = |k: usize| tried.iter().position(|(own, _)| *own == k as f64).map(|place| &seen[place]);
    let (right, small) = (at(RIGHT), at(SMALL));
    let mut figures = Vec::new();
    for (k, seen) in [(RIGHT, right), (SMALL, small)] {
        let near = (0.95 * k as f64, 1.05 * k as f64);
        figures.extend(seen.map(|seen| figure(&format!("l0, k = {k}"), &column(seen, |s| s.l0)).within(near.0, near.1)));
    }
    if let Some(right) = right {
        figures.push(figure(&cosine_where_right(), &column(right, |s| s.mcc)).published(1.0).at_least(CLEAN));
    }
    if let Some(small) = small {
        figures.push(figure(&format!("matched cosine, k = {SMALL}"), &column(small, |s| s.mcc)));
    }
    if let (Some(right), Some(small)) = (right, small) {
        let gap: Vec<f64> = right.iter().zip(small).map(|(right, small)| right.mcc - small.mcc).collect();
        figures.push(figure(&format!("matched cosine, k = {RIGHT} less k = {SMALL}"), &gap).within(0.1, 1.0));
    }
    if let Some(small) = small {
        let over: Vec<f64> = small.iter().zip(truth).map(|(seen, truth)| seen.mse / truth).collect();
        figures.extend([
            figure(&format!("mse, k = {SMALL}"), &column(small, |s| s.mse)),
            figure(&format!("mse of the true directions, k = {SMALL}"), truth),
            figure(&format!("mse, k = {SMALL}, over that of the true directions"), &over).within(0.0, 1.0),
        ]);
    }
    if tried.len() > 1 {
        let of_seed = |seed_idx: usize| tried.iter().zip(seen).map(|((k, _), seen)| (*k, seen[seed_idx].projection)).collect::<Vec<_>>();
        let of_seeds: Vec<Vec<(f64, f64)>> = (0..seen[0].len()).map(of_seed).collect();
        let least: Vec<f64> =
            of_seeds.iter().map(|of_ks| of_ks.iter().fold((0.0, f64::INFINITY), |best, at| if at.1 < best.1 { *at } else { best }).0).collect();
        let found: Vec<f64> = of_seeds.iter().map(|of_ks| found_k(of_ks)).collect();
        let furthest = found.iter().map(|k| (k - RIGHT as f64).abs()).fold(0.0, f64::max);
        figures.push(figure("k with the least projection", &least).published(RIGHT as f64));
        figures.push(figure(&format!("k at which it has fallen by {FALLEN}"), &found));
        figures.push(figure(&format!("k so found, furthest from {RIGHT} of any seed"), &[furthest]).within(0.0, 1.0));
    }
    figures
}

/// Of projections by k, k ascending: the smallest k at which [`FALLEN`] of the way from the largest to the least is behind it.
fn found_k(of_ks: &[(f64, f64)]) -> f64 {
    let (least, largest) = of_ks.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), at| (at.1.min(least), at.1.max(most)));
    of_ks.iter().find(|at| at.1 <= largest - FALLEN * (largest - least)).map_or(0.0, |at| at.0)
}

fn column(seen: &[Seen], value: fn(&Seen) -> f64) -> Vec<f64> {
    seen.iter().map(value).collect()
}

/// The SAE of the true directions that keeps what is above one threshold for all.
fn true_sae(data: &Plain, threshold: f32) -> Sae {
    let Dictionary { directions, bias, .. } = data.dictionary();
    Sae {
        d_in: D,
        d_sae: N,
        select: Select::JumpRelu { threshold: vec![threshold; N] },
        w_enc: directions.clone(),
        b_enc: vec![0.0; N],
        w_dec: directions.clone(),
        b_dec: bias.clone(),
        apply_b_dec_to_input: true,
        transcoder: None,
    }
}

/// The threshold that `l0` products of a row with the true directions exceed on average, over the first rows that SAEs are scored on.
fn threshold(data: &Plain, l0: f64, seed: u64, rows: usize) -> f32 {
    let Dictionary { directions, bias, .. } = data.dictionary();
    at_place(&mut products(data, (seed, "eval"), rows, bias, directions), (l0 * rows as f64) as usize)
}

/// What stands at place NTH B of all products (x - b_dec) . w_j of B rows in falling order.
fn nth_projection(sae: &Sae, data: &Plain, seed: u64, rows: usize) -> f64 {
    at_place(&mut products(data, (seed, "projection"), rows, &sae.b_dec, &sae.w_dec), NTH * rows) as f64
}

/// (B, F): (x - bias) . w_j of the first B = `rows` rows of a stream. Shapes: bias (D,), w (F, D).
fn products(data: &Plain, (seed, stream): (u64, &'static str), rows: usize, bias: &[f32], w: &[f32]) -> Vec<f32> {
    let mut x = vec![0.0; rows * D];
    Rows::new(data, seed, stream).next_rows(&mut x).expect("rows of a generator do not fail");
    x.chunks_exact_mut(D).for_each(|x| x.iter_mut().zip(bias).for_each(|(x, b)| *x -= b));
    let mut products = vec![0.0; rows * (w.len() / D)];
    matmul_nt(rows, w.len() / D, D, &x, w, &mut products, false);
    products
}

/// The value at a place of the falling order, counted from 0.
fn at_place(values: &mut [f32], place: usize) -> f32 {
    *values.select_nth_unstable_by(place, |a, b| b.total_cmp(a)).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::SparseRows;

    #[test]
    fn a_product_keeps_its_sign_and_has_its_place_in_the_order_of_the_whole_batch() {
        let values = [-3.0, 2.0, 0.5, -1.0];
        assert_eq!([0, 1, 2, 3].map(|place| at_place(&mut values.to_vec(), place)), [2.0, 0.5, -1.0, -3.0]);
        // Against every product by itself, with a bias and with directions turned round, so that signs matter.
        let data = data();
        let mut sae = true_sae(&data, 0.5);
        sae.w_dec.iter_mut().for_each(|w| *w = -*w);
        sae.b_dec.iter_mut().enumerate().for_each(|(i, b)| *b = 0.01 * i as f32);
        let mut x = vec![0.0; 64 * D];
        Rows::new(&data, 3, "projection").next_rows(&mut x).unwrap();
        let product = |x: &[f32], w: &[f32]| (0..D).map(|i| (x[i] - sae.b_dec[i]) as f64 * w[i] as f64).sum::<f64>();
        let mut all: Vec<f64> = x.chunks_exact(D).flat_map(|x| sae.w_dec.chunks_exact(D).map(move |w| product(x, w))).collect();
        all.sort_by(|a, b| b.total_cmp(a));
        let got = nth_projection(&sae, &data, 3, 64);
        assert!((got - all[NTH * 64]).abs() < 1e-4, "{got}, not {}", all[NTH * 64]);
    }

    #[test]
    fn the_true_directions_keep_as_many_a_row_on_average_as_are_asked_for_and_not_in_each_row() {
        let data = data();
        let sae = true_sae(&data, threshold(&data, 9.0, 3, 2000));
        let (mut x, mut rows) = (vec![0.0; 2000 * D], SparseRows::default());
        Rows::new(&data, 3, "eval").next_rows(&mut x).unwrap();
        sae.encode(&x, &mut rows);
        // But for the one at the threshold, which rounding may put on either side.
        assert!((rows.n_active() as i64 - 9 * 2000).abs() <= 1, "{}", rows.n_active());
        assert!((0..2000).any(|r| rows.row(r).0.len() < 7) && (0..2000).any(|r| rows.row(r).0.len() > 11));
    }

    #[test]
    fn a_k_of_the_settings_is_the_only_one_that_is_tried() {
        let ks = |text: &str| tried(&Architecture::parse(text).unwrap()).unwrap().into_iter().map(|(k, _)| k).collect::<Vec<f64>>();
        assert_eq!(ks("batch-topk"), [7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0]);
        assert_eq!((ks("batch-topk:k=11"), ks("topk:k=9"), ks("jump-relu:target_l0=8.5")), (vec![11.0], vec![9.0], vec![8.5]));
        assert_eq!(ks("batch-topk:lr=1e-3").len(), 9);
    }

    #[test]
    fn conclusions_are_drawn_over_seeds_from_the_k_that_there_are() {
        // Two seeds: the projection falls until 11 and until 12, where it is least.
        let seen = |k: f64, least: [f64; 2]| {
            least.map(|at| Seen { l0: k + 0.1, mcc: k / 20.0, mse: 0.1 * k, projection: if k == at { -0.5 } else { (at - k).max(-0.4) } }).to_vec()
        };
        let of = |text: &str| {
            let tried = tried(&Architecture::parse(text).unwrap()).unwrap();
            let seen: Vec<Vec<Seen>> = tried.iter().map(|(k, _)| seen(*k, [11.0, 12.0])).collect();
            conclusions("x", &tried, &seen, &[1.0, 1.8])
        };
        let all = of("batch-topk");
        let figure = |what: &str| all.iter().find(|f| f.what == what).unwrap();
        let (found, furthest) = (figure("k with the least projection"), figure("k so found, furthest from 11 of any seed"));
        assert_eq!((found.ours, found.sd.is_some(), furthest.ours, furthest.holds()), (11.5, true, 1.0, Some(true)));
        assert_eq!(figure("k at which it has fallen by 0.9").ours, 11.5);
        // A mean of 11 that no seed has found.
        let seen: Vec<Vec<Seen>> = tried(&Architecture::parse("batch-topk").unwrap()).unwrap().iter().map(|(k, _)| seen(*k, [9.0, 13.0])).collect();
        let all = conclusions("x", &tried(&Architecture::parse("batch-topk").unwrap()).unwrap(), &seen, &[1.0, 1.8]);
        assert_eq!(all.last().unwrap().holds(), Some(false));
        assert_eq!(all.iter().find(|f| f.what == "l0, k = 9").unwrap().holds(), Some(true));
        assert!((figure("matched cosine, k = 11 less k = 9").ours - 0.1).abs() < 1e-12);
        assert!((figure("mse, k = 9, over that of the true directions").ours - 0.7).abs() < 1e-12);
        assert_eq!(of("batch-topk").len(), 11);
        let whats = |text: &str| of(text).into_iter().map(|f| f.what).collect::<Vec<_>>();
        assert_eq!(whats("batch-topk:k=11"), ["l0, k = 11", "matched cosine, k = 11"]);
        assert_eq!(whats("batch-topk:k=9").len(), 5);
        assert_eq!(whats("batch-topk:k=10").len(), 0);
    }

    #[test]
    fn the_k_that_is_found_is_where_the_fall_ends_and_not_where_what_is_left_is_least() {
        let found = |projections: &[f64]| found_k(&projections.iter().enumerate().map(|(i, &p)| (7.0 + i as f64, p)).collect::<Vec<_>>());
        assert_eq!(found(&[0.15, 0.10, 0.07, 0.04, 0.0015, 0.03, 0.0004, 0.01, 0.0001]), 11.0);
        assert_eq!(found(&[0.15, 0.10, 0.07, 0.04, 0.03, 0.0]), 12.0);
        assert_eq!((found(&[0.5, 0.5]), found(&[f64::NAN, f64::NAN])), (7.0, 0.0));
    }

    #[test]
    fn where_the_right_k_does_not_find_the_features_nothing_is_concluded() {
        let at = |mcc: f64| {
            let tried = tried(&Architecture::parse("batch-topk:k=11").unwrap()).unwrap();
            not_clean(&conclusions("x", &tried, &[vec![Seen { l0: 11.0, mcc, mse: 1.0, projection: 0.1 }]], &[]), "7 rows")
        };
        assert_eq!(at(0.99), "");
        assert!(at(0.6).contains("On 7 rows") && at(0.6).contains("k = 11, by the matched cosine of x (0.60, below 0.98)"), "{}", at(0.6));
    }

    #[test]
    fn the_data_are_named_by_what_their_rows_follow_from() {
        let identity = identity();
        assert_eq!((&identity["rates"][0], &identity["sizes"][1], &identity["correlated"]), (&json!(rates()[0]), &json!(0.9), &json!(0.7)));
    }

    #[test]
    fn the_data_fires_at_its_rates_and_is_correlated() {
        assert!((rates().iter().sum::<f64>() - 10.95).abs() < 0.01);
        let data = data();
        let mut rows = SparseRows::default();
        data.draw(&mut seed::rng(0, "test/wrong-l0", 0), 8000, &mut rows);
        assert!((rows.n_active() as f64 / 8000.0 - 10.95).abs() < 0.15, "{}", rows.n_active());
        let mut pairs = vec![0.0; N * N];
        (0..8000)
            .for_each(|r| rows.row(r).0.iter().for_each(|&i| rows.row(r).0.iter().for_each(|&j| pairs[i as usize * N + j as usize] += 1.0 / 8000.0)));
        let p = rates();
        let far = (0..N * N).filter(|ij| ij / N < ij % N).filter(|ij| {
            let chance = p[ij / N] * p[ij % N];
            (pairs[*ij] - chance).abs() > 5.0 * (chance / 8000.0).sqrt()
        });
        assert!(far.count() > 300, "most of the 1,225 pairs do not fire together by chance");
    }
}
