//! Pictures as lists of simple shapes, written as SVG (inline in a page or as a file that reads on light and dark) and as PNG.
//!
//! Lengths are pixels of the SVG; a PNG has twice as many. `charts` has the pictures that the experiments share.

pub mod charts;
mod png;
mod svg;

/// Ink is the colour of the text around a picture; the others are middling shades that read on light and on dark.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Colour {
    /// None: ink.
    rgb: Option<(u8, u8, u8)>,
    /// 0 to 1.
    alpha: f64,
}

pub const INK: Colour = Colour { rgb: None, alpha: 1.0 };
pub const FAINT: Colour = Colour { rgb: None, alpha: 0.55 };
pub const HAIR: Colour = Colour { rgb: None, alpha: 0.16 };
pub const ORANGE: Colour = Colour { rgb: Some((217, 95, 2)), alpha: 1.0 };
pub const BLUE: Colour = Colour { rgb: Some((50, 120, 200)), alpha: 1.0 };
pub const GREEN: Colour = Colour { rgb: Some((27, 150, 105)), alpha: 1.0 };
pub const GREY: Colour = Colour { rgb: Some((128, 128, 128)), alpha: 1.0 };

impl Colour {
    /// The same, seen through so much of it.
    pub fn alpha(self, alpha: f64) -> Self {
        Colour { alpha: self.alpha * alpha.clamp(0.0, 1.0), ..self }
    }

    /// Part `t` of the way from one colour to the other; ink counts as grey.
    pub fn towards(self, other: Colour, t: f64) -> Self {
        let (a, b) = (self.rgb.unwrap_or((128, 128, 128)), other.rgb.unwrap_or((128, 128, 128)));
        let t = t.clamp(0.0, 1.0);
        let mix = |a: u8, b: u8| (a as f64 + (b as f64 - a as f64) * t).round() as u8;
        Colour { rgb: Some((mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))), alpha: self.alpha + (other.alpha - self.alpha) * t }
    }

    /// Of a set of `n` things, the colour of number i.
    pub fn of(i: usize) -> Self {
        let colours = [(217, 95, 2), (50, 120, 200), (27, 150, 105), (150, 90, 170), (190, 150, 20), (220, 80, 130), (110, 110, 110), (20, 160, 180)];
        Colour { rgb: Some(colours[i % colours.len()]), alpha: 1.0 }
    }

    /// From -1 (blue) over 0 (nothing) to 1 (orange).
    pub fn signed(v: f64) -> Self {
        (if v < 0.0 { BLUE } else { ORANGE }).alpha(v.abs())
    }

    /// From 0 (blue: a direction of its own) to 1 (orange: drowned by others).
    pub fn shared(v: f64) -> Self {
        BLUE.towards(ORANGE, v)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Rect {
        x: f64,
        y: f64,
        w: f64,
        h: f64,
        fill: Colour,
    },
    /// An open line through points.
    Line {
        points: Vec<(f64, f64)>,
        width: f64,
        colour: Colour,
    },
    Circle {
        x: f64,
        y: f64,
        r: f64,
        fill: Option<Colour>,
        line: Option<Colour>,
    },
    Text {
        x: f64,
        y: f64,
        text: String,
        size: f64,
        anchor: Anchor,
        colour: Colour,
    },
}

/// A picture. The origin is its left upper corner.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    pub width: f64,
    pub height: f64,
    shapes: Vec<Shape>,
}

impl Scene {
    pub fn new(width: f64, height: f64) -> Self {
        Scene { width, height, shapes: Vec::new() }
    }

    pub fn rect(&mut self, x: f64, y: f64, w: f64, h: f64, fill: Colour) {
        self.shapes.push(Shape::Rect { x, y, w, h, fill });
    }

    /// A line through points; those that are not finite are left out.
    pub fn line(&mut self, points: &[(f64, f64)], width: f64, colour: Colour) {
        let points: Vec<(f64, f64)> = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        if points.len() > 1 {
            self.shapes.push(Shape::Line { points, width, colour });
        }
    }

    pub fn dot(&mut self, x: f64, y: f64, r: f64, fill: Colour) {
        if x.is_finite() && y.is_finite() {
            self.shapes.push(Shape::Circle { x, y, r, fill: Some(fill), line: None });
        }
    }

    pub fn ring(&mut self, x: f64, y: f64, r: f64, colour: Colour) {
        self.shapes.push(Shape::Circle { x, y, r, fill: None, line: Some(colour) });
    }

