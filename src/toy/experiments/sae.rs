//! What the paper could not do: a sparse autoencoder on the hidden layer of a model in superposition finds the model's features again.
//!
//! n = 60 features in m = 20 dimensions, p = 0.02, uniform importance: ReLU(W^T W x + b) learns (nearly) all of them, three to a dimension. SAEs see only
//! h = W x, for a grid of L1 coefficients and dictionary sizes, as Sharkey et al. 2022 did with directions that nobody had learned. Score: MMCS, the mean
//! over the model's learned features of the largest cosine of W_i with a decoder direction (signed: two features on one line, opposite each other, need
//! a latent each).

use super::{Ask, Experiment, Outcome, Picture, best_of, train};
use crate::artifact::{Figure, Progress, Start, seed};
use crate::kernels::assignment::assign;
use crate::kernels::small::small_tn;
use crate::sae::{self, Place, Recipe, RowSource, Sae, SaeConfig, SparseRows, TrainConfig};
use crate::toy::data::{Draws, Inputs};
use crate::toy::draw::{Anchor, BLUE, Colour, FAINT, GREEN, GREY, HAIR, INK, ORANGE, Scene, charts};
use crate::toy::model::{Instances, Model, Schedule, Setting, Weights, normal};
use crate::toy::{Result, theory};
use serde_json::json;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

pub const SAE: Experiment = Experiment {
    name: "sae",
    about: "a sparse autoencoder on the hidden layer finds the superposed features again",
    source: "The strategic picture of superposition; Sharkey, Braun and Millidge 2022",
    run,
};

const N: usize = 60;
const M: usize = 20;
const P: f64 = 0.02;

/// Latents for each feature, in words and as a number.
const SIZES: [(&str, f64); 4] = [("0.5x", 0.5), ("1x", 1.0), ("2x", 2.0), ("4x", 4.0)];

/// Coefficients of L1 beside the squared error summed over dimensions; at 2 a feature at its largest is no longer worth its latent.
const L1: [f64; 6] = [0.01, 0.03, 0.1, 0.3, 1.0, 2.0];

/// A direction counts as a feature's from this cosine on.
const FOUND: f64 = 0.9;

/// Rows that SAEs are scored on, in chunks.
const EVAL_CHUNKS: u64 = 30;

/// How an SAE keeps its code sparse.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// ReLU and this coefficient.
    L1(f64),
    /// BatchTopK with the true mean number of active features, n p. Without AuxK: dead latents stay dead, so that one can count them.
    BatchTopK,
}

