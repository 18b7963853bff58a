//! `monosem features neighbors`

use super::super::Global;
use super::text::{percent, top_tokens, unit_name};
use super::{Which, label_texts, open_text, print};
use crate::artifact::RunDir;
use crate::features::Dictionary;
use crate::features::store::Neighbor;
use std::io::Write;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of the feature
    id: u32,
    /// Neighbours of each kind to print
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
}

pub fn run(args: Args, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let dictionary = which.dictionary(run)?;
    let (stream, tokenizer) = open_text(run)?;
    dictionary.check(&stream)?;
    let mut detail = dictionary.feature(args.id, &stream, &tokenizer)?;
    detail.coactive.truncate(args.limit);
    detail.correlated.truncate(args.limit);
    detail.similar.truncate(args.limit);
    detail.neurons.truncate(args.limit);
    detail.alignment.truncate(args.limit);
    let json = serde_json::json!({
        "id": args.id, "coactive": detail.coactive, "correlated": detail.correlated, "similar": detail.similar, "neurons": detail.neurons,
        "alignment": detail.alignment,
    });
    let labels = label_texts(which, run, dictionary.meta())?;
    print(global, &json, |out| {
        let meta = dictionary.meta();
        writeln!(out, "{} {} at {}", meta.kind.name(), unit_name(&detail.summary), meta.hook)?;
        writeln!(out, "\nfires on the same tokens: estimated Jaccard index, standard deviation at most {:.3}", meta.coactive_sd)?;
        others(out, &dictionary, &labels, &detail.coactive)?;
        let correlated: Vec<Neighbor> = detail.correlated.iter().map(|c| Neighbor { id: c.id, value: c.pearson }).collect();
        let sd = detail.correlated.iter().filter_map(|c| c.sd).fold(0.0, f32::max);
        writeln!(out, "\nactivations go along: Pearson's r over {} tokens, standard deviation at most {sd:.3}", meta.n_tokens)?;
        others(out, &dictionary, &labels, &correlated)?;
        writeln!(out, "\nnearest decoder directions: cosine")?;
        others(out, &dictionary, &labels, &detail.similar)?;
        match meta.has_no_room_for_correlations() {
            true => {
                writeln!(out, "\ncoordinates of the hook that go along with it: not collected, with so many units they would take too much memory")?
            }
            false => writeln!(out, "\ncoordinates of the hook that go along with it: Pearson's r over {} tokens", meta.correlated_over)?,
        }
        detail.neurons.iter().try_for_each(|n| writeln!(out, "{:>7} {:>+8.3}", n.neuron, n.pearson))?;
        writeln!(out, "\ncoordinates that it writes to: entry of its direction, share of the L1 norm")?;
        detail.alignment.iter().try_for_each(|a| writeln!(out, "{:>7} {:>+8.3} {:>8}", a.neuron, a.value, percent(f64::from(a.share))))
    })
}

/// A line each: number, value, label or top tokens.
fn others(out: &mut dyn Write, dictionary: &Dictionary, labels: &[(u32, String)], neighbors: &[Neighbor]) -> std::io::Result<()> {
    if neighbors.is_empty() {
        return writeln!(out, "   none");
    }
    for n in neighbors {
        let label = labels.iter().rev().find(|l| l.0 == n.id).map(|l| format!("{:?}  ", l.1));
        let tokens = dictionary.summary(n.id).map(|s| top_tokens(&s, 4)).unwrap_or_default();
        writeln!(out, "{:>7} {:>8.3}  {}{tokens}", n.id, n.value, label.unwrap_or_default())?;
    }
    Ok(())
}
