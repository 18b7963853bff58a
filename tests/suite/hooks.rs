//! Rows are those of the hook that was asked for, which no width tells from another's: what an SAE is trained on, tested with and measured at.

use crate::program::{copy, fails, finished, json, works};
use monosem::artifact::{RunDir, TensorFile};
use monosem::corpus::{Split, TokenStream};
use monosem::lm::{CpuEngine, Engine, HookPoint, Lm};
use monosem::sae::SELFTEST_ROWS;
use std::fs;

/// How many of the rows `x` are among `rows`, to a thousandth of their length. Shapes: x (n, d), rows (m, d).
fn n_among(x: &[f32], rows: &[f32], d: usize) -> usize {
    let is_there = |x: &[f32]| {
        let near = 1e-6 * x.iter().map(|x| x * x).sum::<f32>();
        rows.chunks(d).any(|row| row.iter().zip(x).map(|(a, b)| (a - b) * (a - b)).sum::<f32>() < near)
    };
    x.chunks(d).filter(|x| is_there(x)).count()
}

#[test]
fn an_sae_has_the_rows_of_its_own_hook_and_is_refused_at_another_of_the_same_width() {
    let made = tempfile::tempdir().unwrap();
    let dir = made.path();
    copy(&finished().join("small/tokens"), &dir.join("two/tokens"));
    works(dir, &["lm", "train", "--run", "two", "--preset", "tiny", "--n-layers", "2", "--tokens", "20000", "--eval-windows", "8"]);
    let hooks = [("out", "blocks.0.hook_mlp_out"), ("post", "blocks.1.hook_resid_post")];
    for (name, hook) in hooks {
        works(dir, &["sae", "train", "--run", "two", "--name", name, "--hook", hook, "--d-sae", "64", "--rows", "4096", "--batch", "512"]);
    }
    let run = RunDir::new(dir, "two");
    let stream = TokenStream::open(&run.tokens()).unwrap();
    let mut engine = CpuEngine::new(Lm::load(&run.lm()).unwrap());
    let (n_ctx, d) = (engine.config().n_ctx, engine.config().d_model);
    // More windows than 4,096 rows are read from.
    let mut ids = vec![0; 100 * n_ctx];
    stream.read(stream.windows(Split::Train, n_ctx).start * n_ctx as u64, &mut ids);
    let of_model = hooks.map(|(_, hook)| {
        let mut rows = vec![0.0; ids.len() * d];
        engine.forward_to(&ids, n_ctx, hook.parse::<HookPoint>().unwrap(), &mut rows);
        rows
    });
    let of_sae = hooks.map(|(name, _)| TensorFile::open(&run.sae(name).join("selftest.safetensors")).unwrap().f32("x", &[SELFTEST_ROWS, d]).unwrap());
    for (own, other) in [(0, 1), (1, 0)] {
        let found = [&of_model[own], &of_model[other], &of_sae[other]].map(|rows| n_among(&of_sae[own], rows, d));
        assert_eq!(found, [SELFTEST_ROWS, 0, 0], "{}: rows that are the model's there, at the other hook, in the other SAE", hooks[own].1);
    }

    // The width would fit, so only the hash of cfg.json tells that this is not where it was trained.
    let cfg = run.sae("out").join("cfg.json");
    let text = fs::read_to_string(&cfg).unwrap();
    let [(_, out), (_, post)] = hooks;
    assert!(text.contains(&format!("\"hook_name\": \"{out}\"")), "{text}");
    fs::write(&cfg, text.replace(out, post)).unwrap();
    let eval = |name: &'static str| ["sae", "eval", "--name", name, "--tokens", "2000", "--ce-tokens", "1000", "--run", "two"];
    let build = ["features", "build", "--sae", "out", "--tokens", "2000", "--run", "two"];
    let steer = ["steer", "run", "--sae", "out", "--latent", "3", "--zero", "--run", "two"];
    for args in [&eval("out")[..], &build, &steer] {
        let refused = fails(dir, args);
        let said = ["DIR/two/sae/out/cfg.json is damaged: its blake3 is ", ", the manifest has "];
        assert!(said.iter().all(|said| refused.contains(said)), "{args:?}: {refused}");
    }
    assert!(fails(dir, &eval("out")).contains("train it with: monosem sae train --name out --dir DIR --run two"));
    assert!(!run.sae("out").join("eval.json").exists());

    // As it was written it is measured, each at its own hook.
    fs::write(&cfg, text).unwrap();
    let [at_out, at_post] = hooks.map(|(name, _)| json(dir, &eval(name)));
    let ce = |found: &serde_json::Value, name: &str| found["eval"][name].as_f64().unwrap();
    assert_eq!(ce(&at_out, "ce_clean"), ce(&at_post, "ce_clean"), "it is one model");
    for name in ["ce_zero", "ce_mean", "ce_spliced"] {
        assert_ne!(ce(&at_out, name), ce(&at_post, name), "{name}");
    }
    for found in [&at_out, &at_post] {
        let ablated = |name: &str| {
            let (clean, spliced, ablated) = (ce(found, "ce_clean"), ce(found, "ce_spliced"), ce(found, name));
            (ablated > clean).then(|| (ablated - spliced) / (ablated - clean))
        };
        let recovered = ["ce_recovered_zero", "ce_recovered_mean"].map(|name| found["eval"][name].as_f64());
        assert_eq!(recovered, [ablated("ce_zero"), ablated("ce_mean")], "{found}");
    }
}
