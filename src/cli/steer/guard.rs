//! `steer guard`: what a set of edits does to a concept, what it costs and what is left.

use super::concept::ConceptArgs;
use super::edits::{EditArgs, SaveArgs};
use super::rig::Opened;
use super::run::all_rules;
use super::{Drawing, Global};
use crate::artifact::{RunDir, grouped};
use crate::cli::features::print;
use crate::cli::{Interrupted, Terminal, again, one_or_more};
use crate::intervene::saved::{RuleName, SavedEdit};
use crate::intervene::strength::counts_may_be_luck;
use crate::pipeline;
use crate::pipeline::guard::{BeforeAfter, GuardConfig, GuardReport, Hits, OfConcept, Rates, guard};
use anyhow::bail;
use std::io::Write;

/// Hold features at zero, and say what that does to held-out text and to a concept, what it costs elsewhere and how much of it is left
///
/// Without another rule the latents are removed. --save keeps them as a profile, to be used as --edit NAME. The loss is that of held-out half B: where the edit changes
/// anything, elsewhere, and the tokens hurt most. With a concept, texts are also written after prompts that call for it and end before the first token of it, and from
/// the beginning of a document; beside them stands what is left with no feature at the hook and without what the SAE does not explain: its bias alone, as if every
/// token were the average one. Last comes what the hook added towards the concept: the edited features, others through which it leaks, and what the SAE does not
/// explain. What passes the hook by in the residual stream is not in that.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct GuardArgs {
    #[command(flatten)]
    edit: EditArgs,
    #[command(flatten)]
    concept: ConceptArgs,
    /// Tokens of half B
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = one_or_more::<u64>)]
    n_tokens: u64,
    /// Prompts that call for the concept
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = one_or_more::<usize>)]
    prompts: usize,
    /// Tokens written after each
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = one_or_more::<usize>)]
    called: usize,
    /// Texts from the beginning of a document, of 60 tokens
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = one_or_more::<usize>)]
    texts: usize,
    #[command(flatten)]
    drawing: Drawing,
    #[command(flatten)]
    save: SaveArgs,
    /// Name of the SAE [default: main, or the only one of the run]
    #[arg(long, value_name = "NAME")]
    sae: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  monosem steer guard --latent 17                            what does removing it cost, and where?
  monosem steer guard --latent 17 --latent 40 --regex '[0-9]+' --save no-digits
  monosem steer guard --edit no-digits --label 'length of time'
  monosem steer run --edit no-digits --prompt 'The year'";

pub(super) fn run(args: &GuardArgs, global: &Global, dir: &RunDir) -> anyhow::Result<()> {
    let sampling = args.drawing.sampling()?;
    args.save.check(dir)?;
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
    let concept = args.concept.read(dir, &opened.tokenizer)?;
    let name = concept.as_ref().map_or("", |c| c.1.as_str());
    let &GuardArgs { n_tokens, prompts, called, texts, .. } = args;
    let config = GuardConfig { n_tokens, prompts, called, texts, tokens: 60, sampling };
    let report = match guard(opened.rig(), &opened.stream()?, &steering, concept.as_ref().map(|c| &c.0), &config, &mut Terminal::new()) {
        Err(pipeline::Error::Interrupted) => return Err(Interrupted { resume: again("") }.into()),
        done => done?,
    };
    let about = if edit.about.is_empty() && !name.is_empty() { format!("against {name}") } else { edit.about.clone() };
    args.save.keep(dir, &SavedEdit { about, ..edit }, &mut opened)?;
    print(global, &report, |out| {
        writeln!(out, "{}", all_rules(&steering))?;
        tell_report(out, name, &report)
    })
}

