//! The map of decoder directions: made once in the background and kept beside the dictionary, then sent as arrays that the page draws.

use super::app::{App, Missing, Page, Part, locked};
use super::list::MAX_QUERY;
use super::view::{UnitView, Units};
use crate::artifact::Progress;
use crate::features::map::{self, Map};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The same map for everybody who has the same weights.
const SEED: u64 = 0;
/// Points that a search may light up.
const MAX_FOUND: usize = 5_000;
/// Labels that are sent with the map.
const MAX_LABELS: usize = 2_000;

/// How far the map is, and of which weights.
#[derive(Debug, Default)]
pub struct State {
    weights_hash: String,
    step: Step,
}

#[derive(Debug, Default, Clone)]
enum Step {
    #[default]
    NotBegun,
    Working(Work),
    Ready(Arc<Map>),
    Failed(String),
}

/// What the page shows while the map is made.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Work {
    pub what: String,
    pub done: u64,
    pub total: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MapState {
    Working(Work),
    /// How many directions are on it.
    Ready(usize),
    Failed(String),
}

#[derive(Debug, Serialize)]
pub struct Tip {
    pub unit: UnitView,
}

impl App {
    /// Whether there is a dictionary to draw, and of how many units.
    pub fn map_part(&self) -> Part<u32> {
        Ok(self.dictionary(Units::Features)?.meta().n_units)
    }

    /// Looks for the map and begins to make it where there is none.
    pub fn map_state(&self) -> Page<MapState> {
        let dictionary = self.dictionary(Units::Features)?;
        let meta = dictionary.meta().clone();
        let mut state = locked(&self.map);
        if state.weights_hash != meta.weights_hash {
            *state = State { weights_hash: meta.weights_hash.clone(), step: Step::NotBegun };
        }
        if matches!(state.step, Step::NotBegun) {
            let path = self.map_path();
            match map::load(&path, &meta.weights_hash) {
                Some(map) => state.step = Step::Ready(Arc::new(map)),
                None => {
                    let alive: Vec<u32> = self.summaries(Units::Features, &dictionary)?.iter().filter(|s| s.n_active > 0).map(|s| s.id).collect();
                    let (rows, d) = self.with_model(&meta, |model| {
                        let rows: Vec<f32> = alive.iter().flat_map(|&l| model.sae.direction(l)).copied().collect();
                        Ok((rows, model.sae.d_out()))
                    })?;
                    state.step = Step::Working(Work::default());
                    let (shared, hash) = (self.map.clone(), meta.weights_hash.clone());
                    std::thread::spawn(move || make(&shared, &hash, &path, &alive, &rows, d));
                }
            }
        }
        Ok(match &state.step {
            Step::NotBegun => MapState::Working(Work::default()),
            Step::Working(work) => MapState::Working(work.clone()),
            Step::Ready(map) => MapState::Ready(map.latents.len()),
            Step::Failed(what) => MapState::Failed(what.clone()),
        })
    }

    fn map_path(&self) -> PathBuf {
        self.run.features(&self.sae).with_extension("map.safetensors")
    }

    /// Little-endian: the number n of points (u32); their latents (n u32); x, y, log10 of the density, polysemanticity (n f32 each); whether
    /// somebody labelled it (n bytes).
    pub fn map_points(&self) -> Page<Vec<u8>> {
        let dictionary = self.dictionary(Units::Features)?;
        let map = match &locked(&self.map).step {
            Step::Ready(map) => map.clone(),
            _ => return Err(Missing { what: "The map is not ready.".into(), next: "open /map, which makes it".into() }.into()),
        };
        let known = self.summaries(Units::Features, &dictionary)?;
        let labels = self.label_texts(Units::Features, dictionary.meta());
        let of = |l: u32| known.get(l as usize);
        let n = map.latents.len();
        let mut out = Vec::with_capacity(4 + 21 * n);
        out.extend((n as u32).to_le_bytes());
        map.latents.iter().for_each(|l| out.extend(l.to_le_bytes()));
        (0..2).for_each(|axis| map.xy.chunks_exact(2).for_each(|p| out.extend(p[axis].to_le_bytes())));
        map.latents.iter().for_each(|&l| out.extend(of(l).map_or(f32::NAN, |s| s.density.log10() as f32).to_le_bytes()));
        map.latents.iter().for_each(|&l| out.extend(of(l).map_or(f32::NAN, |s| s.polysemantic as f32).to_le_bytes()));
        out.extend(map.latents.iter().map(|l| u8::from(labels.contains_key(l))));
        Ok(out)
    }

