//! What a reconstruction in place of activations costs, and the controls beside it.

use super::testing::{model, perfect, sae, silent};
use super::tests::{D_IN, END, N_CTX, hook, stream};
use super::*;
use crate::artifact::Silent;
use crate::corpus::Split;
use crate::lm::{CpuEngine, Engine};
use crate::sae::{Sae, Select};

fn report(sae: &Sae) -> CeReport {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path());
    evaluate(&mut CpuEngine::new(model(1, 17)), &stream, Split::HeldOutB, hook(), sae, 500, &mut Silent).unwrap()
}

#[test]
fn the_formula_of_the_mean_ablation_says_how_much_text_the_mean_is_of() {
    let formulas = crate::sae::metric_formulas();
    let tokens = crate::artifact::grouped(splice::MEAN_TOKENS);
    assert!(formulas["ce_mean"].contains(&format!("{tokens} tokens of training text")), "{}", formulas["ce_mean"]);
}

#[test]
fn a_perfect_reconstruction_recovers_everything() {
    let report = report(&perfect(D_IN));
    assert!((report.ce_spliced - report.ce_clean).abs() < 1e-6 && report.kl.abs() < 1e-6, "{report:?}");
    // On random text ablation changes the loss, but need not raise it.
    assert!((report.ce_zero - report.ce_clean).abs() > 1e-3 && (report.ce_mean - report.ce_clean).abs() > 1e-3, "{report:?}");
    // One side of each of the ten neurons is active, since GELU is never exactly 0 on these.
    assert!((report.l0 - 10.0).abs() < 1e-9);
}

#[test]
fn a_silent_sae_is_zero_ablation_or_mean_ablation_by_its_bias() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path());
    let mut engine = CpuEngine::new(model(1, 17));
    let base = Baseline::measure(&mut engine, &stream, Split::HeldOutB, hook(), 500, &mut Silent).unwrap();
    let zero = base.spliced(&mut engine, &stream, &silent(vec![0.0; D_IN]), &mut Silent).unwrap();
    assert_eq!((zero.ce_spliced, zero.l0), (zero.ce_zero, 0.0));
    let mean = base.spliced(&mut engine, &stream, &silent(base.mean().to_vec()), &mut Silent).unwrap();
    assert_eq!(mean.ce_spliced, mean.ce_mean);
    assert!(zero.kl > 1e-3 && mean.kl > 1e-3);
}

#[test]
fn what_is_recovered_is_the_part_of_the_damage_that_is_undone() {
    // Clean 1, ablated 3, spliced 1.5: of 2 nats of damage 1.5 are undone.
    assert_eq!(splice::recovered(1.0, 1.5, 3.0), Some(0.75));
    assert_eq!(splice::recovered(1.0, 1.5, 1.0), None, "where ablation does no damage there is nothing to recover");
}

#[test]
fn what_a_report_derives_follows_from_its_own_cross_entropies() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path());
    let mut engine = CpuEngine::new(model(1, 17));
    let sae = sae(D_IN, 23, Select::TopK { k: 4 });
    let mut base = Baseline::measure(&mut engine, &stream, Split::HeldOutB, hook(), 500, &mut Silent).unwrap();
    let (clean, zero, mean) = (base.ce_clean, base.ce_zero, base.ce_mean);
    assert_ne!(zero, mean);
    // On random text an ablation need not hurt; the figures are derived from what was measured all the same.
    let share = |ce: f64, ablated: f64| (ablated > clean).then(|| (ablated - ce) / (ablated - clean));
    let report = base.spliced(&mut engine, &stream, &sae, &mut Silent).unwrap();
    let spliced = report.ce_spliced;
    assert_eq!((report.ce_clean, report.ce_zero, report.ce_mean, report.n_tokens), (clean, zero, mean, base.n_tokens));
    assert_eq!((report.gap_nats, report.ce_recovered_zero, report.ce_recovered_mean), (spliced - clean, share(spliced, zero), share(spliced, mean)));
    assert_eq!(evaluate(&mut engine, &stream, Split::HeldOutB, hook(), &sae, 500, &mut Silent).unwrap(), report);
    let report = base.neurons(&mut engine, &stream, (3, Rest::Mean), &mut Silent).unwrap();
    let largest = report.ce;
    assert_eq!((report.k, report.gap_nats), (3, largest - clean));
    assert_eq!((report.ce_recovered_zero, report.ce_recovered_mean), (share(largest, zero), share(largest, mean)));

    // Where both hurt: of the 2 nats that zeros cost 1.5 are undone, of the 1 that the mean costs a half. Where the mean does not: nothing.
    let near = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() < 1e-12);
    (base.ce_clean, base.ce_zero, base.ce_mean) = (spliced - 0.5, spliced + 1.5, spliced + 0.5);
    let report = base.spliced(&mut engine, &stream, &sae, &mut Silent).unwrap();
    assert_eq!(report.ce_spliced, spliced);
    assert!(near(Some(report.gap_nats), 0.5) && near(report.ce_recovered_zero, 0.75) && near(report.ce_recovered_mean, 0.5), "{report:?}");
    base.ce_mean = base.ce_clean - 0.25;
    let report = base.spliced(&mut engine, &stream, &sae, &mut Silent).unwrap();
    assert!(near(report.ce_recovered_zero, 0.75) && report.ce_recovered_mean.is_none(), "{report:?}");
    (base.ce_clean, base.ce_zero, base.ce_mean) = (largest - 0.5, largest + 1.5, largest + 0.5);
    let report = base.neurons(&mut engine, &stream, (3, Rest::Mean), &mut Silent).unwrap();
    assert_eq!(report.ce, largest);
    assert!(near(Some(report.gap_nats), 0.5) && near(report.ce_recovered_zero, 0.75) && near(report.ce_recovered_mean, 0.5), "{report:?}");
    base.ce_zero = base.ce_clean - 0.25;
    let report = base.neurons(&mut engine, &stream, (3, Rest::Mean), &mut Silent).unwrap();
    assert!(report.ce_recovered_zero.is_none() && near(report.ce_recovered_mean, 0.5), "{report:?}");
}

