use super::units::*;
use super::*;
use crate::artifact::{Silent, seed};
use crate::corpus::Split;
use crate::features::fake::{self, FakeEngine};
use crate::features::text::Text;
use rand::RngExt;

/// The fake stream with tokens named a, b, c, ...; the last one ends a document.
struct Letters<'a>(&'a TokenStream);

impl Text for Letters<'_> {
    fn n_tokens(&self) -> u64 {
        self.0.len()
    }
    fn read(&self, t: u64, out: &mut [u32]) {
        self.0.read(t, out);
    }
    fn doc_of(&self, t: u64) -> usize {
        self.0.doc_of(t)
    }
    fn doc_start(&self, doc: usize) -> u64 {
        self.0.doc_start(doc)
    }
    fn doc_end(&self, doc: usize) -> u64 {
        self.0.doc_end(doc) - 1
    }
    fn bytes(&self, token: u32) -> &[u8] {
        &b"abcdefghijkl\0"[token as usize..][..1]
    }
    fn end_of_text(&self) -> u32 {
        fake::END
    }
}

fn concept(name: &str, truth: Truth) -> ExamConcept {
    ExamConcept { name: name.into(), kind: "test".into(), truth }
}

fn hold(dir: &std::path::Path, concepts: &[ExamConcept], probe: bool) -> ExamReport {
    let stream = fake::stream(dir);
    let sae = fake::sae();
    let (mut engine, mut control) = (FakeEngine::new(), FakeEngine::new());
    let subject = Subject { engine: &mut engine, sae: &sae };
    let untrained = Some(Subject { engine: &mut control, sae: &sae });
    let config = ExamConfig { probe, n_tokens: 10_000, ..Default::default() };
    exam_in(subject, untrained, &stream, &Letters(&stream), HookPoint::mlp_post(0), concepts, &config, &mut Silent).unwrap()
}

#[test]
fn a_latent_made_for_a_concept_scores_one_and_noise_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let concepts = [concept("odd", Truth::Label(0)), concept("after 5", Truth::Label(1)), concept("noise", Truth::Label(2))];
    let report = hold(dir.path(), &concepts, true);
    let [odd, after, noise] = &report.concepts[..] else { panic!("three concepts") };
    // Latent 4 fires on odd tokens and on nothing else; neurons 1 and 3 share them.
    assert_eq!((odd.latents.ranked[0].id, odd.latents.f1()), (4, 1.0));
    assert!(odd.neurons.f1() < 0.8 && odd.neurons.union.f1_b == 1.0, "{:?}", odd.neurons);
    assert_eq!(odd.untrained.as_ref().unwrap().f1(), 1.0, "the control here is the same model");
    assert!(odd.token_only == 1.0 && !odd.from_context);
    assert!(odd.probe.unwrap() > 0.99, "{:?}", odd.probe);
    // The fake model sees no context: a token after a 5 cannot be told, nor noise.
    for c in [after, noise] {
        assert!(c.latents.f1() < 0.35 && c.from_context && c.probe.unwrap() < 0.35, "{c:?}");
        let auc = c.latents.auc.unwrap();
        assert!((auc - 0.5).abs() < 0.15, "{auc}");
    }
    assert!(report.best_of_latent.iter().any(|b| (b.0, b.1.as_str()) == (4, "odd")) && report.best_of_latent.iter().all(|b| b.0 != 5));
}

