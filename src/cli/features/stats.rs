//! `monosem features stats`

use super::super::Global;
use super::text::percent;
use super::{Which, labels_of, print};
use crate::artifact::{RunDir, grouped};
use crate::features::store::{FeatureSummary, Flag, ListQuery, LossEffects, Meta};
use std::collections::BTreeSet;
use std::io::Write;

pub fn run(which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let dictionary = which.dictionary(run)?;
    let meta = dictionary.meta();
    let all = dictionary.list(&ListQuery { limit: u64::from(meta.n_units), ..Default::default() })?.features;
    let labelled = labels_of(which, run, meta, None)?.into_iter().map(|l| l.latent).collect::<BTreeSet<u32>>().len();
    let densities = decades(&all);
    let live = all.iter().filter(|f| f.n_active > 0).count().max(1) as f64;
    let mean = |of: &dyn Fn(&FeatureSummary) -> f64| all.iter().filter(|f| f.n_active > 0).map(of).sum::<f64>() / live;
    let per_token = all.iter().map(|f| f.density).sum::<f64>();
    let (tokens, polysemantic) = (mean(&|f| f.effective_tokens), mean(&|f| f.polysemantic));
    let json = serde_json::json!({
        "meta": meta, "n_labelled": labelled, "active_per_token": per_token, "mean_effective_tokens": tokens, "mean_polysemantic": polysemantic,
        "densities": densities.iter().map(|(decade, n)| serde_json::json!({ "from": 10f64.powi(*decade), "n": n })).collect::<Vec<_>>(),
    });
    let chance =
        if meta.polysemantic_chance > 0.0 { format!(" (of contexts drawn at random {:.1})", meta.polysemantic_chance) } else { String::new() };
    print(global, &json, |out| {
        let n = u64::from(meta.n_units);
        writeln!(out, "{} {} at {}, over {} tokens of {}", grouped(n), plural(meta), meta.hook, grouped(meta.n_tokens), meta.tokens_from)?;
        writeln!(out, "{per_token:.1} active per token; {labelled} labelled; built in {:.0} s", meta.wall_seconds)?;
        writeln!(out, "on average {tokens:.1} effective tokens and {polysemantic:.1} effective groups of alike contexts{chance}")?;
        if let LossEffects::NotExact { why } = &meta.loss_effects {
            writeln!(out, "effects on the loss are not shown: {why}")?;
        }
        writeln!(out, "\nflags (one may have several)")?;
        for (flag, count) in flags(&all) {
            line(out, flag.name(), count, n)?;
        }
        if !meta.census.is_empty() {
            writeln!(out, "\ncensus (each is counted once)")?;
        }
        for c in &meta.census {
            line(out, c.category.name(), c.n, n)?;
        }
        writeln!(out, "\ndensity")?;
        let most = densities.iter().map(|d| d.1).max().unwrap_or(0).max(1);
        densities.iter().try_for_each(|&(decade, count)| {
            let bar = "\u{2588}".repeat((40 * count).div_ceil(most) as usize);
            writeln!(out, "{:>10} {bar:40} {count}", if decade == i32::MIN { "never".into() } else { format!("1e{decade}") })
        })
    })
}

fn plural(meta: &Meta) -> String {
    format!("{}s", meta.kind.name())
}

fn line(out: &mut dyn Write, name: &str, count: u64, all: u64) -> std::io::Result<()> {
    writeln!(out, "{:>10} {:>9}  {name}", grouped(count), percent(count as f64 / all.max(1) as f64))
}

fn flags(all: &[FeatureSummary]) -> impl Iterator<Item = (Flag, u64)> + '_ {
    Flag::ALL.into_iter().map(|flag| (flag, all.iter().filter(|f| f.flags.contains(&flag)).count() as u64))
}

/// How many units have a density of 10^k and more but less than 10^(k + 1), densest first; those that never fire last, as `i32::MIN`.
fn decades(all: &[FeatureSummary]) -> Vec<(i32, u64)> {
    let mut counts = std::collections::BTreeMap::new();
    for f in all {
        let decade = if f.density > 0.0 { f.density.log10().floor() as i32 } else { i32::MIN };
        *counts.entry(decade).or_insert(0) += 1;
    }
    counts.into_iter().rev().collect()
}
