//! An edit as a small object that a file (TOML), the command line, an address and the API (JSON) share.
//!
//! ```toml
//! about = "make it dwell on colours"
//! scope = "generated"
//!
//! [[edits]]
//! latent = 17
//! rule = "set"
//! value = 2
//! unit = "max"
//! ```
//!
//! Values are in units that mean the same for every latent; [`SavedEdit::resolve`] turns them into activations.

use super::edit::{LatentEdit, Rule, Scope, Steering};
use super::{Error, Result};
use serde::{Deserialize, Serialize};

/// What a rule does; see [`Rule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleName {
    /// Clamp to `value`.
    Set,
    /// Add `value`.
    Add,
    /// Multiply by `value`.
    Scale,
    /// Clamp to 0.
    Zero,
    /// Clamp to the latent's mean over all tokens.
    Mean,
    AtLeast,
    AtMost,
    /// Multiply what lies along the direction by `value`.
    Project,
    /// Let at most `value` lie along the direction.
    Cap,
}

impl RuleName {
    /// (whether it needs a value, whether that has a unit)
    fn takes(self) -> (bool, bool) {
        match self {
            RuleName::Zero | RuleName::Mean => (false, false),
            RuleName::Scale | RuleName::Project => (true, false),
            _ => (true, true),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            RuleName::Set => "set",
            RuleName::Add => "add",
            RuleName::Scale => "scale",
            RuleName::Zero => "zero",
            RuleName::Mean => "mean",
            RuleName::AtLeast => "at_least",
            RuleName::AtMost => "at_most",
            RuleName::Project => "project",
            RuleName::Cap => "cap",
        }
    }

    pub const ALL: [RuleName; 9] = [
        RuleName::Set,
        RuleName::Add,
        RuleName::Scale,
        RuleName::Zero,
        RuleName::Mean,
        RuleName::AtLeast,
        RuleName::AtMost,
        RuleName::Project,
        RuleName::Cap,
    ];
}

/// What a value is a multiple of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// The largest activation the latent was seen with.
    #[default]
    Max,
    /// 1: the activation itself.
    Act,
    /// The mean length of activations at the hook.
    Norm,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::Max => "max",
            Unit::Act => "act",
            Unit::Norm => "norm",
        }
    }
}

/// One latent and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedLatent {
    pub latent: u32,
    pub rule: RuleName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f32>,
    /// Without one a value is a multiple of the maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_active: bool,
    /// The maximum that values in [`Unit::Max`] are multiples of. With it the edit is the same whatever dictionary is there; without one the dictionary's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_act: Option<f32>,
}

/// A set of edits and where they hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedEdit {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The SAE it was made for by the hash of its weights: latents of another are other things. Absent in one written by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_hash: Option<String>,
    #[serde(default)]
    pub scope: Scope,
    #[serde(default = "yes")]
    pub keep_error: bool,
    /// Tokens at which the edit rests; see [`Steering::rest_after`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rest_after: Vec<u32>,
    pub edits: Vec<SavedLatent>,
}

fn yes() -> bool {
    true
}

/// What the units of one latent are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The largest activation it was seen with.
    pub max_act: f32,
    /// Over all tokens, those where it is silent included.
    pub mean_act: f32,
}

impl SavedLatent {
    pub fn new(latent: u32, rule: RuleName, value: Option<f32>) -> Self {
        SavedLatent { latent, rule, value, unit: None, only_active: false, max_act: None }
    }

    /// Whether the number is a multiple of the maximum.
    fn reads_max(&self) -> bool {
        self.rule.takes().1 && self.unit.unwrap_or_default() == Unit::Max
    }

    fn refused(&self, what: &str) -> Error {
        Error::Edit { what: format!("latent {}, rule {}: {what}", self.latent, self.rule.name()) }
    }

