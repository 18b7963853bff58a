//! `monosem features list`

use super::super::Global;
use super::text::{concept, percent, top_tokens, unit_name};
use super::{Which, labels_of, open_text, print};
use crate::artifact::RunDir;
use crate::features::Dictionary;
use crate::features::shares::{self, Card};
use crate::features::store::{Category, FeatureSummary, Flag, ListPage, ListQuery, Sort};
use crate::labels::Label;
use std::collections::BTreeSet;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to sort by: numbers rise, everything else falls
    #[arg(long, value_enum, default_value_t = Sort::Id)]
    sort: Sort,
    /// Turn the order round
    #[arg(long)]
    reverse: bool,
    /// Only features with this flag: dead, ultra-rare, dense, single-token, junk, position-locked, duplicated, polysemantic; may be given more than once
    #[arg(long, value_name = "FLAG", value_parser = flag)]
    with: Vec<Flag>,
    /// Only features without this flag; may be given more than once
    #[arg(long, value_name = "FLAG", value_parser = flag)]
    without: Vec<Flag>,
    /// Only features of this category; each feature is in one
    #[arg(long, value_enum, value_name = "CATEGORY")]
    category: Option<Category>,
    /// Only features that fire on a token holding this text or near these words
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Smallest share of tokens that the feature fires on
    #[arg(long, value_name = "X")]
    min_density: Option<f64>,
    /// Largest share of tokens that the feature fires on
    #[arg(long, value_name = "X")]
    max_density: Option<f64>,
    /// Only labelled features
    #[arg(long)]
    labelled: bool,
    /// Only features without a label
    #[arg(long, conflicts_with = "labelled")]
    unlabelled: bool,
    /// Only features that this author labelled
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Only features of this list
    #[arg(long, value_name = "NAME")]
    list: Option<String>,
    /// Only features with at least this F1 for a known concept
    #[arg(long, value_name = "X")]
    min_f1: Option<f64>,
    /// Also what each fires on, as shares of its activation; neurons always say it
    #[arg(long)]
    cards: bool,
    /// Features to leave out at the beginning
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Features to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u64,
}

pub fn run(args: Args, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    if let Some(density) = [args.min_density, args.max_density].into_iter().flatten().find(|density| !(0.0..=1.0).contains(density)) {
        anyhow::bail!("a density is a share of tokens from 0 to 1, not {density}\n  5 % is 0.05");
    }
    let dictionary = which.dictionary(run)?;
    let labels = labels_of(which, run, dictionary.meta(), None)?;
    let ids = chosen(&args, which, run, &dictionary, &labels)?;
    let query = ListQuery {
        sort: args.sort,
        descending: (args.sort != Sort::Id) != args.reverse,
        with: args.with,
        without: args.without,
        category: args.category,
        text: args.text,
        firing: None,
        min_density: args.min_density,
        max_density: args.max_density,
        ids,
        offset: args.offset,
        limit: args.limit,
    };
    let page = dictionary.list(&query)?;
    let cards = if args.cards || which.neurons { cards(&dictionary, &page, run)? } else { vec![] };
    let listed = Listed { page: &page, cards: &cards };
    print(global, &listed, |out| {
        writeln!(out, "{:>7} {:>9} {:>8} {:>7} {:>6}  {:LABEL_WIDTH$} tokens", "id", "density", "max", "tokens", "poly", "label or concept")?;
        for (i, f) in page.features.iter().enumerate() {
            let label = labels.iter().rev().find(|l| l.latent == f.id).map(|l| l.text.clone()).or_else(|| concept(f)).unwrap_or_default();
            let label: String = label.chars().take(LABEL_WIDTH).collect();
            let name = unit_name(f);
            let (density, tokens) = (percent(f.density), top_tokens(f, 6));
            writeln!(
                out,
                "{name:>7} {density:>9} {:>8.3} {:>7.1} {:>6.1}  {label:LABEL_WIDTH$} {tokens}",
                f.max_act, f.effective_tokens, f.polysemantic
            )?;
            if let Some(card) = cards.get(i) {
                writeln!(out, "        {}", card.line())?;
            }
        }
        writeln!(out, "{} of {}", page.features.len(), page.total)
    })
}

/// The features that pass the filters which the dictionary itself does not have; none: it has them all.
fn chosen(args: &Args, which: &Which, run: &RunDir, dictionary: &Dictionary, labels: &[Label]) -> anyhow::Result<Option<Vec<u32>>> {
    let meta = dictionary.meta();
    let mut sets: Vec<BTreeSet<u32>> = vec![];
    let labelled: BTreeSet<u32> = labels.iter().map(|l| l.latent).collect();
    if let Some(author) = &args.author {
        sets.push(labels.iter().filter(|l| l.author == *author).map(|l| l.latent).collect());
    }
    if let Some(list) = &args.list {
        let members = which.labels_to_read(run)?.map_or(Ok(vec![]), |labels| labels.members(&meta.weights_hash, None))?;
        sets.push(members.into_iter().filter(|m| m.list == *list).map(|m| m.latent).collect());
    }
    if let Some(least) = args.min_f1 {
        let all = dictionary.list(&ListQuery { limit: u64::from(meta.n_units), ..Default::default() })?.features;
        sets.push(all.iter().filter(|f| f.concept.as_ref().is_some_and(|c| c.f1 >= least)).map(|f| f.id).collect());
    }
    if args.unlabelled {
        sets.push((0..meta.n_units).filter(|id| !labelled.contains(id)).collect());
    }
    if args.labelled {
        sets.push(labelled);
    }
    let both = sets.into_iter().reduce(|a, b| a.intersection(&b).copied().collect());
    Ok(both.map(|ids| ids.into_iter().collect()))
}

/// The page, and a card to each of its features where they were asked for.
#[derive(serde::Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    page: &'a ListPage,
    #[serde(skip_serializing_if = "<[Card]>::is_empty")]
    cards: &'a [Card],
}

fn cards(dictionary: &Dictionary, page: &ListPage, run: &RunDir) -> anyhow::Result<Vec<Card>> {
    let (stream, tokenizer) = open_text(run)?;
    dictionary.check(&stream)?;
    let card = |f: &FeatureSummary| Ok(shares::card(&dictionary.feature(f.id, &stream, &tokenizer)?, &stream));
    page.features.iter().map(card).collect()
}

/// Letters of a label in a list.
const LABEL_WIDTH: usize = 32;

fn flag(text: &str) -> Result<Flag, String> {
    let known = || Flag::ALL.map(Flag::name).join(", ");
    Flag::ALL.into_iter().find(|f| f.name() == text).ok_or_else(|| format!("unknown flag; known are {}", known()))
}
