//! The command line: help, results, exit codes, pipes, and the whole path in a temporary folder.

use crate::program::{call, copied, fails, finished, json, monosem, recipe, works};
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

const COMMANDS: [&[&str]; 37] = [
    &[],
    &["quickstart"],
    &["run"],
    &["corpus"],
    &["corpus", "build"],
    &["corpus", "stats"],
    &["lm"],
    &["lm", "train"],
    &["lm", "eval"],
    &["lm", "generate"],
    &["harvest"],
    &["sae"],
    &["sae", "train"],
    &["sae", "eval"],
    &["sae", "info"],
    &["sae", "controls"],
    &["sae", "compare"],
    &["sae", "curves"],
    &["features"],
    &["features", "build"],
    &["features", "list"],
    &["features", "show"],
    &["features", "search"],
    &["features", "find"],
    &["label"],
    &["steer"],
    &["steer", "run"],
    &["steer", "sweep"],
    &["steer", "fit"],
    &["steer", "guard"],
    &["steer", "attribute"],
    &["steer", "export"],
    &["steer", "trial"],
    &["explore"],
    &["synth"],
    &["toy"],
    &["info"],
];

#[test]
fn help_of_every_command_is_as_it_was_read_last() {
    for command in COMMANDS {
        let output = monosem().args(command).arg("--help").output().unwrap();
        assert!(output.status.success(), "{command:?}");
        insta::assert_snapshot!(["help", &command.join("-")].join("-").trim_end_matches('-'), String::from_utf8(output.stdout).unwrap());
    }
}

#[test]
fn errors_name_the_thing_and_the_next_step() {
    let dir = finished();
    let cases: [(&str, &[&str]); 12] = [
        ("no-run", &["info", "--run", "nope"]),
        ("no-run-to-train-on", &["lm", "train", "--run", "nope"]),
        ("no-sae", &["sae", "info", "--name", "other", "--run", "small"]),
        ("no-dictionary", &["features", "list", "--sae", "other", "--run", "small"]),
        ("no-feature", &["features", "show", "99999", "--run", "small"]),
        ("no-latent", &["steer", "run", "--latent", "99999", "--run", "small"]),
        ("no-recipe", &["run", "nowhere.toml", "--run", "small"]),
        ("no-text", &["corpus", "build", "--text", "nowhere/", "--run", "new"]),
        ("bad-regex", &["features", "find", "--regex", "[0-9", "--run", "small"]),
        ("unknown-concept", &["features", "find", "--kind", "sonnet", "--run", "small"]),
        ("small-vocabulary", &["corpus", "build", "--d-vocab", "3", "--run", "new"]),
        ("nothing-to-import", &["label", "import", "nowhere.csv", "--run", "small"]),
    ];
    for (name, args) in cases {
        insta::assert_snapshot!(format!("error-{name}"), fails(dir, args));
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let dir = finished();
    let cases: [&[&str]; 10] = [
        &["info", "small", "--run", "small"],
        &["info", "--device", "cuda"],
        &["lm", "generate", "--top-p", "0"],
        &["lm", "generate", "--top-k", "0"],
        &["lm", "train", "--preset", "huge"],
        &["quickstart", "--preset", "huge"],
        &["features", "find", "--run", "small"],
        &["features", "find", "--regex", "a", "--kind", "b"],
        &["info", "--run", "../small"],
        &["info", "--threads", "0"],
    ];
    for args in cases {
        let done = call(dir, args);
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.stderr);
    }
}

#[test]
fn json_is_one_object() {
    let dir = finished();
    let cases: [&[&str]; 17] = [
        &["lm", "eval", "--logits", "1,2"],
        &["info"],
        &["corpus", "stats"],
        &["lm", "eval", "--eval-windows", "5"],
        &["lm", "generate", "--n-tokens", "5"],
        &["sae", "info"],
        &["features", "list"],
        &["features", "list", "--neurons", "--sort", "density"],
        &["features", "stats"],
        &["features", "compare", "main"],
        &["features", "show", "3"],
        &["features", "search", "the"],
        &["features", "token", "the"],
        &["features", "find", "--regex", "[0-9]", "--n-tokens", "5000"],
        &["label", "list"],
        &["label", "export"],
        &["steer", "run", "--latent", "3", "--zero", "--tokens", "5"],
    ];
    for args in cases {
        json(dir, &[args, &["--run", "small"]].concat());
    }
}