    /// The baseline of the text is at y.
    pub fn text(&mut self, x: f64, y: f64, text: &str, size: f64, anchor: Anchor, colour: Colour) {
        self.shapes.push(Shape::Text { x, y, text: text.into(), size, anchor, colour });
    }

    /// Puts another picture into this one, its corner at (x, y).
    pub fn place(&mut self, other: &Scene, dx: f64, dy: f64) {
        let moved = |shape: &Shape| match shape.clone() {
            Shape::Rect { x, y, w, h, fill } => Shape::Rect { x: x + dx, y: y + dy, w, h, fill },
            Shape::Line { points, width, colour } => Shape::Line { points: points.iter().map(|(x, y)| (x + dx, y + dy)).collect(), width, colour },
            Shape::Circle { x, y, r, fill, line } => Shape::Circle { x: x + dx, y: y + dy, r, fill, line },
            Shape::Text { x, y, text, size, anchor, colour } => Shape::Text { x: x + dx, y: y + dy, text, size, anchor, colour },
        };
        self.shapes.extend(other.shapes.iter().map(moved));
    }

    /// Pictures in rows of so many, with a title over all.
    pub fn side_by_side(title: &str, pictures: &[Scene], in_a_row: usize) -> Scene {
        const GAP: f64 = 14.0;
        let head = if title.is_empty() { 8.0 } else { 40.0 };
        let rows: Vec<&[Scene]> = pictures.chunks(in_a_row.max(1)).collect();
        let width = rows.iter().map(|row| row.iter().map(|p| p.width + GAP).sum::<f64>()).fold(0.0, f64::max) + GAP;
        let tall = |row: &[Scene]| row.iter().map(|p| p.height).fold(0.0, f64::max);
        let mut all = Scene::new(width, head + rows.iter().map(|row| tall(row) + GAP).sum::<f64>());
        if !title.is_empty() {
            all.text(GAP, 25.0, title, 15.0, Anchor::Start, INK);
        }
        let mut y = head;
        for row in rows {
            let mut x = GAP;
            for picture in row {
                all.place(picture, x, y);
                x += picture.width + GAP;
            }
            y += tall(row) + GAP;
        }
        all
    }

    /// For the inside of a page: ink is the page's `currentColor`. `label` is what a screen reader says.
    pub fn svg(&self, label: &str) -> String {
        svg::inline(self, label)
    }

    /// For a file: ink is dark, or light where the viewer's scheme is dark.
    pub fn svg_file(&self, label: &str) -> String {
        svg::file(self, label)
    }

    /// On white, two pixels for one.
    pub fn png(&self) -> Vec<u8> {
        png::encode(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Scene {
        let mut scene = Scene::new(40.0, 30.0);
        scene.rect(2.0, 2.0, 10.0, 10.0, ORANGE);
        scene.line(&[(0.0, 20.0), (f64::NAN, 1.0), (39.0, 20.0)], 2.0, INK);
        scene.dot(30.0, 8.0, 4.0, BLUE);
        scene.text(20.0, 29.0, "a < b & c", 8.0, Anchor::Middle, INK);
        scene
    }

    #[test]
    fn svg_escapes_text_and_takes_its_ink_from_the_page() {
        let svg = sample().svg("what \"it\" shows");
        assert!(svg.starts_with("<svg ") && svg.contains("a &lt; b &amp; c") && svg.contains("currentColor"), "{svg}");
        assert!(svg.contains("aria-label=\"what &quot;it&quot; shows\"") && !svg.contains("NaN"));
        assert!(sample().svg_file("x").contains("prefers-color-scheme"));
    }

    #[test]
    fn png_has_the_colours_where_they_were_drawn() {
        let png = tiny_skia::Pixmap::decode_png(&sample().png()).unwrap();
        assert_eq!((png.width(), png.height()), (80, 60));
        let at = |x, y| png.pixel(x, y).map(|p| (p.red(), p.green(), p.blue())).unwrap();
        assert_eq!((at(10, 10), at(60, 16), at(79, 0)), ((217, 95, 2), (50, 120, 200), (255, 255, 255)));
        let inked = (0..80).flat_map(|x| (44..60).map(move |y| (x, y))).filter(|&(x, y)| at(x, y).0 < 100).count();
        assert!(inked > 20, "text has ink: {inked}");
    }

    #[test]
    fn pictures_stand_in_rows_without_overlapping() {
        let all = Scene::side_by_side("three", &[sample(), sample(), sample()], 2);
        assert_eq!((all.width, all.height), (2.0 * 54.0 + 14.0, 40.0 + 2.0 * 44.0));
    }
}
