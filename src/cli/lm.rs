//! `monosem lm`: the language model.

use super::{Global, Interrupted, Terminal, again, one_or_more};
use crate::artifact::{Manifest, RunDir, Start, grouped, size};
use crate::corpus::{Split, TokenStream, Tokenizer};
use crate::lm::{self, Activation, CpuEngine, Engine, Error, Lm, LmConfig, Sampling, TrainConfig};
use crate::pipeline::lm_command;
use anyhow::{Context, bail};
use std::path::PathBuf;

/// Train, evaluate or generate with a language model
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Train a GPT-2-style model on DIR/RUN/tokens, write DIR/RUN/lm in Hugging Face layout
    ///
    /// Ctrl-C saves; --resume goes on, bit for bit as if it had never stopped.
    #[command(after_help = TRAIN_EXAMPLES)]
    Train(Box<Train>),
    /// Print the loss on held-out text
    Eval(Eval),
    /// Continue a text
    Generate(Generate),
}

const TRAIN_EXAMPLES: &str = "\
Examples:
  monosem lm train --run mine                             the laptop preset, one block
  monosem lm train --run mine --n-layers 2 --tokens 20000000
  monosem lm train --run mine --preset blog-mlp --tokens 2000000000 --resume";

#[derive(Debug, clap::Args)]
struct Train {
    /// Sizes to start from: tiny, laptop, bricken-a1, blog-mlp or blog-out; the vocabulary is always the tokens'
    #[arg(long, default_value = "laptop", value_name = "NAME", hide_possible_values = true,
          value_parser = ["tiny", "laptop", "bricken-a1", "blog-mlp", "blog-out"])]
    preset: String,
    /// Tokens of a window [default: the preset's]
    #[arg(long, value_name = "TOKENS")]
    n_ctx: Option<usize>,
    /// Width of the residual stream [default: the preset's]
    #[arg(long, value_name = "N")]
    d_model: Option<usize>,
    /// Blocks [default: the preset's]
    #[arg(long, value_name = "N")]
    n_layers: Option<usize>,
    /// Attention heads of a block [default: the preset's]
    #[arg(long, value_name = "N")]
    n_heads: Option<usize>,
    /// Neurons of a block [default: the preset's]
    #[arg(long, value_name = "N")]
    d_mlp: Option<usize>,
    /// Non-linearity of the MLP, relu or gelu [default: the preset's]
    #[arg(long, value_name = "NAME", value_parser = activation)]
    activation: Option<Activation>,
    /// The unembedding shares the embedding's weights
    #[arg(long)]
    tied: bool,
    /// Tokens to train on, rounded up to whole steps
    #[arg(long, value_name = "TOKENS", default_value_t = TrainConfig::default().tokens, value_parser = one_or_more::<u64>)]
    tokens: u64,
    /// Steps to train for, instead of --tokens
    #[arg(long, value_name = "STEPS", conflicts_with = "tokens")]
    steps: Option<u64>,
    /// Windows in one pass
    #[arg(long, value_name = "WINDOWS", default_value_t = TrainConfig::default().batch)]
    batch: usize,
    /// Passes whose gradients are summed before a step
    #[arg(long, value_name = "PASSES", default_value_t = TrainConfig::default().accumulate)]
    accumulate: usize,
    /// Peak learning rate
    #[arg(long, value_name = "RATE", default_value_t = TrainConfig::default().lr)]
    lr: f32,
    /// Part of the run in which the rate rises
    #[arg(long, value_name = "FRACTION", default_value_t = TrainConfig::default().warmup)]
    warmup: f32,
    /// Rate at the end as a part of the peak
    #[arg(long, value_name = "FRACTION", default_value_t = TrainConfig::default().lr_end)]
    lr_end: f32,
    /// Decoupled weight decay of matrices
    #[arg(long, value_name = "RATE", default_value_t = TrainConfig::default().weight_decay)]
    weight_decay: f32,
    /// Largest global norm of the gradient
    #[arg(long, value_name = "NORM", default_value_t = TrainConfig::default().clip)]
    clip: f32,
    /// Windows of held-out half A that the loss is measured on
    #[arg(long, value_name = "WINDOWS", default_value_t = TrainConfig::default().eval_windows)]
    eval_windows: usize,
    /// Held-out measurements in the run
    #[arg(long, value_name = "N", default_value_t = TrainConfig::default().evals)]
    evals: usize,
    /// Steps between lines of train.jsonl
    #[arg(long, value_name = "STEPS", default_value_t = TrainConfig::default().log_every)]
    log_every: u64,
    /// Steps between checkpoints [default: 500]
    #[arg(long, value_name = "STEPS")]
    checkpoint_every: Option<u64>,
    /// Seed of the initial weights and the order of windows
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Go on from a finished model's weights (fine-tune): the name of a run, or a folder with a model. Its sizes are taken; the tokens must be of its tokenizer
    #[arg(long, value_name = "RUN|DIR", conflicts_with_all = ["preset", "n_ctx", "d_model", "n_layers", "n_heads", "d_mlp", "activation", "tied"])]
    from: Option<PathBuf>,
    /// Go on from the newest checkpoint of the same settings
    #[arg(long)]
    resume: bool,
    /// Replace a finished model of other settings, and checkpoints
    #[arg(long, conflicts_with = "resume")]
    yes: bool,
}

