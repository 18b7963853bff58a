use super::testing::{END_OF_TEXT, Fake, stream};
use super::*;
use crate::artifact::{Manifest, Progress, Silent};
use crate::corpus::{Split, TokenStream};
use crate::lm::{Engine, HookPoint, Site};
use crate::sae::RowSource;
use std::collections::BTreeSet;

const D_IN: usize = 5;

fn hook() -> HookPoint {
    HookPoint::mlp_post(0)
}

/// Two of each width in each of the two blocks.
fn hooks() -> Vec<HookPoint> {
    let sites = [Site::MlpPre, Site::MlpPost, Site::MlpOut, Site::ResidPost];
    (0..2).flat_map(|layer| sites.map(|site| HookPoint { layer, site })).collect()
}

/// The row (d_in,) of token `t` at `hook`: a forward pass of its window alone.
fn row_of(stream: &TokenStream, n_ctx: usize, hook: HookPoint, t: u64) -> Vec<f32> {
    let mut engine = Fake::new(n_ctx);
    let d_in = hook.d_in(engine.config());
    let (mut ids, mut window) = (vec![0; n_ctx], vec![0.0; n_ctx * d_in]);
    stream.read(t - t % n_ctx as u64, &mut ids);
    engine.forward_to(&ids, n_ctx, hook, &mut window);
    window[(t % n_ctx as u64) as usize * d_in..][..d_in].to_vec()
}

/// 40 documents of 3 to 41 tokens and two held-out ones.
fn lengths() -> Vec<usize> {
    (0..42).map(|i| 3 + (i * 17) % 39).collect()
}

/// Token indices of the rows that an epoch has to serve.
fn counted(stream: &TokenStream, n_ctx: usize) -> BTreeSet<u64> {
    let mut ids = vec![0];
    let windows = stream.windows(Split::Train, n_ctx);
    (windows.start * n_ctx as u64..windows.end * n_ctx as u64)
        .filter(|&t| {
            stream.read(t, &mut ids);
            ids[0] != END_OF_TEXT && t % n_ctx as u64 != 0
        })
        .collect()
}

fn shuffled<'a>(engine: &'a mut Fake, stream: &'a TokenStream, buffer_rows: usize, visits: Option<usize>) -> Streamed<'a> {
    shuffled_at(engine, stream, hook(), buffer_rows, visits)
}

fn shuffled_at<'a>(engine: &'a mut Fake, stream: &'a TokenStream, hook: HookPoint, buffer_rows: usize, visits: Option<usize>) -> Streamed<'a> {
    let n_ctx = engine.config().n_ctx;
    let plan = Plan::new(stream, stream.windows(Split::Train, n_ctx), n_ctx, buffer_rows, 3, visits).unwrap();
    Shuffled::with_plan(ModelRows::new(engine, hook), stream, plan)
}

/// Else rows of another hook of the same width would pass every test here.
#[test]
fn no_two_hooks_of_the_fake_have_a_row_in_common() {
    let mut engine = Fake::new(7);
    let mut rows: Vec<Vec<f32>> = Vec::new();
    for hook in hooks() {
        let mut row = vec![0.0; hook.d_in(engine.config())];
        engine.forward_to(&[3], 1, hook, &mut row);
        assert!(rows.iter().all(|other| other[..3] != row[..3]), "{hook}");
        rows.push(row);
    }
}

#[test]
fn every_row_that_counts_is_served_once_per_epoch_and_equals_a_forward_of_its_window() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path(), &lengths());
    let n_ctx = 7;
    let expected = counted(&stream, n_ctx);
    for hook in hooks() {
        for (buffer_rows, visits) in [(50, Some(1)), (50, None), (64, Some(3)), (100_000, None), (1, Some(2))] {
            let mut engine = Fake::new(n_ctx);
            let d_in = hook.d_in(engine.config());
            let mut rows = shuffled_at(&mut engine, &stream, hook, buffer_rows, visits);
            assert_eq!(rows.plan().rows_per_epoch(), expected.len() as u64);
            let (mut out, mut t) = (vec![0.0; expected.len() * d_in], Vec::new());
            let mut orders = Vec::new();
            for epoch in 0..3 {
                assert_eq!(rows.next_rows_with_t(&mut out, &mut t).unwrap(), expected.len());
                assert_eq!(t.iter().copied().collect::<BTreeSet<_>>(), expected, "epoch {epoch} of {buffer_rows} {visits:?}");
                orders.push(t.clone());
            }
            assert!(orders[0] != orders[1] && orders[1] != orders[2], "each epoch has an order of its own");
            for (row, &t) in out.chunks(d_in).zip(&t) {
                assert_eq!(row, row_of(&stream, n_ctx, hook, t), "{hook}, token {t}");
            }
        }
    }
}

