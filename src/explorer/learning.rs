//! An SAE at a chosen moment of its training: which of its features fire on a text then, and how far their directions have come. Reads the
//! snapshots of `sae::history` and the finished SAE, while the training still runs too.
//!
//! The newest is the finished SAE or, before there is one, the last snapshot. A dictionary names the features and measures their activations
//! only where it was made from that finished SAE. A latent then is the newest one of its number; where latents are sorted on the way, the one whose
//! direction is nearest.

use super::app::{App, Page, Problem, locked};
use super::fires::{Fires, Ranked, Scale};
use super::live::{self, LiveToken};
use super::summaries::Summaries;
use super::text;
use super::view::{self, UnitView, Units, percent, significant};
use crate::artifact::{Manifest, grouped, settings};
use crate::features::Dictionary;
use crate::kernels::gemm::matmul_nt;
use crate::labels::Labels;
use crate::lm::{HookPoint, Lm, Reader};
use crate::pipeline::{saes, train_command};
use crate::sae::history::{self, Moment};
use crate::sae::{SAE_FORMAT_VERSION, Sae, SparseRows, TrainConfig};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Directions at least so near to the newest count as learnt.
const LEARNT: f32 = 0.9;
/// Features that a table shows; curves stand beneath it.
const N_SHOWN: usize = 20;
/// Cosines held at once: 64 MiB.
const BLOCK_ELEMENTS: usize = 1 << 24;
/// Tokens of the corpus that the text field begins with.
const N_FIRST: u64 = 24;

/// The way of one SAE: its snapshots, oldest first, and the finished SAE where there is one.
#[derive(Debug, Clone, Serialize)]
pub struct Learning {
    pub sae: String,
    pub points: Vec<Point>,
}

/// One position of the slider; figures of the batch of that step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    pub step: u64,
    pub rows: u64,
    /// In words: `step 61 of 976, 6.2 %`.
    pub when: String,
    pub finished: bool,
    pub loss: Option<f64>,
    pub fvu: f64,
    pub l0: f64,
    pub dead_frac: f64,
    /// Rows without a firing after which a latent counts as dead.
    pub dead_window_rows: Option<u64>,
}

/// Which SAE, which of its points (none: the newest), which text (none: a few words of the corpus).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    pub sae: String,
    pub at: Option<usize>,
    pub text: Option<String>,
}

/// What fires at a point.
#[derive(Debug, Serialize)]
pub struct Then {
    pub sae: String,
    pub at: usize,
    pub point: Point,
    /// Share of latents whose direction is within cosine 0.9 of what it becomes.
    pub learnt: f64,
    /// Both in words.
    pub figures: String,
    pub learnt_text: String,
    pub warning: String,
    pub caption: String,
    pub tokens: Vec<LiveToken>,
    pub firing: Vec<FiringThen>,
    #[serde(skip)]
    pub rtl: bool,
}

/// A feature that fires on the text at that point.
#[derive(Debug, Serialize)]
pub struct FiringThen {
    /// Its number then.
    pub latent: u32,
    /// The newest latent that it becomes.
    pub becomes: u32,
    /// That one as the dictionary has it.
    pub unit: Option<UnitView>,
    /// Its page; empty where the server shows another SAE.
    #[serde(skip)]
    pub href: String,
    /// The token on which it is strongest.
    pub token: String,
    pub act: f32,
    /// act over the maximum in the dictionary of what it becomes; without one, over the largest activation on this text.
    pub share: f32,
    /// (token, act) wherever it fires.
    pub at: Vec<(usize, f32)>,
    #[serde(skip)]
    max: f32,
    /// Of its decoder direction with that of what it becomes.
    pub cosine: f32,
}

impl FiringThen {
    pub fn share_text(&self) -> String {
        format!("{:.0} %", 100.0 * self.share)
    }

    pub fn shades(&self) -> String {
        view::shades(&self.at, self.max)
    }

    pub fn cosine_text(&self) -> String {
        format!("{:.2}", self.cosine)
    }

    /// How much of a bar the cosine fills.
    pub fn come(&self) -> f32 {
        self.cosine.max(0.0)
    }
}

