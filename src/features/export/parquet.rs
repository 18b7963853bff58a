//! Parquet: one file to a table of the dictionary, with its columns as they are in SQLite, `labels.parquet` and `meta.json`. `examples` has
//! its context beside it: `start` (index in the stream of its first token), `tokens` (ids), `pieces` (the bytes of each), `acts`, `text`.

use super::{Folder, Source, check};
use crate::artifact::Progress;
use crate::features::store::{Column, ColumnKind, Example};
use crate::features::{Error, Result};
use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use rusqlite::types::Value;
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;

/// Rows to a row group: 8,192 contexts of 81 tokens are some 20 MB in memory.
const GROUP: usize = 8192;

/// A value on its way into a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Plain(Value),
    Ints(Vec<i32>),
    Floats(Vec<f32>),
    Bytes(Vec<Vec<u8>>),
}

/// What a column of a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain(ColumnKind),
    Ints,
    Floats,
    Bytes,
}

pub(super) fn write(source: &Source, to: &mut Folder, progress: &mut dyn Progress) -> Result<()> {
    let dictionary = source.dictionary;
    to.json("meta.json", dictionary.meta())?;
    for table in dictionary.tables()? {
        let columns = dictionary.columns(&table)?;
        let with_context = table == "examples";
        let mut kinds: Vec<(String, Kind, bool)> = columns.iter().map(|c: &Column| (c.name.clone(), Kind::Plain(c.kind), c.nullable)).collect();
        if with_context {
            let more = [("start", Kind::Plain(ColumnKind::Integer)), ("tokens", Kind::Ints), ("pieces", Kind::Bytes), ("acts", Kind::Floats)];
            kinds.extend(more.map(|(name, kind)| (name.into(), kind, false)));
            kinds.push(("text".into(), Kind::Plain(ColumnKind::Text), false));
        }
        let mut contexts = Contexts { source, feature: columns.iter().position(|c| c.name == "feature"), of: None, left: vec![].into_iter() };
        table_file(to, &table, &kinds, &mut |sink| {
            dictionary.dump(&table, &mut |row| {
                let mut cells: Vec<Cell> = row.into_iter().map(Cell::Plain).collect();
                if with_context {
                    cells.extend(contexts.next(&cells, progress)?);
                }
                sink(cells)
            })
        })?;
    }
    let text = |s: &str| Cell::Plain(Value::Text(s.into()));
    let kinds: Vec<(String, Kind, bool)> =
        [("latent", ColumnKind::Integer), ("text", ColumnKind::Text), ("author", ColumnKind::Text), ("time", ColumnKind::Text)]
            .map(|(name, kind)| (name.to_string(), Kind::Plain(kind), false))
            .to_vec();
    table_file(to, "labels", &kinds, &mut |sink| {
        let row = |l: &super::LabelText| vec![Cell::Plain(Value::Integer(i64::from(l.latent))), text(&l.text), text(&l.author), text(&l.time)];
        source.labels.iter().try_for_each(|l| sink(row(l)))
    })
}

/// The contexts of the examples, which come by feature, group and number, as [`FeatureDetail`](crate::features::store::FeatureDetail) has them.
struct Contexts<'a> {
    source: &'a Source<'a>,
    feature: Option<usize>,
    of: Option<i64>,
    left: std::vec::IntoIter<Example>,
}

