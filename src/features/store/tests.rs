use super::*;
use crate::features::collect::{Collected, Correlated, Firing, Group, TokenMass, TokenUnits};
use crate::features::text::fake::FakeText;
use std::path::Path;

fn text() -> FakeText {
    // Token 5 and 6 are the two halves of the two-byte letter "\u{e9}".
    let vocab = ["<|endoftext|>", " do", " did", " the", " cat"].map(|t| t.as_bytes().to_vec()).into_iter();
    let vocab = vocab.chain([vec![0xC3], vec![0xA9], b" 100% \"quoted\"".to_vec()]).collect();
    FakeText { vocab, ids: vec![3, 4, 1, 3, 5, 6, 4, 2, 0, 3, 7, 4], doc_starts: vec![0, 9] }
}

fn firing(t: u64, act: f32, around: &[(i8, f32)]) -> Firing {
    Firing { t, act, around: around.to_vec(), ..Default::default() }
}

fn row(n: u64, token: u32, firings: Vec<Firing>, flags: &[Flag]) -> Row {
    let group = |kind| Group { kind, low: 0.0, high: 9.0, n_firings: n, share_mass: 0.5, firings: firings.clone() };
    let collected = Collected {
        n_active: n,
        max_act: firings.iter().map(|f| f.act).fold(0.0, f32::max),
        mean_act: 1.5,
        histogram: Histogram { edges: vec![1.0, 2.0, 4.0], counts: vec![n - 1, 1] },
        groups: if n > 0 { vec![group(GroupKind::Random), group(GroupKind::Interval), group(GroupKind::Top)] } else { vec![] },
        top_tokens: vec![TokenMass { token, n: n as u32, mass: 3.0 }],
        mass: 4.0,
        top_share: 1.0,
        effective_tokens: n as f64,
        tokens_exact: true,
        n_windows: 2,
        over_time: vec![1, n as u32 - 1],
        over_position: vec![n as u32, 0, 0],
        coactive: vec![(2, 0.5), (1, 0.25)],
        correlated: vec![Correlated { unit: 1, pearson: 0.25, cosine: 0.5, sd: Some(0.125) }],
        neurons: vec![(1, -0.5, 0.75)],
    };
    let (logits_up, logits_down) = (vec![(3, 2.0), (4, 1.0)], vec![(1, -3.0)]);
    Row {
        collected,
        flags: flags.to_vec(),
        polysemantic: 1.0 / n as f64,
        enc_dec_cosine: Some(0.5),
        logits_up,
        logits_down,
        category: Some(Category::Class),
        similar: vec![(2, 0.9)],
        alignment: vec![(0, -2.0, 0.75)],
    }
}

fn meta() -> Meta {
    Meta {
        kind: Kind::Latent,
        name: "small".into(),
        hook: "blocks.0.mlp.hook_post".into(),
        n_units: 3,
        d_in: 2,
        n_ctx: 4,
        n_tokens: 10,
        tokens_from: "train".into(),
        seed: 0,
        n_before: 3,
        n_after: 2,
        tokens_hash: "a".into(),
        lm_hash: "b".into(),
        sae_hash: None,
        weights_hash: "c".into(),
        n_dead: 0,
        n_ultra_rare: 0,
        n_dense: 1,
        n_single_token: 0,
        n_junk: 0,
        census: vec![CategoryCount { category: Category::Class, n: 3 }],
        time_tokens: vec![4, 6],
        position_tokens: vec![5, 3, 2],
        position_edges: vec![0, 1, 2, 4],
        loss_effects: LossEffects::NotExact { why: "a test".into() },
        program_version: "0".into(),
        ..Default::default()
    }
}

