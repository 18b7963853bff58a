//! `monosem features find`

use super::super::{Global, Interrupted, Terminal, again};
use super::text::quoted;
use super::{Loaded, OpenedSae, Which, open_model, open_sae, print};
use crate::artifact::{Manifest, RunDir};
use crate::cli::one_token;
use crate::corpus::{CorpusConfig, Split, TokenStream, Tokenizer};
use crate::features;
use crate::features::exam::{ConceptScore, ExamConcept, ExamConfig, Found, MIN_POSITIVES, Subject, Truth, exam};
use crate::lm::{CpuEngine, Lm};
use crate::pipeline::{Recipe, planted, shuffled_by};
use crate::sae::Sae;
use anyhow::bail;
use std::io::Write;

pub const EXAMPLES: &str = "\
Examples:
  monosem features find --regex '[0-9]{4}' --run mine       the last token of every four digits
  monosem features find --tokens ' he, she' --run mine      these tokens
  monosem features find --label colour                       a concept of the planted corpus";

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
pub struct Args {
    #[command(flatten)]
    concept: Concept,
    /// Tokens to read of each held-out half, at even distances [default: as many as the run's exam, else 200,000]
    #[arg(long, value_name = "N")]
    n_tokens: Option<u64>,
    /// Latents (or neurons) to print
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Train a linear probe as well: the ceiling
    #[arg(long)]
    probe: bool,
    /// Seed of the random directions [default: that of the run's exam, else 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub fn run(args: Args, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let Loaded { stream, tokenizer, lm, lm_manifest } = open_model(run)?;
    let mut concept = args.concept.read(&stream, &tokenizer)?;
    if let Some(known) = known_kind(&stream, &concept) {
        concept.kind = known;
    }
    let OpenedSae { sae, hook, .. } = open_sae(run, &which.sae, &lm_manifest, &lm.config)?;
    // As the run's own exam, so that the same question has the same answer there and here.
    let exam_of_run = Recipe::read(&run.config()).ok();
    let n_tokens = args.n_tokens.or(exam_of_run.as_ref().map(|recipe| recipe.exam.tokens)).unwrap_or(200_000);
    let seed = args.seed.or(exam_of_run.map(|recipe| recipe.seed)).unwrap_or(0);
    tell!(
        "{}: chosen on at most {n_tokens} tokens at even distances over held-out half A, scored on at most as many of half B, seed {seed}",
        concept.name
    );
    let mut control = shuffled(run, &which.sae, &lm, &lm_manifest)?;
    // The full exam of the program's own recipes makes it; a text of one's own has no such.
    let corpus: Option<CorpusConfig> = serde_json::from_value(stream.manifest().config.clone()).ok();
    if control.is_none() && corpus.is_some_and(|corpus| planted(&corpus).is_some()) {
        tell!("  the floor of a shuffled model needs its SAE, sae/{}-shuffled: monosem quickstart --exam full {}", which.sae, run.flags());
    }
    let untrained = control.as_mut().map(|(engine, sae)| Subject { engine, sae });
    let mut engine = CpuEngine::new(lm);
    let config = ExamConfig { n_tokens, n_ranked: args.limit, probe: args.probe, seed };
    let subject = Subject { engine: &mut engine, sae: &sae };
    let report = match exam(subject, untrained, &stream, &tokenizer, hook, &[concept], &config, &mut Terminal::new()) {
        Err(features::Error::Interrupted) => return Err(Interrupted { resume: again("") }.into()),
        done => done?,
    };
    let score = &report.concepts[0];
    if score.n_pos.0 == 0 || score.n_pos.1 == 0 {
        bail!(
            "{} occurs {} times in half A and {} times in half B\n  it must occur in both; {}",
            score.concept,
            score.n_pos.0,
            score.n_pos.1,
            more(&stream, n_tokens)
        );
    }
    print(global, score, |out| scores(out, score, which.neurons, more(&stream, n_tokens)))
}

/// What kind of concept the exam of this text takes this for: class, sense, ...
fn known_kind(stream: &TokenStream, concept: &ExamConcept) -> Option<String> {
    let Truth::Label(_) = concept.truth else { return None };
    let corpus: CorpusConfig = serde_json::from_value(stream.manifest().config.clone()).ok()?;
    let known = crate::pipeline::concepts(&corpus, stream).ok()?;
    known.into_iter().find(|k| k.name == concept.name).map(|k| k.kind)
}

