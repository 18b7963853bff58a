//! Latents set, raised, scaled or removed, with the SAE's error kept.
//!
//! > x' = x + sum over edited latents of (target - act) w_dec\[latent\]
//!
//! This is decode(edited acts) + (x - decode(acts)) without the detour, so an edit whose target is the present activation changes no bit.
//! Source: Templeton et al. 2024, "Scaling Monosemanticity", methods of feature steering (the error term is kept).

use super::{Error, Result};
use crate::corpus::counts;
use crate::sae::{Encoder, Sae, SparseRows};
use serde::{Deserialize, Serialize};

/// What becomes of a latent's activation `act`; numbers in units of activation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The target is this number, whether the latent was active or not (clamp).
    Set(f32),
    /// The target is act + this number, whether the latent was active or not.
    Add(f32),
    /// The target is act x this number.
    Scale(f32),
    /// The target is 0.
    Zero,
}

impl Rule {
    /// The activation that takes the place of `act`.
    pub fn target(self, act: f32) -> f32 {
        match self {
            Rule::Set(value) => value,
            Rule::Add(value) => act + value,
            Rule::Scale(factor) => act * factor,
            Rule::Zero => 0.0,
        }
    }

    /// target - act. Exactly the number added, for [`Rule::Add`].
    fn change(self, act: f32) -> f32 {
        match self {
            Rule::Add(value) => value,
            other => other.target(act) - act,
        }
    }

    fn strength(self) -> f32 {
        match self {
            Rule::Set(s) | Rule::Add(s) | Rule::Scale(s) => s,
            Rule::Zero => 0.0,
        }
    }
}

/// One latent and its rule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentEdit {
    pub latent: u32,
    pub rule: Rule,
}

impl LatentEdit {
    /// Clamps a latent to a multiple of the largest activation it was seen with.
    pub fn set_to_multiple(latent: u32, multiple: f32, max_act: f32) -> Self {
        LatentEdit { latent, rule: Rule::Set(multiple * max_act) }
    }
}

/// Which positions of prompt and continuation are edited (of those that count).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    #[default]
    All,
    /// The last position of the prompt, whose output is the first new token, and every later one.
    Generated,
    /// Only positions of the prompt.
    Prompt,
    /// Position n (from 0) and every later one.
    From(usize),
}

impl Scope {
    /// Whether `position` is edited when the prompt has `prompt_len` tokens.
    pub fn contains(self, position: usize, prompt_len: usize) -> bool {
        match self {
            Scope::All => true,
            Scope::Generated => position + 1 >= prompt_len,
            Scope::Prompt => position < prompt_len,
            Scope::From(n) => position >= n,
        }
    }
}

/// A set of edits: what the command line, the page and recipes say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steering {
    pub edits: Vec<LatentEdit>,
    #[serde(default)]
    pub scope: Scope,
}

impl Steering {
    pub fn one(latent: u32, rule: Rule) -> Self {
        Steering { edits: vec![LatentEdit { latent, rule }], scope: Scope::All }
    }

    /// Refuses latents that are not there or twice there, and strengths that are not finite.
    pub fn check(&self, sae: &Sae) -> Result<()> {
        for (i, edit) in self.edits.iter().enumerate() {
            let LatentEdit { latent, rule } = *edit;
            if latent as usize >= sae.d_sae {
                return Err(Error::NoLatent { latent, d_sae: sae.d_sae });
            }
            if !rule.strength().is_finite() {
                return Err(Error::NotFinite { latent, strength: rule.strength() });
            }
            if self.edits[..i].iter().any(|e| e.latent == latent) {
                return Err(Error::EditedTwice { latent });
            }
        }
        Ok(())
    }
}

/// Applies a [`Steering`] to rows at the SAE's hook.
pub struct Editor<'a> {
    sae: &'a Sae,
    /// By latent, ascending, so that the order in which edits were given does not matter.
    edits: Vec<LatentEdit>,
    scope: Scope,
    prompt_len: usize,
    end_of_text: u32,
    selected: Vec<usize>,
    x: Vec<f32>,
    acts: SparseRows,
    sum: Vec<f64>,
    /// Prepared when it is first needed.
    encoder: Option<Encoder<'a>>,
}

impl<'a> Editor<'a> {
    /// `prompt_len` is what [`Scope::Generated`] and [`Scope::Prompt`] are measured by.
    pub fn new(sae: &'a Sae, steering: &Steering, prompt_len: usize, end_of_text: u32) -> Result<Self> {
        steering.check(sae)?;
        let mut edits = steering.edits.clone();
        edits.sort_by_key(|e| e.latent);
        let acts = SparseRows::default();
        let (scope, sum) = (steering.scope, vec![0.0; sae.d_in]);
        Ok(Editor { sae, edits, scope, prompt_len, end_of_text, selected: Vec::new(), x: Vec::new(), acts, sum, encoder: None })
    }

    /// Edits `rows` (n, d_in), the activations of `ids` (n,), whose first is at `first_position` of its window. Rows that are out of
    /// scope, do not count, or whose latents are already at their targets keep every bit.
    pub fn apply(&mut self, first_position: usize, ids: &[u32], rows: &mut [f32]) {
        let d_in = self.sae.d_in;
        assert_eq!(rows.len(), ids.len() * d_in, "rows of {d_in} for {} tokens", ids.len());
        self.selected.clear();
        self.selected.extend(ids.iter().enumerate().filter_map(|(i, &token)| {
            let position = first_position + i;
            (counts(token, position, self.end_of_text) && self.scope.contains(position, self.prompt_len)).then_some(i)
        }));
        self.apply_to_selected(rows);
    }

    /// Edits whole windows of `window` tokens each, all with the same scope.
    pub fn apply_to_windows(&mut self, window: usize, ids: &[u32], rows: &mut [f32]) {
        for (ids, rows) in ids.chunks(window).zip(rows.chunks_mut(window * self.sae.d_in)) {
            self.apply(0, ids, rows);
        }
    }

    fn apply_to_selected(&mut self, rows: &mut [f32]) {
        let d_in = self.sae.d_in;
        if self.edits.is_empty() || self.selected.is_empty() {
            return;
        }
        // A number that is added does not depend on the activation, so nothing needs to be encoded.
        let reads_acts = self.edits.iter().any(|e| !matches!(e.rule, Rule::Add(_)));
        if reads_acts {
            self.x.clear();
            for &i in &self.selected {
                self.x.extend_from_slice(&rows[i * d_in..][..d_in]);
            }
            self.encoder.get_or_insert_with(|| self.sae.encoder()).encode(&self.x, &mut self.acts);
        }
        for (r, &i) in self.selected.iter().enumerate() {
            let (latents, acts) = if reads_acts { self.acts.row(r) } else { (&[][..], &[][..]) };
            self.sum.fill(0.0);
            let mut changed = false;
            for edit in &self.edits {
                let act = latents.binary_search(&edit.latent).map_or(0.0, |at| acts[at]);
                let change = edit.rule.change(act);
                if change != 0.0 {
                    changed = true;
                    self.sum.iter_mut().zip(self.sae.direction(edit.latent)).for_each(|(s, &w)| *s += change as f64 * w as f64);
                }
            }
            if changed {
                rows[i * d_in..][..d_in].iter_mut().zip(&self.sum).for_each(|(x, &s)| *x = (*x as f64 + s) as f32);
            }
        }
    }
}
