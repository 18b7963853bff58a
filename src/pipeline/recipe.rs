//! A recipe says everything about one run: text, model, SAE, dictionary, exam. Written as TOML, resolved with every default into `run.toml`.

use super::{Error, Result};
use crate::activations::ShuffleConfig;
use crate::corpus::{CorpusConfig, OnError, Source};
use crate::features::NEURONS;
use crate::lm::{self, HookPoint, LmConfig, layers};
use crate::sae;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A resolved recipe: what `run.toml` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of every draw in the run; each stage's own `seed` is set to it.
    pub seed: u64,
    pub corpus: CorpusConfig,
    pub lm: LmStage,
    pub sae: SaeStage,
    pub dictionary: DictionaryStage,
    pub exam: ExamStage,
}

/// The language model and its training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LmStage {
    pub model: LmConfig,
    pub train: lm::TrainConfig,
}

/// The SAE, where it reads, and its training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaeStage {
    /// Its folder is `sae/<name>`, its dictionary `features/<name>.sqlite`.
    pub name: String,
    /// Where activations are taken, e.g. `blocks.0.mlp.hook_post`.
    pub hook: HookPoint,
    pub shuffle: ShuffleConfig,
    pub train: sae::TrainConfig,
    /// Held-out tokens for the reconstruction and the dead latents of `eval.json`; dead means silent on exactly 1,000,000, so fewer make the dead count a
    /// lower bar (the number is always shown).
    #[serde(default = "reconstruction_tokens")]
    pub reconstruction_tokens: u64,
    /// Held-out tokens for the cross-entropies of `eval.json`.
    pub eval_tokens: u64,
}

fn reconstruction_tokens() -> u64 {
    1_000_000
}

impl SaeStage {
    /// Which rows the SAE sees and in which order, for its manifest.
    pub fn rows(&self) -> String {
        self.shuffle.rows(self.hook)
    }
}

/// How much text the dictionary is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DictionaryStage {
    /// Tokens of training text that the dictionary's statistics are over.
    pub tokens: u64,
}

/// Scores against known concepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExamStage {
    /// Also the untrained model's SAE, the token-only predictor and the linear probe.
    pub full: bool,
    /// Tokens read of each held-out half, in windows at even distances over it.
    #[serde(default = "exam_tokens")]
    pub tokens: u64,
}

fn exam_tokens() -> u64 {
    200_000
}

impl Recipe {
    /// Sizes for CI: every stage in seconds.
    pub fn tiny(seed: u64) -> Self {
        let model = LmConfig::tiny();
        let train = lm::TrainConfig { tokens: 300_000, ..Default::default() };
        let sae = sae::SaeConfig::new(model.d_mlp, 512, sae::Recipe::topk(16, true));
        Self::assemble(seed, planted(model.d_vocab, 2_000_000), LmStage { model, train }, sae, (200_000, 1024), 50_000, 50_000)
    }

    /// The main job on the planted corpus, in some six minutes on two cores: as many tokens and rows as that leaves time for (LOG.md compares them
    /// with more).
    pub fn quickstart(seed: u64) -> Self {
        let train = lm::TrainConfig { tokens: 2_000_000, batch: 16, ..Default::default() };
        let mut recipe = Self::laptop(seed, planted(LmConfig::laptop().d_vocab, QUICKSTART_BYTES), train, 800_000);
        (recipe.dictionary.tokens, recipe.exam.tokens) = (500_000, 150_000);
        recipe
    }

    /// The `laptop` model and its SAE of 4,096 latents.
    fn laptop(seed: u64, corpus: CorpusConfig, train: lm::TrainConfig, rows: u64) -> Self {
        let model = LmConfig::laptop();
        let sae = sae::SaeConfig::new(model.d_mlp, 4096, sae::Recipe::topk(32, true));
        Self::assemble(seed, corpus, LmStage { model, train }, sae, (rows, 2048), reconstruction_tokens(), 1_000_000)
    }

    /// The same path on text of one's own, which has more to learn: files, folders or globs.
    pub fn text(seed: u64, paths: Vec<String>) -> Self {
        let sources = paths.into_iter().map(Source::Path).collect();
        let corpus = CorpusConfig { sources, on_error: OnError::Skip, ..Self::quickstart(seed).corpus };
        let train = lm::TrainConfig { tokens: 5_000_000, batch: 32, ..Default::default() };
        Self::laptop(seed, corpus, train, 2_000_000)
    }

