//! Learning dynamics: dimensionalities of single features jump between levels while the loss falls in steps, and six features in two correlated sets pass
//! through a flat, principal-component-like stage before they become an octahedron.

use super::{Ask, Experiment, Outcome, Picture};
use crate::artifact::{Figure, Progress};
use crate::toy::data::{Inputs, Together};
use crate::toy::draw::charts::{Axis, Chart};
use crate::toy::draw::{Anchor, BLUE, Colour, FAINT, ORANGE, Scene};
use crate::toy::model::{Instances, Model, Schedule, Setting, Weights};
use crate::toy::theory::{self, cosine};
use crate::toy::{Error, Result};
use serde_json::json;

pub const DYNAMICS: Experiment = Experiment {
    name: "dynamics",
    about: "jumps between energy levels while features are learned, and the stages of an octahedron",
    source: "Superposition and learning dynamics",
    run,
};

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let (mut figures, mut pictures) = (Vec::new(), Vec::new());
    let jumps = jumps(ask, progress)?;
    figures.extend(jumps.figures);
    pictures.extend(jumps.pictures);
    let stages = octahedra(ask, progress)?;
    figures.extend(stages.figures);
    pictures.extend(stages.pictures);
    let says = "Features do not grow into their place evenly: their shares of the dimensions stay on levels and jump between them, and the loss bends where they do. Six features in two \
                correlated sets first lie flat, like principal components, and then open into an octahedron whose opposite corners belong to different sets. \
                Smooth curves of large models may be many such steps laid over each other."
        .into();
    Ok(Outcome { says, figures, data: json!({ "jumps": jumps.data, "octahedra": stages.data }), pictures })
}

struct Part {
    figures: Vec<Figure>,
    pictures: Vec<Picture>,
    data: serde_json::Value,
}

/// What is seen of one instance at one time.
struct Seen {
    step: u64,
    loss: f64,
    dimensionality: Vec<f64>,
}

/// Trains one part of `every` steps after the other and looks at every instance between them.
fn watched(what: &str, all: &mut Instances, schedule: Schedule, every: u64, rows: usize, progress: &mut dyn Progress) -> Result<Vec<Vec<Seen>>> {
    progress.begin(what, schedule.steps, "steps");
    let mut seen: Vec<Vec<Seen>> = (0..all.len()).map(|_| Vec::new()).collect();
    loop {
        for (i, (seen, loss)) in seen.iter_mut().zip(all.losses(rows)).enumerate() {
            let w = all.weights(i);
            seen.push(Seen { step: all.step(), loss, dimensionality: theory::dimensionality(w.w_in, w.m) });
        }
        if all.step() >= schedule.steps {
            break;
        }
        all.train_for(schedule, every.min(schedule.steps - all.step()));
        progress.advance(every);
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
    }
    progress.end();
    Ok(seen)
}

/// Runs of [`jumps`].
const RUNS: usize = 8;
/// Bends of a loss curve that count.
const BENDS: usize = 5;

/// A run's largest jump, and where its loss curve bends most.
struct Jump {
    /// Steps of the look around which a feature's dimensionality moves most.
    step: u64,
    /// How much it moves from two looks before to two looks after.
    size: f64,
    bends: Vec<u64>,
    /// Share of all looks within a hundredth of the run of a bend: what chance would give.
    covered: f64,
}

