//! `monosem sae compare`: the figures of several SAEs beside each other, and how much of their directions is the same.

use super::super::{Global, refuse_missing};
use super::figures::{OF_LATENTS, OF_PREDICTIONS, OF_ROWS, formula};
use crate::artifact::{RunDir, grouped, read_json, shell_word};
use crate::features::compare::{Named, cautions, compare, open};
use crate::pipeline::{saes_in_words, train_it};
use crate::sae::{Consistency, Error, Eval, consistency, consistency_formulas};
use anyhow::{Context, bail};
use serde::Serialize;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The SAEs: NAME of this run, NAME@STEP for a snapshot of it, or RUN/NAME of a run beside it; the others are compared with the first
    #[arg(value_name = "[RUN/]NAME", num_args = 2.., required = true)]
    names: Vec<String>,
}

#[derive(Serialize)]
struct Side {
    name: String,
    n_latents: usize,
    /// Absent until `monosem sae eval`.
    eval: Option<Eval>,
    /// With the first; absent for the first itself, and where the two cannot be matched.
    consistency: Option<Consistency>,
    /// What must be known of it.
    cautions: Vec<String>,
    /// The command that measures it; there is none for a snapshot.
    #[serde(skip)]
    to_eval: Option<String>,
}

pub fn run(args: &Args, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let mut sides: Vec<Side> = vec![];
    let mut first: Option<Named> = None;
    for name in &args.names {
        if sides.iter().any(|side| side.name == *name) {
            bail!("{name} is named twice\n  name another SAE");
        }
        let (home, plain) = match name.split_once('/') {
            Some((other, plain)) => (RunDir::new(&global.dir, other), plain),
            None => (run.clone(), name.as_str()),
        };
        refuse_missing(&home, &global.dir)?;
        let named = open(&home, plain).with_context(|| {
            let next = if plain.contains('@') { String::new() } else { format!("; {}", train_it(&home, plain)) };
            format!("cannot open the SAE {plain} of {}\n  those that are there: {}{next}", home.root.display(), saes_in_words(&home, None))
        })?;
        let path = home.sae(plain).join("eval.json");
        let eval = path.exists().then(|| read_json(&path)).transpose()?;
        let to_eval = (!plain.contains('@')).then(|| format!("monosem sae eval --name {} {}", shell_word(plain), home.flags()));
        let mut side = Side { name: name.clone(), n_latents: named.sae.d_sae, eval, consistency: None, cautions: vec![], to_eval };
        match &first {
            None => first = Some(named),
            Some(first) => side.beside(first, &named),
        }
        side.cautions.extend(side.eval.iter().flat_map(super::cautions));
        side.cautions.extend(super::of_a_model_of_before(&home, plain)?);
        sides.push(side);
    }
    if global.json {
        say!("{}", serde_json::json!({ "saes": sides, "formulas": consistency_formulas() }));
        return Ok(());
    }
    for line in table(&sides) {
        say!("{line}");
    }
    let measured_on = |side: &Side| side.eval.as_ref().map(|e| (e.n_eval_tokens, e.n_ce_tokens));
    let mut amounts = sides.iter().filter_map(measured_on);
    if let Some(first) = amounts.next()
        && amounts.any(|other| other != first)
    {
        let commands: Vec<&str> = sides.iter().filter_map(|side| side.to_eval.as_deref()).collect();
        tell!(
            "note: these were not measured on as many tokens, so their figures are of different text; to measure all alike: {}",
            commands.join(" && ")
        );
    }
    let mut said: Vec<(&str, Vec<&str>)> = vec![];
    for side in &sides {
        for why in &side.cautions {
            match said.iter_mut().find(|(known, _)| known == why) {
                Some((_, names)) => names.push(&side.name),
                None => said.push((why, vec![&side.name])),
            }
        }
    }
    said.iter().for_each(|(why, names)| tell!("{}: {why}", names.join(", ")));
    for side in &sides {
        if let (None, Some(command)) = (&side.eval, &side.to_eval) {
            tell!("{} is not evaluated yet: {command}", side.name);
        }
    }
    Ok(())
}

impl Side {
    /// What it shares with the first. Where their directions cannot be matched that is said, and the figures of both are shown all the same.
    fn beside(&mut self, first: &Named, this: &Named) {
        let first_line = |why: String| why.lines().next().unwrap_or_default().to_string();
        match consistency(&first.sae, &this.sae) {
            Ok(found) => self.consistency = Some(found),
            Err(Error::Config { what }) => self.cautions.push(first_line(what)),
            Err(other) => self.cautions.push(first_line(other.to_string())),
        }
        let matched = match compare(first.side(), this.side()) {
            Ok(found) => found.matched,
            Err(why) => {
                // Directions of another width were refused above already.
                if first.sae.d_out() == this.sae.d_out() {
                    self.cautions.push(first_line(why.to_string()));
                }
                vec![]
            }
        };
        self.cautions.extend(cautions(first, this, &matched));
    }
}

fn table(sides: &[Side]) -> Vec<String> {
    let width = sides.iter().map(|side| side.name.len()).max().unwrap_or(0).max(11);
    let line = |name: &str, cell: &dyn Fn(&Side) -> String, formula: &str| {
        let cells: Vec<String> = sides.iter().map(|side| format!("{:>width$}", cell(side))).collect();
        format!("{name:30} {}   {formula}", cells.join(" ")).trim_end().to_string()
    };
    let nothing = || "-".to_string();
    let mut lines = vec![line("", &|side| side.name.clone(), ""), line("latents", &|side| grouped(side.n_latents as u64), "")];
    if let Some(known) = sides.iter().find_map(|side| side.eval.as_ref()) {
        lines.extend(OF_ROWS.iter().chain(&OF_PREDICTIONS).chain(&OF_LATENTS).map(|(name, of)| {
            let cell = |side: &Side| side.eval.as_ref().and_then(of).map_or_else(nothing, |figure| format!("{figure:.4}"));
            line(name, &cell, formula(known, name))
        }));
        let tokens = |side: &Side| side.eval.as_ref().map_or_else(nothing, |eval| grouped(eval.n_eval_tokens));
        lines.push(line("n_eval_tokens", &tokens, ""));
    }
    let mut shared = |name: &str, of: fn(&Consistency) -> Option<f64>| {
        let cell = |side: &Side| side.consistency.as_ref().and_then(of).map_or_else(nothing, |value| format!("{value:.4}"));
        lines.push(line(name, &cell, &format!("{}; with {}", consistency_formulas()[name], sides[0].name)));
    };
    shared("pw_mcc", |c| Some(c.pw_mcc));
    shared("pw_mcc_by_chance", |c| c.pw_mcc_by_chance);
    shared("matched_frac", |c| Some(c.matched_frac));
    lines
}
