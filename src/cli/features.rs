//! `monosem features`

use super::{Global, Interrupted, Terminal, again};
use crate::artifact::{Manifest, RunDir};
use crate::corpus::{TokenStream, Tokenizer};
use crate::features::exam::{ConceptScore, ExamConcept, ExamConfig, Found, MIN_POSITIVES, Subject, Truth, exam};
use crate::features::render::{Style, pieces};
use crate::features::store::{Example, FeatureDetail, FeatureSummary, Flag, GroupKind, ListQuery, Meta, Sort, Why};
use crate::features::{self, BuildConfig, Dictionary, NEURONS, Units};
use crate::labels::Labels;
use crate::lm::{CpuEngine, HookPoint, Lm};
use crate::pipeline::Recipe;
use crate::sae::{Sae, read_origin};
use anyhow::{Context, bail};
use std::io::{IsTerminal, Write};

/// Build, list, show, search and score features
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run text through the model and write the dictionary DIR/RUN/features/NAME.sqlite
    Build(Build),
    /// List features with their statistics
    List(List),
    /// Show one feature: contexts with the firing token in orange, histogram, logit effects, labels
    Show(Show),
    /// Find features by the tokens they fire on and the words around them
    Search(Search),
    /// Rank latents (or neurons) by F1 for a concept on held-out text, beside the floors: neurons, random directions, a shuffled model
    #[command(after_help = FIND_EXAMPLES)]
    Find(Find),
}

const FIND_EXAMPLES: &str = "\
Examples:
  monosem features find --regex '[0-9]{4}' --run mine       the last token of every four digits
  monosem features find --tokens ' he, she' --run mine      these tokens
  monosem features find --label colour                       a concept of the planted corpus";

/// Which dictionary.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// Name of the SAE
    #[arg(long, global = true, default_value = "main", value_name = "NAME")]
    sae: String,
    /// The model's own neurons instead of an SAE's latents
    #[arg(long, global = true)]
    neurons: bool,
}

impl Which {
    fn name(&self) -> &str {
        if self.neurons { NEURONS } else { &self.sae }
    }

    pub fn dictionary(&self, run: &RunDir) -> anyhow::Result<Dictionary> {
        let which = if self.neurons { "--neurons".into() } else { format!("--sae {}", self.sae) };
        match Dictionary::open(&run.features(self.name())) {
            Err(features::Error::Missing { path }) => {
                bail!("there is no dictionary {}\n  build it with: monosem features build {which} {}", path.display(), run.flags())
            }
            opened => Ok(opened?),
        }
    }

    /// Where labels of this SAE (or of the neurons) are.
    pub fn labels(&self, run: &RunDir) -> crate::labels::Result<Labels> {
        Labels::open(&run.labels(self.name()))
    }
}

#[derive(Debug, clap::Args)]
struct Build {
    /// Tokens that statistics are over ("dead" is defined on 1,000,000)
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
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
}

#[derive(Debug, clap::Args)]
struct List {
    /// What to sort by
    #[arg(long, value_enum, default_value_t = Sort::Id)]
    sort: Sort,
    /// Largest first
    #[arg(long)]
    descending: bool,
    /// Only features with this flag: dead, ultra-rare, dense, single-token, junk; may be given more than once
    #[arg(long, value_name = "FLAG", value_parser = flag)]
    with: Vec<Flag>,
    /// Only features without this flag; may be given more than once
    #[arg(long, value_name = "FLAG", value_parser = flag)]
    without: Vec<Flag>,
    /// Only features that fire on a token holding this text or near these words
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Smallest share of tokens that the feature fires on
    #[arg(long, value_name = "X")]
    min_density: Option<f64>,
    /// Largest share of tokens that the feature fires on
    #[arg(long, value_name = "X")]
    max_density: Option<f64>,
    /// Only labelled features
    #[arg(long)]
    labelled: bool,
    /// Features to leave out at the beginning
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    /// Features to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u64,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Number of the feature
    id: u32,
    /// Examples to print of each group
    #[arg(long, value_name = "N", default_value_t = 5)]
    examples: usize,
    /// Tokens to print before and after a firing
    #[arg(long, value_name = "N", default_value_t = 16)]
    context: usize,
}

