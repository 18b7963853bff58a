//! What is counted in written texts.

use crate::artifact::RunDir;
use crate::cli::{one_token, pattern};
use crate::corpus::planted::Planted;
use crate::corpus::{CorpusConfig, TokenStream, Tokenizer};
use crate::intervene::concept::Concept;
use crate::pipeline::planted;
use anyhow::{Context, bail};

#[derive(Debug, clap::Args)]
#[group(multiple = false, id = "counted")]
pub(super) struct ConceptArgs {
    /// Count tokens that hold the last byte of a match of this regular expression
    #[arg(long, value_name = "REGEX")]
    regex: Option<String>,
    /// Count these tokens, by text or number
    #[arg(long, value_name = "TOKEN,...", value_delimiter = ',')]
    token_set: Vec<String>,
    /// Count tokens that carry this concept of the planted corpus
    #[arg(long, value_name = "CONCEPT")]
    label: Option<String>,
}

/// Names that may have been meant, or some of all.
fn instead(asked: &str, names: &[&str]) -> String {
    let quoted = |names: &[&str]| names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let begin: String = asked.to_lowercase().chars().take(4).collect();
    let alike: Vec<&str> = names.iter().copied().filter(|name| name.to_lowercase().contains(&begin)).collect();
    match alike.is_empty() {
        false => format!("names like it: {}", quoted(&alike)),
        true => format!("{} of the {} that can: {}", names.len().min(SHOWN), names.len(), quoted(names)),
    }
}

/// The number of the planted concept `label`, if it can be found in text.
pub(super) fn recognised(world: &Planted, label: &str) -> anyhow::Result<usize> {
    let known = || (0..world.concepts().len()).filter(|&i| world.has_recogniser(i));
    known().find(|&i| world.concepts()[i].name == label).with_context(|| {
        let names: Vec<&str> = known().map(|i| world.concepts()[i].name.as_str()).collect();
        format!("no concept {label:?} of the planted corpus can be recognised\n  {}", instead(label, &names))
    })
}

/// Names in a message.
const SHOWN: usize = 12;

impl ConceptArgs {
    /// The concept and its name; none where nothing is asked for.
    pub fn read(&self, run: &RunDir, tokenizer: &Tokenizer) -> anyhow::Result<Option<(Concept, String)>> {
        if let Some(regex) = &self.regex {
            return Ok(Some((Concept::Regex(pattern(regex)?), format!("/{regex}/"))));
        }
        if let Some(label) = &self.label {
            let stream = TokenStream::open(&run.tokens())?;
            let corpus: CorpusConfig = serde_json::from_value(stream.manifest().config.clone())?;
            let Some(world) = planted(&corpus) else {
                bail!("--label {label}: this run's text is not the planted corpus\n  use --regex or --token-set");
            };
            let number = recognised(&world, label)?;
            return Ok(Some((Concept::Planted(world.into(), number), label.clone())));
        }
        if self.token_set.is_empty() {
            return Ok(None);
        }
        let ids = self.token_set.iter().map(|text| one_token(tokenizer, text)).collect::<anyhow::Result<_>>()?;
        Ok(Some((Concept::Tokens(ids), self.token_set.join(","))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_there_is_answered_with_some_that_are() {
        let names: Vec<String> = (0..100).map(|i| format!("lexeme {i}")).chain(["profession".into()]).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(instead("Professions", &names), "names like it: \"profession\"");
        let other = instead("zebra", &names);
        assert!(other.starts_with("12 of the 101 that can: \"lexeme 0\"") && other.len() < 300, "{other}");
    }
}