fn made(path: &Path) -> Dictionary {
    let rows = [
        row(2, 1, vec![Firing { loss: vec![(-1, 0.125), (0, -0.5)], similar: 3, ..firing(2, 2.5, &[(-1, 0.25), (0, 2.5)]) }], &[]),
        row(4, 2, vec![firing(7, 1.5, &[(0, 1.5)])], &[Flag::Dense, Flag::SingleToken]),
        row(3, 6, vec![firing(5, 3.5, &[(0, 3.5)]), firing(11, 1.0, &[(0, 1.0)])], &[Flag::Dense]),
    ];
    let tokens = [TokenUnits { token: 1, n: 2, units: vec![(0, 1, 3.0), (2, 1, 0.5)] }, TokenUnits { token: 2, n: 1, units: vec![] }];
    write(path, &meta(), &rows, &tokens, &text()).unwrap();
    Dictionary::open(path).unwrap()
}

#[test]
fn a_written_dictionary_is_read_back_with_its_contexts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("features/small.sqlite");
    let dictionary = made(&path);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    assert_eq!(dictionary.meta(), &meta());
    let detail = dictionary.feature_in(0, &text()).unwrap();
    assert_eq!((detail.summary.density, detail.summary.n_active, detail.summary.max_act), (0.2, 2, 2.5));
    assert_eq!(detail.summary.top_tokens, [FiringToken { token: TokenText::new(1, b" do"), n: 2, mass: 0.75 }]);
    assert_eq!(detail.histogram, Histogram { edges: vec![1.0, 2.0, 4.0], counts: vec![1, 1] });
    assert_eq!(detail.groups.iter().map(|g| g.kind).collect::<Vec<_>>(), [GroupKind::Random, GroupKind::Interval, GroupKind::Top]);
    let example = &detail.groups[2].examples[0];
    // t = 2: three tokens before are cut to two by the stream's start; its window is tokens 0..4.
    // Removing the feature at t - 1 acts on token t, at t on token t + 1.
    assert_eq!((example.loss[1..5].to_vec(), example.similar), (vec![None, Some(0.125), Some(-0.5), None], 3));
    assert_eq!((example.t, example.start, example.focus, example.window), (2, 0, 2, (0, 4)));
    assert_eq!(example.acts, [0.0, 0.25, 2.5, 0.0, 0.0]);
    assert_eq!(example.tokens.iter().map(|t| t.id).collect::<Vec<_>>(), [3, 4, 1, 3, 5]);
    assert_eq!(detail.logits_up[0], LogitEffect { token: TokenText::new(3, b" the"), effect: 2.0 });
    assert_eq!(detail.logits_down[0].effect, -3.0);
    assert_eq!((detail.groups[0].share_firings, detail.groups[0].share_mass), (1.0, Some(0.5)));
    // Counts over the tokens of each part, 4 and 6, and of each bin of the position, 5, 3 and 2.
    assert_eq!((detail.over_time, detail.over_position), (vec![1.0 / 4.0, 1.0 / 6.0], vec![2.0 / 5.0, 0.0, 0.0]));
    assert_eq!(detail.coactive, [Neighbor { id: 2, value: 0.5 }, Neighbor { id: 1, value: 0.25 }]);
    assert_eq!(detail.similar, [Neighbor { id: 2, value: 0.9 }]);
    assert_eq!(detail.correlated, [CorrelatedFeature { id: 1, pearson: 0.25, cosine: Some(0.5), sd: Some(0.125) }]);
    assert_eq!(detail.neurons, [CorrelatedNeuron { neuron: 1, pearson: -0.5, cosine: Some(0.75) }]);
    assert_eq!(detail.alignment, [Alignment { neuron: 0, value: -2.0, share: 0.75 }]);
    assert_eq!(detail.summary.category, Some(Category::Class));
    // t = 11 is the last token: nothing comes after, and its document starts at 9.
    let last = &dictionary.feature_in(2, &text()).unwrap().groups[0].examples[1];
    assert_eq!((last.start, last.tokens.len(), last.window, last.doc, last.doc_offset), (8, 4, (0, 4), 1, 2));
}

