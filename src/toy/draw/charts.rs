//! The pictures that experiments share: W^T W as a matrix, features as vectors in the plane, cells of a phase diagram, curves and points over axes.

use super::{Anchor, BLUE, Colour, FAINT, HAIR, INK, ORANGE, Scene};
use crate::toy::theory;

const SMALL: f64 = 11.0;

/// W^T W and, beside it, the length of each feature coloured by how much others interfere. Shapes: w (n, m), b (n,).
///
/// Orange cells are positive, blue ones negative, what is empty is 0; the narrow column is the bias.
pub fn superposition(title: &str, w: &[f32], m: usize, b: &[f32], side: f64) -> Scene {
    let n = b.len();
    let cell = side / n as f64;
    let mut scene = Scene::new(side + 3.0 * cell.max(6.0) + 70.0, side + 26.0);
    scene.text(0.0, 13.0, title, 12.0, Anchor::Start, INK);
    matrix(&mut scene, &theory::gram(w, m), n, 0.0, 22.0, cell);
    let x = side + cell.max(5.0) * 0.6;
    let wide = cell.max(6.0);
    for (i, &b) in b.iter().enumerate() {
        scene.rect(x, 22.0 + i as f64 * cell, wide, cell * 0.96, Colour::signed(b as f64));
    }
    frame(&mut scene, x, 22.0, wide, side);
    let bars = x + wide * 1.8;
    let interference = theory::interference(w, m);
    for (i, (norm, shared)) in theory::norms(w, m).iter().zip(interference).enumerate() {
        scene.rect(bars, 22.0 + i as f64 * cell, norm.min(1.3) * 50.0, cell * 0.84, Colour::shared(shared));
    }
    scene.line(&[(bars, 22.0), (bars, 22.0 + side)], 1.0, FAINT);
    scene
}

/// Square cells of a matrix (n, n) with values from -1 to 1.
pub fn matrix(scene: &mut Scene, values: &[f64], n: usize, x: f64, y: f64, cell: f64) {
    for (index, &v) in values.iter().enumerate() {
        if v.abs() > 0.02 {
            scene.rect(x + (index % n) as f64 * cell, y + (index / n) as f64 * cell, cell * 0.98, cell * 0.98, Colour::signed(v.clamp(-1.0, 1.0)));
        }
    }
    frame(scene, x, y, cell * n as f64, cell * n as f64);
}

/// Neurons as stacked bars, in the order asked for: the weights that each has to the features, positive ones up, negative ones down, the largest next to
/// the axis. Blue where one feature holds a neuron (`theory::MONOSEMANTIC`), orange where features share it; numbers are features.
/// Shapes: w (n, m); `high` is the length of the axis in weights, upwards and downwards.
pub fn neurons(title: &str, w: &[f32], m: usize, order: &[usize], high: (f64, f64), size: (f64, f64)) -> Scene {
    let mut scene = Scene::new(size.0, size.1);
    scene.text(0.0, 13.0, title, 12.0, Anchor::Start, INK);
    let (wide, unit) = (size.0 / order.len() as f64, (size.1 - 22.0) / (high.0 + high.1));
    let zero = 22.0 + high.0 * unit;
    let held = theory::held(w, m);
    for (place, &k) in order.iter().enumerate() {
        let mut weights: Vec<(usize, f64)> = w.iter().skip(k).step_by(m).map(|&w| w as f64).enumerate().collect();
        weights.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        let colour = if held[k].1 > theory::MONOSEMANTIC { BLUE } else { ORANGE };
        let (x, mut up, mut down) = (place as f64 * wide, zero, zero);
        for (rank, (feature, weight)) in weights.into_iter().enumerate() {
            let tall = weight.abs() * unit;
            if tall < 0.4 {
                break;
            }
            let top = if weight > 0.0 { up - tall } else { down };
            if weight > 0.0 {
                up -= tall
            } else {
                down += tall
            }
            scene.rect(x + 0.06 * wide, top, 0.88 * wide, (tall - 0.7).max(0.4), colour.alpha(0.95 * 0.8f64.powi(rank as i32)));
            if tall > 9.0 && wide > 11.0 {
                scene.text(x + wide / 2.0, top + tall / 2.0 + 3.5, &feature.to_string(), 9.5, Anchor::Middle, INK);
            }
        }
    }
    scene.line(&[(0.0, zero), (size.0, zero)], 1.0, FAINT);
    scene
}