#[test]
fn the_forms_of_a_list_are_its_tokens_and_those_of_a_label_the_runs_that_carry_it() {
    let dir = tempfile::tempdir().unwrap();
    let concepts = [concept("tokens", Truth::Tokens(vec![1, 3, 5, 7, 9, 11])), concept("label", Truth::Label(0))];
    let report = hold(dir.path(), &concepts, false);
    let [tokens, label] = &report.concepts[..] else { panic!("two concepts") };
    // Six odd tokens are six forms, about as common, all found by latent 4.
    assert!(tokens.n_forms_found == 6 && tokens.is_class_found() && (tokens.effective_forms - 6.0).abs() < 0.5, "{tokens:?}");
    // By hand: neighbours that carry a label are one word; the latent fires on all their tokens that count.
    let stream = fake::stream(dir.path());
    let half = Halves::read(&stream, &Letters(&stream), 8, 10_000, &[]).unwrap().b;
    let mut ids = vec![0; half.n_read() as usize];
    stream.read(half.t0[0], &mut ids);
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    let with: Vec<usize> = (0..ids.len()).filter(|&i| ids[i] % 2 == 1).collect();
    for run in with.chunk_by(|a, b| a + 1 == *b) {
        // A run too long to be a word is its tokens.
        let letters = if run.len() <= text::LONGEST_FORM { run.len() } else { 1 };
        for word in run.chunks(letters) {
            let letters = word.iter().map(|&i| (b'a' + ids[i] as u8) as char).collect();
            *words.entry(letters).or_default() += word.iter().filter(|&i| i % 8 != 0).count() as u64;
        }
    }
    let common: Vec<_> = words.values().filter(|&&n| n >= MIN_FORM).collect();
    assert_eq!(label.n_forms_found, common.len());
    assert_eq!(label.forms.iter().map(|f| f.n_pos).max(), common.iter().copied().max().copied());
    assert!(label.forms.iter().all(|f| words[&f.form] == f.n_pos && f.recall == 1.0), "{:?}", label.forms);
    let total = words.values().sum::<u64>() as f64;
    let entropy: f64 = words.values().filter(|&&n| n > 0).map(|&n| n as f64 / total).map(|p| -p * p.ln()).sum();
    assert!((label.effective_forms - entropy.exp()).abs() < 1e-9, "{} and {}", label.effective_forms, entropy.exp());
}

#[test]
fn counting_by_bins_equals_f1_at_every_threshold() {
    let dir = tempfile::tempdir().unwrap();
    let stream = fake::stream(dir.path());
    let concepts = [concept("odd", Truth::Label(0)), concept("regex", Truth::Regex(regex::bytes::Regex::new("[a-d]{2}").unwrap()))];
    let half = Halves::read(&stream, &Letters(&stream), 8, 600, &concepts).unwrap().a;
    let mut rng = seed::rng(0, "test/exam", 0);
    let mut rows = SparseRows::default();
    rows.clear();
    let dense: Vec<[f32; 3]> =
        (0..half.n()).map(|_| [0.5, 0.1, 0.01].map(|d| if rng.random_bool(d) { rng.random_range(0.0..1.0f32) } else { 0.0 })).collect();
    for acts in &dense {
        let on: Vec<u32> = (0..3).filter(|&u| acts[u as usize] > 0.0).collect();
        rows.push_row(&on, &on.iter().map(|&u| acts[u as usize]).collect::<Vec<_>>());
    }
    let acts = Acts::from_rows(3, &rows);
    let (cells, grids) = score_all(&half, &acts);
    for u in 0..3 {
        for c in 0..2 {
            let truth = half.truth(c);
            let at = |threshold: f32| {
                let fires: Vec<bool> = dense.iter().map(|a| a[u] >= threshold).collect();
                let n = |f: &dyn Fn(u8, bool) -> bool| truth.iter().zip(&fires).filter(|(t, x)| f(**t, **x)).count() as f64;
                let (hits, fired, n_pos) = (n(&|t, x| t == 1 && x), n(&|t, x| t != 2 && x), n(&|t, _| t == 1));
                2.0 * hits / (fired + n_pos)
            };
            let want = grids[u].iter().map(|&t| at(t)).fold(0.0, f64::max);
            let cell = cells[u * 2 + c];
            assert!((cell.f1 as f64 - want).abs() < 1e-6 && (at(grids[u][cell.bin as usize]) - want).abs() < 1e-9, "unit {u} concept {c}");
        }
    }
    assert!(!half.left_out[1].is_empty() && half.truth(1).contains(&1));
}