/// One SAE and what is said of it.
struct Scored {
    size: &'static str,
    kind: Kind,
    sae: Sae,
    mmcs: f64,
    /// Latents that fired on none of the rows.
    dead: usize,
    /// Living latents that are the nearest of a found feature, other ones on such a direction, and living ones on none.
    living: [usize; 3],
    l0: f64,
}

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let restarts = 2;
    let mut models = Instances::new(Model::relu_output(N, M), vec![Setting::uniform(N, P); restarts], ask.seed);
    train("model in superposition", &mut models, Schedule::falling(ask.pick(4_000, 12_000), 512, 5e-3), progress)?;
    let w = models.weights(best_of(&models, restarts, 20_000)[0].0);
    let learned: Vec<f32> = w.w_in.chunks_exact(M).filter(|f| theory::norms(f, M)[0] > theory::LEARNED).flatten().copied().collect();

    let l1: &[f64] = ask.pick(&[0.1, 0.3], &L1);
    let sizes = &SIZES[..ask.pick(3, 4)];
    let kinds: Vec<Kind> = l1.iter().map(|&l1| Kind::L1(l1)).chain([Kind::BatchTopK]).collect();
    let jobs: Vec<(&str, Kind, TrainConfig)> = sizes
        .iter()
        .flat_map(|&(word, size)| kinds.iter().map(move |&kind| Ok((word, kind, config(ask, (size * N as f64) as usize, kind)?))))
        .collect::<Result<_>>()?;
    let scratch = Scratch::new(ask.seed);
    let places: Vec<Place> = (0..jobs.len()).map(|i| scratch.place(i)).collect();
    let pairs: Vec<(&TrainConfig, &Place)> = jobs.iter().map(|(_, _, config)| config).zip(&places).collect();
    let trained = sae::train_all(&mut Hidden::new(w, P, ask.seed, "toy/sae/train"), &pairs, progress)?;
    let all: Vec<Scored> = jobs.iter().zip(trained).map(|(&(size, kind, _), t)| score(w, &learned, ask.seed, (size, kind), t.sae)).collect();

    let of = |size: &str, kind: Kind| all.iter().find(|s| s.size == size && s.kind == kind).expect("every kind is trained at every size");
    let best = |size: &str| {
        let by_l1 = all.iter().filter(|s| s.size == size && s.kind != Kind::BatchTopK);
        by_l1.max_by(|a, b| a.mmcs.total_cmp(&b.mmcs)).expect("the grid has values of L1")
    };
    let random: Vec<f32> = {
        let mut rng = seed::rng(ask.seed, "toy/sae/random", 0);
        (0..2 * N * M).map(|_| normal(&mut rng)).collect()
    };
    let telling = matched(best("2x"), w, &learned, ask.seed);
    let case = format!("n={N} m={M} p={P}");
    let figure = |of: &str, what: &str, value: f64| Figure::new(&format!("{of} {case}"), what, &[value]);
    let best_mmcs = "MMCS with the learned features, best L1";
    let dead = "dead latents as a part of all";
    let dead_part = |size: &str| of(size, Kind::BatchTopK).dead as f64 / of(size, Kind::BatchTopK).sae.b_enc.len() as f64;
    let mut figures = vec![
        figure("model", "features learned", (learned.len() / M) as f64).at_least(0.95 * N as f64),
        figure("SAE 2x", best_mmcs, best("2x").mmcs).published(1.0).within(0.95, 1.0),
        figure("SAE 1x", best_mmcs, best("1x").mmcs).at_least(0.9),
        figure("SAE 0.5x", best_mmcs, best("0.5x").mmcs).at_most(0.75),
        figure("random directions 2x", "MMCS with the learned features", mmcs(&learned, &random)).at_most(0.65),
        figure("SAE 2x", "correlation of a feature with its latent, mean", telling.correlation).at_least(0.9),
        figure("hidden layer", "correlation of a feature with its best dimension, mean", telling.of_dimensions).at_most(0.6),
        figure("BatchTopK 2x", "MMCS with the learned features", of("2x", Kind::BatchTopK).mmcs).at_least(0.95),
        figure("BatchTopK 1x", dead, dead_part("1x")).at_most(0.2),
    ];
    if !ask.quick {
        let band = all.iter().filter(|s| s.size == "2x" && s.kind != Kind::BatchTopK && s.mmcs >= 0.95).count();
        figures.push(figure("SAE 2x", "values of L1 with an MMCS of 0.95", band as f64).at_least(2.0));
        figures.push(figure("SAE 4x", best_mmcs, best("4x").mmcs).at_least(0.95));
        // Latents die late: a quick run ends before most have.
        figures.push(figure("BatchTopK 2x", dead, dead_part("2x")).at_least(0.2));
        figures.push(figure("BatchTopK 4x", dead, dead_part("4x")).at_least(0.35));
    }
    let shown: Vec<&Scored> = sizes.iter().flat_map(|(word, _)| [best(word), of(word, Kind::BatchTopK)]).collect();
    let pictures = vec![
        Picture {
            name: "grid",
            caption: format!(
                "MMCS of the SAE's decoder with the {} features that the model learned{}",
                learned.len() / M,
                ask.pick(
                    ", by latents and L1",
                    ": too little L1 finds little more than random directions do, too much kills the latents, and between them lies a band in which all \
                     features are found, if there are enough latents"
                )
            ),
            scene: grid(&all, sizes, &kinds),
        },
        Picture {
            name: "latents",
            caption: "What becomes of the latents as the dictionary grows, at the best L1 and with BatchTopK: one for each feature, then doubles and dead ones"
                .into(),
            scene: bars(&shown),
        },
        Picture {
            name: "before-and-after",
            caption: "Each feature (column) alone at its largest: what the hidden dimensions answer, the cosine of every latent's direction with every \
                      feature's, and what the latents answer; latents stand in the order of the features that they were matched with"
                .into(),
            scene: telling.scene,
        },
    ];
    let row = |s: &Scored| {
        let (name, l1) = match s.kind {
            Kind::L1(l1) => ("relu-2023", Some(l1)),
            Kind::BatchTopK => ("batch-topk", None),
        };
        let [first, doubles, others] = s.living;
        json!({ "size": s.size, "recipe": name, "l1": l1, "mmcs": s.mmcs, "l0": s.l0, "dead": s.dead, "features_found": first, "doubles": doubles, "others": others })
    };
    let data = json!({ "n": N, "m": M, "p": P, "learned": learned.len() / M, "saes": all.iter().map(row).collect::<Vec<_>>() });
    let says = format!(
        "The model keeps {} features in {M} dimensions, none of which stands for one of them; an SAE that sees nothing but these {M} numbers finds the \
         directions of {} again{}, and each latent follows its feature. With half as many latents as features no L1 helps{}. Of latents beyond the number of features some die, some double \
         a direction that is found already and some take up interference, so that counting the dead tells how many features there are only roughly.",
        learned.len() / M,
        if best("2x").mmcs >= 0.99 { "all of them" } else { "most of them" },
        ask.pick("", ", over a band of L1"),
        ask.pick("", ", and with too little or too much L1 the directions are hardly better than random ones")
    );
    Ok(Outcome { says, figures, data, pictures })
}

