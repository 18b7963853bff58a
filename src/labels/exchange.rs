//! Labels out of and into files that other programs read: CSV (RFC 4180, with a header) and JSONL (one [`Label`] to a line).

use super::{Error, Label, Labels, Result};
use std::io::Write;
use std::path::Path;

/// How labels are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Csv,
    Jsonl,
}

impl Format {
    /// CSV for names that end in `.csv`, otherwise JSONL.
    pub fn of(path: &Path) -> Self {
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) { Format::Csv } else { Format::Jsonl }
    }
}

const HEADER: [&str; 5] = ["weights_hash", "latent", "text", "author", "time"];

/// The columns of a label without its row number.
#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    weights_hash: String,
    latent: u32,
    text: String,
    author: String,
    time: String,
}

impl Labels {
    /// Writes the labels in force for one SAE and returns how many.
    pub fn export(&self, weights_hash: &str, format: Format, out: &mut dyn Write) -> Result<usize> {
        let labels = self.list(weights_hash, None)?;
        let text = match format {
            Format::Csv => csv(&labels),
            Format::Jsonl => labels.iter().map(|l| jsonl(l) + "\n").collect(),
        };
        out.write_all(text.as_bytes()).map_err(|source| Error::Io { action: "write", path: "labels".into(), source })?;
        Ok(labels.len())
    }

    /// Takes in exported labels, all or none. Those that are in force already are left as they are. Returns how many were new.
    ///
    /// # Errors
    /// A line that is not a label, with its number.
    pub fn import(&mut self, format: Format, text: &str) -> Result<usize> {
        let lines = match format {
            Format::Csv => from_csv(text)?,
            Format::Jsonl => from_jsonl(text)?,
        };
        let sql_error = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Sql { path, source }
        };
        self.sql.execute_batch("BEGIN IMMEDIATE").map_err(sql_error(&self.path))?;
        let taken = self.take(lines);
        self.sql.execute_batch(if taken.is_ok() { "COMMIT" } else { "ROLLBACK" }).map_err(sql_error(&self.path))?;
        taken
    }

    fn take(&mut self, lines: Vec<Line>) -> Result<usize> {
        let mut n_new = 0;
        for line in lines {
            let there = self.list(&line.weights_hash, Some(line.latent))?;
            if !there.iter().any(|l| l.author == line.author.trim() && l.text == line.text.trim()) {
                self.add(&line.weights_hash, line.latent, &line.text, &line.author, &line.time)?;
                n_new += 1;
            }
        }
        Ok(n_new)
    }
}

fn jsonl(l: &Label) -> String {
    let (weights_hash, text, author, time) = (l.weights_hash.clone(), l.text.clone(), l.author.clone(), l.time.clone());
    serde_json::to_string(&Line { weights_hash, latent: l.latent, text, author, time }).expect("a label is plain data")
}

fn from_jsonl(text: &str) -> Result<Vec<Line>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(i, line)| serde_json::from_str(line).map_err(|e| Error::Import { line: i + 1, what: e.to_string() })).collect()
}

fn csv(labels: &[Label]) -> String {
    let quoted = |field: &str| format!("\"{}\"", field.replace('"', "\"\""));
    let mut out = HEADER.join(",") + "\r\n";
    for l in labels {
        out += &[quoted(&l.weights_hash), l.latent.to_string(), quoted(&l.text), quoted(&l.author), quoted(&l.time)].join(",");
        out += "\r\n";
    }
    out
}

fn from_csv(text: &str) -> Result<Vec<Line>> {
    let mut records = records(text)?.into_iter();
    let wrong = |line, what: String| Error::Import { line, what };
    let (_, header) = records.next().ok_or_else(|| wrong(1, "there is no header".into()))?;
    let place = |name: &str| {
        header.iter().position(|h| h.trim() == name).ok_or_else(|| wrong(1, format!("no column {name}; needed are {}", HEADER.join(", "))))
    };
    let places = [place("weights_hash")?, place("latent")?, place("text")?, place("author")?, place("time")?];
    let lines = records.map(|(line, fields)| {
        let field =
            |i: usize| fields.get(places[i]).cloned().ok_or_else(|| wrong(line, format!("{} fields, the header has {}", fields.len(), header.len())));
        let latent = field(1)?.trim().parse().map_err(|_| wrong(line, format!("{:?} is not the number of a latent", fields[places[1]])))?;
        Ok(Line { weights_hash: field(0)?, latent, text: field(2)?, author: field(3)?, time: field(4)? })
    });
    lines.collect()
}

/// Records of a CSV text, each with the number of the line that it begins on. Quoted fields may hold commas, quotes and line ends.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>> {
    let (mut records, mut record, mut field) = (vec![], vec![], String::new());
    let (mut quoted, mut was_quoted, mut line, mut began) = (false, false, 1, 1);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += (c == '\n') as usize;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' if quoted => quoted = false,
            '"' if field.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            ',' if !quoted => {
                record.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                if record.len() > 1 || !record[0].is_empty() {
                    records.push((began, std::mem::take(&mut record)));
                }
                record.clear();
                (was_quoted, began) = (false, line);
            }
            c => field.push(c),
        }
    }
    if quoted {
        return Err(Error::Import { line: began, what: "a quoted field does not end".into() });
    }
    if !field.is_empty() || !record.is_empty() {
        record.push(field);
        records.push((began, record));
    }
    Ok(records)
}
