//! How trainings of the run went, or go: the lines of `train.jsonl` as columns, read anew at each question, so that a page can follow a training
//! that has not ended. Reads these logs alone: of what is finished beside it, of what is in the making beside its checkpoints.

use super::app::{App, Page};
use super::learning::Learning;
use crate::artifact::TrainLog;
use serde::Serialize;
use std::path::Path;

/// Lines that are sent of one log: every so many, the last, and up to as many again for each figure that few lines have.
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

impl TrainingPage {
    /// Whether the part about this SAE is open from the start: the first one, which is the one that is served, and any that is not finished.
    pub fn opens(&self, sae: &str) -> bool {
        let finished = |l: &Learning| l.points.last().is_some_and(|point| point.finished);
        self.learning.iter().enumerate().any(|(i, l)| l.sae == sae && (i == 0 || !finished(l)))
    }
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
            add(format!("sae {sae}"), &self.run.sae(&sae), &self.run.sae_checkpoints(&sae));
        }
        // After the logs: a training that has ended by then has its last point.
        Ok(TrainingPage { logs, learning: self.learning() })
    }
}

fn log(name: String, finished: bool, running: bool, log: TrainLog) -> Log {
    let n = log.len();
    let every = n.div_ceil(MAX_LINES).max(1);
    let has = |i: usize, field: usize| log.value(i, field).is_some();
    // Every so many lines would leave next to nothing of these.
    let is_rare = |field: &usize| (0..n).filter(|&i| has(i, *field)).count() * every < n;
    let rare: Vec<usize> = (0..log.fields.len()).filter(is_rare).collect();
    let sent: Vec<usize> = (0..n).filter(|&i| i % every == 0 || i + 1 == n || rare.iter().any(|&field| has(i, field))).collect();
    let columns = (0..log.fields.len()).map(|field| sent.iter().map(|&i| log.value(i, field)).collect()).collect();
    Log { name, finished, running, n_lines: n, fields: log.fields, columns }
}

#[cfg(test)]
mod tests {
    use super::super::learning::Point;
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

    #[test]
    fn a_figure_that_few_lines_have_keeps_all_its_points() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.jsonl");
        // Every third line of 4001 is sent; the held-out loss is on every tenth, from the second on.
        let held_out = |step: usize| if step % 10 == 1 { ",\"held_out_loss\":2.5" } else { "" };
        let lines: String = (0..4001).map(|step| format!("{{\"step\":{step}{}}}\n", held_out(step))).collect();
        std::fs::write(&path, lines).unwrap();
        let log = log("lm".into(), true, false, TrainLog::read(&path).unwrap());
        assert_eq!(log.fields, ["step", "held_out_loss"]);
        assert_eq!(log.columns[1].iter().flatten().count(), 400);
        // 1335 as without it, and those 267 of the 400 whose step is no multiple of three.
        let steps: Vec<f64> = log.columns[0].iter().flatten().copied().collect();
        assert!(steps.len() == 1335 + 267 && steps.is_sorted(), "{}", steps.len());
    }

    #[test]
    fn the_first_sae_and_those_that_are_not_finished_are_open_from_the_start() {
        let point = |finished: bool| Point {
            step: 1,
            rows: 1,
            when: String::new(),
            finished,
            loss: None,
            fvu: 0.5,
            l0: 1.0,
            dead_window_rows: None,
            dead_frac: 0.0,
        };
        let way = |sae: &str, finished: bool| Learning { sae: sae.into(), points: vec![point(false), point(finished)] };
        let page = TrainingPage { logs: vec![], learning: vec![way("first", true), way("done", true), way("goes on", false)] };
        assert_eq!(["first", "done", "goes on", "unknown"].map(|sae| page.opens(sae)), [true, false, true, false]);
    }
}
