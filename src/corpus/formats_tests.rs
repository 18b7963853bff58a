use super::*;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use std::io::Write;
use std::sync::Arc;

const FIELDS: Fields = Fields { text: "text", kind: "kind" };

type Records = Vec<std::result::Result<Document, RecordError>>;

fn read(path: &Path) -> Records {
    let mut records = vec![];
    read_file(path, "f", FIELDS, &mut |record| {
        records.push(record);
        Ok(())
    })
    .unwrap();
    records
}

/// What is read from a file of this name with these bytes.
fn read_bytes(name: &str, bytes: &[u8]) -> Records {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read(&path)
}

fn texts(records: &Records) -> Vec<&str> {
    records.iter().map(|r| r.as_ref().unwrap().text.as_str()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A Parquet file with the columns text and kind, both nullable.
fn parquet(rows: &[(Option<&str>, Option<&str>)]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type("message m { optional binary text (UTF8); optional int32 n; optional binary kind (UTF8); }").unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = 0;
    while let Some(mut open) = group.next_column().unwrap() {
        if column == 1 {
            let values: Vec<i32> = (0..rows.len() as i32).collect();
            open.typed::<parquet::data_type::Int32Type>().write_batch(&values, Some(&vec![1; rows.len()]), None).unwrap();
        } else {
            let cells: Vec<_> = rows.iter().map(|r| if column == 0 { r.0 } else { r.1 }).collect();
            let levels: Vec<i16> = cells.iter().map(|c| i16::from(c.is_some())).collect();
            let values: Vec<ByteArray> = cells.into_iter().flatten().map(ByteArray::from).collect();
            open.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        }
        open.close().unwrap();
        column += 1;
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn json_lines_give_text_and_kind_also_through_gzip_and_zstd() {
    let lines = "{\"text\": \"a\\né\", \"kind\": \"k\", \"n\": 1}\n\n{\"kind\": 7, \"text\": \"b\"}\n{\"text\": \"c\"}";
    for (name, bytes) in
        [("a.jsonl", lines.into()), ("a.jsonl.gz", gzip(lines.as_bytes())), ("a.JSON.zst", zstd::encode_all(lines.as_bytes(), 1).unwrap())]
    {
        let records = read_bytes(name, &bytes);
        assert_eq!(texts(&records), ["a\né", "b", "c"], "{name}");
        let kinds: Vec<_> = records.into_iter().map(|r| r.unwrap().kind).collect();
        assert_eq!(kinds, [Some("k".into()), Some("7".into()), None]);
    }
}

#[test]
fn each_bad_line_is_named_and_the_lines_after_it_are_read() {
    let lines = b"{\"text\": 3}\n[1]\n{\"body\": \"x\"}\n{\"text\": \"\xff\"}\n{\"text\":\n{\"text\": \" \"}\n{\"text\": \"good\"}\n";
    let records = read_bytes("a.jsonl", lines);
    assert_eq!(records.len(), 7);
    let expected = [
        "a number, not a string",
        "not an object",
        "no field \"text\" (it has [\"body\"])",
        "invalid UTF-8 at byte 10",
        "not a JSON record",
        "empty",
    ];
    for (i, expected) in expected.into_iter().enumerate() {
        let error = records[i].as_ref().unwrap_err();
        assert!(error.what.contains(expected), "{error}");
        assert_eq!(error.place, format!("line {}", i + 1));
        // The parser sees one line at a time and would call each the first.
        assert!(!error.what.contains("line 1"), "{error}");
    }
    assert_eq!(records[6].as_ref().unwrap().text, "good");
}

#[test]
fn a_truncated_archive_gives_its_documents_then_says_so() {
    // Not compressible, so that half of the archive holds about half of the lines.
    let lines: String = (0..2000u64).map(|i| format!("{{\"text\": \"{:x}\"}}\n", i.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    for (name, whole) in [("a.jsonl.gz", gzip(lines.as_bytes())), ("a.jsonl.zst", zstd::encode_all(lines.as_bytes(), 1).unwrap())] {
        assert_eq!(read_bytes(name, &whole).len(), 2000);
        let records = read_bytes(name, &whole[..whole.len() - 20]);
        let errors: Vec<_> = records.iter().filter_map(|r| r.as_ref().err()).collect();
        assert_eq!(errors.len(), 1, "{name}");
        assert!(errors[0].what.contains("truncated") && errors[0].place.starts_with("line "), "{name}: {}", errors[0]);
        assert!(records.last().unwrap().is_err());
    }
}

#[test]
fn files_that_are_not_what_their_names_say_are_refused() {
    for name in ["a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.jsonl", "a.docx"] {
        let records = read_bytes(name, b"these bytes are no archive and no JSON\n");
        assert_eq!(records.len(), 1, "{name}");
        assert!(records[0].is_err(), "{name}");
    }
    for name in ["a.txt", "a.jsonl", "a.txt.gz", "a.txt.zst", "a.parquet"] {
        let records = read_bytes(name, b"");
        assert_eq!(records.len(), 1, "{name}: {records:?}");
        assert!(records[0].is_err(), "{name}");
    }
}

#[test]
fn a_text_is_cut_at_its_end_tokens_and_paragraphs_and_loses_nothing() {
    let records = read_bytes("a.txt", b"one\n<|endoftext|>\ntwo <|endoftext|> three\n\n<|endoftext|>\n");
    assert_eq!(texts(&records), ["one", "two ", " three"]);
    let paragraph = format!("{}\n\n", "word ".repeat(300).trim_end());
    let book = paragraph.repeat(40);
    let records = read_bytes("a.md", book.as_bytes());
    let pieces = texts(&records);
    assert!(pieces.len() > 4 && pieces.iter().all(|p| p.len() < PARAGRAPH_CUT + paragraph.len()));
    assert_eq!(pieces.join("\n\n") + "\n\n", book);
    // A single line of two-byte characters: cut between words, never inside one.
    let line = "éé ".repeat(60_000);
    let records = read_bytes("a.txt", line.as_bytes());
    assert!(records.len() > 3);
    assert_eq!(texts(&records).concat(), line);
    assert!(texts(&records)[1..].iter().all(|p| p.starts_with(' ')));
}

#[test]
fn invalid_utf8_in_a_text_is_named_by_line_and_what_stands_before_it_is_kept() {
    let records = read_bytes("a.txt", b"one\ntwo\n\xC3(\nfour");
    assert_eq!(records[0].as_ref().unwrap().text, "one\ntwo");
    let error = records[1].as_ref().unwrap_err().to_string();
    assert!(error.starts_with("f, line 3: invalid UTF-8 at byte 0") && error.contains("--on-error skip"), "{error}");
    assert_eq!(records.len(), 2);
    // A character cut by the end of the file is invalid too.
    assert!(read_bytes("a.txt", b"one \xC3").iter().any(|r| r.is_err()));
}

#[test]
fn parquet_gives_the_chosen_columns_and_names_bad_rows() {
    let bytes = parquet(&[(Some("a"), Some("k")), (None, None), (Some("bé"), None), (Some(""), None)]);
    let records = read_bytes("a.parquet", &bytes);
    assert_eq!(records.len(), 4);
    assert_eq!(records[0], Ok(Document { text: "a".into(), kind: Some("k".into()), spans: vec![] }));
    assert_eq!(records[2], Ok(Document { text: "bé".into(), kind: None, spans: vec![] }));
    let error = records[1].as_ref().unwrap_err();
    assert!(error.place == "row 2" && error.what.contains("null"), "{error}");
    assert!(records[3].as_ref().unwrap_err().what.contains("empty"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    std::fs::write(&path, &bytes).unwrap();
    let mut errors = vec![];
    read_file(&path, "f", Fields { text: "body", kind: "kind" }, &mut |r| {
        errors.push(r.unwrap_err().what);
        Ok(())
    })
    .unwrap();
    assert!(errors.len() == 1 && errors[0].contains("no column \"body\"") && errors[0].contains("text"), "{errors:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_damage_to_an_archive_makes_the_reader_panic(which in 0usize..3, cut in 0usize..300, at in 0usize..10_000, flip in 0u8..) {
        let lines: String = (0..40).map(|i| format!("{{\"text\": \"line {i}\", \"kind\": \"k\"}}\n")).collect();
        let (name, mut bytes) = match which {
            0 => ("a.jsonl.gz", gzip(lines.as_bytes())),
            1 => ("a.jsonl.zst", zstd::encode_all(lines.as_bytes(), 1).unwrap()),
            _ => ("a.parquet", parquet(&[(Some("a"), Some("k")), (Some("b"), None)])),
        };
        let at = at % bytes.len();
        bytes[at] ^= flip;
        bytes.truncate(bytes.len() - cut % bytes.len());
        prop_assert!(!read_bytes(name, &bytes).is_empty());
    }
}
