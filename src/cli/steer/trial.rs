//! `steer trial`: steering held to account on the planted corpus.

use super::Global;
use super::concept::recognised;
use super::rig::Opened;
use crate::artifact::{RunDir, read_json, write_json};
use crate::cli::features::print;
use crate::cli::{Interrupted, Terminal, again, one_or_more};
use crate::corpus::planted::Planted;
use crate::corpus::{CorpusConfig, TokenStream};
use crate::pipeline::trial::{Arm, ConceptTrial, Kept, TrialConfig, Zeroed, concepts, trial};
use crate::pipeline::{self, planted};
use anyhow::{Context, bail};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Hold steering to account on the planted corpus: how often it writes what it is told to, at what cost, beside other ways
///
/// For each concept a feature is chosen on held-out half A and on pilot texts, with the strength that leaves the text whole. Then, on new texts: how many times as
/// often the concept is written as without the edit; the same for raised logits and a mean-difference vector (both at the feature's mean KL on half A; what is written
/// may come to another), a prompt, and three features drawn at random; and, after prompts that call for the concept and end before the first token of it (for a context, of what opens it), what is left of it when
/// that same feature is held at zero, or the one without which, on half A, it is least likely there.
///
/// With --sae given more than once, the next is tried with what those before it did not do: it raises concepts that were not raised, and holds features at zero
/// for those that were not lowered. What one place or width has no feature for, another may have.
///
/// Columns: latent and its strength in multiples of its maximum; tokens of the concept in the unedited texts; with the feature, times as often, perplexity under the
/// unedited model and distinct-2 as multiples of the unedited texts', KL per token; times as often with the other ways; and how much less of the concept is written where
/// it is called for, with the same feature at zero (self), with the one that half A names, with four, and with the SAE's bias alone in the place of the hook (all that
/// features there could do); after the first two stands what that costs elsewhere, in percent of the loss. Where fewer than 20 tokens of a concept are written after
/// those prompts without an edit, nothing is said of zeroing it. A negative share is that much more. The unedited texts are ten times as many as the others.
///
/// Raised: at least 5 times as often, from 20 tokens or more, at a perplexity of at most 2 and distinct bigrams of at least 0.8 times the unedited texts', while the
/// features drawn at random stay below 1.5 times on average. Lowered: by one feature at zero, either, by 60 % or more at less than 1 % of cost.
#[derive(Debug, clap::Args)]
pub(super) struct TrialArgs {
    /// Concept to try; may be given more than once [default: all classes, contexts and senses]
    #[arg(long, value_name = "CONCEPT")]
    concept: Vec<String>,
    /// Largest perplexity under the unedited model at which pilot texts count as whole, as a multiple of the unedited texts'
    #[arg(long, value_name = "X", default_value_t = TrialConfig::default().max_perplexity_ratio)]
    max_perplexity: f64,
    /// Texts that count, of each way
    #[arg(long, value_name = "N", default_value_t = TrialConfig::default().texts, value_parser = one_or_more::<usize>)]
    texts: usize,
    /// Tokens of a text
    #[arg(long, value_name = "N", default_value_t = TrialConfig::default().tokens, value_parser = one_or_more::<usize>)]
    tokens: usize,
    /// Features that pilot texts are written with, for each concept
    #[arg(long, value_name = "N", default_value_t = TrialConfig::default().candidates, value_parser = one_or_more::<usize>)]
    candidates: usize,
    /// Hold features at zero and nothing else: seconds for each concept in place of a minute
    #[arg(long)]
    zero_only: bool,
    /// Seed of the draws and of the features drawn at random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write the results as JSON, after each concept
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Go on with a trial that was stopped: what every feature wrote and the concepts that are done are kept
    #[arg(long)]
    resume: bool,
    /// Name of the SAE; may be given more than once [default: main, or the only one of the run]
    #[arg(long, value_name = "NAME")]
    sae: Vec<String>,
}

pub(super) fn run(args: &TrialArgs, global: &Global, dir: &RunDir) -> anyhow::Result<()> {
    let asked: Vec<Option<&str>> = if args.sae.is_empty() { vec![None] } else { args.sae.iter().map(|name| Some(name.as_str())).collect() };
    if let Some(twice) = (1..args.sae.len()).map(|i| &args.sae[i]).find(|name| args.sae.iter().filter(|n| n == name).count() > 1) {
        bail!("the SAE {twice} is named twice\n  name each once, in the order in which they are to be tried");
    }
    // All are opened before the first is tried: a name that there is not should not be found after an hour.
    let opened = asked.into_iter().map(|name| Opened::open(dir, name)).collect::<anyhow::Result<Vec<Opened>>>()?;
    let stream = opened[0].stream()?;
    let corpus: CorpusConfig = serde_json::from_value(stream.manifest().config.clone())?;
    let world = Arc::new(planted(&corpus).context("a trial needs the planted corpus, whose concepts are known\n  monosem quickstart")?);
    args.concept.iter().try_for_each(|name| recognised(&world, name).map(drop))?;
    let &TrialArgs { texts, tokens, candidates, seed, max_perplexity: max_perplexity_ratio, .. } = args;
    let mut config = TrialConfig { concepts: args.concept.clone(), texts, tokens, candidates, seed, max_perplexity_ratio, ..TrialConfig::default() };
    if args.zero_only {
        config.zero_only = concepts(&world, &config)?;
    }
    let mut all: Vec<ConceptTrial> = Vec::new();
    for (i, subject) in opened.iter().enumerate() {
        if i > 0 {
            let done = |name: &String, what: fn(&ConceptTrial) -> bool| all.iter().any(|t| t.concept == *name && what(t));
            let (raised, lowered) = (ConceptTrial::raised_beyond_chance, ConceptTrial::lowered);
            // Nobody asked for what --zero-only leaves out.
            let raised = |name: &String| args.zero_only || done(name, raised);
            config.concepts = concepts(&world, &config)?.into_iter().filter(|name| !(raised(name) && done(name, lowered))).collect();
            config.zero_only = config.concepts.iter().filter(|name| raised(name)).cloned().collect();
            if config.concepts.is_empty() {
                break;
            }
            let (left, zero_only) = (config.concepts.len(), config.zero_only.len());
            tell!("SAE {}: {left} concepts that were not raised or not lowered, {zero_only} of them only to be lowered", subject.name);
        }
        all.extend(with_one(args, dir, subject, (&stream, &world), &config, &all)?);
    }
    std::fs::remove_dir_all(checkpoints(dir)).context("removing the checkpoints of the finished trial")?;
    print(global, &all, |out| table(out, &all))
}

