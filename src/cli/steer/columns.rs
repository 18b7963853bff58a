//! Two texts beside each other on a terminal.

use crate::intervene::Steered;

/// Columns of the terminal on stdout; 100 where there is none.
pub(super) fn terminal_width() -> usize {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(100, |(width, _)| width.0 as usize)
}

/// Both texts in two columns, or one below the other where the terminal is narrower than 60.
pub(super) fn side_by_side(prompt: &str, both: &Steered, width: usize) -> String {
    let mut out = String::new();
    if !prompt.is_empty() {
        out += &wrap(prompt, width).join("\n");
        out += "\n\n";
    }
    if width < 60 {
        for (title, text) in [("unedited", &both.unedited.text), ("edited", &both.edited.text)] {
            out += &format!("{title}\n{}\n\n", wrap(text, width).join("\n"));
        }
    } else {
        let column = (width - 3) / 2;
        let (left, right) = (wrap(&both.unedited.text, column), wrap(&both.edited.text, column));
        let mut row = |l: &str, r: &str| {
            let padding = " ".repeat(column.saturating_sub(l.chars().count()));
            out += format!("{l}{padding} | {r}").trim_end();
            out += "\n";
        };
        row("unedited", "edited");
        row(&"-".repeat(column), &"-".repeat(column));
        for i in 0..left.len().max(right.len()) {
            row(left.get(i).map_or("", String::as_str), right.get(i).map_or("", String::as_str));
        }
        out += "\n";
    }
    out += &match both.first_difference {
        None => "the texts are the same\n".to_string(),
        Some(1) => "the texts part after one token\n".to_string(),
        Some(n) => format!("the texts part after {n} tokens\n"),
    };
    out
}

/// Lines of at most `width` characters, broken at spaces where possible; control characters become spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let word: String = word.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let mut word: Vec<char> = word.chars().collect();
            if !line.is_empty() && line.chars().count() + 1 + word.len() > width {
                lines.push(std::mem::take(&mut line));
            }
            while word.len() > width {
                let rest = word.split_off(width);
                lines.push(word.into_iter().collect());
                word = rest;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.extend(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intervene::write::Continuation;

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_word_is_lost() {
        let text = "one two  three\n\nfour extraordinarily-long-word five\tsix אבגד";
        for width in [3, 7, 20, 100] {
            let lines = wrap(text, width);
            assert!(lines.iter().all(|l| l.chars().count() <= width), "{width}: {lines:?}");
            let letters = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(letters(&lines.concat()), letters(text));
        }
    }

    #[test]
    fn two_columns_stand_side_by_side_and_narrow_terminals_get_one() {
        let side = |text: &str| Continuation { text: text.into(), ..Default::default() };
        let both = Steered { unedited: side("plain words"), edited: side("other words"), first_difference: Some(0) };
        let wide = side_by_side("Prompt", &both, 80);
        assert!(wide.lines().any(|l| l.starts_with("plain words ") && l.ends_with("| other words")), "{wide}");
        assert!(wide.lines().all(|l| l.chars().count() <= 80));
        assert!(!side_by_side("Prompt", &both, 40).contains('|'));
    }
}
