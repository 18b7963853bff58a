//! What the SAEs of the small benchmark had over five seeds: nothing is published of it, so that a later program is held against these.

use crate::artifact::Figure;

/// Deviations from the mean that are accepted. Five seeds tell a deviation to a third; a machine that rounds otherwise is as good as another seed.
const DEVIATIONS: f64 = 4.0;

/// What is held, in the order of [`BASELINE`].
const HELD: [&str; 3] = ["f1", "mcc", "explained_variance"];

/// Recipe, with the settings of the experiment; mean and standard deviation over seeds 0 to 4 of each of [`HELD`] (LOG.md, 2026-11-29).
const BASELINE: [(&str, [(f64, f64); 3]); 6] = [
    ("topk", [(0.5351, 0.0036), (0.6743, 0.0023), (0.8051, 0.0005)]),
    ("batch-topk", [(0.6724, 0.0060), (0.7407, 0.0021), (0.8153, 0.0005)]),
    ("matryoshka", [(0.8312, 0.0054), (0.7719, 0.0022), (0.8017, 0.0011)]),
    ("jump-relu", [(0.6786, 0.0085), (0.7284, 0.0017), (0.8181, 0.0005)]),
    ("relu-april-2024", [(0.5282, 0.0037), (0.6182, 0.0035), (0.7533, 0.0022)]),
    ("matching-pursuit", [(0.3893, 0.0080), (0.6618, 0.0045), (0.8615, 0.0004)]),
];

/// A figure of an SAE of the experiment's own, with the band that it is to be in.
pub(super) fn held(figure: Figure) -> Figure {
    let recipe = figure.of.split(' ').next().unwrap_or_default();
    let place = HELD.iter().position(|what| *what == figure.what);
    let known = BASELINE.iter().find(|(name, _)| *name == recipe).zip(place).map(|((_, values), place)| values[place]);
    match known {
        Some((mean, deviation)) => Figure { band: Some((mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation)), ..figure },
        None => figure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_recipe_had_is_held_and_nothing_else() {
        for (recipe, values) in BASELINE {
            for (what, (mean, deviation)) in HELD.into_iter().zip(values) {
                let at = |value: f64| held(Figure::new(&format!("{recipe} k=8"), what, &[value])).holds();
                assert!(deviation > 0.0 && deviation < 0.02 && mean > 0.3, "{recipe} {what}");
                assert_eq!([at(mean), at(mean + 4.1 * deviation), at(mean - 4.1 * deviation)], [Some(true), Some(false), Some(false)]);
            }
        }
        let others = [("topk k=8", "recall"), ("gated target_l0=8", "f1"), ("the least of the others", "f1")];
        assert!(others.into_iter().all(|(of, what)| held(Figure::new(of, what, &[0.5])).band.is_none()));
    }
}
