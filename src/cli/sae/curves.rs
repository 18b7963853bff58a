//! `monosem sae curves`: how trainings went, as plots side by side.

use super::super::Global;
use crate::artifact::{RunDir, TrainLog, write_atomic};
use crate::pipeline::plot::{self, Series};
use crate::sae::Begun;
use anyhow::bail;
use std::io::Write;
use std::path::PathBuf;

/// What is drawn: the field of train.jsonl, title, label.
const PANELS: [(&str, &str, &str); 4] = [
    ("fvu", "variance left unexplained", "fvu"),
    ("l0", "active latents per row", "l0"),
    ("dead_frac", "dead latents", "share"),
    ("loss", "loss, each in its own terms", "loss"),
];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names of SAEs of the run, finished or in training
    #[arg(value_name = "NAME", default_value = "main")]
    names: Vec<String>,
    /// The SVG to write [default: DIR/RUN/sae/NAME/curves.svg of the first]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let (mut logs, mut targets) = (Vec::new(), Vec::new());
    for name in &args.names {
        let folders = [run.checkpoints(&format!("sae-{name}")), run.sae(name)];
        let Some(log) = folders.iter().find_map(|dir| TrainLog::read(&dir.join("train.jsonl")).filter(|log| !log.is_empty())) else {
            bail!(
                "there is no log of a training of {name} in {}\n  train it with: monosem sae train --name {name} {}",
                run.root.display(),
                run.flags()
            );
        };
        targets.extend(Begun::read(&folders[0], &folders[1])?.and_then(|begun| begun.config.target_l0));
        logs.push((name, log));
    }
    let end = logs.iter().filter_map(|(_, log)| Some(log.curve("rows", "l0").last()?.0)).fold(0.0, f64::max);
    let targets = levels(targets, end);
    let panels = PANELS.map(|(field, title, label)| {
        let mut series: Vec<Series> = logs.iter().map(|(name, log)| Series { name, points: log.curve("rows", field) }).collect();
        if field == "l0" {
            series.extend(targets.iter().map(|(name, points)| Series { name, points: points.to_vec() }));
        }
        plot::lines(title, "rows", label, &series)
    });
    let out = args.out.clone().unwrap_or_else(|| run.sae(&args.names[0]).join("curves.svg"));
    write_atomic(&out, |file| file.write_all(plot::side_by_side(&panels, 2).as_bytes()))?;
    if global.json {
        let curve = |log: &TrainLog| PANELS.map(|(field, ..)| (field.to_string(), serde_json::json!(log.curve("rows", field))));
        let saes = logs.iter().map(|(name, log)| serde_json::json!({ "sae": name, "curves": serde_json::Map::from_iter(curve(log)) }));
        say!("{}", serde_json::json!({ "saes": saes.collect::<Vec<_>>(), "plot": out }));
        return Ok(());
    }
    say!("{:<24} {:>12} {:>8} {:>8} {:>8}", "at the end", "rows", "fvu", "l0", "dead");
    for (name, log) in &logs {
        let last = |field: &str| log.curve("rows", field).last().copied();
        let figure = |field: &str| last(field).map_or("-".into(), |(_, value)| format!("{value:.4}"));
        say!("{name:<24} {:>12} {:>8} {:>8} {:>8}", last("fvu").map_or(0.0, |(rows, _)| rows), figure("fvu"), figure("l0"), figure("dead_frac"));
    }
    say!("curves in {}", out.display());
    Ok(())
}

/// A level line up to the last row for each target that was asked for, however often, with its name.
fn levels(mut targets: Vec<f64>, end: f64) -> Vec<(String, [(f64, f64); 2])> {
    targets.sort_by(f64::total_cmp);
    targets.dedup();
    targets.into_iter().map(|target| (format!("target {target}"), [(0.0, target), (end, target)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_is_one_level_line_over_all_rows() {
        let found = levels(vec![32.0, 8.5, 32.0], 1000.0);
        assert_eq!(found, [("target 8.5".to_string(), [(0.0, 8.5), (1000.0, 8.5)]), ("target 32".to_string(), [(0.0, 32.0), (1000.0, 32.0)])]);
        assert!(levels(vec![], 1000.0).is_empty());
    }
}
