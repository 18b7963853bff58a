//! One file -> documents: txt and md, JSONL, gzip and zstd of these, Parquet. Does not know where files come from.
//!
//! Text files have no records, so they are cut: at every `<|endoftext|>`, and where a piece has passed 8,000 bytes at the next blank
//! line, after 16,000 at the next line, after 64 KiB anywhere between two words. So one book gives training and held-out documents.

use super::parquet_pages::Checked;
use super::{Document, END_OF_TEXT, Reason, RecordError};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::panic::AssertUnwindSafe;
use std::path::Path;

const PARAGRAPH_CUT: usize = 8_000;
const LINE_CUT: usize = 16_000;
const WORD_CUT: usize = 64 << 10;
/// A longer JSONL line is refused: 64 MiB.
const MAX_LINE: u64 = 64 << 20;

/// How the bytes of a file are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    JsonLines,
    Parquet,
}

/// Which fields a record's text and kind are in.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    pub text: &'a str,
    pub kind: &'a str,
}

/// Takes a document or what is wrong with it; an error stops the reading.
pub type Sink<'a> = dyn FnMut(Result<Document, RecordError>) -> super::Result<()> + 'a;

/// The format that a file's name promises, also behind `.gz`, `.zst`.
pub(super) fn format_of(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst"));
    match plain.unwrap_or(&name).rsplit_once('.')?.1 {
        "txt" | "text" | "md" | "markdown" => Some(Format::Text),
        "jsonl" | "ndjson" | "json" => Some(Format::JsonLines),
        "parquet" if plain.is_none() => Some(Format::Parquet),
        _ => None,
    }
}

/// Whether the file has no records, so that only what is in its text says where a document ends.
pub fn is_text(path: &Path) -> bool {
    format_of(path) == Some(Format::Text)
}

/// Reads `path`, named `label` in messages. What is wrong with a record, or with the rest of the file, goes to `sink` too.
pub fn read_file(path: &Path, label: &str, fields: Fields, sink: &mut Sink) -> super::Result<()> {
    let Some(format) = format_of(path) else {
        return sink(Err(RecordError::new(
            label,
            "whole file",
            Reason::UnknownFormat,
            "its name has none of the endings txt, md, jsonl, json, parquet (also .gz, .zst)",
        )));
    };
    let mut n_documents = 0u64;
    let mut counted = |record: Result<Document, RecordError>| {
        n_documents += 1;
        sink(record)
    };
    match format {
        // The library asserts what a well-formed file keeps; a file that does not is told like any other damage.
        Format::Parquet => std::panic::catch_unwind(AssertUnwindSafe(|| read_parquet(path, label, fields, &mut counted))).unwrap_or_else(|_| {
            let what = "it is not a whole Parquet file: its parts contradict each other";
            counted(Err(RecordError::new(label, "whole file", Reason::Unreadable, what)))
        })?,
        _ => match open(path) {
            Err(e) => counted(Err(RecordError::new(label, "whole file", Reason::Unreadable, format!("cannot open it: {e}"))))?,
            Ok(reader) if format == Format::Text => read_text(reader, label, &mut counted)?,
            Ok(reader) => read_json_lines(reader, label, fields, &mut counted)?,
        },
    }
    if n_documents == 0 {
        sink(Err(RecordError::new(label, "whole file", Reason::Empty, "it holds no document")))?;
    }
    Ok(())
}

/// The decompressed bytes of a file.
fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = File::open(path)?;
    Ok(match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("gz") => Box::new(BufReader::with_capacity(1 << 17, flate2::bufread::MultiGzDecoder::new(BufReader::new(file)))),
        Some("zst") => Box::new(BufReader::with_capacity(1 << 17, zstd::stream::read::Decoder::new(file)?)),
        _ => Box::new(BufReader::with_capacity(1 << 17, file)),
    })
}

/// What a failed read means to the person who has the file.
fn broken(label: &str, place: String, e: &io::Error) -> RecordError {
    let what = match e.kind() {
        io::ErrorKind::UnexpectedEof => format!("the archive is truncated ({e})"),
        _ => format!("it cannot be read further: {e}"),
    };
    RecordError::new(label, place, Reason::Unreadable, what)
}