fn checkpoints(dir: &RunDir) -> PathBuf {
    dir.checkpoints("steer-trial")
}

/// The trial with one SAE, gone on with where that is asked for; `before` is what others did.
fn with_one(
    args: &TrialArgs,
    dir: &RunDir,
    opened: &Opened,
    (stream, world): (&TokenStream, &Arc<Planted>),
    config: &TrialConfig,
    before: &[ConceptTrial],
) -> anyhow::Result<Vec<ConceptTrial>> {
    let checkpoint = checkpoints(dir).join(format!("{}.json", opened.name));
    let mut kept = Kept::new(config, &opened.name, &opened.weights_hash);
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
        let all: Vec<&ConceptTrial> = before.iter().chain(&kept.done).collect();
        Ok(args.out.as_ref().map_or(Ok(()), |path| write_json(path, &all))?)
    };
    match trial(opened.rig(), stream, world, &mut kept, &mut keep, &mut Terminal::new()) {
        Err(pipeline::Error::Interrupted) => Err(Interrupted { resume: again("--resume") }.into()),
        done => done.map(|()| kept.done).map_err(Into::into),
    }
}

fn table(out: &mut dyn Write, all: &[ConceptTrial]) -> std::io::Result<()> {
    writeln!(
        out,
        "{:<24} {:>6} {:>5} {:>5} {:>6} {:>6} {:>5} {:>6} {:>5} {:>6} {:>6}  {:>6} {:>6} {:>7} {:>6} {:>7} {:>6} {:>6}",
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
        "self",
        "cost",
        "zero",
        "cost",
        "zero 4",
        "hook"
    )?;
    let several = all.iter().any(|t| t.sae != all[0].sae);
    for (i, t) in all.iter().enumerate() {
        if several && (i == 0 || all[i - 1].sae != t.sae) {
            writeln!(out, "SAE {}", t.sae)?;
        }
        let lowered = |zeroed: &Zeroed| 100.0 * zeroed.lowered().unwrap_or(f64::NAN);
        write!(out, "{:<24} ", t.concept)?;
        match &t.raising {
            None => write!(out, "{:>6} {:>5} {:>5} {:46}", "", "", t.baseline_tokens, "")?,
            Some(r) => {
                let times = |arm: &Arm| arm.times.unwrap_or(f64::NAN);
                let f = &r.feature;
                write!(
                    out,
                    "{:>6} {:>5.2} {:>5} {:>5.1}x {:>5.2}x {:>4.2}x {:>6.3} {:>4.1}x {:>5.1}x {:>5.1}x  {:>5.1}x",
                    r.latent,
                    r.strength,
                    t.baseline_tokens,
                    times(f),
                    f.perplexity_ratio,
                    f.distinct_2_ratio,
                    f.kl,
                    times(&r.logit_bias),
                    times(&r.mean_difference),
                    times(&r.prompt),
                    r.random_times().unwrap_or(f64::NAN)
                )?;
            }
        }
        let said = match (t.raised_beyond_chance(), t.raised()) {
            (true, _) => "  raised",
            (false, true) => "  raised, as by any feature",
            (false, false) => "",
        };
        let one = |zeroed: &Zeroed| format!("{:>4.0} % {:>5.2} %", lowered(zeroed), 100.0 * zeroed.cost());
        let itself = t.raising.as_ref().and_then(|r| r.zeroed.as_ref()).map_or(String::new(), one);
        writeln!(
            out,
            " {itself:14} {} {:>4.0} % {:>4.0} %{said}{}",
            one(&t.zeroed),
            lowered(&t.zeroed_four),
            lowered(&t.zeroed_hook),
            if t.lowered() { "  lowered" } else { "" }
        )?;
    }
    let distinct = |keep: &dyn Fn(&ConceptTrial) -> bool| all.iter().filter(|t| keep(t)).map(|t| &t.concept).collect::<BTreeSet<_>>();
    let from_context = |names: &BTreeSet<&String>| names.iter().filter(|n| all.iter().any(|t| t.concept == ***n && t.from_context)).count();
    let (raised, lowered) = (distinct(&ConceptTrial::raised_beyond_chance), distinct(&ConceptTrial::lowered));
    let both: BTreeSet<&String> = raised.intersection(&lowered).copied().collect();
    writeln!(
        out,
        "of {} concepts (in brackets those decided by context)\n  raised at least 5 times at a perplexity of at most 2 times, and below 1.5 times by features drawn at random: {} ({})\n  lowered by 60 % or more by one feature at zero, at under 1 % of cost: {} ({}); raised and lowered: {} ({})",
        distinct(&|_| true).len(),
        raised.len(),
        from_context(&raised),
        lowered.len(),
        from_context(&lowered),
        both.len(),
        from_context(&both)
    )
}
