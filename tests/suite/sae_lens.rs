//! SAEs saved here are read by SAELens and give there what they give here. Needs `MONOSEM_PEER_PYTHON`, a Python with sae_lens; says so and is skipped
//! without it.

use monosem::artifact::{Silent, seed};
use monosem::sae::{Origin, Place, Recipe, RowSource, SaeConfig, Target, TrainConfig, train};
use rand::RngExt;
use std::process::Command;

/// Positive rows of this width around a mean.
struct Rows {
    width: usize,
    position: u64,
}

impl RowSource for Rows {
    fn width(&self) -> usize {
        self.width
    }
    fn next_rows(&mut self, out: &mut [f32]) -> std::io::Result<usize> {
        for row in out.chunks_exact_mut(self.width) {
            let mut rng = seed::rng(1, "test/sae_lens", self.position);
            row.iter_mut().for_each(|v| *v = 3.0 + rng.random_range(-2.0..2.0f32));
            self.position += 1;
        }
        Ok(out.len() / self.width)
    }
    fn position(&self) -> u64 {
        self.position
    }
    fn seek(&mut self, position: u64) -> std::io::Result<()> {
        self.position = position;
        Ok(())
    }
}

#[test]
fn sae_lens_reads_every_architecture_that_is_trained_here() {
    let Ok(python) = std::env::var("MONOSEM_PEER_PYTHON") else {
        eprintln!("skipped: MONOSEM_PEER_PYTHON is not set");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let small = |name: &str| {
        let recipe = Recipe::named(name, &[]).unwrap();
        let mut settings: Vec<(&str, serde_json::Value)> = vec![];
        if recipe.settings().iter().any(|(key, _)| key == "k") {
            // A pursuit of many picks comes to latents for the second time.
            settings.push(("k", if name == "matching-pursuit" { 16 } else { 3 }.into()));
        } else if name != "relu-2023" {
            settings.push((recipe.coefficient(), 0.1.into()));
        }
        Recipe::named(name, &settings).unwrap()
    };
    let transcoders = ["batch-topk", "relu-april-2024"].into_iter().flat_map(|name| [(name, Some(false)), (name, Some(true))]);
    let recipes = Recipe::NAMES.iter().map(|&name| (name, None)).chain(transcoders);
    let mut folders = Vec::new();
    for (i, (name, skip)) in recipes.enumerate() {
        let target = skip.map(|skip| Target { d_out: 9, skip });
        let mut config = TrainConfig::short(SaeConfig { target, ..SaeConfig::new(12, 40, small(name)) }, 6400, 64, 0);
        config.resample = None;
        let origin = Origin {
            model_name: "tiny".into(),
            hook_name: "blocks.0.ln2.hook_normalized".into(),
            hook_name_out: target.map(|_| "blocks.0.hook_mlp_out".into()),
            context_size: 64,
            dataset: "planted".into(),
        };
        let out = dir.path().join(i.to_string());
        let place = Place { out: out.clone(), checkpoints: dir.path().join("checkpoints"), origin, ..Place::default() };
        train(&mut Rows { width: config.sae.d_row(), position: 0 }, &config, &place, &mut Silent).unwrap();
        folders.push(out);
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/check_sae_lens.py");
    let output = Command::new(python).arg(script).args(&folders).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("agrees").count(), folders.len());
}