impl Contexts<'_> {
    fn next(&mut self, row: &[Cell], progress: &mut dyn Progress) -> Result<Vec<Cell>> {
        let damaged = || Error::Invalid("the dictionary's examples are not those of its groups\n  rebuild it: monosem features build".into());
        let feature = match self.feature.and_then(|i| row.get(i)) {
            Some(Cell::Plain(Value::Integer(feature))) => *feature,
            _ => return Err(damaged()),
        };
        if self.of != Some(feature) {
            check(progress)?;
            let before = self.of.map_or(-1, |f| f);
            progress.advance((feature - before).max(0) as u64);
            let id = u32::try_from(feature).map_err(|_| damaged())?;
            let detail = self.source.dictionary.feature_in(id, self.source.text)?;
            let examples: Vec<Example> = detail.groups.into_iter().flat_map(|g| g.examples).collect();
            (self.of, self.left) = (Some(feature), examples.into_iter());
        }
        let example = self.left.next().ok_or_else(damaged)?;
        let pieces: Vec<Vec<u8>> = example.tokens.iter().map(|t| t.bytes.clone()).collect();
        Ok(vec![
            Cell::Plain(Value::Integer(example.start as i64)),
            Cell::Ints(example.tokens.iter().map(|t| t.id as i32).collect()),
            Cell::Bytes(pieces.clone()),
            Cell::Floats(example.acts),
            Cell::Plain(Value::Text(String::from_utf8_lossy(&pieces.concat()).into_owned())),
        ])
    }
}

type Sink<'a> = &'a mut dyn FnMut(Vec<Cell>) -> Result<()>;

/// Writes one file; `fill` gives rows to the sink it is handed.
fn table_file(to: &mut Folder, name: &str, columns: &[(String, Kind, bool)], fill: &mut dyn FnMut(Sink) -> Result<()>) -> Result<()> {
    let schema = schema(name, columns);
    let mut failed = None;
    let done = to.file(format!("{name}.parquet"), |out| {
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
        let schema = Arc::new(parse_message_type(&schema).expect("the schema is made of columns that SQLite has"));
        let mut file = SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(io)?;
        let mut rows: Vec<Vec<Cell>> = vec![];
        let filled = fill(&mut |row| {
            rows.push(row);
            if rows.len() == GROUP {
                group(&mut file, columns, std::mem::take(&mut rows)).map_err(|e| Error::Invalid(format!("{name}.parquet: {e}")))
            } else {
                Ok(())
            }
        });
        if let Err(error) = filled {
            failed = Some(error);
            return Err(std::io::Error::other("it was not finished"));
        }
        if !rows.is_empty() {
            group(&mut file, columns, rows).map_err(io)?;
        }
        file.close().map(|_| ()).map_err(io)
    });
    done.map_err(|error| failed.unwrap_or(error))
}

fn io(error: ParquetError) -> std::io::Error {
    std::io::Error::other(error)
}

/// The message type of a table, in Parquet's own notation.
fn schema(name: &str, columns: &[(String, Kind, bool)]) -> String {
    let column = |(name, kind, nullable): &(String, Kind, bool)| {
        let repetition = if *nullable { "OPTIONAL" } else { "REQUIRED" };
        match kind {
            Kind::Plain(ColumnKind::Integer) => format!("{repetition} INT64 {name};"),
            Kind::Plain(ColumnKind::Real) => format!("{repetition} DOUBLE {name};"),
            Kind::Plain(ColumnKind::Text) => format!("{repetition} BYTE_ARRAY {name} (UTF8);"),
            Kind::Plain(ColumnKind::Blob) => format!("{repetition} BYTE_ARRAY {name};"),
            Kind::Ints => format!("REQUIRED GROUP {name} (LIST) {{ REPEATED GROUP list {{ REQUIRED INT32 element; }} }}"),
            Kind::Floats => format!("REQUIRED GROUP {name} (LIST) {{ REPEATED GROUP list {{ REQUIRED FLOAT element; }} }}"),
            Kind::Bytes => format!("REQUIRED GROUP {name} (LIST) {{ REPEATED GROUP list {{ REQUIRED BYTE_ARRAY element; }} }}"),
        }
    };
    format!("message {name} {{ {} }}", columns.iter().map(column).collect::<Vec<_>>().join(" "))
}