    /// The A/1 run of Bricken et al. 2023 in its proportions, at a size for one machine; the paper has 100 billion tokens and 8 billion rows.
    pub fn bricken_a1(seed: u64) -> Self {
        // The paper leaves the vocabulary open; the planted corpus fills no more than this.
        let model = LmConfig { d_vocab: 4096, ..LmConfig::bricken_a1() };
        let train = lm::TrainConfig { tokens: 100_000_000, batch: 32, ..Default::default() };
        let config = sae::SaeConfig::new(model.d_mlp, 4096, sae::Relu2023 { l1: 1e-3 }.into());
        let (rows, batch) = (40_000_000, 8192);
        let corpus = planted(model.d_vocab, 400_000_000);
        let mut recipe = Self::assemble(seed, corpus, LmStage { model, train }, config.clone(), (rows, batch), reconstruction_tokens(), 1_000_000);
        recipe.sae.train = sae::TrainConfig::paper(config, rows, batch, seed);
        recipe
    }

    fn assemble(
        seed: u64,
        corpus: CorpusConfig,
        lm: LmStage,
        sae: sae::SaeConfig,
        (rows, batch): (u64, usize),
        reconstruction_tokens: u64,
        tokens: u64,
    ) -> Self {
        let mut recipe = Recipe {
            seed,
            corpus,
            sae: SaeStage {
                name: "main".into(),
                hook: HookPoint::mlp_post(0),
                shuffle: ShuffleConfig { buffer_mib: 768, ..Default::default() },
                train: sae::TrainConfig::short(sae, rows, batch, seed),
                reconstruction_tokens,
                eval_tokens: reconstruction_tokens.min(100_000),
            },
            lm,
            dictionary: DictionaryStage { tokens },
            exam: ExamStage { full: false, tokens: exam_tokens() },
        };
        recipe.spread_seed();
        recipe
    }

    /// A recipe by name, the base that a file builds on.
    fn base(name: &str) -> Result<Self> {
        match name {
            "tiny" => Ok(Self::tiny(0)),
            "quickstart" => Ok(Self::quickstart(0)),
            "text" => Ok(Self::text(0, vec![])),
            "bricken-a1" => Ok(Self::bricken_a1(0)),
            _ => Err(Error::Recipe(format!("unknown base {name:?}; known are \"quickstart\", \"tiny\", \"text\" and \"bricken-a1\""))),
        }
    }

    /// Reads a recipe file: `base = "quickstart"` (or another base) and whatever differs from it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| crate::artifact::Error::io("read", path, e))?;
        Self::parse(&text)
            .map_err(|e| Error::RecipeFile { path: path.into(), what: e.to_string().trim_end().replace("the recipe cannot work: ", "") })
    }

    /// The recipe that a TOML text describes.
    pub fn parse(text: &str) -> Result<Self> {
        let mut changes: toml::Table = text.parse().map_err(|e: toml::de::Error| Error::Recipe(e.to_string()))?;
        // Said for people; a recipe of another version is read all the same.
        changes.remove(PROGRAM_VERSION);
        let base = match changes.remove("base") {
            Some(toml::Value::String(name)) => Self::base(&name)?,
            Some(other) => return Err(Error::Recipe(format!("base is {other}, expected a name such as \"quickstart\""))),
            None => return Self::resolve(changes),
        };
        let mut table = toml::Table::try_from(base).map_err(|e| Error::Recipe(e.to_string()))?;
        overlay(&mut table, changes);
        Self::resolve(table)
    }

    fn resolve(table: toml::Table) -> Result<Self> {
        let mut recipe: Recipe = table.try_into().map_err(|e: toml::de::Error| Error::Recipe(e.to_string()))?;
        recipe.spread_seed();
        recipe.check()?;
        Ok(recipe)
    }

    /// Every default written out, and the version of the program that did so.
    pub fn to_toml(&self) -> String {
        let recipe = toml::to_string(self).expect("a recipe is plain data");
        format!("{PROGRAM_VERSION} = \"{}\"\n{recipe}", env!("CARGO_PKG_VERSION"))
    }

    /// One seed for all stages.
    pub fn spread_seed(&mut self) {
        self.corpus.seed = self.seed;
        for source in &mut self.corpus.sources {
            if let Source::Planted { generator_seed, .. } = source {
                *generator_seed = self.seed;
            }
        }
        self.lm.train.seed = self.seed;
        self.sae.shuffle.seed = self.seed;
        self.sae.shuffle.max_rows = Some(self.sae.train.rows);
        self.sae.train.seed = self.seed;
    }

    /// Refuses stages that do not fit each other.
    pub fn check(&self) -> Result<()> {
        self.lm.model.check()?;
        self.lm.train.check()?;
        self.sae.train.check()?;
        let (text, model) = (self.corpus.d_vocab, self.lm.model.d_vocab);
        if self.corpus.tokenizer.is_none() && text != model {
            return Err(Error::Recipe(format!("corpus.d_vocab is {text}, but lm.model.d_vocab is {model}\n  set both to the same number")));
        }
        let name = &self.sae.name;
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '@']) || name == NEURONS {
            let what =
                format!("sae.name is {name:?}; it is one folder's name, without @, not beginning with a dot, and not {NEURONS:?}\n  choose another");
            return Err(Error::Recipe(what));
        }
        if self.sae.train.sae.target.is_some() {
            let what = "sae.train.sae.target makes a transcoder, of which the later stages know no use\n  leave it out; monosem sae train --target HOOK trains one beside the run's SAE";
            return Err(Error::Recipe(what.into()));
        }
        let (d_in, width) = (self.sae.train.sae.d_in, self.sae.hook.d_in(&self.lm.model));
        if d_in != width {
            return Err(Error::Recipe(format!(
                "sae.train.sae.d_in is {d_in}, but {} of this model is {width} wide\n  set it to {width}",
                self.sae.hook
            )));
        }
        if self.sae.hook.layer >= self.lm.model.n_layers {
            return Err(Error::Recipe(format!("{} does not exist in a model of {}", self.sae.hook, layers(self.lm.model.n_layers))));
        }
        Ok(())
    }
}

