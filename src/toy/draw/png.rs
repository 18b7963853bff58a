//! Shapes as a PNG: paths are filled by `tiny-skia`, letters are the outlines of DejaVu Sans, so that a picture looks the same on every machine.

use super::{Anchor, Colour, Scene, Shape};
use tiny_skia::{Color, FillRule, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};
use ttf_parser::{Face, OutlineBuilder};

/// Pixels of the PNG for one of the picture.
const SCALE: f32 = 2.0;

pub fn encode(scene: &Scene) -> Vec<u8> {
    let size = |x: f64| (x as f32 * SCALE).ceil().max(1.0) as u32;
    let mut image = Pixmap::new(size(scene.width), size(scene.height)).expect("pictures are neither empty nor too large for memory");
    image.fill(Color::WHITE);
    let face = Face::parse(dejavu::sans::regular(), 0).expect("the embedded font is whole");
    for shape in &scene.shapes {
        draw(&mut image, &face, shape);
    }
    image.encode_png().expect("a picture in memory can be encoded")
}

fn draw(image: &mut Pixmap, face: &Face, shape: &Shape) {
    let scaled = Transform::from_scale(SCALE, SCALE);
    let fill = |image: &mut Pixmap, path: &Path, colour: Colour| image.fill_path(path, &paint(colour), FillRule::Winding, scaled, None);
    let stroke = |image: &mut Pixmap, path: &Path, width: f64, colour: Colour| {
        image.stroke_path(path, &paint(colour), &Stroke { width: width as f32, ..Stroke::default() }, scaled, None);
    };
    match shape {
        Shape::Rect { x, y, w, h, fill: colour } => {
            if let Some(rect) = Rect::from_xywh(*x as f32, *y as f32, *w as f32, *h as f32) {
                fill(image, &PathBuilder::from_rect(rect), *colour);
            }
        }
        Shape::Line { points, width, colour } => {
            let mut path = PathBuilder::new();
            path.move_to(points[0].0 as f32, points[0].1 as f32);
            points[1..].iter().for_each(|(x, y)| path.line_to(*x as f32, *y as f32));
            if let Some(path) = path.finish() {
                stroke(image, &path, *width, *colour);
            }
        }
        Shape::Circle { x, y, r, fill: inside, line } => {
            let Some(path) = PathBuilder::from_circle(*x as f32, *y as f32, *r as f32) else { return };
            if let Some(colour) = inside {
                fill(image, &path, *colour);
            }
            if let Some(colour) = line {
                stroke(image, &path, 1.0, *colour);
            }
        }
        Shape::Text { x, y, text, size, anchor, colour } => {
            if let Some(path) = letters(face, text, *x as f32, *y as f32, *size as f32, *anchor) {
                fill(image, &path, *colour);
            }
        }
    }
}

/// Ink is nearly black.
fn paint(colour: Colour) -> Paint<'static> {
    let (r, g, b) = colour.rgb.unwrap_or((35, 33, 30));
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color(Color::from_rgba8(r, g, b, (colour.alpha * 255.0).round() as u8));
    paint
}

/// Outlines of a line of text, its baseline at y.
fn letters(face: &Face, text: &str, x: f32, y: f32, size: f32, anchor: Anchor) -> Option<Path> {
    let scale = size / face.units_per_em() as f32;
    let glyphs: Vec<(ttf_parser::GlyphId, f32)> = text
        .chars()
        .map(|c| face.glyph_index(c).or_else(|| face.glyph_index('?')).unwrap_or_default())
        .map(|id| (id, face.glyph_hor_advance(id).unwrap_or(0) as f32 * scale))
        .collect();
    let width: f32 = glyphs.iter().map(|(_, advance)| advance).sum();
    let start = match anchor {
        Anchor::Start => x,
        Anchor::Middle => x - width / 2.0,
        Anchor::End => x - width,
    };
    let mut pen = Pen { path: PathBuilder::new(), x: start, y, scale };
    for (id, advance) in glyphs {
        face.outline_glyph(id, &mut pen);
        pen.x += advance;
    }
    pen.path.finish()
}

/// Turns font units, whose y goes up, into pixels.
struct Pen {
    path: PathBuilder,
    x: f32,
    y: f32,
    scale: f32,
}

impl Pen {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, self.y - y * self.scale)
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}
