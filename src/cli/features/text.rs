//! What the subcommands print alike: tables, bars, contexts, one JSON object.

use super::super::Global;
use crate::features::render::{Style, pieces, plain};
use crate::features::store::{Example, FeatureSummary, Histogram};
use std::io::{IsTerminal, Write};

/// Prints `value` as one JSON object or what `human` writes. A closed pipe is an `io::Error`, which the caller of `run` takes as done.
pub fn print<T: serde::Serialize>(global: &Global, value: &T, human: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if global.json {
        let value = serde_json::to_value(value)?;
        let value = if value.is_array() { serde_json::json!({ "items": value }) } else { value };
        writeln!(out, "{value}")?;
    } else {
        human(&mut out)?;
    }
    out.flush()?;
    Ok(())
}

/// Whether stdout is a terminal that has colours and whose user wants them (no-color.org).
pub fn has_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Bars of a histogram on a terminal, at most.
const MAX_BARS: usize = 20;

/// A bar of at most 40 signs each; empty ends are left out, and neighbouring bins are added up until there are at most [`MAX_BARS`].
pub fn histogram(out: &mut dyn Write, histogram: &Histogram) -> std::io::Result<()> {
    let Some(first) = histogram.counts.iter().position(|&n| n > 0) else { return Ok(()) };
    let last = histogram.counts.iter().rposition(|&n| n > 0).unwrap_or(first);
    let per_bar = (last - first + 1).div_ceil(MAX_BARS);
    let bars: Vec<u64> = histogram.counts[first..=last].chunks(per_bar).map(|counts| counts.iter().sum()).collect();
    let most = bars.iter().copied().max().unwrap_or(1);
    for (i, count) in bars.iter().enumerate() {
        let from = significant(histogram.edges[first + i * per_bar] as f64);
        writeln!(out, "{from:>10}  {:40} {count}", "\u{2588}".repeat((40 * count).div_ceil(most) as usize))?;
    }
    Ok(())
}

/// Values from 0 up as bars on one line, the largest full.
pub fn bars(values: &[f32]) -> String {
    let most = values.iter().copied().fold(0.0, f32::max);
    let bar = |value: &f32| match (8.0 * value / most).ceil() as u32 {
        0 => ' ',
        eighths => char::from_u32(0x2580 + eighths.min(8)).expect("a block of so many eighths"),
    };
    if most > 0.0 { values.iter().map(bar).collect() } else { String::new() }
}

/// Three significant digits.
fn significant(x: f64) -> String {
    if x == 0.0 {
        return "0".into();
    }
    let digits = (2 - x.abs().log10().floor() as i32).clamp(0, 12) as usize;
    if x.abs() < 1e-4 { format!("{x:.2e}") } else { format!("{x:.digits$}") }
}

/// One example on one line, cut to `context` tokens on each side.
pub fn line(example: &Example, context: usize, colour: bool) -> String {
    let from = example.focus.saturating_sub(context);
    let to = (example.focus + context + 1).min(example.tokens.len());
    let cut = Example {
        focus: example.focus - from,
        tokens: example.tokens[from..to].to_vec(),
        acts: example.acts[from..to].to_vec(),
        window: (example.window.0.saturating_sub(from), example.window.1.saturating_sub(from)),
        ..example.clone()
    };
    let paint = |(style, text): (Style, String)| match (style, colour) {
        (Style::Focus, true) => format!("\x1b[1;38;5;208m{text}\x1b[0m"),
        (Style::Fires, true) => format!("\x1b[38;5;215m{text}\x1b[0m"),
        (Style::Outside, true) => format!("\x1b[90m{text}\x1b[0m"),
        (Style::Focus, false) => format!("[{text}]"),
        (_, _) => text,
    };
    pieces(&cut).into_iter().map(paint).collect()
}

/// `metal, F1 0.93`
pub fn concept(f: &FeatureSummary) -> Option<String> {
    f.concept.as_ref().map(|c| format!("{}, F1 {:.2}", c.name, c.f1))
}

pub fn unit_name(f: &FeatureSummary) -> String {
    match f.neuron {
        Some(neuron) if !f.positive => format!("{neuron}- ({})", f.id),
        _ => f.id.to_string(),
    }
}

pub fn top_tokens(f: &FeatureSummary, n: usize) -> String {
    f.top_tokens.iter().take(n).map(|t| format!("{} {:.0}%", quoted_bytes(&t.token.bytes), 100.0 * t.mass)).collect::<Vec<_>>().join("  ")
}

/// In quotation marks, with nothing that a terminal would obey.
pub fn quoted(text: &str) -> String {
    quoted_bytes(text.as_bytes())
}

pub fn quoted_bytes(bytes: &[u8]) -> String {
    format!("\"{}\"", plain(bytes))
}

pub fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.001 { format!("{:.4} %", 100.0 * share) } else { format!("{:.2} %", 100.0 * share) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_histogram_is_drawn_in_twenty_bars_that_hold_every_firing_and_tell_their_edges() {
        let edges: Vec<f32> = (0..=50).map(|i| 2f32.powf(-14.0 + i as f32 / 4.0)).collect();
        let counts: Vec<u64> = (0..50).map(|i| if (3..48).contains(&i) { i } else { 0 }).collect();
        let mut out = Vec::new();
        histogram(&mut out, &Histogram { edges, counts: counts.clone() }).unwrap();
        let text = String::from_utf8(out).unwrap();
        let bars: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert!(bars.len() <= 20, "{text}");
        let starts: std::collections::BTreeSet<&str> = bars.iter().map(|b| b[0]).collect();
        assert_eq!(starts.len(), bars.len(), "no two bars begin at the same number: {text}");
        assert_eq!(bars.iter().map(|b| b.last().unwrap().parse::<u64>().unwrap()).sum::<u64>(), counts.iter().sum::<u64>());
        // 2^(-14 + 3/4)
        assert_eq!(bars[0][0], "0.000103");
    }
}