#[test]
fn seeking_reproduces_the_rows_that_followed_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path(), &lengths());
    let (mut one, mut other) = (Fake::new(7), Fake::new(7));
    let mut rows = shuffled(&mut one, &stream, 60, Some(3));
    let n = rows.plan().rows_per_epoch() as usize;
    let mut all = vec![0.0; 3 * n * D_IN];
    rows.next_rows(&mut all).unwrap();
    assert_eq!(rows.position(), 3 * n as u64);
    let mut resumed = shuffled(&mut other, &stream, 60, Some(3));
    for position in [0, 1, 59, 60, n - 1, n, n + 77, 2 * n + 200, 5] {
        resumed.seek(position as u64).unwrap();
        assert_eq!(resumed.position(), position as u64);
        let mut again = vec![0.0; 100 * D_IN];
        resumed.next_rows(&mut again).unwrap();
        assert_eq!(again, all[position * D_IN..][..100 * D_IN], "after seeking to {position}");
        assert_eq!(resumed.position(), position as u64 + 100);
    }
}

#[test]
fn another_seed_gives_another_order() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path(), &lengths());
    let first = |seed| {
        let mut engine = Fake::new(7);
        let mut rows = Streamed::open(&mut engine, &stream, hook(), ShuffleConfig { seed, ..Default::default() }).unwrap();
        let (mut out, mut t) = (vec![0.0; 20 * D_IN], Vec::new());
        rows.next_rows_with_t(&mut out, &mut t).unwrap();
        t
    };
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
}

/// Adjacent pairs from one document in an epoch over their expected number under a perfect permutation, sum over documents of m (m - 1) / N.
fn measured_ratio(rows: &mut Streamed, stream: &TokenStream, epochs: usize) -> f64 {
    let n = rows.plan().rows_per_epoch() as usize;
    let (mut out, mut t, mut pairs) = (vec![0.0; n * D_IN], Vec::new(), 0.0);
    for _ in 0..epochs {
        rows.next_rows_with_t(&mut out, &mut t).unwrap();
        pairs += t.windows(2).filter(|two| stream.doc_of(two[0]) == stream.doc_of(two[1])).count() as f64;
    }
    let mut of_doc = vec![0.0f64; stream.n_docs()];
    t.iter().for_each(|&t| of_doc[stream.doc_of(t)] += 1.0);
    pairs / epochs as f64 / of_doc.iter().map(|m| m * (m - 1.0) / n as f64).sum::<f64>()
}

#[test]
fn neighbours_from_one_document_are_at_most_twice_as_frequent_as_under_a_perfect_permutation() {
    let dir = tempfile::tempdir().unwrap();
    // Documents about as long as a window and a stream of about ten buffers: the worst case for whole windows in a buffer.
    let stream = stream(dir.path(), &(0..402).map(|i| 20 + i % 13).collect::<Vec<_>>());
    let n_ctx = 33;
    let (mut a, mut b) = (Fake::new(n_ctx), Fake::new(n_ctx));
    let mut chosen = shuffled(&mut a, &stream, 1024, None);
    let mut whole = shuffled(&mut b, &stream, 1024, Some(1));
    // Some 25 pairs are expected per epoch; over 16 epochs their number is known to 5 %, here three sigma are allowed.
    let (ratio, predicted) = (measured_ratio(&mut chosen, &stream, 16), chosen.plan().adjacency_ratio());
    assert!(ratio <= 2.0 * 1.15 && predicted <= 2.0, "{ratio} measured, {predicted} predicted with {} visits", chosen.plan().visits());
    assert!((ratio / predicted - 1.0).abs() < 0.2, "{ratio} measured, {predicted} predicted");
    let (ratio, predicted) = (measured_ratio(&mut whole, &stream, 16), whole.plan().adjacency_ratio());
    assert!(ratio > 3.0 && (ratio / predicted - 1.0).abs() < 0.2, "with whole windows {ratio} measured, {predicted} predicted");
}

