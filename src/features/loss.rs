//! What removing a unit at a token does to the loss of the next token, for the firings that are shown.
//!
//! > nll(LayerNorm(r - act u) W_U^T) - nll(LayerNorm(r) W_U^T),   u = w_dec W_out at the neurons of the last layer, w_dec after them
//!
//! Nothing after the last attention mixes positions, so this is exact: the model's own final norm and unembedding of its own residual stream
//! r with one vector taken away, the SAE's error kept. It costs one row of logits per firing, and the model runs once over the
//! windows that hold shown firings. Where attention or a nonlinearity comes after the hook there is no such sum, and nothing is measured.
//!
//! M = d_model, V = d_vocab, P = pairs of a unit and a token.

use super::collect::Collected;
use super::store::{GroupKind, LossEffects};
use super::{Error, Result};
use crate::artifact::Progress;
use crate::corpus::TokenStream;
use crate::intervene::exact::residual_directions;
use crate::kernels::cross_entropy::cross_entropy_forward;
use crate::kernels::layer_norm::layer_norm_forward;
use crate::lm::{Engine, HookPoint, Lm, Site};

/// Firing tokens of one example that are measured: those nearest to the one that it is about, that one first.
const PER_EXAMPLE: usize = 8;
/// Tokens that go through the model together, and pairs through the unembedding.
const BATCH_TOKENS: usize = 4096;
const BATCH_PAIRS: usize = 1024;

/// One firing: (token of the stream, unit, activation).
type Firing = (u64, u32, f32);

/// Measures the shown firings of `units`, whose directions at `hook` are `directions` (n_units, d_in), and writes what it finds beside them.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn measure(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    hook: HookPoint,
    directions: &[f32],
    units: &mut [&mut Collected],
    progress: &mut dyn Progress,
) -> Result<LossEffects> {
    let residual = match residual_directions(&engine.lm(), hook, directions) {
        Ok(residual) => residual,
        Err(_) => {
            let why =
                format!("attention or a nonlinearity comes after {hook}, so that removing a unit there is not one vector less before the final norm");
            return Ok(LossEffects::NotExact { why });
        }
    };
    let mut wanted: Vec<Firing> = vec![];
    for (u, unit) in units.iter().enumerate() {
        for firing in unit.groups.iter().filter(|g| g.kind != GroupKind::Zero).flat_map(|g| &g.firings) {
            wanted.extend(nearest(&firing.around).map(|(distance, act)| (at(firing.t, distance), u as u32, act)));
        }
    }
    wanted.sort_unstable_by_key(|f| (f.0, f.1));
    wanted.dedup_by_key(|f| (f.0, f.1));
    // The last token of the stream predicts nothing.
    wanted.retain(|f| f.0 + 1 < stream.len());
    progress.begin("effects on the loss", wanted.len() as u64, "firings");
    let changes = changes(engine, stream, hook.layer, &residual, &wanted, progress)?;
    progress.end();
    for (u, unit) in units.iter_mut().enumerate() {
        for firing in unit.groups.iter_mut().filter(|g| g.kind != GroupKind::Zero).flat_map(|g| &mut g.firings) {
            let found = |distance: i8| wanted.binary_search_by(|f| (f.0, f.1).cmp(&(at(firing.t, distance), u as u32))).ok();
            firing.loss = nearest(&firing.around).filter_map(|(distance, _)| Some((distance, changes[found(distance)?]))).collect();
            firing.loss.sort_unstable_by_key(|l| l.0);
        }
    }
    Ok(LossEffects::Exact)
}

fn at(t: u64, distance: i8) -> u64 {
    t.saturating_add_signed(distance as i64)
}

/// The firings nearest to the one in the middle.
fn nearest(around: &[(i8, f32)]) -> impl Iterator<Item = (i8, f32)> {
    let mut order: Vec<(i8, f32)> = around.to_vec();
    order.sort_by_key(|(distance, _)| (distance.unsigned_abs(), *distance));
    order.into_iter().take(PER_EXAMPLE)
}

