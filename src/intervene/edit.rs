//! Latents set, raised, scaled or removed, with the SAE's error kept.
//!
//! > x' = x + sum over edited latents of (target - act) w_dec\[latent\]
//!
//! This is decode(edited acts) + (x - decode(acts)) without the detour, so an edit whose target is the present activation changes no bit.
//! Source: Templeton et al. 2024, "Scaling Monosemanticity", methods of feature steering (the error term is kept). Two rules read no activation but
//! the coordinate q = x . w_dec / |w_dec| along the direction: [`Rule::Project`] and [`Rule::Cap`].
//!
//! All activations and coordinates are those of the unedited x, so several edits add up and their order does not matter. What acts are: the SAE's,
//! selection and all, of x; a changed activation does not make others enter or leave the selection.

use super::{Error, Result};
use crate::corpus::counts;
use crate::kernels::sparse::dot;
use crate::sae::{Encoder, Sae, SparseRows};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    /// The target is this number where act is below it.
    AtLeast(f32),
    /// The target is this number where act is above it.
    AtMost(f32),
    /// The part of x along the direction is multiplied by this number, (I - P) x + number P x: 0 takes it away, -1 turns it round.
    Project(f32),
    /// The part of x along the direction is at most this number.
    Cap(f32),
}

impl Rule {
    /// The activation that takes the place of `act`; of rules that read no activation, `act` itself.
    pub fn target(self, act: f32) -> f32 {
        match self {
            Rule::Set(value) => value,
            Rule::Add(value) => act + value,
            Rule::Scale(factor) => act * factor,
            Rule::Zero => 0.0,
            Rule::AtLeast(value) => act.max(value),
            Rule::AtMost(value) => act.min(value),
            Rule::Project(_) | Rule::Cap(_) => act,
        }
    }

    /// What x moves by, in multiples of the direction `w` (d_in,). Exactly the number added, for [`Rule::Add`].
    fn change(self, act: f32, x: &[f32], w: &[f32]) -> f32 {
        match self {
            Rule::Add(value) => value,
            Rule::Project(factor) => (factor - 1.0) * dot(x, w) / squared(w),
            Rule::Cap(most) => (most - dot(x, w) / squared(w).sqrt()).min(0.0) / squared(w).sqrt(),
            other => other.target(act) - act,
        }
    }

    /// Whether what happens depends on the latent's activation.
    fn reads_act(self) -> bool {
        !matches!(self, Rule::Add(_) | Rule::Project(_) | Rule::Cap(_))
    }

    /// The rule's number; 0 where it has none.
    pub fn strength(self) -> f32 {
        match self {
            Rule::Zero => 0.0,
            Rule::Set(s) | Rule::Add(s) | Rule::Scale(s) | Rule::AtLeast(s) | Rule::AtMost(s) | Rule::Project(s) | Rule::Cap(s) => s,
        }
    }
}

/// |w|^2, and not 0.
fn squared(w: &[f32]) -> f32 {
    dot(w, w).max(f32::MIN_POSITIVE)
}

/// One latent and its rule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentEdit {
    pub latent: u32,
    pub rule: Rule,
    /// Only at positions where the latent is active.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_active: bool,
}

impl LatentEdit {
    pub fn new(latent: u32, rule: Rule) -> Self {
        LatentEdit { latent, rule, only_active: false }
    }

    fn reads_act(&self) -> bool {
        self.only_active || self.rule.reads_act()
    }
}

/// Which positions of prompt and continuation are edited (of those that count: `<|endoftext|>` and the first of a window never are).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    #[default]
    All,
    /// The last position of the prompt, whose output is the first new token, and every later one.
    Generated,
    /// Only positions of new tokens, so that the first of them is written as it would be.
    Continuation,
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
            Scope::Continuation => position >= prompt_len,
            Scope::Prompt => position < prompt_len,
            Scope::From(n) => position >= n,
        }
    }
}

/// A direction that is no latent's, added at every position: controls of an edit, and what other tools steer with.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    /// (d_in,)
    pub direction: Arc<[f32]>,
    pub strength: f32,
}

