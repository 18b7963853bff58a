use super::*;

fn texts(labels: &[Label]) -> Vec<(u32, &str, &str)> {
    labels.iter().map(|l| (l.latent, l.text.as_str(), l.author.as_str())).collect()
}

#[test]
fn a_label_is_replaced_by_its_author_only_and_its_history_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut labels = Labels::open(&dir.path().join("labels/x.sqlite")).unwrap();
    labels.set("w", 7, "forms of do", "ann").unwrap();
    labels.set("w", 7, "auxiliaries", "ben").unwrap();
    labels.set("w", 7, "auxiliary do", "ann").unwrap();
    labels.set("other", 7, "nothing of ours", "ann").unwrap();
    assert_eq!(texts(&labels.list("w", None).unwrap()), [(7, "auxiliaries", "ben"), (7, "auxiliary do", "ann")]);
    assert_eq!(labels.history("w", 7).unwrap().len(), 3);
    labels.set("w", 7, "", "ben").unwrap();
    assert_eq!(texts(&labels.list("w", Some(7)).unwrap()), [(7, "auxiliary do", "ann")]);
    assert!(labels.set("w", 7, "x", " ").is_err() && labels.set("w", 7, &"x".repeat(20_000), "ann").is_err());
}

#[test]
fn undo_takes_back_one_change_after_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut labels = Labels::open(&dir.path().join("x.sqlite")).unwrap();
    labels.set("w", 1, "first", "ann").unwrap();
    labels.set("w", 1, "second", "ann").unwrap();
    labels.set("w", 2, "third", "ann").unwrap();
    assert_eq!(labels.undo("w").unwrap().unwrap().label.latent, 2);
    assert_eq!(labels.undo_of("w", 1).unwrap().unwrap().label.text, "second");
    assert_eq!(texts(&labels.list("w", None).unwrap()), [(1, "first", "ann")]);
    assert_eq!(labels.undo("w").unwrap().unwrap().label.text, "first");
    assert_eq!(labels.undo("w").unwrap(), None);
}

#[test]
fn an_import_is_one_step_to_take_back_and_a_single_label_of_it_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut labels = Labels::open(&dir.path().join("x.sqlite")).unwrap();
    labels.set("w", 1, "mine", "me").unwrap();
    let lines = "latent,text,weights_hash\n1,dogs,\n2,cats,\n3,owls,\n7,elsewhere,v\n";
    assert_eq!(labels.import(Format::Csv, lines, HERE).unwrap(), Imported { new: 3, replaced: 1, elsewhere: 1, ..Default::default() });
    labels.set("w", 3, "birds", "ann").unwrap();
    let told = |labels: &Labels| labels.steps("w", None, 9).unwrap().iter().map(|s| (s.label.text.clone(), s.n)).collect::<Vec<_>>();
    assert_eq!(told(&labels), [("birds".into(), 1), ("owls".into(), 4), ("mine".into(), 1)]);

    // One label of it alone; the others stay.
    assert_eq!(labels.undo_of("w", 2).unwrap().map(|s| (s.label.text, s.n)), Some(("cats".into(), 1)));
    assert_eq!(texts(&labels.list("w", None).unwrap()), [(1, "dogs", "me"), (3, "owls", "me"), (3, "birds", "ann")]);
    assert_eq!(labels.undo_import_of("w", 2).unwrap(), None, "nothing of it is left there");
    assert_eq!(labels.undo_import_of("w", 3).unwrap(), None, "its last change came alone");
    assert_eq!(labels.undo("w").unwrap().unwrap().label.text, "birds");
    let all = labels.undo("w").unwrap().unwrap();
    assert_eq!((all.n, all.batch.is_some()), (3, true), "what is left of the import, as one");
    assert_eq!((texts(&labels.list("w", None).unwrap()), labels.list("v", None).unwrap().len()), (vec![(1, "mine", "me")], 0));
    labels.import(Format::Csv, "latent,text\n2,cats\n3,owls\n", HERE).unwrap();
    assert_eq!(labels.undo_import_of("w", 2).unwrap().unwrap().n, 2);
    assert_eq!(labels.list("w", None).unwrap().len(), 1);
}

#[test]
fn labels_are_read_where_nothing_can_be_written_and_writing_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels/x.sqlite");
    assert!(Labels::open_to_read(&path).unwrap().is_none() && !dir.path().join("labels").exists(), "reading makes nothing");
    Labels::open(&path).unwrap().set("w", 3, "Hebrew", "ann").unwrap();
    let mut labels = Labels::open_to_read(&path).unwrap().unwrap();
    assert_eq!(texts(&labels.list("w", None).unwrap()), [(3, "Hebrew", "ann")]);
    let error = labels.set("w", 4, "more", "ann").unwrap_err().to_string();
    assert!(error.contains("copy the run"), "{error}");
    // A folder that cannot be made: its place is taken.
    std::fs::write(dir.path().join("taken"), "").unwrap();
    let Err(error) = Labels::open(&dir.path().join("taken/x.sqlite")) else { panic!("a file is no folder") };
    assert!(error.to_string().contains("copy the run"), "{error}");
}