/// How an SAE of so many latents is trained.
fn config(ask: &Ask, d_sae: usize, kind: Kind) -> Result<TrainConfig> {
    let (rows, batch) = ask.pick((125_000, 128), (400_000, 256));
    let short = |recipe: Recipe| TrainConfig {
        snapshots: 0,
        checkpoint_every: u64::MAX,
        ..TrainConfig::short(SaeConfig::new(M, d_sae, recipe), rows, batch, ask.seed)
    };
    Ok(match kind {
        // The 2023 paper's coefficient stands beside a mean over dimensions.
        Kind::L1(l1) => {
            let recipe = Recipe::named("relu-2023", &[("l1", json!(l1 / M as f64))])?;
            TrainConfig { lr: 3e-3, lr_decay: 0.3, l1_warmup: 0.1, resample: None, ..short(recipe) }
        }
        Kind::BatchTopK => short(Recipe::named("batch-topk", &[("k", json!(N as f64 * P)), ("auxk", json!(false))])?),
    })
}

fn mmcs(features: &[f32], directions: &[f32]) -> f64 {
    let near = theory::nearest(features, directions, M);
    near.iter().map(|(_, cosine)| cosine).sum::<f64>() / near.len().max(1) as f64
}

fn score(w: Weights, learned: &[f32], seed: u64, (size, kind): (&'static str, Kind), sae: Sae) -> Scored {
    let mut rows = Hidden::new(w, P, seed, "toy/sae/eval");
    let (mut fired, mut active, mut acts) = (vec![false; sae.b_enc.len()], 0, SparseRows::default());
    for chunk in 0..EVAL_CHUNKS {
        rows.draw(chunk);
        sae.encode(&rows.rows, &mut acts);
        acts.latent.iter().for_each(|&j| fired[j as usize] = true);
        active += acts.n_active();
    }
    let mut first: Vec<usize> = theory::nearest(learned, &sae.w_dec, M).iter().filter(|(_, cosine)| *cosine > FOUND).map(|(j, _)| *j).collect();
    first.sort_unstable();
    first.dedup();
    let on_a_feature = |j: usize| theory::nearest(&sae.w_dec[j * M..(j + 1) * M], learned, M)[0].1 > FOUND;
    let mut living = [0; 3];
    for j in (0..fired.len()).filter(|&j| fired[j]) {
        living[if first.contains(&j) {
            0
        } else if on_a_feature(j) {
            1
        } else {
            2
        }] += 1;
    }
    let dead = fired.iter().filter(|fired| !**fired).count();
    Scored { size, kind, mmcs: mmcs(learned, &sae.w_dec), dead, living, l0: active as f64 / (EVAL_CHUNKS as usize * CHUNK) as f64, sae }
}

/// Latents beside the features that they were matched with.
struct Matched {
    /// Means over learned features of the correlation with the matched latent, and of the largest size of one with a hidden dimension.
    correlation: f64,
    of_dimensions: f64,
    scene: Scene,
}

fn matched(of: &Scored, w: Weights, learned: &[f32], seed: u64) -> Matched {
    let (sae, f) = (&of.sae, of.sae.b_enc.len());
    let ids: Vec<usize> = (0..N).filter(|&i| theory::norms(w.feature(i), M)[0] > theory::LEARNED).collect();
    let n = ids.len();
    let cosines: Vec<f32> = learned.chunks_exact(M).flat_map(|a| sae.w_dec.chunks_exact(M).map(move |b| theory::cosine(a, b) as f32)).collect();
    let latent = assign(&cosines, n, f);

    let mut rows = Hidden::new(w, P, seed, "toy/sae/eval");
    let (mut with_latent, mut with_dimension, mut acts) = (vec![Pairs::default(); n], vec![Pairs::default(); n * M], SparseRows::default());
    for chunk in 0..EVAL_CHUNKS {
        rows.draw(chunk);
        sae.encode(&rows.rows, &mut acts);
        let dense = acts.to_dense(f);
        for (k, &i) in ids.iter().enumerate() {
            for (r, &x) in rows.x[i * CHUNK..(i + 1) * CHUNK].iter().enumerate() {
                with_latent[k].add(x, dense[r * f + latent[k]]);
                let h = &rows.rows[r * M..(r + 1) * M];
                with_dimension[k * M..(k + 1) * M].iter_mut().zip(h).for_each(|(pairs, &h)| pairs.add(x, h));
            }
        }
    }
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n.max(1) as f64;
    let correlation = mean(&mut with_latent.iter().map(Pairs::correlation));
    let of_dimensions = mean(&mut with_dimension.chunks(M).map(|all| all.iter().map(|p| p.correlation().abs()).fold(0.0, f64::max)));

    sae.encode(learned, &mut acts);
    let dense = acts.to_dense(f);
    let answers: Vec<f64> = latent.iter().flat_map(|&j| (0..n).map(move |i| (i, j))).map(|(i, j)| dense[i * f + j] as f64).collect();
    let directions: Vec<f64> = latent.iter().flat_map(|&j| (0..n).map(move |i| (i, j))).map(|(i, j)| cosines[i * f + j] as f64).collect();
    let hidden: Vec<f64> = (0..M).flat_map(|k| learned.chunks_exact(M).map(move |w| w[k] as f64)).collect();
    let panels = [
        panel(&format!("before: {M} hidden dimensions (rows)"), &hidden, n),
        panel("directions of the latents, cosines", &directions, n),
        panel("after: what the latents answer", &answers, n),
    ];
    Matched {
        correlation,
        of_dimensions,
        scene: Scene::side_by_side(&format!("{n} features in {M} dimensions, and an SAE of {f} latents"), &panels, 3),
    }
}

/// A square of cells (rows, n) with values from -1 to 1.
fn panel(title: &str, values: &[f64], n: usize) -> Scene {
    let (side, top) = (260.0, 22.0);
    let (wide, tall) = (side / n as f64, side * n as f64 / values.len() as f64);
    let mut scene = Scene::new(side + 4.0, top + side + 6.0);
    scene.text(0.0, 13.0, title, 12.0, Anchor::Start, INK);
    for (at, &v) in values.iter().enumerate().filter(|(_, v)| v.abs() > 0.02) {
        scene.rect((at % n) as f64 * wide, top + (at / n) as f64 * tall, wide * 0.98, tall * 0.98, Colour::signed(v.clamp(-1.0, 1.0)));
    }
    scene.line(&[(0.0, top), (side, top), (side, top + side), (0.0, top + side), (0.0, top)], 1.0, HAIR);
    scene
}

/// Sums for a correlation.
#[derive(Debug, Clone, Copy, Default)]
struct Pairs {
    n: f64,
    a: f64,
    b: f64,
    aa: f64,
    ab: f64,
    bb: f64,
}

impl Pairs {
    fn add(&mut self, a: f32, b: f32) {
        let (a, b) = (a as f64, b as f64);
        *self = Pairs { n: self.n + 1.0, a: self.a + a, b: self.b + b, aa: self.aa + a * a, ab: self.ab + a * b, bb: self.bb + b * b };
    }

    /// 0 where one side does not vary.
    fn correlation(&self) -> f64 {
        let cross = self.n * self.ab - self.a * self.b;
        let spread = (self.n * self.aa - self.a * self.a) * (self.n * self.bb - self.b * self.b);
        if spread > 0.0 { cross / spread.sqrt() } else { 0.0 }
    }
}

/// A cell with its MMCS for each kind and size.
fn grid(all: &[Scored], sizes: &[(&str, f64)], kinds: &[Kind]) -> Scene {
    const WIDE: f64 = 84.0;
    const TALL: f64 = 34.0;
    let (left, top) = (104.0, 62.0);
    let mut scene = Scene::new(left + WIDE * sizes.len() as f64 + 16.0, top + TALL * kinds.len() as f64 + 28.0);
    scene.text(12.0, 22.0, "Features recovered: mean max cosine similarity", 14.0, Anchor::Start, INK);
    scene.text(left - 10.0, top - 7.0, "latents", 11.0, Anchor::End, FAINT);
    for (k, (word, size)) in sizes.iter().enumerate() {
        let x = left + (k as f64 + 0.5) * WIDE;
        scene.text(x, top - 20.0, word, 12.0, Anchor::Middle, INK);
        scene.text(x, top - 7.0, &format!("{}", (size * N as f64) as usize), 11.0, Anchor::Middle, FAINT);
    }
    for (row, kind) in kinds.iter().enumerate() {
        // A step between the grid of L1 and what is not one.
        let y = top + row as f64 * TALL + if *kind == Kind::BatchTopK { 10.0 } else { 0.0 };
        let name = match kind {
            Kind::L1(l1) => format!("L1 {}", charts::short(*l1)),
            Kind::BatchTopK => "BatchTopK".into(),
        };
        scene.text(left - 10.0, y + TALL / 2.0 + 4.0, &name, 12.0, Anchor::End, INK);
        for (k, (word, _)) in sizes.iter().enumerate() {
            let Some(scored) = all.iter().find(|s| s.size == *word && s.kind == *kind) else { continue };
            let x = left + k as f64 * WIDE;
            // 0.5 is what random directions reach.
            scene.rect(x, y, WIDE - 2.0, TALL - 2.0, ORANGE.alpha(0.04 + 0.8 * ((scored.mmcs - 0.5) / 0.5).clamp(0.0, 1.0)));
            scene.text(x + WIDE / 2.0 - 1.0, y + TALL / 2.0 + 4.0, &format!("{:.3}", scored.mmcs), 12.0, Anchor::Middle, INK);
        }
    }
    scene
}

/// A bar for each SAE: its latents by what became of them.
fn bars(shown: &[&Scored]) -> Scene {
    const PARTS: [&str; 4] = ["a feature's own", "doubles", "alive on no feature", "dead"];
    let colours = [ORANGE, BLUE, GREEN, GREY.alpha(0.35)];
    let most = shown.iter().map(|s| s.sae.b_enc.len()).max().unwrap_or(1) as f64;
    let (left, top, tall, wide) = (150.0, 64.0, 18.0, 470.0);
    let step = |i: usize| top + (i / 2) as f64 * (2.0 * tall + 22.0) + (i % 2) as f64 * (tall + 4.0);
    let bottom = step(shown.len());
    let mut scene = Scene::new(left + wide + 40.0, bottom + 18.0);
    scene.text(12.0, 22.0, "What becomes of the latents", 14.0, Anchor::Start, INK);
    scene.place(&charts::key(&PARTS.into_iter().zip(colours).collect::<Vec<_>>()), 12.0, 30.0);
    let unit = wide / most;
    for (i, scored) in shown.iter().enumerate() {
        let y = step(i);
        let name = match scored.kind {
            Kind::L1(l1) => format!("{}  L1 {}", scored.size, charts::short(l1)),
            Kind::BatchTopK => "BatchTopK".into(),
        };
        scene.text(left - 10.0, y + 13.0, &name, 12.0, Anchor::End, INK);
        let mut x = left;
        let [first, doubles, others] = scored.living;
        for (count, colour) in [first, doubles, others, scored.dead].into_iter().zip(colours) {
            scene.rect(x, y, count as f64 * unit, tall, colour);
            x += count as f64 * unit;
        }
        scene.text(x + 6.0, y + 13.0, &scored.sae.b_enc.len().to_string(), 11.0, Anchor::Start, FAINT);
    }
    let at = left + N as f64 * unit;
    scene.line(&[(at, top - 6.0), (at, bottom - 14.0)], 1.5, INK);
    scene.text(at, bottom + 2.0, &format!("{N} features"), 11.0, Anchor::Middle, INK);
    scene
}

/// Rows of a model's hidden layer, h = W x of fresh samples: a function of (seed, stream, position).
struct Hidden<'a> {
    w: Weights<'a>,
    p: Vec<f32>,
    seed: u64,
    stream: &'static str,
    position: u64,
    /// The chunk that is in `x` (n, CHUNK) and `rows` (CHUNK, m).
    drawn: Option<u64>,
    x: Vec<f32>,
    rows: Vec<f32>,
}

