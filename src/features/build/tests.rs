use super::super::pass::{docs, sides};
use super::*;
use crate::artifact::{Manifest, Silent};
use crate::corpus::{EncodedDocument, ShardWriter, Split};
use crate::features::fake::{self, FakeEngine};
use crate::sae::SparseRows;

#[test]
fn the_pass_counts_exactly_the_tokens_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let stream = fake::stream(dir.path());
    let mut engine = FakeEngine::new();
    let hook = HookPoint::mlp_post(0);
    for n_tokens in [100, 1003] {
        let config = BuildConfig { n_tokens, ..Default::default() };
        let found = pass(&mut engine, &stream, hook, Units::Neurons, &config, None, &mut Silent).unwrap();
        assert_eq!(found.n_tokens, n_tokens);
        // The fake neuron i fires where token % 4 == i, so that the four of them fire once on every token that counts.
        assert_eq!(found.units.iter().map(|c| c.n_active).sum::<u64>(), n_tokens);
    }
}

#[test]
fn a_pass_over_a_whole_split_equals_counting_its_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let stream = fake::stream(dir.path());
    let mut engine = FakeEngine::new();
    let n_ctx = engine.config().n_ctx;
    let config = BuildConfig { n_tokens: u64::MAX / (1 << 32), held_out: true, ..Default::default() };
    let found = pass(&mut engine, &stream, HookPoint::mlp_post(0), Units::Neurons, &config, None, &mut Silent).unwrap();
    let mut want = [0; 4];
    for w in stream.windows(Split::HeldOutA, n_ctx) {
        let mut ids = vec![0; n_ctx];
        stream.read(w * n_ctx as u64, &mut ids);
        ids.iter().skip(1).filter(|id| **id != stream.end_of_text()).for_each(|id| want[(id % 4) as usize] += 1);
    }
    assert_eq!(found.units.iter().map(|c| c.n_active).collect::<Vec<_>>(), want);
    assert_eq!(found.n_tokens, want.iter().sum::<u64>());
}

#[test]
fn documents_of_windows_are_those_of_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let stream = fake::stream(dir.path());
    let t0 = [0, 40, 88];
    let want: Vec<u32> = t0.iter().flat_map(|&t| t..t + 8).map(|t| stream.doc_of(t) as u32).collect();
    assert_eq!(docs(&stream, &t0, 8), want);
}

#[test]
fn both_sides_of_a_neuron_are_units_where_it_can_be_negative() {
    let mut out = SparseRows::default();
    sides(&[1.0, -2.0, 0.0, -3.0, 0.0, 4.0], 3, true, &mut out);
    assert_eq!((out.row(0), out.row(1)), ((&[0, 4][..], &[1.0, 2.0][..]), (&[2, 3][..], &[4.0, 3.0][..])));
    sides(&[1.0, -2.0, 0.0], 3, false, &mut out);
    assert_eq!(out.row(0), (&[0][..], &[1.0][..]));
}

#[test]
fn labels_are_keyed_by_weights_and_by_nothing_else() {
    let sae = fake::sae();
    assert_eq!(weights_hash(&sae), weights_hash(&sae.clone()));
    let mut other = sae.clone();
    other.b_enc[0] += 1e-6;
    assert_ne!(weights_hash(&sae), weights_hash(&other));
}

#[test]
fn an_sae_of_another_width_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let stream = fake::stream(dir.path());
    let sae = Sae { d_in: 3, ..fake::sae() };
    let units = Units::Latents { sae: &sae, name: "x", manifest_hash: "", target: None };
    let error = pass(&mut FakeEngine::new(), &stream, HookPoint::mlp_post(0), units, &BuildConfig::default(), None, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("reads 3 numbers"), "{error}");
}

#[test]
fn a_split_without_a_window_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(dir.path(), 8, 0, &[], 100).unwrap();
    writer.push(Split::Train, EncodedDocument { ids: vec![1, 2], kind: None, labels: vec![] }).unwrap();
    writer.finish(Manifest::new("tokens", 1, serde_json::json!({}), 0)).unwrap();
    let stream = TokenStream::open(dir.path()).unwrap();
    let done = pass(&mut FakeEngine::new(), &stream, HookPoint::mlp_post(0), Units::Neurons, &BuildConfig::default(), None, &mut Silent);
    assert!(done.unwrap_err().to_string().contains("larger corpus"));
}
