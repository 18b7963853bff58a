//! `steer run`: one text with and without an edit, or several with it.

use super::columns::{side_by_side, terminal_width};
use super::concept::ConceptArgs;
use super::edits::{EditArgs, SaveArgs};
use super::rig::Opened;
use super::{Drawing, Global};
use crate::artifact::{RunDir, shell_word};
use crate::cli::one_or_more;
use crate::intervene::effect::{Effect, Moved, effect};
use crate::intervene::quality::{distinct_2, perplexity};
use crate::intervene::saved::RuleName;
use crate::intervene::strength::{Measures, SafeStrength, Trial, caution, comes_apart, safe_strength};
use crate::intervene::write::{Change, Writing};
use crate::intervene::{Rule, Scope, Side, Steering, steer};
use anyhow::bail;
use std::io::Write;
use std::ops::ControlFlow;

/// Write a continuation twice with the same luck: unedited, and with latents edited
///
/// The SAE's error is kept, so that only the edited latents change. Without a rule (--strength, --add, --zero ...) the latents are clamped
/// to the largest of 8, 5, 3, 2, 1 or half their maxima at which eight texts after the prompt stay whole: their perplexity under the unedited model at most
/// 1.5 times, their distinct bigrams at least 0.8 times, those of the unedited texts.
///
/// A latent that fires on something need not be one that makes the model write it: `features show` says what a latent raises, `steer sweep` counts what it writes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Run {
    #[command(flatten)]
    edit: EditArgs,
    #[command(flatten)]
    save: SaveArgs,
    /// Text to go on from; empty begins a document
    #[arg(long, default_value = "", value_name = "TEXT")]
    prompt: String,
    /// Pinned sampling as in Bricken et al. 2023: after a neutral prefix, the latent held at its largest activation
    #[arg(long, conflicts_with_all = ["rule", "edit", "prompt"])]
    pin: bool,
    /// Tokens to write, at most; a side stops at its <|endoftext|>
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = one_or_more::<usize>)]
    tokens: usize,
    /// Stop before this text; may be given more than once
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Write so many texts of each side and say what they are like
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    texts: u64,
    #[command(flatten)]
    drawing: Drawing,
    #[command(flatten)]
    concept: ConceptArgs,
    /// Also say what the edit does to the prediction of each token that it wrote
    #[arg(long)]
    effects: bool,
    /// Print the edited text while it is written
    #[arg(long, conflicts_with = "json")]
    stream: bool,
    /// Name of the SAE [default: main, or the only one of the run]
    #[arg(long, value_name = "NAME")]
    sae: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  monosem steer run --latent 17 --prompt 'The king'          as strong as leaves the text whole
  monosem steer run --latent 17 --strength 5 --save loud     held at 5 times its maximum, and remembered
  monosem steer run --edit loud --texts 20 --regex '[0-9]'   twenty texts, their digits counted
  monosem steer run --latent 17 --scale 2                    twice as strong wherever it is active
  monosem steer run --latent 17 --latent 40 --zero           both taken out
  monosem steer run --edit no-digits --edit loud             two saved edits at once";

/// The neutral prefix of pinned sampling.
const PIN_PREFIX: &str = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10";

