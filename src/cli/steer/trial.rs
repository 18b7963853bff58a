//! `steer trial`: steering held to account on the planted corpus.

use super::Global;
use super::rig::Opened;
use crate::artifact::{RunDir, read_json, write_json};
use crate::cli::features::print;
use crate::cli::{Interrupted, Terminal, again};
use crate::corpus::CorpusConfig;
use crate::pipeline::trial::{Arm, ConceptTrial, Kept, TrialConfig, Zeroed, trial};
use crate::pipeline::{self, planted};
use anyhow::{Context, bail};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Hold steering to account on the planted corpus: how often it writes what it is told to, at what cost, beside other ways
///
/// For each concept a feature is chosen on held-out half A and on pilot texts, with the strength that leaves the text whole. Then, on new texts: how many times as
/// often the concept is written as without the edit; the same for raised logits, a mean-difference vector (both at equal KL), a prompt, and
/// features drawn at random; and, after prompts that call for the concept, what is left of it when the feature that drives it is held at zero.
#[derive(Debug, clap::Args)]
pub(super) struct TrialArgs {
    /// Concept to try; may be given more than once [default: all classes, contexts and senses]
    #[arg(long, value_name = "CONCEPT")]
    concept: Vec<String>,
    /// Largest perplexity under the unedited model at which pilot texts count as whole, as a multiple of the unedited texts'
    #[arg(long, value_name = "X", default_value_t = TrialConfig::default().max_perplexity_ratio)]
    max_perplexity: f64,
    /// Texts that count, of each way
    #[arg(long, value_name = "N", default_value_t = TrialConfig::default().texts)]
    texts: usize,
    /// Tokens of a text
    #[arg(long, value_name = "N", default_value_t = TrialConfig::default().tokens)]
    tokens: usize,
    /// Features that pilot texts are written with, for each concept
    #[arg(long, value_name = "N", default_value_t = TrialConfig::default().candidates)]
    candidates: usize,
    /// Seed of the draws and of the features drawn at random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write the results as JSON, after each concept
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Go on with a trial that was stopped: what every feature wrote and the concepts that are done are kept
    #[arg(long)]
    resume: bool,
    /// Name of the SAE [default: main, or the only one of the run]
    #[arg(long, value_name = "NAME")]
    sae: Option<String>,
}

pub(super) fn run(args: &TrialArgs, global: &Global, dir: &RunDir) -> anyhow::Result<()> {
    let opened = Opened::open(dir, args.sae.as_deref())?;
    let stream = opened.stream()?;
    let corpus: CorpusConfig = serde_json::from_value(stream.manifest().config.clone())?;
    let world = Arc::new(planted(&corpus).context("a trial needs the planted corpus, whose concepts are known\n  monosem quickstart")?);
    let &TrialArgs { texts, tokens, candidates, seed, max_perplexity: max_perplexity_ratio, .. } = args;
    let config = TrialConfig { concepts: args.concept.clone(), texts, tokens, candidates, seed, max_perplexity_ratio, ..TrialConfig::default() };
    let checkpoint = dir.checkpoints("steer-trial").join("kept.json");
    let mut kept = Kept::new(&config, &opened.weights_hash);
    if args.resume && checkpoint.exists() {
        let found: Kept = read_json(&checkpoint)?;
        if !found.same_trial(&kept) {
            bail!(
                "{} is of another trial: {:?}, and this one is {:?}\n  give the same flags, or leave --resume out to begin anew",
                checkpoint.display(),
                found.config(),
                config
            );
        }
        kept = found;
    }
    let mut keep = |kept: &Kept| {
        write_json(&checkpoint, kept)?;
        Ok(args.out.as_ref().map_or(Ok(()), |path| write_json(path, &kept.done))?)
    };
    match trial(opened.rig(), &stream, &world, &mut kept, &mut keep, &mut Terminal::new()) {
        Err(pipeline::Error::Interrupted) => return Err(Interrupted { resume: again("--resume") }.into()),
        done => done?,
    }
    std::fs::remove_dir_all(dir.checkpoints("steer-trial")).context("removing the checkpoint of the finished trial")?;
    let all = kept.done;
    print(global, &all, |out| table(out, &all))
}

fn table(out: &mut dyn Write, all: &[ConceptTrial]) -> std::io::Result<()> {
    writeln!(
        out,
        "{:<24} {:>6} {:>5} {:>5} {:>6} {:>6} {:>5} {:>6} {:>5} {:>6} {:>6}  {:>6} {:>6} {:>6} {:>6} {:>6}",
        "times as often",
        "latent",
        "x max",
        "base",
        "times",
        "perpl.",
        "dist2",
        "KL",
        "bias",
        "vector",
        "prompt",
        "random",
        "zero",
        "zero 4",
        "hook",
        "cost"
    )?;
    for t in all {
        let f = &t.feature;
        let times = |arm: &Arm| arm.times.unwrap_or(f64::NAN);
        let lowered = |zeroed: &Zeroed| 100.0 * zeroed.lowered().unwrap_or(f64::NAN);
        writeln!(
            out,
            "{:<24} {:>6} {:>5} {:>5} {:>5.1}x {:>5.2}x {:>4.2}x {:>6.3} {:>4.1}x {:>5.1}x {:>5.1}x  {:>5.1}x {:>4.0} % {:>4.0} % {:>4.0} % {:>5.2} %{}",
            t.concept,
            t.latent,
            t.strength,
            t.baseline_tokens,
            times(f),
            f.perplexity_ratio,
            f.distinct_2_ratio,
            f.kl,
            times(&t.logit_bias),
            times(&t.mean_difference),
            times(&t.prompt),
            t.random_times().unwrap_or(f64::NAN),
            lowered(&t.zeroed),
            lowered(&t.zeroed_four),
            lowered(&t.zeroed_hook),
            100.0 * t.zeroed.cost(),
            match (t.raised_beyond_chance(), t.raised()) {
                (true, _) => "  raised",
                (false, true) => "  raised, as by any feature",
                (false, false) => "",
            }
        )?;
    }
    let raised: Vec<&ConceptTrial> = all.iter().filter(|t| t.raised_beyond_chance()).collect();
    let removed = all.iter().filter(|t| ConceptTrial::removed(&t.zeroed)).count();
    writeln!(
        out,
        "raised at least 5 times with the text whole, and below 1.5 times by features drawn at random: {} of {}, {} of them decided by context; lowered by 60 % or more at under 1 % of cost: {removed}",
        raised.len(),
        all.len(),
        raised.iter().filter(|t| t.from_context).count()
    )
}