/// What is kept between questions: one SAE of one point, and the model that reads the text.
#[derive(Default)]
pub struct Kept {
    reading: Option<Reading>,
    then: Option<Loaded>,
}

struct Reading {
    /// Hash of the model's manifest.
    lm_hash: String,
    hook: HookPoint,
    lm: Lm,
    reader: Reader,
}

struct Loaded {
    key: Key,
    sae: Sae,
    /// Per latent: which of the newest it becomes.
    becomes: Vec<u32>,
    /// Per latent, of its direction with that one's.
    cosines: Vec<f32>,
}

/// Name, training, point and newest point (each its step and whether it is the finished SAE).
type Key = (String, String, (u64, bool), (u64, bool));

/// What a training left behind of one SAE.
struct Way {
    learning: Learning,
    /// Where its snapshots lie.
    dir: PathBuf,
    hook: String,
    /// Settings and inputs of the training.
    run: String,
    /// Whether it puts its latents in another order now and then.
    sorts: bool,
    /// Hash of the finished SAE's manifest.
    finished: Option<String>,
}

/// What is known of features from elsewhere.
#[derive(Default)]
struct Known {
    /// Of the SAE that the server shows.
    summaries: Option<Arc<Summaries>>,
    n_tokens: u64,
    /// Of another one.
    other: Option<Dictionary>,
    labels: HashMap<u32, String>,
}

impl App {
    /// Every SAE of the run that has snapshots.
    pub fn learning(&self) -> Vec<Learning> {
        self.saes().into_iter().filter_map(|sae| Some(self.way(&sae)?.learning)).collect()
    }

    /// The first words of the corpus.
    pub fn first_words(&self) -> String {
        let mut ids = vec![0; self.stream.len().min(N_FIRST) as usize];
        self.stream.read(0, &mut ids);
        let end = ids.iter().position(|&id| id == self.stream.end_of_text()).unwrap_or(ids.len());
        let bytes = self.tokenizer.decode_bytes(&ids[..end]);
        String::from_utf8_lossy(&bytes).trim_end_matches('\u{fffd}').trim().to_string()
    }

    fn way(&self, sae: &str) -> Option<Way> {
        let dir = history::folder(&self.run, sae);
        let moments = history::list(&dir);
        let last = moments.last()?;
        let (hook, run) = (last.hook.clone(), last.run.clone());
        let mut points: Vec<Point> = moments.iter().map(point).collect();
        // The same training gives the same SAE; a finished one of another training, or of the same that is made anew, is no part of this way.
        let of_this = |m: &Manifest| dir == self.run.sae(sae) && settings::other_identity(&run, &settings::identity(&m.config, &m.inputs)).is_none();
        let manifest = Manifest::read(&self.run.sae(sae), "sae", SAE_FORMAT_VERSION).ok().filter(of_this);
        points.extend(manifest.as_ref().map(finished));
        let sorts = sorts(&run);
        Some(Way { learning: Learning { sae: sae.into(), points }, dir, hook, run, sorts, finished: manifest.map(|m| m.hash()) })
    }