pub(super) fn run(args: &Run, global: &Global, dir: &RunDir) -> anyhow::Result<()> {
    let sampling = args.drawing.sampling()?;
    if args.edit.latent.is_empty() && args.edit.edit.is_empty() {
        bail!("say what to edit: --latent N or --edit NAME\n  look for latents: monosem features search TEXT {}", dir.flags());
    }
    let rule = if args.pin { Some((RuleName::Set, Some(1.0))) } else { args.edit.rule()? };
    if !args.edit.in_maxima() && (args.pin || (rule.is_none() && args.edit.edit.is_empty())) {
        bail!(
            "--unit says what the number of a rule is a multiple of; without a rule, and with --pin, strengths are multiples of the maximum\n  leave it out, or give --strength, --add, ..."
        );
    }
    let saved = args.edit.saved(dir)?;
    args.save.check(dir)?;
    let mut opened = Opened::open(dir, args.sae.as_deref())?;
    let prompt_text = if args.pin { PIN_PREFIX } else { &args.prompt };
    let prompt = opened.rig().prompt(prompt_text);
    if prompt.len() > opened.lm.config.n_ctx {
        tell!("note: the prompt has {} tokens and the model reads {}: its beginning is not read", prompt.len(), opened.lm.config.n_ctx);
    }
    let writing = Writing { n_tokens: args.tokens, sampling, stop: args.stop.clone() };
    if saved.as_ref().is_some_and(|edit| edit.edits.is_empty() && edit.keep_error) {
        bail!("the edit names no latent and keeps the SAE's error, so it would change nothing");
    }
    let mut found = None;
    let edit = match (saved, rule) {
        (Some(saved), _) => saved,
        (None, Some((rule, value))) => args.edit.of(rule, value),
        (None, None) => {
            let max_acts = args.edit.latent.iter().map(|&latent| maximum(&mut opened, latent, dir)).collect::<anyhow::Result<Vec<f32>>>()?;
            let at = |multiple: f32| args.edit.of(RuleName::Set, Some(multiple));
            let held = args.edit.resting(at(1.0), &opened)?;
            let held = opened.resolve(&held)?;
            let safe = safe_strength(opened.rig(), &held, &max_acts, &prompt, &writing.sampling)?;
            tell_safe(&args.edit.latent, &safe);
            let edit = at(safe.multiple);
            found = Some(safe);
            edit
        }
    };
    let edit = args.edit.resting(edit, &opened)?;
    let end = prompt.len() + args.tokens;
    if let Scope::From(first) = edit.scope
        && first >= end
    {
        bail!(
            "the edit begins at position {first}, the text ends before position {end} (the prompt has {}, then come --tokens {}): it would change nothing\n  begin earlier or write more",
            prompt.len(),
            args.tokens
        );
    }
    let steering = opened.resolve(&edit)?;
    let edit = opened.fixed(&edit)?;
    let (mut cautions, mut max_acts) = (Vec::new(), Vec::new());
    for one in &steering.edits {
        let max_act = opened.scale(one.latent)?.max_act;
        tell!("latent {}: largest activation {max_act:.3} ({}); {}", one.latent, opened.scale_from(), spoken(&one.rule));
        if let Some(caution) = caution(opened.rig(), one, max_act, &prompt) {
            let caution = format!("latent {}: {caution}", one.latent);
            tell!("warning: {caution}");
            cautions.push(caution);
        }
        max_acts.push(max_act);
    }
    args.save.keep(dir, &edit, &mut opened)?;
    let rig = opened.rig();
    let mut on_text = |side: Side, text: &str| {
        if args.stream && side == Side::Edited {
            let mut out = std::io::stdout();
            let _ = write!(out, "{text}").and_then(|()| out.flush());
        }
        ControlFlow::Continue(())
    };
    if args.stream {
        write!(std::io::stdout(), "edited: {prompt_text}")?;
    }
    let both = steer(rig, &steering, &prompt, &writing, &mut on_text)?;
    let effects = args.effects.then(|| effect(rig, &steering, &prompt, &both.edited.tokens, 3)).transpose()?;
    let concept = args.concept.read(dir, &opened.tokenizer)?;
    let prompts = vec![prompt; args.texts as usize];
    let trial = Trial { rig, prompts: &prompts, writing: &writing, concept: concept.as_ref().map(|c| &c.0) };
    let sides = if args.texts > 1 || concept.is_some() { Some((trial.write(Change::default())?, trial.write((&steering).into())?)) } else { None };
    let counted = concept.as_ref().map(|c| c.1.as_str());
    // Of several texts all count.
    let apart = match &sides {
        Some((unedited, edited)) if args.texts > 1 => {
            let (before, after) = (&unedited.measures, &edited.measures);
            comes_apart(Some(after.perplexity / before.perplexity), (before.distinct_2, after.distinct_2))
        }
        _ => {
            let [before, after] = [&both.unedited.tokens, &both.edited.tokens].map(|text| (perplexity(rig.lm, &prompts[0], text), distinct_2(text)));
            comes_apart(after.0.zip(before.0).map(|(edited, unedited)| edited / unedited), (before.1, after.1))
        }
    };
    if let Some(said) = apart.filter(|_| !args.pin) {
        // What is removed has no strength that could be lower.
        let lower = if steering.edits.iter().any(|e| e.rule.strength() != 0.0) { "; a lower strength may keep it whole" } else { "" };
        let caution = format!("what is written with the edit comes apart: {said}{lower}");
        tell!("warning: {caution}");
        cautions.push(caution);
    }
    if global.json {
        let texts = |side: &crate::intervene::strength::Written| {
            let texts: Vec<String> = side.texts.iter().map(|t| rig.text(t)).collect();
            serde_json::json!({ "measures": side.measures, "texts": texts })
        };
        let object = serde_json::json!({
            "sae": opened.name, "hook": opened.hook, "prompt": prompt_text, "seed": args.drawing.seed, "temperature": args.drawing.temperature,
            "top_k": args.drawing.top_k, "top_p": args.drawing.top_p, "edit": edit, "steering": steering, "max_act": max_acts,
            "max_act_from": opened.scale_from(), "safe_strength": found, "cautions": cautions,
            "unedited": both.unedited, "edited": both.edited, "first_difference": both.first_difference, "effects": effects, "concept": counted,
            "many": sides.as_ref().map(|(unedited, edited)| serde_json::json!({ "unedited": texts(unedited), "edited": texts(edited) })),
        });
        say!("{object}");
    } else {
        let mut out = std::io::stdout().lock();
        match args.texts {
            1 if args.stream => write!(out, "\n\nunedited: {}{}\n", prompt_text, both.unedited.text)?,
            1 => write!(out, "{}", side_by_side(prompt_text, &both, terminal_width()))?,
            _ if args.stream => write!(out, "\n\n")?,
            _ => {}
        }
        if let Some((unedited, edited)) = &sides {
            for (i, (before, after)) in unedited.texts.iter().zip(&edited.texts).enumerate().filter(|_| args.texts > 1) {
                let line = |text: &[u32]| rig.text(text).replace('\n', "\\n");
                writeln!(out, "{i:>4}  unedited  {}\n{:4}  edited    {}", line(before), "", line(after))?;
            }
            table(&mut out, &unedited.measures, &edited.measures, counted)?;
        }
        if let Some(effects) = &effects {
            tell_effects(&mut out, effects)?;
        }
    }
    let shown = steering.edits.first().map_or(0, |e| e.latent);
    tell!(
        "seed {}, temperature {}; look at the feature: monosem features show {shown} --sae {} {}",
        args.drawing.seed,
        args.drawing.temperature,
        shell_word(&opened.name),
        dir.flags()
    );
    Ok(())
}