/// A set of edits with all numbers in units of activation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steering {
    pub edits: Vec<LatentEdit>,
    #[serde(default)]
    pub scope: Scope,
    /// Whether what the SAE does not explain stays; otherwise the reconstruction takes the place of x wherever the scope reaches.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub keep_error: bool,
    /// Positions of these tokens are left as they are. With the tokens that an edit promotes itself, a word that it has begun is finished by the model and
    /// not begun again at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rest_after: Vec<u32>,
    #[serde(skip)]
    pub pushes: Vec<Push>,
}

fn yes() -> bool {
    true
}

impl Default for Steering {
    fn default() -> Self {
        Steering { edits: Vec::new(), scope: Scope::All, keep_error: true, rest_after: Vec::new(), pushes: Vec::new() }
    }
}

impl Steering {
    pub fn one(latent: u32, rule: Rule) -> Self {
        Steering::of(vec![LatentEdit::new(latent, rule)])
    }

    /// These edits at every position.
    pub fn of(edits: Vec<LatentEdit>) -> Self {
        Steering { edits, ..Steering::default() }
    }

    pub fn push(direction: &[f32], strength: f32) -> Self {
        Steering { pushes: vec![Push { direction: direction.into(), strength }], ..Steering::default() }
    }

    /// Refuses latents that are not there or twice there, and strengths that are not finite.
    pub fn check(&self, sae: &Sae) -> Result<()> {
        for (i, edit) in self.edits.iter().enumerate() {
            let LatentEdit { latent, rule, .. } = *edit;
            if latent as usize >= sae.d_sae {
                return Err(Error::NoLatent { latent, d_sae: sae.d_sae });
            }
            if !self.keep_error && matches!(rule, Rule::Project(_) | Rule::Cap(_)) {
                let what = format!(
                    "latent {latent}: what lies along its direction in x is not what lies there in the reconstruction\n  keep the SAE's error with project and cap"
                );
                return Err(Error::Edit { what });
            }
            if !rule.strength().is_finite() {
                return Err(Error::NotFinite { latent, strength: rule.strength() });
            }
            if self.edits[..i].iter().any(|e| e.latent == latent) {
                return Err(Error::EditedTwice { latent });
            }
        }
        assert!(self.pushes.iter().all(|p| p.direction.len() == sae.d_in), "directions of {} numbers", sae.d_in);
        Ok(())
    }

    /// Whether it changes anything at all.
    fn does_nothing(&self) -> bool {
        self.edits.is_empty() && self.pushes.is_empty() && self.keep_error
    }
}

/// Applies a [`Steering`] to rows at the SAE's hook.
pub struct Editor<'a> {
    sae: &'a Sae,
    /// Edits by latent, ascending, so that the order in which they were given does not matter.
    steering: Steering,
    prompt_len: usize,
    end_of_text: u32,
    selected: Vec<usize>,
    x: Vec<f32>,
    acts: SparseRows,
    x_hat: Vec<f32>,
    /// Activations of the edited latents at one position, in the order of the edits.
    own: Vec<f32>,
    sum: Vec<f64>,
    /// Prepared when it is first needed.
    encoder: Option<Encoder<'a>>,
}

impl<'a> Editor<'a> {
    /// `prompt_len` is what [`Scope::Generated`] and [`Scope::Prompt`] are measured by.
    pub fn new(sae: &'a Sae, steering: &Steering, prompt_len: usize, end_of_text: u32) -> Result<Self> {
        steering.check(sae)?;
        let mut steering = steering.clone();
        steering.edits.sort_by_key(|e| e.latent);
        steering.rest_after.sort_unstable();
        Ok(Editor {
            sae,
            steering,
            prompt_len,
            end_of_text,
            selected: Vec::new(),
            x: Vec::new(),
            acts: SparseRows::default(),
            x_hat: Vec::new(),
            own: Vec::new(),
            sum: vec![0.0; sae.d_in],
            encoder: None,
        })
    }