fn read_json_lines(mut reader: Box<dyn BufRead>, label: &str, fields: Fields, sink: &mut Sink) -> super::Result<()> {
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let place = || format!("line {number}");
        match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line) {
            Err(e) => return sink(Err(broken(label, place(), &e))),
            Ok(0) => break,
            Ok(n) if n as u64 == MAX_LINE => {
                return sink(Err(RecordError::new(label, place(), Reason::TooLong, format!("it is longer than {MAX_LINE} bytes"))));
            }
            Ok(_) => {}
        }
        if number == 1 && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        sink(json_record(&line, fields).map_err(|(reason, what)| RecordError::new(label, place(), reason, what)))?;
    }
    Ok(())
}

/// What is wrong with a record, in few words and in full.
type Wrong = (Reason, String);

fn json_record(line: &[u8], fields: Fields) -> Result<Document, Wrong> {
    use serde_json::Value;
    let line = std::str::from_utf8(line).map_err(|e| (Reason::NotUtf8, format!("invalid UTF-8 at byte {} of the line", e.valid_up_to())))?;
    let record: Value =
        serde_json::from_str(line.trim_end()).map_err(|e| (Reason::NotJson, format!("it is not a JSON record: {}", without_line(&e))))?;
    let Value::Object(mut record) = record else {
        return Err((Reason::NotJson, "it is JSON but not an object; one object a line is expected".into()));
    };
    let text = match record.remove(fields.text) {
        Some(Value::String(text)) => text,
        Some(other) => return Err((Reason::NoText, format!("its field {:?} is {}, not a string", fields.text, name_of(&other)))),
        None => {
            let names: Vec<&String> = record.keys().take(8).collect();
            return Err((Reason::NoText, format!("it has no field {:?} (it has {names:?})", fields.text)));
        }
    };
    let kind = match record.remove(fields.kind) {
        Some(Value::String(kind)) => Some(kind),
        Some(kind @ (Value::Number(_) | Value::Bool(_))) => Some(kind.to_string()),
        _ => None,
    };
    not_empty(Document { text, kind, spans: vec![] })
}

/// What the parser says, with the byte of the line but not its own line number, which is always 1.
fn without_line(e: &serde_json::Error) -> String {
    e.to_string().replace(&format!(" at line {} column {}", e.line(), e.column()), &format!(" at byte {}", e.column()))
}

fn name_of(value: &serde_json::Value) -> &'static str {
    use serde_json::Value::*;
    match value {
        Null => "null",
        Bool(_) => "a boolean",
        Number(_) => "a number",
        String(_) => "a string",
        Array(_) => "an array",
        Object(_) => "an object",
    }
}

fn not_empty(document: Document) -> Result<Document, Wrong> {
    if document.text.trim().is_empty() { Err((Reason::Empty, "the document is empty".into())) } else { Ok(document) }
}

fn read_text(mut reader: Box<dyn BufRead>, label: &str, sink: &mut Sink) -> super::Result<()> {
    let mut text = String::new();
    // Bytes read but not yet taken as text: at most one unfinished character between two reads.
    let mut bytes = Vec::new();
    let mut number = 1u64;
    loop {
        let n = match (&mut reader).take(WORD_CUT as u64).read_until(b'\n', &mut bytes) {
            Ok(n) => n,
            Err(e) => {
                emit(&mut text, sink)?;
                return sink(Err(broken(label, format!("line {number}"), &e)));
            }
        };
        let ends_line = bytes.ends_with(b"\n");
        let valid = match std::str::from_utf8(&bytes) {
            Ok(_) => bytes.len(),
            // A character cut by the size of the read goes on with the next one.
            Err(e) if e.error_len().is_none() && n > 0 => e.valid_up_to(),
            Err(e) => {
                let what = format!("invalid UTF-8 at byte {} of the line; the rest of the file is left out", e.valid_up_to());
                emit(&mut text, sink)?;
                return sink(Err(RecordError::new(label, format!("line {number}"), Reason::NotUtf8, what)));
            }
        };
        let piece = std::str::from_utf8(&bytes[..valid]).expect("checked above");
        if n == 0 {
            text.push_str(piece);
            return emit(&mut text, sink);
        }
        let mut parts = piece.split(END_OF_TEXT);
        text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            emit(&mut text, sink)?;
            text.push_str(part);
        }
        let is_blank = ends_line && piece.trim().is_empty();
        if (is_blank && text.len() >= PARAGRAPH_CUT) || (ends_line && text.len() >= LINE_CUT) {
            emit(&mut text, sink)?;
        } else if text.len() >= WORD_CUT {
            let rest = text.split_off(text.rfind(' ').filter(|&at| at > 0).unwrap_or(text.len()));
            emit(&mut text, sink)?;
            text = rest;
        }
        bytes.drain(..valid);
        number += u64::from(ends_line);
    }
}

