//! Claims about edits, tested by intervening.

use super::testing::{model, perfect, random, sae};
use super::write::Rig;
use super::*;
use crate::artifact::Silent;
use crate::corpus::{EncodedDocument, ShardWriter, Split, TokenStream, Tokenizer};
use crate::lm::{CpuEngine, Edit, Engine, HookPoint, Lm, LmConfig, Moments, Site, StepReport, StepSettings};
use crate::sae::{Sae, Select, SparseRows};
use std::borrow::Cow;
use std::path::Path;

pub(super) const END: u32 = 16;
pub(super) const N_CTX: usize = 9;
pub(super) const D_IN: usize = 10;

pub(super) fn hook() -> HookPoint {
    HookPoint::mlp_post(0)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn act(sae: &Sae, x: &[f32], latent: u32) -> f32 {
    let mut acts = SparseRows::default();
    sae.encode(x, &mut acts);
    let (latents, acts) = acts.row(0);
    latents.iter().position(|&l| l == latent).map_or(0.0, |i| acts[i])
}

/// The edited copy of rows that belong to `ids`.
fn edited(sae: &Sae, steering: &Steering, prompt_len: usize, ids: &[u32], rows: &[f32]) -> Vec<f32> {
    let mut out = rows.to_vec();
    Editor::new(sae, steering, prompt_len, END).unwrap().apply(0, ids, &mut out);
    out
}

#[test]
fn raising_a_latent_adds_exactly_its_direction_at_the_hook_and_nothing_else() {
    let sae = sae(D_IN, 23, Select::TopK { k: 4 });
    let (ids, rows) = ([3, 5, END, 7, 2], random(5 * D_IN, 50));
    let got = edited(&sae, &Steering::one(8, Rule::Add(2.5)), 5, &ids, &rows);
    for (i, (x, got)) in rows.chunks(D_IN).zip(got.chunks(D_IN)).enumerate() {
        if i == 0 || ids[i] == END {
            assert_eq!(bits(x), bits(got), "position {i} does not count");
            continue;
        }
        for ((x, got), w) in x.iter().zip(got).zip(sae.direction(8)) {
            assert_eq!(*got, (*x as f64 + 2.5 * *w as f64) as f32);
        }
    }
}

#[test]
fn clamping_moves_x_by_target_minus_activation_along_the_direction() {
    let sae = sae(D_IN, 23, Select::Relu);
    let (ids, rows) = ([1, 2, 3, 4], random(4 * D_IN, 51));
    for rule in [Rule::Set(3.0), Rule::Set(-1.0), Rule::Scale(2.5), Rule::Zero] {
        let got = edited(&sae, &Steering::one(11, rule), 4, &ids, &rows);
        for (x, got) in rows.chunks(D_IN).zip(got.chunks(D_IN)).skip(1) {
            let a = act(&sae, x, 11);
            for ((x, got), w) in x.iter().zip(got).zip(sae.direction(11)) {
                assert!((got - (x + (rule.target(a) - a) * w)).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn zero_with_the_error_kept_equals_decoding_without_the_latent_plus_the_error() {
    let sae = sae(D_IN, 23, Select::TopK { k: 6 });
    let x = random(D_IN, 52);
    let mut acts = SparseRows::default();
    sae.encode(&x, &mut acts);
    let latent = acts.latent[2];
    let (mut with, mut without) = (vec![0.0; D_IN], vec![0.0; D_IN]);
    sae.decode(&acts, &mut with);
    acts.act[2] = 0.0;
    sae.decode(&acts, &mut without);
    let rows = [vec![0.0; D_IN], x.clone()].concat();
    let got = edited(&sae, &Steering::one(latent, Rule::Zero), 2, &[1, 2], &rows);
    for j in 0..D_IN {
        let expected = without[j] + (x[j] - with[j]);
        assert!((got[D_IN + j] - expected).abs() < 1e-5, "{} and {expected}", got[D_IN + j]);
    }
    assert_ne!(got, rows);
}

#[test]
fn an_edit_to_the_present_activation_changes_no_bit() {
    // So many that products of one row and of two are summed in different orders.
    let f = 300;
    let refined = Select::Refined { threshold: vec![0.3; f], step: 0.25, first: vec![0.2; f] };
    for select in [Select::Relu, Select::TopK { k: 4 }, Select::Pursuit { k: 4, least: 0.0 }, refined] {
        let sae = sae(D_IN, f, select.clone());
        let rows = [random(D_IN, 53), random(D_IN, 54)].concat();
        for latent in (0..f as u32).step_by(13) {
            let a = act(&sae, &rows[D_IN..], latent);
            for rule in [Rule::Set(a), Rule::Add(0.0), Rule::Scale(1.0), Rule::AtLeast(a), Rule::AtMost(a), Rule::Project(1.0)] {
                assert_eq!(bits(&edited(&sae, &Steering::one(latent, rule), 2, &[1, 2], &rows)), bits(&rows), "{select:?} {latent} {rule:?}");
            }
        }
        assert_eq!(bits(&edited(&sae, &Steering::default(), 2, &[1, 2], &rows)), bits(&rows));
    }
}

#[test]
fn latents_that_decide_alone_are_read_alone_and_agree_with_the_encoder() {
    let selects = [Select::Relu, Select::JumpRelu { threshold: vec![0.3; 23] }, Select::Gated { b_mag: random(23, 60), r_mag: random(23, 61) }];
    let x = random(D_IN, 62);
    for select in selects {
        let sae = sae(D_IN, 23, select);
        let all: Vec<u32> = (0..23).collect();
        let mut alone = Vec::new();
        sae.acts_alone(&all, &x, &mut alone);
        for (latent, &alone) in alone.iter().enumerate() {
            let with_others = act(&sae, &x, latent as u32);
            assert_eq!(alone, with_others, "{latent}");
            // Clamping to what the latent is changes no bit.
            let rows = [vec![0.0; D_IN], x.clone()].concat();
            let steering = Steering::one(latent as u32, Rule::Set(alone));
            assert_eq!(bits(&edited(&sae, &steering, 2, &[1, 2], &rows)), bits(&rows));
        }
    }
    assert!(!self::sae(D_IN, 23, Select::TopK { k: 3 }).decides_alone());
}

#[test]
fn rows_in_which_no_edited_latent_can_be_active_are_not_encoded_and_edited_alike() {
    let sae = sae(D_IN, 23, Select::TopK { k: 4 });
    let (ids, rows) = ([1; 40], random(40 * D_IN, 70));
    let (mut silent, mut active) = (0, 0);
    for latent in 0..23 {
        let got = edited(&sae, &Steering::one(latent, Rule::Set(1.5)), 40, &ids, &rows);
        for (x, got) in rows.chunks(D_IN).zip(got.chunks(D_IN)).skip(1) {
            let a = act(&sae, x, latent);
            let surely = sae.surely_silent(&[latent], x);
            assert!(!surely || a == 0.0);
            silent += u32::from(surely);
            active += u32::from(a > 0.0);
            for ((x, got), w) in x.iter().zip(got).zip(sae.direction(latent)) {
                assert_eq!(*got, (f64::from(*x) + f64::from(1.5 - a) * f64::from(*w)) as f32);
            }
        }
    }
    assert!(silent > 200 && active > 100, "{silent} silent, {active} active");
    assert!(!self::sae(D_IN, 23, Select::Relu).surely_silent(&[0], &rows[..D_IN]), "it says nothing of an SAE that does not need it");
}

#[test]
fn bounds_hold_an_activation_on_one_side_and_touch_nothing_on_the_other() {
    let sae = sae(D_IN, 23, Select::Relu);
    let rows = [vec![0.0; D_IN], random(D_IN, 63)].concat();
    let mut own = Vec::new();
    sae.acts_alone(&(0..23).collect::<Vec<_>>(), &rows[D_IN..], &mut own);
    let latent = own.iter().position(|&a| a > 0.2).unwrap() as u32;
    let a = own[latent as usize];
    let with = |rule| edited(&sae, &Steering::one(latent, rule), 2, &[1, 2], &rows);
    assert_eq!(bits(&with(Rule::AtLeast(a - 0.1))), bits(&rows));
    assert_eq!(bits(&with(Rule::AtMost(a + 0.1))), bits(&rows));
    assert_eq!(bits(&with(Rule::AtLeast(a + 0.1))), bits(&with(Rule::Set(a + 0.1))));
    assert_eq!(bits(&with(Rule::AtMost(a - 0.1))), bits(&with(Rule::Set(a - 0.1))));
}

#[test]
fn an_edit_of_active_latents_alone_leaves_silent_ones_silent() {
    let sae = sae(D_IN, 23, Select::TopK { k: 4 });
    let rows = [vec![0.0; D_IN], random(D_IN, 64)].concat();
    let active = |latent| act(&sae, &rows[D_IN..], latent) > 0.0;
    for rule in [Rule::Set(2.0), Rule::Add(1.0), Rule::Project(0.0)] {
        for latent in 0..23 {
            let edit = LatentEdit { only_active: true, ..LatentEdit::new(latent, rule) };
            let got = edited(&sae, &Steering::of(vec![edit]), 2, &[1, 2], &rows);
            assert_eq!(bits(&got) != bits(&rows), active(latent), "{latent}, {rule:?}");
        }
    }
}

#[test]
fn projection_rules_change_the_part_along_the_direction_and_nothing_across_it() {
    let mut sae = sae(D_IN, 23, Select::Relu);
    sae.w_dec[4 * D_IN..5 * D_IN].iter_mut().for_each(|w| *w *= 3.0);
    let rows = [vec![0.0; D_IN], random(D_IN, 65)].concat();
    let w: Vec<f32> = sae.direction(4).iter().map(|w| w / 3.0).collect();
    let along = |x: &[f32]| x.iter().zip(&w).map(|(x, w)| x * w).sum::<f32>();
    let q = along(&rows[D_IN..]);
    for (rule, expected) in
        [(Rule::Project(0.0), 0.0), (Rule::Project(-1.0), -q), (Rule::Project(2.5), 2.5 * q), (Rule::Cap(q - 0.5), q - 0.5), (Rule::Cap(q + 0.5), q)]
    {
        let got = edited(&sae, &Steering::one(4, rule), 2, &[1, 2], &rows);
        assert!((along(&got[D_IN..]) - expected).abs() < 1e-5, "{rule:?}");
        let across = |x: &[f32]| x.iter().zip(&w).map(|(x_i, w)| x_i - along(x) * w).collect::<Vec<_>>();
        assert!(across(&got[D_IN..]).iter().zip(across(&rows[D_IN..])).all(|(a, b)| (a - b).abs() < 1e-5), "{rule:?}");
    }
    assert_eq!(bits(&edited(&sae, &Steering::one(4, Rule::Project(1.0)), 2, &[1, 2], &rows)), bits(&rows));
}

#[test]
fn without_its_error_a_row_is_the_decoded_edited_activations() {
    let sae = sae(D_IN, 23, Select::TopK { k: 6 });
    let rows = [vec![0.0; D_IN], random(D_IN, 66)].concat();
    let mut acts = SparseRows::default();
    sae.encode(&rows[D_IN..], &mut acts);
    let latent = acts.latent[1];
    let steering = Steering { keep_error: false, ..Steering::one(latent, Rule::Set(2.0)) };
    let got = edited(&sae, &steering, 2, &[1, 2], &rows);
    acts.act[1] = 2.0;
    let mut expected = vec![0.0; D_IN];
    sae.decode(&acts, &mut expected);
    assert!(got[D_IN..].iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
    assert_eq!(bits(&got[..D_IN]), bits(&rows[..D_IN]), "the first position does not count");
}

#[test]
fn a_push_adds_its_direction_at_every_position_that_counts() {
    let sae = sae(D_IN, 23, Select::Relu);
    let (direction, rows) = (random(D_IN, 67), random(3 * D_IN, 68));
    let got = edited(&sae, &Steering::push(&direction, 0.5), 3, &[1, 2, END], &rows);
    let expected: Vec<f32> = rows[D_IN..2 * D_IN].iter().zip(&direction).map(|(x, w)| (f64::from(*x) + 0.5 * f64::from(*w)) as f32).collect();
    assert_eq!(bits(&got), bits(&[&rows[..D_IN], &expected, &rows[2 * D_IN..]].concat()));
}

#[test]
fn the_order_of_several_edits_does_not_matter() {
    let sae = sae(D_IN, 23, Select::Relu);
    let (ids, rows) = ([1, 2, 3], random(3 * D_IN, 55));
    let rules = [
        (9, Rule::Set(1.3)),
        (2, Rule::Zero),
        (17, Rule::Add(0.7)),
        (5, Rule::Scale(3.0)),
        (11, Rule::AtLeast(2.0)),
        (14, Rule::AtMost(0.1)),
        (3, Rule::Project(-1.0)),
        (20, Rule::Cap(-0.2)),
    ];
    let mut edits = rules.map(|(latent, rule)| LatentEdit::new(latent, rule)).to_vec();
    edits.extend([6, 7, 8].map(|latent| LatentEdit { only_active: true, ..LatentEdit::new(latent, Rule::Set(2.5)) }));
    let one = edited(&sae, &Steering::of(edits.clone()), 3, &ids, &rows);
    let mut sum = rows.clone();
    for edit in &edits {
        let alone = edited(&sae, &Steering::of(vec![*edit]), 3, &ids, &rows);
        sum.iter_mut().zip(alone.iter().zip(&rows)).for_each(|(s, (a, x))| *s += a - x);
    }
    // Activations and coordinates are read before anything is changed, so the changes add up.
    assert!(sum.iter().zip(&one).all(|(a, b)| (a - b).abs() < 1e-5));
    let without_error = |edits: &[LatentEdit]| Steering { keep_error: false, ..Steering::of(edits.to_vec()) };
    let decoded: Vec<LatentEdit> = edits.iter().filter(|e| !matches!(e.rule, Rule::Project(_) | Rule::Cap(_))).copied().collect();
    let decoded_one = edited(&sae, &without_error(&decoded), 3, &ids, &rows);
    for by in 1..edits.len() {
        let (mut turned, mut decoded_turned) = (edits.clone(), decoded.clone());
        turned.rotate_left(by);
        decoded_turned.rotate_left(by % decoded.len());
        for _ in 0..2 {
            assert_eq!(bits(&one), bits(&edited(&sae, &Steering::of(turned.clone()), 3, &ids, &rows)));
            assert_eq!(bits(&decoded_one), bits(&edited(&sae, &without_error(&decoded_turned), 3, &ids, &rows)));
            turned.reverse();
            decoded_turned.reverse();
        }
    }
}

#[test]
fn positions_out_of_scope_keep_every_bit() {
    let sae = sae(D_IN, 23, Select::Relu);
    let (ids, rows) = ([1, 2, 3, 4, 5, 6], random(6 * D_IN, 56));
    let changed = |scope| -> Vec<usize> {
        let steering = Steering { scope, ..Steering::one(3, Rule::Add(1.0)) };
        let got = edited(&sae, &steering, 4, &ids, &rows);
        (0..6).filter(|&i| bits(&got[i * D_IN..][..D_IN]) != bits(&rows[i * D_IN..][..D_IN])).collect()
    };
    // Position 0 is the first of its window and never edited.
    assert_eq!(changed(Scope::All), [1, 2, 3, 4, 5]);
    assert_eq!(changed(Scope::Prompt), [1, 2, 3]);
    assert_eq!(changed(Scope::Generated), [3, 4, 5], "the last position of the prompt writes the first new token");
    assert_eq!(changed(Scope::From(5)), [5]);
    assert_eq!(changed(Scope::Continuation), [4, 5]);
}

#[test]
fn positions_of_tokens_after_which_an_edit_rests_keep_every_bit() {
    let sae = sae(D_IN, 23, Select::Relu);
    let (ids, rows) = ([1, 9, 3, 4, 9, 6], random(6 * D_IN, 57));
    let steering = Steering { rest_after: vec![9, 3], ..Steering::one(3, Rule::Add(1.0)) };
    let got = edited(&sae, &steering, 6, &ids, &rows);
    let changed: Vec<usize> = (0..6).filter(|&i| bits(&got[i * D_IN..][..D_IN]) != bits(&rows[i * D_IN..][..D_IN])).collect();
    assert_eq!(changed, [3, 5]);
}

#[test]
fn edits_that_cannot_be_are_refused() {
    let sae = sae(D_IN, 23, Select::Relu);
    let refused = |edits: &[(u32, Rule)]| {
        let edits = edits.iter().map(|&(latent, rule)| LatentEdit::new(latent, rule)).collect();
        Steering::of(edits).check(&sae).unwrap_err().to_string()
    };
    assert!(refused(&[(23, Rule::Zero)]).contains("0 to 22"));
    assert!(refused(&[(4, Rule::Zero), (4, Rule::Set(1.0))]).contains("twice"));
    assert!(refused(&[(4, Rule::Set(f32::NAN))]).contains("finite"));
    let wide = Sae { d_in: 11, ..sae };
    assert!(check_width(&model(1, 17).config, hook(), &wide).unwrap_err().to_string().contains("11"));
}

#[test]
fn edits_are_written_the_same_in_toml_and_json() {
    let steering = Steering { scope: Scope::From(3), ..Steering::of(vec![LatentEdit::new(7, Rule::Set(2.0)), LatentEdit::new(9, Rule::Zero)]) };
    let json = serde_json::to_string(&steering).unwrap();
    assert_eq!(json, r#"{"edits":[{"latent":7,"rule":{"set":2.0}},{"latent":9,"rule":"zero"}],"scope":{"from":3}}"#);
    assert_eq!(serde_json::from_str::<Steering>(&json).unwrap(), steering);
    assert_eq!(toml::from_str::<Steering>(&toml::to_string(&steering).unwrap()).unwrap(), steering);
    let short: Steering = toml::from_str("edits = [{ latent = 1, rule = { add = 0.5 } }]").unwrap();
    assert_eq!(short.scope, Scope::All);
}

/// 60 documents of 4 to 40 tokens of a 17-token vocabulary, a long one in each held-out half.
pub(super) fn stream(dir: &Path) -> TokenStream {
    let mut writer = ShardWriter::create(dir, 17, END, &[], 1000).unwrap();
    for i in 0..60usize {
        let n = if i >= 58 { 600 } else { 4 + (i * 13) % 37 };
        let ids = random(n, 1000 + i as u64).iter().map(|x| ((x + 1.0) * 7.99) as u32).collect();
        let split = [Split::Train, Split::HeldOutA, Split::HeldOutB][i.saturating_sub(57)];
        writer.push(split, EncodedDocument { ids, ..Default::default() }).unwrap();
    }
    writer.finish(crate::artifact::Manifest::new("tokens", 1, serde_json::json!({}), 0)).unwrap();
    TokenStream::open(dir).unwrap()
}

/// A model whose edits reach one position too early.
struct Leaky(CpuEngine);

impl Engine for Leaky {
    fn config(&self) -> &LmConfig {
        self.0.config()
    }
    fn forward_to(&mut self, ids: &[u32], window: usize, hook: HookPoint, rows: &mut [f32]) {
        self.0.forward_to(ids, window, hook, rows);
    }
    fn nll(&mut self, ids: &[u32], targets: &[u32], window: usize, edit: Option<Edit>, nll: &mut [f32]) {
        self.0.nll(ids, targets, window, edit, nll);
    }
    fn logits(&mut self, ids: &[u32], window: usize, positions: &[usize], edit: Option<Edit>, logits: &mut [f32]) {
        let Some(Edit { hook, apply }) = edit else { return self.0.logits(ids, window, positions, None, logits) };
        let mut early = |rows: &mut [f32]| {
            let mut shifted = rows.to_vec();
            apply(&mut shifted);
            let changed: Vec<f32> = shifted.iter().zip(&*rows).map(|(s, x)| s - x).collect();
            rows.iter_mut().zip(&changed[D_IN..]).for_each(|(x, c)| *x += c);
        };
        self.0.logits(ids, window, positions, Some(Edit { hook, apply: &mut early }), logits);
    }
    fn step(&mut self, ids: &[u32], targets: &[u32], window: usize, settings: &StepSettings) -> StepReport {
        self.0.step(ids, targets, window, settings)
    }
    fn lm(&self) -> Cow<'_, Lm> {
        self.0.lm()
    }
    fn moments(&self) -> Cow<'_, Moments> {
        self.0.moments()
    }
    fn write(&mut self, lm: Lm, moments: Moments) {
        self.0.write(lm, moments);
    }
}

#[test]
fn the_checks_pass_at_every_hook_and_catch_an_edit_at_the_wrong_position() {
    let ids: Vec<u32> = (0..2 * N_CTX as u32).map(|i| (i * 5 + 1) % 16).collect();
    for layer in 0..2 {
        for site in Site::ALL {
            splice::check(&mut CpuEngine::new(model(2, 17)), HookPoint { layer, site }, &ids, N_CTX).unwrap();
        }
    }
    let error = splice::check(&mut Leaky(CpuEngine::new(model(1, 17))), hook(), &ids, N_CTX).unwrap_err().to_string();
    assert!(error.contains("position 4") && error.contains("position 3"), "{error}");
}

#[test]
fn nothing_is_measured_at_a_hook_that_fails_its_checks() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path());
    let leaky = || Leaky(CpuEngine::new(model(1, 17)));
    let measured = Baseline::measure(&mut leaky(), &stream, Split::HeldOutB, hook(), 500, &mut Silent);
    let evaluated = evaluate(&mut leaky(), &stream, Split::HeldOutB, hook(), &perfect(D_IN), 500, &mut Silent);
    for error in [measured.unwrap_err(), evaluated.unwrap_err()] {
        let said = error.to_string();
        assert!(matches!(error, Error::Check { hook: at, .. } if at == hook()), "{said}");
        assert!(said.contains("a vector added at position 4 changed a logit at position 3"), "{said}");
    }
}

#[test]
fn removing_a_latent_changes_the_loss_as_the_edited_logits_say_and_only_where_it_is_active() {
    let sae = sae(D_IN, 23, Select::TopK { k: 5 });
    let ids: Vec<u32> = (0..2 * N_CTX as u32).map(|i| (i * i + 3) % 16).collect();
    let targets: Vec<u32> = ids.iter().map(|i| (i + 5) % 16).collect();
    let mut engine = CpuEngine::new(model(1, 17));
    let mut rows = vec![0.0; ids.len() * D_IN];
    engine.forward_to(&ids, N_CTX, hook(), &mut rows);
    let mut acts = SparseRows::default();
    sae.encode(&rows, &mut acts);
    let latent = acts.row(4).0[0];
    let windows = ablation::Windows { ids: &ids, targets: &targets, window: N_CTX, end_of_text: END };
    let changes = ablation::loss_change(&mut engine, &sae, hook(), latent, windows).unwrap();
    for (i, change) in changes.iter().enumerate() {
        let a = act(&sae, &rows[i * D_IN..][..D_IN], latent);
        if a == 0.0 || i % N_CTX == 0 {
            // Nothing was changed there, but the loss is that of another product of another shape: rounding only.
            assert!(change.abs() < 1e-6, "{change} at {i}");
            continue;
        }
        let mut log_prob = |edit: Option<Edit>| {
            let mut z = vec![0.0; 17];
            engine.logits(&ids, N_CTX, &[i], edit, &mut z);
            z[targets[i] as usize] as f64 - z.iter().map(|&x| (x as f64).exp()).sum::<f64>().ln()
        };
        let clean = log_prob(None);
        let mut remove = |rows: &mut [f32]| rows[i * D_IN..][..D_IN].iter_mut().zip(sae.direction(latent)).for_each(|(x, w)| *x -= a * w);
        let without = log_prob(Some(Edit { hook: hook(), apply: &mut remove }));
        assert!((*change as f64 - (clean - without)).abs() < 1e-5, "{change} and {} at {i}", clean - without);
        assert!(change.abs() > 1e-5);
    }
}

#[test]
fn the_exact_effect_equals_running_the_model_again() {
    let ids: Vec<u32> = (0..N_CTX as u32).map(|i| (i * 7 + 2) % 16).collect();
    for (site, d_in) in [(Site::MlpPost, 10), (Site::MlpOut, 6), (Site::ResidPost, 6)] {
        let lm = model(2, 17);
        let (hook, sae) = (HookPoint { layer: 1, site }, sae(d_in, 23, Select::Relu));
        let effect = exact::ExactEffect::new(&lm, hook, &sae, &[3, 8]).unwrap();
        let mut engine = CpuEngine::new(lm.clone());
        let mut resid = vec![0.0; N_CTX * 6];
        engine.forward_to(&ids, N_CTX, HookPoint { layer: 1, site: Site::ResidPost }, &mut resid);
        for changes in [[0.0, 0.0], [2.0, 0.0], [-1.5, 3.0]] {
            let mut again = vec![0.0; 17];
            let mut add = |rows: &mut [f32]| {
                for (latent, change) in [3, 8].into_iter().zip(changes) {
                    rows[5 * d_in..][..d_in].iter_mut().zip(sae.direction(latent)).for_each(|(x, w)| *x += change * w);
                }
            };
            engine.logits(&ids, N_CTX, &[5], Some(Edit { hook, apply: &mut add }), &mut again);
            let got = effect.logits(&resid[5 * 6..][..6], &changes);
            let both = effect.logits(&resid[4 * 6..][..2 * 6], &[[0.5, 0.5], changes].concat());
            assert!(both[17..].iter().zip(&got).all(|(a, b)| (a - b).abs() < 1e-6), "two positions at once");
            let error = got.iter().zip(&again).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error < 1e-5, "{site:?} {changes:?}: off by {error}");
        }
    }
    let early = HookPoint::mlp_post(0);
    assert!(exact::ExactEffect::new(&model(2, 17), early, &sae(10, 23, Select::Relu), &[0]).is_err());
}

#[test]
fn controls_are_of_length_one_and_the_second_lies_where_activations_vary() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path());
    let mut lm = model(1, 17);
    // Coordinates 0 to 2 of the residual stream do not vary at all.
    lm.weights.blocks[0].mlp_proj_w.iter_mut().enumerate().filter(|(i, _)| i % 6 < 3).for_each(|(_, w)| *w = 0.0);
    let hook = HookPoint { layer: 0, site: Site::MlpOut };
    let mut engine = CpuEngine::new(lm);
    let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
    let found = measure::controls(&mut engine, &stream, hook, 3).unwrap();
    assert!((length(&found.random) - 1.0).abs() < 1e-5 && (length(&found.covariance) - 1.0).abs() < 1e-5);
    assert!(found.random.iter().all(|x| (x.abs() - (1.0f32 / 6.0).sqrt()).abs() < 1e-6));
    assert!(found.covariance[..3].iter().all(|x| x.abs() < 1e-5), "{:?}", found.covariance);
    assert_eq!(measure::controls(&mut engine, &stream, hook, 3).unwrap(), found);
    assert_ne!(measure::controls(&mut engine, &stream, hook, 4).unwrap(), found);
}

#[test]
fn the_largest_activation_is_that_of_brute_force() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(dir.path());
    let sae = sae(D_IN, 23, Select::Relu);
    let mut engine = CpuEngine::new(model(1, 17));
    let got = measure::max_activations(&mut engine, &stream, Split::HeldOutA, hook(), &sae, 1 << 40).unwrap();
    let mut expected = vec![0.0f32; 23];
    for w in stream.windows(Split::HeldOutA, N_CTX) {
        let mut ids = [0; N_CTX];
        stream.read(w * N_CTX as u64, &mut ids);
        let mut rows = vec![0.0; N_CTX * D_IN];
        engine.forward_to(&ids, N_CTX, hook(), &mut rows);
        for p in (1..N_CTX).filter(|&p| ids[p] != END) {
            (0..23u32).for_each(|l| expected[l as usize] = expected[l as usize].max(act(&sae, &rows[p * D_IN..][..D_IN], l)));
        }
    }
    assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6) && got.iter().any(|&a| a > 0.0));
}