#[test]
fn an_sae_beside_itself_is_matched_whole_and_a_summary_counts_every_unit() {
    let dir = finished();
    let found = json(dir, &["features", "compare", "small/main", "--run", "small"]);
    let matched = found["matched"].as_array().unwrap();
    assert!(matched.len() as u64 == found["n_a"].as_u64().unwrap() && matched.iter().all(|m| m["latent"] == m["other"]), "{found}");
    assert!(found["lost"].as_array().unwrap().is_empty() && found["mean_max_cosine"][0].as_f64().unwrap() > 0.999);
    let table = works(dir, &["features", "compare", "main", "--run", "small"]);
    assert!(table.contains("mean max cosine 1.000") && table.contains("most alike") && table.contains("note: The two are the same SAE"), "{table}");
    let error = fails(dir, &["features", "compare", "other", "--run", "small"]);
    assert!(error.contains("cannot open the SAE other") && error.contains("those that are there: main, main@19, main@9"), "{error}");
    // Beside itself when half of its training was done: another, from the same start.
    let half = json(dir, &["features", "compare", "main@19", "--run", "small"]);
    assert!(half["mean_max_cosine"][0].as_f64().unwrap() < 0.9999 && half["n_b"].as_u64().unwrap() == 512, "{}", half["cautions"]);
    assert!(half["cautions"][0].as_str().unwrap().contains("same number in both"), "{}", half["cautions"]);
    assert!(fails(dir, &["features", "compare", "main@7", "--run", "small"]).contains("no snapshot of step 7"));

    for flags in [&[][..], &["--neurons"]] {
        let stats = json(dir, &[&["features", "stats", "--run", "small"], flags].concat());
        let sum = |list: &serde_json::Value| list.as_array().unwrap().iter().map(|x| x["n"].as_u64().unwrap()).sum::<u64>();
        let n = stats["meta"]["n_units"].as_u64().unwrap();
        assert_eq!((sum(&stats["densities"]), sum(&stats["meta"]["census"])), (n, n), "{stats}");
    }
    // Filters of people and of scores, beside those of the dictionary.
    let n = |flags: &[&str]| json(dir, &[&["features", "list", "--run", "small"], flags].concat())["total"].as_u64().unwrap();
    let (all, labelled) = (n(&[]), n(&["--labelled"]));
    assert_eq!(n(&["--unlabelled"]), all - labelled);
    assert_eq!((n(&["--author", "nobody at all"]), n(&["--list", "none"])), (0, 0));
    let good = json(dir, &["features", "list", "--run", "small", "--min-f1", "0.3", "--limit", "1000"]);
    assert!(
        good["features"].as_array().unwrap().iter().all(|f| f["concept"]["f1"].as_f64().unwrap() >= 0.3) && n(&["--min-f1", "1.1"]) == 0,
        "{good}"
    );
    let densest = json(dir, &["features", "list", "--run", "small", "--sort", "density", "--limit", "1"])["features"][0]["id"].to_string();
    let shown = works(dir, &["features", "show", &densest, "--run", "small"]);
    assert!(shown.contains("density by position") && shown.contains("density over the text"), "{shown}");
    // The commonest token that has the text, by its letters and by its number.
    let by_text = json(dir, &["features", "token", "e", "--limit", "1", "--run", "small"]);
    let token = &by_text["items"][0];
    let by_id = json(dir, &["features", "token", &format!("#{}", token["token"]["id"]), "--run", "small"]);
    assert!(
        token["n"].as_u64().unwrap() > 100 && &by_id["items"][0] == token && !token["features"].as_array().unwrap().is_empty(),
        "{by_text} {by_id}"
    );
    let lines = works(dir, &["features", "token", "e", "--limit", "1", "--run", "small"]);
    assert!(lines.contains("times in") && lines.contains("lift"), "{lines}");
    // A TopK SAE has exactly k active, but where fewer are above 0.
    let stats = works(dir, &["features", "stats", "--run", "small"]);
    assert!(stats.contains("census") && stats.contains("active per token"), "{stats}");
}

