//! `monosem features show`

use super::super::Global;
use super::text::{concept, has_colour, histogram, line, percent, quoted_bytes, top_tokens, unit_name};
use super::{Which, labels_of, open_text, print};
use crate::artifact::RunDir;
use crate::features;
use crate::features::store::GroupKind;

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
        return print(global, &serde_json::json!({ "feature": detail, "labels": labels }), |_| Ok(()));
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
        let flags: String = f.flags.iter().map(|f| format!(", {}", f.name())).collect();
        writeln!(
            out,
            "fires on {} ({} tokens), max {:.3}, mean {:.3}, {:.1} effective tokens, polysemantic {:.1}{flags}",
            percent(f.density),
            f.n_active,
            f.max_act,
            f.mean_act,
            f.effective_tokens,
            f.polysemantic
        )?;
        writeln!(out, "tokens   {}", top_tokens(f, 10))?;
        let effects = |effects: &[features::store::LogitEffect]| {
            effects.iter().map(|e| format!("{} {:+.2}", quoted_bytes(&e.token.bytes), e.effect)).collect::<Vec<_>>().join("  ")
        };
        writeln!(out, "raises   {}\nlowers   {}", effects(&detail.logits_up), effects(&detail.logits_down))?;
        histogram(out, &detail.histogram)?;
        for group in &detail.groups {
            let of = if group.kind == GroupKind::Top { String::new() } else { format!(" (of {})", group.n_firings) };
            writeln!(out, "\n{}{of}", group.name)?;
            for example in group.examples.iter().take(args.examples) {
                writeln!(out, "{:>8.3}  {}", example.act, line(example, args.context, colour))?;
            }
        }
        Ok(())
    })
}
