//! Faults that other programs shipped, some for a year, and the test that each would fail here. Those that had no test yet are below.
//!
//! | fault | test |
//! |---|---|
//! | a resampler that writes to a temporary, draws by the loss instead of its square, scales an input that is not of unit norm, leaves thresholds or their moments as they were (dictionary_learning) | `new_latents_have_exact_norms_and_no_history_and_the_others_are_untouched`, `a_row_is_drawn_by_the_square_of_its_loss_out_of_as_many_as_were_asked_for` |
//! | one that reads rows in other units than those of training (SAELens #518) | `dead_latents_are_resampled_on_time_come_alive_and_cost_no_rows` |
//! | decoder rows not normalised after the step, before it instead, or along the wrong axis (gelu-1l's code, dictionary_learning #36) | `decoder_rows_keep_unit_norm_over_many_steps_and_the_gradient_is_orthogonal_to_them` |
//! | conventions of L1 and of the error mixed up: mean or sum, over d_in or rows | `gradients_of_every_loss_match_finite_differences`, `the_first_gradient_is_pytorchs_and_the_loss_of_three_hundred_steps_goes_the_same_way`, `schedules_rise_and_fall_where_they_should` |
//! | AuxK with b_dec added, k from the wrong width, residual not detached, coefficient twice (SAELens #644, sparsify #132, dictionary_learning #34) | finite differences of AuxK in every recipe that has it, `each_loss_term_reaches_exactly_the_parameters_that_it_should`, `dead_latents_learn_what_is_left_of_the_target` (transcoders) |
//! | AuxK that is too weak to bring anything back (ours, for a while: 1/32 of the error itself) | here |
//! | one loss logged and another differentiated (crosscode #3), a norm applied twice (dictionary_learning #39) | `gradients_of_every_loss_match_finite_differences` and the test of each architecture |
//! | a threshold applied twice (dictionary_learning #55) | `gradients_are_those_of_the_pseudo_derivatives_sparse_and_dense` |
//! | JumpReLU from weights of the wrong size (dictionary_learning #36) | `the_first_weights_of_every_recipe_are_as_its_init_says`, `latents_of_the_tanh_loss_are_on_to_begin_with_as_often_as_they_are_to_be` |
//! | JumpReLU whose coefficient does nothing, whose thresholds do not move (SAELens #719, #718), a target that nothing is steered to | here; `a_coefficient_in_the_saturated_zone_is_warned_of_and_the_default_is_at_its_edge` |
//! | BatchTopK without its threshold at inference (SAELens #608), or with that of another k | here |
//! | a file of a rule that is not known, or of weights that are not folded, read as if it were (SAELens #608, #645, #632) | `absurd_configurations_are_refused_and_say_what_they_hold`, `a_snapshot_that_has_lost_a_part_of_its_rule_is_refused_and_taken_for_no_other` |
//! | explained variance measured from zero (SAELens #659), a mean of the rows' own (SAEBench #76), mse that depends on the batch (SAELens #711) | `predicting_the_mean_explains_nothing`, `the_figures_of_rows_with_unequal_errors_are_ratios_of_sums`, `figures_do_not_depend_on_how_rows_are_cut_into_batches`, `the_variance_of_a_batch_is_around_its_mean_however_far_that_is` |
//! | scale or bias folded wrongly (SAELens #150 to #467) | `the_folded_sae_gives_the_reconstruction_of_training_in_raw_units`, for every recipe |
//! | the scale estimated from one row, or after what depends on it (SAELens #150 to #467) | `the_units_of_each_recipe_are_as_stated`, `rows_that_come_after_those_of_the_estimate_are_in_the_units_of_the_recipe`, `first_weights_are_found_on_rows_in_the_units_of_training` |
//! | scaled inputs compared with outputs that are not (SAELens #518), other rows trained on than used (OpenAI #19) | `the_fvu_that_a_training_reports_is_that_of_the_saved_sae_on_the_rows_that_come_next` |
//! | recovered loss against zero alone | `a_silent_sae_is_zero_ablation_or_mean_ablation_by_its_bias`, `a_perfect_reconstruction_recovers_everything` |
//! | "alive" without saying over how many tokens | `the_figures_of_two_rows_are_those_worked_out_by_hand`, `dead_latents_are_told_with_the_rows_that_they_were_silent_for` |
//! | an intervention that changes the SAE's error (SAELens #637) | `zero_with_the_error_kept_equals_decoding_without_the_latent_plus_the_error` |
//! | resume that restarts in silence (SAELens #712) | here: it reads on from where it was |
//! | an SAE used at another place, or on another model, than it was trained on (sparsify #74, SAELens #624) | `an_sae_has_the_rows_of_its_own_hook_and_is_refused_at_another_of_the_same_width`, `stale_inputs_are_refused_with_the_command_to_rerun`, `a_cache_of_another_model_or_hook_is_refused_with_the_next_step` |
//! | scores of the benchmark by another formula than is published | `a_dead_a_doubled_and_a_mixed_latent_cost_what_the_formulas_say` |