#[test]
fn neurons_are_listed_most_polysemantic_first_with_what_they_fire_on() {
    let listed = json(finished(), &["features", "list", "--neurons", "--sort", "polysemantic", "--limit", "5", "--run", "small"]);
    let scores: Vec<f64> = listed["features"].as_array().unwrap().iter().map(|f| f["polysemantic"].as_f64().unwrap()).collect();
    assert!(scores.len() == 5 && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    let cards = listed["cards"].as_array().unwrap();
    let share = |card: &serde_json::Value| card["classes"].as_array().unwrap().iter().map(|c| c["share"].as_f64().unwrap()).sum::<f64>();
    assert!(cards.len() == 5 && cards.iter().all(|card| share(card) > 0.0 && share(card) < 1.0 + 1e-9), "{cards:?}");
    let table = works(finished(), &["features", "list", "--neurons", "--sort", "polysemantic", "--run", "small"]);
    assert!(table.lines().filter(|line| line.contains(" % ")).count() >= 5, "{table}");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for args in [&["features", "list", "--limit", "500"][..], &["corpus", "stats"], &["info"]] {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("monosem"))
            .args(args)
            .args(["--run", "small", "--dir"])
            .arg(finished())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_is_an_error_and_no_panic() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(assert_cmd::cargo::cargo_bin("monosem"))
        .args(["info", "--run", "small", "--dir"])
        .arg(finished())
        .stdout(full)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("No space left") && !stderr.contains("panicked"), "{stderr}");
}

#[test]
fn the_quickstart_goes_the_whole_path_and_the_second_time_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let quickstart = ["quickstart", "--preset", "tiny", "--no-serve", "--run", "t"];
    let report = works(dir, &quickstart);
    assert!(report.contains("report.html"), "{report}");
    let run = dir.join("t");
    let weights = ["lm/model.safetensors", "sae/main/sae_weights.safetensors"].map(|file| fs::read(run.join(file)).unwrap());
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(
        page.contains("</html>") && page.contains("against zeroing blocks.0.mlp.hook_post; ") && page.contains("against the mean; gap "),
        "{page}"
    );
    let report: serde_json::Value = serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap();
    let context = &report["features"][0]["contexts"][0];
    assert!(context["token"].is_string() && context["tokens"].is_null() && report["exam"]["best_of_latent"] == serde_json::json!([]), "{context}");
    assert!(fs::metadata(run.join("report.json")).unwrap().len() < 4_000_000);
    assert!(report["took"].as_array().unwrap().iter().all(|took| took["seconds"].is_number()), "{}", report["took"]);

    let again = json(dir, &quickstart);
    let took = again["took"].as_array().unwrap();
    assert!(took.len() == 7 && took.iter().all(|took| took["seconds"].is_null()), "{took:?}");
    assert!(took.iter().filter(|took| took["made_in"].as_f64().is_some_and(|s| s > 0.0)).count() == 7, "{took:?}");
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("made in ") && !page.contains("made in -") && !page.contains("made in 0 s"));
    // Whole batches of 1,024 rows.
    assert_eq!(again["sae"]["rows"].as_u64().unwrap(), 200_000 / 1024 * 1024);
    assert!(fs::read_to_string(run.join("run.toml")).unwrap().starts_with("program_version = "));
    assert!(fs::read_to_string(run.join("lm/manifest.json")).unwrap().contains("\"lr\": 0.002,"), "the rate as it was written");
    let eval: serde_json::Value = serde_json::from_slice(&fs::read(run.join("sae/main/eval.json")).unwrap()).unwrap();
    assert_eq!(again["evaluated"]["eval"], eval, "bit for bit");
    let count = |name: &str| eval[name].as_u64().unwrap();
    assert!(count("n_kl_tokens") > 0 && count("n_kl_tokens") <= count("n_ce_tokens") && count("n_ce_tokens") < count("n_eval_tokens"));
    assert_eq!(eval["ce_split"], "held_out_b");
    assert_eq!(weights, ["lm/model.safetensors", "sae/main/sae_weights.safetensors"].map(|file| fs::read(run.join(file)).unwrap()));
    for stage in json(dir, &["info", "--run", "t"])["stages"].as_array().unwrap() {
        assert_eq!(stage["state"]["status"], "fresh", "{stage}");
    }
    // What the report says of the SAE is what the SAE's own command says.
    let info = json(dir, &["sae", "info", "--run", "t"]);
    assert!(info["eval"]["explained_variance"].as_f64().unwrap() > 0.5, "{}", info["eval"]);
}

