//! Figures of experiments on the terminal: a table, and the check of their bands.

use crate::artifact::{Figure, grouped};
use anyhow::bail;

/// What came out, what was published or follows in closed form, what is accepted.
pub fn table(figures: &[Figure]) -> anyhow::Result<()> {
    let wide = |text: fn(&Figure) -> usize, least: usize| figures.iter().map(text).max().unwrap_or(0).max(least);
    let (of, what) = (wide(|f| f.of.len(), 2), wide(|f| f.what.len(), 4));
    say!("{:of$}  {:what$}  {:>20}  {:>18}  {:>20}", "", "", "ours", "published or exact", "accepted");
    for f in figures {
        let ours = f.sd.map_or(number(f.ours), |sd| format!("{} +- {}", number(f.ours), number(sd)));
        let band = f.band.map_or(String::new(), |(low, high)| {
            let bound = |x: f64| if x.is_finite() { number(x) } else { "...".into() };
            format!("{} to {}{}", bound(low), bound(high), if f.holds() == Some(true) { "  holds" } else { "  MISSED" })
        });
        say!("{:of$}  {:what$}  {ours:>20}  {:>18}  {band:>20}", f.of, f.what, f.published.map_or(String::new(), number));
    }
    Ok(())
}

/// Four significant digits, whole numbers as they are.
pub fn number(x: f64) -> String {
    match x.abs() {
        a if (1e4..1e15).contains(&a) => grouped(a.round() as u64),
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        a if a >= 1e-3 || a == 0.0 => format!("{x:.4}"),
        _ => format!("{x:.1e}"),
    }
}

/// # Errors
/// Every figure outside of its band, with both; no figure that has one.
pub fn check(figures: &[Figure]) -> anyhow::Result<()> {
    let words = |f: &Figure| {
        let (low, high) = f.band.expect("what misses its band has one");
        format!("{} of {} is {}, expected {} to {}", f.what, f.of, number(f.ours), number(low), number(high))
    };
    let missed: Vec<String> = figures.iter().filter(|f| f.holds() == Some(false)).map(words).collect();
    let asserted = figures.iter().filter(|f| f.band.is_some()).count();
    if asserted == 0 {
        bail!(
            "no figure has a band with these settings, so --check says nothing\n  leave it out, or give other settings: an experiment's own have bands"
        );
    }
    if missed.is_empty() {
        return Ok(());
    }
    bail!("{} of {asserted} asserted figures are outside of their bands\n  {}", missed.len(), missed.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_passes_only_where_something_is_asserted_and_holds() {
        let figure = |ours: f64| Figure::new("a", "b", &[ours]);
        assert!(check(&[figure(1.0).within(0.0, 2.0), figure(9.0)]).is_ok());
        let missed = check(&[figure(1.0).within(0.0, 2.0), figure(3.0).within(0.0, 2.0)]).unwrap_err().to_string();
        assert!(missed.starts_with("1 of 2 asserted figures") && missed.contains("b of a is 3.0000, expected 0.0000 to 2.0000"), "{missed}");
        for none in [&[][..], &[figure(1.0)]] {
            assert!(check(none).unwrap_err().to_string().contains("no figure has a band"));
        }
    }
}