#[test]
fn long_documents_and_large_buffers_need_one_visit() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path(), &[900, 1100, 800, 30, 40]);
    let mut engine = Fake::new(9);
    assert_eq!(shuffled(&mut engine, &stream, 300, None).plan().visits(), 1);
    let plan = shuffled(&mut engine, &stream, 100_000, None).plan().clone();
    assert_eq!((plan.visits(), plan.adjacency_ratio()), (1, 1.0));
}

#[test]
fn a_refill_fits_the_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path(), &lengths());
    for visits in [Some(1), Some(2), Some(3), None] {
        let mut engine = Fake::new(7);
        let mut rows = shuffled(&mut engine, &stream, 100, visits);
        assert!(rows.plan().max_refill_rows() <= 100);
        for _ in 0..500 {
            rows.next_rows(&mut [0.0; D_IN]).unwrap();
            assert!(rows.buffered() <= rows.plan().max_refill_rows());
        }
    }
}

#[test]
fn a_stream_without_rows_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path(), &[4, 3, 2]);
    let error = Streamed::open(&mut Fake::new(64), &stream, hook(), ShuffleConfig::default()).err().unwrap().to_string();
    assert!(error.contains("windows of 64"), "{error}");
    let deep = HookPoint::mlp_post(3);
    assert!(Streamed::open(&mut Fake::new(2), &stream, deep, ShuffleConfig::default()).err().unwrap().to_string().contains("blocks.3"));
}

#[test]
fn sequential_windows_cover_a_split_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut lengths = lengths();
    lengths[40] = 9_000;
    let stream = stream(dir.path(), &lengths);
    let n_ctx = 7;
    let windows = stream.windows(Split::HeldOutA, n_ctx);
    let (mut engine, mut oracle) = (Fake::new(n_ctx), Fake::new(n_ctx));
    for hook in hooks() {
        let d_in = hook.d_in(oracle.config());
        let mut sequential = Sequential::open(&mut engine, &stream, hook, Split::HeldOutA, None).unwrap();
        let (mut t, mut n_counted) = (windows.start * n_ctx as u64, 0);
        while let Some(batch) = sequential.next() {
            assert_eq!((batch.t0, batch.rows.len()), (t, batch.ids.len() * d_in));
            let (mut ids, mut rows) = (vec![0; batch.ids.len()], vec![0.0; batch.ids.len() * d_in]);
            stream.read(t, &mut ids);
            assert_eq!(batch.ids, ids);
            oracle.forward_to(&ids, n_ctx, hook, &mut rows);
            assert!(batch.rows == rows, "{hook}, from token {t}");
            n_counted += (0..ids.len()).filter(|&i| batch.counts(i)).count();
            t += ids.len() as u64;
        }
        assert_eq!(t, windows.end * n_ctx as u64);
        // One position of seven is the first; the document has no <|endoftext|> before its end.
        assert!(n_counted as u64 >= (windows.end - windows.start) * (n_ctx as u64 - 1) - 1);
    }
    let some = Sequential::open(&mut engine, &stream, hook(), Split::HeldOutA, Some(15)).unwrap();
    assert_eq!(some.n_tokens(), 21);
}

fn lm_manifest(seed: u64) -> Manifest {
    Manifest::new("lm", 1, serde_json::json!({}), seed)
}

const RERUN: &str = "monosem harvest --run it";

fn cache_config(dtype: CacheDtype) -> CacheConfig {
    CacheConfig { hook: hook(), n_tokens: None, dtype, max_gb: 1.0, replace: false }
}

