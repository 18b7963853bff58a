//! `monosem features`

use super::{Global, Interrupted, Terminal, again};
use crate::artifact::{Manifest, RunDir};
use crate::corpus::{CorpusConfig, TokenStream, Tokenizer};
use crate::features::exam::{ConceptScore, ExamConcept, ExamConfig, Found, MIN_POSITIVES, Subject, Truth, exam};
use crate::features::render::{Style, pieces, plain};
use crate::features::store::{Example, FeatureSummary, Flag, GroupKind, Histogram, Hit, ListQuery, Meta, Sort, Why};
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
    /// Find features by their labels, the tokens they fire on and the words around them
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

    /// The dictionary, if it was made from what is in the run now.
    pub fn dictionary(&self, run: &RunDir) -> anyhow::Result<Dictionary> {
        let dictionary = self.dictionary_of_any_age(run)?;
        if let Err(error) = dictionary.check_run(run) {
            bail!("{}\n  rebuild it: monosem features build {} {}", error.to_string().lines().next().unwrap_or_default(), self.flags(), run.flags());
        }
        Ok(dictionary)
    }

    fn flags(&self) -> String {
        if self.neurons { "--neurons".into() } else { format!("--sae {}", self.sae) }
    }

    /// The dictionary, even if model, SAE or tokens have changed since: enough to read labels by.
    pub fn dictionary_of_any_age(&self, run: &RunDir) -> anyhow::Result<Dictionary> {
        let which = self.flags();
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

    /// The same for reading; none where nobody has labelled anything.
    pub fn labels_to_read(&self, run: &RunDir) -> crate::labels::Result<Option<Labels>> {
        Labels::open_to_read(&run.labels(self.name()))
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
        writeln!(out, "{:>7} {:>9} {:>8} {:>7} {:>6}  {:LABEL_WIDTH$} tokens", "id", "density", "max", "tokens", "poly", "label or concept")?;
        for f in &page.features {
            let label = labels.iter().rev().find(|l| l.0 == f.id).map(|l| l.1.clone()).or_else(|| concept(f)).unwrap_or_default();
            let label: String = label.chars().take(LABEL_WIDTH).collect();
            let name = unit_name(f);
            let (density, tokens) = (percent(f.density), top_tokens(f, 6));
            writeln!(
                out,
                "{name:>7} {density:>9} {:>8.3} {:>7.1} {:>6.1}  {label:LABEL_WIDTH$} {tokens}",
                f.max_act, f.effective_tokens, f.polysemantic
            )?;
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
        if let Some(concept) = concept(f) {
            writeln!(out, "best concept  {concept}")?;
        }
        let flags: String = f.flags.iter().map(|f| format!(", {}", f.name())).collect();
        writeln!(
            out,
            "fires on {} ({} tokens), max {:.3}, mean {:.3}, {:.1} effective tokens, polysemantic {:.1}{flags}",
            percent(f.density),
            f.n_active,
            f.max_act,
            f.mean_act,
            f.effective_tokens,
            f.polysemantic
        )?;
        writeln!(out, "tokens   {}", top_tokens(f, 10))?;
        let effects = |effects: &[features::store::LogitEffect]| {
            effects.iter().map(|e| format!("{} {:+.2}", quoted_bytes(&e.token.bytes), e.effect)).collect::<Vec<_>>().join("  ")
        };
        writeln!(out, "raises   {}\nlowers   {}", effects(&detail.logits_up), effects(&detail.logits_down))?;
        histogram(out, &detail.histogram)?;
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
    let wanted = args.text.trim().to_lowercase();
    let labels = labels_of(which, run, dictionary.meta(), None)?;
    let named = labels.into_iter().filter(|l| !wanted.is_empty() && l.text.to_lowercase().contains(&wanted));
    let mut hits: Vec<Hit> = named.map(|l| Hit { feature: l.latent, why: Why::Label, snippet: l.text, share: 1.0 }).collect();
    hits.extend(dictionary.search(&args.text, args.limit, &stream, &tokenizer)?);
    hits.truncate(args.limit);
    print(global, &hits, |out| {
        if !hits.is_empty() {
            writeln!(out, "{:>7} {:>8}  where; the share is of its activation on such tokens, or of its contexts", "id", "share")?;
        }
        for hit in &hits {
            let (share, why) = match hit.why {
                Why::Label => ("-".into(), "labelled"),
                Why::Token => (percent(hit.share), "fires on"),
                Why::Context => (percent(hit.share), "near"),
            };
            writeln!(out, "{:>7} {share:>8}  {why} {}", hit.feature, quoted(&hit.snippet))?;
        }
        if hits.is_empty() {
            writeln!(out, "nothing fires on {:?} or near it, and no label has it", args.text)?;
        }
        Ok(())
    })
}

fn find(args: Find, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let Loaded { stream, tokenizer, lm, lm_manifest } = open_model(run)?;
    let mut concept = args.concept.read(&stream, &tokenizer)?;
    if let Some(known) = known_kind(&stream, &concept) {
        concept.kind = known;
    }
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

/// What kind of concept the exam of this text takes this for: class, sense, ...
fn known_kind(stream: &TokenStream, concept: &ExamConcept) -> Option<String> {
    let Truth::Label(_) = concept.truth else { return None };
    let corpus: CorpusConfig = serde_json::from_value(stream.manifest().config.clone()).ok()?;
    let known = crate::pipeline::concepts(&corpus, stream).ok()?;
    known.into_iter().find(|k| k.name == concept.name).map(|k| k.kind)
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
    writeln!(
        out,
        "{} ({}): {} positives in A, {} in B; chosen by F1 on A, scored by F1 on B",
        score.concept, score.kind, score.n_pos.0, score.n_pos.1
    )?;
    if score.too_rare {
        writeln!(out, "fewer than {MIN_POSITIVES} in one of them: too rare to be judged; read more with --n-tokens")?;
    }
    let (unit, found) = if neurons { ("neuron", &score.neurons) } else { ("latent", &score.latents) };
    writeln!(out, "{unit:>9} {:>6} {:>6} {:>9} {:>6} {:>10}", "F1 A", "F1 B", "precision", "recall", "threshold")?;
    for u in &found.ranked {
        let name = format!("{}{}", u.id, if u.positive { "" } else { "-" });
        writeln!(out, "{name:>9} {:>6.3} {:>6.3} {:>9.3} {:>6.3} {:>10.4}", u.f1_a, u.f1_b, u.precision, u.recall, u.threshold)?;
    }
    // Of a class or a word the tokens themselves are the answer.
    let has_auc = !matches!(score.kind.as_str(), "class" | "lexeme" | "tokens") && score.latents.auc.is_some();
    if has_auc {
        writeln!(out, "AUC: how often a token with the concept has the higher activation than the same token without it; chance is 0.5")?;
    }
    let mut row = |name: &str, found: &Found| {
        let id = |id: &(u32, bool)| format!("{}{}", id.0, if id.1 { "" } else { "-" });
        let best = found.ranked.first().map(|u| id(&(u.id, u.positive))).unwrap_or_else(|| "none".into());
        let union = found.union.ids.iter().map(id).collect::<Vec<_>>().join(" ");
        let auc = found.auc.filter(|_| has_auc).map(|a| format!(", AUC {a:.3}")).unwrap_or_default();
        writeln!(out, "{name:18} best {best} {:.3}, union ({union}) {:.3}{auc}", found.f1(), found.union.f1_b)
    };
    row("latents", &score.latents)?;
    row("neurons", &score.neurons)?;
    row("random directions", &score.random)?;
    if let Some(untrained) = &score.untrained {
        row("shuffled model", untrained)?;
    }
    writeln!(out, "token-only {:.3}{}", score.token_only, score.probe.map(|p| format!(", linear probe {p:.3}")).unwrap_or_default())?;
    let forms = score.forms.iter().take(MAX_FORMS).map(|f| format!("{} {:.2}", quoted(&f.form), f.recall)).collect::<Vec<_>>().join("  ");
    let listed = format!("; recall of the {} commonest: {forms}", score.forms.len().min(MAX_FORMS));
    let listed = if score.forms.is_empty() { String::new() } else { listed };
    writeln!(out, "forms with recall >= 0.3: {}, effective {:.1}{listed}", score.n_forms_found, score.effective_forms)
}

/// Forms printed.
const MAX_FORMS: usize = 12;

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
    Ok(which.labels_to_read(run)?.map_or(Ok(vec![]), |labels| labels.list(&meta.weights_hash, id))?)
}

fn label_texts(which: &Which, run: &RunDir, meta: &Meta) -> anyhow::Result<Vec<(u32, String)>> {
    Ok(labels_of(which, run, meta, None)?.into_iter().map(|l| (l.latent, l.text)).collect())
}

/// Bars of a histogram on a terminal, at most.
const MAX_BARS: usize = 20;

/// A bar of at most 40 signs each; empty ends are left out, and neighbouring bins are added up until there are at most [`MAX_BARS`].
fn histogram(out: &mut dyn Write, histogram: &Histogram) -> std::io::Result<()> {
    let Some(first) = histogram.counts.iter().position(|&n| n > 0) else { return Ok(()) };
    let last = histogram.counts.iter().rposition(|&n| n > 0).unwrap_or(first);
    let per_bar = (last - first + 1).div_ceil(MAX_BARS);
    let bars: Vec<u64> = histogram.counts[first..=last].chunks(per_bar).map(|counts| counts.iter().sum()).collect();
    let most = bars.iter().copied().max().unwrap_or(1);
    for (i, count) in bars.iter().enumerate() {
        let from = significant(histogram.edges[first + i * per_bar] as f64);
        writeln!(out, "{from:>10}  {:40} {count}", "\u{2588}".repeat((40 * count).div_ceil(most) as usize))?;
    }
    Ok(())
}

/// Three significant digits.
fn significant(x: f64) -> String {
    if x == 0.0 {
        return "0".into();
    }
    let digits = (2 - x.abs().log10().floor() as i32).clamp(0, 12) as usize;
    if x.abs() < 1e-4 { format!("{x:.2e}") } else { format!("{x:.digits$}") }
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

/// Letters of a label in a list.
const LABEL_WIDTH: usize = 32;

/// `metal, F1 0.93`
fn concept(f: &FeatureSummary) -> Option<String> {
    f.concept.as_ref().map(|c| format!("{}, F1 {:.2}", c.name, c.f1))
}

fn unit_name(f: &FeatureSummary) -> String {
    match f.neuron {
        Some(neuron) if !f.positive => format!("{neuron}- ({})", f.id),
        _ => f.id.to_string(),
    }
}

fn top_tokens(f: &FeatureSummary, n: usize) -> String {
    f.top_tokens.iter().take(n).map(|t| format!("{} {:.0}%", quoted_bytes(&t.token.bytes), 100.0 * t.mass)).collect::<Vec<_>>().join("  ")
}

/// In quotation marks, with nothing that a terminal would obey.
fn quoted(text: &str) -> String {
    quoted_bytes(text.as_bytes())
}

fn quoted_bytes(bytes: &[u8]) -> String {
    format!("\"{}\"", plain(bytes))
}

fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.001 { format!("{:.4} %", 100.0 * share) } else { format!("{:.2} %", 100.0 * share) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_histogram_is_drawn_in_twenty_bars_that_hold_every_firing_and_tell_their_edges() {
        let edges: Vec<f32> = (0..=50).map(|i| 2f32.powf(-14.0 + i as f32 / 4.0)).collect();
        let counts: Vec<u64> = (0..50).map(|i| if (3..48).contains(&i) { i } else { 0 }).collect();
        let mut out = Vec::new();
        histogram(&mut out, &Histogram { edges, counts: counts.clone() }).unwrap();
        let text = String::from_utf8(out).unwrap();
        let bars: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert!(bars.len() <= 20, "{text}");
        let starts: std::collections::BTreeSet<&str> = bars.iter().map(|b| b[0]).collect();
        assert_eq!(starts.len(), bars.len(), "no two bars begin at the same number: {text}");
        assert_eq!(bars.iter().map(|b| b.last().unwrap().parse::<u64>().unwrap()).sum::<u64>(), counts.iter().sum::<u64>());
        // 2^(-14 + 3/4)
        assert_eq!(bars[0][0], "0.000103");
    }
}
