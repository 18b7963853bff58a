//! SAEs of every architecture through the whole program: listed, trained several at a time, measured, collected.

use crate::program::{call, copied, fails, json, monosem, works};
use std::fs;

#[test]
fn recipes_are_listed_without_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let listed = works(dir.path(), &["sae", "recipes"]);
    assert!(listed.contains("matryoshka\n  BatchTopK whose first latents") && listed.contains("    detached = false"), "{listed}");
    let recipes = json(dir.path(), &["sae", "recipes"]);
    assert!(recipes["recipes"].as_array().unwrap().iter().any(|r| r["name"] == "topk" && r["k"] == 32));
}

#[test]
fn weights_are_the_same_bits_whatever_instructions_the_kernels_are_held_to() {
    let copied = copied();
    let dir = copied.path();
    for (recipe, set) in [("topk", "k=4"), ("batch-topk", "refine=0.3"), ("relu-april-2024", "l1=2")] {
        let weights = ["", "avx2", "baseline"].map(|level| {
            let name = format!("{recipe}-{level}");
            let train =
                ["sae", "train", "--recipe", recipe, "--set", set, "--d-sae", "512", "--rows", "3000", "--batch", "256", "--run", "small", "--name"];
            let mut command = monosem();
            let held = if level.is_empty() { command.env_remove("MONOSEM_SIMD") } else { command.env("MONOSEM_SIMD", level) };
            let output = held.args(train).arg(&name).arg("--dir").arg(dir).output().unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            fs::read(dir.join("small/sae").join(name).join("sae_weights.safetensors")).unwrap()
        });
        assert!(weights[0] == weights[1] && weights[1] == weights[2], "{recipe}");
    }
    let odd = monosem().env("MONOSEM_SIMD", "avx9").args(["sae", "train", "--d-sae", "64", "--run", "small", "--dir"]).arg(dir).output().unwrap();
    assert!(!odd.status.success() && String::from_utf8_lossy(&odd.stderr).contains("avx2 or baseline"));
}

#[test]
fn weights_are_the_same_bits_at_one_thread_and_at_two() {
    let copied = copied();
    let dir = copied.path();
    let across = ["--hook", "blocks.0.ln2.hook_normalized", "--target", "blocks.0.hook_mlp_out", "--skip"];
    for (recipe, more) in [("topk", &[][..]), ("relu-2023", &[]), ("p-anneal", &[]), ("jump-relu", &["--target-l0", "8"]), ("batch-topk", &across)] {
        let weights = ["1", "2"].map(|threads| {
            let name = format!("{recipe}-{threads}");
            let train = ["sae", "train", "--recipe", recipe, "--d-sae", "256", "--rows", "6000", "--batch", "256", "--run", "small", "--name", &name];
            works(dir, &[&train[..], more, &["--threads", threads]].concat());
            fs::read(dir.join("small/sae").join(name).join("sae_weights.safetensors")).unwrap()
        });
        assert!(weights[0] == weights[1], "{recipe}");
    }
}

#[test]
fn a_control_is_not_put_beside_controls_of_its_own() {
    let copied = copied();
    let dir = copied.path();
    works(dir, &["sae", "train", "--d-sae", "64", "--k", "4", "--rows", "3000", "--batch", "256", "--run", "small", "--name", "a"]);
    works(dir, &["sae", "controls", "--name", "a", "--tokens", "3000", "--ce-tokens", "1000", "--run", "small"]);
    for control in ["a-shuffled", "a-frozen", "a-soft-frozen"] {
        let refused = fails(dir, &["sae", "controls", "--name", control, "--run", "small"]);
        assert!(refused.contains(&format!("{control} is a control itself")), "{refused}");
        assert!(!dir.join(format!("small/sae/{control}-frozen")).exists());
    }
}

#[test]
fn dead_latents_are_told_with_the_rows_that_they_were_silent_for() {
    let copied = copied();
    let dir = copied.path();
    let train = ["sae", "train", "--d-sae", "64", "--k", "4", "--rows", "3000", "--batch", "256", "--no-auxk", "--run", "small", "--name"];
    let told = works(dir, &[&train[..], &["a"]].concat());
    assert!(told.contains("dead ") && told.contains(" % in the last 600 rows"), "{told}");
    let told = works(dir, &[&train[..], &["b", "--dead-window", "3000"]].concat());
    assert!(told.contains("too few rows to call a latent dead (window 3,000)"), "{told}");
    let of_tokens = "on 5,000 held-out tokens";
    let told = works(dir, &["sae", "eval", "--name", "a", "--tokens", "5000", "--ce-tokens", "2000", "--run", "small"]);
    assert!(told.contains(of_tokens), "{told}");
    let told = works(dir, &["sae", "info", "--name", "a", "--run", "small"]);
    assert!(told.contains(&format!("% of the latents dead {of_tokens}")), "{told}");
}

