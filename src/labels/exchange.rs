//! Labels out of and into files that other programs read: CSV (RFC 4180, with a header) and JSONL (one [`Label`] to a line). Of files that
//! other programs wrote a number and a text are enough.

use super::{Error, Label, Labels, Result};
use regex::Regex;
use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;

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

/// The columns of a label without its row number. Files of other programs have a number and a text; the rest is then what [`Import`] says.
#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    #[serde(default)]
    weights_hash: Option<String>,
    #[serde(alias = "feature", alias = "index")]
    latent: u32,
    #[serde(alias = "label", alias = "description")]
    text: String,
    #[serde(default)]
    author: Option<String>,
    #[serde(default)]
    time: Option<String>,
}

/// Names that a column may have; the first is ours.
const COLUMNS: [&[&str]; 5] = [&["weights_hash"], &["latent", "feature", "index"], &["text", "label", "description"], &["author"], &["time"]];

/// What lines that do not say it are about.
#[derive(Debug, Clone, Copy)]
pub struct Import<'a> {
    /// The SAE (or the neurons) whose dictionary is at hand.
    pub weights_hash: &'a str,
    /// Units that it has.
    pub n_units: u32,
    pub author: &'a str,
}

/// What became of the lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    pub new: usize,
    /// In place of another text of the same author, earlier in the file or in force before.
    pub replaced: usize,
    /// In force already.
    pub known: usize,
    /// Of those that were written, how many are for another SAE: they are kept, and shown where that is.
    pub elsewhere: usize,
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

    /// Takes in labels, all or none; one step for [`Labels::undo`]. Those that are in force already are left as they are.
    ///
    /// # Errors
    /// A line that is not a label, or of a unit that there is not, with its number.
    pub fn import(&mut self, format: Format, text: &str, defaults: Import) -> Result<Imported> {
        // Excel writes a mark of the byte order.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = match format {
            Format::Csv => from_csv(text)?,
            Format::Jsonl => from_jsonl(text)?,
        };
        let sql_error = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Sql { path, source }
        };
        self.sql.execute_batch("BEGIN IMMEDIATE").map_err(sql_error(&self.path))?;
        let taken = self.take(lines, defaults);
        self.sql.execute_batch(if taken.is_ok() { "COMMIT" } else { "ROLLBACK" }).map_err(sql_error(&self.path))?;
        taken
    }

    fn take(&mut self, lines: Vec<(usize, Line)>, defaults: Import) -> Result<Imported> {
        let mut done = Imported::default();
        let mut first = None;
        let now = super::now();
        for (number, line) in lines {
            let weights_hash = line.weights_hash.as_deref().filter(|hash| !hash.is_empty()).unwrap_or(defaults.weights_hash);
            let is_here = weights_hash == defaults.weights_hash;
            if is_here && line.latent >= defaults.n_units {
                let what = format!("there is no unit {}: numbers are 0 to {}", line.latent, defaults.n_units.saturating_sub(1));
                return Err(Error::Import { line: number, what });
            }
            if line.text.trim().is_empty() {
                return Err(Error::Import { line: number, what: format!("the label of unit {} is empty", line.latent) });
            }
            let author = line.author.as_deref().map(str::trim).filter(|name| !name.is_empty()).unwrap_or(defaults.author);
            let time = line.time.as_deref().filter(|time| !time.is_empty()).unwrap_or(&now);
            let there = self.list(weights_hash, Some(line.latent))?;
            if there.iter().any(|l| l.author == author && l.text == line.text.trim()) {
                done.known += 1;
                continue;
            }
            if !time_reads(time) {
                let what = format!("the time of unit {} is {time:?}, expected as in 2026-01-31T12:00:00Z", line.latent);
                return Err(Error::Import { line: number, what });
            }
            let added = self.add(weights_hash, line.latent, &line.text, author, time);
            added.map_err(|e| if let Error::Invalid(what) = e { Error::Import { line: number, what } } else { e })?;
            first.get_or_insert(self.sql.last_insert_rowid());
            match there.iter().any(|l| l.author == author) {
                true => done.replaced += 1,
                false => done.new += 1,
            }
            done.elsewhere += usize::from(!is_here);
        }
        if let Some(first) = first {
            self.one_step_from(first)?;
        }
        Ok(done)
    }
}

/// Whether a time is written as RFC 3339 has it.
fn time_reads(time: &str) -> bool {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\d{4}-(0\d|1[0-2])-[0-3]\d[Tt ][0-2]\d:[0-5]\d:[0-6]\d(\.\d+)?([Zz]|[+-][0-2]\d:[0-5]\d)$").expect("the pattern is right")
    });
    PATTERN.is_match(time)
}

fn jsonl(l: &Label) -> String {
    let (weights_hash, author, time) = (Some(l.weights_hash.clone()), Some(l.author.clone()), Some(l.time.clone()));
    serde_json::to_string(&Line { weights_hash, latent: l.latent, text: l.text.clone(), author, time }).expect("a label is plain data")
}

/// Lines with their numbers.
fn from_jsonl(text: &str) -> Result<Vec<(usize, Line)>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(i, line): (usize, &str)| {
        let parsed = serde_json::from_str(line)
            .map_err(|e| Error::Import { line: i + 1, what: format!("{e} (a file that ends in .csv is read as CSV, any other as JSON Lines)") })?;
        Ok((i + 1, parsed))
    };
    lines.map(read).collect()
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

fn from_csv(text: &str) -> Result<Vec<(usize, Line)>> {
    let mut records = records(text)?.into_iter();
    let wrong = |line, what: String| Error::Import { line, what };
    let (_, header) = records.next().ok_or_else(|| wrong(1, "there is no header".into()))?;
    let places = COLUMNS.map(|names| header.iter().position(|h| names.contains(&h.trim())));
    for needed in [1, 2] {
        if places[needed].is_none() {
            let what = format!("no column {}; the header must have {} and {}", COLUMNS[needed][0], COLUMNS[1].join(" or "), COLUMNS[2].join(" or "));
            return Err(wrong(1, what));
        }
    }
    let lines = records.map(|(line, fields)| {
        if fields.len() != header.len() {
            return Err(wrong(line, format!("{} fields, the header has {}", fields.len(), header.len())));
        }
        let field = |i: usize| places[i].map(|place| fields[place].clone());
        let latent = field(1).unwrap_or_default();
        let latent = latent.trim().parse().map_err(|_| wrong(line, format!("{latent:?} is not the number of a latent")))?;
        Ok((line, Line { weights_hash: field(0), latent, text: field(2).unwrap_or_default(), author: field(3), time: field(4) }))
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