#[test]
fn a_match_is_the_token_of_its_last_byte_and_the_rest_of_it_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let stream = fake::stream(dir.path());
    let concepts = [concept("regex", Truth::Regex(regex::bytes::Regex::new("[a-d]{2}").unwrap()))];
    let half = Halves::read(&stream, &Letters(&stream), 8, 1 << 20, &concepts).unwrap().b;
    let range = stream.range(Split::HeldOutB);
    let mut ids = vec![0; (range.end - range.start) as usize];
    stream.read(range.start, &mut ids);
    // By hand: runs of a-d inside a document, paired from the left.
    let (mut want, mut i) = (vec![0u8; ids.len()], 0);
    while i + 1 < ids.len() {
        let pair = ids[i] < 4 && ids[i + 1] < 4;
        if pair {
            (want[i], want[i + 1]) = (2, 1);
        }
        i += 1 + pair as usize;
    }
    let truth = half.truth(0);
    for (i, &row) in half.row_of.iter().enumerate() {
        let t = (half.t0[i / 8] - range.start) as usize + i % 8;
        assert_eq!(row == text::NO_ROW, i % 8 == 0 || ids[t] == fake::END);
        if row != text::NO_ROW {
            assert_eq!(truth[row as usize], want[t], "token {t}");
        }
    }
}

#[test]
fn what_a_token_is_does_not_depend_on_which_windows_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let stream = fake::stream(dir.path());
    let concepts = [
        concept("regex", Truth::Regex(regex::bytes::Regex::new("[a-d]{2,5}").unwrap())),
        concept("label", Truth::Label(0)),
        concept("tokens", Truth::Tokens(vec![2, 7])),
        concept("kind", Truth::Kind(1)),
    ];
    let whole = Halves::read(&stream, &Letters(&stream), 8, 1 << 20, &concepts).unwrap();
    let part = Halves::read(&stream, &Letters(&stream), 8, 300, &concepts).unwrap();
    let marked = |halves: &Halves, half: &Half, c: usize, wanted: &[u64]| {
        let t_of: std::collections::HashMap<u32, u64> =
            half.row_of.iter().enumerate().filter(|(_, r)| **r != text::NO_ROW).map(|(i, &r)| (r, half.t0[i / 8] + i as u64 % 8)).collect();
        let is_wanted = |t: u64| wanted.binary_search(&(t - t % 8)).is_ok();
        let positive: Vec<(u64, String)> =
            half.positives[c].iter().map(|(r, form)| (t_of[r], halves.forms[*form as usize].clone())).filter(|p| is_wanted(p.0)).collect();
        let left_out: Vec<u64> = half.left_out[c].iter().map(|r| t_of[r]).filter(|&t| is_wanted(t)).collect();
        (positive, left_out)
    };
    for (part_half, whole_half) in [(&part.a, &whole.a), (&part.b, &whole.b)] {
        assert!(part_half.t0.len() * 2 < whole_half.t0.len());
        for c in 0..concepts.len() {
            let found = marked(&part, part_half, c, &part_half.t0);
            assert_eq!(found, marked(&whole, whole_half, c, &part_half.t0), "concept {c}");
            assert!(found.0.len() > 5);
        }
    }
}

#[test]
fn neurons_turned_over_in_blocks_are_the_rows_that_went_in() {
    let mut dense = Dense::new(3);
    let n = BLOCK_ROWS + 5;
    let value = |r: usize, i: usize| ((r * 7 + i * 3) % 11) as f32 - 5.0;
    (0..n).for_each(|r| dense.push(&[value(r, 0), value(r, 1), value(r, 2)]));
    dense.finish();
    let acts = Acts::Neurons { rows: dense, both: true };
    assert_eq!(acts.n_units(), 6);
    let mut firings = Vec::new();
    for unit in 0..6 {
        acts.firings(unit, &mut firings);
        let sign = if unit < 3 { 1.0 } else { -1.0 };
        let want: Vec<_> = (0..n).map(|r| (r as u32, sign * value(r, unit % 3))).filter(|f| f.1 > 0.0).collect();
        assert_eq!(firings, want);
    }
}

