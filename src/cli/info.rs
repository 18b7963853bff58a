//! `monosem info`: what is in a run.

use super::Global;
use crate::artifact::{RunDir, grouped, size};
use crate::pipeline::{Status, caches, in_a_line, saes, saes_in_words, status, train_it};
use anyhow::bail;
use std::collections::BTreeMap;

/// Show what is in a run, what is stale, what to run next
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the run, as --run
    #[arg(value_name = "RUN", value_parser = super::run_name, conflicts_with = "run")]
    pub name: Option<String>,
    /// Name of the SAE [default: main, or the first there is]
    #[arg(long, value_name = "NAME")]
    sae: Option<String>,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    let sae = which(&run, args.sae)?;
    let stages = status(&run, &sae);
    if global.json {
        let stages: Vec<_> =
            stages.iter().map(|(stage, status, command)| serde_json::json!({"stage": stage, "state": status, "made_by": command})).collect();
        let (in_use_by, saes, caches) = (run.in_use_by(), saes(&run), caches(&run));
        say!("{}", serde_json::json!({"run": run.root, "in_use_by": in_use_by, "sae": sae, "saes": saes, "caches": caches, "stages": stages}));
        return Ok(());
    }
    say!("{}", run.root.display());
    for (stage, status, _) in &stages {
        let line = match status {
            Status::Missing => "missing".to_string(),
            Status::Interrupted { step } if run.in_use_by().is_some() => format!("not finished, saved after step {step}"),
            Status::Interrupted { step } => format!("interrupted after step {step}"),
            Status::HalfRead => "interrupted; what was read is saved".to_string(),
            Status::Stale { why } => format!("stale: {}", why.lines().next().unwrap_or_default()),
            Status::Fresh { hash, figures } => {
                format!("fresh   {}   {}", &hash[..hash.len().min(8)], spoken(figures))
            }
        };
        say!("  {stage:<10}{line}");
    }
    for cache in caches(&run) {
        let stale = cache.stale.map_or(String::new(), |why| format!("; stale: {why}"));
        say!("  cache     {}: {} rows in {}, {}{stale}", cache.hook, grouped(cache.n_rows), cache.dtype, size(cache.bytes));
    }
    let others: Vec<String> = saes(&run).into_iter().filter(|name| *name != sae).collect();
    if !others.is_empty() {
        say!("  this is of the SAE {sae} ({}); --sae shows another:", in_a_line(&run, &sae));
        let width = others.iter().map(String::len).max().unwrap_or(0);
        for name in &others {
            say!("    {name:<width$}  {}", in_a_line(&run, name));
        }
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

/// The SAE that is asked for. Where nothing is said and there is none yet it is the one that comes next.
fn which(run: &RunDir, asked: Option<String>) -> anyhow::Result<String> {
    let known = saes(run);
    match asked {
        Some(name) if !known.contains(&name) => {
            let there = if known.is_empty() { "there is none yet".into() } else { format!("known are: {}", saes_in_words(run, None)) };
            bail!("{} has no SAE named {name}; {there}\n  {}", run.root.display(), train_it(run, &name))
        }
        Some(name) => Ok(name),
        None => Ok(known.iter().find(|name| *name == "main").or(known.first()).cloned().unwrap_or_else(|| "main".into())),
    }
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