/// Change in nats for each of `wanted`, which are sorted; `residual` (n_units, M) is what one unit of activation adds.
fn changes(
    engine: &mut dyn Engine,
    stream: &TokenStream,
    layer: usize,
    residual: &[f32],
    wanted: &[Firing],
    progress: &mut dyn Progress,
) -> Result<Vec<f32>> {
    let (n_ctx, m) = (engine.config().n_ctx, engine.config().d_model);
    let hook = HookPoint { layer, site: Site::ResidPost };
    let per_batch = (BATCH_TOKENS / n_ctx).max(1);
    let mut changes = Vec::with_capacity(wanted.len());
    let (mut ids, mut rows, mut losses) = (vec![], vec![], Losses::default());
    let mut left = wanted;
    while !left.is_empty() {
        if progress.interrupted() {
            return Err(Error::Interrupted);
        }
        // The next windows that hold a firing, and the firings in them.
        let mut windows: Vec<u64> = vec![];
        let end = left.iter().position(|f| {
            let window = f.0 / n_ctx as u64;
            let is_new = windows.last() != Some(&window);
            if is_new && windows.len() < per_batch {
                windows.push(window);
            }
            is_new && windows.last() != Some(&window)
        });
        let (batch, rest) = left.split_at(end.unwrap_or(left.len()));
        left = rest;
        ids.resize(windows.len() * n_ctx, 0);
        ids.chunks_mut(n_ctx).zip(&windows).for_each(|(ids, w)| stream.read(w * n_ctx as u64, ids));
        rows.resize(ids.len() * m, 0.0);
        engine.forward_to(&ids, n_ctx, hook, &mut rows);
        let row_of = |t: u64| {
            let window = windows.binary_search(&(t / n_ctx as u64)).expect("its window was read");
            let row = window * n_ctx + (t % n_ctx as u64) as usize;
            &rows[row * m..(row + 1) * m]
        };
        let lm = engine.lm();
        for pairs in batch.chunks(BATCH_PAIRS) {
            losses.clear();
            let mut next = [0];
            let mut target = |t: u64| {
                stream.read(t + 1, &mut next);
                next[0]
            };
            // Where the unit is removed, then each token as it is, once.
            for &(t, unit, act) in pairs {
                let direction = &residual[unit as usize * m..][..m];
                losses.push(row_of(t).iter().zip(direction).map(|(r, u)| r - act * u), target(t));
            }
            let mut clean = vec![];
            for (i, pair) in pairs.iter().enumerate() {
                if i == 0 || pairs[i - 1].0 != pair.0 {
                    losses.push(row_of(pair.0).iter().copied(), target(pair.0));
                }
                clean.push(losses.targets.len() - 1);
            }
            let nll = losses.of(&lm);
            changes.extend(clean.iter().enumerate().map(|(i, &clean)| nll[i] - nll[clean]));
        }
        drop(lm);
        progress.advance(batch.len() as u64);
    }
    Ok(changes)
}

/// Rows of the residual stream and the tokens that follow them; buffers are kept.
#[derive(Default)]
struct Losses {
    rows: Vec<f32>,
    targets: Vec<u32>,
    normed: Vec<f32>,
    stats: Vec<f32>,
    nll: Vec<f32>,
    logits: Vec<f32>,
}

impl Losses {
    fn clear(&mut self) {
        self.rows.clear();
        self.targets.clear();
    }

    fn push(&mut self, row: impl Iterator<Item = f32>, target: u32) {
        self.rows.extend(row);
        self.targets.push(target);
    }

    /// Nats, one for each row that was pushed.
    fn of(&mut self, lm: &Lm) -> &[f32] {
        let n = self.targets.len();
        self.normed.resize(self.rows.len(), 0.0);
        self.stats.resize(2 * n, 0.0);
        self.nll.resize(n, 0.0);
        layer_norm_forward(&self.rows, &lm.weights.ln_f_w, &lm.weights.ln_f_b, &mut self.normed, &mut self.stats);
        cross_entropy_forward(&self.normed, lm.weights.unembedding(), &self.targets, &mut self.nll, &mut self.logits);
        &self.nll
    }
}

#[cfg(test)]
mod tests {
    use super::super::collect::{Firing, Group};
    use super::super::fake;
    use super::*;
    use crate::artifact::{Silent, seed};
    use crate::intervene::ablation::{Windows, loss_change};
    use crate::lm::{Activation, CpuEngine, LmConfig};
    use crate::sae::{Sae, Select, SparseRows};
    use rand::RngExt;

    fn model(n_layers: usize) -> CpuEngine {
        let config = LmConfig { d_vocab: 13, n_ctx: 8, d_model: 6, n_layers, n_heads: 2, d_mlp: 10, activation: Activation::Gelu, tied: true };
        let mut lm = Lm::init(&config, 3);
        // Larger weights than at the start of training, so that effects are not all near 0.
        lm.weights.tensors_mut().into_iter().for_each(|w| w.iter_mut().for_each(|x| *x *= 8.0));
        CpuEngine::new(lm)
    }

    fn sae(d_in: usize) -> Sae {
        let mut rng = seed::rng(0, "test/loss", 0);
        let mut draw = |n: usize| (0..n).map(|_| rng.random_range(-1.0..1.0f32)).collect::<Vec<f32>>();
        let (w_enc, w_dec) = (draw(5 * d_in), draw(5 * d_in));
        Sae {
            d_in,
            d_sae: 5,
            select: Select::Relu,
            w_enc,
            b_enc: vec![0.0; 5],
            w_dec,
            b_dec: vec![0.0; d_in],
            apply_b_dec_to_input: false,
            transcoder: None,
        }
    }

