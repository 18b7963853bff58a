//! `monosem sae controls`: an SAE beside what learned less, or nothing.

use super::super::{Global, Interrupted, Terminal, again, one_or_more};
use super::{Subject, is_missed};
use crate::artifact::{Manifest, RunDir, grouped, settings, write_json};
use crate::pipeline::{self, ControlKind, ControlRow, EvalConfig, controls};
use crate::sae::{Decoder, Forecast, SAE_FORMAT_VERSION, Speed, TrainConfig, metric_formulas, seconds_in_words};
use anyhow::bail;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the SAE
    #[arg(long, visible_alias = "sae", default_value = "main", value_name = "NAME")]
    name: String,
    /// Held-out tokens to measure reconstruction on
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = one_or_more::<u64>)]
    tokens: u64,
    /// Held-out tokens to measure cross-entropies on
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = one_or_more::<u64>)]
    ce_tokens: u64,
    /// Seed of the random directions
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Replace SAEs that have the name of a control and other settings
    #[arg(long)]
    yes: bool,
}

pub fn run(args: &Args, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let _lock = run.lock()?;
    let dir = run.sae(&args.name);
    let Subject { hook, target, stream, mut engine, .. } = Subject::open(run, &args.name)?;
    if target.is_some() {
        bail!("{} is a transcoder: its controls would have to reconstruct another place than they read\n  name an SAE", args.name);
    }
    let manifest = Manifest::read(&dir, "sae", SAE_FORMAT_VERSION)?;
    let holds_its_decoder = serde_json::from_value::<TrainConfig>(manifest.config.clone()).is_ok_and(|config| config.decoder != Decoder::Free);
    if pipeline::shuffled_by(&manifest).is_some() || holds_its_decoder {
        bail!("{} is a control itself\n  name the SAE that it is a control of", args.name);
    }
    tell!("trains {0}-frozen, {0}-soft-frozen and {0}-shuffled where they are not there, each on as many rows as {0}", args.name);
    let to_train = pipeline::controls_to_train(run, &args.name)?;
    for (train, place) in to_train.iter().filter(|_| !args.yes) {
        let differs = place.differences(train)?;
        if !differs.is_empty() {
            bail!(
                "{} is no control of {} as that is now: {}\n  replace it: the same command with --yes",
                place.out.display(),
                args.name,
                settings::listed(&differs)
            );
        }
    }
    if manifest.inputs.contains_key("activations") {
        tell!(
            "  note: {} was trained on cached rows, in their precision and some perhaps more than once; its controls are trained on rows as the model computes them",
            args.name
        );
    }
    if !to_train.is_empty() {
        let speed = Speed::measure();
        let each = to_train.iter().map(|(train, place)| (place.left(train), Forecast::of(train).seconds(speed)));
        let all = each.fold((0.0, 0.0), |sum, (left, one)| (sum.0 + left * one.0, sum.1 + left * one.1));
        tell!(
            "  some {} for the steps of {} trainings, by what was measured just now; the model's time comes on top",
            seconds_in_words(all),
            to_train.len()
        );
    }
    let config = EvalConfig { hook, tokens: args.tokens, ce_tokens: args.ce_tokens, neurons: None, seed: args.seed };
    let rows = match controls(&mut engine, &stream, run, &args.name, &config, args.yes, &mut Terminal::new()) {
        Err(pipeline::Error::Interrupted) => return Err(Interrupted { resume: again("") }.into()),
        done => done?,
    };
    let figures = serde_json::json!({ "controls": rows, "formulas": metric_formulas(), "measured": config });
    write_json(&dir.join("all_controls.json"), &figures)?;
    if global.json {
        say!("{figures}");
        return Ok(());
    }
    for line in table(&rows) {
        say!("{line}");
    }
    let l0 = rows.first().map_or(0.0, |sae| sae.l0);
    for row in rows.iter().filter(|row| is_missed(l0, row.l0)) {
        tell!("note: {}: L0 is {:.1}, that of the SAE {l0:.1}, so the two are not compared at equal sparsity", name(row.control), row.l0);
    }
    tell!("ev, l0 and dead on up to {} held-out tokens, rows: what was trained on", grouped(args.tokens));
    tell!(
        "recovered: of the cross-entropy lost where all activations are zero, and where they are their mean; the same with formulas in {}",
        dir.join("all_controls.json").display()
    );
    Ok(())
}

fn name(control: ControlKind) -> &'static str {
    match control {
        ControlKind::Trained => "the SAE",
        ControlKind::FrozenDecoder => "decoder frozen as drawn",
        ControlKind::SoftFrozenDecoder => "decoder within cosine 0.8 of it",
        ControlKind::ShuffledModel => "of the model with shuffled weights",
        ControlKind::RandomDecoder => "random directions, not trained",
        ControlKind::Pca => "principal components",
        ControlKind::LargestNeurons => "largest neurons, the rest's mean",
        ControlKind::LargestNeuronsZero => "largest neurons, the rest zero",
    }
}

fn table(rows: &[ControlRow]) -> Vec<String> {
    let head = format!(
        "{:36} {:>8} {:>9} {:>9} {:>17} {:>16} {:>7} {:>11}",
        "", "l0", "ev", "gap nats", "recovered (zeros)", "recovered (mean)", "dead", "rows"
    );
    let figure = |value: Option<f64>, decimals: usize| value.map_or("-".into(), |v| format!("{v:.decimals$}"));
    let line = |row: &ControlRow| {
        let rows = if row.rows == 0 { "-".into() } else { grouped(row.rows) };
        let (ev, gap) = (figure(row.explained_variance, 4), figure(row.gap_nats, 4));
        let (zeros, mean) = (figure(row.ce_recovered_zero, 4), figure(row.ce_recovered_mean, 4));
        let dead = row.dead_frac.map_or("-".into(), |d| format!("{:.1} %", 100.0 * d));
        format!("{:36} {:>8.2} {ev:>9} {gap:>9} {zeros:>17} {mean:>16} {dead:>7} {rows:>11}", name(row.control), row.l0)
    };
    std::iter::once(head).chain(rows.iter().map(line)).collect()
}