    /// What fires on the text at the point that is asked for.
    pub fn then(&self, ask: &Ask) -> Page<Then> {
        let typed = ask.text.clone().unwrap_or_else(|| self.first_words());
        if typed.chars().count() > live::MAX_CHARS {
            return Err(Problem::bad(&format!("A text has at most {} characters here.", live::MAX_CHARS)));
        }
        // The name is looked for among those of the folder; none of an address is a path.
        let name = saes(&self.run).into_iter().find(|name| *name == ask.sae);
        let way = name.and_then(|name| self.way(&name)).ok_or_else(|| Problem::not_found("There is no SAE of this name that keeps snapshots."))?;
        let points = &way.learning.points;
        let at = ask.at.unwrap_or(points.len() - 1);
        let there = points.get(at).ok_or_else(|| Problem::bad(&format!("There are {} points, from 0; {at} is none of them.", points.len())))?;
        let known = self.known(&way)?;
        let mut ids = vec![self.tokenizer.end_of_text()];
        ids.extend(self.tokenizer.encode(&typed));
        let mut kept = locked(&self.learning);
        let Kept { reading, then } = &mut *kept;
        let then = self.loaded(then, &way, at)?;
        let reading = self.reading(reading, &way, then.sae.d_in)?;
        reading.reader.read(&reading.lm, &ids);
        let mut acts = SparseRows::default();
        then.sae.encode(reading.reader.rows(), &mut acts);
        let n_ctx = reading.lm.config.n_ctx;

        let of_text = acts.act[acts.row_start[1]..].iter().copied().fold(0.0, f32::max);
        let becomes = |latent: u32| then.becomes[latent as usize];
        let scale = |latent: u32| match &known.summaries {
            Some(all) => all.get(becomes(latent) as usize).map(|s| Scale { max: s.max_act, density: s.density }),
            None => Some(Scale { max: of_text, density: 0.0 }),
        };
        let fires = Fires::new(&ids, &acts, n_ctx, self.tokenizer.end_of_text(), &scale);
        let bytes: Vec<(u32, &[u8])> = ids[1..].iter().map(|&id| (id, self.tokenizer.bytes(id))).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(|(_, b)| *b).collect();
        let ranked = fires.ranked(None, &scale, known.n_tokens);
        let n_firing = ranked.len();
        let firing = |Ranked { latent, place, act, share }: Ranked| {
            let unit = known.unit(becomes(latent));
            let href = unit.as_ref().filter(|_| known.summaries.is_some()).map(UnitView::href).unwrap_or_default();
            let max = scale(latent).map_or(act, |s| s.max);
            let (token, at) = (text::plain(slices[place]), fires.places[&latent].clone());
            FiringThen { latent, becomes: becomes(latent), unit, href, token, act, share, at, max, cosine: then.cosines[latent as usize] }
        };
        let firing: Vec<FiringThen> = ranked.into_iter().take(N_SHOWN).map(firing).collect();
        let mut caption: String = match (bytes.len(), &known.summaries) {
            (0, _) => "Nothing typed yet.".into(),
            (n, Some(_)) => format!(
                "{n_firing} features fire on these {n} tokens at this step; the {} that are strongest for themselves and rarest come first. Names and maxima are those of the finished SAE's dictionary.",
                firing.len()
            ),
            (n, None) => format!(
                "{n_firing} features fire on these {n} tokens at this step; the {} strongest come first, and a token is as orange as its strongest.",
                firing.len()
            ),
        };
        if way.sorts && at + 1 < points.len() {
            caption += " Latents are sorted while this SAE trains: each of then stands here as the newest one whose direction is nearest to its own.";
        }
        let token = |(token, n_features)| LiveToken { token, n_features, here: false };
        let tokens = view::tokens(&bytes, &fires.strongest, 1.0).into_iter().zip(fires.n_features).map(token).collect();
        let n_learnt = then.cosines.iter().filter(|&&c| c >= LEARNT).count();
        let learnt = n_learnt as f64 / then.cosines.len().max(1) as f64;
        Ok(Then {
            sae: way.learning.sae.clone(),
            at,
            point: there.clone(),
            learnt,
            figures: figures(there),
            learnt_text: format!("{} of {} directions are within cosine {LEARNT} of the newest", percent(learnt), grouped(then.cosines.len() as u64)),
            warning: live::warning(ids.len(), n_ctx),
            caption,
            tokens,
            firing,
            rtl: text::is_right_to_left(&slices),
        })
    }