#[test]
fn labels_outlive_the_program_and_another_sae() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sqlite");
    Labels::open(&path).unwrap().set("w", 3, "Hebrew", "ann").unwrap();
    let again = Labels::open(&path).unwrap();
    assert_eq!(texts(&again.list("w", None).unwrap()), [(3, "Hebrew", "ann")]);
    assert!(again.list("retrained", None).unwrap().is_empty(), "other weights have other labels");
}

const HERE: Import = Import { weights_hash: "w", n_units: 4, author: "me" };

#[test]
fn a_number_and_a_text_are_enough_and_labels_for_other_weights_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut labels = Labels::open(&dir.path().join("a.sqlite")).unwrap();
    let done = labels.import(Format::Csv, "feature,label\r\n3,dogs\r\n", HERE).unwrap();
    assert_eq!(done, Imported { new: 1, ..Default::default() });
    let lines = "{\"index\": 2, \"description\": \"cats\", \"author\": \"ann\"}\n\n{\"latent\": 9, \"text\": \"owls\", \"weights_hash\": \"v\"}\n";
    assert_eq!(labels.import(Format::Jsonl, lines, HERE).unwrap(), Imported { new: 2, elsewhere: 1, ..Default::default() });
    assert_eq!(texts(&labels.list("w", None).unwrap()), [(2, "cats", "ann"), (3, "dogs", "me")]);
    assert_eq!(texts(&labels.list("v", None).unwrap()), [(9, "owls", "me")]);
}

#[test]
fn every_label_survives_export_and_import_in_both_formats() {
    let dir = tempfile::tempdir().unwrap();
    let mut labels = Labels::open(&dir.path().join("a.sqlite")).unwrap();
    for (latent, text) in [(0, "plain"), (1, "commas, \"quotes\"\nand lines"), (2, "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{1f600}"), (3, "\"")] {
        labels.set("w", latent, text, "ann, the \"first\"").unwrap();
    }
    let want = labels.list("w", None).unwrap();
    for (i, format) in [Format::Csv, Format::Jsonl].into_iter().enumerate() {
        let mut out = Vec::new();
        assert_eq!(labels.export("w", format, &mut out).unwrap(), 4);
        let text = String::from_utf8(out).unwrap();
        let mut other = Labels::open(&dir.path().join(format!("{i}.sqlite"))).unwrap();
        assert_eq!(other.import(format, &text, HERE).unwrap(), Imported { new: 4, ..Default::default() });
        assert_eq!(other.import(format, &text, HERE).unwrap(), Imported { known: 4, ..Default::default() }, "what is there is not added again");
        assert_eq!(other.list("w", None).unwrap(), want);
    }
}

#[test]
fn a_bad_line_is_named_and_nothing_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let mut labels = Labels::open(&dir.path().join("a.sqlite")).unwrap();
    let good = "weights_hash,latent,text,author,time\nw,1,x,ann,2026-01-01T00:00:00Z\n";
    let bad = [
        (Format::Csv, format!("{good}w,minus,x,ann,t\n"), "line 3"),
        (Format::Csv, format!("{good}w,1\n"), "line 3"),
        (Format::Csv, format!("{good}w,1,\"x"), "does not end"),
        (Format::Csv, "latent,words\n".into(), "no column text"),
        (Format::Csv, format!("{good}w,4,x,ann,t\n"), "line 3 of the labels: there is no unit 4: numbers are 0 to 3"),
        (Format::Csv, format!("{good}w,2,{},ann,t\n", "x".repeat(1 << 20)), "line 3"),
        (Format::Csv, format!("{good}w,2, ,ann,t\n"), "line 3 of the labels: the label of unit 2 is empty"),
        (Format::Jsonl, "{}\n".into(), "line 1"),
    ];
    for (format, text, want) in bad {
        let error = labels.import(format, &text, HERE).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    assert!(labels.list("w", None).unwrap().is_empty());
    assert_eq!(labels.import(Format::Csv, good, HERE).unwrap().new, 1);
}

#[test]
fn times_are_rfc_3339() {
    // `date -u -d @SECONDS +%FT%TZ`
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
    assert_eq!(rfc3339(1_795_366_799), "2026-11-22T16:59:59Z");
}

/// A file as version 1 wrote it, with one label.
fn version_1(path: &Path) {
    let sql = Connection::open(path).unwrap();
    sql.execute_batch(SCHEMA).unwrap();
    sql.execute("INSERT INTO changes (weights_hash, latent, text, author, time) VALUES ('w', 3, 'Hebrew', 'ann', '2026-01-01T00:00:00Z')", [])
        .unwrap();
    sql.pragma_update(None, "user_version", 1).unwrap();
}