#[test]
fn a_union_takes_what_the_best_unit_misses_and_nothing_useless() {
    // Rows 0-3 positive; unit 0 fires on 0, 1; unit 1 on 2, 3; unit 2 on 0, 1, 2 and on six negatives.
    let truth = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 2];
    let fires: [&[u32]; 3] = [&[0, 1, 10], &[2, 3], &[0, 1, 2, 4, 5, 6, 7, 8, 9]];
    let start = vec![0, 3, 5, 14];
    let acts = Acts::Sparse { start, entries: fires.iter().flat_map(|f| f.iter().map(|&r| (r, 1.0))).collect() };
    let grids: Vec<_> = fires.iter().map(|f| grid(&f.iter().map(|&r| (r, 1.0)).collect::<Vec<_>>())).collect();
    let candidates = [0, 1, 2].map(|u| (u, Cell::default()));
    let (chosen, f1) = greedy_union(&acts, &grids, &truth, &candidates, 3);
    assert_eq!((chosen.iter().map(|c| c.0).collect::<Vec<_>>(), f1), (vec![0, 1], 1.0));
    assert_eq!(greedy_union(&acts, &grids, &truth, &candidates, 1).1, 2.0 * 2.0 / 6.0);
}

#[test]
fn auc_counts_pairs() {
    // Pairs: (3 over 1), (3 over 2), (2 over 1), (2 ties 2): 3.5 of 4.
    assert_eq!(auc(&[3.0, 2.0], &[1.0, 2.0]), 0.875);
    assert_eq!(auc(&[0.0, 0.0], &[0.0]), 0.5);
}

#[test]
fn random_directions_fire_as_often_as_their_latents() {
    let mut rng = seed::rng(0, "test/exam", 1);
    let mut dense = Dense::new(5);
    let n = 4000;
    (0..n).for_each(|_| dense.push(&std::array::from_fn::<f32, 5, _>(|_| rng.random_range(-1.0..1.0))));
    dense.finish();
    let want = [400, 40, 0];
    let start = vec![0, 400, 440, 440];
    let latents = Acts::Sparse { start, entries: (0..440).map(|r| (r, 1.0)).collect() };
    let drawn = floors::Directions::new(&dense, &latents, 0, 0);
    let random = drawn.fire(&dense);
    let mut firings = Vec::new();
    for (unit, want) in want.into_iter().enumerate() {
        random.firings(unit, &mut firings);
        assert_eq!(firings.len(), want);
    }
}

#[test]
fn every_draw_is_another_and_the_first_is_the_one_that_is_shown_whole() {
    let dir = tempfile::tempdir().unwrap();
    let report = hold(dir.path(), &[concept("odd", Truth::Label(0))], false);
    let [odd] = &report.concepts[..] else { panic!("one concept") };
    assert_eq!((odd.random_draws.len(), odd.random_draws[0]), (N_DRAWS, odd.random.f1()));
    assert!(odd.random_draws[1..].iter().any(|f1| *f1 != odd.random_draws[0]), "{:?}", odd.random_draws);
    let chance = odd.chance();
    assert!(chance.n == N_DRAWS && odd.random_draws.iter().any(|&f1| f1 >= chance.mean) && odd.random_draws.iter().any(|&f1| f1 <= chance.mean));
    // 1, 2 and 3: their mean, and sqrt((1 + 0 + 1) / 2).
    assert_eq!(Spread::of(&[1.0, 2.0, 3.0]), Spread { mean: 2.0, sd: 1.0, n: 3 });
    assert_eq!((Spread::of(&[0.126]).to_string(), Spread::of(&[0.1, 0.3]).to_string()), ("0.13".into(), "0.20 \u{b1} 0.14".into()));
}