    /// The rule in units of activation. `norm`: mean length of activations at the hook.
    fn resolve(&self, scale: Scale, norm: f32) -> Result<LatentEdit> {
        let value = match (self.rule.takes().0, self.value) {
            (true, None) => return Err(self.refused("it needs a value")),
            (false, Some(value)) => return Err(self.refused(&format!("it takes no value, and there is {value}"))),
            (_, value) => value.unwrap_or_default(),
        };
        let unit = match (self.rule.takes().1, self.unit) {
            (false, Some(_)) => return Err(self.refused("it takes no unit; its value is a factor")),
            (_, unit) => unit.unwrap_or_default(),
        };
        if let Some(wrong) = self.max_act.filter(|m| !(m.is_finite() && *m > 0.0)) {
            return Err(self.refused(&format!("max_act is {wrong} and must be above 0; left out it is the dictionary's")));
        }
        let max_act = self.max_act.unwrap_or(scale.max_act);
        if self.reads_max() && max_act <= 0.0 && value != 0.0 {
            return Err(
                self.refused("the latent was never seen active, so there is no maximum to be a multiple of\n  give the unit act or norm (in a file: unit = \"act\")")
            );
        }
        let act = value
            * match unit {
                Unit::Max => max_act,
                Unit::Act => 1.0,
                Unit::Norm => norm,
            };
        let rule = match self.rule {
            RuleName::Set => Rule::Set(act),
            RuleName::Add => Rule::Add(act),
            RuleName::Scale => Rule::Scale(value),
            RuleName::Zero => Rule::Zero,
            RuleName::Mean => Rule::Set(scale.mean_act),
            RuleName::AtLeast => Rule::AtLeast(act),
            RuleName::AtMost => Rule::AtMost(act),
            RuleName::Project => Rule::Project(value),
            RuleName::Cap => Rule::Cap(act),
        };
        Ok(LatentEdit { latent: self.latent, rule, only_active: self.only_active })
    }
}

impl SavedEdit {
    /// These edits at every position.
    pub fn of(edits: Vec<SavedLatent>) -> Self {
        SavedEdit { about: String::new(), weights_hash: None, scope: Scope::All, keep_error: true, rest_after: Vec::new(), edits }
    }

    /// Whether any rule has a value, so that the edit can be made stronger.
    pub fn has_strength(&self) -> bool {
        self.edits.iter().any(|e| e.value.is_some())
    }

    /// The same with the maxima that it reads written into it, so that it means the same beside another dictionary.
    #[must_use]
    pub fn with_maxima(&self, max_act: impl Fn(u32) -> f32) -> Self {
        let fixed = |e: &SavedLatent| {
            let own = Some(max_act(e.latent)).filter(|m| e.reads_max() && *m > 0.0);
            SavedLatent { max_act: e.max_act.or(own), ..*e }
        };
        SavedEdit { edits: self.edits.iter().map(fixed).collect(), ..self.clone() }
    }

    /// This edit and another at once.
    ///
    /// # Errors
    /// [`Error::Edit`] where they hold in different places or are for different SAEs. A latent of both is refused where the edit is used.
    pub fn and(self, other: Self) -> Result<Self> {
        let refused = |what: String| Err(Error::Edit { what: format!("{what}, so they cannot be one edit") });
        if self.scope != other.scope {
            return refused(format!("two edits have the scopes {:?} and {:?}", self.scope, other.scope));
        }
        if self.keep_error != other.keep_error {
            return refused("one edit keeps what the SAE does not explain and another drops it".into());
        }
        if self.rest_after != other.rest_after {
            return refused("two edits rest after different tokens".into());
        }
        if let (Some(one), Some(two)) = (&self.weights_hash, &other.weights_hash)
            && one != two
        {
            return refused(format!("two edits were made for different SAEs, with the weights {one} and {two}"));
        }
        let about = [self.about, other.about].into_iter().filter(|a| !a.is_empty()).collect::<Vec<_>>().join("; ");
        let edits = [self.edits, other.edits].concat();
        Ok(SavedEdit { about, weights_hash: self.weights_hash.or(other.weights_hash), edits, ..self })
    }

