//! `monosem features search`

use super::super::Global;
use super::text::{percent, quoted};
use super::{Which, labels_of, open_text, print};
use crate::artifact::RunDir;
use crate::features::store::{Hit, Why, has_word};
use anyhow::bail;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to look for
    text: String,
    /// Features to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

pub fn run(args: Args, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let dictionary = which.dictionary(run)?;
    let (stream, tokenizer) = open_text(run)?;
    dictionary.check(&stream)?;
    let wanted = args.text.trim().to_lowercase();
    let labels = labels_of(which, run, dictionary.meta(), None)?;
    let named = labels.into_iter().filter(|l| !wanted.is_empty() && l.text.to_lowercase().contains(&wanted));
    if args.text.trim().is_empty() {
        bail!("there is nothing to search for\n  name a part of a label, of a token or of a context");
    }
    let mut hits: Vec<Hit> = named.map(|l| Hit { feature: l.latent, why: Why::Label, snippet: l.text, share: 1.0 }).collect();
    // Of labels too those come first that have it as a whole word.
    hits.sort_by_key(|hit| (!has_word(&hit.snippet.to_lowercase(), &wanted), hit.snippet.len(), hit.feature));
    hits.extend(dictionary.with_concept(&wanted, args.limit)?);
    hits.extend(dictionary.search(&args.text, args.limit, &stream, &tokenizer)?);
    hits.truncate(args.limit);
    print(global, &hits, |out| {
        if !hits.is_empty() {
            writeln!(out, "{:>7} {:>8}  where; the share is of its activation on such tokens, or of its contexts", "id", "share")?;
        }
        for hit in &hits {
            let (share, why) = match hit.why {
                Why::Label => ("-".into(), "labelled"),
                Why::Concept => (format!("F1 {:.2}", hit.share), "known concept"),
                Why::Token => (percent(hit.share), "fires on"),
                Why::Context => (percent(hit.share), "near"),
            };
            writeln!(out, "{:>7} {share:>8}  {why} {}", hit.feature, quoted(&hit.snippet))?;
        }
        if hits.is_empty() {
            writeln!(out, "nothing fires on {:?} or near it, and no label or known concept has it", args.text)?;
        }
        Ok(())
    })
}
