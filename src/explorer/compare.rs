//! This run's SAE beside another, or beside a snapshot of a training: what both have, what was split, what is new, what is lost. The other is chosen
//! by a name from a list that is read from the folders; no name of an address is ever a path.

use super::app::{App, Page, Problem, locked};
use super::view::{Fact, UnitView, Units};
use crate::artifact::{RunDir, grouped};
use crate::features::Dictionary;
use crate::features::compare::{Comparison, MATCHED, Nearest, RELATED, cautions, compare, names, open};
use crate::pipeline::saes;
use crate::sae::history;
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Lines of each table.
const N_SHOWN: usize = 40;
/// Parts of a split that are named.
const N_PARTS: usize = 8;

/// The last comparison.
#[derive(Clone)]
pub struct Kept {
    /// The other SAE's name, the hash of this one's weights, and when the other's files were written.
    key: String,
    comparison: Arc<Comparison>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct ComparePage {
    pub this: String,
    /// Every other SAE of this run, and of the runs beside it as `run/sae`; snapshots as `sae@step`, those of this SAE too.
    pub choices: Vec<String>,
    pub with: String,
    /// Of a command about this run.
    #[serde(skip)]
    pub flags: String,
    pub found: Option<CompareView>,
}

#[derive(Debug, Serialize)]
pub struct CompareView {
    /// Why the figures may mean nothing, or less than they seem.
    pub warnings: Vec<String>,
    pub figures: Vec<Fact>,
    /// Of this SAE's latents, by the cosine of the nearest: twenty bins from 0 to 1.
    pub histogram: Vec<CosineBar>,
    /// Both have it; the least alike last.
    pub matched: Vec<PairView>,
    /// One of this is several of the other.
    pub splits: Vec<SplitView>,
    /// Several of this are one of the other.
    pub merges: Vec<SplitView>,
    /// Of this, with the nearest of the other all the same.
    pub only_here: Vec<PairView>,
    pub only_there: Vec<PairView>,
}

/// A bar of a view box 200 x 60.
#[derive(Debug, Serialize)]
pub struct CosineBar {
    pub n: usize,
    #[serde(skip)]
    pub x: usize,
    #[serde(skip)]
    pub y: usize,
    #[serde(skip)]
    pub height: usize,
    #[serde(skip)]
    pub title: String,
}

#[derive(Debug, Serialize)]
pub struct PairView {
    pub ours: UnitView,
    pub theirs: Theirs,
    pub cosine: f32,
}

impl PairView {
    pub fn cosine_text(&self) -> String {
        format!("{:.2}", self.cosine)
    }
}

#[derive(Debug, Serialize)]
pub struct SplitView {
    /// Of this SAE, where the other has the parts.
    pub ours: Vec<UnitView>,
    pub theirs: Vec<Theirs>,
    pub cosines: String,
    /// How many parts there are in all.
    pub n: usize,
}

/// A latent of the other SAE, with its top tokens where it has a dictionary.
#[derive(Debug, Clone, Serialize)]
pub struct Theirs {
    pub latent: u32,
    pub tokens: Vec<String>,
    pub label: Option<String>,
}

impl App {
    pub fn compare(&self, with: &str) -> Page<ComparePage> {
        let choices = self.comparable();
        let found = match with {
            "" => None,
            _ if choices.iter().any(|c| c == with) => Some(self.compared(with)?),
            _ if with == self.sae => return Err(Problem::bad(&format!("{with} is the SAE that is shown; compare it with another."))),
            _ => return Err(Problem::not_found(&format!("There is no SAE {with:?}; known are {}.", choices.join(", ")))),
        };
        Ok(ComparePage { this: self.sae.clone(), choices, with: with.into(), flags: self.run.flags(), found })
    }

    /// The SAEs that may be compared with: names, read from the folders.
    fn comparable(&self) -> Vec<String> {
        let mut all: Vec<String> = saes(&self.run).iter().flat_map(|sae| names(&self.run, sae)).filter(|name| *name != self.sae).collect();
        let beside = self.run.root.parent().and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten();
        let mut others: Vec<String> = beside.filter_map(|e| e.file_name().into_string().ok()).filter(|name| *name != self.run.name()).collect();
        others.sort();
        for other in others {
            let run = self.beside(&other);
            all.extend(saes(&run).iter().flat_map(|sae| names(&run, sae)).map(|name| format!("{other}/{name}")));
        }
        // Finished ones first.
        all.sort_by_key(|name| name.contains('@'));
        all
    }

    fn beside(&self, name: &str) -> RunDir {
        RunDir { root: self.run.root.with_file_name(name) }
    }