/// Gives the piece of text to `sink` unless it is blank: space between two cuts is no document, so it is no empty one either.
fn emit(text: &mut String, sink: &mut Sink) -> super::Result<()> {
    let piece = std::mem::take(text);
    let trimmed = piece.trim_matches('\n');
    if trimmed.trim().is_empty() {
        return Ok(());
    }
    sink(Ok(Document { text: trimmed.into(), kind: None, spans: vec![] }))
}

fn read_parquet(path: &Path, label: &str, fields: Fields, sink: &mut Sink) -> super::Result<()> {
    let whole = |reason: Reason, what: String| RecordError::new(label, "whole file", reason, what);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) => return sink(Err(whole(Reason::Unreadable, format!("cannot open it: {e}")))),
    };
    let reader = match SerializedFileReader::new(file) {
        Ok(reader) => Checked(reader),
        Err(e) => return sink(Err(whole(Reason::Unreadable, format!("it is not a whole Parquet file: {e}")))),
    };
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<String> = schema.get_fields().iter().map(|f| f.name().to_string()).collect();
    if !names.iter().any(|n| n == fields.text) {
        return sink(Err(whole(Reason::NoText, format!("it has no column {:?} (it has {names:?})", fields.text))));
    }
    let kept = schema.get_fields().iter().filter(|f| f.name() == fields.text || f.name() == fields.kind).cloned().collect();
    let projection = parquet::schema::types::Type::group_type_builder(schema.name()).with_fields(kept).build();
    let rows = projection.and_then(|p| reader.get_row_iter(Some(p)));
    let rows = match rows {
        Ok(rows) => rows,
        Err(e) => return sink(Err(whole(Reason::Unreadable, format!("its rows cannot be read: {e}")))),
    };
    for (number, row) in (1u64..).zip(rows) {
        let place = format!("row {number}");
        let row = match row {
            Ok(row) => row,
            Err(e) => return sink(Err(RecordError::new(label, place, Reason::Unreadable, format!("it cannot be read further: {e}")))),
        };
        let no_text = |what: String| Err((Reason::NoText, what));
        let (mut text, mut kind) = (no_text(format!("it has no value in column {:?}", fields.text)), None);
        for (name, field) in row.get_column_iter() {
            if name == fields.text {
                text = match field {
                    Field::Str(text) => Ok(text.clone()),
                    Field::Bytes(bytes) => {
                        let text = String::from_utf8(bytes.data().to_vec());
                        text.map_err(|e| (Reason::NotUtf8, format!("invalid UTF-8 at byte {}", e.utf8_error().valid_up_to())))
                    }
                    Field::Null => no_text(format!("its column {:?} is null", fields.text)),
                    other => no_text(format!("its column {:?} is not text but {other}", fields.text)),
                };
            } else if name == fields.kind {
                kind = match field {
                    Field::Null => None,
                    Field::Str(kind) => Some(kind.clone()),
                    other => Some(other.to_string()),
                };
            }
        }
        let document = text.and_then(|text| not_empty(Document { text, kind, spans: vec![] }));
        sink(document.map_err(|(reason, what)| RecordError::new(label, place, reason, what)))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "formats_tests.rs"]
mod tests;
