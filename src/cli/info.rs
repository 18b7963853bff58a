//! `monosem info`: what is in a run.

use super::Global;
use crate::artifact::RunDir;
use crate::pipeline::{Status, status};

/// Show what is in a run, what is stale, what to run next
#[derive(Debug, clap::Args)]
pub struct Args {
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
        say!("{}", serde_json::json!({"run": run.root, "stages": stages}));
        return Ok(());
    }
    say!("{}", run.root.display());
    for (stage, status, _) in &stages {
        let line = match status {
            Status::Missing => "missing".to_string(),
            Status::Stale { why } => format!("stale: {}", why.lines().next().unwrap_or_default()),
            Status::Fresh { hash, figures } => {
                let figures: Vec<String> = figures.iter().map(|(name, n)| format!("{n} {name}")).collect();
                format!("fresh   {}   {}", &hash[..hash.len().min(8)], figures.join(", "))
            }
        };
        say!("  {stage:<10}{line}");
    }
    match stages.iter().find(|(_, status, _)| !matches!(status, Status::Fresh { .. })) {
        Some((_, _, command)) => say!("next: {command}"),
        None => say!("next: monosem explore {}", run.flags()),
    }
    Ok(())
}
