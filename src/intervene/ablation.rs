//! What each token's loss would be without a latent. Source: Bricken et al. 2023, "feature ablation": x - act w_dec on the whole context.

use super::{Editor, Result, Rule, Steering, check_width};
use crate::lm::{Edit, Engine, HookPoint};
use crate::sae::Sae;

/// Whole windows of `window` tokens, one after another, and the token that follows each.
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a> {
    pub ids: &'a [u32],
    pub targets: &'a [u32],
    pub window: usize,
    pub end_of_text: u32,
}

/// Change in cross-entropy, nats, of `targets[i]` after `ids[i]` when `latent` is removed wherever it is active in the window:
/// nll(x - act w_dec) - nll(x). Shape (ids.len(),). Above 0 where the latent helped to predict the target; exactly 0 where nothing
/// that the token's prediction depends on was changed.
pub fn loss_change(engine: &mut dyn Engine, sae: &Sae, hook: HookPoint, latent: u32, windows: Windows) -> Result<Vec<f32>> {
    check_width(engine.config(), hook, sae)?;
    let Windows { ids, targets, window, end_of_text } = windows;
    let mut editor = Editor::new(sae, &Steering::one(latent, Rule::Zero), 0, end_of_text)?;
    let (mut clean, mut without) = (vec![0.0; ids.len()], vec![0.0; ids.len()]);
    engine.nll(ids, targets, window, None, &mut clean);
    let mut apply = |rows: &mut [f32]| editor.apply_to_windows(window, ids, rows);
    engine.nll(ids, targets, window, Some(Edit { hook, apply: &mut apply }), &mut without);
    without.iter_mut().zip(&clean).for_each(|(w, c)| *w -= c);
    Ok(without)
}