#[test]
fn keeping_all_neurons_is_the_clean_model_and_keeping_none_is_ablation() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path());
    let mut engine = CpuEngine::new(model(1, 17));
    let base = Baseline::measure(&mut engine, &stream, Split::HeldOutB, hook(), 500, &mut Silent).unwrap();
    for (rest, ablated) in [(Rest::Mean, base.ce_mean), (Rest::Zero, base.ce_zero)] {
        let mut ce = |k| base.neurons(&mut engine, &stream, (k, rest), &mut Silent).unwrap().ce;
        assert!((ce(D_IN) - base.ce_clean).abs() < 1e-6);
        assert_eq!(ce(0), ablated);
        assert!((ce(8) - base.ce_clean).abs() < (ce(0) - base.ce_clean).abs());
    }
    // As a control the better of the two.
    for k in [0, 3, 8] {
        let [mean, zero] = [Rest::Mean, Rest::Zero].map(|rest| base.neurons(&mut engine, &stream, (k, rest), &mut Silent).unwrap());
        let best = base.largest_neurons(&mut engine, &stream, k, &mut Silent).unwrap();
        assert_eq!(best, if zero.ce < mean.ce { zero } else { mean });
    }
}

#[test]
fn the_k_neurons_farthest_from_what_the_rest_become_are_kept() {
    let mut row = [1.0, -3.0, 0.5, 2.0, 2.0];
    splice::keep_largest(&mut row, &[0.9, 0.0, 0.0, 0.0, 4.0], 3, &mut Vec::new());
    // Distances 0.1, 3, 0.5, 2, 2: the first and the third are nearest to their means.
    assert_eq!(row, [0.9, -3.0, 0.0, 2.0, 2.0]);
}

#[test]
fn clean_cross_entropy_is_the_mean_over_tokens_that_count() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path());
    let mut engine = CpuEngine::new(model(1, 17));
    let base = Baseline::measure(&mut engine, &stream, Split::HeldOutB, hook(), 1 << 40, &mut Silent).unwrap();
    let (mut sum, mut n) = (0.0f64, 0u64);
    for w in stream.windows(Split::HeldOutB, N_CTX) {
        let mut tokens = [0; N_CTX + 1];
        stream.read(w * N_CTX as u64, &mut tokens);
        let mut logits = vec![0.0; N_CTX * 17];
        engine.logits(&tokens[..N_CTX], N_CTX, &(0..N_CTX).collect::<Vec<_>>(), None, &mut logits);
        for p in (1..N_CTX).filter(|&p| tokens[p] != END) {
            let z: Vec<f64> = logits[p * 17..][..17].iter().map(|&x| x as f64).collect();
            sum += z.iter().map(|x| x.exp()).sum::<f64>().ln() - z[tokens[p + 1] as usize];
            n += 1;
        }
    }
    assert_eq!(base.n_tokens, n);
    assert!((base.ce_clean - sum / n as f64).abs() < 1e-5);
}
