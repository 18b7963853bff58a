//! How trainings of the run went, or go: the lines of `train.jsonl` as columns, read anew at each question, so that a page can follow a training
//! that has not ended. Reads these logs alone: of what is finished beside it, of what is in the making beside its checkpoints.

use super::app::{App, Page};
use super::learning::Learning;
use crate::pipeline::saes;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Lines that are sent of one log: every so many, and the last.
const MAX_LINES: usize = 1_500;
/// The largest log that is read, bytes.
const MAX_BYTES: u64 = 256 << 20;

#[derive(Debug, Serialize)]
pub struct TrainingPage {
    pub logs: Vec<Log>,
    /// What the slider goes over, of each SAE that keeps snapshots.
    pub learning: Vec<Learning>,
}

/// One training: `lm`, or `sae NAME`; `..., anew` where the finished one is being replaced.
#[derive(Debug, Serialize)]
pub struct Log {
    pub name: String,
    pub finished: bool,
    /// A process is at work on the run; what is not finished is interrupted otherwise.
    pub running: bool,
    /// Lines in the file.
    pub n_lines: usize,
    /// Names of the figures, in the order of the file.
    pub fields: Vec<String>,
    /// A value for each field and line sent; absent where the line has none.
    pub columns: Vec<Vec<Option<f64>>>,
}

impl App {
    pub fn training(&self) -> Page<TrainingPage> {
        let mut logs = vec![];
        let running = self.run.in_use_by().is_some();
        let mut add = |name: String, done: &Path, making: &Path| {
            let finished = done.join("manifest.json").is_file();
            let there = lines(&done.join("train.jsonl"));
            let anew = if there.is_some() { ", anew" } else { "" };
            logs.extend(there.map(|lines| log(name.clone(), finished, running, &lines)));
            logs.extend(lines(&making.join("train.jsonl")).map(|lines| log(format!("{name}{anew}"), false, running, &lines)));
        };
        add("lm".into(), &self.run.lm(), &self.run.checkpoints("lm"));
        for sae in saes(&self.run) {
            add(format!("sae {sae}"), &self.run.sae(&sae), &self.run.checkpoints(&format!("sae-{sae}")));
        }
        // After the logs: a training that has ended by then has its last point.
        Ok(TrainingPage { logs, learning: self.learning() })
    }
}

/// The whole lines of a log; the last may be in the middle of being written.
fn lines(path: &Path) -> Option<Vec<Map<String, Value>>> {
    if std::fs::metadata(path).ok()?.len() > MAX_BYTES {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn log(name: String, finished: bool, running: bool, lines: &[Map<String, Value>]) -> Log {
    let mut order: BTreeMap<&str, usize> = BTreeMap::new();
    let mut fields: Vec<&str> = vec![];
    for line in lines {
        for (key, value) in line {
            if value.is_number() && !order.contains_key(key.as_str()) {
                order.insert(key, fields.len());
                fields.push(key);
            }
        }
    }
    let every = lines.len().div_ceil(MAX_LINES).max(1);
    let sent: Vec<&Map<String, Value>> =
        lines.iter().enumerate().filter(|(i, _)| i % every == 0 || i + 1 == lines.len()).map(|(_, line)| line).collect();
    let columns = fields.iter().map(|f| sent.iter().map(|line| line.get(*f).and_then(Value::as_f64)).collect()).collect();
    Log { name, finished, running, n_lines: lines.len(), fields: fields.into_iter().map(String::from).collect(), columns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_being_written_is_read_up_to_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.jsonl");
        assert!(lines(&path).is_none());
        std::fs::write(&path, "{\"step\":1,\"loss\":3.5}\n{\"step\":2,\"loss\":3.0,\"l0\":8}\n{\"step\":3,\"lo").unwrap();
        let log = log("lm".into(), false, false, &lines(&path).unwrap());
        assert_eq!(log.fields, ["step", "loss", "l0"]);
        assert_eq!(log.columns, [vec![Some(1.0), Some(2.0)], vec![Some(3.5), Some(3.0)], vec![None, Some(8.0)]]);
    }

    #[test]
    fn a_long_log_is_thinned_and_keeps_its_last_line() {
        let line = |step: usize| serde_json::json!({ "step": step }).as_object().unwrap().clone();
        let log = log("lm".into(), true, false, &(0..4001).map(line).collect::<Vec<_>>());
        assert_eq!((log.n_lines, log.columns[0].len()), (4001, 1335), "every third, and the last");
        assert_eq!((log.columns[0][1], *log.columns[0].last().unwrap()), (Some(3.0), Some(4000.0)));
    }
}