#[test]
fn several_values_train_several_saes_on_one_pass_each_as_if_alone() {
    let copied = copied();
    let dir = copied.path();
    let train = ["sae", "train", "--d-sae", "64", "--rows", "3000", "--batch", "256", "--run", "small", "--k", "4,8", "--seed", "1,2", "--name", "s"];
    let done = call(dir, &train);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("training TopK (k 8, AuxK)") && done.stderr.contains("L0 8"), "{}", done.stderr);
    works(
        dir,
        &["sae", "train", "--d-sae", "64", "--rows", "3000", "--batch", "256", "--run", "small", "--k", "8", "--seed", "1", "--name", "alone"],
    );
    let weights = |name: &str| fs::read(dir.join("small/sae").join(name).join("sae_weights.safetensors")).unwrap();
    assert!(weights("alone") == weights("s-k8-s1"));
    let all = ["s-k4-s1", "s-k4-s2", "s-k8-s1", "s-k8-s2"].map(weights);
    assert!((0..4).all(|i| (0..i).all(|j| all[i] != all[j])));

    let compared = json(dir, &["sae", "compare", "s-k8-s1", "small/alone", "s-k8-s2", "--run", "small"]);
    let shared = compared["saes"][1]["consistency"].as_object().unwrap();
    assert!(shared.keys().all(|name| compared["formulas"][name].is_string()), "{} {}", compared["formulas"], compared["saes"][1]);
    let of = |i: usize, figure: &str| compared["saes"][i]["consistency"][figure].as_f64().unwrap();
    assert!(compared["saes"][0]["consistency"].is_null() && (of(1, "pw_mcc") - 1.0).abs() < 1e-5, "{compared}");
    // Another seed: other directions, in part.
    assert!(of(2, "pw_mcc") < 0.999 && of(2, "pw_mcc") > 0.0 && of(2, "n_pairs") == 64.0, "{compared}");
    works(dir, &["sae", "eval", "--name", "alone", "--tokens", "5000", "--ce-tokens", "2000", "--run", "small"]);
    let table = works(dir, &["sae", "compare", "alone", "s-k4-s2", "--run", "small"]);
    assert!(table.contains("relative_reconstruction_bias") && table.contains("pw_mcc") && table.contains("sum_t |x_hat_t|^2"), "{table}");
    let drawn = works(dir, &["sae", "curves", "s-k4-s1", "alone", "--run", "small"]);
    let picture = fs::read_to_string(dir.join("small/sae/s-k4-s1/curves.svg")).unwrap();
    assert!(drawn.contains("curves.svg") && picture.contains("s-k4-s1") && picture.contains("dead latents") && picture.matches("<svg").count() == 5);
    let curves = json(dir, &["sae", "curves", "alone", "--run", "small"]);
    assert!(std::path::Path::new(curves["plot"].as_str().unwrap()).is_file(), "{curves}");
    assert!(curves["saes"][0]["curves"]["fvu"].as_array().unwrap().len() > 3, "{curves}");
    assert!(fails(dir, &["sae", "curves", "nosuch", "--run", "small"]).contains("no log of a training of nosuch"));
    let error = fails(dir, &["sae", "curves", "alone", "--out", "c.png", "--run", "small"]);
    assert!(error.contains("c.png") && error.contains("--out c.svg"), "{error}");
    let error = fails(dir, &["sae", "compare", "alone", "nosuch", "--run", "small"]);
    assert!(error.contains("cannot open the SAE nosuch") && error.contains("s-k4-s1"), "{error}");
    assert!(fails(dir, &["sae", "compare", "alone", "alone", "--run", "small"]).contains("twice"));
}

