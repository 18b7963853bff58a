//! The sides of a comparison: SAEs of a run, finished ones or as they were at a step of their training, and what must be known of two before
//! their cosines mean anything. Reads `sae/<name>/`, its snapshots and its dictionary.

use super::super::store::Dictionary;
use super::super::{Error, Result};
use super::Side;
use crate::artifact::{Manifest, RunDir, read_json};
use crate::sae::{self, Sae, TrainConfig, history};
use std::collections::BTreeMap;

/// An SAE with what is known of it.
pub struct Named {
    pub sae: Sae,
    /// Of a finished SAE, where it was built.
    pub dictionary: Option<Dictionary>,
    /// By its dictionary.
    pub alive: Option<Vec<bool>>,
    /// Absent for an SAE that another program made.
    trained: Option<Trained>,
    /// Where its directions are: what it reconstructs.
    hook: Option<String>,
}

/// How an SAE was trained.
struct Trained {
    config: TrainConfig,
    /// Hashes of what it was trained on; of a control also what was done to the model's weights.
    inputs: BTreeMap<String, String>,
}

/// What is between a name and a step.
const AT: char = '@';

/// Opens the SAE of this name; `NAME@STEP` is the snapshot of its training after that step.
///
/// # Errors
/// There is no such SAE or snapshot, or it is damaged.
pub fn open(run: &RunDir, name: &str) -> Result<Named> {
    if let Some((name, step)) = name.rsplit_once(AT) {
        let dir = history::folder(run, name);
        let there = history::list(&dir);
        let Some(moment) = there.iter().find(|m| m.step.to_string() == step) else {
            let steps: Vec<String> = there.iter().map(|m| m.step.to_string()).collect();
            let steps = if steps.is_empty() { "there is none".into() } else { format!("there are those after steps {}", steps.join(", ")) };
            return Err(Error::Invalid(format!("SAE {name} of {} keeps no snapshot of step {step}: {steps}", run.root.display())));
        };
        let identity: serde_json::Value = serde_json::from_str(&moment.run).unwrap_or_default();
        let trained = Trained::read(&identity["config"], serde_json::from_value(identity["inputs"].clone()).unwrap_or_default());
        let sae = history::load(&dir, moment.step)?;
        return Ok(Named { sae, dictionary: None, alive: None, trained, hook: Some(moment.hook_out.as_ref().unwrap_or(&moment.hook).clone()) });
    }
    let dir = run.sae(name);
    let sae = Sae::load_any(&dir)?;
    let dictionary = Dictionary::open(&run.features(name)).ok();
    let alive = dictionary.as_ref().map(Dictionary::alive).transpose()?.filter(|alive| alive.len() == sae.d_sae);
    let trained = read_json::<Manifest>(&dir.join("manifest.json")).ok().and_then(|m| Trained::read(&m.config, m.inputs));
    let hook = sae::read_origin(&dir).ok().map(|origin| origin.hook_name_out.unwrap_or(origin.hook_name));
    Ok(Named { sae, dictionary, alive, trained, hook })
}

/// What [`open`] may be asked for of one SAE: itself where it is finished, then its snapshots, the newest first.
pub fn names(run: &RunDir, name: &str) -> Vec<String> {
    let finished = run.sae(name).join("cfg.json").is_file().then(|| name.to_string());
    let snapshots = history::list(&history::folder(run, name));
    finished.into_iter().chain(snapshots.iter().rev().map(|m| format!("{name}{AT}{}", m.step))).collect()
}

impl Named {
    pub fn side(&self) -> Side<'_> {
        Side { sae: &self.sae, alive: self.alive.as_deref() }
    }

    fn lm(&self) -> Option<String> {
        let trained = self.trained.as_ref().and_then(|t| t.inputs.get("lm").cloned());
        trained.or_else(|| self.dictionary.as_ref().map(|d| d.meta().lm_hash.clone()))
    }

    fn hook(&self) -> Option<String> {
        self.hook.clone().or_else(|| self.dictionary.as_ref().map(|d| d.meta().hook.clone()))
    }
}

impl Trained {
    fn read(config: &serde_json::Value, inputs: BTreeMap<String, String>) -> Option<Self> {
        Some(Trained { config: serde_json::from_value(config.clone()).ok()?, inputs })
    }
}

