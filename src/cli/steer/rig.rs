//! What every steering command opens: model, tokenizer, SAE, and what a latent's numbers are multiples of.

use crate::artifact::{Manifest, RunDir, read_json};
use crate::cli::lm::{lm_manifest, open_lm};
use crate::corpus::{Split, TokenStream, Tokenizer};
use crate::features::{Dictionary, weights_hash};
use crate::intervene::measure::{NORM_TOKENS, max_activations, mean_length};
use crate::intervene::saved::{SavedEdit, Scale};
use crate::intervene::write::Rig;
use crate::intervene::{self, Steering};
use crate::lm::{CpuEngine, HookPoint, Lm};
use crate::pipeline::{saes_in_words, train_command, train_it};
use crate::sae::{Sae, read_origin};
use anyhow::{Context, anyhow, bail};
use std::path::PathBuf;

pub(super) struct Opened {
    pub name: String,
    pub lm: Lm,
    pub tokenizer: Tokenizer,
    pub sae: Sae,
    pub hook: HookPoint,
    pub weights_hash: String,
    /// Of this SAE's present weights.
    pub dictionary: Option<Dictionary>,
    stream: PathBuf,
    /// Maxima (d_sae,) where they had to be measured.
    measured: Option<Vec<f32>>,
}

impl Opened {
    /// The SAE `name`, or the run's main or only one.
    pub fn open(run: &RunDir, name: Option<&str>) -> anyhow::Result<Self> {
        let name = match name {
            Some(name) => name.to_string(),
            None => only_sae(run)?,
        };
        let sae_dir = run.sae(&name);
        tell!("reads {} and {}", run.lm().display(), sae_dir.display());
        let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).context("cannot read the run's tokenizer")?;
        if !sae_dir.is_dir() {
            bail!("there is no SAE {name} in {}\n  those that are there: {}; {}", run.root.display(), saes_in_words(run, None), train_it(run, &name));
        }
        let rerun = train_command(run, &name);
        let again = || format!("cannot open the SAE {name} of {}\n  make it anew with: {rerun}", run.root.display());
        let sae = Sae::load(&sae_dir).with_context(again)?;
        let manifest = |dir: &std::path::Path| read_json::<Manifest>(&dir.join("manifest.json"));
        let sae_manifest = manifest(&sae_dir)?;
        sae_manifest.check_input(&sae_dir, "lm", &lm_manifest(run)?, &rerun)?;
        let hook: HookPoint = read_origin(&sae_dir)?.hook_name.parse().map_err(|e: String| anyhow!("{}: {e}", sae_dir.display()))?;
        let mut dictionary = None;
        if run.features(&name).exists() {
            let found = Dictionary::open(&run.features(&name))?;
            if found.meta().sae_hash == Some(sae_manifest.hash()) {
                dictionary = Some(found);
            } else {
                tell!("note: {} is of another SAE; measuring instead", run.features(&name).display());
            }
        }
        let weights_hash = weights_hash(&sae);
        Ok(Opened { name, lm: open_lm(run)?, tokenizer, sae, hook, weights_hash, dictionary, stream: run.tokens(), measured: None })
    }

    pub fn rig(&self) -> Rig<'_> {
        Rig { lm: &self.lm, tokenizer: &self.tokenizer, sae: &self.sae, hook: self.hook }
    }

    pub fn stream(&self) -> anyhow::Result<TokenStream> {
        Ok(TokenStream::open(&self.stream)?)
    }

    /// Where [`Opened::scale`] has its numbers from.
    pub fn scale_from(&self) -> String {
        match &self.dictionary {
            Some(dictionary) => format!("in the dictionary, {} tokens", dictionary.meta().n_tokens),
            None => format!("measured on {NORM_TOKENS} held-out tokens"),
        }
    }

    /// What the units of a latent are: from the dictionary, else measured on held-out half A (the mean is the dictionary's to tell).
    pub fn scale(&mut self, latent: u32) -> anyhow::Result<Scale> {
        if latent as usize >= self.sae.d_sae {
            return Err(intervene::Error::NoLatent { latent, d_sae: self.sae.d_sae }.into());
        }
        if let Some(dictionary) = &self.dictionary {
            return Ok(dictionary.summary(latent)?.scale());
        }
        if self.measured.is_none() {
            let mut engine = CpuEngine::new(self.lm.clone());
            self.measured = Some(max_activations(&mut engine, &self.stream()?, Split::HeldOutA, self.hook, &self.sae, NORM_TOKENS)?);
        }
        let all = self.measured.as_ref().expect("measured above");
        Ok(Scale { max_act: all[latent as usize], mean_act: f32::NAN })
    }

    /// The edit as it is kept: for this SAE, with the maxima that it reads.
    pub fn fixed(&mut self, edit: &SavedEdit) -> anyhow::Result<SavedEdit> {
        let maxima: Vec<(u32, f32)> = edit.edits.iter().map(|e| Ok((e.latent, self.scale(e.latent)?.max_act))).collect::<anyhow::Result<_>>()?;
        let max_act = |latent: u32| maxima.iter().find(|m| m.0 == latent).expect("every latent of the edit was asked for").1;
        Ok(SavedEdit { weights_hash: Some(self.weights_hash.clone()), ..edit.with_maxima(max_act) })
    }

    /// The edit in units of activation.
    pub fn resolve(&mut self, edit: &SavedEdit) -> anyhow::Result<Steering> {
        let refused = |e: anyhow::Error| intervene::Error::Edit { what: format!("{e:#}") };
        let scales: Vec<(u32, Scale)> = edit.edits.iter().map(|e| Ok((e.latent, self.scale(e.latent)?))).collect::<anyhow::Result<_>>()?;
        let mut scale = |latent: u32| Ok(scales.iter().find(|s| s.0 == latent).expect("every latent of the edit was asked for").1);
        let mut norm = || {
            let stream = self.stream().map_err(refused)?;
            mean_length(&mut CpuEngine::new(self.lm.clone()), &stream, Split::HeldOutA, self.hook, NORM_TOKENS)
        };
        let steering = edit.resolve(&self.weights_hash, &mut scale, &mut norm)?;
        if let Some(edit) = steering.edits.iter().find(|e| e.rule.strength().is_nan()) {
            bail!("the mean of latent {} is not known without a dictionary\n  build it: monosem features build --sae {}", edit.latent, self.name);
        }
        steering.check(&self.sae)?;
        Ok(steering)
    }
}

fn only_sae(run: &RunDir) -> anyhow::Result<String> {
    let folder: PathBuf = run.root.join("sae");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .map(|entries| {
            entries.flatten().filter(|e| e.path().join("cfg.json").exists()).map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    names.sort();
    match names.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("there is no SAE in {}\n  train one: monosem sae train {}", folder.display(), run.flags()),
        // The other one of two is most often the control of a full exam.
        several if several.iter().any(|name| name == "main") => Ok("main".into()),
        several => bail!("{} has {} SAEs\n  choose one: --sae {}", folder.display(), several.len(), several.join(" | ")),
    }
}
