//! Edits on the command line: flags for a few latents, or a saved edit by name, file or as JSON.

use super::rig::Opened;
use crate::artifact::{RunDir, write_atomic};
use crate::intervene::Scope;
use crate::intervene::exact::promoted;
use crate::intervene::saved::{RuleName, SavedEdit, SavedLatent, Unit};
use anyhow::{Context, bail};
use std::io::Write;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct EditArgs {
    /// Latent to edit; may be given more than once, all get the same rule
    #[arg(long, value_name = "N")]
    pub latent: Vec<u32>,
    /// Clamp to S times the latent's largest activation; 0 removes the latent
    #[arg(long, value_name = "S", group = "rule", allow_negative_numbers = true)]
    strength: Option<f32>,
    /// Add S times the latent's largest activation to what it is
    #[arg(long, value_name = "S", group = "rule", allow_negative_numbers = true)]
    add: Option<f32>,
    /// Multiply the latent's activation by S
    #[arg(long, value_name = "S", group = "rule", allow_negative_numbers = true)]
    scale: Option<f32>,
    /// Remove the latent
    #[arg(long, group = "rule")]
    zero: bool,
    /// Clamp to the latent's mean over all tokens
    #[arg(long, group = "rule")]
    mean: bool,
    /// Raise the latent to S times its largest activation where it is below
    #[arg(long, value_name = "S", group = "rule", allow_negative_numbers = true)]
    at_least: Option<f32>,
    /// Lower the latent to S times its largest activation where it is above
    #[arg(long, value_name = "S", group = "rule", allow_negative_numbers = true)]
    at_most: Option<f32>,
    /// Multiply what lies along the latent's direction by S, whatever the SAE makes of it; 0 takes it away
    #[arg(long, value_name = "S", group = "rule", allow_negative_numbers = true)]
    project: Option<f32>,
    /// Let at most S times the latent's largest activation lie along its direction
    #[arg(long, value_name = "S", group = "rule", allow_negative_numbers = true)]
    cap: Option<f32>,
    /// What S is a multiple of: the latent's largest activation (max), 1 (act), or the mean length of activations at the hook (norm) [default: max]
    #[arg(long, value_name = "UNIT", value_parser = unit)]
    unit: Option<Unit>,
    /// Edit only where the latent is active
    #[arg(long)]
    only_active: bool,
    /// The edit rests after tokens that it promotes itself: words that it begins are finished by the model and not begun again at once
    #[arg(long)]
    rests: bool,
    /// Put the SAE's reconstruction in place of the activations, so that what it does not explain is lost
    #[arg(long)]
    drop_error: bool,
    /// Which positions are edited: all, prompt, generated (with the prompt's last, which writes the first new token), continuation (without it), or a
    /// position N (from 0) and all after it; <|endoftext|>, which a prompt begins with, is never edited
    #[arg(long, value_name = "SCOPE", value_parser = scope, default_value = "all")]
    scope: Scope,
    /// Instead of --latent: the name of an edit that was saved (DIR/RUN/edits/NAME.toml), a file, or the edit itself as JSON; several hold at once
    #[arg(long, value_name = "NAME|FILE|JSON", conflicts_with_all = ["latent", "rule", "only_active", "drop_error", "scope", "unit"])]
    pub edit: Vec<String>,
}

fn unit(text: &str) -> Result<Unit, String> {
    match text {
        "max" => Ok(Unit::Max),
        "act" => Ok(Unit::Act),
        "norm" => Ok(Unit::Norm),
        other => Err(format!("{other} is not max, act or norm")),
    }
}

fn scope(text: &str) -> Result<Scope, String> {
    Ok(match text {
        "all" => Scope::All,
        "prompt" => Scope::Prompt,
        "generated" => Scope::Generated,
        "continuation" => Scope::Continuation,
        n => Scope::From(n.parse().map_err(|_| format!("{n} is not all, prompt, generated, continuation or a position"))?),
    })
}