/// Rows that are drawn at once.
const CHUNK: usize = 1024;

impl<'a> Hidden<'a> {
    fn new(w: Weights<'a>, p: f64, seed: u64, stream: &'static str) -> Self {
        Hidden { w, p: vec![p as f32; w.n], seed, stream, position: 0, drawn: None, x: vec![0.0; w.n * CHUNK], rows: vec![0.0; w.m * CHUNK] }
    }

    fn draw(&mut self, chunk: u64) {
        if self.drawn == Some(chunk) {
            return;
        }
        let Weights { n, m, w_in, .. } = self.w;
        Inputs::INDEPENDENT.fill(&mut Draws::new(self.seed, self.stream, chunk), &self.p, &mut self.x);
        let mut h = vec![0.0; m * CHUNK];
        small_tn(m, CHUNK, n, w_in, &self.x, &mut h);
        for (r, row) in self.rows.chunks_exact_mut(m).enumerate() {
            row.iter_mut().enumerate().for_each(|(k, v)| *v = h[k * CHUNK + r]);
        }
        self.drawn = Some(chunk);
    }
}

impl RowSource for Hidden<'_> {
    fn width(&self) -> usize {
        self.w.m
    }

    fn next_rows(&mut self, out: &mut [f32]) -> io::Result<usize> {
        let m = self.w.m;
        for out in out.chunks_exact_mut(m) {
            self.draw(self.position / CHUNK as u64);
            let r = (self.position % CHUNK as u64) as usize;
            out.copy_from_slice(&self.rows[r * m..(r + 1) * m]);
            self.position += 1;
        }
        Ok(out.len() / m)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn seek(&mut self, position: u64) -> io::Result<()> {
        self.position = position;
        Ok(())
    }
}

/// A folder for what training writes on its way; it goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(seed: u64) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("monosem-toy-{}-{seed}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Scratch(std::env::temp_dir().join(name))
    }

    fn place(&self, i: usize) -> Place {
        let out = self.0.join(i.to_string());
        Place { checkpoints: out.join("checkpoints"), out, start: Start::Replace, ..Place::default() }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind lies in the system's own temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