#[test]
fn measurements_are_made_again_when_their_settings_or_files_change_and_not_when_file_times_do() {
    let copied = copied();
    let dir = copied.path();
    let (path, sae) = (recipe(dir), dir.join("small/sae/main"));
    let made = || -> Vec<String> {
        let report = json(dir, &["run", path.to_str().unwrap(), "--run", "small"]);
        let took = report["took"].as_array().unwrap().iter().filter(|took| took["seconds"].is_number());
        took.map(|took| took["stage"].as_str().unwrap().to_string()).collect()
    };
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    fs::File::options().write(true).open(sae.join("manifest.json")).unwrap().set_modified(later).unwrap();
    assert!(made().is_empty());
    for (file, stage) in [("eval.json", "eval"), ("controls.json", "eval"), ("exam.json", "exam")] {
        let text = fs::read_to_string(sae.join(file)).unwrap();
        fs::write(sae.join(file), text + " ").unwrap();
        assert_eq!(made(), [stage], "{file}");
    }
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("tokens = 20000", "tokens = 25000")).unwrap();
    // eval.json has held-out tokens of its own.
    assert_eq!(made(), ["features", "neurons"]);
}

#[test]
fn features_are_shown_searched_and_found() {
    let dir = finished();
    let shown = works(dir, &["features", "show", "3", "--run", "small"]);
    assert!(shown.starts_with("latent 3 at blocks.0.mlp.hook_post"), "{shown}");
    assert!(works(dir, &["features", "show", "3", "--neurons", "--run", "small"]).starts_with("neuron 3"));
    let hits = json(dir, &["features", "search", "the", "--run", "small"]);
    assert!(hits["items"].as_array().unwrap().iter().any(|hit| hit["snippet"].as_str().unwrap().to_lowercase().contains("the")), "{hits}");
    let neurons = works(dir, &["features", "find", "--regex", "[0-9]", "--n-tokens", "20000", "--neurons", "--run", "small"]);
    assert!(neurons.contains("   neuron   F1 A   F1 B"), "{neurons}");
    let done = call(dir, &["features", "find", "--regex", "[0-9]", "--n-tokens", "20000", "--run", "small"]);
    assert!(done.stderr.contains("sae/main-shuffled: monosem quickstart --exam full"), "{}", done.stderr);
    for concept in [["--regex", "[0-9]"], ["--tokens", " the"], ["--label", "colour"]] {
        let found = works(dir, &["features", "find", concept[0], concept[1], "--n-tokens", "20000", "--run", "small"]);
        assert!(found.contains("random directions"), "{concept:?}: {found}");
        let kind = if concept[0] == "--label" { "colour (class): " } else { " positives in A" };
        assert!(found.contains(kind) && (concept[0] != "--label" || !found.contains("AUC")), "{concept:?}: {found}");
    }
}

