//! The language model against PyTorch: logits, loss and the gradient of every tensor, from a fixture made by `fixtures/lm_pytorch.py`.

use monosem::artifact::TensorFile;
use monosem::lm::{Activation, CpuEngine, Engine, Lm, LmConfig, tensor_specs};
use std::path::PathBuf;

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_loss_and_every_gradient_equal_pytorchs() {
    let file = TensorFile::open(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lm_pytorch.safetensors")).unwrap();
    for (name, activation, tied) in [("gelu", Activation::Gelu, false), ("relu", Activation::Relu, true)] {
        let config = LmConfig { d_vocab: 19, n_ctx: 9, d_model: 12, n_layers: 2, n_heads: 3, d_mlp: 20, activation, tied };
        let key = |part: &str, tensor: &str| {
            let prefix = if tensor == "lm_head.weight" { "" } else { "transformer." };
            format!("{name}/{part}/{prefix}{tensor}")
        };
        let mut lm = Lm::init(&config, 0);
        for (spec, tensor) in tensor_specs(&config).iter().zip(lm.weights.tensors_mut()) {
            *tensor = file.f32(&key("w", &spec.name), &spec.shape).unwrap();
        }
        let tokens = |what: &str| file.f32(&format!("{name}/{what}"), &[27]).unwrap().iter().map(|&x| x as u32).collect::<Vec<u32>>();
        let (ids, targets) = (tokens("ids"), tokens("targets"));
        let mut engine = CpuEngine::new(lm);
        let mut logits = vec![0.0; 27 * 19];
        engine.logits(&ids, 9, &(0..27).collect::<Vec<_>>(), None, &mut logits);
        // Both sides are in f32: a dozen roundings of numbers of about 3.
        assert!(worst(&logits, &file.f32(&format!("{name}/logits"), &[27, 19]).unwrap()) < 1e-5, "{name}");
        let loss = engine.accumulate(&ids, &targets, 9, 1.0 / 27.0, true) / 27.0;
        let want = file.f32(&format!("{name}/loss"), &[1]).unwrap()[0] as f64;
        assert!((loss - want).abs() < 1e-5, "{name}: {loss} and {want}");
        let gradients = engine.gradients();
        for (spec, gradient) in tensor_specs(&config).iter().zip(gradients.tensors()) {
            let want = file.f32(&key("g", &spec.name), &spec.shape).unwrap();
            let largest = want.iter().fold(0.0f32, |m, g| m.max(g.abs()));
            assert!(worst(gradient, &want) < 2e-5 * largest.max(0.1), "{name} {}: {}", spec.name, worst(gradient, &want));
        }
    }
}