#[derive(Debug, clap::Args)]
struct Eval {
    /// Windows, evenly over the half
    #[arg(long, value_name = "WINDOWS", default_value_t = 256)]
    eval_windows: u64,
    /// Held-out half: a, or b for figures that are published
    #[arg(long, value_name = "HALF", default_value = "a", value_parser = half)]
    split: Split,
    /// Instead of a loss, print the logits after these token ids: a JSON array, with --json an object that holds it as `logits`
    #[arg(long, value_name = "ID,...", value_delimiter = ',')]
    logits: Vec<u32>,
}

#[derive(Debug, clap::Args)]
struct Generate {
    /// The text to continue; empty begins a document
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,
    /// Most tokens to write
    #[arg(long, value_name = "TOKENS", default_value_t = 100)]
    n_tokens: usize,
    /// Logits are divided by this; 0 takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.8, value_parser = temperature, allow_negative_numbers = true)]
    temperature: f32,
    /// Only the K likeliest tokens
    #[arg(long, value_name = "K", value_parser = at_least_one)]
    top_k: Option<usize>,
    /// Only the likeliest tokens that together hold this probability, above 0 and at most 1
    #[arg(long, value_name = "P", value_parser = probability)]
    top_p: Option<f32>,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

fn activation(text: &str) -> Result<Activation, String> {
    match text {
        "relu" => Ok(Activation::Relu),
        "gelu" => Ok(Activation::Gelu),
        _ => Err("known are relu and gelu".into()),
    }
}

fn temperature(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|t: &f32| t.is_finite() && *t >= 0.0).ok_or("a temperature is a number from 0 on".into())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&k: &usize| k > 0).ok_or("at least one token must be left to draw from".into())
}

fn probability(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|p: &f32| *p > 0.0 && *p <= 1.0).ok_or("a probability above 0 and at most 1 is expected".into())
}

fn half(text: &str) -> Result<Split, String> {
    match text {
        "a" => Ok(Split::HeldOutA),
        "b" => Ok(Split::HeldOutB),
        _ => Err("known are a and b".into()),
    }
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    match args.command {
        Command::Train(args) => train(*args, global, &run),
        Command::Eval(args) => eval(&args, global, &run),
        Command::Generate(args) => generate(&args, global, &run),
    }
}

impl Train {
    fn configs(&self, d_vocab: usize, global: &Global) -> lm::Result<(LmConfig, TrainConfig)> {
        let preset = LmConfig::preset(&self.preset)?;
        let named = |from: &PathBuf| global.dir.join(from).join("lm");
        let from = self.from.as_ref().map(|from| if from.join("config.json").exists() { from.clone() } else { named(from) });
        let config = LmConfig {
            d_vocab,
            n_ctx: self.n_ctx.unwrap_or(preset.n_ctx),
            d_model: self.d_model.unwrap_or(preset.d_model),
            n_layers: self.n_layers.unwrap_or(preset.n_layers),
            n_heads: self.n_heads.unwrap_or(preset.n_heads),
            d_mlp: self.d_mlp.unwrap_or(preset.d_mlp),
            activation: self.activation.unwrap_or(preset.activation),
            tied: self.tied || preset.tied,
        };
        let config = match &from {
            Some(dir) => Lm::load(dir)?.config,
            None => config,
        };
        config.check()?;
        let step_tokens = (self.batch * self.accumulate * config.n_ctx) as u64;
        let train = TrainConfig {
            tokens: self.steps.map_or(self.tokens, |s| s * step_tokens),
            batch: self.batch,
            accumulate: self.accumulate,
            lr: self.lr,
            warmup: self.warmup,
            lr_end: self.lr_end,
            weight_decay: self.weight_decay,
            clip: self.clip,
            seed: self.seed,
            eval_windows: self.eval_windows,
            evals: self.evals,
            log_every: self.log_every,
            checkpoint_every: self.checkpoint_every.or(TrainConfig::default().checkpoint_every),
            from,
            ..TrainConfig::default()
        };
        train.check()?;
        Ok((config, train))
    }
}

