//! `steer guard`: what a set of edits does to a concept, what it costs and what is left.

use super::concept::ConceptArgs;
use super::edits::{self, EditArgs};
use super::rig::Opened;
use super::{Drawing, Global};
use crate::artifact::RunDir;
use crate::cli::features::print;
use crate::cli::{Interrupted, Terminal, again};
use crate::intervene::saved::{RuleName, SavedEdit};
use crate::pipeline;
use crate::pipeline::guard::{BeforeAfter, GuardConfig, GuardReport, guard};
use anyhow::{Context, bail};
use std::io::Write;

/// Hold features at zero, and say what that does to a concept, what it costs elsewhere and how much of it is left
///
/// Without another rule the latents are removed. --save keeps them as a profile, to be used as --edit NAME. The loss is that of held-out half B; texts are written
/// after prompts that call for the concept, and from the beginning of a document. The leak is what still pushes towards the concept: other features, and what
/// the SAE does not explain.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct GuardArgs {
    #[command(flatten)]
    edit: EditArgs,
    #[command(flatten)]
    concept: ConceptArgs,
    /// Tokens of half B
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    n_tokens: u64,
    /// Prompts that call for the concept
    #[arg(long, value_name = "N", default_value_t = 200)]
    prompts: usize,
    /// Tokens written after each
    #[arg(long, value_name = "N", default_value_t = 8)]
    called: usize,
    /// Texts from the beginning of a document, of 60 tokens
    #[arg(long, value_name = "N", default_value_t = 100)]
    texts: usize,
    #[command(flatten)]
    drawing: Drawing,
    /// Save the edit in DIR/RUN/edits, to be used as --edit NAME
    #[arg(long, value_name = "NAME")]
    save: Option<String>,
    /// Name of the SAE [default: main, or the only one of the run]
    #[arg(long, value_name = "NAME")]
    sae: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  monosem steer guard --latent 17 --latent 40 --regex '[0-9]+' --save no-digits
  monosem steer guard --edit no-digits --label 'length of time'
  monosem steer run --edit no-digits --prompt 'The year'";

pub(super) fn run(args: &GuardArgs, global: &Global, dir: &RunDir) -> anyhow::Result<()> {
    let sampling = args.drawing.sampling()?;
    let mut opened = Opened::open(dir, args.sae.as_deref())?;
    let (rule, value) = args.edit.rule()?.unwrap_or((RuleName::Zero, None));
    let edit = match args.edit.saved(dir)? {
        Some(saved) => saved,
        None if args.edit.latent.is_empty() => {
            bail!("say what to hold: --latent N or --edit NAME\n  look for latents: monosem steer attribute, monosem features find")
        }
        None => args.edit.of(rule, value),
    };
    if edit.scope != crate::intervene::Scope::All {
        bail!("a guard holds at every position; this edit has another scope\n  leave out --scope, or set scope = \"all\" in the edit");
    }
    let edit = args.edit.resting(edit, &opened)?;
    if !edit.rest_after.is_empty() {
        bail!("a guard holds at every position; this edit rests after some tokens\n  leave out --rests, or rest_after in the edit");
    }
    let steering = opened.resolve(&edit)?;
    let (concept, name) = args.concept.read(dir, &opened.tokenizer)?.context("say what concept: --regex, --token-set or --label")?;
    let &GuardArgs { n_tokens, prompts, called, texts, .. } = args;
    let config = GuardConfig { n_tokens, prompts, called, texts, tokens: 60, sampling };
    let report = match guard(opened.rig(), &opened.stream()?, &steering, &concept, &config, &mut Terminal::new()) {
        Err(pipeline::Error::Interrupted) => return Err(Interrupted { resume: again("") }.into()),
        done => done?,
    };
    if let Some(save) = &args.save {
        let about = if edit.about.is_empty() { format!("against {name}") } else { edit.about.clone() };
        edits::save(dir, save, &SavedEdit { about, weights_hash: Some(opened.weights_hash.clone()), ..edit })?;
    }
    print(global, &report, |out| tell_report(out, &name, &report))
}

fn tell_report(out: &mut dyn Write, name: &str, r: &GuardReport) -> std::io::Result<()> {
    let change = |b: &BeforeAfter| b.change().map_or(String::new(), |c| format!(" ({:+.2} %)", 100.0 * c));
    let percent = |b: &BeforeAfter| format!("{:.2} % -> {:.2} %{}", 100.0 * b.before, 100.0 * b.after, change(b));
    let nats = |b: &BeforeAfter| format!("{:.4} -> {:.4} nats{}", b.before, b.after, change(b));
    writeln!(out, "{name}: it follows {} of {} positions of held-out half B", r.n_concept, r.n_concept + r.n_other)?;
    writeln!(out, "  loss where it follows           {}", nats(&r.loss_concept))?;
    writeln!(out, "  loss elsewhere                  {}", nats(&r.loss_other))?;
    if let Some(mass) = &r.mass {
        writeln!(out, "  probability of its own tokens   {}", percent(mass))?;
    }
    let of_tokens = |b: &Option<BeforeAfter>| b.as_ref().map_or("nothing was written".into(), |b| format!("{} of tokens", percent(b)));
    writeln!(out, "  written where it is called for  {}, after {} prompts", of_tokens(&r.rate_called), r.n_prompts)?;
    writeln!(out, "  written freely                  {}", of_tokens(&r.rate_free))?;
    if let Some(leak) = &r.leak {
        let largest: Vec<String> = leak.largest.iter().map(|(l, share)| format!("{l} ({:.0} %)", 100.0 * share)).collect();
        writeln!(
            out,
            "  of what pushed towards it: {:.0} % the edited features, {:.0} % others, the largest {}; {:.0} % what the SAE does not explain",
            100.0 * leak.edited,
            100.0 * leak.others,
            largest.join(", "),
            100.0 * leak.error
        )?;
    }
    Ok(())
}
