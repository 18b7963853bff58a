//! `monosem info`: what is in a run.

use super::Global;
use crate::artifact::{RunDir, grouped, size};
use crate::pipeline::{Status, status};
use std::collections::BTreeMap;

/// Show what is in a run, what is stale, what to run next
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the run, as --run
    #[arg(value_name = "RUN", value_parser = super::run_name, conflicts_with = "run")]
    pub name: Option<String>,
    /// Name of the SAE
    #[arg(long, default_value = "main", value_name = "NAME")]
    sae: String,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    let stages = status(&run, &args.sae);
    if global.json {
        let stages: Vec<_> =
            stages.iter().map(|(stage, status, command)| serde_json::json!({"stage": stage, "state": status, "made_by": command})).collect();
        say!("{}", serde_json::json!({"run": run.root, "in_use_by": run.in_use_by(), "stages": stages}));
        return Ok(());
    }
    say!("{}", run.root.display());
    for (stage, status, _) in &stages {
        let line = match status {
            Status::Missing => "missing".to_string(),
            Status::Interrupted { step } => format!("interrupted after step {step}"),
            Status::HalfRead => "interrupted; what was read is saved".to_string(),
            Status::Stale { why } => format!("stale: {}", why.lines().next().unwrap_or_default()),
            Status::Fresh { hash, figures } => {
                format!("fresh   {}   {}", &hash[..hash.len().min(8)], spoken(figures))
            }
        };
        say!("  {stage:<10}{line}");
    }
    if let Some(process) = run.in_use_by() {
        say!("process {process} is at work on it; look again when that has ended");
        return Ok(());
    }
    match stages.iter().find(|(_, status, _)| !matches!(status, Status::Fresh { .. })) {
        Some((_, _, command)) => say!("next: {command}"),
        None => say!("next: monosem explore {}", run.flags()),
    }
    Ok(())
}

/// The figures of a stage that matter at a glance, the most important first.
fn spoken(figures: &BTreeMap<String, u64>) -> String {
    const SHOWN: [(&str, &str); 11] = [
        ("documents", "documents"),
        ("units", "units"),
        ("latents", "latents"),
        ("n_params", "parameters"),
        ("tokens", "tokens"),
        ("rows", "rows"),
        ("steps", "steps"),
        ("d_vocab", "in the vocabulary"),
        ("bytes", "of text"),
        ("dead", "dead"),
        ("skipped_records", "records left out"),
    ];
    let shown = SHOWN.iter().filter_map(|&(key, word)| {
        let n = *figures.get(key)?;
        match key {
            "bytes" => Some(format!("{} {word}", size(n))),
            "skipped_records" if n == 0 => None,
            _ => Some(format!("{} {word}", grouped(n))),
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}