#[test]
fn a_token_lists_the_units_that_fire_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let dictionary = made(&dir.path().join("f.sqlite"));
    // Token 1 occurs twice among 10; unit 0 fires on one of these and on 2 of the 10, unit 2 on one and on 3 of the 10.
    let features = [(0, 1, 3.0, 0.5 / 0.2), (2, 1, 0.5, 0.5 / 0.3)].map(|(feature, n, mass, lift)| TokenFeature { feature, n, mass, lift });
    let found = dictionary.token(1).unwrap().unwrap();
    assert_eq!((found.n, found.token.bytes.as_slice()), (2, &b" do"[..]));
    for (got, want) in found.features.iter().zip(&features) {
        assert!((got.feature, got.n, got.mass) == (want.feature, want.n, want.mass) && (got.lift - want.lift).abs() < 1e-12);
    }
    assert_eq!(dictionary.tokens_with("D", 9).unwrap().iter().map(|t| t.token.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(dictionary.tokens_with("d", 1).unwrap()[0].token.id, 1);
    assert!(dictionary.token(5).unwrap().is_none());
}

/// A file as version 1 wrote it: one unit with an interval and an example.
fn version_1(path: &Path) {
    let sql = rusqlite::Connection::open(path).unwrap();
    sql.execute_batch(
        "CREATE TABLE meta (json TEXT NOT NULL);
         CREATE TABLE features (
           id INTEGER PRIMARY KEY, density REAL NOT NULL, n_active INTEGER NOT NULL, max_act REAL NOT NULL, mean_act REAL NOT NULL,
           flags INTEGER NOT NULL, effective_tokens REAL NOT NULL, tokens_exact INTEGER NOT NULL, polysemantic REAL NOT NULL, cosine REAL,
           histogram TEXT NOT NULL, concept TEXT, f1 REAL);
         CREATE TABLE firing_tokens (
           feature INTEGER NOT NULL, rank INTEGER NOT NULL, token INTEGER NOT NULL, bytes BLOB NOT NULL, text TEXT NOT NULL,
           n INTEGER NOT NULL, mass REAL NOT NULL, PRIMARY KEY (feature, rank)) WITHOUT ROWID;
         CREATE TABLE groups (
           feature INTEGER NOT NULL, place INTEGER NOT NULL, kind TEXT NOT NULL, low REAL NOT NULL, high REAL NOT NULL,
           n_firings INTEGER NOT NULL, PRIMARY KEY (feature, place)) WITHOUT ROWID;
         CREATE TABLE examples (
           id INTEGER PRIMARY KEY, feature INTEGER NOT NULL, place INTEGER NOT NULL, t INTEGER NOT NULL, act REAL NOT NULL, around BLOB NOT NULL);
         CREATE TABLE logits (
           feature INTEGER NOT NULL, up INTEGER NOT NULL, rank INTEGER NOT NULL, token INTEGER NOT NULL, bytes BLOB NOT NULL,
           effect REAL NOT NULL, PRIMARY KEY (feature, up, rank)) WITHOUT ROWID;
         CREATE VIRTUAL TABLE contexts USING fts5 (words, content='', tokenize = 'unicode61 remove_diacritics 2');
         INSERT INTO features VALUES (0, 0.2, 4, 2.5, 1.5, 20, 3.0, 1, 7.0, 0.5, '{\"edges\":[1.0,2.0],\"counts\":[4]}', NULL, NULL);
         INSERT INTO groups VALUES (0, 0, 'quantile', 1.0, 2.5, 3);
         INSERT INTO examples VALUES (1, 0, 0, 2, 2.5, x'0000002040');
         CREATE INDEX examples_of ON examples (feature, place);
         PRAGMA user_version = 1;",
    )
    .unwrap();
    let meta = r#"{"kind":"latent","name":"small","hook":"blocks.0.mlp.hook_post","n_units":1,"d_in":2,"n_ctx":4,"n_tokens":10,"tokens_from":"train",
        "seed":0,"n_before":3,"n_after":2,"tokens_hash":"a","lm_hash":"b","sae_hash":null,"weights_hash":"c","n_dead":0,"n_ultra_rare":0,"n_dense":1,
        "n_single_token":0,"n_junk":1,"wall_seconds":0.5,"program_version":"0"}"#;
    sql.execute("INSERT INTO meta VALUES (?1)", [meta]).unwrap();
}

