use super::bins::bin_of;
use super::*;
use crate::features::store::GroupKind;
use proptest::prelude::*;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};

/// Random windows: 5 units of very different densities, documents of 37 tokens, every 11th token left out, a hook of 3 coordinates.
struct Data {
    n_ctx: usize,
    t0: Vec<u64>,
    ids: Vec<u32>,
    docs: Vec<u32>,
    counted: Vec<bool>,
    x: Vec<f32>,
    acts: Vec<[f32; 5]>,
}

const D: usize = 3;

fn data() -> Data {
    random_data(0)
}

fn random_data(seed: u64) -> Data {
    let (n_ctx, n_windows) = (16, 61);
    let mut rng = seed::rng(seed, "test/collect", 0);
    // Windows 0, 2, 4, ...: the pass may leave some out.
    let t0: Vec<u64> = (0..n_windows).map(|w| 2 * w * n_ctx as u64).collect();
    let ts: Vec<u64> = t0.iter().flat_map(|&t| t..t + n_ctx as u64).collect();
    let density = [0.0, 0.9, 0.3, 0.05, 0.002];
    let acts: Vec<[f32; 5]> = ts.iter().map(|_| density.map(|d| if rng.random_bool(d) { rng.random_range(0.001..3.0f32) } else { 0.0 })).collect();
    Data {
        n_ctx,
        ids: ts.iter().map(|_| rng.random_range(0..23)).collect(),
        docs: ts.iter().map(|t| (t / 37) as u32).collect(),
        counted: ts.iter().enumerate().map(|(i, t)| i % n_ctx != 0 && t % 11 != 0).collect(),
        // Coordinate 0 follows unit 2, coordinate 2 never changes.
        x: acts.iter().flat_map(|a| [a[2] + rng.random_range(-1.0..1.0f32), rng.random_range(-1.0..1.0), 0.75]).collect(),
        t0,
        acts,
    }
}

/// Adds windows `from..to`, so many at a time.
fn add(collector: &mut Collector, data: &Data, windows_per_batch: usize, from: usize, to: usize) {
    for first in (from..to).step_by(windows_per_batch) {
        let windows = first..to.min(first + windows_per_batch);
        let range = windows.start * data.n_ctx..windows.end * data.n_ctx;
        let mut rows = SparseRows { row_start: vec![0], ..Default::default() };
        for acts in &data.acts[range.clone()] {
            let (units, acts): (Vec<u32>, Vec<f32>) = (0..).zip(acts).filter(|(_, a)| **a > 0.0).unzip();
            rows.push_row(&units, &acts);
        }
        let batch = Windows {
            n_ctx: data.n_ctx,
            t0: &data.t0[windows],
            ids: &data.ids[range.clone()],
            docs: &data.docs[range.clone()],
            counted: &data.counted[range.clone()],
            x: &data.x[range.start * D..range.end * D],
        };
        collector.add(batch, &rows);
    }
}

fn shape(data: &Data) -> Shape {
    Shape { n_units: 5, d_in: D, n_ctx: data.n_ctx, n_windows: data.t0.len() as u64 }
}

fn collect(data: &Data, windows_per_batch: usize, settings: CollectSettings) -> Findings {
    let mut collector = Collector::new(shape(data), settings);
    add(&mut collector, data, windows_per_batch, 0, data.t0.len());
    collector.finish()
}

fn small() -> CollectSettings {
    CollectSettings { n_before: 5, n_after: 3, n_top: 2, n_random: 6, seed: 3, ..Default::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]
    #[test]
    fn one_pass_equals_brute_force_over_all_activations(seed in any::<u64>(), per_batch in 1usize..62) {
        let data = random_data(seed);
        equals_brute_force(&data, &collect(&data, per_batch, small()));
    }
}

/// Of two units of this data a sample has few of the strongest common firings, and alone it would take its estimate for ten times as good as it is.
#[test]
fn a_correlation_of_few_common_firings_is_known_to_be_uncertain() {
    let data = random_data(469_338_383_054_316_265);
    equals_brute_force(&data, &collect(&data, 37, small()));
}