#[test]
fn a_label_survives_a_rebuild_of_the_dictionary_and_an_export() {
    let copied = copied();
    let dir = copied.path();
    assert_eq!(works(dir, &["label", "list", "--run", "small"]), "no labels\n");
    assert!(!dir.join("small/labels").exists(), "reading labels makes no file");
    works(dir, &["label", "set", "3", "digits, mostly", "--run", "small"]);
    works(dir, &["label", "set", "5", "a mistake", "--run", "small"]);
    let neuron = works(dir, &["label", "set", "5", "of a neuron", "--neurons", "--run", "small"]);
    assert!(neuron.contains("of a neuron"), "{neuron}");
    works(dir, &["label", "undo", "--run", "small"]);
    works(dir, &["features", "build", "--tokens", "10000", "--run", "small"]);
    let listed = works(dir, &["label", "list", "--run", "small"]);
    assert!(listed.contains("digits, mostly") && listed.contains("tester") && !listed.contains("a mistake"), "{listed}");
    let shown = works(dir, &["features", "show", "3", "--run", "small"]);
    assert!(shown.contains("digits, mostly") && shown.lines().take_while(|l| !l.is_empty()).all(|l| l == l.trim_end()), "{shown}");
    let found = works(dir, &["features", "search", "digits", "--run", "small"]);
    assert!(found.contains("      3        -  labelled \"digits, mostly\""), "{found}");
    let file = dir.join("labels.csv");
    works(dir, &["label", "export", file.to_str().unwrap(), "--run", "small"]);
    assert!(works(dir, &["label", "set", "3", "", "--run", "small"]).contains("3 has no label"));
    assert!(!works(dir, &["label", "list", "--run", "small"]).contains("digits"));
    let taken = json(dir, &["label", "import", file.to_str().unwrap(), "--run", "small"]);
    assert!(taken["new"].is_number(), "{taken}");
}

#[test]
fn an_import_of_labels_is_taken_back_by_one_undo() {
    let copied = copied();
    let dir = copied.path();
    works(dir, &["label", "set", "3", "mine", "--run", "small"]);
    let file = dir.join("theirs.csv");
    fs::write(&file, "latent,text\n1,dogs\n2,cats\n3,owls\n").unwrap();
    let done = call(dir, &["label", "import", file.to_str().unwrap(), "--run", "small"]);
    assert!(done.stdout.contains("3 new labels") && done.stderr.contains("monosem label undo --sae main"), "{}{}", done.stdout, done.stderr);
    let undone = works(dir, &["label", "undo", "--run", "small"]);
    assert!(undone.starts_with("took back: an import of 3 labels"), "{undone}");
    let listed = works(dir, &["label", "list", "--run", "small"]);
    assert!(listed.contains("mine") && listed.lines().count() == 1, "{listed}");
}

#[test]
fn info_of_an_sae_that_is_not_there_names_those_that_are() {
    let dir = finished();
    let error = fails(dir, &["info", "--sae", "nosuch", "--run", "small"]);
    assert!(error.contains("has no SAE named nosuch; known are: main") && error.contains("monosem sae train --name nosuch"), "{error}");
    assert_eq!(works(dir, &["info", "--sae", "main", "--run", "small"]), works(dir, &["info", "--run", "small"]));
}

#[test]
fn a_concept_that_is_looked_for_scores_what_the_run_s_exam_says_random_directions_included() {
    let dir = finished();
    let exam: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("small/sae/main/exam.json")).unwrap()).unwrap();
    let exam = exam["concepts"].as_array().unwrap();
    // The commonest, so that there is something to score.
    let known = exam.iter().max_by_key(|c| c["n_pos"][1].as_u64().unwrap()).unwrap();
    let name = known["concept"].as_str().unwrap();
    let found = json(dir, &["features", "find", "--label", name, "--run", "small"]);
    for part in ["random_draws", "token_only", "n_pos"] {
        assert_eq!(found[part], known[part], "{name}: {part}");
    }
    for who in ["latents", "neurons", "random"] {
        let (mut found, mut known) = (found[who]["ranked"][0].clone(), known[who]["ranked"][0].clone());
        // Thresholds are f32, which one of the two spells out as the f64 that it is.
        let threshold = |unit: &mut serde_json::Value| unit["threshold"].take().as_f64().unwrap() as f32;
        assert_eq!(threshold(&mut found), threshold(&mut known), "{name}: {who}");
        assert_eq!(found, known, "{name}: {who}");
    }
    let draws: Vec<f64> = known["random_draws"].as_array().unwrap().iter().map(|f1| f1.as_f64().unwrap()).collect();
    assert!(draws.len() >= 2 && draws.iter().any(|f1| *f1 != draws[0]), "{draws:?}");
    let said = works(dir, &["features", "find", "--label", name, "--run", "small"]);
    let mean = format!("{:.2} \u{b1} ", draws.iter().sum::<f64>() / draws.len() as f64);
    let spread = format!("standard deviation of {} draws", draws.len());
    assert!(said.contains(&mean) && said.contains(&spread), "{mean}: {said}");
}