#[test]
fn saes_that_cannot_be_matched_are_shown_all_the_same_and_nobody_is_told_to_measure_a_snapshot() {
    use monosem::sae::{Origin, Sae, Select};
    let copied = copied();
    let dir = copied.path();
    let narrow = Sae {
        d_in: 2,
        d_sae: 3,
        select: Select::Relu,
        w_enc: vec![1.0; 6],
        b_enc: vec![0.0; 3],
        w_dec: vec![1.0; 6],
        b_dec: vec![0.0; 2],
        apply_b_dec_to_input: false,
        transcoder: None,
    };
    let [model_name, hook_name, dataset] = ["small", "blocks.0.mlp.hook_post", "small"].map(String::from);
    let origin = Origin { model_name, hook_name, hook_name_out: None, context_size: 64, dataset };
    let folder = dir.join("small/sae/narrow");
    fs::create_dir_all(&folder).unwrap();
    narrow.save(&folder, &origin, &[0.5; 8]).unwrap();
    let compared = json(dir, &["sae", "compare", "main", "narrow", "--run", "small"]);
    let second = &compared["saes"][1];
    assert!(second["n_latents"] == 3 && second["consistency"].is_null(), "{second}");
    let said = second["cautions"][0].as_str().unwrap();
    assert!(said.starts_with("the SAEs write ") && said.ends_with("their directions are not of one space"), "{said}");
    let shown = call(dir, &["sae", "compare", "main", "narrow", "main@19", "--run", "small"]);
    assert!(shown.code == Some(0) && shown.stdout.contains("matched_frac"), "{}", shown.stderr);
    assert!(shown.stderr.contains("narrow: the SAEs write ") && shown.stderr.contains("monosem sae eval --name narrow"), "{}", shown.stderr);
    assert!(!shown.stderr.contains("eval --name main@19") && !shown.stderr.contains("eval --name 'main@19'"), "{}", shown.stderr);
}

#[test]
fn an_sae_is_put_beside_its_controls_which_are_trained_once() {
    let copied = copied();
    let dir = copied.path();
    works(dir, &["sae", "train", "--d-sae", "128", "--rows", "20000", "--batch", "256", "--run", "small", "--k", "4", "--name", "s"]);
    let controls = ["sae", "controls", "--name", "s", "--tokens", "5000", "--ce-tokens", "2000", "--run", "small"];
    let found = json(dir, &controls);
    let rows = found["controls"].as_array().unwrap();
    let figures: Vec<&String> =
        rows[0].as_object().unwrap().keys().filter(|key| !["control", "rows", "n_eval_tokens"].contains(&key.as_str())).collect();
    assert!(figures.iter().all(|figure| found["formulas"][figure.as_str()].is_string()), "{found}");
    let of = |control: &str| rows.iter().find(|row| row["control"] == control).unwrap();
    let ev = |control: &str| of(control)["explained_variance"].as_f64().unwrap();
    let order: Vec<&str> = rows.iter().map(|row| row["control"].as_str().unwrap()).collect();
    let neurons = ["largest-neurons", "largest-neurons-zero"];
    assert_eq!(order, [&["trained", "frozen-decoder", "soft-frozen-decoder", "shuffled-model", "random-decoder", "pca"][..], &neurons].concat());
    // Each has less to learn with than the one before it.
    assert!(ev("trained") > ev("frozen-decoder") && ev("frozen-decoder") > ev("random-decoder"), "{found}");
    assert!((of("pca")["l0"].as_f64().unwrap() - 4.0).abs() < 1e-9 && neurons.iter().all(|name| of(name)["l0"] == 4.0), "{found}");
    // sae eval puts the better of the two beside the SAE.
    let eval = json(dir, &["sae", "eval", "--name", "s", "--tokens", "5000", "--ce-tokens", "2000", "--neurons", "4", "--run", "small"]);
    let gaps = neurons.map(|name| of(name)["gap_nats"].as_f64().unwrap());
    let (beside, rest) = (&eval["controls"]["largest_neurons"], if gaps[1] < gaps[0] { "zero" } else { "mean" });
    assert_eq!((beside["gap_nats"].as_f64(), beside["rest"].as_str()), (Some(gaps[0].min(gaps[1])), Some(rest)), "{eval}");
    assert!(of("largest-neurons")["explained_variance"].as_f64().is_some_and(|ev| ev > 0.0 && ev < 1.0), "{found}");
    assert!(of("shuffled-model")["gap_nats"].is_null() && of("trained")["gap_nats"].as_f64().unwrap().is_finite());

    let weights = |name: &str| fs::read(dir.join("small/sae").join(name).join("sae_weights.safetensors")).unwrap();
    let made = |name: &str| fs::metadata(dir.join("small/sae").join(name).join("manifest.json")).unwrap().modified().unwrap();
    let names = ["s-frozen", "s-soft-frozen", "s-shuffled"];
    let before = names.map(|name| (made(name), weights(name)));
    let table = works(dir, &controls);
    assert!(table.contains("decoder frozen as drawn") && table.contains("principal components"), "{table}");
    assert!(before == names.map(|name| (made(name), weights(name))), "the controls were trained again");
    // Of an SAE whose dead latents are resampled, and of one whose latents are sorted: neither is done to a decoder that is held.
    for (name, more) in [
        ("resampled", &["--recipe", "relu-2023"][..]),
        ("sorted", &["--recipe", "matryoshka", "--k", "4", "--set", "prefixes=[16,32]", "--set", "sort_every=5"]),
    ] {
        let train = ["sae", "train", "--d-sae", "128", "--rows", "20000", "--batch", "256", "--run", "small", "--name", name];
        works(dir, &[&train[..], more].concat());
        let found = json(dir, &["sae", "controls", "--name", name, "--tokens", "5000", "--ce-tokens", "2000", "--run", "small"]);
        let ev = |control: &str| {
            let row = found["controls"].as_array().unwrap().iter().find(|row| row["control"] == control).unwrap();
            row["explained_variance"].as_f64().unwrap()
        };
        assert!(ev("soft-frozen-decoder") > ev("frozen-decoder") - 0.02, "{name}: {found}");
    }
    let held = ["sae", "train", "--recipe", "matryoshka", "--set", "sort_every=5", "--decoder", "frozen", "--name", "h", "--run", "small"];
    assert!(fails(dir, &held).contains("cannot be sorted"));
}

