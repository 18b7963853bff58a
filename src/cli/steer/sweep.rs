//! `steer sweep`: an edit at several strengths, what each does and costs, and the one to take.

use super::concept::ConceptArgs;
use super::edits::{EditArgs, SaveArgs};
use super::rig::Opened;
use super::run::maximum;
use super::{Drawing, Global};
use crate::artifact::{RunDir, write_atomic};
use crate::cli::features::print;
use crate::cli::one_or_more;
use crate::intervene::saved::RuleName;
use crate::intervene::strength::{Bounds, MOVED_IN, Measures, Swept, Trial, choose, may_be_luck, sweep};
use crate::intervene::write::{Change, Writing};
use crate::intervene::{Steering, measure};
use crate::lm::CpuEngine;
use crate::pipeline::plot;
use anyhow::bail;
use std::io::Write;
use std::path::PathBuf;

/// Try an edit at several strengths: what each does and costs
///
/// At each strength the same texts are written with the same luck. A strength is taken that leaves the text whole - its perplexity under the
/// unedited model and its distinct bigrams within bounds of the unedited texts' - and changes it, and of these the one with most of the concept, if that is more
/// than without the edit, or where none is given the one that moves the model furthest (KL). --save keeps the edit at that strength.
///
/// Columns: perplexity and distinct-2 (share of pairs of tokens that are not repetitions) as multiples of the unedited texts'; repeat, the longest run of tokens
/// that a text has twice, mean over texts; KL of the edited from the unedited next-token distribution, mean over positions; others, other features per token that the
/// edit moves by more than a tenth of its own length, which grows with the strength (side effects, in the first four texts); tokens with the concept.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Sweep {
    #[command(flatten)]
    edit: EditArgs,
    /// Strengths to try; with --edit they multiply its values
    #[arg(long, value_name = "S,...", value_delimiter = ',', allow_negative_numbers = true, default_value = "0.25,0.5,1,1.5,2,3,4,6,8")]
    strengths: Vec<f32>,
    /// Add the strength in place of clamping to it
    #[arg(long)]
    adding: bool,
    /// Text to go on from; may be given more than once; empty begins a document
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: Vec<String>,
    /// Texts at each strength
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = one_or_more::<usize>)]
    texts: usize,
    /// Tokens of a text, at most
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = one_or_more::<usize>)]
    tokens: usize,
    #[command(flatten)]
    drawing: Drawing,
    #[command(flatten)]
    concept: ConceptArgs,
    /// Largest perplexity under the unedited model, as a multiple of the unedited texts'
    #[arg(long, value_name = "X", default_value_t = Bounds::default().max_perplexity_ratio)]
    max_perplexity: f64,
    /// Least distinct-2, as a multiple of the unedited texts'
    #[arg(long, value_name = "X", default_value_t = Bounds::default().min_distinct_2_ratio)]
    min_distinct: f64,
    /// Also push a random direction as far at every strength, and one drawn with the activations' covariance: what does a push of this length do when it means
    /// nothing? (One latent, clamped or added)
    #[arg(long, conflicts_with = "edit")]
    controls: bool,
    /// Write a plot of what is gained against what it costs
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    save: SaveArgs,
    /// Name of the SAE [default: main, or the only one of the run]
    #[arg(long, value_name = "NAME")]
    sae: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  monosem steer sweep --latent 17                            how strong may it be?
  monosem steer sweep --latent 17 --regex '[0-9]' --plot digits.svg
  monosem steer sweep --latent 17 --label colour --save colours";