impl EditArgs {
    /// The rule of all latents and its number; none where the strength is to be found.
    pub fn rule(&self) -> anyhow::Result<Option<(RuleName, Option<f32>)>> {
        let numbers = [
            ("--strength", RuleName::Set, self.strength),
            ("--add", RuleName::Add, self.add),
            ("--scale", RuleName::Scale, self.scale),
            ("--at-least", RuleName::AtLeast, self.at_least),
            ("--at-most", RuleName::AtMost, self.at_most),
            ("--project", RuleName::Project, self.project),
            ("--cap", RuleName::Cap, self.cap),
        ];
        let flags = [("--zero", self.zero), ("--mean", self.mean), ("--scale", self.scale.is_some()), ("--project", self.project.is_some())];
        if let Some((flag, _)) = flags.iter().find(|f| f.1 && self.unit.is_some()) {
            bail!("{flag} takes no unit: it has no number, or one that is a factor\n  leave --unit out");
        }
        for (flag, rule, value) in numbers {
            match value {
                Some(value) if !value.is_finite() => bail!("{flag} must be a number, not {value}"),
                Some(_) => return Ok(Some((rule, value))),
                None => {}
            }
        }
        let flags = [(self.zero, RuleName::Zero), (self.mean, RuleName::Mean)];
        Ok(flags.into_iter().find(|f| f.0).map(|(_, rule)| (rule, None)))
    }

    /// Whether values are multiples of maxima.
    pub fn in_maxima(&self) -> bool {
        self.unit.is_none_or(|unit| unit == Unit::Max)
    }

    /// `edit`, resting after the tokens that its latents promote where that was asked for.
    pub fn resting(&self, edit: SavedEdit, opened: &Opened) -> anyhow::Result<SavedEdit> {
        if !self.rests {
            return Ok(edit);
        }
        let latents: Vec<u32> = edit.edits.iter().map(|e| e.latent).collect();
        Ok(SavedEdit { rest_after: promoted(&opened.lm, opened.hook, &opened.sae, &latents)?, ..edit })
    }

    pub fn only_active(&self) -> bool {
        self.only_active
    }

    /// What is edited, where the latents' rule is `rule`.
    pub fn of(&self, rule: RuleName, value: Option<f32>) -> SavedEdit {
        let has_unit = !matches!(rule, RuleName::Zero | RuleName::Mean | RuleName::Scale | RuleName::Project);
        let unit = Some(self.unit.unwrap_or_default()).filter(|_| has_unit);
        let edits = self.latent.iter().map(|&latent| SavedLatent { unit, only_active: self.only_active, ..SavedLatent::new(latent, rule, value) });
        SavedEdit { scope: self.scope, keep_error: !self.drop_error, ..SavedEdit::of(edits.collect()) }
    }

    /// What every `--edit` names, as one; none without any.
    pub fn saved(&self, run: &RunDir) -> anyhow::Result<Option<SavedEdit>> {
        let mut all: Option<SavedEdit> = None;
        for said in &self.edit {
            let one = read(said, run)?;
            all = Some(match all {
                Some(all) => all.and(one)?,
                None => one,
            });
        }
        Ok(all)
    }
}

/// Where an edit is kept.
#[derive(Debug, clap::Args)]
pub(super) struct SaveArgs {
    /// Save the edit in DIR/RUN/edits, to be used as --edit NAME
    #[arg(long, value_name = "NAME")]
    save: Option<String>,
    /// Replace an edit of that name
    #[arg(long, requires = "save")]
    yes: bool,
}

impl SaveArgs {
    /// The name, if the edit is to be kept.
    pub fn name(&self) -> Option<&str> {
        self.save.as_deref()
    }

    /// Refuses a name that is no file's or is taken, before any work is done.
    pub fn check(&self, run: &RunDir) -> anyhow::Result<()> {
        let Some(name) = &self.save else { return Ok(()) };
        let path = path(run, name)?;
        if path.exists() && !self.yes {
            bail!("there is an edit {name} already: {}\n  choose another name, or replace it with --yes", path.display());
        }
        Ok(())
    }

