//! `monosem steer`: text with features edited, beside the unedited text.

use super::Global;
use crate::artifact::{Manifest, RunDir, read_json, shell_word};
use crate::corpus::{Split, TokenStream, Tokenizer};
use crate::features::Dictionary;
use crate::intervene::measure::max_activations;
use crate::intervene::strength::{SafeStrength, caution, safe_strength};
use crate::intervene::write::{Rig, Writing};
use crate::intervene::{LatentEdit, Rule, Scope, Steered, Steering, steer};
use crate::lm::{CpuEngine, Engine, HookPoint, Lm, Sampling};
use crate::pipeline::saes;
use crate::sae::{Sae, read_origin};
use anyhow::{Context, anyhow, bail};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Generate with features edited, beside the unedited text
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a continuation twice with the same luck: unedited, and with latents edited
    ///
    /// The SAE's error is kept, so that only the edited latents change. Without --strength, --add, --scale or --zero the latent is clamped
    /// to the largest of 8, 5, 3, 2, 1 or half its maximum at which the text stays readable: its perplexity under the unedited model at most
    /// 1.5 times, its distinct bigrams at least 0.8 times, those of the unedited text.
    #[command(after_help = EXAMPLES)]
    Run(Box<Run>),
}

const EXAMPLES: &str = "\
Examples:
  monosem steer run --latent 17 --prompt 'The king'          as strong as stays readable
  monosem steer run --latent 17 --strength 5                 held at 5 times its maximum
  monosem steer run --latent 17 --latent 40 --zero           both taken out";

#[derive(Debug, clap::Args)]
struct Run {
    /// Latent to edit; may be given more than once, all get the same rule
    #[arg(long, value_name = "N", required = true)]
    latent: Vec<u32>,
    /// Clamp to S times the latent's largest activation; 0 removes the latent [default: found as said above]
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
    /// Which positions are edited: all, prompt, generated (with the prompt's last), or a position N and all after it
    #[arg(long, default_value = "all", value_name = "SCOPE", value_parser = scope)]
    scope: Scope,
    /// Text to go on from; empty begins a document
    #[arg(long, default_value = "", value_name = "TEXT")]
    prompt: String,
    /// Tokens to write, at most; a side stops at its <|endoftext|>
    #[arg(long, default_value_t = 60, value_name = "N")]
    tokens: usize,
    /// Seed of the draws, shared by both sides
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Logits are divided by this; 0 takes the likeliest token
    #[arg(long, default_value_t = 0.8, value_name = "T")]
    temperature: f32,
    /// Draw from the N likeliest tokens only
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Name of the SAE [default: main, or the only one of the run]
    #[arg(long, value_name = "NAME")]
    sae: Option<String>,
}

fn scope(text: &str) -> Result<Scope, String> {
    Ok(match text {
        "all" => Scope::All,
        "prompt" => Scope::Prompt,
        "generated" => Scope::Generated,
        n => Scope::From(n.parse().map_err(|_| format!("{n} is not all, prompt, generated or a position"))?),
    })
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let Command::Run(args) = args.command;
    run_one(&args, global)
}

fn run_one(args: &Run, global: &Global) -> anyhow::Result<()> {
    if !(args.temperature >= 0.0 && args.temperature.is_finite()) {
        bail!("--temperature {} must be 0 or more", args.temperature);
    }
    let run = RunDir::new(&global.dir, &global.run);
    let name = match &args.sae {
        Some(name) => name.clone(),
        None => only_sae(&run)?,
    };
    let sae_dir = run.sae(&name);
    tell!("reads {} and {}", run.lm().display(), sae_dir.display());
    let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).context("cannot read the run's tokenizer")?;
    if !sae_dir.is_dir() {
        let known = saes(&run).join(", ");
        bail!("there is no SAE {name} in {}\n  those that are there: {}", run.root.display(), if known.is_empty() { "none" } else { &known });
    }
    let sae = Sae::load(&sae_dir)?;
    let manifest = |dir: &std::path::Path| read_json::<Manifest>(&dir.join("manifest.json"));
    let rerun = format!("monosem sae train --name {name} {}", run.flags());
    manifest(&sae_dir)?.check_input(&sae_dir, "lm", &manifest(&run.lm())?, &rerun)?;
    let hook: HookPoint = read_origin(&sae_dir)?.hook_name.parse().map_err(|e: String| anyhow!("{}: {e}", sae_dir.display()))?;
    let mut engine = CpuEngine::new(Lm::load(&run.lm())?);
    for &latent in &args.latent {
        Steering::one(latent, Rule::Zero).check(&sae)?;
    }
    let (max_acts, measured_on) = maxima(args, &run, &name, &mut engine, hook, &sae)?;
    let lm = engine.lm();
    let rig = Rig { lm: &lm, tokenizer: &tokenizer, sae: &sae, hook };
    let sampling = Sampling { temperature: args.temperature, top_k: args.top_k, top_p: None, seed: args.seed };
    let prompt = rig.prompt(&args.prompt);

    for (flag, value) in [("--strength", args.strength), ("--add", args.add), ("--scale", args.scale)] {
        if value.is_some_and(|value| !value.is_finite()) {
            bail!("{flag} must be a number, not {}", value.unwrap_or_default());
        }
    }
    let mut found = Vec::new();
    let mut edits = Vec::new();
    let mut cautions = Vec::new();
    for (&latent, &max_act) in args.latent.iter().zip(&max_acts) {
        let rule = match (args.strength, args.add, args.scale, args.zero) {
            (Some(s), ..) => Rule::Set(s * max_act),
            (_, Some(s), ..) => Rule::Add(s * max_act),
            (_, _, Some(s), _) => Rule::Scale(s),
            (_, _, _, true) => Rule::Zero,
            _ => {
                let safe = safe_strength(rig, latent, max_act, std::slice::from_ref(&prompt), &sampling)?;
                tell_safe(latent, &safe);
                let rule = Rule::Set(safe.multiple * max_act);
                found.push(safe);
                rule
            }
        };
        tell!("latent {latent}: largest activation {max_act:.3} ({measured_on}); {}", spoken(&rule));
        let edit = LatentEdit::new(latent, rule);
        if let Some(caution) = caution(rig, &edit, max_act, &prompt) {
            tell!("warning: latent {latent}: {caution}");
            cautions.push(caution);
        }
        edits.push(edit);
    }
    let steering = Steering { scope: args.scope, ..Steering::of(edits) };
    let both = steer(rig, &steering, &prompt, &Writing::new(args.tokens, &sampling), &mut |_, _| ControlFlow::Continue(()))?;
    if global.json {
        let object = serde_json::json!({
            "sae": name, "hook": hook, "prompt": args.prompt, "seed": args.seed, "temperature": args.temperature, "top_k": args.top_k,
            "steering": steering, "max_act": max_acts, "max_act_from": measured_on, "safe_strength": found, "cautions": cautions,
            "unedited": both.unedited, "edited": both.edited, "first_difference": both.first_difference,
        });
        say!("{object}");
    } else {
        write!(std::io::stdout(), "{}", side_by_side(&args.prompt, &both, terminal_width()))?;
    }
    tell!(
        "seed {}, temperature {}; look at the feature: monosem features show {} --sae {} {}",
        args.seed,
        args.temperature,
        args.latent[0],
        shell_word(&name),
        run.flags()
    );
    Ok(())
}

