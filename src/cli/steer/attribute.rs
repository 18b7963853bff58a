//! `steer attribute`: which features made the model predict a token.

use super::Global;
use super::rig::Opened;
use crate::artifact::{RunDir, write_atomic};
use crate::cli::features::print;
use crate::cli::one_token;
use crate::corpus::Split;
use crate::features::store::FeatureSummary;
use crate::intervene::attribution::{Attribution, Signs, attribute, signs};
use crate::lm::{CpuEngine, Engine};
use crate::pipeline::plot;
use std::io::Write;
use std::path::PathBuf;

/// Which features made the model predict a token: activation times gradient, beside what it loses when each is truly removed
///
/// With --check the two are compared: how often the cheap one tells the sign of the true effect on the token that follows, for features of all densities on held-out text.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct AttributeArgs {
    /// Text before the token
    #[arg(long, value_name = "TEXT", required_unless_present = "check")]
    prompt: Option<String>,
    /// The token to explain, by text or number [default: the likeliest]
    #[arg(long, value_name = "TOKEN")]
    target: Option<String>,
    /// Features listed
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Write a bar plot
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Compare signs for so many features instead
    #[arg(long, value_name = "FEATURES", num_args = 0..=1, default_missing_value = "50", conflicts_with_all = ["prompt", "target", "plot"])]
    check: Option<usize>,
    /// Name of the SAE [default: main, or the only one of the run]
    #[arg(long, value_name = "NAME")]
    sae: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  monosem steer attribute --prompt 'For the past three'
  monosem steer attribute --prompt 'She said' --target ' that' --plot that.svg
  monosem steer attribute --check";

/// Held-out tokens that signs are compared on, and positions of one feature.
const CHECK_TOKENS: u64 = 200_000;
const CHECK_POSITIONS: usize = 200;

pub(super) fn run(args: &AttributeArgs, global: &Global, dir: &RunDir) -> anyhow::Result<()> {
    let opened = Opened::open(dir, args.sae.as_deref())?;
    let rig = opened.rig();
    if let Some(n) = args.check {
        let found = signs(rig, &opened.stream()?, Split::HeldOutB, CHECK_TOKENS, n, CHECK_POSITIONS)?;
        return print(global, &found, |out| tell_signs(out, &found));
    }
    let mut ids = rig.prompt(args.prompt.as_deref().unwrap_or_default());
    let n_ctx = opened.lm.config.n_ctx;
    if ids.len() > n_ctx {
        ids.drain(..ids.len() - n_ctx);
    }
    let target = match &args.target {
        Some(text) => one_token(&opened.tokenizer, text)?,
        None => {
            let mut logits = vec![0.0; opened.lm.config.d_vocab];
            CpuEngine::new(opened.lm.clone()).logits(&ids, ids.len(), &[ids.len() - 1], None, &mut logits);
            (0..logits.len() as u32).max_by(|a, b| logits[*a as usize].total_cmp(&logits[*b as usize])).unwrap_or(0)
        }
    };
    let found = attribute(rig, &ids, target)?;
    let shown = found.latents.len().min(args.limit);
    if let Some(path) = &args.plot {
        let bars: Vec<(String, f64)> = found.latents[..shown].iter().map(|l| (l.latent.to_string(), l.ablation)).collect();
        let title = format!("what {:?} owes to each feature", rig.text(&[target]));
        let svg = plot::bars(&title, "nats of ln p", &bars);
        write_atomic(path, |file| file.write_all(svg.as_bytes()))?;
        tell!("wrote {}", path.display());
    }
    let summaries: Vec<Option<FeatureSummary>> =
        found.latents[..shown].iter().map(|l| opened.dictionary.as_ref().and_then(|d| d.summary(l.latent).ok())).collect();
    print(global, &found, |out| table(out, &rig.text(&[target]), &found, &summaries))
}

fn table(out: &mut dyn Write, target: &str, found: &Attribution, summaries: &[Option<FeatureSummary>]) -> std::io::Result<()> {
    writeln!(out, "{target:?} has a probability of {:.4} (ln p {:.3}); nats of ln p:", found.log_prob.exp(), found.log_prob)?;
    writeln!(out, "{:>7} {:>10} {:>11} {:>10}  fires most on", "latent", "activation", "attribution", "removed")?;
    for (l, summary) in found.latents.iter().zip(summaries) {
        let tokens = summary
            .as_ref()
            .map_or(String::new(), |s| s.top_tokens.iter().take(5).map(|t| format!("{:?}", t.token.text)).collect::<Vec<_>>().join(" "));
        writeln!(out, "{:>7} {:>10.3} {:>+11.4} {:>+10.4}  {tokens}", l.latent, l.act, l.attribution, l.ablation)?;
    }
    let all: f64 = found.latents.iter().map(|l| l.attribution).sum();
    writeln!(out, "all {} active features {all:+.4}, what the SAE does not explain {:+.4} (attributions)", found.latents.len(), found.error)
}

fn tell_signs(out: &mut dyn Write, found: &Signs) -> std::io::Result<()> {
    writeln!(
        out,
        "{} features at even distances by density, {} positions of held-out half B: activation times gradient has the sign of the true effect on the next token at {:.1} % of them; \
         always saying each feature's more frequent sign, {:.1} %; the feature helps at {:.1} %",
        found.latents.len(),
        found.n,
        100.0 * found.right,
        100.0 * found.majority,
        100.0 * found.helps
    )
}