fn train(args: Train, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let stream = open_tokens(run)?;
    let (config, settings) = args.configs(stream.d_vocab(), global)?;
    let _lock = run.lock()?;
    let (n, steps) = (config.n_params(), settings.steps(config.n_ctx));
    let bytes = |per_parameter: usize| size((per_parameter * n) as u64);
    tell!("reads {} ({} tokens, vocabulary {}), seed {}", run.tokens().display(), grouped(stream.len()), stream.d_vocab(), settings.seed);
    tell!(
        "writes {} ({}; checkpoints up to {}): {} parameters, d_model {}, d_mlp {}, {}, context {}",
        run.lm().display(),
        bytes(4),
        bytes(2 * 12),
        grouped(n as u64),
        config.d_model,
        config.d_mlp,
        lm::layers(config.n_layers),
        config.n_ctx
    );
    let step_tokens = settings.batch * settings.accumulate * config.n_ctx;
    tell!(
        "{} steps of {step_tokens} tokens, peak learning rate {}, about {} of memory for weights, gradients and moments",
        grouped(steps),
        settings.lr,
        bytes(16)
    );
    let mut progress = Terminal::new();
    let report = match lm::train(&stream, &config, &settings, run, Start::from_flags(args.resume, args.yes), &mut progress) {
        Err(Error::Interrupted { .. }) => return Err(Interrupted { resume: again("--resume") }.into()),
        done => done.with_context(|| format!("cannot train {}", run.lm().display()))?,
    };
    if global.json {
        say!("{}", serde_json::to_string(&report)?);
    } else {
        say!("held-out loss {:.4} nats after {} tokens (training {:.4})", report.held_out_loss, report.tokens, report.train_loss);
        say!("{} parameters, {:.0} tokens/s, {:.0} s", report.n_params, report.tokens_per_s, report.wall_seconds);
    }
    if let Some(note) = worse_than_a_guess(report.held_out_loss, config.d_vocab) {
        tell!("note: {note}\n  train again with a lower --lr than {} or more --tokens than {}", settings.lr, grouped(report.tokens));
    }
    let flags = run.flags();
    tell!("{}\n  next: monosem lm generate {flags}   or: monosem sae train {flags}", run.lm().display());
    Ok(())
}

/// What to say of a model whose loss is above that of a uniform guess over the vocabulary: it has learnt nothing, or its training diverged.
fn worse_than_a_guess(loss: f64, d_vocab: usize) -> Option<String> {
    let uniform = (d_vocab as f64).ln();
    (loss > uniform).then(|| {
        format!(
            "the model is worse than a uniform guess: {loss:.4} nats on held-out text, where ln({}) = {uniform:.4} is chance",
            grouped(d_vocab as u64)
        )
    })
}

/// What `lm eval` prints.
#[derive(serde::Serialize)]
struct Evaluated {
    split: &'static str,
    /// Mean cross-entropy in nats per token.
    loss: f64,
    perplexity: f64,
    bits_per_byte: f64,
    tokens: u64,
}