fn equals_brute_force(data: &Data, findings: &Findings) {
    let found = &findings.units;
    let counted: Vec<usize> = (0..data.ids.len()).filter(|&r| data.counted[r]).collect();
    let place_of = |f: &dyn Fn(usize) -> usize, n: usize, rows: &[usize]| {
        let mut counts = vec![0u64; n];
        rows.iter().for_each(|&r| counts[f(r)] += 1);
        counts
    };
    let part = |r: usize| r / 16 * 32 / 61;
    // Positions 1 to 7 have a bin each, as does 0; then two to a bin.
    let bin = |r: usize| [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 9, 10, 10, 11, 11][r % 16];
    assert_eq!(findings.position_edges, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16]);
    assert_eq!((findings.n_tokens, findings.n_windows), (counted.len() as u64, 61));
    assert_eq!(findings.time_tokens, place_of(&part, 32, &counted));
    assert_eq!(findings.position_tokens, place_of(&bin, 12, &counted));
    let sets: Vec<BTreeSet<usize>> = (0..5).map(|u| counted.iter().copied().filter(|&r| data.acts[r][u] > 0.0).collect()).collect();
    for of in &findings.tokens {
        let rows: Vec<usize> = counted.iter().copied().filter(|&r| data.ids[r] == of.token).collect();
        assert_eq!(of.n, rows.len() as u64);
        let units = (0..5u32).map(|u| {
            let firings: Vec<f32> = rows.iter().map(|&r| data.acts[r][u as usize]).filter(|a| *a > 0.0).collect();
            (u, firings.len() as u32, firings.iter().map(|&a| a as f64).sum::<f64>())
        });
        let mut units: Vec<_> = units.filter(|u| u.1 > 0).collect();
        units.sort_by(|a, b| b.2.total_cmp(&a.2));
        assert_eq!(of.units, units);
    }
    assert!(found[0].groups.is_empty() && found[0].n_active == 0 && found[0].coactive.is_empty(), "unit 0 never fires");
    for (u, got) in found.iter().enumerate().take(5).skip(1) {
        // (row, t, act) of all counted firings.
        let rows = (0..data.ids.len()).filter(|&r| data.counted[r] && data.acts[r][u] > 0.0);
        let firings: Vec<_> = rows.map(|r| (r, data.t0[r / 16] + (r % 16) as u64, data.acts[r][u])).collect();
        if firings.is_empty() {
            continue;
        }
        let sum: f64 = firings.iter().map(|f| f.2 as f64).sum();
        let rows: Vec<usize> = firings.iter().map(|f| f.0).collect();
        assert_eq!(got.over_time.iter().map(|&n| n as u64).collect::<Vec<_>>(), place_of(&part, 32, &rows));
        assert_eq!(got.over_position.iter().map(|&n| n as u64).collect::<Vec<_>>(), place_of(&bin, 12, &rows));
        assert_eq!(got.n_windows, rows.iter().map(|r| r / 16).collect::<BTreeSet<_>>().len() as u64);
        // The sketch estimates, but its error is known: five standard deviations of 1 / 32.
        for &(other, estimate) in &got.coactive {
            let (a, b) = (&sets[u], &sets[other as usize]);
            let index = a.intersection(b).count() as f32 / a.union(b).count() as f32;
            assert!((estimate - index).abs() < 0.16, "{estimate} for {index}");
        }
        // Pearson by its definition, over all counted rows, in two passes.
        let n = counted.len() as f64;
        let column = |f: &dyn Fn(usize) -> f64| counted.iter().map(|&r| f(r)).collect::<Vec<f64>>();
        let centred = |v: Vec<f64>| v.iter().map(|x| x - v.iter().sum::<f64>() / n).collect::<Vec<f64>>();
        let a = centred(column(&|r| data.acts[r][u] as f64));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let cosine = |a: &[f64], b: &[f64]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        assert_eq!(got.neurons.len(), 2, "the coordinate that never changes is left out");
        for &(i, r, c) in &got.neurons {
            let x = column(&|r| data.x[r * D + i as usize] as f64);
            assert!((r as f64 - cosine(&a, &centred(x.clone()))).abs() < 1e-6);
            assert!((c as f64 - cosine(&column(&|r| data.acts[r][u] as f64), &x)).abs() < 1e-6);
        }
        assert!(got.neurons[0].1.abs() >= got.neurons[1].1.abs());
        for other in &got.correlated {
            let b = centred(column(&|r| data.acts[r][other.unit as usize] as f64));
            let off = (f64::from(other.pearson) - cosine(&a, &b)).abs();
            assert!(off <= 5.0 * f64::from(other.sd.unwrap()) + 1e-4, "{other:?}, {} exactly", cosine(&a, &b));
        }
        assert_eq!(got.n_active, firings.len() as u64);
        assert_eq!(got.max_act, firings.iter().map(|f| f.2).fold(0.0, f32::max));
        assert_eq!(got.mean_act, (sum / firings.len() as f64) as f32);
        for (i, &count) in got.histogram.counts.iter().enumerate() {
            let (low, high) = (got.histogram.edges[i], got.histogram.edges[i + 1]);
            assert_eq!(count, firings.iter().filter(|f| low <= f.2 && f.2 < high).count() as u64);
        }
        assert_eq!(got.histogram.counts.iter().sum::<u64>(), got.n_active);

        let mut by_token: BTreeMap<u32, (u32, f64)> = BTreeMap::new();
        firings.iter().for_each(|f| {
            let slot = by_token.entry(data.ids[f.0]).or_default();
            *slot = (slot.0 + 1, slot.1 + f.2 as f64);
        });
        let entropy: f64 = by_token.values().map(|m| m.1 / sum).map(|p| -p * p.ln()).sum();
        assert!((got.effective_tokens - entropy.exp()).abs() < 1e-9);
        assert_eq!(got.top_share, by_token.values().map(|m| m.0).max().unwrap() as f64 / firings.len() as f64);
        let best = got.top_tokens[0];
        assert!(by_token.values().all(|m| m.1 <= best.mass) && by_token[&best.token] == (best.n, best.mass));

        // The strongest firing of each document, then the strongest four of these.
        let mut by_doc: BTreeMap<u32, (f32, u64)> = BTreeMap::new();
        for f in &firings {
            let best = by_doc.entry(data.docs[f.0]).or_insert((0.0, 0));
            if f.2 > best.0 {
                *best = (f.2, f.1);
            }
        }
        let mut want: Vec<_> = by_doc.into_values().collect();
        want.sort_by(|a, b| b.0.total_cmp(&a.0));
        want.truncate(4);
        let top = got.groups.iter().find(|g| g.kind == GroupKind::Top).unwrap();
        assert_eq!(top.firings.iter().map(|f| (f.act, f.t)).collect::<Vec<_>>(), want);

        for group in got.groups.iter().filter(|g| g.kind == GroupKind::Zero) {
            assert!(!group.firings.is_empty() && group.firings.len() <= 4);
            for f in &group.firings {
                let r = (0..data.ids.len()).find(|&r| data.t0[r / 16] + (r % 16) as u64 == f.t).unwrap();
                assert!(data.counted[r] && data.acts[r][u] == 0.0 && f.act == 0.0 && by_token.contains_key(&data.ids[r]));
                let inside = firings.iter().filter(|x| x.0 / 16 == r / 16 && x.0 + 5 >= r && x.0 <= r + 3);
                assert_eq!(f.around, inside.map(|x| ((x.0 as i64 - r as i64) as i8, x.2)).collect::<Vec<_>>());
            }
        }
        for group in got.groups.iter().filter(|g| g.kind != GroupKind::Zero) {
            for f in &group.firings {
                let r = firings.iter().find(|x| x.1 == f.t).unwrap().0;
                let inside = firings.iter().filter(|x| x.0 / 16 == r / 16 && x.0 + 5 >= r && x.0 <= r + 3);
                let around: Vec<_> = inside.map(|x| ((x.0 as i64 - r as i64) as i8, x.2)).collect();
                assert_eq!(f.around, around, "context never leaves the window");
                assert!(group.low <= f.act && f.act < group.high);
            }
            if group.kind != GroupKind::Top {
                let inside = firings.iter().filter(|f| group.low <= f.2 && f.2 < group.high);
                assert_eq!(group.n_firings, inside.clone().count() as u64);
                assert!((group.share_mass - inside.map(|f| f.2 as f64).sum::<f64>() / sum).abs() < 1e-9);
            }
        }
        for kind in [GroupKind::Interval, GroupKind::Quantile] {
            let groups: Vec<_> = got.groups.iter().filter(|g| g.kind == kind).collect();
            assert_eq!(groups.iter().map(|g| g.n_firings).sum::<u64>(), got.n_active, "{kind:?} covers every firing once");
            assert!(groups.iter().filter(|g| !g.firings.is_empty()).count() * 4 >= groups.len() * 3, "few are without an example");
        }
        let random = got.groups.iter().find(|g| g.kind == GroupKind::Random).unwrap();
        assert_eq!(random.firings.len(), firings.len().min(6));
    }
}