#[test]
fn a_strength_far_beyond_what_a_latent_ever_reached_is_warned_of() {
    let run = |more: &[&str]| call(finished(), &[&["steer", "run", "--latent", "3", "--tokens", "5", "--run", "small"], more].concat());
    let said = run(&["--strength", "50"]).stderr;
    assert!(said.contains("warning: latent 3: 50 times its maximum is more than the 8") && said.contains("times as long"), "{said}");
    // Whether the text comes apart is another matter, of which it is told by its perplexity.
    let of_its_size = |said: &str| said.contains("times its maximum is more than");
    assert!(of_its_size(&said) && !of_its_size(&run(&["--strength", "8"]).stderr) && !of_its_size(&run(&["--scale", "2"]).stderr));
    assert!(json(finished(), &["steer", "run", "--latent", "3", "--add", "-9", "--tokens", "5", "--run", "small"])["cautions"][0].is_string());
}

#[test]
fn steering_by_nothing_changes_nothing() {
    for rule in [["--add", "0"], ["--scale", "1"]] {
        let both = json(finished(), &["steer", "run", "--latent", "3", rule[0], rule[1], "--tokens", "30", "--run", "small"]);
        assert_eq!(both["unedited"]["tokens"], both["edited"]["tokens"], "{rule:?}");
        assert!(both["first_difference"].is_null() && !both["unedited"]["tokens"].as_array().unwrap().is_empty());
    }
}

