//! `monosem features`: one file per subcommand; `text` has what they print alike.

mod build;
mod compare;
mod export;
mod find;
mod import;
mod list;
mod neighbors;
mod search;
mod show;
mod stats;
mod text;
mod token;

pub use text::print;

use super::Global;
use crate::artifact::{Manifest, RunDir};
use crate::corpus::{TokenStream, Tokenizer};
use crate::features::store::Meta;
use crate::features::{self, Dictionary, NEURONS};
use crate::intervene::check_widths;
use crate::labels::Labels;
use crate::lm::{HookPoint, Lm, LmConfig};
use crate::pipeline::{saes_in_words, train_command, train_it};
use crate::sae::{Sae, read_origin};
use anyhow::{Context, bail};

/// Build, list, show, search, score and export features
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
    Build(build::Args),
    /// List features with their statistics
    List(list::Args),
    /// Show one feature: contexts with the firing token in orange, histogram, logit effects, labels
    Show(show::Args),
    /// Find features by their labels, the tokens they fire on and the words around them
    Search(search::Args),
    /// Say which features fire on a token, by how much, and on what share of its occurrences
    Token(token::Args),
    /// Rank latents (or neurons) by F1 for a concept on held-out text, beside the floors: neurons, random directions, a shuffled model
    #[command(after_help = find::EXAMPLES)]
    Find(find::Args),
    /// Say which other features fire together with one or point the same way, and which neurons go along with it
    Neighbors(neighbors::Args),
    /// Sum up the dictionary: how many are dead, dense, of one token, polysemantic; the census; densities
    Stats,
    /// Compare two SAEs by their decoder directions: what both have, what is split, what is new or lost
    Compare(compare::Args),
    /// Write the dictionary as files of other programs
    Export(export::Args),
    /// Make a run of a dictionary that another program made: a Neuronpedia dump or SAEDashboard batches
    Import(import::Args),
}

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

impl Args {
    /// Whether it makes the run.
    pub fn imports(&self) -> bool {
        matches!(self.command, Command::Import(_))
    }
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

    /// The flags that name it, to be pasted.
    pub fn flags(&self) -> String {
        if self.neurons { "--neurons".into() } else { format!("--sae {}", self.sae) }
    }

    /// The dictionary, even if model, SAE or tokens have changed since: enough to read labels by.
    pub fn dictionary_of_any_age(&self, run: &RunDir) -> anyhow::Result<Dictionary> {
        let which = self.flags();
        match Dictionary::open(&run.features(self.name())) {
            Err(features::Error::Missing { path }) => {
                bail!("there is no dictionary {}\n  build it with: monosem features build {which} {}", path.display(), run.flags())
            }
            // It knows a file, not whose it is.
            Err(error) => bail!(error.to_string().replace("monosem features build", &format!("monosem features build {which} {}", run.flags()))),
            Ok(dictionary) => Ok(dictionary),
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

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    let Args { command, which } = args;
    match command {
        Command::Build(args) => build::run(args, &which, global, &run),
        Command::List(args) => list::run(args, &which, global, &run),
        Command::Show(args) => show::run(args, &which, global, &run),
        Command::Search(args) => search::run(args, &which, global, &run),
        Command::Token(args) => token::run(args, &which, global, &run),
        Command::Find(args) => find::run(args, &which, global, &run),
        Command::Neighbors(args) => neighbors::run(args, &which, global, &run),
        Command::Stats => stats::run(&which, global, &run),
        Command::Compare(args) => compare::run(args, &which, global, &run),
        Command::Import(args) => import::run(args, global, &run),
        Command::Export(args) => export::run(args, &which, global, &run),
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
    let lm_manifest = crate::cli::lm::lm_manifest(run)?;
    lm_manifest.check_input(&run.lm(), "tokens", stream.manifest(), &format!("monosem lm train {}", run.flags()))?;
    let lm = crate::cli::lm::open_lm(run)?;
    Ok(Loaded { stream, tokenizer, lm, lm_manifest })
}

/// An SAE or transcoder with where it reads and, of a transcoder, writes.
struct OpenedSae {
    sae: Sae,
    hook: HookPoint,
    target: Option<HookPoint>,
    manifest: Manifest,
}

/// Opens an SAE and checks it against the model.
fn open_sae(run: &RunDir, name: &str, lm: &Manifest, config: &LmConfig) -> anyhow::Result<OpenedSae> {
    let dir = run.sae(name);
    let rerun = train_command(run, name);
    let next = || {
        format!("cannot open the SAE {name} of {}\n  those that are there: {}; {}", run.root.display(), saes_in_words(run, None), train_it(run, name))
    };
    let manifest = Manifest::read(&dir, "sae", crate::sae::SAE_FORMAT_VERSION).with_context(next)?;
    manifest.check_input(&dir, "lm", lm, &rerun)?;
    let origin = read_origin(&dir).with_context(next)?;
    let parse = |hook: &str| hook.parse::<HookPoint>().map_err(|e| anyhow::anyhow!(e)).with_context(next);
    let sae = Sae::load_any(&dir).with_context(next)?;
    let target = sae.transcoder.is_some().then(|| parse(origin.hook_name_out.as_deref().unwrap_or_default())).transpose()?;
    let hook = parse(&origin.hook_name)?;
    check_widths(config, (hook, target.unwrap_or(hook)), &sae).with_context(next)?;
    Ok(OpenedSae { sae, hook, target, manifest })
}

/// Labels in force; none, and no file made, where there is no file yet.
fn labels_of(which: &Which, run: &RunDir, meta: &Meta, id: Option<u32>) -> anyhow::Result<Vec<crate::labels::Label>> {
    Ok(which.labels_to_read(run)?.map_or(Ok(vec![]), |labels| labels.list(&meta.weights_hash, id))?)
}

fn label_texts(which: &Which, run: &RunDir, meta: &Meta) -> anyhow::Result<Vec<(u32, String)>> {
    Ok(labels_of(which, run, meta, None)?.into_iter().map(|l| (l.latent, l.text)).collect())
}