    /// The SAE of a point, read when it is first asked for, with what becomes of its latents. One is kept.
    fn loaded<'a>(&self, kept: &'a mut Option<Loaded>, way: &Way, at: usize) -> Page<&'a Loaded> {
        let Learning { sae: name, points } = &way.learning;
        let (there, newest) = (&points[at], &points[points.len() - 1]);
        let key = (name.clone(), way.run.clone(), (there.step, there.finished), (newest.step, newest.finished));
        if kept.as_ref().is_none_or(|loaded| loaded.key != key) {
            *kept = None;
            let load = |point: &Point| {
                let sae = if point.finished { Sae::load_any(&self.run.sae(name)) } else { history::load(&way.dir, point.step) };
                sae.map_err(|e| Problem::new(500, "The SAE of this step cannot be read", &e))
            };
            let sae = load(there)?;
            let (becomes, cosines) =
                if at + 1 == points.len() { (numbers(&sae), vec![1.0; sae.d_sae]) } else { matched(&sae, &load(newest)?, way.sorts)? };
            *kept = Some(Loaded { key, sae, becomes, cosines });
        }
        Ok(kept.as_ref().expect("it was loaded above"))
    }

    /// The model that the SAE is trained on, read when it is first asked for.
    fn reading<'a>(&self, kept: &'a mut Option<Reading>, way: &Way, d_in: usize) -> Page<&'a mut Reading> {
        let failed = |e: &dyn std::fmt::Display| Problem::new(500, "The model cannot be loaded", e);
        let hook: HookPoint = way.hook.parse().map_err(|e: String| failed(&e))?;
        let manifest = crate::artifact::read_json::<Manifest>(&self.run.lm().join("manifest.json"));
        let lm_hash = manifest.map(|m| m.hash()).unwrap_or_default();
        let made_from = serde_json::from_str::<serde_json::Value>(&way.run).unwrap_or_default();
        if let Some(of_then) = made_from["inputs"]["lm"].as_str().filter(|of_then| !lm_hash.is_empty() && *of_then != lm_hash) {
            let what = format!("The SAE was trained on the model {of_then}, but it is now {lm_hash}.");
            return Err(Problem { status: 409, title: "The model was replaced", message: what, next: train_command(&self.run, &way.learning.sae) });
        }
        if kept.as_ref().is_none_or(|reading| (&reading.lm_hash, reading.hook) != (&lm_hash, hook)) {
            *kept = None;
            let lm = Lm::load(&self.run.lm()).map_err(|e| failed(&e))?;
            if hook.layer >= lm.config.n_layers || hook.d_in(&lm.config) != d_in || lm.config.d_vocab != self.stream.d_vocab() {
                return Err(failed(&format!("the SAE reads {d_in} numbers at {hook}, which are not those of this model and text")));
            }
            let reader = Reader::new(&lm.config, hook);
            *kept = Some(Reading { lm_hash, hook, lm, reader });
        }
        Ok(kept.as_mut().expect("it was loaded above"))
    }

    /// What the dictionary of the finished SAE knows, if it is this way's.
    fn known(&self, way: &Way) -> Page<Known> {
        let Some(hash) = &way.finished else { return Ok(Known::default()) };
        let name = &way.learning.sae;
        let of_this = |d: &Dictionary| d.meta().sae_hash.as_ref().is_none_or(|made_from| made_from == hash);
        if *name == self.sae {
            let Some(dictionary) = self.dictionary(Units::Features).ok().filter(|d| of_this(d)) else { return Ok(Known::default()) };
            let labels = self.label_texts(Units::Features, dictionary.meta());
            let summaries = Some(self.summaries(Units::Features, &dictionary)?);
            return Ok(Known { summaries, n_tokens: dictionary.meta().n_tokens, labels, other: None });
        }
        let Some(other) = Dictionary::open(&self.run.features(name)).ok().filter(of_this) else { return Ok(Known::default()) };
        let labels = Labels::open_to_read(&self.run.labels(name)).ok().flatten();
        let labels = labels.and_then(|l| l.list(&other.meta().weights_hash, None).ok()).unwrap_or_default();
        Ok(Known { labels: labels.into_iter().map(|l| (l.latent, l.text)).collect(), other: Some(other), ..Known::default() })
    }
}

impl Known {
    fn unit(&self, latent: u32) -> Option<UnitView> {
        let label = self.labels.get(&latent).cloned();
        match (&self.summaries, &self.other) {
            (Some(all), _) => Some(UnitView::new(Units::Features, all.get(latent as usize)?, label)),
            (None, Some(other)) => Some(UnitView::new(Units::Features, &other.summary(latent).ok()?, label)),
            (None, None) => None,
        }
    }
}