#[test]
fn the_dictionary_does_not_depend_on_threads_or_batches() {
    let data = data();
    let run = |threads, batch| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| collect(&data, batch, small()));
    let one = run(1, 61);
    for (threads, batch) in [(2, 7), (3, 1)] {
        assert_eq!(one, run(threads, batch));
    }
    assert_ne!(one, collect(&data, 61, CollectSettings { seed: 4, ..small() }), "another seed draws other examples");
}

#[test]
fn windows_kept_for_silent_examples_are_bounded_and_do_not_depend_on_batches() {
    let data = data();
    let few = CollectSettings { max_kept: 100, ..small() };
    let found = collect(&data, 61, few.clone());
    assert_eq!(found, collect(&data, 4, few.clone()));
    let mut collector = Collector::new(shape(&data), few);
    add(&mut collector, &data, 5, 0, 61);
    assert!(collector.kept.n_entries() <= 100 && collector.kept.n_entries() > 0);
    let none = collect(&data, 61, CollectSettings { max_kept: 0, ..small() });
    assert!(none.units.iter().flat_map(|u| &u.groups).all(|g| g.kind != GroupKind::Zero));
}

#[test]
fn correlations_are_left_out_where_they_would_take_too_much_memory() {
    // 5 units x 3 coordinates x 8 bytes
    let found = |max_correlation_bytes| collect(&data(), 9, CollectSettings { max_correlation_bytes, ..small() });
    assert!(found(119).units.iter().all(|u| u.neurons.is_empty()) && found(119).correlated_over == 0);
    assert_eq!(found(120).correlated_over, found(120).n_tokens);
}