#[test]
fn saes_trained_from_a_cache_are_those_that_streaming_gives() {
    let copied = copied();
    let dir = copied.path();
    let train = |name: &str, more: &[&str]| {
        let sizes = ["sae", "train", "--d-sae", "64", "--rows", "3000", "--batch", "256", "--run", "small", "--name", name];
        let done = call(dir, &[&sizes[..], more].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        (fs::read(dir.join("small/sae").join(name).join("sae_weights.safetensors")).unwrap(), done.stderr)
    };
    let harvested = call(dir, &["harvest", "--dtype", "f32", "--run", "small"]);
    assert!(harvested.stderr.contains("in f32, ") && !harvested.stderr.contains("0.00"), "{}", harvested.stderr);
    // The run has an SAE main, of other settings.
    let next = format!("next: monosem sae train --cached --name cached --dir {} --run small", dir.display());
    assert!(harvested.stderr.contains(&next), "{}", harvested.stderr);
    // Several SAEs from one cache; 64 MiB hold all rows, 1 MiB does not.
    let cases = [&["--k", "4"][..], &["--k", "8", "--seed", "3"], &["--recipe", "relu-2023", "--no-resample"], &["--buffer-mib", "1"]];
    let streamed: Vec<Vec<u8>> = (0..).zip(cases).map(|(i, more)| train(&format!("streamed-{i}"), more).0).collect();
    for (i, more) in cases.iter().enumerate() {
        let (cached, story) = train(&format!("cached-{i}"), &[*more, &["--cached"]].concat());
        assert!(streamed[i] == cached, "{more:?}");
        assert!(story.contains("rows are cached in"), "{story}");
    }
    assert!(streamed[0] != streamed[1]);
    works(dir, &["sae", "eval", "--name", "cached-0", "--tokens", "5000", "--ce-tokens", "1000", "--run", "small"]);
    // From rounded rows come other weights: the rows are those of the cache.
    let refused = fails(dir, &["harvest", "--run", "small"]);
    assert!(refused.contains("dtype is f32 there, bf16 here") && refused.contains("--yes"), "{refused}");
    works(dir, &["harvest", "--yes", "--run", "small"]);
    assert!(train("rounded", &["--k", "4", "--cached"]).0 != streamed[0]);
}

#[test]
fn a_cache_that_is_absent_or_of_another_model_is_refused_with_the_command_to_rerun() {
    let copied = copied();
    let dir = copied.path();
    let train = ["sae", "train", "--cached", "--rows", "3000", "--name", "new", "--run", "small"];
    let harvest = "monosem harvest --hook blocks.0.mlp.hook_post --dir DIR --run small";
    let error = fails(dir, &train);
    assert!(error.contains("no finished cache in DIR/small/activations/blocks.0.mlp.hook_post") && error.contains(harvest), "{error}");
    works(dir, &["harvest", "--tokens", "3000", "--run", "small"]);
    let other_hook = fails(dir, &[&train[..], &["--hook", "blocks.0.hook_mlp_out"]].concat());
    assert!(other_hook.contains("monosem harvest --hook blocks.0.hook_mlp_out"), "{other_hook}");
    let lm = dir.join("small/lm/manifest.json");
    let text = fs::read_to_string(&lm).unwrap();
    fs::write(&lm, text.replacen("\"seed\": 0", "\"seed\": 9", 1)).unwrap();
    let error = fails(dir, &train);
    assert!(error.contains("was made from lm") && error.contains(&format!("rerun: {harvest}")), "{error}");
    assert!(!dir.join("small/sae/new").exists());
}

#[test]
fn info_takes_the_name_of_the_run_and_says_what_is_there_in_grouped_numbers() {
    let dir = finished();
    let named = works(dir, &["info", "small", "--device", "cpu"]);
    assert_eq!(named, works(dir, &["info", "--run", "small"]));
    // 39 steps of 512 rows.
    assert!(named.contains(" documents, ") && named.contains("19,968 rows, 39 steps"), "{named}");
    // The id of a token is no figure.
    assert!(!named.contains("end_of_text"), "{named}");
}

#[test]
fn stats_list_the_concepts_whose_labels_are_stored() {
    let report = json(finished(), &["corpus", "stats", "--run", "small"]);
    let concepts = report["concepts"].as_object().unwrap();
    let silent = concepts.values().filter(|n| **n == 0).count();
    // 800 kB of text hold almost every concept of the exam; of the others no label is stored, which is no count of 0.
    assert!((40..200).contains(&concepts.len()) && silent < concepts.len() / 4, "{silent} of {} are 0", concepts.len());
    let others = report["concepts_without_labels"].as_u64().unwrap();
    assert!(others > 1000, "{others}");
    let said = works(finished(), &["corpus", "stats", "--run", "small"]);
    assert!(said.contains("other concepts are not stored"), "{said}");
}

#[test]
fn what_will_be_written_and_how_long_it_takes_is_said_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    // A folder in the way: everything before the first stage is said.
    fs::write(dir.path().join("r"), "in the way").unwrap();
    let said = fails(dir.path(), &["quickstart", "--no-serve", "--run", "r"]);
    for part in ["reads   88.0 MB of the planted corpus", "writes  DIR/r, about 2", " MB; in RAM at most 512 MiB of text", "takes   about "] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn another_seed_of_the_text_makes_everything_after_it_stale() {
    let copied = copied();
    let dir = copied.path();
    works(dir, &["corpus", "build", "--planted-bytes", "800000", "--d-vocab", "512", "--seed", "1", "--yes", "--run", "small"]);
    let info = works(dir, &["info", "--run", "small"]);
    assert!(info.contains("tokens    fresh") && info.contains("lm        stale: tokens has changed since"), "{info}");
    assert!(info.contains(&format!("next: monosem lm train --dir {} --run small", dir.display())), "{info}");
    let error = fails(dir, &["sae", "train", "--rows", "2000", "--run", "small"]);
    assert!(error.contains("DIR/small/lm was made from tokens") && error.contains("rerun: monosem lm train --dir DIR --run small"), "{error}");
}

#[test]
fn a_small_folder_of_ones_own_text_goes_the_whole_path_and_a_new_file_in_it_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let notes = dir.path().join("notes");
    fs::create_dir(&notes).unwrap();
    let words = ["the", "cat", "does", "sit", "on", "a", "mat", "and", "did", "run", "past", "it", "two", "weeks", "nobody"];
    let line = |i: usize| {
        // Documents that differ, or few of them would be held out.
        let pick = |j: usize| words[(i * 1_000 + j).wrapping_mul(2_654_435_761) % 65_536 * words.len() / 65_536];
        let text: Vec<&str> = (0..80 + i % 9).map(pick).collect();
        serde_json::json!({ "body": text.join(" ") }).to_string() + "\n"
    };
    fs::write(notes.join("a.jsonl"), (0..400).map(line).collect::<String>() + "{ this is no JSON\n").unwrap();
    let notes_flag = notes.display().to_string();
    let quickstart = ["quickstart", "--preset", "tiny", "--text", &notes_flag, "--field", "body", "--no-serve", "--run", "n"];
    let error = fails(dir.path(), &[&quickstart[..], &["--on-error", "fail"]].concat());
    assert!(error.contains("a.jsonl, line 401"), "{error}");
    assert!(!dir.path().join("n/lm").exists());
    // The text has fewer tokens to merge than the preset asks for.
    let report = json(dir.path(), &quickstart);
    assert!(report["corpus"]["d_vocab"].as_u64().unwrap() < 512, "{}", report["corpus"]);
    fs::write(notes.join("b.jsonl"), (400..460).map(line).collect::<String>()).unwrap();
    let again = json(dir.path(), &quickstart);
    let made = |stage: usize| again["took"][stage]["seconds"].is_number();
    assert!(made(0) && made(1) && made(2), "{}", again["took"]);
    assert!(again["corpus"]["documents"].as_u64().unwrap() > report["corpus"]["documents"].as_u64().unwrap());
}

