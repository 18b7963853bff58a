//! `monosem features token`: from a token to the units that fire on it.

use super::super::Global;
use super::text::{percent, quoted};
use super::{Which, labels_of, print};
use crate::artifact::{RunDir, grouped};
use anyhow::bail;
use std::collections::HashMap;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A token, or a part of some; #ID is the token of this number
    text: String,
    /// Tokens to print, the commonest first
    #[arg(long, value_name = "N", default_value_t = 5)]
    limit: usize,
    /// Units to print for each
    #[arg(long, value_name = "N", default_value_t = 10)]
    units: usize,
}

pub fn run(args: Args, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let dictionary = which.dictionary(run)?;
    if args.text.is_empty() {
        bail!("there is no token to look for\n  name one, or a part of it");
    }
    let mut found = match args.text.strip_prefix('#').and_then(|id| id.parse().ok()) {
        Some(id) => dictionary.token(id)?.into_iter().collect(),
        None => dictionary.tokens_with(&args.text, args.limit)?,
    };
    found.iter_mut().for_each(|token| token.features.truncate(args.units));
    let labels: HashMap<u32, String> = labels_of(which, run, dictionary.meta(), None)?.into_iter().map(|l| (l.latent, l.text)).collect();
    let n_tokens = dictionary.meta().n_tokens;
    print(global, &found, |out| {
        if found.is_empty() {
            writeln!(out, "no token of the text that was read holds {:?}", args.text)?;
        }
        for token in &found {
            writeln!(out, "{} (token {}): {} times in {} tokens", quoted(&token.token.text), token.token.id, grouped(token.n), grouped(n_tokens))?;
            writeln!(
                out,
                "{:>7} {:>8} {:>11} {:>8}  largest sum of activations first; lift 1: the token does not matter",
                "id", "fires on", "activation", "lift"
            )?;
            for unit in &token.features {
                let share = percent(unit.n as f64 / token.n.max(1) as f64);
                let label = labels.get(&unit.feature).map_or("", String::as_str);
                writeln!(out, "{:>7} {share:>8} {:>11.1} {:>8.1}  {label}", unit.feature, unit.mass, unit.lift)?;
            }
        }
        Ok(())
    })
}