#[test]
fn every_architecture_is_trained_measured_and_collected() {
    let copied = copied();
    let dir = copied.path();
    let recipes = json(dir, &["sae", "recipes"]);
    for recipe in recipes["recipes"].as_array().unwrap() {
        let name = recipe["name"].as_str().unwrap();
        let mut train = vec![
            "sae",
            "train",
            "--recipe",
            name,
            "--name",
            name,
            "--d-sae",
            "64",
            "--rows",
            "6000",
            "--batch",
            "256",
            "--snapshots",
            "1",
            "--run",
            "small",
        ];
        if recipe.get("k").is_some() {
            train.extend(["--k", "4"]);
        }
        works(dir, &train);
        let eval = json(dir, &["sae", "eval", "--name", name, "--tokens", "2000", "--ce-tokens", "500", "--run", "small"]);
        assert!(eval["eval"]["l0"].as_f64().unwrap() > 0.0, "{name}: {eval}");
        works(dir, &["features", "build", "--sae", name, "--tokens", "2000", "--run", "small"]);
        let info = works(dir, &["sae", "info", "--name", name, "--run", "small"]);
        assert!(info.contains("self-test replayed: agrees") && info.contains(&format!("recipe {name}:")), "{info}");
    }
}

#[test]
fn a_setting_that_a_recipe_does_not_have_is_refused_with_those_it_has() {
    let dir = crate::program::finished();
    let error = fails(dir, &["sae", "train", "--recipe", "relu-2023", "--k", "5", "--name", "new", "--run", "small"]);
    assert!(error.contains("relu-2023 has no k; it has l1"), "{error}");
    let error = fails(dir, &["sae", "train", "--target-l0", "5", "--name", "new", "--run", "small"]);
    assert!(error.contains("has no penalty to steer; set its k"), "{error}");
    let error = fails(dir, &["sae", "train", "--recipe", "matryoshka", "--set", "prefixes=[9,3]", "--name", "new", "--run", "small"]);
    assert!(error.contains("prefixes are [9, 3]; they must ascend"), "{error}");
}

