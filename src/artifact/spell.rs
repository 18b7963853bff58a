//! Numbers as people read them, words as a shell does.

/// A count with a comma between groups of three digits: 1,234,567.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes to three digits in decimal units: 999 bytes, 402 kB, 1.25 GB.
pub fn size(n_bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    if n_bytes < 1000 {
        return format!("{n_bytes} bytes");
    }
    let (mut value, mut unit) = (n_bytes as f64 / 1e3, 0);
    // What would be printed as 1000 is one of the next unit.
    while value >= 999.5 && unit + 1 < units.len() {
        (value, unit) = (value / 1e3, unit + 1);
    }
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$} {}", units[unit])
}

/// A span of time in words: 40 seconds, 6 minutes, 2.5 hours.
pub fn time(seconds: f64) -> String {
    let plural = |n: f64, unit: &str| format!("{n:.0} {unit}{}", if n == 1.0 { "" } else { "s" });
    match seconds {
        s if s < 55.0 => plural((s / 5.0).ceil().max(1.0) * 5.0, "second"),
        s if s < 5400.0 => plural((s / 60.0).round().max(1.0), "minute"),
        s => format!("{:.1} hours", s / 3600.0),
    }
}

/// A word as a shell takes it, in quotes where it needs them.
pub fn shell_word(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./=,:@+%".contains(c));
    if plain { word.into() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_three_digits() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (123_456, "123,456"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), text);
        }
    }

    #[test]
    fn a_word_with_a_space_or_a_quote_stays_one_word() {
        assert_eq!(["a/b-1.txt", "my run", "it's", ""].map(shell_word), ["a/b-1.txt", "'my run'", "'it'\\''s'", "''"]);
    }

    #[test]
    fn sizes_have_three_digits_and_never_read_as_nothing() {
        let cases = [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.00 kB"), (402_345, "402 kB"), (999_600, "1.00 MB"), (1_254_000_000, "1.25 GB")];
        for (n, text) in cases {
            assert_eq!(size(n), text);
        }
        assert_eq!((size(12_340_000).as_str(), size(99_960_000).as_str()), ("12.3 MB", "100 MB"));
    }

    #[test]
    fn times_are_rounded_to_what_an_estimate_is_worth() {
        let cases = [(0.1, "5 seconds"), (41.0, "45 seconds"), (58.0, "1 minute"), (340.0, "6 minutes"), (9000.0, "2.5 hours")];
        for (s, text) in cases {
            assert_eq!(time(s), text);
        }
    }
}