fn group(
    file: &mut SerializedFileWriter<&mut BufWriter<File>>,
    columns: &[(String, Kind, bool)],
    rows: Vec<Vec<Cell>>,
) -> std::result::Result<(), ParquetError> {
    let mut group = file.next_row_group()?;
    for (i, (name, kind, nullable)) in columns.iter().enumerate() {
        let mut writer = group.next_column()?.expect("there is a writer for every column of the schema");
        let cells = rows.iter().map(|row| &row[i]);
        let wrong = || ParquetError::General(format!("column {name} holds a value of another type; rebuild the dictionary: monosem features build"));
        if let Kind::Plain(_) = kind {
            let levels: Vec<i16> = cells.clone().map(|c| i16::from(*c != Cell::Plain(Value::Null))).collect();
            let levels = nullable.then_some(levels);
            let there = cells.filter(|c| **c != Cell::Plain(Value::Null));
            plain(writer.untyped(), there, levels.as_deref()).ok_or_else(wrong)??;
        } else {
            let lengths: Vec<usize> = cells
                .clone()
                .map(|c| match c {
                    Cell::Ints(v) => v.len(),
                    Cell::Floats(v) => v.len(),
                    Cell::Bytes(v) => v.len(),
                    Cell::Plain(_) => 0,
                })
                .collect();
            // An empty list is one entry of level 0; the first element of a list begins it.
            let defined: Vec<i16> = lengths.iter().flat_map(|&n| std::iter::repeat_n(i16::from(n > 0), n.max(1))).collect();
            let repeated: Vec<i16> = lengths.iter().flat_map(|&n| (0..n.max(1)).map(|i| i16::from(i > 0))).collect();
            lists(writer.untyped(), cells, &defined, &repeated).ok_or_else(wrong)??;
        }
        writer.close()?;
    }
    group.close()?;
    Ok(())
}

/// `None` where a cell is not of the column's type.
fn plain<'a>(
    writer: &mut ColumnWriter,
    cells: impl Iterator<Item = &'a Cell>,
    levels: Option<&[i16]>,
) -> Option<std::result::Result<usize, ParquetError>> {
    match writer {
        ColumnWriter::Int64ColumnWriter(w) => {
            let values: Option<Vec<i64>> = cells.map(|c| if let Cell::Plain(Value::Integer(n)) = c { Some(*n) } else { None }).collect();
            Some(w.write_batch(&values?, levels, None))
        }
        ColumnWriter::DoubleColumnWriter(w) => {
            let value = |c: &Cell| match c {
                Cell::Plain(Value::Real(x)) => Some(*x),
                Cell::Plain(Value::Integer(n)) => Some(*n as f64),
                _ => None,
            };
            Some(w.write_batch(&cells.map(value).collect::<Option<Vec<f64>>>()?, levels, None))
        }
        ColumnWriter::ByteArrayColumnWriter(w) => {
            let value = |c: &Cell| match c {
                Cell::Plain(Value::Text(text)) => Some(ByteArray::from(text.as_bytes().to_vec())),
                Cell::Plain(Value::Blob(bytes)) => Some(ByteArray::from(bytes.clone())),
                _ => None,
            };
            Some(w.write_batch(&cells.map(value).collect::<Option<Vec<ByteArray>>>()?, levels, None))
        }
        _ => None,
    }
}

fn lists<'a>(
    writer: &mut ColumnWriter,
    cells: impl Iterator<Item = &'a Cell>,
    defined: &[i16],
    repeated: &[i16],
) -> Option<std::result::Result<usize, ParquetError>> {
    let levels = (Some(defined), Some(repeated));
    match writer {
        ColumnWriter::Int32ColumnWriter(w) => {
            let values: Vec<i32> = cells.flat_map(|c| if let Cell::Ints(v) = c { v.clone() } else { vec![] }).collect();
            Some(w.write_batch(&values, levels.0, levels.1))
        }
        ColumnWriter::FloatColumnWriter(w) => {
            let values: Vec<f32> = cells.flat_map(|c| if let Cell::Floats(v) = c { v.clone() } else { vec![] }).collect();
            Some(w.write_batch(&values, levels.0, levels.1))
        }
        ColumnWriter::ByteArrayColumnWriter(w) => {
            let values = cells.flat_map(|c| if let Cell::Bytes(v) = c { v.clone() } else { vec![] });
            Some(w.write_batch(&values.map(ByteArray::from).collect::<Vec<_>>(), levels.0, levels.1))
        }
        _ => None,
    }
}