/// Height of the tallest stacks of [`neurons`], up and down. Shapes: w (n, m).
pub fn tallest(w: &[f32], m: usize) -> (f64, f64) {
    let stack = |sign: f32| {
        let of = |k: usize| w.iter().skip(k).step_by(m).map(|w| (w * sign).max(0.0) as f64).sum::<f64>();
        (0..m).map(of).fold(0.0, f64::max)
    };
    (stack(1.0), stack(-1.0))
}

fn frame(scene: &mut Scene, x: f64, y: f64, w: f64, h: f64) {
    scene.line(&[(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)], 1.0, HAIR);
}

/// Vectors in the plane from a common origin, within a circle of radius 1. Shapes: w (n, 2); a colour for each.
pub fn plane(title: &str, w: &[f32], colours: &[Colour], side: f64) -> Scene {
    let mut scene = Scene::new(side, side + 22.0);
    let (cx, cy, unit) = (side / 2.0, 22.0 + side / 2.0, side / 2.6);
    scene.text(side / 2.0, 13.0, title, 12.0, Anchor::Middle, INK);
    scene.ring(cx, cy, unit, HAIR);
    scene.line(&[(0.0, cy), (side, cy)], 1.0, HAIR);
    scene.line(&[(cx, 22.0), (cx, 22.0 + side)], 1.0, HAIR);
    for (v, &colour) in w.chunks_exact(2).zip(colours) {
        let (x, y) = (cx + v[0] as f64 * unit, cy - v[1] as f64 * unit);
        scene.line(&[(cx, cy), (x, y)], 2.0, colour);
        scene.dot(x, y, 4.0, colour);
    }
    scene
}

/// How numbers lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub log: bool,
}

impl Axis {
    pub fn linear(low: f64, high: f64) -> Self {
        Axis { low, high, log: false }
    }

    /// Both ends are above 0.
    pub fn log(low: f64, high: f64) -> Self {
        Axis { low, high, log: true }
    }

    /// Spans the finite values (those above 0 on a logarithmic axis), with some air.
    pub fn around(values: impl Iterator<Item = f64>, log: bool) -> Self {
        let (low, high) =
            values.filter(|v| v.is_finite() && (!log || *v > 0.0)).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        match (low < high, log) {
            (false, _) => Axis { low: if log { 0.1 } else { 0.0 }, high: 1.0, log },
            (true, true) => Axis { low: low / 1.15, high: high * 1.15, log },
            (true, false) => Axis { low: low - 0.04 * (high - low), high: high + 0.04 * (high - low), log },
        }
    }

    /// 0 at the low end, 1 at the high one; not finite where a logarithm is not.
    fn part(&self, v: f64) -> f64 {
        match self.log {
            true => (v / self.low).ln() / (self.high / self.low).ln(),
            false => (v - self.low) / (self.high - self.low),
        }
    }

    /// Round numbers: 1, 2, 5 times powers of ten, as many as stand well beside each other.
    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.high / self.low).log10();
            let of_a_decade: &[f64] = if decades > 2.5 {
                &[1.0]
            } else if decades > 1.2 {
                &[1.0, 3.0]
            } else {
                &[1.0, 2.0, 5.0]
            };
            let first = self.low.log10().floor() as i32;
            let last = self.high.log10().ceil() as i32;
            let all = (first..=last).flat_map(|e| of_a_decade.iter().map(move |f| f * 10f64.powi(e)));
            let all: Vec<f64> = all.filter(|v| (self.low * 0.999..=self.high * 1.001).contains(v)).collect();
            // A short piece of a decade may hold none of them.
            return if all.len() > 1 { all } else { Axis { log: false, ..*self }.ticks() };
        }
        let rough = (self.high - self.low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|f| f * power).find(|s| *s >= rough * 0.999).unwrap_or(power);
        let first = (self.low / step).ceil() as i64;
        (first..).map(|i| i as f64 * step).take_while(|v| *v <= self.high + step * 1e-6).collect()
    }
}