    fn compared(&self, with: &str) -> Page<CompareView> {
        let dictionary = self.dictionary(Units::Features)?;
        let meta = dictionary.meta().clone();
        let known = self.summaries(Units::Features, &dictionary)?;
        let (run, name) = match with.split_once('/') {
            Some((run, name)) => (self.beside(run), name),
            None => (self.run.clone(), with),
        };
        let failed = |e: &dyn std::fmt::Display| Problem::new(400, "These cannot be compared", e);
        let key = format!("{with} {} {}", meta.weights_hash, stamp(&run, name));
        let kept = locked(&self.compared).as_ref().filter(|kept| kept.key == key).cloned();
        let Kept { comparison, warnings, .. } = match kept {
            Some(kept) => kept,
            None => {
                let ours = open(&self.run, &self.sae).map_err(|e| failed(&e))?;
                let theirs = open(&run, name).map_err(|e| failed(&e))?;
                let comparison = compare(ours.side(), theirs.side()).map_err(|e| failed(&e))?;
                let warnings = cautions(&ours, &theirs, &comparison.matched);
                let kept = Kept { key, comparison: Arc::new(comparison), warnings };
                locked(&self.compared).insert(kept).clone()
            }
        };
        let other = Dictionary::open(&run.features(name)).ok();
        let c = &*comparison;
        let labels = self.label_texts(Units::Features, &meta);
        let their_labels = crate::labels::Labels::open_to_read(&run.labels(name)).ok().flatten();
        let hash = other.as_ref().map(|d| d.meta().weights_hash.clone()).unwrap_or_default();
        let their_labels = their_labels.and_then(|l| l.list(&hash, None).ok()).unwrap_or_default();
        let their_labels: HashMap<u32, String> = their_labels.into_iter().map(|l| (l.latent, l.text)).collect();
        let ours = |id: u32| known.get(id as usize).map(|s| self.unit_view(Units::Features, s, &labels));
        let theirs = |id: u32| {
            let summary = other.as_ref().and_then(|d| d.summary(id).ok());
            let tokens = summary.map(|s| UnitView::new(Units::Features, &s, None).tokens).unwrap_or_default();
            Theirs { latent: id, tokens, label: their_labels.get(&id).cloned() }
        };
        let pair = |a: u32, b: u32, cosine: f32| ours(a).map(|ours| PairView { ours, theirs: theirs(b), cosine });
        let by_cosine = |list: &[Nearest], falling: bool| {
            let mut list = list.to_vec();
            list.sort_by(|x, y| x.cosine.total_cmp(&y.cosine).then(x.latent.cmp(&y.latent)));
            if falling {
                list.reverse();
            }
            list.truncate(N_SHOWN);
            list
        };
        let cosines = |into: &[(u32, f32)]| into.iter().take(N_PARTS).map(|p| format!("{:.2}", p.1)).collect::<Vec<_>>().join(", ");
        let splits = c.splits.iter().take(N_SHOWN).map(|s| SplitView {
            ours: ours(s.latent).into_iter().collect(),
            theirs: s.into.iter().take(N_PARTS).map(|p| theirs(p.0)).collect(),
            cosines: cosines(&s.into),
            n: s.into.len(),
        });
        let merges = c.merges.iter().take(N_SHOWN).map(|s| SplitView {
            ours: s.into.iter().take(N_PARTS).filter_map(|p| ours(p.0)).collect(),
            theirs: vec![theirs(s.latent)],
            cosines: cosines(&s.into),
            n: s.into.len(),
        });
        Ok(CompareView {
            warnings,
            figures: figures(c, &self.sae, with),
            histogram: histogram(&c.nearest_of_a),
            matched: by_cosine(&c.matched, true).iter().filter_map(|n| pair(n.latent, n.other, n.cosine)).collect(),
            splits: splits.collect(),
            merges: merges.collect(),
            only_here: by_cosine(&c.lost, false).iter().filter_map(|n| pair(n.latent, n.other, n.cosine)).collect(),
            only_there: by_cosine(&c.new, false).iter().filter_map(|n| pair(n.other, n.latent, n.cosine)).collect(),
        })
    }
}

/// When what a comparison reads of an SAE was written: it may be trained again, or get a dictionary, while pages are open.
fn stamp(run: &RunDir, name: &str) -> String {
    let plain = name.split('@').next().unwrap_or(name);
    let sae = run.sae(plain);
    let files = [sae.join("sae_weights.safetensors"), sae.join("manifest.json"), history::folder(run, plain).join("history"), run.features(plain)];
    let written = |path: &PathBuf| std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok();
    format!("{:?}", files.iter().map(written).collect::<Vec<_>>())
}

fn figures(c: &Comparison, this: &str, with: &str) -> Vec<Fact> {
    let of = |n: usize, all: usize| format!("of {} ({:.0} %)", grouped(all as u64), 100.0 * n as f64 / all.max(1) as f64);
    let count = |n: usize| grouped(n as u64);
    vec![
        Fact::new("matched", count(c.matched.len()), &format!("each the other's nearest, cosine {MATCHED} or more; {}", of(c.matched.len(), c.n_a))),
        Fact::new("split", count(c.splits.len()), &format!("of {this}, nearest to two or more of {with}")),
        Fact::new("merged", count(c.merges.len()), &format!("of {with}, nearest to two or more of {this}")),
        Fact::new("only here", count(c.lost.len()), &format!("nearest below {RELATED}; {}", of(c.lost.len(), c.n_a))),
        Fact::new("only there", count(c.new.len()), &format!("nearest below {RELATED}; {}", of(c.new.len(), c.n_b))),
        Fact::new("mean max cosine", format!("{:.2}", c.mean_max_cosine.0), &format!("here to there; {:.2} there to here", c.mean_max_cosine.1)),
    ]
}

fn histogram(nearest: &[Nearest]) -> Vec<CosineBar> {
    let mut counts = [0usize; 20];
    nearest.iter().for_each(|n| counts[((n.cosine.max(0.0) * 20.0) as usize).min(19)] += 1);
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let bar = |(i, &n): (usize, &usize)| {
        let height = 58 * n / most;
        let title = format!("cosine {:.2} to {:.2}: {}", i as f64 / 20.0, (i + 1) as f64 / 20.0, grouped(n as u64));
        CosineBar { n, x: 10 * i, y: 60 - height, height, title }
    };
    counts.iter().enumerate().map(bar).collect()
}
