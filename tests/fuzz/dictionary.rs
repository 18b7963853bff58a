//! The dictionary: its bytes changed anywhere, and its cells replaced by values of any type.

use crate::change::{changed, changes, config};
use crate::demo;
use crate::memory::peak;
use monosem::corpus::{TokenStream, Tokenizer};
use monosem::features::Dictionary;
use monosem::features::store::ListQuery;
use monosem::features::text::StreamText;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rusqlite::types::Value;
use std::path::Path;

const ALLOWED: usize = 160 << 20;

fn read(path: &Path, text: &StreamText) {
    let Ok(dictionary) = Dictionary::open(path) else { return };
    let _ = (dictionary.changes(), dictionary.check(text.stream));
    let _ = dictionary.list(&ListQuery { text: Some("the captain".into()), ..Default::default() });
    let _ = dictionary.search("did", 5, text.stream, text.tokenizer);
    for id in 0..3 {
        let _ = dictionary.feature_in(id, text);
    }
}

fn opened() -> (tempfile::TempDir, TokenStream, Tokenizer, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let run = demo::make(dir.path(), false);
    let stream = TokenStream::open(&run.tokens()).unwrap();
    let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).unwrap();
    let bytes = std::fs::read(run.features("main")).unwrap();
    (dir, stream, tokenizer, bytes)
}

#[test]
fn dictionaries_with_changed_bytes() {
    let (dir, stream, tokenizer, bytes) = opened();
    let text = StreamText { stream: &stream, tokenizer: &tokenizer };
    let path = dir.path().join("changed.sqlite");
    let mut runner = TestRunner::new(config());
    let done = runner.run(&changes(), |changes| {
        std::fs::write(&path, changed(&bytes, &changes)).unwrap();
        let ((), held) = peak(|| read(&path, &text));
        prop_assert!(held < ALLOWED, "{held} bytes");
        Ok(())
    });
    done.unwrap();
}

fn cells() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        prop_oneof![Just(-1i64), Just(0), Just(i64::MAX), Just(i64::MIN), any::<i64>(), -200i64..200].prop_map(Value::Integer),
        any::<f64>().prop_map(Value::Real),
        "\\PC{0,20}".prop_map(Value::Text),
        Just(Value::Text("{\"edges\":[1.0],\"counts\":[1,2,3]}".into())),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Blob),
        prop::collection::vec(any::<u8>(), 2000..2001).prop_map(Value::Blob),
    ]
}

#[test]
fn dictionaries_with_cells_of_any_type() {
    let (dir, stream, tokenizer, bytes) = opened();
    let text = StreamText { stream: &stream, tokenizer: &tokenizer };
    let path = dir.path().join("changed.sqlite");
    std::fs::write(&path, &bytes).unwrap();
    let columns: Vec<(String, String)> = {
        let dictionary = Dictionary::open(&path).unwrap();
        let of = |table: &String| dictionary.columns(table).unwrap().into_iter().map(|c| (table.clone(), c.name)).collect::<Vec<_>>();
        let tables = dictionary.tables().unwrap().into_iter().chain(["meta".to_string()]).collect::<Vec<_>>();
        tables.iter().flat_map(of).collect()
    };
    let sql = rusqlite::Connection::open(&path).unwrap();
    // A journal in memory: nothing here has to survive.
    sql.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;").unwrap();
    let mut runner = TestRunner::new(config());
    let done = runner.run(&(any::<prop::sample::Index>(), cells(), 0i64..4), |(which, value, feature)| {
        let (table, column) = which.get(&columns);
        let rows = if columns.iter().any(|c| c.0 == *table && c.1 == "feature") { "feature = ?2" } else { "?2 = ?2" };
        // Undone after each case; where a key would be double, SQLite refuses, and the case is an unchanged file.
        sql.execute_batch("SAVEPOINT s").unwrap();
        let _ = sql.execute(&format!("UPDATE \"{table}\" SET \"{column}\" = ?1 WHERE {rows}"), rusqlite::params![value, feature]);
        sql.execute_batch("RELEASE s").unwrap();
        let ((), held) = peak(|| read(&path, &text));
        std::fs::write(&path, &bytes).unwrap();
        prop_assert!(held < ALLOWED, "{held} bytes");
        Ok(())
    });
    done.unwrap();
}