use super::tests::{Synthetic, Watch, place};
use super::*;
use crate::artifact::Silent;
use crate::sae::{Recipe, SaeConfig, Select, SparseRows};
use serde_json::json;

fn config(recipe: Recipe, rows: u64) -> TrainConfig {
    let mut config = TrainConfig::short(SaeConfig::new(24, 64, recipe), rows, 256, 0);
    (config.lr, config.dead_window_rows, config.init_rows) = (3e-3, 20_000.min(rows / 4), 4000);
    config
}

fn trained(config: &TrainConfig, source: &mut Synthetic) -> TrainedSae {
    let dir = tempfile::tempdir().unwrap();
    train(source, config, &place(dir.path()), &mut Silent).unwrap()
}

/// Mean active latents on the rows that come next, which no training has seen.
fn l0_of_fresh_rows(sae: &crate::sae::Sae, source: &mut Synthetic) -> f64 {
    let (mut x, mut rows) = (vec![0.0; 8192 * sae.d_in], SparseRows::default());
    assert_eq!(source.next_rows(&mut x).unwrap(), 8192);
    sae.encode(&x, &mut rows);
    rows.n_active() as f64 / 8192.0
}

#[test]
fn batch_topk_has_an_l0_within_a_twentieth_of_k_on_rows_it_never_saw() {
    let mut source = Synthetic::new(24, 40, 3, 400_000);
    let trained = trained(&config(Recipe::named("batch-topk", &[("k", json!(3.0))]).unwrap(), 150_000), &mut source);
    let Select::JumpRelu { threshold } = &trained.sae.select else { panic!("saved as {:?}", trained.sae.select) };
    assert!(threshold.iter().all(|&t| t > 0.0));
    let l0 = l0_of_fresh_rows(&trained.sae, &mut source);
    assert!((l0 / 3.0 - 1.0).abs() < 0.05, "L0 {l0}");
    // Also after 30 steps, in which the least activation has changed all the time.
    let mut source = Synthetic::new(24, 40, 3, 400_000);
    let short = self::trained(&config(Recipe::named("batch-topk", &[("k", json!(3.0))]).unwrap(), 256 * 30), &mut source);
    let l0 = l0_of_fresh_rows(&short.sae, &mut source);
    assert!((l0 / 3.0 - 1.0).abs() < 0.1, "L0 {l0} after {} steps", short.steps);
}

#[test]
fn k_that_falls_leaves_the_threshold_of_where_it_ends() {
    for recipe in ["batch-topk", "matryoshka"] {
        for refine in [json!(null), json!(0.3)] {
            for rows in [256 * 195, 256 * 800] {
                let mut source = Synthetic::new(24, 40, 3, 1 << 40);
                let recipe = Recipe::named(recipe, &[("k", json!(3.0)), ("k_start", json!(12.0)), ("refine", refine.clone())]).unwrap();
                let trained = trained(&config(recipe.clone(), rows), &mut source);
                let l0 = l0_of_fresh_rows(&trained.sae, &mut source);
                assert!((l0 / 3.0 - 1.0).abs() < 0.07, "L0 {l0} after {} steps, {recipe:?}", trained.steps);
            }
        }
    }
}

#[test]
fn a_target_is_come_near_to_by_every_recipe_with_a_penalty() {
    let mut recipes: Vec<Recipe> = Recipe::all().into_iter().filter(|recipe| recipe.sparsity(24).is_some()).collect();
    // The published coefficient of 10 is for a squared error over hundreds of numbers and more, not 24.
    recipes.push(Recipe::named("jump-relu", &[("loss", json!("tanh")), ("l0", json!(1.0))]).unwrap());
    for recipe in recipes {
        let mut source = Synthetic::new(24, 40, 3, 1 << 40);
        let mut config = config(recipe.clone(), 256 * 1500);
        (config.target_l0, config.resample) = (Some(4.0), None);
        let trained = trained(&config, &mut source);
        let l0 = l0_of_fresh_rows(&trained.sae, &mut source);
        assert!((l0 / 4.0 - 1.0).abs() < 0.2, "L0 {l0}, {recipe:?}");
    }
}