/// What a rule does, in words.
fn spoken(rule: &Rule) -> String {
    match rule {
        Rule::Set(act) => format!("set to {act:.3}"),
        Rule::Add(act) => format!("{act:+.3} added"),
        Rule::Scale(factor) => format!("multiplied by {factor}"),
        Rule::Zero => "set to 0".into(),
        Rule::AtLeast(act) => format!("held at {act:.3} or more"),
        Rule::AtMost(act) => format!("held at {act:.3} or less"),
        Rule::Project(factor) => format!("what lies along its direction multiplied by {factor}"),
        Rule::Cap(most) => format!("what lies along its direction held at {most:.3} or less"),
    }
}

fn tell_safe(latent: u32, safe: &SafeStrength) {
    let why = if safe.within_bounds { "the largest that stays readable" } else { "the smallest tried; none stayed readable" };
    tell!("latent {latent}: clamped to {} times its maximum, {why}", safe.multiple);
}

/// Each latent's largest activation: from the dictionary of this SAE where there is one, else measured on held-out half A.
fn maxima(args: &Run, run: &RunDir, name: &str, engine: &mut CpuEngine, hook: HookPoint, sae: &Sae) -> anyhow::Result<(Vec<f32>, String)> {
    if run.features(name).exists() {
        let dictionary = Dictionary::open(&run.features(name))?;
        let manifest: Option<Manifest> = read_json(&run.sae(name).join("manifest.json")).ok();
        if dictionary.meta().sae_hash == manifest.map(|m| m.hash()) {
            let acts = args.latent.iter().map(|&l| Ok(dictionary.summary(l)?.max_act)).collect::<anyhow::Result<_>>()?;
            return Ok((acts, format!("in the dictionary, {} tokens", dictionary.meta().n_tokens)));
        }
        tell!("note: {} is of another SAE; measuring instead", run.features(name).display());
    }
    const N_TOKENS: u64 = 50_000;
    let stream = TokenStream::open(&run.tokens())?;
    let all = max_activations(engine, &stream, Split::HeldOutA, hook, sae, N_TOKENS)?;
    let acts: Vec<f32> = args.latent.iter().map(|&l| all[l as usize]).collect();
    if let Some(silent) = acts.iter().position(|&a| a == 0.0).filter(|_| !args.zero && args.scale.is_none()) {
        bail!(
            "latent {} did not fire on {N_TOKENS} held-out tokens, so there is no maximum to be a multiple of\n  choose another latent: monosem features list {}",
            args.latent[silent],
            run.flags()
        );
    }
    Ok((acts, format!("measured on {N_TOKENS} held-out tokens")))
}

fn only_sae(run: &RunDir) -> anyhow::Result<String> {
    let folder: PathBuf = run.root.join("sae");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .map(|entries| {
            entries.flatten().filter(|e| e.path().join("cfg.json").exists()).map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    names.sort();
    match names.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("there is no SAE in {}\n  train one: monosem sae train {}", folder.display(), run.flags()),
        // The other one of two is most often the control of a full exam.
        several if several.iter().any(|name| name == "main") => Ok("main".into()),
        several => bail!("{} has {} SAEs\n  choose one: --sae {}", folder.display(), several.len(), several.join(" | ")),
    }
}

/// Columns of the terminal on stdout; 100 where there is none.
fn terminal_width() -> usize {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(100, |(width, _)| width.0 as usize)
}

/// Both texts in two columns, or one below the other where the terminal is narrower than 60.
fn side_by_side(prompt: &str, both: &Steered, width: usize) -> String {
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

    #[test]
    fn a_scope_is_a_word_or_a_position() {
        assert_eq!(scope("generated"), Ok(Scope::Generated));
        assert_eq!(scope("12"), Ok(Scope::From(12)));
        assert!(scope("some").unwrap_err().contains("position"));
    }
}