/// A latent's maximum, above 0.
pub(super) fn maximum(opened: &mut Opened, latent: u32, dir: &RunDir) -> anyhow::Result<f32> {
    let max_act = opened.scale(latent)?.max_act;
    if max_act <= 0.0 {
        bail!(
            "latent {latent} was never seen active ({}), so there is no maximum to be a multiple of\n  choose another latent: monosem features list --sae {} {}",
            opened.scale_from(),
            shell_word(&opened.name),
            dir.flags()
        );
    }
    Ok(max_act)
}

/// What a rule does, in words.
pub(super) fn spoken(rule: &Rule) -> String {
    match rule {
        Rule::Set(act) => format!("set to {act:.3}"),
        Rule::Add(act) => format!("{act:+.3} added"),
        Rule::Scale(factor) => format!("multiplied by {factor}"),
        Rule::Zero => "set to 0".into(),
        Rule::AtLeast(act) => format!("held at {act:.3} or more"),
        Rule::AtMost(act) => format!("held at {act:.3} or less"),
        Rule::Project(factor) => format!("what lies along its direction multiplied by {factor}"),
        Rule::Cap(most) => format!("what lies along its direction held at {most:.3} or less"),
    }
}

fn tell_safe(latents: &[u32], safe: &SafeStrength) {
    let why = if safe.within_bounds { "the largest at which eight texts stay whole" } else { "the smallest tried; none stayed whole" };
    match latents {
        [latent] => tell!("latent {latent}: clamped to {} times its maximum, {why}", safe.multiple),
        _ => tell!("{} latents: each clamped to {} times its maximum, {why}", latents.len(), safe.multiple),
    }
}

/// What both sides are like, one row each.
pub(super) fn table(out: &mut dyn Write, unedited: &Measures, edited: &Measures, concept: Option<&str>) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>10} {:>8} {:>11} {:>10} {:>7} {:>9}  {}",
        "",
        "tokens",
        "perplexity",
        "distinct-2",
        "repeat",
        "KL, nats",
        concept.unwrap_or("")
    )?;
    for (name, m) in [("unedited", unedited), ("edited", edited)] {
        let counted = concept.map_or(String::new(), |_| format!("{} ({:.2} %)", m.concept_tokens, 100.0 * m.concept_rate));
        let &Measures { n_tokens, perplexity, distinct_2, longest_repeat, kl, .. } = m;
        writeln!(out, "{name:>10} {n_tokens:>8} {perplexity:>11.2} {distinct_2:>10.3} {longest_repeat:>7.1} {kl:>9.3}  {counted}")?;
    }
    Ok(())
}

fn tell_effects(out: &mut dyn Write, effects: &Effect) -> std::io::Result<()> {
    writeln!(out, "{:>14} {:>8} {:>17}  {:<34} fallen", "token", "KL, nats", "p", "risen")?;
    let named = |moved: &[Moved]| moved.iter().map(|m| format!("{:?} {:.2}->{:.2}", m.text, m.unedited, m.edited)).collect::<Vec<_>>().join(" ");
    for t in &effects.tokens {
        let p = format!("{:.3} -> {:.3}", t.log_prob_unedited.exp(), t.log_prob_edited.exp());
        writeln!(out, "{:>14} {:>8.3} {p:>17}  {:<34} {}", format!("{:?}", t.text), t.kl, named(&t.promoted), named(&t.suppressed))?;
    }
    let most: Vec<String> = effects.most_moved.iter().map(|m| format!("{} {:+.3}", m.latent, m.mean_change)).collect();
    writeln!(
        out,
        "mean KL {:.3} nats; {:.1} other latents per position moved by a tenth of the edit or more; most: {}",
        effects.mean_kl,
        effects.others_moved,
        most.join(", ")
    )
}

/// All rules of an edit, in words.
pub(super) fn all_rules(steering: &Steering) -> String {
    steering.edits.iter().map(|e| format!("latent {} {}", e.latent, spoken(&e.rule))).collect::<Vec<_>>().join(", ")
}
