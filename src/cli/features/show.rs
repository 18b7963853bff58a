//! `monosem features show`

use super::super::Global;
use super::text::{bars, concept, has_colour, histogram, line, percent, quoted_bytes, top_tokens, unit_name};
use super::{Which, labels_of, open_text, print};
use crate::artifact::RunDir;
use crate::features;
use crate::features::shares::card;
use crate::features::store::{FeatureDetail, GroupKind, LossEffects, Neighbor};
use std::io::Write;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of the feature
    id: u32,
    /// Examples to print of each group
    #[arg(long, value_name = "N", default_value_t = 5)]
    examples: usize,
    /// Tokens to print before and after a firing
    #[arg(long, value_name = "N", default_value_t = 16)]
    context: usize,
}

pub fn run(args: Args, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let dictionary = which.dictionary(run)?;
    let (stream, tokenizer) = open_text(run)?;
    dictionary.check(&stream)?;
    let detail = dictionary.feature(args.id, &stream, &tokenizer)?;
    let labels = labels_of(which, run, dictionary.meta(), Some(args.id))?;
    if global.json {
        let shares = card(&detail, &stream);
        return print(global, &serde_json::json!({ "feature": detail, "labels": labels, "shares": shares }), |_| Ok(()));
    }
    let colour = has_colour();
    print(global, &(), |out| {
        let f = &detail.summary;
        let kind = dictionary.meta().kind.name();
        writeln!(out, "{kind} {} at {} over {} tokens", unit_name(f), dictionary.meta().hook, dictionary.meta().n_tokens)?;
        for label in &labels {
            writeln!(out, "  \"{}\"  {}, {}", label.text, label.author, label.time)?;
        }
        if let Some(concept) = concept(f) {
            writeln!(out, "best concept  {concept}")?;
        }
        let chance = dictionary.meta().polysemantic_chance;
        let chance = if chance > 0.0 { format!(" (at random {chance:.1})") } else { String::new() };
        let flags: String = f.flags.iter().map(|f| format!(", {}", f.name())).collect();
        writeln!(
            out,
            "fires on {} ({} tokens), max {:.3}, mean {:.3}, {:.1} effective tokens, {:.1} groups of contexts{chance}{flags}",
            percent(f.density),
            f.n_active,
            f.max_act,
            f.mean_act,
            f.effective_tokens,
            f.polysemantic
        )?;
        if let Some(category) = f.category {
            writeln!(out, "{}: {}", category.name(), category.rule())?;
        }
        writeln!(out, "tokens   {}", top_tokens(f, 10))?;
        let card = card(&detail, &stream);
        if !card.classes.is_empty() {
            writeln!(out, "falls on {} (by {} sampled firings)", card.line(), card.n)?;
        }
        let effects = |effects: &[features::store::LogitEffect]| {
            effects.iter().map(|e| format!("{} {:+.2}", quoted_bytes(&e.token.bytes), e.effect)).collect::<Vec<_>>().join("  ")
        };
        writeln!(out, "raises   {}\nlowers   {}", effects(&detail.logits_up), effects(&detail.logits_down))?;
        near(out, &detail, dictionary.meta().reads_neurons())?;
        for (what, densities) in [("density over the text", &detail.over_time), ("density by position", &detail.over_position)] {
            let bars = bars(densities);
            if !bars.is_empty() {
                writeln!(out, "{what:21} {bars}  highest {}", percent(f64::from(densities.iter().copied().fold(0.0, f32::max))))?;
            }
        }
        histogram(out, &detail.histogram)?;
        if dictionary.meta().loss_effects == LossEffects::Exact {
            writeln!(out, "\nactivation, and by how many nats the loss of the next token rises when the feature is removed")?;
        }
        for group in &detail.groups {
            let mass = group.share_mass.map(|m| format!(", {} of its activation", percent(m))).unwrap_or_default();
            let of = match group.kind {
                GroupKind::Top | GroupKind::Zero => String::new(),
                GroupKind::Random => format!(" (of {})", group.n_firings),
                GroupKind::Interval | GroupKind::Quantile => format!(": {} of its firings{mass}", percent(group.share_firings)),
            };
            writeln!(out, "\n{}{of}", group.name)?;
            for example in group.examples.iter().take(args.examples) {
                let loss = example.loss.get(example.focus + 1).copied().flatten().map(|nats| format!("{nats:+.3}")).unwrap_or_default();
                let similar = if example.similar > 0 { format!("  (and {} much like it)", example.similar) } else { String::new() };
                writeln!(out, "{:>8.3} {loss:>7}  {}{similar}", example.act, line(example, args.context, colour))?;
            }
        }
        Ok(())
    })
}

/// Neighbours and neurons, a line each where there are any.
fn near(out: &mut dyn Write, detail: &FeatureDetail, of_neurons: bool) -> std::io::Result<()> {
    let (correlated, written) =
        if of_neurons { ("correlated neurons", "written to neurons") } else { ("correlated coordinates", "written to coordinates") };
    let listed = |neighbors: &[Neighbor]| neighbors.iter().take(6).map(|n| format!("{} {:.2}", n.id, n.value)).collect::<Vec<_>>().join("  ");
    let neurons: Vec<String> = detail.neurons.iter().map(|n| format!("{} {:+.2}", n.neuron, n.pearson)).collect();
    let aligned: Vec<String> = detail.alignment.iter().map(|a| format!("{} {:+.2}", a.neuron, a.value)).collect();
    let along: Vec<String> = detail.correlated.iter().map(|c| format!("{} {:.2}", c.id, c.pearson)).collect();
    let lines = [
        ("fires with", listed(&detail.coactive)),
        ("goes along with", along.join("  ")),
        ("similar", listed(&detail.similar)),
        (correlated, neurons.join("  ")),
        (written, aligned.join("  ")),
    ];
    lines.iter().filter(|(_, list)| !list.is_empty()).try_for_each(|(name, list)| writeln!(out, "{name:22} {list}"))
}
