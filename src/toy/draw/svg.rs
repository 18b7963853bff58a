//! Shapes as SVG text.

use super::{Anchor, Colour, Scene, Shape};
use std::fmt::Write;

const FONT: &str = "ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif";

pub fn inline(scene: &Scene, label: &str) -> String {
    document(scene, label, "")
}

pub fn file(scene: &Scene, label: &str) -> String {
    let style = "<style>svg{color:#23211e}@media(prefers-color-scheme:dark){svg{color:#dcdad5}}</style>";
    document(scene, label, style)
}

fn document(scene: &Scene, label: &str, style: &str) -> String {
    let (w, h) = (number(scene.width), number(scene.height));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{}\" \
         font-family=\"{FONT}\">{style}\n",
        escaped(label)
    );
    for shape in &scene.shapes {
        write_shape(&mut out, shape);
    }
    out + "</svg>\n"
}

fn write_shape(out: &mut String, shape: &Shape) {
    let written = match shape {
        Shape::Rect { x, y, w, h, fill } => {
            writeln!(
                out,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}/>",
                number(*x),
                number(*y),
                number(*w),
                number(*h),
                paint("fill", *fill)
            )
        }
        Shape::Line { points, width, colour } => {
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", number(*x), number(*y))).collect();
            let (points, width) = (points.join(" "), number(*width));
            writeln!(
                out,
                "<polyline points=\"{points}\" fill=\"none\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{}/>",
                paint("stroke", *colour)
            )
        }
        Shape::Circle { x, y, r, fill, line } => {
            let fill = fill.map_or(" fill=\"none\"".into(), |c| paint("fill", c));
            let line = line.map_or(String::new(), |c| paint("stroke", c));
            writeln!(out, "<circle cx=\"{}\" cy=\"{}\" r=\"{}\"{fill}{line}/>", number(*x), number(*y), number(*r))
        }
        Shape::Text { x, y, text, size, anchor, colour } => {
            let anchor = match anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let (x, y, size, text) = (number(*x), number(*y), number(*size), escaped(text));
            writeln!(out, "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{anchor}{}>{text}</text>", paint("fill", *colour))
        }
    };
    written.expect("a String takes everything");
}

/// `fill` or `stroke` with its opacity.
fn paint(what: &str, colour: Colour) -> String {
    let name = colour.rgb.map_or("currentColor".into(), |(r, g, b)| format!("#{r:02x}{g:02x}{b:02x}"));
    match colour.alpha {
        a if a >= 1.0 => format!(" {what}=\"{name}\""),
        a => format!(" {what}=\"{name}\" {what}-opacity=\"{}\"", number(a)),
    }
}

/// Two decimals at most.
fn number(x: f64) -> String {
    let text = format!("{x:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
