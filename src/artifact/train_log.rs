//! Reading `train.jsonl`, the log of a training: one JSON object per line, of which the numbers are kept. Bounded, since a log may come from elsewhere and
//! may be in the middle of being written.

use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The largest log that is read, bytes.
const MAX_BYTES: u64 = 256 << 20;
/// The longest line that is read, bytes; ours have some 300.
const MAX_LINE: u64 = 1 << 16;
/// Different figures that are kept; ours have some 20.
const MAX_FIELDS: usize = 64;

/// The figures of a log, line by line.
#[derive(Debug, Default, PartialEq)]
pub struct TrainLog {
    /// Names of the figures, in the order in which they appear.
    pub fields: Vec<String>,
    /// Of each line, which fields it has and their values.
    lines: Vec<Vec<(u8, f64)>>,
}

impl TrainLog {
    /// The whole lines of a log; none where there is no log, or one too large to read. What is not an object is passed over.
    pub fn read(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        if file.metadata().ok()?.len() > MAX_BYTES {
            return None;
        }
        let (mut reader, mut line, mut log) = (BufReader::new(file), vec![], TrainLog::default());
        while (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).ok()? > 0 {
            // The rest of a line that is too long is no object either.
            if let Ok(figures) = serde_json::from_slice(&line) {
                log.push(&figures);
            }
            line.clear();
        }
        Some(log)
    }

    fn push(&mut self, figures: &Map<String, Value>) {
        let mut line = vec![];
        for (name, value) in figures {
            let Some(value) = value.as_f64() else { continue };
            let field = match self.fields.iter().position(|f| f == name) {
                Some(field) => field,
                None if self.fields.len() < MAX_FIELDS => {
                    self.fields.push(name.clone());
                    self.fields.len() - 1
                }
                None => continue,
            };
            line.push((field as u8, value));
        }
        self.lines.push(line);
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What line `i` says of field number `field`.
    pub fn value(&self, i: usize, field: usize) -> Option<f64> {
        self.lines[i].iter().find(|(f, _)| usize::from(*f) == field).map(|(_, value)| *value)
    }

    /// The points (x, y) of the lines that have both figures.
    pub fn curve(&self, x: &str, y: &str) -> Vec<(f64, f64)> {
        let field = |name: &str| self.fields.iter().position(|f| f == name);
        let (Some(x), Some(y)) = (field(x), field(y)) else { return vec![] };
        (0..self.len()).filter_map(|i| Some((self.value(i, x)?, self.value(i, y)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> TrainLog {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.jsonl");
        assert!(TrainLog::read(&path).is_none(), "there is none yet");
        std::fs::write(&path, text).unwrap();
        TrainLog::read(&path).unwrap()
    }

    #[test]
    fn a_log_that_is_being_written_is_read_up_to_its_last_whole_line() {
        let log = read("{\"step\":1,\"loss\":3.5,\"note\":\"x\"}\n[1]\n{\"step\":2,\"loss\":3.0,\"l0\":8}\n{\"step\":3,\"lo");
        assert_eq!(log.fields, ["step", "loss", "l0"]);
        assert_eq!(log.len(), 2);
        assert_eq!((log.value(0, 1), log.value(0, 2), log.value(1, 2)), (Some(3.5), None, Some(8.0)));
        assert_eq!(log.curve("step", "l0"), [(2.0, 8.0)]);
        assert!(log.curve("step", "nothing").is_empty());
    }

    #[test]
    fn a_line_too_long_is_passed_over_and_fields_without_end_are_not_kept() {
        let long = format!("{{\"note\":\"{}\",\"step\":1}}\n{{\"step\":2}}\n", "x".repeat(200_000));
        assert_eq!(read(&long).curve("step", "step"), [(2.0, 2.0)]);
        let many: String = (0..1000).map(|i| format!("{{\"f{i}\":{i}}}\n")).collect();
        let log = read(&many);
        assert_eq!((log.fields.len(), log.len()), (64, 1000));
    }
}
