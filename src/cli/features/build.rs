//! `monosem features build`

use super::super::{Global, Interrupted, Terminal, again, one_or_more};
use super::{Loaded, OpenedSae, Which, open_model, open_sae, print};
use crate::artifact::{RunDir, Start};
use crate::features::store::Meta;
use crate::features::{self, BuildConfig, Checkpoint, Units};
use crate::lm::{CpuEngine, HookPoint, layers};
use anyhow::bail;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tokens that statistics are over ("dead" is defined on 1,000,000)
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = one_or_more::<u64>)]
    tokens: u64,
    /// Read held-out half A instead of training text
    #[arg(long)]
    held_out: bool,
    /// Where neurons are read (latents: where their SAE was trained) [default: blocks.0.mlp.hook_post]
    #[arg(long, value_name = "HOOK")]
    hook: Option<HookPoint>,
    /// Seed of the random examples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Go on with a pass that was interrupted; begin anew where there is none
    #[arg(long)]
    resume: bool,
    /// Discard a pass that was interrupted
    #[arg(long, conflicts_with = "resume")]
    yes: bool,
}

pub fn run(args: Args, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let Loaded { stream, tokenizer, lm, lm_manifest } = open_model(run)?;
    let _lock = run.lock()?;
    let sae = if which.neurons { None } else { Some(open_sae(run, &which.sae, &lm_manifest, &lm.config)?) };
    let hook = match (&sae, args.hook) {
        (Some(OpenedSae { hook, .. }), Some(asked)) if *hook != asked => bail!("SAE {} was trained on {hook}, not on {asked}", which.sae),
        (Some(OpenedSae { hook, .. }), _) => *hook,
        (None, asked) => asked.unwrap_or(HookPoint::mlp_post(0)),
    };
    if hook.layer >= lm.config.n_layers {
        bail!("{hook} is not in a model of {}", layers(lm.config.n_layers));
    }
    let sae_hash = sae.as_ref().map(|opened| opened.manifest.hash()).unwrap_or_default();
    let units = match &sae {
        Some(OpenedSae { sae, target, .. }) => Units::Latents { sae, name: &which.sae, manifest_hash: &sae_hash, target: *target },
        None => Units::Neurons,
    };
    let path = run.features(which.name());
    let n_units = sae.as_ref().map_or(hook.d_in(&lm.config), |opened| opened.sae.d_sae);
    tell!(
        "features of {n_units} {} at {hook} over {} tokens of {}, seed {}\n  writes {} (about {} MB)",
        if sae.is_some() { "latents" } else { "neurons" },
        args.tokens,
        if args.held_out { "held-out half A" } else { "training text, at even distances" },
        args.seed,
        path.display(),
        1 + n_units * 20 / 1000
    );
    let mut config = BuildConfig { n_tokens: args.tokens, held_out: args.held_out, ..Default::default() };
    config.collect.seed = args.seed;
    let mut engine = CpuEngine::new(lm);
    let lm_hash = lm_manifest.hash();
    let checkpoint = Some(Checkpoint::new(run.checkpoints(&format!("features-{}", which.name())), Start::from_flags(args.resume, args.yes)));
    let inputs = features::Inputs { engine: &mut engine, lm_hash: &lm_hash, stream: &stream, tokenizer: &tokenizer, hook, checkpoint };
    let meta = match features::build(&path, inputs, units, &config, &mut Terminal::new()) {
        Err(features::Error::Interrupted) => {
            return Err(Interrupted { resume: again("--resume") }.into());
        }
        done => done?,
    };
    print(global, &meta, |out| {
        let m: &Meta = &meta;
        writeln!(out, "{}: {} {}s over {} tokens in {:.0} s", path.display(), m.n_units, m.kind.name(), m.n_tokens, m.wall_seconds)?;
        let census: Vec<String> = m.census.iter().map(|c| format!("{} {}", c.category.name(), c.n)).collect();
        writeln!(out, "each once: {}", census.join(", "))?;
        let (locked, duplicated) = (m.n_position_locked, m.n_duplicated);
        writeln!(
            out,
            "flags: single-token {}, junk {}, position-locked {locked}, duplicated {duplicated}, polysemantic {}",
            m.n_single_token, m.n_junk, m.n_polysemantic
        )
    })?;
    tell!("next: monosem features list --sort max {} {}", which.flags(), run.flags());
    Ok(())
}