fn tell_report(out: &mut dyn Write, name: &str, r: &GuardReport) -> std::io::Result<()> {
    let change = |b: &BeforeAfter| b.change().map_or(String::new(), signed_percent);
    let nats = |b: &BeforeAfter| format!("{:.4} -> {:.4} nats{}", b.before, b.after, change(b));
    let some_nats = |b: &Option<BeforeAfter>| b.as_ref().map_or("no such position".into(), nats);
    writeln!(out, "held-out half B: the edit changes the activations at {} of {} positions", grouped(r.n_changed), grouped(r.n_tokens))?;
    writeln!(out, "  loss where it does              {}", some_nats(&r.loss_changed))?;
    writeln!(out, "  loss where it does not          {}", some_nats(&r.loss_unchanged))?;
    if let Some(concept) = &r.concept {
        tell_concept(out, name, concept, &nats)?;
    }
    if !r.hurt.is_empty() {
        writeln!(out, "tokens whose loss rises most, nats:")?;
    }
    for h in &r.hurt {
        writeln!(out, "  {:>6.3} -> {:>6.3}  {:?} after {:?}", h.loss.before, h.loss.after, h.token, h.context)?;
    }
    Ok(())
}

/// " (+1.23 %)"; what is rounded to nothing has no minus.
fn signed_percent(share: f64) -> String {
    format!(" ({:+.2} %)", (1e4 * share).round() / 100.0 + 0.0)
}

/// Counts below this are too few for a change in percent.
const FEW: u64 = 20;

fn tell_concept(out: &mut dyn Write, name: &str, r: &OfConcept, nats: &dyn Fn(&BeforeAfter) -> String) -> std::io::Result<()> {
    writeln!(out, "the concept, {name}, follows {} of {} positions", grouped(r.n_concept), grouped(r.n_concept + r.n_other))?;
    writeln!(out, "  loss where it follows           {}", nats(&r.loss_concept))?;
    writeln!(out, "  loss where it does not          {}", nats(&r.loss_other))?;
    if let Some(mass) = &r.mass {
        let change = mass.change().map_or(String::new(), signed_percent);
        writeln!(out, "  probability of its own tokens   {:.2} % -> {:.2} %{change}", 100.0 * mass.before, 100.0 * mass.after)?;
    } else if let Some(why) = &r.mass_absent {
        writeln!(out, "  probability of its own tokens   not told: {why}")?;
    }
    let rates = |rates: &Option<Rates>| match rates {
        None => "nothing was written".to_string(),
        Some(Rates { before, after, hook_at_zero }) => {
            let change = match before.concept_tokens {
                few if few < FEW => String::new(),
                many => format!(" ({:+.0} %)", 100.0 * (after.rate() * before.tokens as f64 / many as f64 - 1.0)),
            };
            let hits = |h: &Hits| format!("{} of {}", grouped(h.concept_tokens), grouped(h.tokens));
            let counts = |h: &Hits| (h.concept_tokens, h.tokens);
            // A change that there is not needs no excuse.
            let luck = if before != after && counts_may_be_luck(counts(after), counts(before)) { ", which may be luck" } else { "" };
            format!("{} tokens -> {}{change}{luck}; without the hook (the bias alone): {}", hits(before), hits(after), hits(hook_at_zero))
        }
    };
    writeln!(out, "  written where it is called for  {}; {} prompts", rates(&r.called), r.n_prompts)?;
    writeln!(out, "  written freely                  {}", rates(&r.free))?;
    if let Some(leak) = &r.leak {
        let largest: Vec<String> = leak.largest.iter().map(|(l, share)| format!("{l} ({:.0} %)", 100.0 * share)).collect();
        writeln!(
            out,
            "  of what the hook added towards it: {:.0} % the edited features, {:.0} % others, the largest {}; {:.0} % what the SAE does not explain",
            100.0 * leak.edited,
            100.0 * leak.others,
            largest.join(", "),
            100.0 * leak.error
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_change_that_is_rounded_to_nothing_has_no_minus() {
        let shown = [-0.00004, -0.0012, 0.25].map(super::signed_percent);
        assert_eq!(shown, [" (+0.00 %)", " (-0.12 %)", " (+25.00 %)"]);
    }
}