#[derive(Debug, clap::Args)]
struct Search {
    /// What to look for
    text: String,
    /// Features to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false, id = "concept")]
struct Concept {
    /// Matches of a regular expression; the positive is the token with the match's last byte
    #[arg(long, value_name = "REGEX")]
    regex: Option<String>,
    /// These token ids, or texts that are one token each, by commas; a space before a word counts
    #[arg(long, value_name = "TOKENS", value_delimiter = ',')]
    tokens: Vec<String>,
    /// A concept of the planted corpus, by name
    #[arg(long, value_name = "CONCEPT")]
    label: Option<String>,
    /// Documents of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Find {
    #[command(flatten)]
    concept: Concept,
    /// Tokens to read of each held-out half, at even distances
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    n_tokens: u64,
    /// Latents (or neurons) to print
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Train a linear probe as well: the ceiling
    #[arg(long)]
    probe: bool,
    /// Seed of the random directions
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

fn flag(text: &str) -> Result<Flag, String> {
    let known = || Flag::ALL.map(Flag::name).join(", ");
    Flag::ALL.into_iter().find(|f| f.name() == text).ok_or_else(|| format!("unknown flag; known are {}", known()))
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    let Args { command, which } = args;
    match command {
        Command::Build(args) => build(args, &which, global, &run),
        Command::List(args) => list(args, &which, global, &run),
        Command::Show(args) => show(args, &which, global, &run),
        Command::Search(args) => search(args, &which, global, &run),
        Command::Find(args) => find(args, &which, global, &run),
    }
}

/// The text and the model of a run, checked against each other.
struct Loaded {
    stream: TokenStream,
    tokenizer: Tokenizer,
    lm: Lm,
    lm_manifest: Manifest,
}

fn open_text(run: &RunDir) -> anyhow::Result<(TokenStream, Tokenizer)> {
    let next = || format!("cannot open the tokens of {}\n  make them with: monosem corpus build {}", run.root.display(), run.flags());
    let stream = TokenStream::open(&run.tokens()).with_context(next)?;
    let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).with_context(next)?;
    Ok((stream, tokenizer))
}

fn open_model(run: &RunDir) -> anyhow::Result<Loaded> {
    let (stream, tokenizer) = open_text(run)?;
    let next = || format!("cannot open the model of {}\n  train one with: monosem lm train {}", run.root.display(), run.flags());
    let lm_manifest = Manifest::read(&run.lm(), "lm", 1).with_context(next)?;
    lm_manifest.check_input(&run.lm(), "tokens", stream.manifest(), &format!("monosem lm train {}", run.flags()))?;
    let lm = Lm::load(&run.lm()).with_context(next)?;
    Ok(Loaded { stream, tokenizer, lm, lm_manifest })
}

/// The SAE, the hook it was trained on, and its manifest, checked against the model.
fn open_sae(run: &RunDir, name: &str, lm: &Manifest) -> anyhow::Result<(Sae, HookPoint, Manifest)> {
    let dir = run.sae(name);
    let rerun = format!("monosem sae train --name {name} {}", run.flags());
    let next = || format!("cannot open the SAE {name} of {}\n  train one with: {rerun}", run.root.display());
    let manifest = Manifest::read(&dir, "sae", crate::sae::SAE_FORMAT_VERSION).with_context(next)?;
    manifest.check_input(&dir, "lm", lm, &rerun)?;
    let hook = read_origin(&dir).with_context(next)?.hook_name;
    let hook = hook.parse().map_err(|e: String| anyhow::anyhow!(e)).with_context(next)?;
    Ok((Sae::load(&dir).with_context(next)?, hook, manifest))
}

fn build(args: Build, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let Loaded { stream, tokenizer, lm, lm_manifest } = open_model(run)?;
    let _lock = run.lock()?;
    let sae = if which.neurons { None } else { Some(open_sae(run, &which.sae, &lm_manifest)?) };
    let hook = match (&sae, args.hook) {
        (Some((_, trained, _)), Some(asked)) if *trained != asked => bail!("SAE {} was trained on {trained}, not on {asked}", which.sae),
        (Some((_, trained, _)), _) => *trained,
        (None, asked) => asked.unwrap_or(HookPoint::mlp_post(0)),
    };
    if hook.layer >= lm.config.n_layers {
        bail!("{hook} is not in a model of {} layers", lm.config.n_layers);
    }
    let sae_hash = sae.as_ref().map(|(_, _, manifest)| manifest.hash()).unwrap_or_default();
    let units = match &sae {
        Some((sae, _, _)) => Units::Latents { sae, name: &which.sae, manifest_hash: &sae_hash },
        None => Units::Neurons,
    };
    let path = run.features(which.name());
    let n_units = sae.as_ref().map_or(hook.d_in(&lm.config), |(sae, _, _)| sae.d_sae);
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
    let inputs = features::Inputs { engine: &mut engine, lm_hash: &lm_hash, stream: &stream, tokenizer: &tokenizer, hook };
    let meta = match features::build(&path, inputs, units, &config, &mut Terminal::new()) {
        Err(features::Error::Interrupted) => {
            return Err(Interrupted { resume: again("") }.into());
        }
        done => done?,
    };
    print(global, &meta, |out| {
        let m: &Meta = &meta;
        writeln!(out, "{}: {} {}s over {} tokens in {:.0} s", path.display(), m.n_units, m.kind.name(), m.n_tokens, m.wall_seconds)?;
        writeln!(out, "dead {}, ultra-rare {}, dense {}, single-token {}, junk {}", m.n_dead, m.n_ultra_rare, m.n_dense, m.n_single_token, m.n_junk)
    })?;
    tell!("next: monosem features list --sort max --descending {}", run.flags());
    Ok(())
}

fn list(args: List, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let dictionary = which.dictionary(run)?;
    let labels = label_texts(which, run, dictionary.meta())?;
    let query = ListQuery {
        sort: args.sort,
        descending: args.descending,
        with: args.with,
        without: args.without,
        text: args.text,
        min_density: args.min_density,
        max_density: args.max_density,
        ids: args.labelled.then(|| labels.iter().map(|l| l.0).collect()),
        offset: args.offset,
        limit: args.limit,
    };
    let page = dictionary.list(&query)?;
    print(global, &page, |out| {
        writeln!(out, "{:>7} {:>9} {:>8} {:>7} {:>6}  {:24} tokens", "id", "density", "max", "tokens", "poly", "label")?;
        for f in &page.features {
            let label = labels.iter().rev().find(|l| l.0 == f.id).map(|l| l.1.as_str()).unwrap_or_default();
            let label: String = label.chars().take(24).collect();
            let name = unit_name(f);
            let (density, tokens) = (percent(f.density), top_tokens(f, 6));
            writeln!(out, "{name:>7} {density:>9} {:>8.3} {:>7.1} {:>6.1}  {label:24} {tokens}", f.max_act, f.effective_tokens, f.polysemantic)?;
        }
        writeln!(out, "{} of {}", page.features.len(), page.total)
    })
}

fn show(args: Show, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let dictionary = which.dictionary(run)?;
    let (stream, tokenizer) = open_text(run)?;
    dictionary.check(&stream)?;
    let detail = dictionary.feature(args.id, &stream, &tokenizer)?;
    let labels = labels_of(which, run, dictionary.meta(), Some(args.id))?;
    if global.json {
        return print(global, &serde_json::json!({ "feature": detail, "labels": labels }), |_| Ok(()));
    }
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    print(global, &(), |out| {
        let f = &detail.summary;
        let kind = dictionary.meta().kind.name();
        writeln!(out, "{kind} {} at {} over {} tokens", unit_name(f), dictionary.meta().hook, dictionary.meta().n_tokens)?;
        for label in &labels {
            writeln!(out, "  \"{}\"  {}, {}", label.text, label.author, label.time)?;
        }
        let flags: Vec<&str> = f.flags.iter().map(|f| f.name()).collect();
        writeln!(
            out,
            "fires on {} ({} tokens), max {:.3}, mean {:.3}, {:.1} effective tokens, polysemantic {:.1} {}",
            percent(f.density),
            f.n_active,
            f.max_act,
            f.mean_act,
            f.effective_tokens,
            f.polysemantic,
            flags.join(" ")
        )?;
        writeln!(out, "tokens   {}", top_tokens(f, 10))?;
        let effects = |effects: &[features::store::LogitEffect]| {
            effects.iter().map(|e| format!("{} {:+.2}", quoted(&e.token.text), e.effect)).collect::<Vec<_>>().join("  ")
        };
        writeln!(out, "raises   {}\nlowers   {}", effects(&detail.logits_up), effects(&detail.logits_down))?;
        histogram(out, &detail)?;
        for group in &detail.groups {
            let of = if group.kind == GroupKind::Top { String::new() } else { format!(" (of {})", group.n_firings) };
            writeln!(out, "\n{}{of}", group.name)?;
            for example in group.examples.iter().take(args.examples) {
                writeln!(out, "{:>8.3}  {}", example.act, line(example, args.context, colour))?;
            }
        }
        Ok(())
    })
}

fn search(args: Search, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let dictionary = which.dictionary(run)?;
    let (stream, tokenizer) = open_text(run)?;
    dictionary.check(&stream)?;
    let hits = dictionary.search(&args.text, args.limit, &stream, &tokenizer)?;
    print(global, &hits, |out| {
        for hit in &hits {
            let why = match hit.why {
                Why::Token => "fires on",
                Why::Context => "near",
            };
            writeln!(out, "{:>7} {:>6}  {why} {}", hit.feature, percent(hit.share), quoted(&hit.snippet))?;
        }
        if hits.is_empty() {
            writeln!(out, "nothing fires on {:?} or near it", args.text)?;
        }
        Ok(())
    })
}

fn find(args: Find, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let Loaded { stream, tokenizer, lm, lm_manifest } = open_model(run)?;
    let concept = args.concept.read(&stream, &tokenizer)?;
    let (sae, hook, _) = open_sae(run, &which.sae, &lm_manifest)?;
    tell!(
        "{}: chosen on {} tokens at even distances over held-out half A, scored on as many of half B, seed {}",
        concept.name,
        args.n_tokens,
        args.seed
    );
    let mut control = shuffled(run, &which.sae, &lm, &lm_manifest)?;
    if control.is_none() {
        tell!("  the floor of a shuffled model needs its SAE, sae/{}-shuffled: monosem quickstart --exam full {}", which.sae, run.flags());
    }
    let untrained = control.as_mut().map(|(engine, sae)| Subject { engine, sae });
    let mut engine = CpuEngine::new(lm);
    let config = ExamConfig { n_tokens: args.n_tokens, n_ranked: args.limit, probe: args.probe, seed: args.seed };
    let subject = Subject { engine: &mut engine, sae: &sae };
    let report = match exam(subject, untrained, &stream, &tokenizer, hook, &[concept], &config, &mut Terminal::new()) {
        Err(features::Error::Interrupted) => return Err(Interrupted { resume: again("") }.into()),
        done => done?,
    };
    let score = &report.concepts[0];
    if score.n_pos.0 == 0 || score.n_pos.1 == 0 {
        bail!(
            "{} occurs {} times in half A and {} times in half B\n  it must occur in both; read more with --n-tokens",
            score.concept,
            score.n_pos.0,
            score.n_pos.1
        );
    }
    print(global, score, |out| scores(out, score, which.neurons))
}

/// The control of the full exam, where it was made of this model: its weights shuffled by the run's seed, and the SAE trained on that.
fn shuffled(run: &RunDir, name: &str, lm: &Lm, lm_manifest: &Manifest) -> anyhow::Result<Option<(CpuEngine, Sae)>> {
    let name = format!("{name}-shuffled");
    let of_this_model =
        |m: &Manifest| m.inputs.get("lm") == Some(&lm_manifest.hash()) && m.inputs.get("weights").is_some_and(|weights| weights == "shuffled");
    let manifest = Manifest::read(&run.sae(&name), "sae", crate::sae::SAE_FORMAT_VERSION).ok().filter(of_this_model);
    let recipe = Recipe::read(&run.config()).ok();
    match manifest.zip(recipe) {
        Some((_, recipe)) => Ok(Some((CpuEngine::new(lm.shuffled(recipe.seed)), Sae::load(&run.sae(&name))?))),
        None => Ok(None),
    }
}

impl Concept {
    fn read(&self, stream: &TokenStream, tokenizer: &Tokenizer) -> anyhow::Result<ExamConcept> {
        let place = |names: &[String], wanted: &str, what: &str| {
            let found = names.iter().position(|n| n == wanted);
            found.map(|i| i as u16).ok_or_else(|| anyhow::anyhow!("this run's text has no {what} {wanted:?}; known are: {}", names.join(", ")))
        };
        let named = |name: &str, kind: &str, truth| ExamConcept { name: name.into(), kind: kind.into(), truth };
        if let Some(regex) = &self.regex {
            return Ok(named(regex, "regex", Truth::Regex(regex::bytes::Regex::new(regex)?)));
        }
        if let Some(label) = &self.label {
            let names = stream.concepts().map(|c| c.names.as_slice()).unwrap_or_default();
            return Ok(named(label, "label", Truth::Label(place(names, label, "concept")?)));
        }
        if let Some(kind) = &self.kind {
            return Ok(named(kind, "kind", Truth::Kind(place(stream.kinds(), kind, "kind")?)));
        }
        let token = |text: &String| -> anyhow::Result<u32> {
            match (text.parse::<u32>(), tokenizer.encode(text)[..].to_vec()) {
                (Ok(id), _) if (id as usize) < tokenizer.d_vocab() => Ok(id),
                (_, ids) if ids.len() == 1 => Ok(ids[0]),
                (_, ids) => bail!("{text:?} is {} tokens ({ids:?}), not one\n  use --regex for longer texts", ids.len()),
            }
        };
        let ids = self.tokens.iter().map(token).collect::<anyhow::Result<Vec<u32>>>()?;
        Ok(named(&self.tokens.join(","), "tokens", Truth::Tokens(ids)))
    }
}

fn scores(out: &mut dyn Write, score: &ConceptScore, neurons: bool) -> std::io::Result<()> {
    writeln!(out, "{}: {} positives in A, {} in B; F1 on B", score.concept, score.n_pos.0, score.n_pos.1)?;
    if score.too_rare {
        writeln!(out, "fewer than {MIN_POSITIVES} in one of them: too rare to be judged; read more with --n-tokens")?;
    }
    let (unit, found) = if neurons { ("neuron", &score.neurons) } else { ("latent", &score.latents) };
    writeln!(out, "{unit:>9} {:>6} {:>6} {:>9} {:>6} {:>10}", "F1 A", "F1 B", "precision", "recall", "threshold")?;
    for u in &found.ranked {
        let name = format!("{}{}", u.id, if u.positive { "" } else { "-" });
        writeln!(out, "{name:>9} {:>6.3} {:>6.3} {:>9.3} {:>6.3} {:>10.4}", u.f1_a, u.f1_b, u.precision, u.recall, u.threshold)?;
    }
    let mut row = |name: &str, found: &Found| {
        let id = |id: &(u32, bool)| format!("{}{}", id.0, if id.1 { "" } else { "-" });
        let best = found.ranked.first().map(|u| id(&(u.id, u.positive))).unwrap_or_else(|| "none".into());
        let union = found.union.ids.iter().map(id).collect::<Vec<_>>().join(" ");
        let auc = found.auc.map(|a| format!(", AUC {a:.3}")).unwrap_or_default();
        writeln!(out, "{name:18} best {best} {:.3}, union ({union}) {:.3}{auc}", found.f1(), found.union.f1_b)
    };
    row("latents", &score.latents)?;
    row("neurons", &score.neurons)?;
    row("random directions", &score.random)?;
    if let Some(untrained) = &score.untrained {
        row("shuffled model", untrained)?;
    }
    writeln!(out, "token-only {:.3}{}", score.token_only, score.probe.map(|p| format!(", linear probe {p:.3}")).unwrap_or_default())?;
    let forms = score.forms.iter().take(12).map(|f| format!("{} {:.2}", quoted(&f.form), f.recall)).collect::<Vec<_>>().join("  ");
    writeln!(out, "forms with recall >= 0.3: {}, effective {:.1}; {forms}", score.n_forms_found, score.effective_forms)
}

/// Prints `value` as one JSON object or what `human` writes. A closed pipe is an `io::Error`, which the caller of `run` takes as done.
pub fn print<T: serde::Serialize>(global: &Global, value: &T, human: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if global.json {
        let value = serde_json::to_value(value)?;
        let value = if value.is_array() { serde_json::json!({ "items": value }) } else { value };
        writeln!(out, "{value}")?;
    } else {
        human(&mut out)?;
    }
    out.flush()?;
    Ok(())
}

/// Labels in force; none, and no file made, where there is no file yet.
fn labels_of(which: &Which, run: &RunDir, meta: &Meta, id: Option<u32>) -> anyhow::Result<Vec<crate::labels::Label>> {
    if !run.labels(which.name()).is_file() {
        return Ok(vec![]);
    }
    Ok(which.labels(run)?.list(&meta.weights_hash, id)?)
}

fn label_texts(which: &Which, run: &RunDir, meta: &Meta) -> anyhow::Result<Vec<(u32, String)>> {
    Ok(labels_of(which, run, meta, None)?.into_iter().map(|l| (l.latent, l.text)).collect())
}

/// Four bins per doubling, a bar of at most 40 signs each.
fn histogram(out: &mut dyn Write, detail: &FeatureDetail) -> std::io::Result<()> {
    let most = detail.histogram.counts.iter().copied().max().unwrap_or(0);
    for (bin, count) in detail.histogram.edges.windows(2).zip(&detail.histogram.counts) {
        writeln!(out, "{:>10.4}  {:40} {count}", bin[0], "\u{2588}".repeat((40 * count).div_ceil(most) as usize))?;
    }
    Ok(())
}

/// One example on one line, cut to `context` tokens on each side.
fn line(example: &Example, context: usize, colour: bool) -> String {
    let from = example.focus.saturating_sub(context);
    let to = (example.focus + context + 1).min(example.tokens.len());
    let cut = Example {
        focus: example.focus - from,
        tokens: example.tokens[from..to].to_vec(),
        acts: example.acts[from..to].to_vec(),
        window: (example.window.0.saturating_sub(from), example.window.1.saturating_sub(from)),
        ..example.clone()
    };
    let paint = |(style, text): (Style, String)| match (style, colour) {
        (Style::Focus, true) => format!("\x1b[1;38;5;208m{text}\x1b[0m"),
        (Style::Fires, true) => format!("\x1b[38;5;215m{text}\x1b[0m"),
        (Style::Outside, true) => format!("\x1b[90m{text}\x1b[0m"),
        (Style::Focus, false) => format!("[{text}]"),
        (_, _) => text,
    };
    pieces(&cut).into_iter().map(paint).collect()
}

fn unit_name(f: &FeatureSummary) -> String {
    match f.neuron {
        Some(neuron) if !f.positive => format!("{neuron}- ({})", f.id),
        _ => f.id.to_string(),
    }
}

fn top_tokens(f: &FeatureSummary, n: usize) -> String {
    f.top_tokens.iter().take(n).map(|t| format!("{} {:.0}%", quoted(&t.token.text), 100.0 * t.mass)).collect::<Vec<_>>().join("  ")
}

/// In quotation marks, with nothing that a terminal would obey.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.001 { format!("{:.4} %", 100.0 * share) } else { format!("{:.2} %", 100.0 * share) }
}