/// A token stream and a cache of its rows, each in its folder.
fn cached(dtype: CacheDtype) -> (tempfile::TempDir, tempfile::TempDir, TokenStream) {
    let (tokens, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stream = stream(tokens.path(), &lengths());
    cache(&mut Fake::new(7), &lm_manifest(0), &stream, dir.path(), cache_config(dtype), &mut Silent).unwrap();
    (tokens, dir, stream)
}

fn rows_of(dir: &std::path::Path, hook: HookPoint, stream: &TokenStream) -> Result<CachedRows> {
    CachedRows::open(dir, hook, &lm_manifest(0), stream, RERUN)
}

#[test]
fn a_cache_in_f32_serves_the_same_rows_as_the_model_and_bf16_nearly() {
    let (tokens, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stream = stream(tokens.path(), &lengths());
    let config = ShuffleConfig { seed: 4, ..Default::default() };
    // One folder for all: what another hook of the same width left in it is not served.
    for hook in hooks() {
        for (dtype, tolerance) in [(CacheDtype::F32, 0.0), (CacheDtype::Bf16, 1.0 / 256.0)] {
            let mut engine = Fake::new(7);
            let d_in = hook.d_in(engine.config());
            let made = CacheConfig { hook, replace: true, ..cache_config(dtype) };
            let manifest = cache(&mut engine, &lm_manifest(0), &stream, dir.path(), made, &mut Silent).unwrap();
            assert_eq!(manifest.counts["rows"] % 7, 0);
            let mut streamed = Streamed::open(&mut engine, &stream, hook, config).unwrap();
            let mut cached = Cached::open(rows_of(dir.path(), hook, &stream).unwrap(), &stream, config).unwrap();
            let (mut a, mut b) = (vec![0.0; 900 * d_in], vec![0.0; 900 * d_in]);
            let (mut ta, mut tb) = (Vec::new(), Vec::new());
            streamed.next_rows_with_t(&mut a, &mut ta).unwrap();
            cached.next_rows_with_t(&mut b, &mut tb).unwrap();
            assert_eq!(ta, tb);
            assert!(a.iter().zip(&b).all(|(x, y)| (x - y).abs() <= tolerance * x.abs()), "{hook} in {dtype}");
            for (row, &t) in a.chunks(d_in).zip(&ta) {
                assert_eq!(row, row_of(&stream, 7, hook, t), "{hook}, token {t}");
            }
        }
    }
}

#[test]
fn two_caches_serve_what_the_model_computes_at_both_hooks() {
    let (tokens, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stream = stream(tokens.path(), &lengths());
    let config = ShuffleConfig { seed: 4, max_rows: Some(200), ..Default::default() };
    let mut engine = Fake::new(7);
    let cached = |engine: &mut Fake, hook: HookPoint, n_tokens: Option<u64>| {
        let at = dir.path().join(hook.to_string());
        cache(engine, &lm_manifest(0), &stream, &at, CacheConfig { hook, n_tokens, ..cache_config(CacheDtype::F32) }, &mut Silent).unwrap();
        rows_of(&at, hook, &stream).unwrap()
    };
    let [out, post, last_out] = [(0, Site::MlpOut), (0, Site::ResidPost), (1, Site::MlpOut)].map(|(layer, site)| HookPoint { layer, site });
    // Of two widths, and of one, where it would not be seen in a row's length that the two have changed places.
    for (from, to) in [(hook(), out), (out, post), (post, last_out)] {
        // Of different lengths: the windows of both are those of the shorter one, still more than are asked for.
        let (input, target) = (cached(&mut engine, from, None), cached(&mut engine, to, Some(400)));
        let mut paired = Paired::open(input, target, &stream, config).unwrap();
        let d = paired.width();
        assert_eq!(d, from.d_in(engine.config()) + to.d_in(engine.config()));
        let (mut a, mut b) = (vec![0.0; 150 * d], vec![0.0; 150 * d]);
        let (mut ta, mut tb) = (Vec::new(), Vec::new());
        paired.next_rows_with_t(&mut a, &mut ta).unwrap();
        Streamed::open_both(&mut engine, &stream, from, Some(to), config).unwrap().next_rows_with_t(&mut b, &mut tb).unwrap();
        assert_eq!((&ta, &a), (&tb, &b));
        for (row, &t) in a.chunks(d).zip(&ta) {
            assert_eq!(row, [row_of(&stream, 7, from, t), row_of(&stream, 7, to, t)].concat(), "{from} to {to}, token {t}");
        }
    }
    let (input, target) = (rows_of(&dir.path().join(out.to_string()), out, &stream).unwrap(), cached(&mut engine, hook(), None));
    assert!(Paired::open(input, target, &stream, config).err().unwrap().to_string().contains("is not computed after"));
}

#[test]
fn row_i_of_the_cache_is_token_first_token_plus_i() {
    let (tokens, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stream = stream(tokens.path(), &lengths());
    let mut engine = Fake::new(7);
    let mut ids = vec![0; 21];
    stream.read(stream.windows(Split::Train, 7).start * 7, &mut ids);
    for hook in hooks() {
        let (d_in, at) = (hook.d_in(engine.config()), dir.path().join(hook.to_string()));
        let config = CacheConfig { hook, n_tokens: Some(20), ..cache_config(CacheDtype::F32) };
        cache(&mut engine, &lm_manifest(0), &stream, &at, config, &mut Silent).unwrap();
        let file = crate::artifact::TensorFile::open(&at.join("rows-00000.safetensors")).unwrap();
        let rows = file.f32("rows", &[21, d_in]).unwrap();
        let mut expected = vec![0.0; 21 * d_in];
        engine.forward_to(&ids, 7, hook, &mut expected);
        assert_eq!(rows, expected, "{hook}");
    }
}

#[test]
fn a_cache_that_is_too_large_is_refused_before_anything_is_written() {
    let (tokens, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stream = stream(tokens.path(), &lengths());
    let target = dir.path().join("activations");
    let config = CacheConfig { max_gb: 1e-6, ..cache_config(CacheDtype::Bf16) };
    let error = cache(&mut Fake::new(7), &lm_manifest(0), &stream, &target, config, &mut Silent).unwrap_err().to_string();
    // 900-odd rows of 5 numbers: some 9 kB against 1e-6 GB.
    assert!(error.contains("--max-gb") && error.contains(" kB, more than the 0.000001 GB") && !target.exists(), "{error}");
}

#[test]
fn a_cache_of_another_model_or_hook_is_refused_with_the_next_step() {
    let (_tokens, dir, stream) = cached(CacheDtype::Bf16);
    let refused = |hook, lm: &Manifest| CachedRows::open(dir.path(), hook, lm, &stream, RERUN).err().unwrap().to_string();
    let error = refused(hook(), &lm_manifest(9));
    assert!(error.contains(&lm_manifest(9).hash()) && error.contains(RERUN), "{error}");
    for other in hooks().into_iter().filter(|&other| other != hook()) {
        let error = refused(other, &lm_manifest(0));
        assert!(error.contains(&other.to_string()) && error.contains(&hook().to_string()) && error.contains(RERUN), "{error}");
    }
}

#[test]
fn where_no_cache_is_the_command_that_makes_one_is_named() {
    let (tokens, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stream = stream(tokens.path(), &lengths());
    let error = CachedRows::open(&dir.path().join("absent"), hook(), &lm_manifest(0), &stream, RERUN).err().unwrap().to_string();
    assert!(error.contains("absent") && error.contains(RERUN), "{error}");
}

#[test]
fn one_changed_bit_in_a_cache_is_found() {
    let (_tokens, dir, stream) = cached(CacheDtype::F32);
    let path = dir.path().join("rows-00000.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = CachedRows::open(dir.path(), hook(), &lm_manifest(0), &stream, RERUN).err().unwrap().to_string();
    assert!(error.contains("rows-00000.safetensors is damaged"), "{error}");
    // Harvesting again does not take it for its own.
    cache(&mut Fake::new(7), &lm_manifest(0), &stream, dir.path(), cache_config(CacheDtype::F32), &mut Silent).unwrap();
    let mut cached = Cached::open(rows_of(dir.path(), hook(), &stream).unwrap(), &stream, ShuffleConfig::default()).unwrap();
    let (mut rows, mut t) = (vec![0.0; 300 * D_IN], Vec::new());
    cached.next_rows_with_t(&mut rows, &mut t).unwrap();
    assert!(rows.chunks(D_IN).zip(&t).all(|(row, &t)| row == row_of(&stream, 7, hook(), t)));
}

#[test]
fn rows_that_were_cached_with_other_settings_are_not_deleted_unasked() {
    let (_tokens, dir, stream) = cached(CacheDtype::F32);
    let there = || {
        let all = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        all.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<std::collections::BTreeMap<_, _>>()
    };
    let mut engine = Fake::new(7);
    let before = there();
    let other = |dtype, n_tokens, replace| CacheConfig { n_tokens, replace, ..cache_config(dtype) };
    for (dtype, n_tokens, says) in [(CacheDtype::Bf16, None, "dtype is f32 there, bf16 here"), (CacheDtype::F32, Some(70), "n_rows is")] {
        let error = cache(&mut engine, &lm_manifest(0), &stream, dir.path(), other(dtype, n_tokens, false), &mut Silent).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("--yes"), "{error}");
        assert!(there() == before, "{says}: something was touched");
    }
    assert_eq!(engine.n_tokens, 0);
    cache(&mut engine, &lm_manifest(0), &stream, dir.path(), other(CacheDtype::F32, Some(70), true), &mut Silent).unwrap();
    let fewer = engine.n_tokens;
    assert_eq!(fewer, 70);
    // A longer one goes on from a shorter one, unasked; of its last shard the rows are more.
    cache(&mut engine, &lm_manifest(0), &stream, dir.path(), other(CacheDtype::F32, None, false), &mut Silent).unwrap();
    assert!(there().iter().filter(|(path, _)| path.ends_with("rows-00000.safetensors")).all(|(path, bytes)| before[path] == *bytes));
    // A manifest that cannot be read says nothing of whose rows these are.
    let (path, manifest) = (dir.path().join("manifest.json"), std::fs::read(dir.path().join("manifest.json")).unwrap());
    std::fs::write(&path, "{").unwrap();
    let before = there();
    assert!(cache(&mut engine, &lm_manifest(0), &stream, dir.path(), other(CacheDtype::F32, None, false), &mut Silent).is_err());
    assert!(there() == before);
    std::fs::write(&path, manifest).unwrap();
    // Of another model rows are worth nothing.
    cache(&mut engine, &lm_manifest(3), &stream, dir.path(), other(CacheDtype::F32, None, false), &mut Silent).unwrap();
    assert!(CachedRows::open(dir.path(), hook(), &lm_manifest(3), &stream, RERUN).is_ok());
}

#[test]
fn a_longer_cache_goes_on_from_a_shorter_one() {
    let (tokens, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stream = stream(tokens.path(), &lengths());
    let mut engine = Fake::new(7);
    // Shards of one window.
    let harvest = |engine: &mut Fake, n_tokens: Option<u64>| {
        let config = CacheConfig { n_tokens, ..cache_config(CacheDtype::F32) };
        cached::cache_in_shards(engine, &lm_manifest(0), &stream, dir.path(), config, 1, &mut Silent).unwrap()
    };
    harvest(&mut engine, Some(140));
    std::fs::remove_file(dir.path().join("manifest.json")).unwrap();
    let fewer = CacheConfig { n_tokens: Some(70), ..cache_config(CacheDtype::F32) };
    let refused = cached::cache_in_shards(&mut engine, &lm_manifest(0), &stream, dir.path(), fewer, 1, &mut Silent).unwrap_err().to_string();
    assert!(refused.contains("10 shards") && refused.contains("of more tokens"), "{refused}");
    let all = harvest(&mut engine, None);
    assert_eq!(engine.n_tokens, all.counts["rows"], "no window is run twice");
    let fresh = tempfile::tempdir().unwrap();
    let config = cache_config(CacheDtype::F32);
    let anew = cached::cache_in_shards(&mut Fake::new(7), &lm_manifest(0), &stream, fresh.path(), config, 1, &mut Silent).unwrap();
    assert_eq!(all.hash(), anew.hash(), "the same cache as in one go");
}

#[test]
fn a_truncated_shard_is_refused() {
    let (_tokens, dir, stream) = cached(CacheDtype::Bf16);
    let path = dir.path().join("rows-00000.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    assert!(CachedRows::open(dir.path(), hook(), &lm_manifest(0), &stream, RERUN).is_err());
    // Harvesting again mends it.
    cache(&mut Fake::new(7), &lm_manifest(0), &stream, dir.path(), cache_config(CacheDtype::Bf16), &mut Silent).unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes, "the same bytes as before");
}

/// Asks for a stop once so many units are done.
struct StopAfter(u64);

impl Progress for StopAfter {
    fn begin(&mut self, _: &str, _: u64, _: &str) {}
    fn advance(&mut self, n: u64) {
        self.0 = self.0.saturating_sub(n);
    }
    fn figure(&mut self, _: &str) {}
    fn note(&mut self, _: &str) {}
    fn end(&mut self) {}
    fn interrupted(&self) -> bool {
        self.0 == 0
    }
}

#[test]
fn an_interrupted_harvest_goes_on_with_its_finished_shards() {
    let (tokens, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stream = stream(tokens.path(), &lengths());
    let config = cache_config(CacheDtype::F32);
    let mut engine = Fake::new(7);
    // Shards of one window.
    let harvest =
        |engine: &mut Fake, progress: &mut dyn Progress| cached::cache_in_shards(engine, &lm_manifest(0), &stream, dir.path(), config, 1, progress);
    assert!(matches!(harvest(&mut engine, &mut StopAfter(70)), Err(Error::Interrupted)));
    assert_eq!(engine.n_tokens, 70);
    assert!(rows_of(dir.path(), hook(), &stream).is_err(), "half a harvest is not opened");
    let manifest = harvest(&mut engine, &mut Silent).unwrap();
    assert_eq!(engine.n_tokens, manifest.counts["rows"], "no window is run twice");
    let (mut cached, mut a, mut b) = (
        Cached::open(rows_of(dir.path(), hook(), &stream).unwrap(), &stream, ShuffleConfig::default()).unwrap(),
        vec![0.0; 300 * D_IN],
        vec![0.0; 300 * D_IN],
    );
    cached.next_rows(&mut a).unwrap();
    Streamed::open(&mut engine, &stream, hook(), ShuffleConfig::default()).unwrap().next_rows(&mut b).unwrap();
    assert_eq!(a, b);
}

#[test]
fn a_harvest_does_not_go_on_with_the_shards_of_another_hook_of_the_same_width() {
    let (tokens, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stream = stream(tokens.path(), &lengths());
    let mut engine = Fake::new(7);
    let (before, hook) = (hook(), HookPoint::mlp_post(1));
    // Shards of one window.
    let harvest = |engine: &mut Fake, (hook, replace): (HookPoint, bool), progress: &mut dyn Progress| {
        let config = CacheConfig { hook, replace, ..cache_config(CacheDtype::F32) };
        cached::cache_in_shards(engine, &lm_manifest(0), &stream, dir.path(), config, 1, progress)
    };
    assert!(matches!(harvest(&mut engine, (before, false), &mut StopAfter(70)), Err(Error::Interrupted)));
    let refused = harvest(&mut engine, (hook, false), &mut Silent).unwrap_err().to_string();
    assert!(refused.contains("10 shards of a harvest with other settings") && refused.contains("--yes"), "{refused}");
    let manifest = harvest(&mut engine, (hook, true), &mut Silent).unwrap();
    assert_eq!(engine.n_tokens, 70 + manifest.counts["rows"], "every window is run again");
    let mut cached = Cached::open(rows_of(dir.path(), hook, &stream).unwrap(), &stream, ShuffleConfig::default()).unwrap();
    let (mut rows, mut t) = (vec![0.0; 300 * D_IN], Vec::new());
    cached.next_rows_with_t(&mut rows, &mut t).unwrap();
    for (row, &t) in rows.chunks(D_IN).zip(&t) {
        assert_eq!(row, row_of(&stream, 7, hook, t), "token {t}");
    }
}

#[test]
fn an_epoch_can_be_limited_to_the_rows_that_are_needed() {
    let config = ShuffleConfig { max_rows: Some(1000), ..Default::default() };
    // 1,100 rows in windows of 64 are 17.2 windows.
    assert_eq!(config.windows(5..900, 64), 5..23);
    assert_eq!(config.windows(5..9, 64), 5..9);
    assert_eq!(ShuffleConfig::default().windows(5..900, 64), 5..900);
    // Of windows of seven tokens more than a tenth does not count: more of them are taken.
    let tokens = tempfile::tempdir().unwrap();
    let (stream, mut engine) = (stream(tokens.path(), &lengths()), Fake::new(7));
    for rows in [200, 300, 1 << 40] {
        let config = ShuffleConfig { max_rows: Some(rows), ..Default::default() };
        let streamed = Streamed::open(&mut engine, &stream, hook(), config).unwrap();
        let (taken, all) = (streamed.plan().n_windows() as u64, stream.windows(Split::Train, 7));
        let held = streamed.plan().rows_per_epoch();
        assert!(held >= rows || taken == all.end - all.start, "{held} of {rows} rows in {taken} windows");
        assert!(rows > 1000 || held < rows + rows / 4, "{held} for {rows}");
    }
}

#[test]
fn what_is_recorded_of_the_order_of_rows_reads_back() {
    for (seed, buffer_mib, visits) in [(0, 1024, None), (7, 768, Some(3))] {
        let config = ShuffleConfig { seed, buffer_mib, visits, max_rows: None };
        let rows = config.rows(hook());
        assert_eq!(ShuffleConfig::of_rows(&rows), Some((hook(), config)));
        assert_eq!(ShuffleConfig::of_rows(&format!("{rows}, cached")), Some((hook(), config)));
    }
    assert_eq!(ShuffleConfig::of_rows("the rows of another program"), None);
}