    /// Writes `edit` under the name, if there is one, so that [`EditArgs::saved`] reads it; `opened` is what it was made for.
    pub fn keep(&self, run: &RunDir, edit: &SavedEdit, opened: &mut Opened) -> anyhow::Result<()> {
        let Some(name) = &self.save else { return Ok(()) };
        write(run, name, &opened.fixed(edit)?)
    }
}

fn write(run: &RunDir, name: &str, edit: &SavedEdit) -> anyhow::Result<()> {
    let path = path(run, name)?;
    std::fs::create_dir_all(run.edits()).with_context(|| run.edits().display().to_string())?;
    let replaced = if path.exists() { "replaced" } else { "wrote" };
    write_atomic(&path, |file| file.write_all(edit.to_toml().as_bytes()))?;
    tell!("{replaced} {}; use it: --edit {name}", path.display());
    Ok(())
}

/// One edit: JSON, the name of a saved one, or a file.
fn read(said: &str, run: &RunDir) -> anyhow::Result<SavedEdit> {
    if said.trim_start().starts_with('{') {
        return Ok(SavedEdit::parse(said)?);
    }
    let named = path(run, said).ok().filter(|path| path.exists());
    let file = named.unwrap_or_else(|| PathBuf::from(said));
    let text = std::fs::read_to_string(&file).with_context(|| {
        format!(
            "there is no edit {said}: neither {} nor a file\n  those that are there: {}",
            run.edits().join(format!("{said}.toml")).display(),
            names(run)
        )
    })?;
    SavedEdit::parse(&text).with_context(|| file.display().to_string())
}

/// `edits/NAME.toml` of a run.
fn path(run: &RunDir, name: &str) -> anyhow::Result<PathBuf> {
    run.edit(name).with_context(|| format!("an edit's name is one file's name, not {name:?}"))
}

fn names(run: &RunDir) -> String {
    let names = run.edit_names();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_word_or_a_position() {
        assert_eq!(scope("generated"), Ok(Scope::Generated));
        assert_eq!(scope("continuation"), Ok(Scope::Continuation));
        assert_eq!(scope("12"), Ok(Scope::From(12)));
        assert!(scope("some").unwrap_err().contains("position"));
    }

    #[test]
    fn an_edit_is_saved_under_one_files_name_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), "r");
        let edit = SavedEdit::of(vec![SavedLatent::new(3, RuleName::Set, Some(2.0))]);
        write(&run, "loud", &edit).unwrap();
        let args = |edit: &str| EditArgs::of_edits(&[edit]);
        assert_eq!(args("loud").saved(&run).unwrap(), Some(edit.clone()));
        assert_eq!(args(&path(&run, "loud").unwrap().display().to_string()).saved(&run).unwrap(), Some(edit.clone()));
        assert_eq!(args(&edit.to_json()).saved(&run).unwrap(), Some(edit));
        let other = r#"{"edits":[{"latent":9,"rule":"zero"}]}"#;
        let both = EditArgs::of_edits(&["loud", other]).saved(&run).unwrap().unwrap();
        assert_eq!(both.edits.iter().map(|e| e.latent).collect::<Vec<_>>(), [3, 9]);
        assert!(args("soft").saved(&run).unwrap_err().to_string().contains("loud"));
        for bad in ["../x", "", "a/b", ".hidden"] {
            assert!(write(&run, bad, &SavedEdit::of(vec![])).is_err(), "{bad:?}");
        }
        // A name that is taken is refused before any work is done.
        let save = |name: &str, yes| SaveArgs { save: Some(name.into()), yes }.check(&run);
        assert!(save("loud", false).unwrap_err().to_string().contains("--yes"));
        assert!(save("loud", true).is_ok() && save("new", false).is_ok() && save("../x", true).is_err());
        assert!(SaveArgs { save: None, yes: false }.check(&run).is_ok());
    }

    impl EditArgs {
        fn of_edits(edits: &[&str]) -> Self {
            #[derive(clap::Parser)]
            struct Alone {
                #[command(flatten)]
                args: EditArgs,
            }
            <Alone as clap::Parser>::parse_from(std::iter::once("x").chain(edits.iter().flat_map(|edit| ["--edit", *edit]))).args
        }
    }
}