    /// The same with every value multiplied.
    #[must_use]
    pub fn times(&self, factor: f32) -> Self {
        let edits = self.edits.iter().map(|e| SavedLatent { value: e.value.map(|v| v * factor), ..*e });
        SavedEdit { edits: edits.collect(), ..self.clone() }
    }

    /// Reads TOML, or JSON where the text begins with a brace.
    ///
    /// # Errors
    /// [`Error::Edit`] with the line or what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |e: String| Error::Edit { what: e };
        match text.trim_start().starts_with('{') {
            true => serde_json::from_str(text).map_err(|e| refused(e.to_string())),
            false => toml::from_str(text).map_err(|e| refused(e.to_string())),
        }
    }

    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("an edit has only what TOML can hold")
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an edit has only what JSON can hold")
    }

    /// The edit in units of activation: `scale` tells the units of a latent, `norm` the mean length of activations at the hook; it is asked for only where a
    /// value is in it. `weights_hash` is that of the SAE in use.
    ///
    /// # Errors
    /// An edit for another SAE, values that are missing or too many, a latent without a maximum.
    pub fn resolve(
        &self,
        weights_hash: &str,
        scale: &mut dyn FnMut(u32) -> Result<Scale>,
        norm: &mut dyn FnMut() -> Result<f32>,
    ) -> Result<Steering> {
        if let Some(made_for) = self.weights_hash.as_deref().filter(|&h| h != weights_hash) {
            let what = format!(
                "it was made for the SAE with the weights {made_for}; this one has {weights_hash}, whose latents are others\n  choose the SAE with --sae"
            );
            return Err(Error::Edit { what });
        }
        let norm = if self.edits.iter().any(|e| e.unit == Some(Unit::Norm)) { norm()? } else { 0.0 };
        let edits = self.edits.iter().map(|e| e.resolve(scale(e.latent)?, norm)).collect::<Result<_>>()?;
        Ok(Steering { edits, scope: self.scope, keep_error: self.keep_error, rest_after: self.rest_after.clone(), ..Steering::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(edit: &SavedEdit) -> Result<Steering> {
        let mut scale = |latent: u32| Ok(Scale { max_act: if latent == 99 { 0.0 } else { 4.0 }, mean_act: 0.25 });
        edit.resolve("abc", &mut scale, &mut || Ok(10.0))
    }

    #[test]
    fn values_are_multiples_of_the_maximum_the_length_or_nothing() {
        let one = |rule, value, unit| SavedEdit::of(vec![SavedLatent { unit, ..SavedLatent::new(3, rule, value) }]);
        let rule = |edit: SavedEdit| resolved(&edit).unwrap().edits[0].rule;
        assert_eq!(rule(one(RuleName::Set, Some(2.0), None)), Rule::Set(8.0));
        assert_eq!(rule(one(RuleName::Add, Some(0.5), Some(Unit::Norm))), Rule::Add(5.0));
        assert_eq!(rule(one(RuleName::AtLeast, Some(1.5), Some(Unit::Act))), Rule::AtLeast(1.5));
        assert_eq!(rule(one(RuleName::AtMost, Some(0.5), None)), Rule::AtMost(2.0));
        assert_eq!(rule(one(RuleName::Cap, Some(0.5), Some(Unit::Norm))), Rule::Cap(5.0));
        assert_eq!(rule(one(RuleName::Scale, Some(3.0), None)), Rule::Scale(3.0));
        assert_eq!(rule(one(RuleName::Project, Some(-1.0), None)), Rule::Project(-1.0));
        assert_eq!(rule(one(RuleName::Mean, None, None)), Rule::Set(0.25));
        assert_eq!(rule(one(RuleName::Zero, None, None)), Rule::Zero);
    }

    #[test]
    fn toml_and_json_say_the_same_and_defaults_may_be_left_out() {
        let text =
            "scope = \"generated\"\n[[edits]]\nlatent = 17\nrule = \"set\"\nvalue = 2\n[[edits]]\nlatent = 4\nrule = \"zero\"\nonly_active = true\n";
        let edit = SavedEdit::parse(text).unwrap();
        assert_eq!((edit.scope, edit.keep_error, edit.edits.len(), edit.edits[1].only_active), (Scope::Generated, true, 2, true));
        assert_eq!(SavedEdit::parse(&edit.to_toml()).unwrap(), edit);
        assert_eq!(SavedEdit::parse(&edit.to_json()).unwrap(), edit);
        let from = SavedEdit::parse(r#"{"scope":{"from":5},"edits":[{"latent":1,"rule":"scale","value":2.5}],"rest_after":[9,4]}"#).unwrap();
        assert_eq!(resolved(&from).unwrap().rest_after, [9, 4]);
        assert_eq!((from.scope, SavedEdit::parse(&from.to_toml()).unwrap()), (Scope::From(5), from.clone()));
    }

    #[test]
    fn a_maximum_that_was_written_down_outlives_the_dictionary() {
        let one = |rule, value| SavedEdit::of(vec![SavedLatent::new(3, rule, value)]);
        let kept = one(RuleName::Set, Some(2.0)).with_maxima(|_| 1.5);
        assert_eq!((kept.edits[0].max_act, resolved(&kept).unwrap().edits[0].rule), (Some(1.5), Rule::Set(3.0)));
        assert_eq!(kept.with_maxima(|_| 9.0), kept, "the first stands");
        assert_eq!(SavedEdit::parse(&kept.to_toml()).unwrap(), kept);
        assert_eq!(one(RuleName::Scale, Some(2.0)).with_maxima(|_| 1.5).edits[0].max_act, None, "a factor has no maximum");
        assert_eq!(one(RuleName::Set, Some(2.0)).with_maxima(|_| 0.0).edits[0].max_act, None);
        let wrong = SavedEdit::parse(r#"{"edits":[{"latent":1,"rule":"set","value":1,"max_act":-2}]}"#).unwrap();
        assert!(resolved(&wrong).unwrap_err().to_string().contains("max_act is -2"));
    }

    #[test]
    fn two_edits_are_one_where_they_hold_alike() {
        let one = |latent, about: &str| SavedEdit { about: about.into(), ..SavedEdit::of(vec![SavedLatent::new(latent, RuleName::Zero, None)]) };
        let both = one(3, "a").and(SavedEdit { weights_hash: Some("abc".into()), ..one(4, "b") }).unwrap();
        assert_eq!((both.edits.len(), both.about.as_str(), both.weights_hash.as_deref()), (2, "a; b", Some("abc")));
        assert!(both.and(SavedEdit { weights_hash: Some("x".into()), ..one(5, "") }).unwrap_err().to_string().contains("abc and x"));
        assert!(one(3, "").and(SavedEdit { scope: Scope::Prompt, ..one(4, "") }).unwrap_err().to_string().contains("Prompt"));
        assert!(one(3, "").and(SavedEdit { keep_error: false, ..one(4, "") }).is_err());
        assert!(one(3, "").and(SavedEdit { rest_after: vec![1], ..one(4, "") }).is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_latent() {
        let refused = |text: &str| SavedEdit::parse(text).and_then(|e| resolved(&e)).unwrap_err().to_string();
        let one = |rest: &str| refused(&format!("{{\"edits\":[{{\"latent\":3,{rest}}}]}}"));
        assert!(one("\"rule\":\"set\"").contains("latent 3, rule set: it needs a value"));
        assert!(one("\"rule\":\"zero\",\"value\":1").contains("takes no value"));
        assert!(one("\"rule\":\"scale\",\"value\":1,\"unit\":\"max\"").contains("takes no unit"));
        assert!(one("\"rule\":\"sett\",\"value\":1").contains("sett"));
        assert!(one("\"rule\":\"set\",\"value\":1,\"more\":2").contains("more"));
        assert!(refused("{\"edits\":[{\"latent\":99,\"rule\":\"set\",\"value\":1}]}").contains("never seen active"));
        assert!(refused("{\"weights_hash\":\"xyz\",\"edits\":[]}").contains("xyz") && refused("[[edits]]\nlatent = x").contains("latent"));
    }
}