fn point(m: &Moment) -> Point {
    let when = format!("step {} of {}, {}", grouped(m.step), grouped(m.steps), percent(m.step as f64 / m.steps.max(1) as f64));
    let run = serde_json::from_str::<serde_json::Value>(&m.run).unwrap_or_default();
    let dead_window_rows = window(&run["config"]);
    Point { step: m.step, rows: m.rows, when, finished: false, loss: Some(m.loss), fvu: m.fvu, l0: m.l0, dead_frac: m.dead_frac, dead_window_rows }
}

fn finished(m: &Manifest) -> Point {
    let figure = |name: &str| m.details[name].as_f64().unwrap_or(f64::NAN);
    let count = |name: &str| m.counts.get(name).copied().unwrap_or(0);
    let (step, rows) = (count("steps"), count("rows"));
    let when = format!("finished, {} steps", grouped(step));
    Point {
        step,
        rows,
        when,
        finished: true,
        loss: None,
        fvu: figure("fvu"),
        l0: figure("l0"),
        dead_frac: figure("dead_frac"),
        dead_window_rows: window(&m.config),
    }
}

/// Of the settings of a training.
fn window(train: &serde_json::Value) -> Option<u64> {
    train["dead_window_rows"].as_u64()
}

/// The line of figures.
fn figures(point: &Point) -> String {
    let loss = point.loss.map(|loss| format!("loss {}, ", significant(loss))).unwrap_or_default();
    let Point { rows, fvu, l0, dead_frac, dead_window_rows, .. } = point;
    let window = dead_window_rows.map(|window| format!(" (silent for {} rows)", grouped(window))).unwrap_or_default();
    format!("{} rows: {loss}fvu {}, l0 {}, {} dead{window}", grouped(*rows), significant(*fvu), significant(*l0), percent(*dead_frac))
}

/// Whether a training of these settings and inputs puts its latents in another order now and then: a number is another latent's before.
fn sorts(run: &str) -> bool {
    let run = serde_json::from_str::<serde_json::Value>(run).unwrap_or_default();
    serde_json::from_value::<TrainConfig>(run["config"].clone()).is_ok_and(|config| config.sae.recipe.sort_every().is_some())
}

/// Which of the newest each latent becomes, and the cosine of both directions, 0 where either is nothing.
fn matched(then: &Sae, newest: &Sae, sorted: bool) -> Page<(Vec<u32>, Vec<f32>)> {
    if (then.d_in, then.d_sae) != (newest.d_in, newest.d_sae) {
        let what = format!("It is {} x {}, the newest {} x {}.", then.d_sae, then.d_in, newest.d_sae, newest.d_in);
        return Err(Problem::new(500, "The SAE of this step cannot be compared", &what));
    }
    Ok(if sorted { nearest(then, newest) } else { (numbers(then), cosines(then, newest)) })
}

fn numbers(sae: &Sae) -> Vec<u32> {
    (0..sae.d_sae as u32).collect()
}

/// The newest latent of the largest cosine, of equal ones the first. A block of rows meets all of the newest: of F x F cosines no more are held.
fn nearest(then: &Sae, newest: &Sae) -> (Vec<u32>, Vec<f32>) {
    let (d, f) = (then.d_out(), then.d_sae);
    let (of_then, of_newest) = (directions(then), directions(newest));
    let block = (BLOCK_ELEMENTS / f.max(1)).max(1);
    let mut cosines = vec![0.0; block.min(f) * f];
    let mut found: Vec<(u32, f32)> = Vec::with_capacity(f);
    for rows in of_then.chunks(block * d) {
        let n = rows.len() / d;
        let cosines = &mut cosines[..n * f];
        matmul_nt(n, f, d, rows, &of_newest, cosines, false);
        found.par_extend(cosines.par_chunks(f).map(|row| {
            let best = (1..f).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            (best as u32, row[best].clamp(-1.0, 1.0))
        }));
    }
    found.into_iter().unzip()
}

/// Decoder directions of length 1, (F, D); one that is nothing stays nothing.
fn directions(sae: &Sae) -> Vec<f32> {
    let mut rows = sae.w_dec.clone();
    for row in rows.chunks_exact_mut(sae.d_out()) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        if norm > 0.0 {
            row.iter_mut().for_each(|x| *x /= norm);
        }
    }
    rows
}