#[test]
fn a_file_of_version_1_is_made_one_of_today_and_what_it_did_not_collect_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.sqlite");
    version_1(&path);
    for opened in ["first", "again"] {
        let dictionary = Dictionary::open(&path).unwrap();
        let detail = dictionary.feature_in(0, &text()).unwrap();
        assert_eq!(detail.summary.flags, [Flag::Dense, Flag::Junk], "{opened}");
        assert_eq!((detail.summary.category, dictionary.meta().loss_effects.clone()), (None, LossEffects::NotMeasured));
        let group = &detail.groups[0];
        assert_eq!((group.kind, group.share_firings, group.share_mass), (GroupKind::Interval, 0.75, None));
        assert_eq!((group.examples[0].act, group.examples[0].acts[2], group.examples[0].loss.iter().flatten().count()), (2.5, 2.5, 0));
        assert!(detail.over_time.is_empty() && detail.coactive.is_empty() && detail.alignment.is_empty());
        assert!(dictionary.tokens_with("do", 9).unwrap().is_empty());
    }
    // Written to again as any file is.
    set_concepts(&path, &[(0, "dogs".into(), 0.9)]).unwrap();
    assert!(Dictionary::open(&path).unwrap().summary(0).unwrap().concept.is_some());
}

/// Takes a file back to what version 3 wrote: no correlated units, no cosines.
fn as_version_3(path: &Path) {
    let sql = rusqlite::Connection::open(path).unwrap();
    sql.execute_batch("DROP TABLE correlated; ALTER TABLE neurons DROP COLUMN cosine; PRAGMA user_version = 3;").unwrap();
}

/// Takes a file back to what version 2 wrote: histograms among the columns of lists, no index by unit.
fn as_version_2(path: &Path) {
    as_version_3(path);
    let sql = rusqlite::Connection::open(path).unwrap();
    sql.execute_batch(
        "ALTER TABLE features ADD COLUMN histogram TEXT NOT NULL DEFAULT '';
         ALTER TABLE features ADD COLUMN over_time BLOB;
         ALTER TABLE features ADD COLUMN over_position BLOB;
         UPDATE features SET (histogram, over_time, over_position) = (SELECT histogram, over_time, over_position FROM shapes WHERE feature = id);
         ALTER TABLE features DROP COLUMN first_example;
         ALTER TABLE features DROP COLUMN n_indexed;
         DROP TABLE shapes;
         DROP TABLE unit_words;
         DROP INDEX firing_of;
         DROP TABLE firing_texts;
         PRAGMA user_version = 2;",
    )
    .unwrap();
}

/// What version 3 did not know is empty.
fn without_version_4(mut detail: FeatureDetail) -> FeatureDetail {
    detail.correlated.clear();
    detail.neurons.iter_mut().for_each(|n| n.cosine = None);
    detail
}

#[test]
fn a_file_of_version_3_has_its_correlations_with_neurons_and_none_with_units() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.sqlite");
    let new = made(&path).feature_in(0, &text()).unwrap();
    as_version_3(&path);
    let old = Dictionary::open(&path).unwrap().feature_in(0, &text()).unwrap();
    assert_eq!(old, without_version_4(new));
    assert_eq!(old.neurons.len(), 1);
}