/// Axes with room for curves and points.
pub struct Chart {
    pub scene: Scene,
    x: Axis,
    y: Axis,
    legend: usize,
}

const LEFT: f64 = 52.0;
const TOP: f64 = 26.0;
const RIGHT: f64 = 20.0;
const BOTTOM: f64 = 40.0;

impl Chart {
    pub fn new(title: &str, x_label: &str, y_label: &str, x: Axis, y: Axis, width: f64, height: f64) -> Self {
        let mut chart = Chart { scene: Scene::new(width, height), x, y, legend: 0 };
        let (right, bottom) = (width - RIGHT, height - BOTTOM);
        chart.scene.text(LEFT, 15.0, title, 12.5, Anchor::Start, INK);
        for v in x.ticks() {
            let at = chart.at(v, y.low).0;
            chart.scene.line(&[(at, TOP), (at, bottom)], 1.0, HAIR);
            chart.scene.text(at, bottom + 14.0, &short(v), SMALL, Anchor::Middle, FAINT);
        }
        for v in y.ticks() {
            let at = chart.at(x.low, v).1;
            chart.scene.line(&[(LEFT, at), (right, at)], 1.0, HAIR);
            chart.scene.text(LEFT - 6.0, at + 4.0, &short(v), SMALL, Anchor::End, FAINT);
        }
        chart.scene.line(&[(LEFT, TOP), (LEFT, bottom), (right, bottom)], 1.0, FAINT);
        chart.scene.text((LEFT + right) / 2.0, height - 8.0, x_label, SMALL, Anchor::Middle, INK);
        // Above the axis instead of along it: no letters lie on their side.
        chart.scene.text(right, 15.0, y_label, SMALL, Anchor::End, FAINT);
        chart
    }

    /// Pixel of a point.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (w, h) = (self.scene.width - LEFT - RIGHT, self.scene.height - TOP - BOTTOM);
        (LEFT + self.x.part(x) * w, TOP + (1.0 - self.y.part(y)) * h)
    }

    fn inside(&self, x: f64, y: f64) -> bool {
        let within = |part: f64| (-1e-9..=1.0 + 1e-9).contains(&part);
        within(self.x.part(x)) && within(self.y.part(y))
    }

    /// A curve; points outside of the axes are left out.
    pub fn curve(&mut self, points: &[(f64, f64)], width: f64, colour: Colour) {
        let points: Vec<(f64, f64)> = points.iter().filter(|p| self.inside(p.0, p.1)).map(|p| self.at(p.0, p.1)).collect();
        self.scene.line(&points, width, colour);
    }

    /// A curve with its name in the right upper corner.
    pub fn named(&mut self, name: &str, points: &[(f64, f64)], colour: Colour) {
        self.curve(points, 2.0, colour);
        let (x, y) = (self.scene.width - RIGHT - 4.0, TOP + 14.0 + 15.0 * self.legend as f64);
        self.scene.text(x - 20.0, y, name, SMALL, Anchor::End, INK);
        self.scene.line(&[(x - 14.0, y - 4.0), (x, y - 4.0)], 2.5, colour);
        self.legend += 1;
    }

    pub fn points(&mut self, points: &[(f64, f64)], r: f64, colour: Colour) {
        let places: Vec<(f64, f64)> = points.iter().filter(|p| self.inside(p.0, p.1)).map(|p| self.at(p.0, p.1)).collect();
        for (x, y) in places {
            self.scene.dot(x, y, r, colour);
        }
    }

    /// A faint line across at y, with a word at its left (`Start`) or right end.
    pub fn level(&mut self, y: f64, word: &str, end: Anchor) {
        self.level_named(y, word, end, -3.0);
    }

    /// The same with the word below the line, where another line is close above.
    pub fn level_below(&mut self, y: f64, word: &str, end: Anchor) {
        self.level_named(y, word, end, 11.0);
    }

    fn level_named(&mut self, y: f64, word: &str, end: Anchor, down: f64) {
        if self.inside(self.x.low, y) {
            let (a, b) = (self.at(self.x.low, y), self.at(self.x.high, y));
            self.scene.line(&[a, b], 1.0, FAINT.alpha(0.6));
            let x = if end == Anchor::Start { a.0 + 4.0 } else { b.0 - 3.0 };
            self.scene.text(x, b.1 + down, word, 10.0, end, FAINT);
        }
    }

    /// A coloured cell between two values of x and of y.
    pub fn cell(&mut self, x: (f64, f64), y: (f64, f64), colour: Colour) {
        let ((x0, y0), (x1, y1)) = (self.at(x.0, y.1), self.at(x.1, y.0));
        self.scene.rect(x0, y0, (x1 - x0) * 0.99, (y1 - y0) * 0.99, colour);
    }
}

