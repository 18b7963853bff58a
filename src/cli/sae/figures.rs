//! The figures of an SAE, in the order in which `sae eval` and `sae compare` list them.

use crate::sae::Eval;

/// Name, as in eval.json and its formulas, and its value of an SAE, if it has one.
pub(super) type Figure = (&'static str, fn(&Eval) -> Option<f64>);

/// Of what rows are and come to be.
pub(super) const OF_ROWS: [Figure; 9] = [
    ("l0", |e| Some(e.l0)),
    ("l1", |e| Some(e.l1)),
    ("mse", |e| Some(e.mse)),
    ("fvu", |e| Some(e.fvu)),
    ("explained_variance", |e| Some(e.explained_variance)),
    ("nmse", |e| Some(e.nmse)),
    ("cosine", |e| Some(e.cosine)),
    ("l2_ratio", |e| Some(e.l2_ratio)),
    ("relative_reconstruction_bias", |e| e.relative_reconstruction_bias),
];

/// Of the model's predictions with reconstructions in place of its activations.
pub(super) const OF_PREDICTIONS: [Figure; 8] = [
    ("ce_clean", |e| e.ce_clean),
    ("ce_spliced", |e| e.ce_spliced),
    ("gap_nats", |e| Some(e.ce_spliced? - e.ce_clean?)),
    ("ce_zero", |e| e.ce_zero),
    ("ce_mean", |e| e.ce_mean),
    ("ce_recovered_zero", |e| e.ce_recovered_zero),
    ("ce_recovered_mean", |e| e.ce_recovered_mean),
    ("kl", |e| e.kl),
];

/// Of the latents: how often they fire, and where they point.
pub(super) const OF_LATENTS: [Figure; 6] = [
    ("dead_frac", |e| Some(e.dead_frac)),
    ("ultra_rare_frac", |e| e.ultra_rare_frac),
    ("junk_frac", |e| e.junk_frac),
    ("mean_encoder_decoder_cosine", |e| e.mean_encoder_decoder_cosine),
    ("mean_max_decoder_cosine", |e| e.mean_max_decoder_cosine),
    ("near_duplicate_frac", |e| e.near_duplicate_frac),
];

/// The formula of a figure; an eval.json of an older program has none for what came later.
pub(super) fn formula<'a>(eval: &'a Eval, name: &str) -> &'a str {
    eval.formulas.get(name).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::metric_formulas;

    #[test]
    fn every_figure_has_a_formula() {
        let known = metric_formulas();
        for (name, _) in OF_ROWS.iter().chain(&OF_PREDICTIONS).chain(&OF_LATENTS) {
            assert!(known.contains_key(*name), "{name}");
        }
    }
}