#[test]
fn a_transcoder_goes_through_the_program_and_what_cannot_use_it_says_so() {
    let copied = copied();
    let dir = copied.path();
    let train = [
        "sae",
        "train",
        "--hook",
        "blocks.0.ln2.hook_normalized",
        "--target",
        "blocks.0.hook_mlp_out",
        "--d-sae",
        "64",
        "--batch",
        "256",
        "--run",
        "small",
    ];
    let trained = |name: &str, more: &[&str]| {
        let done = call(dir, &[&train[..], &["--rows", "20000", "--k", "8", "--name", name], more].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(done.stderr.contains("transcoder") && done.stderr.contains("with blocks.0.hook_mlp_out"), "{}", done.stderr);
        json(dir, &["sae", "eval", "--name", name, "--tokens", "4000", "--ce-tokens", "2000", "--run", "small"])["eval"].clone()
    };
    let (plain, skip) = (trained("mlp", &[]), trained("linear", &["--skip", "--recipe", "batch-topk"]));
    for eval in [&plain, &skip] {
        let figure = |name: &str| eval[name].as_f64().unwrap();
        // Better than nothing, and than the mean of what the MLP says.
        assert!(figure("explained_variance") > 0.0 && figure("l0") > 1.0 && eval["junk_frac"].is_null(), "{eval}");
        assert!(figure("ce_spliced") < figure("ce_zero") && figure("ce_spliced") >= figure("ce_clean") - 0.01, "{eval}");
    }
    assert!(skip["explained_variance"].as_f64() > plain["explained_variance"].as_f64(), "{plain} {skip}");
    // From a cache of both hooks it is the same, bit for bit; without the second one it says which is missing.
    let cached = [&train[..], &["--rows", "20000", "--k", "8", "--name", "from-disk", "--cached"]].concat();
    works(dir, &["harvest", "--hook", "blocks.0.ln2.hook_normalized", "--dtype", "f32", "--run", "small"]);
    let error = fails(dir, &cached);
    assert!(error.contains("there is no finished cache") && error.contains("harvest --hook blocks.0.hook_mlp_out"), "{error}");
    works(dir, &["harvest", "--hook", "blocks.0.hook_mlp_out", "--dtype", "f32", "--run", "small"]);
    works(dir, &cached);
    let said = works(dir, &["info", "small"]);
    assert!(said.contains("cache     blocks.0.hook_mlp_out: ") && said.contains(" rows in f32, ") && !said.contains("stale"), "{said}");
    let caches = json(dir, &["info", "small"])["caches"].clone();
    let hooks: Vec<&str> = caches.as_array().unwrap().iter().map(|cache| cache["hook"].as_str().unwrap()).collect();
    assert_eq!(hooks, ["blocks.0.hook_mlp_out", "blocks.0.ln2.hook_normalized"]);
    let (lm, aside) = (dir.join("small/lm"), dir.join("small/lm.aside"));
    fs::rename(&lm, &aside).unwrap();
    let said = works(dir, &["info", "small"]);
    assert!(said.matches("stale: lm is missing or damaged").count() >= 2 && !said.contains("has changed"), "{said}");
    fs::rename(&aside, &lm).unwrap();
    let weights = |name: &str| fs::read(dir.join("small/sae").join(name).join("sae_weights.safetensors")).unwrap();
    assert!(weights("from-disk") == weights("mlp"), "a transcoder from a cache has other weights than one from the model");
    let info = works(dir, &["sae", "info", "--name", "linear", "--run", "small"]);
    assert!(info.contains("a transcoder: reconstructs the") && info.contains("with a linear path") && info.contains("agrees"), "{info}");

    works(dir, &["features", "build", "--sae", "mlp", "--tokens", "3000", "--run", "small"]);
    let list = json(dir, &["features", "list", "--sae", "mlp", "--without", "dead", "--run", "small"]);
    let id = list["features"][0]["id"].to_string();
    let shown = json(dir, &["features", "show", &id, "--sae", "mlp", "--run", "small"]);
    assert!(shown["feature"]["logits_up"].as_array().or(shown["logits_up"].as_array()).is_some_and(|up| !up.is_empty()), "{shown}");
    let error = fails(dir, &["steer", "run", "--sae", "mlp", "--latent", &id, "--prompt", "The", "--run", "small"]);
    assert!(error.contains("it is a transcoder") && error.contains("name an SAE"), "{error}");
    let error = fails(dir, &["sae", "controls", "--name", "mlp", "--run", "small"]);
    assert!(error.contains("transcoder"), "{error}");
    let error = fails(dir, &[&train[..], &["--rows", "2000", "--recipe", "gated", "--name", "no"]].concat());
    assert!(error.contains("gated has no transcoder"), "{error}");
    let error =
        fails(dir, &["sae", "train", "--hook", "blocks.0.hook_mlp_out", "--target", "blocks.0.mlp.hook_post", "--name", "no", "--run", "small"]);
    assert!(error.contains("is not computed after"), "{error}");
}