/// Boxes of colour with their meaning, in a line.
pub fn key(entries: &[(&str, Colour)]) -> Scene {
    let wide = |text: &str| 24.0 + 6.6 * text.chars().count() as f64;
    let mut scene = Scene::new(entries.iter().map(|(text, _)| wide(text)).sum(), 20.0);
    let mut x = 0.0;
    for (text, colour) in entries {
        scene.rect(x, 4.0, 12.0, 12.0, *colour);
        scene.text(x + 17.0, 14.0, text, SMALL, Anchor::Start, INK);
        x += wide(text);
    }
    scene
}

/// Three digits, without zeros at the end.
pub fn short(v: f64) -> String {
    if v == 0.0 {
        return "0".into();
    }
    let text = match v.abs() {
        a if !(9.99e-4..1e5).contains(&a) => return format!("{v:.0e}"),
        a if a >= 100.0 => return format!("{v:.0}"),
        a if a >= 1.0 => format!("{v:.2}"),
        _ => format!("{v:.4}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_of_neurons_stand_within_their_picture() {
        // Neuron 0: 1, -2, 0; neuron 1: 0.5, 1, -0.25.
        let w = [1.0, 0.5, -2.0, 1.0, 0.0, -0.25];
        assert_eq!(tallest(&w, 2), (1.5, 2.0));
        let svg = neurons("t", &w, 2, &[1, 0], tallest(&w, 2), (100.0, 92.0)).svg("");
        // Five weights that are not 0; 92 pixels less the title are 70 for a height of 3.5.
        assert!(svg.matches("<rect").count() == 5 && svg.contains("39.3"), "{svg}");
    }

    #[test]
    fn axes_have_round_ticks_within_their_ends() {
        assert_eq!(Axis::linear(0.0, 1.0).ticks().iter().map(|v| short(*v)).collect::<Vec<_>>(), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(Axis::log(0.001, 1.0).ticks().iter().map(|v| short(*v)).collect::<Vec<_>>(), ["0.001", "0.01", "0.1", "1"]);
        assert_eq!(Axis::log(0.1, 1.0).ticks().len(), 4);
        let around = Axis::around([f64::NAN, 2.0, -1.0, 4.0].into_iter(), true);
        assert!(around.low < 2.0 && around.low > 0.0 && around.high > 4.0);
        assert_eq!(Axis::around([3.0].into_iter(), false), Axis::linear(0.0, 1.0));
    }

    #[test]
    fn a_chart_places_its_corners_and_leaves_out_what_is_outside() {
        let mut chart = Chart::new("t", "x", "y", Axis::log(0.01, 1.0), Axis::linear(0.0, 2.0), 300.0, 200.0);
        assert_eq!(chart.at(0.01, 0.0), (LEFT, 200.0 - BOTTOM));
        assert_eq!(chart.at(1.0, 2.0), (300.0 - RIGHT, TOP));
        let before = chart.scene.svg("").matches("<circle").count();
        chart.points(&[(0.1, 1.0), (0.0, 1.0), (0.1, 3.0), (f64::NAN, 1.0)], 2.0, INK);
        assert_eq!(chart.scene.svg("").matches("<circle").count(), before + 1);
    }
}