/// The key of run.toml that names the program's version.
const PROGRAM_VERSION: &str = "program_version";

/// Text of the quickstart: 5 % of it, the held-out documents, must be the 1,000,000 tokens that "dead" is defined on.
const QUICKSTART_BYTES: u64 = 88_000_000;

fn planted(d_vocab: usize, bytes: u64) -> CorpusConfig {
    CorpusConfig { sources: vec![Source::Planted { generator_seed: 0, bytes }], d_vocab, ..Default::default() }
}

/// Puts `changes` over `table`: tables are merged key by key, everything else is replaced. A table with a `name` (an enum's variant) is replaced whole.
fn overlay(table: &mut toml::Table, changes: toml::Table) {
    for (key, change) in changes {
        match (table.get_mut(&key), change) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) if key != "recipe" => overlay(old, new),
            (_, change) => {
                table.insert(key, change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_file_changes_what_it_names_and_keeps_the_rest() {
        let recipe =
            Recipe::parse("base = \"tiny\"\nseed = 5\n[lm.train]\nlr = 0.25\n[sae.train.sae.recipe]\nname = \"relu2023\"\nl1 = 0.004\n").unwrap();
        let tiny = Recipe::tiny(5);
        assert_eq!(recipe.lm.train.lr, 0.25);
        assert_eq!(recipe.lm.model, tiny.lm.model);
        assert_eq!(recipe.sae.train.seed, 5);
        assert_eq!(recipe.sae.train.sae.recipe, sae::Relu2023 { l1: 0.004 }.into());
    }

    #[test]
    fn run_toml_reads_back_as_the_same_recipe() {
        for recipe in [Recipe::tiny(3), Recipe::quickstart(0), Recipe::text(1, vec!["a/*.txt".into()])] {
            assert_eq!(Recipe::parse(&recipe.to_toml()).unwrap(), recipe);
            assert!(recipe.to_toml().starts_with(&format!("program_version = \"{}\"\n", env!("CARGO_PKG_VERSION"))));
        }
    }

    #[test]
    fn a_misspelt_key_and_an_sae_that_does_not_fit_are_refused() {
        let error = Recipe::parse("base = \"tiny\"\n[lm.train]\nlearning = 1\n").unwrap_err().to_string();
        assert!(error.contains("learning"), "{error}");
        let error = Recipe::parse("base = \"tiny\"\n[sae.train.sae]\nd_in = 7\n").unwrap_err().to_string();
        assert!(error.contains('7') && error.contains("128"), "{error}");
        assert!(Recipe::parse("base = \"huge\"").unwrap_err().to_string().contains("quickstart"));
    }
}