#[test]
fn jump_relu_comes_to_a_target_above_what_the_error_alone_wants() {
    let l0 = |coefficient: f64, target: Option<f64>| {
        let mut source = Synthetic::new(24, 40, 3, 1 << 40);
        let recipe = Recipe::named("jump-relu", &[("l0", json!(coefficient)), ("threshold", json!(3.0))]).unwrap();
        let config = TrainConfig { target_l0: target, ..config(recipe, 256 * 1500) };
        l0_of_fresh_rows(&trained(&config, &mut source).sae, &mut source)
    };
    // No coefficient above 0 gives more latents than one of next to nothing.
    let alone = l0(1e-9, None);
    let target = 1.5 * alone;
    let steered = l0(1.0, Some(target));
    assert!((steered / target - 1.0).abs() < 0.15, "L0 {steered} for {target}, {alone} without a penalty");
}

#[test]
fn the_coefficient_of_jump_relu_makes_it_sparser_and_its_thresholds_move() {
    let run = |l0: f64| {
        let mut source = Synthetic::new(24, 40, 3, 400_000);
        let trained = trained(&config(Recipe::named("jump-relu", &[("l0", json!(l0))]).unwrap(), 60_000), &mut source);
        let Select::JumpRelu { threshold } = trained.sae.select.clone() else { panic!("saved as {:?}", trained.sae.select) };
        (l0_of_fresh_rows(&trained.sae, &mut source), threshold)
    };
    let (few, many) = (run(0.5), run(0.02));
    assert!(few.0 < 0.8 * many.0, "L0 {} with a large coefficient, {} with a small one", few.0, many.0);
    // All began at one value; what did not move is still at it, in the units of the saved SAE.
    let spread = |t: &[f32]| t.iter().copied().fold(0.0, f32::max) / t.iter().copied().fold(f32::INFINITY, f32::min);
    assert!(spread(&few.1) > 1.05, "{}", spread(&few.1));
}

#[test]
fn a_penalty_that_does_nothing_is_told_and_one_that_does_is_not() {
    for (l0, inert) in [(1e-9, true), (0.1, false)] {
        let mut watch = Watch::default();
        let config = config(Recipe::named("jump-relu", &[("l0", json!(l0))]).unwrap(), 256 * 20);
        train(&mut Synthetic::new(24, 40, 3, 400_000), &config, &place(tempfile::tempdir().unwrap().path()), &mut watch).unwrap();
        assert_eq!(watch.notes.iter().any(|note| note.contains("hardly makes anything sparse")), inert, "{l0}: {:?}", watch.notes);
    }
}

/// Counts the rows that are read.
struct Counted {
    source: Synthetic,
    rows: u64,
}

impl RowSource for Counted {
    fn width(&self) -> usize {
        self.source.width()
    }
    fn next_rows(&mut self, out: &mut [f32]) -> std::io::Result<usize> {
        let n = self.source.next_rows(out)?;
        self.rows += n as u64;
        Ok(n)
    }
    fn position(&self) -> u64 {
        self.source.position()
    }
    fn seek(&mut self, position: u64) -> std::io::Result<()> {
        self.source.seek(position)
    }
}

#[test]
fn a_resumed_training_reads_only_the_rows_that_it_had_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(Recipe::topk(3, true), 256 * 40);
    config.checkpoint_every = 5;
    let run = |dir: &std::path::Path, start, stop_after_rows| {
        let mut source = Counted { source: Synthetic::new(24, 40, 3, 400_000), rows: 0 };
        let mut watch = Watch { stop_after_rows, ..Watch::default() };
        let done = train(&mut source, &config, &Place { start, ..place(dir) }, &mut watch);
        (done.map(|done| done.steps), source.rows)
    };
    let (whole, rows_of_whole) = run(tempfile::tempdir().unwrap().path(), Start::New, None);
    let (stopped, _) = run(dir.path(), Start::New, Some(256 * 15));
    let (resumed, rows_of_rest) = run(dir.path(), Start::Resume, None);
    assert!(stopped.is_err());
    assert_eq!((whole.unwrap(), resumed.unwrap()), (40, 40));
    // The number of steps would also come from a new start.
    assert!(rows_of_rest <= rows_of_whole - 256 * 15, "{rows_of_rest} rows were read after the interruption, {rows_of_whole} without one");
}

#[test]
fn auxk_brings_latents_back_faster_than_they_die() {
    let dead = |auxk: bool| {
        let recipe = Recipe::named("batch-topk", &[("k", json!(4.0)), ("auxk", json!(auxk))]).unwrap();
        let mut config = TrainConfig::short(SaeConfig::new(32, 512, recipe), 600_000, 256, 0);
        (config.lr, config.dead_window_rows, config.init_rows) = (1e-3, 20_000, 4000);
        trained(&config, &mut Synthetic::new(32, 512, 4, 600_000)).dead_frac
    };
    // With a coefficient of 1/32 it is 64 %: more than without AuxK.
    let (without, with) = (dead(false), dead(true));
    assert!(without > 0.3 && with < 0.1, "{without} of the latents are dead without it, {with} with it");
}