#[test]
fn an_edit_far_beyond_the_maximum_is_warned_of_with_its_length_beside_that_of_what_is_there() {
    let (lm, sae) = (model(1, 17), sae(D_IN, 7, Select::Relu));
    let tokenizer = Tokenizer::train(["a b c d"].into_iter(), 300).unwrap();
    let rig = Rig { lm: &lm, tokenizer: &tokenizer, sae: &sae, hook: hook() };
    let said = |rule| strength::caution(rig, &LatentEdit::new(2, rule), 0.5, &[16, 3, 4]);
    for usual in [Rule::Set(4.0), Rule::Add(-4.0), Rule::Scale(8.0), Rule::Zero] {
        assert_eq!(said(usual), None, "{usual:?}");
    }
    assert_eq!(strength::caution(rig, &LatentEdit::new(2, Rule::Set(4.0)), 0.0, &[16]), None, "it never fired: there is no multiple");
    // The mean length over the two tokens after the first, which is <|endoftext|>.
    let mut rows = vec![0.0; 3 * D_IN];
    CpuEngine::new(lm.clone()).forward_to(&[16, 3, 4], 3, hook(), &mut rows);
    let own = rows[D_IN..].chunks(D_IN).map(|row| row.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt()).sum::<f64>() / 2.0;
    for unusual in [Rule::Set(-20.0), Rule::Add(20.0), Rule::Scale(40.0)] {
        let said = said(unusual).unwrap();
        assert!(said.starts_with("40 times its maximum is more than the 8") && said.contains("20.0 long"), "{said}");
        assert!(said.contains(&format!("are {own:.1} long on average ({:.1} times", 20.0 / own)), "{said} {own}");
    }
}