#[test]
fn a_file_of_version_2_answers_as_one_of_today_even_where_the_index_by_unit_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (new, old) = (dir.path().join("new.sqlite"), dir.path().join("old.sqlite"));
    let (new, _) = (made(&new), made(&old));
    as_version_2(&old);
    let old = Dictionary::open(&old).unwrap();
    for id in 0..3 {
        assert_eq!(old.feature_in(id, &text()).unwrap(), without_version_4(new.feature_in(id, &text()).unwrap()));
    }
    for wanted in ["did", "cat", "THE CAT", "the\u{e9} ca", "zebra", "do"] {
        let listed = |d: &Dictionary| d.list(&ListQuery { text: Some(wanted.into()), ..Default::default() }).unwrap();
        assert_eq!(listed(&old), listed(&new), "{wanted}");
        assert_eq!(old.search_in(wanted, 10, &text()).unwrap(), new.search_in(wanted, 10, &text()).unwrap(), "{wanted}");
        assert_eq!(old.seen(wanted, 10).unwrap(), new.seen(wanted, 10).unwrap(), "{wanted}");
    }
}

#[test]
fn lists_are_sorted_filtered_and_paged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.sqlite");
    let dictionary = made(&path);
    let ids = |query: &ListQuery| {
        let page = dictionary.list(query).unwrap();
        (page.total, page.features.iter().map(|f| f.id).collect::<Vec<_>>())
    };
    let by = |sort, descending| ListQuery { sort, descending, ..Default::default() };
    assert_eq!(ids(&by(Sort::Density, true)), (3, vec![1, 2, 0]));
    assert_eq!(ids(&by(Sort::Max, false)), (3, vec![1, 0, 2]));
    assert_eq!(ids(&ListQuery { limit: 1, offset: 1, ..by(Sort::Polysemantic, true) }), (3, vec![2]));
    assert_eq!(ids(&ListQuery { with: vec![Flag::Dense], without: vec![Flag::SingleToken], ..Default::default() }), (1, vec![2]));
    assert_eq!(ids(&ListQuery { category: Some(Category::Class), ..Default::default() }).0, 3);
    assert_eq!(ids(&ListQuery { category: Some(Category::Dead), ..Default::default() }).0, 0);
    assert_eq!(ids(&ListQuery { min_density: Some(0.25), max_density: Some(0.35), ..Default::default() }), (1, vec![2]));
    assert_eq!(ids(&ListQuery { ids: Some(vec![]), ..Default::default() }), (0, vec![]));
    // Few and many units take different ways; numbers that are no unit's are passed over.
    for n in [5, 500] {
        assert_eq!(ids(&ListQuery { ids: Some((1..n).collect()), ..by(Sort::Max, false) }), (2, vec![1, 2]));
    }
    let with_text = |text: &str| ids(&ListQuery { text: Some(text.into()), max_density: Some(0.25), ..Default::default() });
    assert_eq!((with_text("THE CAT"), with_text("zebra"), with_text("\" OR")), ((1, vec![0]), (0, vec![]), (0, vec![])));
    let with_any = |text: &str| ids(&ListQuery { text: Some(text.into()), ..Default::default() });
    assert_eq!(with_any("did"), (3, vec![0, 1, 2]), "a token of one, in contexts of the others");
    assert_eq!(with_any("do"), (1, vec![0]), "contexts are not searched for two letters");
    set_concepts(&path, &[(1, "dogs".into(), 0.49), (2, "cats".into(), 0.5)]).unwrap();
    // Seen by who has it open, too.
    let best = dictionary.list(&by(Sort::F1, true)).unwrap().features;
    assert_eq!((best[0].id, best[0].concept.clone()), (2, Some(BestConcept { name: "cats".into(), f1: 0.5 })));
    assert_eq!((best[1].id, &best[1].concept), (1, &None), "the best of bad ones is no concept");
}

