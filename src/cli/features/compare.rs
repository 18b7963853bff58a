//! `monosem features compare`

use super::super::Global;
use super::text::top_tokens;
use super::{Which, print};
use crate::artifact::RunDir;
use crate::features::compare::{Comparison, MATCHED, Named, Nearest, RELATED, Split, cautions, compare, names, open};
use crate::labels::Labels;
use crate::pipeline::saes;
use anyhow::{Context, bail};
use std::collections::HashMap;
use std::io::Write;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The other SAE: NAME of this run, or RUN/NAME of a run beside it; NAME@STEP is a snapshot of its training
    #[arg(value_name = "[RUN/]NAME[@STEP]")]
    other: String,
    /// Lines of each table
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
}

/// One side, and what labels say of its latents.
struct Labelled {
    of: Named,
    labels: HashMap<u32, String>,
}

impl Labelled {
    fn open(run: &RunDir, name: &str) -> anyhow::Result<Self> {
        let of = open(run, name).with_context(|| {
            let known = saes(run).iter().flat_map(|sae| names(run, sae)).collect::<Vec<_>>().join(", ");
            format!("cannot open the SAE {name} of {}\n  those that are there: {known}", run.root.display())
        })?;
        let labels = match (&of.dictionary, Labels::open_to_read(&run.labels(name))?) {
            (Some(dictionary), Some(labels)) => labels.list(&dictionary.meta().weights_hash, None)?,
            _ => vec![],
        };
        Ok(Labelled { of, labels: labels.into_iter().map(|l| (l.latent, l.text)).collect() })
    }

    /// Its label, or its strongest tokens.
    fn title(&self, latent: u32) -> String {
        if self.of.dictionary.is_none() {
            return "(no dictionary)".into();
        }
        let tokens = || self.of.dictionary.as_ref().and_then(|d| d.summary(latent).ok()).map(|s| top_tokens(&s, 2));
        self.labels.get(&latent).cloned().or_else(tokens).unwrap_or_default()
    }
}

/// What is found, with what must be known of it.
#[derive(serde::Serialize)]
struct Found<'a> {
    cautions: &'a [String],
    #[serde(flatten)]
    comparison: &'a Comparison,
}

pub fn run(args: Args, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    if which.neurons {
        bail!("neurons are the axes of one hook: there is nothing to compare them by\n  name two SAEs: monosem features compare --sae NAME OTHER");
    }
    let (other_run, name) = match args.other.split_once('/') {
        Some((other, name)) => (RunDir::new(&global.dir, other), name),
        None => (run.clone(), args.other.as_str()),
    };
    let ours = Labelled::open(run, &which.sae)?;
    let theirs = Labelled::open(&other_run, name)?;
    let comparison = compare(ours.of.side(), theirs.of.side())?;
    let found = Found { cautions: &cautions(&ours.of, &theirs.of, &comparison.matched), comparison: &comparison };
    print(global, &found, |out| table(out, &found, &ours, &theirs, (&which.sae, &args.other), args.limit))
}

fn table(out: &mut dyn Write, found: &Found, ours: &Labelled, theirs: &Labelled, sides: (&str, &str), limit: usize) -> std::io::Result<()> {
    let (this, other) = sides;
    let c = found.comparison;
    let share = |n: usize, all: usize| format!("{:.0} %", 100.0 * n as f64 / all.max(1) as f64);
    let living = |side: &Labelled| if side.of.alive.is_some() { "living latents" } else { "latents" };
    writeln!(out, "{this} ({} {}) beside {other} ({} {})", c.n_a, living(ours), c.n_b, living(theirs))?;
    found.cautions.iter().try_for_each(|why| writeln!(out, "note: {why}"))?;
    writeln!(
        out,
        "{:>7} matched: each the other's nearest, cosine {MATCHED} or more ({} of {this})",
        c.matched.len(),
        share(c.matched.len(), c.n_a)
    )?;
    writeln!(out, "{:>7} split: of {this}, nearest to two or more of {other}", c.splits.len())?;
    writeln!(out, "{:>7} merged: of {other}, nearest to two or more of {this}", c.merges.len())?;
    writeln!(out, "{:>7} only in {this}: nearest below {RELATED} ({})", c.lost.len(), share(c.lost.len(), c.n_a))?;
    writeln!(out, "{:>7} only in {other}: nearest below {RELATED} ({})", c.new.len(), share(c.new.len(), c.n_b))?;
    writeln!(out, "mean max cosine {:.3} from {this}, {:.3} from {other}", c.mean_max_cosine.0, c.mean_max_cosine.1)?;
    pairs(out, "most alike", &c.matched, true, (ours, theirs), limit)?;
    splits(out, &format!("one of {this}, several of {other}"), &c.splits, (ours, theirs), limit)?;
    splits(out, &format!("one of {other}, several of {this}"), &c.merges, (theirs, ours), limit)?;
    pairs(out, &format!("only in {this}, with the nearest of {other}"), &c.lost, false, (ours, theirs), limit)?;
    pairs(out, &format!("only in {other}, with the nearest of {this}"), &c.new, false, (theirs, ours), limit)
}

/// Pairs by cosine: the largest first, or the smallest.
fn pairs(out: &mut dyn Write, title: &str, all: &[Nearest], falling: bool, (a, b): (&Labelled, &Labelled), limit: usize) -> std::io::Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    writeln!(out, "{:>7} {:>7} {:>6}  label, or strongest tokens, of each", "latent", "nearest", "cosine")?;
    let mut all = all.to_vec();
    all.sort_by(|x, y| x.cosine.total_cmp(&y.cosine).then(x.latent.cmp(&y.latent)));
    if falling {
        all.reverse();
    }
    for n in all.iter().take(limit) {
        writeln!(out, "{:>7} {:>7} {:>6.2}  {}  |  {}", n.latent, n.other, n.cosine, a.title(n.latent), b.title(n.other))?;
    }
    Ok(())
}

fn splits(out: &mut dyn Write, title: &str, all: &[Split], (one, many): (&Labelled, &Labelled), limit: usize) -> std::io::Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    for split in all.iter().take(limit) {
        writeln!(out, "{:>7} {}", split.latent, one.title(split.latent))?;
        for (latent, cosine) in split.into.iter().take(limit) {
            writeln!(out, "        {latent:>7} {cosine:>6.2}  {}", many.title(*latent))?;
        }
    }
    Ok(())
}