    /// (latent, label), for those that have one.
    pub fn map_labels(&self) -> Page<Vec<(u32, String)>> {
        let dictionary = self.dictionary(Units::Features)?;
        let mut labels: Vec<(u32, String)> = self.label_texts(Units::Features, dictionary.meta()).into_iter().collect();
        labels.sort();
        labels.truncate(MAX_LABELS);
        Ok(labels)
    }

    /// Latents with this text in a label, their known concept or their tokens.
    pub fn map_find(&self, asked: &str) -> Page<Vec<u32>> {
        let dictionary = self.dictionary(Units::Features)?;
        let wanted: String = asked.trim().to_lowercase().chars().take(MAX_QUERY).collect();
        if wanted.is_empty() {
            return Ok(vec![]);
        }
        let known = self.summaries(Units::Features, &dictionary)?;
        let mut found: BTreeSet<u32> = BTreeSet::new();
        let labels = self.all_labels(Units::Features, dictionary.meta());
        found.extend(labels.iter().filter(|(_, text)| text.to_lowercase().contains(&wanted)).map(|(id, _)| *id));
        found.extend(known.iter().filter(|s| s.concept.as_ref().is_some_and(|c| c.name.to_lowercase().contains(&wanted))).map(|s| s.id));
        found.extend(known.tokens_with(&wanted).flat_map(|t| t.units.iter().map(|u| u.0)));
        found.extend(wanted.parse::<u32>());
        Ok(found.into_iter().take(MAX_FOUND).collect())
    }

    pub fn map_tip(&self, id: u32) -> Page<Tip> {
        let dictionary = self.dictionary(Units::Features)?;
        let labels = self.label_texts(Units::Features, dictionary.meta());
        Ok(Tip { unit: self.unit_view(Units::Features, &dictionary.summary(id)?, &labels) })
    }
}

/// Makes the map and keeps it; a folder that cannot be written to has it until the server ends.
fn make(shared: &Arc<Mutex<State>>, hash: &str, path: &std::path::Path, alive: &[u32], rows: &[f32], d: usize) {
    let mut told = Told { shared: shared.clone(), hash: hash.into() };
    let step = match map::layout(alive, rows, d, SEED, &mut told) {
        Ok(map) => {
            let _ = map::save(path, hash, &map);
            Step::Ready(Arc::new(map))
        }
        Err(e) => Step::Failed(e.to_string()),
    };
    told.set(|state| *state = step);
}

/// Progress that the page asks for.
struct Told {
    shared: Arc<Mutex<State>>,
    hash: String,
}

impl Told {
    fn set(&self, change: impl FnOnce(&mut Step)) {
        let mut state = locked(&self.shared);
        if state.weights_hash == self.hash {
            change(&mut state.step);
        }
    }
}

impl Progress for Told {
    fn begin(&mut self, what: &str, total: u64, _: &str) {
        let what = what.to_string();
        self.set(|step| *step = Step::Working(Work { what, done: 0, total }));
    }

    fn advance(&mut self, n: u64) {
        self.set(|step| {
            if let Step::Working(work) = step {
                work.done += n;
            }
        });
    }

    fn figure(&mut self, _: &str) {}
    fn note(&mut self, _: &str) {}
    fn end(&mut self) {}

    /// A dictionary of other weights took its place.
    fn interrupted(&self) -> bool {
        locked(&self.shared).weights_hash != self.hash
    }
}