pub(super) fn run(args: &Sweep, global: &Global, dir: &RunDir) -> anyhow::Result<()> {
    let sampling = args.drawing.sampling()?;
    if args.edit.rule()?.is_some() {
        bail!("a sweep tries the values of --strengths; leave out --strength and other rules, or write them into an edit (--edit)");
    }
    if let Some(bad) = args.strengths.iter().find(|s| !s.is_finite()) {
        bail!("--strengths must be numbers, not {bad}");
    }
    let saved = args.edit.saved(dir)?;
    args.save.check(dir)?;
    if saved.is_none() && args.edit.latent.is_empty() {
        bail!("say what to edit: --latent N or --edit NAME\n  look for latents: monosem features search TEXT {}", dir.flags());
    }
    if saved.as_ref().is_some_and(|edit| !edit.has_strength()) {
        bail!("no rule of this edit has a strength to try; zero and mean have none");
    }
    if args.plot.as_ref().is_some_and(|path| path.extension().is_none_or(|e| e != "svg")) {
        bail!("--plot writes SVG; give it a name that ends in .svg");
    }
    let mut opened = Opened::open(dir, args.sae.as_deref())?;
    if args.controls && args.edit.only_active() {
        bail!("--controls pushes at every position; leave out --only-active");
    }
    for &latent in args.edit.latent.iter().filter(|_| args.edit.in_maxima()) {
        maximum(&mut opened, latent, dir)?;
    }
    let rule = if args.adding { RuleName::Add } else { RuleName::Set };
    // The edit at a strength: the flags' latents at it, or the saved values times it.
    let whole = match &saved {
        None => args.edit.of(rule, Some(1.0)),
        Some(saved) => saved.clone(),
    };
    let whole = args.edit.resting(whole, &opened)?;
    let at = |strength: f32| whole.times(strength);
    let edits: Vec<(f32, Steering)> = args.strengths.iter().map(|&s| Ok((s, opened.resolve(&at(s))?))).collect::<anyhow::Result<_>>()?;
    let concept = args.concept.read(dir, &opened.tokenizer)?;
    let rig = opened.rig();
    let starts: Vec<Vec<u32>> = args.prompt.iter().map(|p| rig.prompt(p)).collect();
    let prompts: Vec<Vec<u32>> = (0..args.texts).map(|i| starts[i % starts.len()].clone()).collect();
    let writing = Writing::new(args.tokens, &sampling);
    let trial = Trial { rig, prompts: &prompts, writing: &writing, concept: concept.as_ref().map(|c| &c.0) };
    let bounds = Bounds { max_perplexity_ratio: args.max_perplexity, min_distinct_2_ratio: args.min_distinct };
    let unedited = trial.write(Change::default())?;
    let edit = |strength: f32| edits.iter().find(|e| e.0 == strength).expect("every strength was resolved").1.clone();
    let swept = sweep(trial, &unedited.measures, bounds, &args.strengths, &edit, MOVED_IN)?;
    let chosen = choose(&swept, concept.is_some().then_some(unedited.measures.concept_rate));
    let mut controls: Vec<(&str, Vec<Swept>)> = Vec::new();
    if args.controls {
        let [latent] = args.edit.latent[..] else { bail!("--controls compares one latent; give one --latent") };
        let found = measure::controls(&mut CpuEngine::new(opened.lm.clone()), &opened.stream()?, opened.hook, args.drawing.seed)?;
        let length = opened.sae.direction(latent).iter().map(|x| x * x).sum::<f32>().sqrt();
        for (name, direction) in [("random", found.random), ("covariance", found.covariance)] {
            // As far as the edit pushes where the latent is silent, in the same places.
            let push = |strength: f32| {
                let own = edit(strength);
                let far = own.edits[0].rule.strength() * length;
                Steering { edits: Vec::new(), pushes: Steering::push(&direction, far).pushes, ..own }
            };
            controls.push((name, sweep(trial, &unedited.measures, bounds, &args.strengths, &push, MOVED_IN)?));
        }
    }
    if let Some(chosen) = chosen.filter(|_| concept.is_some()) {
        let best = |all: &[Swept]| all.iter().filter(|s| s.whole).map(|s| s.measures.concept_tokens).max().unwrap_or(0);
        let own = swept[chosen].measures.concept_tokens;
        if may_be_luck(&swept[chosen].measures, &unedited.measures) {
            let base = unedited.measures.concept_tokens;
            tell!(
                "note: {own} tokens of it against {base} unedited may be luck; write more texts (--texts) before you trust the strength that was taken"
            );
        }
        if let Some((name, _)) = controls.iter().find(|(_, swept)| best(swept) >= own) {
            tell!(
                "note: the {name} direction writes as much of it with the text whole; this feature does nothing of its own, or more texts are needed (--texts)"
            );
        }
    }
    if let Some(path) = &args.plot {
        let svg = picture(&swept, bounds, concept.as_ref().map(|c| c.1.as_str()));
        write_atomic(path, |file| file.write_all(svg.as_bytes()))?;
        tell!("wrote {}", path.display());
    }
    match (args.save.name(), chosen) {
        (_, Some(chosen)) => args.save.keep(dir, &at(swept[chosen].strength), &mut opened)?,
        (Some(name), None) => {
            let more = if concept.is_some() { "wrote more of it" } else { "changed anything" };
            bail!("no strength left the text whole and {more}, so {name} was not saved\n  try other ones: --strengths 0.05,0.1,0.2")
        }
        (None, None) => {}
    }
    let result = serde_json::json!({
        "sae": opened.name, "unedited": unedited.measures, "swept": swept, "bounds": bounds,
        "chosen": chosen.map(|i| swept[i].strength), "concept": concept.as_ref().map(|c| &c.1),
        "controls": controls.iter().map(|(name, swept)| (name.to_string(), serde_json::json!(swept))).collect::<serde_json::Map<_, _>>(),
    });
    print(global, &result, |out| {
        let name = concept.as_ref().map_or(String::new(), |c| format!("  {}", c.1));
        let head = ["strength", "perplexity", "distinct-2", "repeat", "KL, nats", "others", "whole"];
        let [strength, perplexity, distinct, repeat, kl, others, whole] = head;
        writeln!(out, "{strength:>9} {perplexity:>11} {distinct:>10} {repeat:>7} {kl:>9} {others:>7} {whole:>6}{name}")?;
        let m = &unedited.measures;
        let counted = |m: &Measures| concept.as_ref().map_or(String::new(), |_| format!("  {} ({:.2} %)", m.concept_tokens, 100.0 * m.concept_rate));
        writeln!(
            out,
            "{:>9} {:>11.2} {:>10.3} {:>7.1} {:>9} {:>7} {:>6}{}",
            "unedited",
            m.perplexity,
            m.distinct_2,
            m.longest_repeat,
            "",
            "",
            "",
            counted(m)
        )?;
        let row = |s: &Swept| {
            let others = s.others_moved.map_or(String::new(), |n| format!("{n:.1}"));
            let &Swept { strength, perplexity_ratio, distinct_2_ratio, .. } = s;
            format!(
                "{strength:>9} {perplexity_ratio:>10.2}x {distinct_2_ratio:>9.3}x {:>7.1} {:>9.3} {others:>7} {:>6}{}",
                s.measures.longest_repeat,
                s.measures.kl,
                if s.whole { "yes" } else { "no" },
                counted(&s.measures)
            )
        };
        for (i, s) in swept.iter().enumerate() {
            writeln!(out, "{}{}", row(s), if Some(i) == chosen { "  <- taken" } else { "" })?;
        }
        for (name, swept) in &controls {
            writeln!(out, "{name} direction")?;
            swept.iter().try_for_each(|s| writeln!(out, "{}", row(s)))?;
        }
        match chosen {
            Some(i) => writeln!(out, "at {}: {}", swept[i].strength, swept[i].text.replace('\n', "\\n")),
            None if swept.iter().any(|s| s.whole && s.measures.kl > 0.0) => {
                writeln!(out, "at no strength that leaves the text whole is more of it written than without the edit; none is taken")
            }
            None if swept.iter().all(|s| s.measures.kl == 0.0) => {
                writeln!(out, "no strength changes anything: the edit never comes into play in these texts")
            }
            None => writeln!(
                out,
                "no strength leaves the text whole: its perplexity at most {} times, its distinct-2 at least {} times the unedited",
                args.max_perplexity, args.min_distinct
            ),
        }
    })
}

/// What is gained (the concept's rate, or the divergence from the unedited model) against what it costs (perplexity).
fn picture(swept: &[Swept], bounds: Bounds, concept: Option<&str>) -> String {
    let gain = |s: &Swept| if concept.is_some() { 100.0 * s.measures.concept_rate } else { s.measures.kl };
    let label = concept.map_or("KL from the unedited model, nats".to_string(), |c| format!("{c}, % of tokens"));
    let points: Vec<(f64, f64, String)> = swept.iter().map(|s| (s.perplexity_ratio, gain(s), format!("{}", s.strength))).collect();
    plot::pareto("strengths of the edit", "perplexity under the unedited model, times", &label, &points, bounds.max_perplexity_ratio)
}
