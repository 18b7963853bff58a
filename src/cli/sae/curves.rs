//! `monosem sae curves`: how trainings went, as plots side by side.

use super::super::Global;
use crate::artifact::{RunDir, TrainLog, grouped, write_atomic};
use crate::pipeline::plot::{self, Series};
use crate::pipeline::train_it;
use crate::sae::{Begun, LOG, PLOT};
use anyhow::bail;
use std::io::Write;
use std::path::{Path, PathBuf};

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
    /// The SVG to write [default: curves.svg beside the log of the first]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    args.out.as_deref().map_or(Ok(()), ends_in_svg)?;
    let (mut logs, mut targets, mut windows, mut folders) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for name in &args.names {
        let Some((dir, log)) = logged(run, name) else { bail!(without_log(run, name)) };
        // Of the training that this log is of, and of no other of the name.
        if let Ok(Some(begun)) = Begun::read(&dir, &dir) {
            targets.extend(begun.config.target_l0);
            windows.push(begun.config.dead_window_rows);
        }
        logs.push((name, log));
        folders.push(dir);
    }
    let end = logs.iter().filter_map(|(_, log)| Some(log.curve("rows", "l0").last()?.0)).fold(0.0, f64::max);
    let targets = levels(targets, end);
    let panels = PANELS.map(|(field, title, label)| {
        let mut series: Vec<Series> = logs.iter().map(|(name, log)| Series::new(name, log.curve("rows", field))).collect();
        if field == "l0" {
            series.extend(targets.iter().map(|(name, points)| Series::level(name, points.to_vec())));
        }
        let title = if field == "dead_frac" { format!("{title}{}", silent_for(&windows)) } else { title.into() };
        plot::nameless(&title, "rows", label, &series)
    });
    let mut named: Vec<Series> = logs.iter().map(|(name, _)| Series::new(name, vec![])).collect();
    named.extend(targets.iter().map(|(name, _)| Series::level(name, vec![])));
    let out = args.out.clone().unwrap_or_else(|| folders[0].join(PLOT));
    write_atomic(&out, |file| file.write_all(plot::side_by_side(&panels, 2, &named).as_bytes()))?;
    if global.json {
        let curve = |log: &TrainLog| PANELS.map(|(field, ..)| (field.to_string(), serde_json::json!(log.curve("rows", field))));
        let saes = logs.iter().map(|(name, log)| serde_json::json!({ "sae": name, "curves": serde_json::Map::from_iter(curve(log)) }));
        say!("{}", serde_json::json!({ "saes": saes.collect::<Vec<_>>(), "plot": out }));
        return Ok(());
    }
    say!("{:<24} {:>12} {:>8} {:>8} {:>8}", "last logged", "rows", "fvu", "l0", "dead");
    for (name, log) in &logs {
        let last = |field: &str| log.curve("rows", field).last().copied();
        let figure = |field: &str| last(field).map_or("-".into(), |(_, value)| format!("{value:.4}"));
        say!("{name:<24} {:>12} {:>8} {:>8} {:>8}", last("fvu").map_or(0.0, |(rows, _)| rows), figure("fvu"), figure("l0"), figure("dead_frac"));
    }
    say!("curves in {}", out.display());
    Ok(())
}

/// Refuses a file that another program would take for something else.
fn ends_in_svg(out: &Path) -> anyhow::Result<()> {
    if out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("svg")) {
        return Ok(());
    }
    bail!("cannot draw into {}: pictures are SVG\n  e.g. --out {}", out.display(), out.with_extension("svg").display())
}

/// After how many rows without a firing a latent counts as dead, where that is known.
fn silent_for(windows: &[u64]) -> String {
    let (Some(&least), Some(&most)) = (windows.iter().min(), windows.iter().max()) else { return String::new() };
    let rows = if least == most { grouped(least) } else { format!("{} to {}", grouped(least), grouped(most)) };
    format!(", silent for {rows} rows")
}

/// Where a training of that name has logged something, the one that goes on before the one that is finished, and what.
fn logged(run: &RunDir, name: &str) -> Option<(PathBuf, TrainLog)> {
    let folders = [run.sae_checkpoints(name), run.sae(name)];
    folders.into_iter().find_map(|dir| TrainLog::read(&dir.join(LOG)).filter(|log| !log.is_empty()).map(|log| (dir, log)))
}

/// Why there is nothing to draw, and what to do.
fn without_log(run: &RunDir, name: &str) -> String {
    if run.sae_checkpoints(name).join(LOG).exists() {
        return format!("the training of {name} has logged nothing yet\n  try again when it has made some steps");
    }
    if run.sae(name).join("manifest.json").exists() {
        return format!(
            "{} is gone\n  only a training writes it, and {name} is trained already: draw others, or train one of its settings under another --name",
            run.sae(name).join(LOG).display()
        );
    }
    format!("there is no log of a training of {name} in {}\n  {}", run.root.display(), train_it(run, name))
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
    use std::fs;

    #[test]
    fn a_log_is_that_of_the_training_that_goes_on_and_what_is_missing_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), "r");
        assert!(without_log(&run, "a").contains("train it with: monosem sae train --name a "), "{}", without_log(&run, "a"));
        let (making, done) = (run.sae_checkpoints("a"), run.sae("a"));
        for dir in [&making, &done] {
            fs::create_dir_all(dir).unwrap();
        }
        let line = |rows: u64| format!("{{\"step\": 1, \"rows\": {rows}, \"l0\": 3.0}}\n");
        fs::write(done.join(LOG), line(64)).unwrap();
        assert_eq!(logged(&run, "a").unwrap().0, done);
        fs::write(making.join(LOG), "").unwrap();
        assert_eq!(logged(&run, "a").unwrap().0, done, "nothing is logged of the new one yet");
        fs::write(making.join(LOG), line(128)).unwrap();
        assert_eq!(logged(&run, "a").unwrap().0, making);
        for dir in [&making, &done] {
            fs::write(dir.join(LOG), "").unwrap();
        }
        assert!(logged(&run, "a").is_none() && without_log(&run, "a").contains("logged nothing yet"));
        fs::remove_file(making.join(LOG)).unwrap();
        fs::write(done.join("manifest.json"), "{}").unwrap();
        assert!(without_log(&run, "a").contains("is gone") && without_log(&run, "a").contains("under another --name"));
    }

    #[test]
    fn a_file_that_is_not_svg_by_its_name_is_refused() {
        assert!(["c.svg", "plots/C.SVG"].iter().all(|out| ends_in_svg(Path::new(out)).is_ok()));
        for (out, instead) in [("c.png", "--out c.svg"), ("plots/c", "--out plots/c.svg")] {
            let error = ends_in_svg(Path::new(out)).unwrap_err().to_string();
            assert!(error.contains(&format!("draw into {out}: ")) && error.ends_with(instead), "{error}");
        }
    }

    #[test]
    fn each_target_is_one_level_line_over_all_rows() {
        let found = levels(vec![32.0, 8.5, 32.0], 1000.0);
        assert_eq!(found, [("target 8.5".to_string(), [(0.0, 8.5), (1000.0, 8.5)]), ("target 32".to_string(), [(0.0, 32.0), (1000.0, 32.0)])]);
        assert!(levels(vec![], 1000.0).is_empty());
        assert_eq!([&[][..], &[2000, 2000], &[2000, 100]].map(silent_for), ["", ", silent for 2,000 rows", ", silent for 100 to 2,000 rows"]);
    }
}
