//! Trainings on rows whose mean is far from zero: the units that they are brought into, and the variance that an fvu is told against.

use super::*;
use crate::sae::init::init_params;

/// Rows of [`Synthetic`] with some noise, far from zero: their mean is some five times as long as they are spread about it.
struct FarFromZero(Synthetic);

impl FarFromZero {
    const D: usize = 24;

    fn new() -> Self {
        FarFromZero(Synthetic::new(Self::D, 40, 3, 1 << 40))
    }
}

impl RowSource for FarFromZero {
    fn width(&self) -> usize {
        self.0.width()
    }
    fn next_rows(&mut self, out: &mut [f32]) -> io::Result<usize> {
        let first = self.0.position();
        let n = self.0.next_rows(out)?;
        for (row, position) in out.chunks_exact_mut(Self::D).take(n).zip(first..) {
            let mut rng = seed::rng(5, "test/noise", position);
            row.iter_mut().for_each(|v| *v += 1.75 + rng.random_range(-0.3..0.3f32));
        }
        Ok(n)
    }
    fn position(&self) -> u64 {
        self.0.position()
    }
    fn seek(&mut self, position: u64) -> io::Result<()> {
        self.0.seek(position)
    }
}

/// 400 steps on [`FarFromZero`], with coefficients at which latents are worth their penalty there.
fn far_from_zero(recipe: Recipe) -> TrainConfig {
    let recipe: Recipe = match recipe {
        Recipe::Relu2023(_) => Relu2023 { l1: 0.015 }.into(),
        Recipe::ReluApril2024(_) => ReluApril2024 { l1: 0.2 }.into(),
        Recipe::Tanh(tanh) => Tanh { coefficient: 0.2, ..tanh }.into(),
        kept @ Recipe::PAnneal(_) => kept,
        other => shrunk(other),
    };
    let mut config = TrainConfig::short(SaeConfig::new(FarFromZero::D, 64, recipe), 1024 * 400, 1024, 3);
    (config.lr, config.init_rows, config.snapshots, config.checkpoint_every) = (5e-3, 4000, 0, 400);
    if let Some(resample) = &mut config.resample {
        resample.sample_rows = 2000;
    }
    config
}

#[test]
fn rows_that_come_after_those_of_the_estimate_are_in_the_units_of_the_recipe() {
    let (topk, relu) = (far_from_zero(Recipe::topk(3, false)), far_from_zero(ReluApril2024 { l1: 0.2 }.into()));
    // Those of the recipe, and others that are asked for.
    let other = TrainConfig { units: Some(Units::RootNorm), ..topk.clone() };
    assert_eq!([&topk, &relu, &other].map(TrainConfig::units), [Units::Centred, Units::RootNorm, Units::RootNorm]);
    for config in [topk, relu, other] {
        let (d, units) = (FarFromZero::D, config.units());
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let mut source = FarFromZero::new();
        let training = Training::start(&mut source, &config, &place, "run".into(), &mut Silent).unwrap();
        assert_eq!(source.position(), 0);
        let mut rows = vec![0.0; 8192 * d];
        source.seek(100_000).unwrap();
        assert_eq!(source.next_rows(&mut rows).unwrap(), 8192);
        let ratio = mean_to_spread(&rows, d);
        assert!((4.5..5.5).contains(&ratio), "{ratio}");
        let raw = rows.clone();
        training.scales.apply(&mut rows);
        assert_units(units, &rows, d);
        if units == Units::RootNorm {
            // Lengths differ so little, so far from zero, that the mean of the squares is the square of the mean; and nothing is shifted.
            let square = rows.iter().map(|&v| (v as f64).powi(2)).sum::<f64>() / rows.len() as f64;
            assert!((square - 1.0).abs() < 0.03, "{square}");
            let factor = rows[0] / raw[0];
            assert!(rows.iter().zip(&raw).all(|(scaled, raw)| (scaled - factor * raw).abs() < 1e-5));
        }
    }
}

#[test]
fn first_weights_are_found_on_rows_in_the_units_of_training() {
    let centred = TrainConfig { units: Some(Units::Centred), ..far_from_zero(Relu2023 { l1: 1e-3 }.into()) };
    for config in [centred, far_from_zero(Recipe::named("jump-relu", &[("loss", "tanh".into())]).unwrap())] {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let mut source = FarFromZero::new();
        let training = Training::start(&mut source, &config, &place, "run".into(), &mut Silent).unwrap();
        let mut rows = vec![0.0; config.init_rows * FarFromZero::D];
        source.next_rows(&mut rows).unwrap();
        let raw = init_params(&config.sae, config.seed, &rows);
        training.scales.apply(&mut rows);
        let first = &training.engine.read().params;
        assert!(*first == init_params(&config.sae, config.seed, &rows) && *first != raw, "{:?}", config.sae.recipe);
    }
}

#[test]
fn the_fvu_that_a_training_reports_is_that_of_the_saved_sae_on_the_rows_that_come_next() {
    let configs: Vec<TrainConfig> = Recipe::all().into_iter().map(far_from_zero).collect();
    let dirs: Vec<tempfile::TempDir> = configs.iter().map(|_| tempfile::tempdir().unwrap()).collect();
    let places: Vec<Place> = dirs.iter().map(|dir| place(dir.path())).collect();
    let jobs: Vec<(&TrainConfig, &Place)> = configs.iter().zip(&places).collect();
    let mut source = FarFromZero::new();
    let trained = train_all(&mut source, &jobs, &mut Silent).unwrap();
    assert_eq!(source.position(), 1024 * 400);
    let mut x = vec![0.0; 8192 * FarFromZero::D];
    assert_eq!(source.next_rows(&mut x).unwrap(), 8192);
    for ((config, place), trained) in jobs.into_iter().zip(&trained) {
        let sae = Sae::load(&place.out).unwrap();
        let (mut metrics, mut rows, mut x_hat) = (Metrics::new(&sae), SparseRows::default(), vec![0.0; x.len()]);
        sae.encode(&x, &mut rows);
        sae.decode(&rows, &mut x_hat);
        metrics.add(&x, &x_hat, &rows);
        let (fvu, reported) = (metrics.finish(&sae).fvu, trained.fvu);
        let off = (fvu - reported).abs();
        // The last batch has 1,024 rows: of an FVU of 0.25 some 0.006 is chance. Measured from zero it would be a 27th.
        assert!(off < 0.03 && off < 0.2 * fvu, "{fvu} and {reported}, {:?}", config.sae.recipe);
        // Where the mean is removed first, no penalty keeps the latents from learning.
        assert!(config.units() != Units::Centred || fvu < 0.7, "{fvu}, {:?}", config.sae.recipe);
    }
}