    /// Every firing of every latent in the first six windows, as an example of its own with all others around it.
    fn shown(engine: &mut CpuEngine, stream: &TokenStream, hook: HookPoint, sae: &Sae) -> Vec<Collected> {
        let mut ids = vec![0; 48];
        stream.read(0, &mut ids);
        let mut rows = vec![0.0; 48 * sae.d_in];
        engine.forward_to(&ids, 8, hook, &mut rows);
        let mut acts = SparseRows::default();
        sae.encode(&rows, &mut acts);
        let counted = |t: usize| crate::corpus::counts(ids[t], t % 8, fake::END);
        let act = |u: u32, t: usize| acts.row(t).0.iter().position(|&l| l == u && counted(t)).map(|i| acts.row(t).1[i]);
        let unit = |u: u32| {
            let firing = |t: usize| {
                let around = (t / 8 * 8..t / 8 * 8 + 8).filter_map(|s| Some(((s as i64 - t as i64) as i8, act(u, s)?))).collect();
                Some(Firing { t: t as u64, act: act(u, t)?, around, ..Default::default() })
            };
            let firings = (0..48).filter_map(firing).collect();
            let group = |kind, firings| Group { kind, low: 0.0, high: 9.0, n_firings: 9, share_mass: 1.0, firings };
            Collected { groups: vec![group(GroupKind::Random, firings), group(GroupKind::Zero, vec![Firing::default()])], ..Default::default() }
        };
        (0..5).map(unit).collect()
    }

    fn measured(engine: &mut CpuEngine, stream: &TokenStream, hook: HookPoint, sae: &Sae) -> (Vec<Collected>, LossEffects) {
        let mut units = shown(engine, stream, hook, sae);
        let done = measure(engine, stream, hook, &sae.w_dec, &mut units.iter_mut().collect::<Vec<_>>(), &mut Silent).unwrap();
        (units, done)
    }

    #[test]
    fn effects_equal_running_the_model_with_the_latent_ablated_at_every_exact_hook() {
        let dir = tempfile::tempdir().unwrap();
        let stream = fake::stream(dir.path());
        for (n_layers, hook) in
            [(1, "blocks.0.mlp.hook_post"), (1, "blocks.0.hook_mlp_out"), (1, "blocks.0.hook_resid_post"), (2, "blocks.1.mlp.hook_post")]
        {
            let hook: HookPoint = hook.parse().unwrap();
            let mut engine = model(n_layers);
            let sae = sae(hook.d_in(engine.config()));
            let (units, done) = measured(&mut engine, &stream, hook, &sae);
            assert_eq!(done, LossEffects::Exact);
            let (mut ids, mut targets) = (vec![0; 48], vec![0; 48]);
            stream.read(0, &mut ids);
            stream.read(1, &mut targets);
            let mut n = 0;
            for (latent, unit) in units.iter().enumerate() {
                let windows = Windows { ids: &ids, targets: &targets, window: 8, end_of_text: fake::END };
                let want = loss_change(&mut engine, &sae, hook, latent as u32, windows).unwrap();
                for firing in &unit.groups[0].firings {
                    assert_eq!(firing.loss.len(), firing.around.len().min(PER_EXAMPLE));
                    for &(distance, change) in &firing.loss {
                        let want = want[at(firing.t, distance) as usize];
                        // Differences of losses of about 3 nats in f32.
                        assert!((change - want).abs() < 1e-5, "{hook}: {change} for {want}");
                        n += (want.abs() > 1e-3) as usize;
                    }
                }
                assert!(unit.groups[1].firings[0].loss.is_empty(), "nothing is removed where it is silent");
            }
            assert!(n > 50, "{n} effects that are not 0 at {hook}");
        }
    }

    #[test]
    fn effects_that_are_not_exact_are_not_measured_and_the_reason_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let stream = fake::stream(dir.path());
        for (n_layers, hook) in [(2, "blocks.0.mlp.hook_post"), (1, "blocks.0.hook_resid_mid")] {
            let hook: HookPoint = hook.parse().unwrap();
            let mut engine = model(n_layers);
            let sae = sae(hook.d_in(engine.config()));
            let (units, done) = measured(&mut engine, &stream, hook, &sae);
            assert!(matches!(done, LossEffects::NotExact { why } if why.contains(&hook.to_string())));
            assert!(units.iter().flat_map(|u| &u.groups).flat_map(|g| &g.firings).all(|f| f.loss.is_empty()));
        }
    }

    #[test]
    fn effects_are_bitwise_repeatable_at_any_thread_count() {
        let dir = tempfile::tempdir().unwrap();
        let stream = fake::stream(dir.path());
        let hook = HookPoint::mlp_post(0);
        let run = |threads| {
            let mut engine = model(1);
            let sae = sae(10);
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| measured(&mut engine, &stream, hook, &sae).0)
        };
        assert!(run(1) == run(2) && run(1) == run(3));
    }
}
