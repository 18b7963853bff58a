//! Whether two SAEs of the same activations found the same directions.

use super::init::gaussian;
use super::model::unit_rows;
use super::{Error, Result, Sae};
use crate::artifact::seed;
use crate::kernels::assignment::assign;
use crate::kernels::gemm::matmul_nt;
use serde::Serialize;
use std::collections::BTreeMap;

/// Two latents count as the same feature from this cosine on.
const MATCHED: f32 = 0.7;

/// Cosines that are held at once: 1 GiB.
const MOST_COSINES: usize = 1 << 28;

/// Pairs of latents up to which what chance gives is computed: 2,048 by 2,048.
pub const MOST_BY_CHANCE: usize = 1 << 22;

/// Of two SAEs, from their decoder directions alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Consistency {
    /// PW-MCC: mean |cos| over the pairs of the one-to-one matching with the largest sum (Song et al. 2025); 1 for the same directions in any order.
    pub pw_mcc: f64,
    /// PW-MCC of as many random directions; absent beyond [`MOST_BY_CHANCE`] pairs of latents, whose matching takes long.
    pub pw_mcc_by_chance: Option<f64>,
    /// Share of these pairs with |cos| of at least 0.7.
    pub matched_frac: f64,
    /// Pairs: as many as the smaller SAE has latents.
    pub n_pairs: usize,
}

/// The formulas of [`Consistency`].
pub fn consistency_formulas() -> BTreeMap<&'static str, String> {
    let pairs = "the pairs (a, b) of decoder directions that match two SAEs one to one with the largest sum of |cos(a, b)| (Song et al. 2025)";
    [
        ("pw_mcc", format!("mean of |cos(a, b)| over {pairs}")),
        (
            "pw_mcc_by_chance",
            format!("pw_mcc of as many directions drawn uniformly from the sphere of the same dimension, seed 0; absent beyond {MOST_BY_CHANCE} pairs of latents, whose matching takes long"),
        ),
        ("matched_frac", format!("share with |cos(a, b)| >= {MATCHED} of {pairs}")),
        ("n_pairs", "latents of the smaller SAE".into()),
    ]
    .into()
}

/// How much of two dictionaries is the same. Time grows with the cube of the number of latents that want the same partner: some seconds for 4,096.
///
/// # Errors
/// Rows of different widths, or more than 2^28 pairs of latents.
pub fn consistency(a: &Sae, b: &Sae) -> Result<Consistency> {
    let d = a.d_out();
    let refuse = |what: String| Err(Error::Config { what });
    if b.d_out() != d {
        return refuse(format!(
            "the SAEs write {d} and {} numbers: their directions are not of one space\n  compare SAEs of the same hook",
            b.d_out()
        ));
    }
    let (small, large) = if a.d_sae <= b.d_sae { (a, b) } else { (b, a) };
    if small.d_sae * large.d_sae > MOST_COSINES {
        return refuse(format!(
            "{} by {} latents are {} pairs, at most {MOST_COSINES} are matched one to one\n  monosem features compare looks for nearest neighbours instead",
            small.d_sae,
            large.d_sae,
            small.d_sae * large.d_sae
        ));
    }
    let (rows, columns) = (small.d_sae, large.d_sae);
    let found = matched(&unit_rows(&small.w_dec, d), &unit_rows(&large.w_dec, d), d);
    let mean = |cosines: &[f32]| cosines.iter().map(|&c| c as f64).sum::<f64>() / rows.max(1) as f64;
    let drawn = |n: usize, which: u64| {
        let mut rng = seed::rng(0, "sae/consistency", which);
        unit_rows(&(0..n * d).map(|_| gaussian(&mut rng)).collect::<Vec<f32>>(), d)
    };
    Ok(Consistency {
        pw_mcc: mean(&found),
        pw_mcc_by_chance: (rows * columns <= MOST_BY_CHANCE).then(|| mean(&matched(&drawn(rows, 0), &drawn(columns, 1), d))),
        matched_frac: found.iter().filter(|&&c| c >= MATCHED).count() as f64 / rows.max(1) as f64,
        n_pairs: rows,
    })
}

/// |cos| of each row of `small` with its partner in the matching of largest sum. `small` (n, d), `large` (m, d), n <= m, rows of length 1.
fn matched(small: &[f32], large: &[f32], d: usize) -> Vec<f32> {
    let (rows, columns) = (small.len() / d, large.len() / d);
    let mut cosines = vec![0.0; rows * columns];
    matmul_nt(rows, columns, d, small, large, &mut cosines, false);
    cosines.iter_mut().for_each(|c| *c = c.abs());
    let partners = assign(&cosines, rows, columns);
    partners.iter().enumerate().map(|(i, &j)| cosines[i * columns + j]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::Select;
    use rand::RngExt;

    fn sae(d: usize, w_dec: Vec<f32>) -> Sae {
        let f = w_dec.len() / d;
        Sae {
            d_in: d,
            d_sae: f,
            select: Select::Relu,
            w_enc: w_dec.clone(),
            b_enc: vec![0.0; f],
            w_dec,
            b_dec: vec![0.0; d],
            apply_b_dec_to_input: true,
            transcoder: None,
        }
    }

    fn random(d: usize, f: usize, index: u64) -> Vec<f32> {
        let mut rng = seed::rng(0, "test/consistency", index);
        (0..f * d).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn the_same_directions_in_another_order_and_of_other_lengths_are_the_same() {
        let (d, f) = (9, 40);
        let w = random(d, f, 1);
        let moved: Vec<f32> = (0..f).flat_map(|j| w[(j * 7 + 3) % f * d..][..d].iter().map(move |v| v * (1 + j) as f32)).collect();
        let found = consistency(&sae(d, w.clone()), &sae(d, moved)).unwrap();
        assert!((found.pw_mcc - 1.0).abs() < 1e-6 && found.matched_frac == 1.0 && found.n_pairs == f);
        // Others are not, and it does not matter which comes first.
        let (a, b) = (sae(d, w), sae(d, random(d, f + 11, 2)));
        let (there, back) = (consistency(&a, &b).unwrap(), consistency(&b, &a).unwrap());
        assert!(there.pw_mcc < 0.9 && there == back && there.n_pairs == f);
        // These are drawn from a cube, and chance is of a sphere: nearly the same.
        let by_chance = there.pw_mcc_by_chance.unwrap();
        assert!((by_chance - there.pw_mcc).abs() < 0.03 && by_chance > 0.5, "{there:?}");
    }

    #[test]
    fn pairs_are_one_to_one_by_hand() {
        let half = std::f32::consts::FRAC_1_SQRT_2;
        // Both latents of the first want the second's latent 0; the better sum gives the other its opposite at right angles.
        let first = sae(2, vec![1.0, 0.0, half, half]);
        let second = sae(2, vec![1.0, 0.0, 0.0, -1.0]);
        let found = consistency(&first, &second).unwrap();
        // 1 and |cos 135 degrees|
        assert!((found.pw_mcc - (1.0 + half as f64) / 2.0).abs() < 1e-6, "{found:?}");
        assert_eq!(found.matched_frac, 1.0);
        let error = consistency(&first, &sae(3, vec![1.0, 0.0, 0.0])).unwrap_err().to_string();
        assert!(error.contains('2') && error.contains('3'), "{error}");
    }
}
