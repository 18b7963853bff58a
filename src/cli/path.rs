//! The whole path for `quickstart` and `run`: stages, report in three forms, then the explorer.

use super::{Global, Interrupted, Terminal, again};
use crate::artifact::{self, RunDir, grouped, size, time};
use crate::corpus::{Source, check_sources};
use crate::explorer;
use crate::lm::CpuEngine;
use crate::pipeline::{Error, Estimate, Recipe, Report, Stages};
use anyhow::Context;
use std::io::{IsTerminal, Write};

/// Runs every stage of `recipe` that is not fresh, writes and prints the report, and serves the explorer where `serve` and a terminal say so.
/// Finished work of other settings is replaced only with `replace`.
pub fn travel(recipe: &Recipe, global: &Global, replace: bool, serve: bool) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    if !run.tokens().exists() {
        check_sources(&recipe.corpus)?;
    }
    announce(recipe, &run);
    let report = {
        let _lock = run.lock()?;
        match stages(recipe, &run, replace) {
            Err(Error::Interrupted) => return Err(Interrupted { resume: again("") }.into()),
            done => done?,
        }
    };
    let (json, html) = (run.root.join("report.json"), run.root.join("report.html"));
    artifact::write_json(&json, &report)?;
    artifact::write_atomic(&html, |out| out.write_all(report.html().as_bytes()))?;
    if global.json {
        say!("{}", serde_json::to_string(&report).context("cannot print the report")?);
    } else {
        let text = report.text(std::io::stdout().is_terminal());
        writeln!(std::io::stdout(), "{text}")?;
        writeln!(std::io::stdout(), "report: {} and {}", html.display(), json.display())?;
    }
    if serve && std::io::stdout().is_terminal() {
        Terminal::nothing_to_save();
        let options = explorer::Options { sae: Some(recipe.sae.name.clone()), ..explorer::Options::loopback() };
        return Ok(explorer::serve(&run, &options, |url| tell!("explorer: {url}\n  Ctrl-C ends it; again later: monosem explore {}", run.flags()))?);
    }
    tell!("next: monosem explore {}", run.flags());
    Ok(())
}

/// What will be read and written, before anything happens.
fn announce(recipe: &Recipe, run: &RunDir) {
    let sources = recipe.corpus.sources.iter().map(|source| match source {
        Source::Planted { generator_seed, bytes } => format!("{} of the planted corpus (seed {generator_seed})", size(*bytes)),
        Source::Path(path) => path.clone(),
        Source::Dataset { name, .. } => format!("data set {name}"),
    });
    let (model, train, sae) = (&recipe.lm.model, &recipe.lm.train, &recipe.sae);
    tell!("reads   {}", sources.collect::<Vec<_>>().join(", "));
    tell!(
        "trains  a model of {} parameters on {} tokens, an SAE of {} latents on {} rows of {}",
        grouped(model.n_params() as u64),
        grouped(train.tokens),
        grouped(sae.train.sae.d_sae as u64),
        grouped(sae.train.rows),
        sae.hook
    );
    let threads = rayon::current_num_threads();
    let Estimate { disk_bytes, seconds } = recipe.estimate(threads);
    tell!(
        "writes  {}, about {}; in RAM at most {} MiB of text and {} MiB of rows",
        run.root.display(),
        size(disk_bytes),
        512,
        sae.shuffle.buffer_mib
    );
    tell!("takes   about {} on {threads} threads, less where stages are fresh", time(seconds));
}

fn stages(recipe: &Recipe, run: &RunDir, replace: bool) -> Result<Report, Error> {
    let mut progress = Terminal::new();
    let mut stages = Stages::new(recipe, run, replace, &mut progress)?;
    let stream = stages.tokens()?;
    let mut engine = CpuEngine::new(stages.lm(&stream)?);
    let sae = stages.sae(&mut engine, &stream)?;
    let evaluated = stages.eval(&mut engine, &stream, &sae)?;
    stages.dictionary(&mut engine, &stream, Some(&sae))?;
    let neurons = stages.dictionary(&mut engine, &stream, None)?;
    let exam = stages.exam(&mut engine, &stream, &sae)?;
    stages.report(&stream, &neurons, evaluated, exam)
}