#[test]
fn no_document_gives_two_top_examples() {
    let found = collect(&data(), 9, CollectSettings { n_top: 15, ..small() });
    let top = found.units[1].groups.iter().find(|g| g.kind == GroupKind::Top).unwrap();
    let docs: BTreeSet<_> = top.firings.iter().map(|f| f.doc).collect();
    assert!(docs.len() == 30 && top.firings.len() == 30);
}

#[test]
fn random_examples_are_a_uniform_sample_of_the_firings() {
    // Over 200 seeds, 6 of unit 1's firings each: the first half of the text should give half of them, 600 +- 5 sigma (17 each).
    let data = data();
    let middle = data.t0[30];
    let early: usize = (0..200)
        .map(|s| {
            let found = collect(&data, 61, CollectSettings { seed: s, n_top: 0, n_per_bin: 0, ..small() });
            let random = found.units[1].groups.iter().find(|g| g.kind == GroupKind::Random).unwrap();
            random.firings.iter().filter(|f| f.t < middle).count()
        })
        .sum();
    assert!((early as i64 - 600).abs() < 90, "{early} of 1200 from the first half");
}

#[test]
fn weak_firings_are_sampled_in_proportion_to_their_bins() {
    // Within the lowest interval the bins differ a lot in count; the sample must follow the counts, not the bins.
    let data = data();
    let (mut low_half, mut n, mut want, mut total) = (0.0, 0.0, 0.0, 0.0);
    for s in 0..100 {
        let found = collect(&data, 61, CollectSettings { seed: s, n_per_bin: 5, n_per_interval: 5, ..small() });
        let group = found.units[1].groups.iter().rfind(|g| g.kind == GroupKind::Interval).unwrap();
        low_half += group.firings.iter().filter(|f| f.act < group.high / 2.0).count() as f64;
        n += group.firings.len() as f64;
        if s == 0 {
            let inside = (0..data.ids.len()).filter(|&r| data.counted[r] && data.acts[r][1] > 0.0 && data.acts[r][1] < group.high);
            inside.for_each(|r| {
                total += 1.0;
                want += (data.acts[r][1] < group.high / 2.0) as u8 as f64;
            });
            assert!(bin_of(group.high) > 0);
        }
    }
    // 500 draws: five sigma are 0.11.
    assert!((low_half / n - want / total).abs() < 0.11, "{} drawn, {} there", low_half / n, want / total);
}
