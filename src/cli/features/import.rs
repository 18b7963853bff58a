//! `monosem features import`

use super::super::Global;
use super::print;
use crate::artifact::RunDir;
use crate::features::import::{read, write_run};
use crate::labels::Labels;
use anyhow::bail;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a Neuronpedia dump (bulk tree) or of SAEDashboard batches
    path: PathBuf,
}

pub fn run(args: Args, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    if run.root.exists() {
        bail!("{} is there already\n  an imported dictionary is a run of its own: name a new one with --run", run.root.display());
    }
    tell!("reading {}", args.path.display());
    let foreign = read(&args.path)?;
    let (meta, report) = write_run(&foreign, run)?;
    let mut labels = Labels::open(&run.labels(&meta.name))?;
    for l in &foreign.labels {
        labels.add(&meta.weights_hash, l.latent, &l.text, &l.author, &l.time)?;
    }
    print(global, &serde_json::json!({ "run": run.root, "meta": meta, "report": report }), |out| {
        writeln!(
            out,
            "{}: {} of {}, {} features, {} contexts, {} labels",
            run.root.display(),
            meta.name,
            foreign.model,
            report.n_features,
            report.n_contexts,
            report.n_labels
        )?;
        if report.n_silent > 0 {
            writeln!(out, "left out: {} contexts in which the feature does not fire", report.n_silent)?;
        }
        if report.n_bad > 0 {
            writeln!(out, "left out: {} contexts without tokens, or with another number of values", report.n_bad)?;
        }
        Ok(())
    })?;
    tell!("next: monosem explore {flags}\n      monosem features list --sae {} {flags}", meta.name, flags = run.flags());
    Ok(())
}