    /// Edits `rows` (n, d_in), the activations of `ids` (n,), whose first is at `first_position` of its window. Rows that are out of
    /// scope, do not count, or whose latents are already at their targets keep every bit.
    pub fn apply(&mut self, first_position: usize, ids: &[u32], rows: &mut [f32]) {
        let d_in = self.sae.d_in;
        assert_eq!(rows.len(), ids.len() * d_in, "rows of {d_in} for {} tokens", ids.len());
        self.selected.clear();
        self.selected.extend(ids.iter().enumerate().filter_map(|(i, &token)| {
            let position = first_position + i;
            let rests = self.steering.rest_after.binary_search(&token).is_ok();
            (counts(token, position, self.end_of_text) && self.steering.scope.contains(position, self.prompt_len) && !rests).then_some(i)
        }));
        if !self.steering.does_nothing() && !self.selected.is_empty() {
            self.apply_to_selected(rows);
        }
    }

    /// Edits whole windows of `window` tokens each, all with the same scope.
    pub fn apply_to_windows(&mut self, window: usize, ids: &[u32], rows: &mut [f32]) {
        for (ids, rows) in ids.chunks(window).zip(rows.chunks_mut(window * self.sae.d_in)) {
            self.apply(0, ids, rows);
        }
    }

    fn apply_to_selected(&mut self, rows: &mut [f32]) {
        let d_in = self.sae.d_in;
        let Steering { keep_error, .. } = self.steering;
        // What is added does not depend on activations; where latents do not compete, those that are edited are enough.
        let reads_acts = self.steering.edits.iter().any(LatentEdit::reads_act);
        let encodes = !keep_error || reads_acts && !self.sae.decides_alone();
        let latents: Vec<u32> = self.steering.edits.iter().map(|e| e.latent).collect();
        // Rows are encoded but for those in which no edited latent can be active.
        let skipped = |row: &[f32]| keep_error && self.sae.surely_silent(&latents, row);
        let encoded: Vec<bool> = self.selected.iter().map(|&i| encodes && !skipped(&rows[i * d_in..][..d_in])).collect();
        self.x.clear();
        for (&i, _) in self.selected.iter().zip(&encoded).filter(|(_, encoded)| **encoded) {
            self.x.extend_from_slice(&rows[i * d_in..][..d_in]);
        }
        if !self.x.is_empty() {
            self.encoder.get_or_insert_with(|| self.sae.encoder()).encode(&self.x, &mut self.acts);
        }
        if !keep_error {
            self.x_hat.resize(self.x.len(), 0.0);
            self.sae.decode(&self.acts, &mut self.x_hat);
        }
        let mut r = 0;
        for (&i, &encoded) in self.selected.iter().zip(&encoded) {
            let row = &mut rows[i * d_in..][..d_in];
            self.own.clear();
            if encoded {
                let (active, acts) = self.acts.row(r);
                self.own.extend(latents.iter().map(|latent| active.binary_search(latent).map_or(0.0, |at| acts[at])));
            } else if reads_acts && !encodes {
                self.sae.acts_alone(&latents, row, &mut self.own);
            } else {
                self.own.resize(latents.len(), 0.0);
            }
            self.sum.fill(0.0);
            let mut changed = false;
            for (edit, &act) in self.steering.edits.iter().zip(&self.own) {
                let direction = self.sae.direction(edit.latent);
                let change = if edit.only_active && act <= 0.0 { 0.0 } else { edit.rule.change(act, row, direction) };
                if change != 0.0 {
                    changed = true;
                    add_scaled(&mut self.sum, f64::from(change), direction);
                }
            }
            for push in self.steering.pushes.iter().filter(|p| p.strength != 0.0) {
                changed = true;
                add_scaled(&mut self.sum, f64::from(push.strength), &push.direction);
            }
            if !keep_error {
                row.copy_from_slice(&self.x_hat[r * d_in..][..d_in]);
            }
            r += usize::from(encoded);
            if changed {
                row.iter_mut().zip(&self.sum).for_each(|(x, &s)| *x = (*x as f64 + s) as f32);
            }
        }
    }
}

/// sum += scale * direction.
fn add_scaled(sum: &mut [f64], scale: f64, direction: &[f32]) {
    sum.iter_mut().zip(direction).for_each(|(s, &w)| *s += scale * f64::from(w));
}