#[test]
fn a_failed_build_leaves_no_run_behind() {
    let dir = tempfile::tempdir().unwrap();
    fails(dir.path(), &["corpus", "build", "--text", "nowhere/", "--run", "new"]);
    assert!(!dir.path().join("new").exists());
    // A path that is not there is told of before anything is announced; text in another field only once it was read.
    let error = fails(dir.path(), &["quickstart", "--text", "nowhere/", "--run", "new"]);
    assert!(error.contains("nowhere") && !error.contains("takes"), "{error}");
    fs::write(dir.path().join("a.jsonl"), "{\"body\": \"one\"}\n{\"body\": \"two\"}\n").unwrap();
    let text = dir.path().join("a.jsonl");
    let error = fails(dir.path(), &["quickstart", "--text", text.to_str().unwrap(), "--run", "new"]);
    assert!(error.contains("no document could be read as text") && error.contains("--field"), "{error}");
    assert!(!dir.path().join("new").exists());
}

#[test]
fn info_tells_damage_and_interruption_from_what_is_good() {
    let copied = copied();
    let dir = copied.path();
    let state = |stage: &str| {
        let info = json(dir, &["info", "--run", "small"]);
        let found = info["stages"].as_array().unwrap().iter().find(|s| s["stage"] == stage).unwrap().clone();
        (found["state"]["status"].as_str().unwrap().to_string(), found["made_by"].as_str().unwrap().to_string())
    };
    for (stage, file) in [("lm", "small/lm/model.safetensors"), ("sae", "small/sae/main/sae_weights.safetensors")] {
        assert_eq!(state(stage).0, "fresh");
        let path = dir.join(file);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(state(stage).0, "stale", "{stage}");
        works(dir, &["run", recipe(dir).to_str().unwrap(), "--run", "small"]);
        assert!(fs::read(&path).unwrap() == whole, "{stage} is made anew, the same bytes");
    }
    let checkpoints = dir.join("small/checkpoints/lm");
    fs::create_dir_all(&checkpoints).unwrap();
    fs::write(checkpoints.join("step-000000000007.safetensors"), "x").unwrap();
    let (status, command) = state("lm");
    assert!(status == "interrupted" && command.contains("monosem lm train") && command.contains("--resume"), "{status} {command}");
    let half_read = dir.join("small/checkpoints/features-neurons");
    fs::create_dir_all(&half_read).unwrap();
    fs::write(half_read.join("collector.bin"), "x").unwrap();
    assert_eq!(state("neurons").0, "fresh", "what is whole needs nothing more");
    fs::remove_file(dir.join("small/features/neurons.sqlite")).unwrap();
    let (status, command) = state("neurons");
    assert!(status == "half_read" && command.contains("features build --neurons") && command.ends_with("--resume"), "{status} {command}");
}