impl Jump {
    /// Looks at the run after its first fiftieth, the way out of the random start, where everything moves. The loss is a logarithm, for a late step is as
    /// deep a bend as an early one, and smoothed over two looks each way, for weights tremble at a constant rate. Bends are the [`BENDS`] highest peaks of
    /// its curvature.
    fn of(seen: &[Seen]) -> Self {
        const SMOOTH: usize = 2;
        let inside = seen.len() / 50 + 2 * SMOOTH..seen.len() - 3 * SMOOTH;
        let size = |i: usize| {
            let (after, before) = (&seen[i + SMOOTH].dimensionality, &seen[i - SMOOTH].dimensionality);
            after.iter().zip(before).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        let jump = inside.clone().max_by(|&a, &b| size(a).total_cmp(&size(b))).expect("there is more than one look");
        let smooth = |i: usize| (i - SMOOTH..=i + SMOOTH).map(|j| seen[j].loss.ln()).sum::<f64>();
        let curvature: Vec<f64> = inside.clone().map(|i| (smooth(i + SMOOTH) - 2.0 * smooth(i) + smooth(i - SMOOTH)).abs()).collect();
        let mut by_height: Vec<usize> = (0..curvature.len()).collect();
        by_height.sort_by(|&a, &b| curvature[b].total_cmp(&curvature[a]));
        let mut peaks: Vec<usize> = Vec::new();
        for i in by_height {
            if peaks.len() < BENDS && peaks.iter().all(|p| p.abs_diff(i) > 2 * SMOOTH) {
                peaks.push(i);
            }
        }
        let bends: Vec<u64> = peaks.iter().map(|&i| seen[inside.start + i].step).collect();
        let near = seen[seen.len() - 1].step / 100;
        let covered = inside.clone().filter(|&i| bends.iter().any(|b| b.abs_diff(seen[i].step) <= near)).count() as f64 / inside.len() as f64;
        Jump { step: seen[jump].step, size: size(jump), bends, covered }
    }

    /// Steps to the nearest bend.
    fn distance(&self) -> u64 {
        self.bends.iter().map(|b| b.abs_diff(self.step)).min().unwrap_or(u64::MAX)
    }
}

/// Uniform features: where single dimensionalities jump, the loss curve bends.
fn jumps(ask: &Ask, progress: &mut dyn Progress) -> Result<Part> {
    let (n, m, p) = (20, 5, 0.25);
    let (steps, every) = (20_000, 40);
    let schedule = Schedule { steps, batch: 512, lr: 1e-3, decay: false };
    let mut all = Instances::new(Model::relu_output(n, m), vec![Setting::uniform(n, p); RUNS], ask.seed);
    let runs = watched("jumps of dimensionality", &mut all, schedule, every, ask.pick(4_000, 10_000), progress)?;
    let found: Vec<Jump> = runs.iter().map(|seen| Jump::of(seen)).collect();
    let mean = |of: fn(&Jump) -> f64| found.iter().map(of).sum::<f64>() / RUNS as f64;
    let mut distances: Vec<u64> = found.iter().map(Jump::distance).collect();
    distances.sort_unstable();
    let part = |d: u64| d as f64 / steps as f64;
    let near = distances.iter().filter(|d| part(**d) <= 0.01).count() as f64 / RUNS as f64;
    let figure = |what: &str, value: f64| Figure::new("jumps", what, &[value]);
    let figures = vec![
        figure("steps from the largest jump to a bend of the loss, over all steps, median run", part(distances[RUNS / 2])).at_most(0.01),
        figure("share of runs in which it is within 1 %", near),
        figure("share of all looks within 1 % of a bend: what chance gives", mean(|j| j.covered)).at_most(0.25),
        figure("size of the largest jump, mean of runs", mean(|j| j.size)),
    ];
    // The stretch in which things happen.
    let (seen, jump) = (&runs[0], &found[0]);
    let end = (jump.bends.iter().copied().chain([jump.step]).max().unwrap_or(steps) as f64 * 1.3).min(steps as f64);
    let losses: Vec<(f64, f64)> = seen.iter().map(|s| (s.step as f64, s.loss)).filter(|p| p.0 <= end).collect();
    let mut loss =
        Chart::new("Loss", "steps", "logarithmic", Axis::linear(0.0, end), Axis::around(losses.iter().skip(2).map(|p| p.1), true), 640.0, 200.0);
    loss.curve(&losses, 2.0, ORANGE);
    let top = seen.iter().skip(2).flat_map(|s| s.dimensionality.iter().copied()).fold(0.5, f64::max);
    let mut paths = Chart::new("Dimensionality of each feature", "steps", "D_i", Axis::linear(0.0, end), Axis::linear(0.0, top * 1.05), 640.0, 360.0);
    [(0.5, "1/2 digon"), (0.4, "2/5 pentagon")].iter().for_each(|(at, name)| paths.level(*at, name, Anchor::Start));
    for i in 0..n {
        let path: Vec<(f64, f64)> = seen.iter().skip(1).map(|s| (s.step as f64, s.dimensionality[i])).collect();
        paths.curve(&path, 1.2, Colour::of(i).alpha(0.7));
    }
    for chart in [&mut loss, &mut paths] {
        let (x, height) = (chart.at(jump.step as f64, 0.5).0, chart.scene.height);
        chart.scene.line(&[(x, 26.0), (x, height - 40.0)], 1.0, FAINT);
    }
    let pictures = vec![Picture {
        name: "jumps",
        caption: "Loss and dimensionality of every feature while a model trains; the thin line is at the largest jump of a feature".into(),
        scene: Scene::side_by_side("Energy levels", &[loss.scene, paths.scene], 1),
    }];
    let entry = |j: &Jump| json!({ "step": j.step, "size": j.size, "bends": j.bends });
    Ok(Part { figures, pictures, data: found.iter().map(entry).collect() })
}

/// Two sets of three correlated features in three dimensions.
fn octahedra(ask: &Ask, progress: &mut dyn Progress) -> Result<Part> {
    let (runs, p) = (ask.pick(12, 24), 0.05);
    let model = Model { inputs: Inputs { together: Together::Correlated(3), signed: false }, ..Model::relu_output(6, 3) };
    let mut all = Instances::new(model, vec![Setting::uniform(6, p); runs], ask.seed);
    let steps = ask.pick(6_000, 10_000);
    let schedule = Schedule { steps, batch: 256, lr: 5e-3, decay: true };
    let seen = watched("octahedra", &mut all, schedule, steps / 100, 20_000, progress)?;
    let octahedral: Vec<usize> = (0..runs).filter(|&i| octahedron(all.weights(i))).collect();
    let share = octahedral.len() as f64 / runs as f64;
    let figures = vec![Figure::new("octahedra", "share of runs that end in one, opposite corners of different sets", &[share]).at_least(0.5)];
    let of = octahedral.first().copied().unwrap_or(0);
    let curve: Vec<(f64, f64)> = seen[of].iter().map(|s| (s.step as f64, s.loss)).collect();
    let mut chart = Chart::new(
        "Loss of all runs",
        "steps",
        "log",
        Axis::linear(0.0, steps as f64),
        Axis::around(seen.iter().flatten().map(|s| s.loss), true),
        640.0,
        260.0,
    );
    for (i, seen) in seen.iter().enumerate() {
        let colour = if octahedral.contains(&i) { BLUE } else { FAINT };
        chart.curve(&seen.iter().map(|s| (s.step as f64, s.loss)).collect::<Vec<_>>(), 1.0, colour.alpha(0.6));
    }
    chart.curve(&curve, 2.2, ORANGE);
    let pictures = vec![Picture {
        name: "stages",
        caption: "Two sets of three correlated features in three dimensions: runs that end in an octahedron are blue, one of them orange; the others (grey) leave a feature out or stay flat".into(),
        scene: chart.scene,
    }];
    Ok(Part { figures, pictures, data: json!({ "octahedra": octahedral.len(), "runs": runs, "losses": curve }) })
}

/// Every feature is learned, has one opposite, of the other set, and is at right angles to the rest.
fn octahedron(w: Weights) -> bool {
    theory::learned(w.w_in, w.m) == 6
        && (0..6).all(|i| {
            let cosines: Vec<f64> = (0..6).filter(|j| *j != i).map(|j| cosine(w.feature(i), w.feature(j))).collect();
            let others: Vec<f64> = (0..6).filter(|j| j / 3 != i / 3).map(|j| cosine(w.feature(i), w.feature(j))).collect();
            let near = |wanted: f64| cosines.iter().filter(|c| (*c - wanted).abs() < 0.15).count();
            near(-1.0) == 1 && near(0.0) == 4 && others.iter().any(|c| *c < -0.85)
        })
}