/// Of each latent's direction then with that of its number.
fn cosines(then: &Sae, newest: &Sae) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let cosine = |(a, b): (&[f32], &[f32])| {
        let norms = (dot(a, a) * dot(b, b)).sqrt();
        if norms > 0.0 { (dot(a, b) / norms).clamp(-1.0, 1.0) } else { 0.0 }
    };
    then.w_dec.chunks_exact(then.d_out()).zip(newest.w_dec.chunks_exact(then.d_out())).map(cosine).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::{Matryoshka, Recipe, SaeConfig, Select};

    fn sae(d_in: usize, w_dec: Vec<f32>) -> Sae {
        let d_sae = w_dec.len() / d_in;
        Sae {
            d_in,
            d_sae,
            select: Select::Relu,
            w_enc: w_dec.clone(),
            b_enc: vec![0.0; d_sae],
            w_dec,
            b_dec: vec![0.0; d_in],
            apply_b_dec_to_input: true,
            transcoder: None,
        }
    }

    #[test]
    fn cosines_see_turns_and_not_lengths_and_other_sizes_are_refused() {
        let then = sae(2, vec![1.0, 0.0, 0.0, 3.0, 0.0, 0.0, -1.0, 0.0]);
        let newest = sae(2, vec![2.0, 0.0, 3.0, 3.0, 1.0, 0.0, 1.0, 0.0]);
        let (becomes, found) = matched(&then, &newest, false).unwrap();
        assert_eq!(becomes, [0, 1, 2, 3]);
        let expected = [1.0, 0.5f32.sqrt(), 0.0, -1.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        assert!(matched(&then, &sae(4, vec![0.0; 16]), true).unwrap_err().message.contains("4 x 2"));
    }

    #[test]
    fn latents_that_were_sorted_on_the_way_are_found_again_by_their_directions() {
        // No two within cosine 0.9 of each other; lengths do not matter.
        let rows: [[f32; 3]; 5] = [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0], [1.0, 1.0, 1.0], [-1.0, 0.5, 0.0]];
        let order = [3, 0, 4, 2, 1];
        let (then, newest) = (sae(3, order.map(|j| rows[j].map(|x| 0.7 * x)).concat()), sae(3, rows.concat()));
        let (becomes, cosines) = matched(&then, &newest, true).unwrap();
        assert_eq!(becomes, order.map(|j| j as u32));
        assert!(cosines.iter().all(|&c| c > 0.999_999), "all is learnt: {cosines:?}");
        let (_, by_number) = matched(&then, &newest, false).unwrap();
        assert!(by_number.iter().all(|&c| c < LEARNT), "{by_number:?}");
    }

    #[test]
    fn a_training_says_whether_it_sorts_its_latents() {
        let of = |recipe: Recipe| {
            let config = TrainConfig::short(SaeConfig::new(4, 8, recipe), 640, 64, 0);
            sorts(&settings::identity(&serde_json::to_value(config).unwrap(), &Default::default()))
        };
        let matryoshka = |sort_every| of(Matryoshka { k: 2.0, prefixes: vec![4], sort_every, ..Default::default() }.into());
        assert_eq!((matryoshka(Some(2)), matryoshka(None), of(Recipe::topk(2, false))), (true, false, false));
        assert!(!sorts("{}") && !sorts(""), "of another program's settings nothing is known");
    }

    #[test]
    fn a_point_is_told_in_words() {
        let m = Moment {
            step: 61,
            steps: 976,
            rows: 124_928,
            loss: 12.345,
            fvu: 0.25,
            l0: 32.0,
            dead_frac: 0.0,
            hook: "h".into(),
            hook_out: None,
            run: "{}".into(),
        };
        let known = point(&m);
        assert_eq!(known.when, "step 61 of 976, 6.2 %");
        assert_eq!(figures(&known), "124,928 rows: loss 12.3, fvu 0.250, l0 32.0, 0 % dead");
        let point = point(&Moment { run: r#"{"config": {"dead_window_rows": 200000}}"#.into(), ..m });
        assert!(figures(&point).ends_with("0 % dead (silent for 200,000 rows)"), "{}", figures(&point));
    }
}