/// The control of the full exam, where it was made of this model: its weights shuffled, and the SAE trained on that.
fn shuffled(run: &RunDir, name: &str, lm: &Lm, lm_manifest: &Manifest) -> anyhow::Result<Option<(CpuEngine, Sae)>> {
    let name = format!("{name}-shuffled");
    let manifest = Manifest::read(&run.sae(&name), "sae", crate::sae::SAE_FORMAT_VERSION).ok();
    match manifest.filter(|m| m.inputs.get("lm") == Some(&lm_manifest.hash())).as_ref().and_then(shuffled_by) {
        Some(seed) => Ok(Some((CpuEngine::new(lm.shuffled(seed)), Sae::load(&run.sae(&name))?))),
        None => Ok(None),
    }
}

impl Concept {
    fn read(&self, stream: &TokenStream, tokenizer: &Tokenizer) -> anyhow::Result<ExamConcept> {
        let place = |names: &[String], wanted: &str, what: &str| {
            let found = names.iter().position(|n| n == wanted);
            if names.is_empty() {
                bail!("this run's text has no {what}s\n  use --regex or --tokens");
            }
            found.map(|i| i as u16).ok_or_else(|| anyhow::anyhow!("this run's text has no {what} {wanted:?}; known are: {}", names.join(", ")))
        };
        let named = |name: &str, kind: &str, truth| ExamConcept { name: name.into(), kind: kind.into(), truth };
        if let Some(regex) = &self.regex {
            return Ok(named(regex, "regex", Truth::Regex(crate::cli::pattern(regex)?)));
        }
        if let Some(label) = &self.label {
            let names = stream.concepts().map(|c| c.names.as_slice()).unwrap_or_default();
            return Ok(named(label, "label", Truth::Label(place(names, label, "concept")?)));
        }
        if let Some(kind) = &self.kind {
            return Ok(named(kind, "kind", Truth::Kind(place(stream.kinds(), kind, "kind")?)));
        }
        let ids = self.tokens.iter().map(|text| one_token(tokenizer, text)).collect::<anyhow::Result<Vec<u32>>>()?;
        Ok(named(&self.tokens.join(","), "tokens", Truth::Tokens(ids)))
    }
}

/// What finds more of a concept than `n_tokens` of each half had.
fn more(stream: &TokenStream, n_tokens: u64) -> &'static str {
    let rest = |split| stream.range(split).end - stream.range(split).start > n_tokens;
    if rest(Split::HeldOutA) || rest(Split::HeldOutB) { "read more with --n-tokens" } else { "all held-out text was read: a larger corpus has more" }
}

fn scores(out: &mut dyn Write, score: &ConceptScore, neurons: bool, more: &str) -> std::io::Result<()> {
    writeln!(
        out,
        "{} ({}): {} positives in A, {} in B; chosen by F1 on A, scored by F1 on B",
        score.concept, score.kind, score.n_pos.0, score.n_pos.1
    )?;
    if score.too_rare {
        writeln!(out, "fewer than {MIN_POSITIVES} in one of them: too rare to be judged; {more}")?;
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
    let chance = format!("{:18} best {}: mean and standard deviation of {} draws", "", score.chance(), score.chance().n);
    if let Some(untrained) = &score.untrained {
        row("shuffled model", untrained)?;
    }
    writeln!(out, "{chance}")?;
    writeln!(out, "token-only {:.3}{}", score.token_only, score.probe.map(|p| format!(", linear probe {p:.3}")).unwrap_or_default())?;
    let forms = score.forms.iter().take(MAX_FORMS).map(|f| format!("{} {:.2}", quoted(&f.form), f.recall)).collect::<Vec<_>>().join("  ");
    let listed = format!("; recall of the {} commonest: {forms}", score.forms.len().min(MAX_FORMS));
    let listed = if score.forms.is_empty() { String::new() } else { listed };
    writeln!(out, "forms with recall >= 0.3: {}, effective {:.1}{listed}", score.n_forms_found, score.effective_forms)
}

/// Forms printed.
const MAX_FORMS: usize = 12;