#[test]
fn a_file_of_version_1_is_read_as_it_is_and_gets_lists_and_ratings_when_it_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sqlite");
    version_1(&path);
    let old = Labels::open_to_read(&path).unwrap().unwrap();
    assert_eq!(texts(&old.list("w", None).unwrap()), [(3, "Hebrew", "ann")]);
    assert_eq!(old.steps("w", None, 9).unwrap().iter().map(|s| (s.n, s.batch)).collect::<Vec<_>>(), [(1, None)]);
    assert!(old.members("w", None).unwrap().is_empty() && old.ratings("w").unwrap().is_empty());
    let mut new = Labels::open(&path).unwrap();
    new.put("w", "scripts", 3, true, "ben").unwrap();
    assert_eq!(texts(&new.list("w", None).unwrap()), [(3, "Hebrew", "ann")]);
    assert_eq!(Labels::open_to_read(&path).unwrap().unwrap().members("w", None).unwrap().len(), 1);
    assert_eq!(new.undo("w").unwrap().unwrap().label.text, "Hebrew");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
    assert!(matches!(Labels::open(&path), Err(Error::Version { .. })) && matches!(Labels::open_to_read(&path), Err(Error::Version { .. })));
}

#[test]
fn a_unit_is_in_a_list_until_it_is_taken_out_and_may_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut labels = Labels::open(&dir.path().join("x.sqlite")).unwrap();
    let names =
        |labels: &Labels, latent| -> Vec<(String, u32)> { labels.members("w", latent).unwrap().into_iter().map(|m| (m.list, m.latent)).collect() };
    for latent in [9, 2, 9] {
        labels.put("w", " scripts ", latent, true, "ann").unwrap();
    }
    labels.put("w", lists::BOOKMARKS, 2, true, "ann").unwrap();
    labels.put("other", "scripts", 5, true, "ann").unwrap();
    assert_eq!(names(&labels, None), [("bookmarks".into(), 2), ("scripts".into(), 2), ("scripts".into(), 9)], "in the order of coming");
    assert_eq!(names(&labels, Some(2)).len(), 2);
    labels.put("w", "scripts", 9, false, "ben").unwrap();
    assert_eq!(names(&labels, Some(9)), []);
    labels.put("w", "scripts", 9, true, "ben").unwrap();
    assert_eq!(names(&labels, Some(9)), [("scripts".into(), 9)]);
    for (name, author) in [("", "ann"), ("x", " "), ("a\nb", "ann")] {
        assert!(labels.put("w", name, 1, true, author).is_err(), "{name:?} by {author:?}");
    }
    assert!(labels.put("w", &"x".repeat(61), 1, true, "ann").is_err());
}

#[test]
fn the_newest_rating_of_a_rater_counts_and_no_question_has_more_points_than_the_rubric() {
    use ratings::{RUBRIC, Rating, median};
    let dir = tempfile::tempdir().unwrap();
    let mut labels = Labels::open(&dir.path().join("x.sqlite")).unwrap();
    let rating =
        |latent, author: &str, points| Rating { session: 1, latent, author: author.into(), said: "dates".into(), points, time: String::new() };
    labels.rate("w", &rating(4, "ann", [3, 5, 3, 3])).unwrap();
    labels.rate("w", &rating(4, "ann", [0, 1, 0, 2])).unwrap();
    labels.rate("w", &rating(4, "ben", [1, 1, 1, 1])).unwrap();
    labels.rate("other", &rating(4, "ben", [1, 1, 1, 1])).unwrap();
    let kept = labels.ratings("w").unwrap();
    assert_eq!(kept.iter().map(|r| (r.author.as_str(), r.total())).collect::<Vec<_>>(), [("ann", 3), ("ben", 4)]);
    assert_eq!(RUBRIC.iter().map(|q| q.max).sum::<u8>(), 14, "the paper's scale");
    for i in 0..4 {
        let mut points = [0; 4];
        points[i] = RUBRIC[i].max + 1;
        assert!(labels.rate("w", &rating(1, "ann", points)).is_err());
    }
    assert_eq!([median(vec![]), median(vec![7]), median(vec![9, 1, 4]), median(vec![12, 0])], [None, Some(7.0), Some(4.0), Some(6.0)]);
}

#[test]
fn an_import_says_what_it_replaces_and_refuses_a_time_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut labels = Labels::open(&dir.path().join("l.sqlite")).unwrap();
    let lines = "latent,text,author\n1,one,ann\n1,two,ann\n1,one,bob\n";
    assert_eq!(labels.import(Format::Csv, lines, HERE).unwrap(), Imported { new: 2, replaced: 1, ..Default::default() });
    let error = labels.import(Format::Csv, "latent,text,time\n2,x,yesterday\n", HERE).unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("yesterday") && error.contains("2026-01-31T12:00:00Z"), "{error}");
    assert!(labels.import(Format::Csv, "latent,text,time\n2,x,2024-02-29T23:59:60.5+02:00\n", HERE).is_ok());
}

#[test]
fn taking_away_a_label_that_is_not_there_is_no_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut labels = Labels::open(&dir.path().join("l.sqlite")).unwrap();
    labels.set("w", 3, "", "ann").unwrap();
    assert!(labels.history("w", 3).unwrap().is_empty());
    labels.set("w", 3, "x", "ann").unwrap();
    labels.set("w", 3, "", "bob").unwrap();
    labels.set("w", 3, "", "ann").unwrap();
    assert_eq!(labels.history("w", 3).unwrap().len(), 2);
}