fn eval(args: &Eval, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let lm = open_lm(run)?;
    let LmConfig { n_ctx, d_vocab, .. } = lm.config;
    let mut engine = CpuEngine::new(lm);
    if !args.logits.is_empty() {
        let n = args.logits.len();
        if n > n_ctx || args.logits.iter().any(|&id| id as usize >= d_vocab) {
            bail!("--logits takes at most {n_ctx} ids below {d_vocab}");
        }
        let mut logits = vec![0.0; d_vocab];
        engine.logits(&args.logits, n, &[n - 1], None, &mut logits);
        if global.json {
            say!("{}", serde_json::json!({ "ids": args.logits, "logits": logits }));
        } else {
            say!("{}", serde_json::to_string(&logits)?);
        }
        return Ok(());
    }
    let stream = open_tokens(run)?;
    if stream.d_vocab() != d_vocab {
        return Err(Error::Vocabulary { model: d_vocab, tokens: stream.d_vocab() }.into());
    }
    let tokenizer = open_tokenizer(run)?;
    let windows = stream.spread_windows(args.split, n_ctx, args.eval_windows);
    let n = windows.len() as u64;
    if n == 0 {
        return Err(Error::TooFewWindows { split: args.split.name(), found: 0, needed: 1, n_ctx }.into());
    }
    let loss = lm::held_out_loss(&mut engine, &stream, &windows);
    let (mut bytes, mut ids) = (0usize, vec![0; n_ctx]);
    for w in &windows {
        stream.read(w * n_ctx as u64 + 1, &mut ids);
        bytes += ids.iter().filter(|&&id| id != stream.end_of_text()).map(|&id| tokenizer.bytes(id).len()).sum::<usize>();
    }
    let tokens = n * n_ctx as u64;
    let bits_per_byte = loss * tokens as f64 / bytes.max(1) as f64 / std::f64::consts::LN_2;
    let report = Evaluated { split: args.split.name(), loss, perplexity: loss.exp(), bits_per_byte, tokens };
    if global.json {
        say!("{}", serde_json::to_string(&report)?);
    } else {
        say!(
            "{}: loss {loss:.4} nats, perplexity {:.2}, {bits_per_byte:.4} bits a byte, on {tokens} tokens in {n} windows",
            report.split,
            report.perplexity
        );
    }
    Ok(())
}

fn generate(args: &Generate, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let lm = open_lm(run)?;
    let tokenizer = open_tokenizer(run)?;
    // A model may have more ids than its tokenizer; those have no bytes.
    if tokenizer.d_vocab() > lm.config.d_vocab {
        return Err(Error::Vocabulary { model: lm.config.d_vocab, tokens: tokenizer.d_vocab() }.into());
    }
    let end = tokenizer.end_of_text();
    let mut prompt = vec![end];
    prompt.extend(tokenizer.encode(&args.prompt));
    let sampling = Sampling { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p, seed: args.seed };
    tell!("seed {}, temperature {}", args.seed, args.temperature);
    let tokens = lm::generate(&lm, &prompt, args.n_tokens, &sampling, Some(end), None);
    let text = String::from_utf8_lossy(&tokenizer.decode_bytes(&tokens)).into_owned();
    if global.json {
        say!("{}", serde_json::json!({ "prompt": args.prompt, "text": text, "tokens": tokens, "seed": args.seed }));
    } else {
        say!("{}{text}", args.prompt);
    }
    Ok(())
}

fn open_tokens(run: &RunDir) -> anyhow::Result<TokenStream> {
    let dir = run.tokens();
    TokenStream::open(&dir).with_context(|| format!("cannot read {}\n  build it with: monosem corpus build {}", dir.display(), run.flags()))
}

/// The run's model.
pub(super) fn open_lm(run: &RunDir) -> anyhow::Result<Lm> {
    Lm::load(&run.lm()).with_context(|| without_lm(run))
}

/// What says what the run's model was made from.
pub(super) fn lm_manifest(run: &RunDir) -> anyhow::Result<Manifest> {
    Manifest::read(&run.lm(), "lm", lm::FORMAT_VERSION).with_context(|| without_lm(run))
}

/// What to do where the run's model cannot be read.
fn without_lm(run: &RunDir) -> String {
    let was_there = run.lm().exists() || run.config().exists();
    let again = if was_there { "put it back, or train it again with" } else { "make it with" };
    format!("cannot read the model of {}\n  {again}: {}", run.root.display(), lm_command(run))
}

/// The tokenizer beside the model, or the run's.
fn open_tokenizer(run: &RunDir) -> anyhow::Result<Tokenizer> {
    let path = [run.lm(), run.tokens()].map(|d| d.join("tokenizer.json")).into_iter().find(|p: &PathBuf| p.exists());
    let path = path.with_context(|| format!("there is no tokenizer.json in {} or {}", run.lm().display(), run.tokens().display()))?;
    Ok(Tokenizer::load(&path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_is_worse_than_a_uniform_guess_is_told_with_both_numbers() {
        // ln 4096 = 12 ln 2 = 8.3178; a newcomer's --lr 5 ended far above it, and nothing was said.
        let note = worse_than_a_guess(2449.73, 4096).unwrap();
        assert!(note.contains("2449.7300 nats") && note.contains("ln(4,096) = 8.3178"), "{note}");
        assert_eq!(worse_than_a_guess(8.3, 4096), None);
    }
}