#[test]
fn of_a_draw_the_best_on_a_is_scored_on_b_as_if_all_had_been_looked_at_there() {
    let dir = tempfile::tempdir().unwrap();
    let stream = fake::stream(dir.path());
    let halves =
        Halves::read(&stream, &Letters(&stream), 8, 4000, &[concept("odd", Truth::Label(0)), concept("end", Truth::Tokens(vec![fake::END]))])
            .unwrap();
    let mut rng = seed::rng(0, "test/exam", 2);
    let mut rows = |half: &Half| {
        let mut dense = Dense::new(5);
        (0..half.n()).for_each(|_| dense.push(&std::array::from_fn::<f32, 5, _>(|_| rng.random_range(-1.0..1.0))));
        dense.finish();
        dense
    };
    let (a, b) = (rows(&halves.a), rows(&halves.b));
    let per_unit = halves.a.n() / 7;
    let latents = Acts::Sparse { start: (0..=7).map(|u| u * per_unit).collect(), entries: (0..7 * per_unit).map(|r| (r as u32, 1.0)).collect() };
    let drawn = floors::Directions::new(&a, &latents, 0, 3);
    let (on_a, on_b) = (drawn.fire(&a), drawn.fire(&b));
    let whole: Vec<f64> = Scored::new(&halves, &[1, 1], [&on_a, &on_b], None).all(1).iter().map(Found::f1).collect();
    assert_eq!(floors::best_of(&halves, &drawn, &b, &on_a), whole);
    assert!(whole[0] > 0.0 && whole[1] == 0.0, "nothing is at the end: {whole:?}");
}

#[test]
fn the_halves_are_read_from_their_splits() {
    let dir = tempfile::tempdir().unwrap();
    let stream = fake::stream(dir.path());
    let halves = Halves::read(&stream, &Letters(&stream), 8, 64, &[]).unwrap();
    assert_eq!((halves.a.n_read(), halves.b.n_read()), (64, 64));
    for (half, split) in [(&halves.a, Split::HeldOutA), (&halves.b, Split::HeldOutB)] {
        let range = stream.range(split);
        assert!(half.t0.iter().all(|t0| t0 % 8 == 0 && range.contains(t0) && range.contains(&(t0 + 7))));
        // Eight windows at even distances over the whole half; the first eight would be its beginning.
        let gaps: Vec<u64> = half.t0.windows(2).map(|t| t[1] - t[0]).collect();
        assert!(gaps.iter().max().unwrap() - gaps.iter().min().unwrap() <= 8, "{gaps:?}");
        assert!(half.t0[7] - half.t0[0] > (range.end - range.start) * 3 / 4, "{:?} of {range:?}", half.t0);
    }
}

#[test]
fn a_concept_with_hardly_a_token_is_listed_and_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    // The end of a document never counts, so there is no positive; `aaa` is met now and then.
    let rare = Truth::Regex(regex::bytes::Regex::new("aaa").unwrap());
    let concepts = [concept("odd", Truth::Label(0)), concept("nowhere", Truth::Tokens(vec![fake::END])), concept("aaa", rare)];
    let report = hold(dir.path(), &concepts, false);
    let [odd, nowhere, aaa] = &report.concepts[..] else { panic!("three concepts") };
    assert!(!odd.too_rare && nowhere.n_pos == (0, 0) && (1..MIN_POSITIVES).contains(&aaa.n_pos.0.min(aaa.n_pos.1)), "{:?}", aaa.n_pos);
    for c in [nowhere, aaa] {
        assert!(c.too_rare && !c.from_context, "{c:?}");
        assert!(report.best_of_latent.iter().all(|b| b.1 != c.concept), "{:?}", report.best_of_latent);
    }
}