/// Why the cosines of two SAEs mean nothing, or less than they seem; a sentence each. Empty where nothing is to be said.
///
/// `matched`: pairs that were taken for the same. Where both began with the same directions, how many of them have the same number tells how
/// much of the matching is that beginning.
pub fn cautions(a: &Named, b: &Named, matched: &[super::Nearest]) -> Vec<String> {
    if a.sae == b.sae {
        return vec!["The two are the same SAE, weight by weight.".into()];
    }
    let mut said = vec![];
    match (a.lm(), b.lm()) {
        (Some(a), Some(b)) if a != b => said.push("The two were trained on different models: a direction of one means nothing in the other.".into()),
        _ => {}
    }
    let shuffled = |side: &Named| side.trained.as_ref().is_some_and(|t| t.inputs.contains_key("weights"));
    if shuffled(a) != shuffled(b) {
        said.push("One was trained on the model with its weights shuffled, a control: its directions are not of the same space.".into());
    }
    match (a.hook(), b.hook()) {
        (Some(a), Some(b)) if a != b => {
            said.push(format!("The two have their directions at different places, {a} and {b}: a direction of one means nothing in the other."));
        }
        _ => {}
    }
    if let (Some(x), Some(y)) = (&a.trained, &b.trained)
        && x.config.begins_as(&y.config)
    {
        let same = matched.iter().filter(|n| n.latent == n.other).count();
        said.push(format!(
            "Both began with the same directions (seed {}): of {} pairs that are each other's nearest {same} have the same number in both. What is matched may be \
             the common beginning and not the same thing found twice; an SAE of another --seed tells.",
            x.config.seed,
            matched.len()
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::super::Nearest;
    use super::*;
    use crate::sae::{Recipe, SaeConfig, Select};

    fn named(seed: u64, recipe: &str, inputs: &[(&str, &str)], hook: &str) -> Named {
        let recipe = Recipe::named(recipe, &[]).unwrap();
        // Weights of its own.
        let own = seed as f32 + inputs.len() as f32 / 8.0 + hook.len() as f32 / 64.0 + recipe.name().len() as f32;
        let config = TrainConfig::short(SaeConfig::new(2, 3, recipe), 640, 64, seed);
        let sae = Sae {
            d_in: 2,
            d_sae: 3,
            select: Select::Relu,
            w_enc: vec![own; 6],
            b_enc: vec![0.0; 3],
            w_dec: vec![0.0; 6],
            b_dec: vec![0.0; 2],
            apply_b_dec_to_input: false,
            transcoder: None,
        };
        let inputs = inputs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Named { sae, dictionary: None, alive: None, trained: Some(Trained { config, inputs }), hook: Some(hook.into()) }
    }

    #[test]
    fn a_common_start_other_models_and_other_places_are_said_and_nothing_where_there_is_none() {
        let topk = "topk";
        let one = named(3, topk, &[("lm", "m")], "h");
        let said = |other: &Named| {
            cautions(&one, other, &[Nearest { latent: 1, other: 1, cosine: 0.9 }, Nearest { latent: 2, other: 0, cosine: 0.8 }]).join(" ")
        };
        assert_eq!(said(&named(4, topk, &[("lm", "m")], "h")), "");
        assert!(said(&named(3, topk, &[("lm", "m")], "h")).contains("the same SAE"));
        assert!(said(&named(3, "relu-april-2024", &[("lm", "m")], "h")).contains("seed 3): of 2 pairs that are each other's nearest 1 have"));
        assert_eq!(said(&named(3, "relu-2023", &[("lm", "m")], "h")), "", "its directions are drawn in another way");
        assert!(said(&named(4, topk, &[("lm", "n")], "h")).contains("different models"));
        assert!(said(&named(4, topk, &[("lm", "m"), ("weights", "shuffled, seed 0")], "h")).contains("a control"));
        assert!(said(&named(4, topk, &[("lm", "m")], "gg")).contains("h and gg"));
        assert_eq!(said(&Named { trained: None, ..named(3, topk, &[], "h") }), "", "of another program's SAE nothing is known");
    }
}