#[test]
fn search_finds_tokens_first_then_words_of_contexts_and_no_operators() {
    let dir = tempfile::tempdir().unwrap();
    let dictionary = made(&dir.path().join("f.sqlite"));
    let search = |wanted: &str| {
        let hits = dictionary.search_in(wanted, 10, &text()).unwrap();
        hits.into_iter().map(|h| (h.feature, h.why)).collect::<Vec<_>>()
    };
    assert_eq!(search("did"), [(1, Why::Token), (0, Why::Context), (2, Why::Context)]);
    assert_eq!(search("the\u{e9} ca"), [(0, Why::Context), (1, Why::Context), (2, Why::Context)], "bytes are joined before the words are read");
    for odd in ["", " ", "\"", "a OR b", "NEAR(", "100% \"q", "*", "-", "'; DROP TABLE features; --"] {
        search(odd);
    }
    assert!(search("zebra").is_empty());
    let hits = dictionary.search_in("cat", 10, &text()).unwrap();
    assert!(hits.iter().all(|h| h.snippet.contains("cat") && h.share > 0.0), "{hits:?}");
}

#[test]
fn whole_words_come_before_longer_ones_that_hold_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.sqlite");
    let vocab = ["<|endoftext|>", " king", " kingdom", " making", " of", " kingly"].map(|t| t.as_bytes().to_vec()).to_vec();
    let text = FakeText { vocab, ids: vec![4, 2, 4, 4, 0, 4, 1, 4, 4, 0, 4, 5, 4, 4], doc_starts: vec![0, 5, 10] };
    // Unit 0 fires on "kingdom", 1 on "king" with less of its activation, 2 on "making" and hardly on "king"; 3 and 4 near them.
    let on = |t: u64, tokens: &[(u32, f64)]| {
        let mut row = row(5, 0, vec![firing(t, 1.0, &[])], &[]);
        row.collected.top_tokens = tokens.iter().map(|&(token, mass)| TokenMass { token, n: 1, mass }).collect();
        row
    };
    let rows = [on(1, &[(2, 4.0)]), on(6, &[(1, 1.0)]), on(11, &[(3, 3.0), (1, 0.1)]), on(3, &[(4, 4.0)]), on(8, &[(4, 4.0)])];
    write(&path, &Meta { n_units: 5, ..meta() }, &rows, &[], &text).unwrap();
    let dictionary = Dictionary::open(&path).unwrap();
    let found = |limit| dictionary.search_in("King", limit, &text).unwrap().iter().map(|h| h.feature).collect::<Vec<_>>();
    assert_eq!(found(3), [1, 0, 2], "1 has a quarter on the word itself, 2 hardly anything");
    let seen = |limit| dictionary.seen("king", limit).unwrap().0.iter().map(|s| s.feature).collect::<Vec<_>>();
    assert!(seen(2).len() == 2 && seen(9).len() == 5, "{:?}", seen(9));
    set_concepts(&path, &[(0, "kingdoms of old".into(), 0.9), (1, "the king".into(), 0.6)]).unwrap();
    assert_eq!(dictionary.with_concept("KING", 5).unwrap().iter().map(|h| h.feature).collect::<Vec<_>>(), [1, 0]);
    assert!(has_word("a king, or", "king") && !has_word("kingdom", "king") && !has_word("making", "king") && !has_word("x", ""));
    assert!(has_word("don't", "don") && has_word("1 % of", "% of") && has_word("kingdom king", "king") && !has_word("re\u{e9}do", "do"));
}

#[test]
fn a_file_of_another_version_or_not_a_dictionary_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.sqlite");
    let error = |path: &Path| Dictionary::open(path).map(|_| ()).unwrap_err().to_string();
    assert!(error(&path).contains("monosem features build"));
    drop(made(&path));
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    assert!(error(&path).contains("version 7"), "{}", error(&path));
    std::fs::write(&path, [7; 5000]).unwrap();
    assert!(error(&path).contains("delete it"), "{}", error(&path));
    let dictionary = made(&dir.path().join("g.sqlite"));
    assert!(dictionary.summary(3).unwrap_err().to_string().contains("0 to 2"));
}
