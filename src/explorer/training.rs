//! How trainings of the run went, or go: the lines of `train.jsonl` as columns, read anew at each question, so that a page can follow a training
//! that has not ended. Reads these logs alone: of what is finished beside it, of what is in the making beside its checkpoints.

use super::app::{App, Page};
use super::learning::Learning;
use crate::artifact::TrainLog;
use serde::Serialize;
use std::path::Path;

/// Lines that are sent of one log: every so many, and the last.
const MAX_LINES: usize = 1_500;

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
            let there = TrainLog::read(&done.join("train.jsonl"));
            let anew = if there.is_some() { ", anew" } else { "" };
            logs.extend(there.map(|read| log(name.clone(), finished, running, read)));
            logs.extend(TrainLog::read(&making.join("train.jsonl")).map(|read| log(format!("{name}{anew}"), false, running, read)));
        };
        add("lm".into(), &self.run.lm(), &self.run.checkpoints("lm"));
        for sae in self.saes() {
            add(format!("sae {sae}"), &self.run.sae(&sae), &self.run.checkpoints(&format!("sae-{sae}")));
        }
        // After the logs: a training that has ended by then has its last point.
        Ok(TrainingPage { logs, learning: self.learning() })
    }
}

fn log(name: String, finished: bool, running: bool, log: TrainLog) -> Log {
    let n = log.len();
    let every = n.div_ceil(MAX_LINES).max(1);
    let sent: Vec<usize> = (0..n).filter(|i| i % every == 0 || i + 1 == n).collect();
    let columns = (0..log.fields.len()).map(|field| sent.iter().map(|&i| log.value(i, field)).collect()).collect();
    Log { name, finished, running, n_lines: n, fields: log.fields, columns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_thinned_and_keeps_its_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.jsonl");
        let lines: String = (0..4001).map(|step| format!("{{\"step\":{step}}}\n")).collect();
        std::fs::write(&path, lines).unwrap();
        let log = log("lm".into(), true, false, TrainLog::read(&path).unwrap());
        assert_eq!((log.n_lines, log.columns[0].len()), (4001, 1335), "every third, and the last");
        assert_eq!((log.columns[0][1], *log.columns[0].last().unwrap()), (Some(3.0), Some(4000.0)));
    }
}
