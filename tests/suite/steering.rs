//! Steering by the whole program: saved edits, sweeps, fitting, profiles, attribution, export; the page and the command line write the same text.

use super::demo;
use super::program::{call, copied, copy, fails, finished, json, works};
use super::served::Served;
use serde_json::Value;
use std::fs;

const RUN: [&str; 2] = ["--run", "small"];

fn said(dir: &std::path::Path, args: &[&str]) -> Value {
    json(dir, &[args, &RUN].concat())
}

/// A latent that fires.
fn latent(dir: &std::path::Path) -> String {
    said(dir, &["features", "list", "--sort", "density"])["features"][0]["id"].to_string()
}

#[test]
fn an_edit_is_saved_and_gives_the_same_text_by_name_by_file_and_as_json() {
    let copied = copied();
    let dir = copied.path();
    let latent = latent(dir);
    let run = |more: &[&str]| said(dir, &[&["steer", "run", "--tokens", "20", "--prompt", "The", "--seed", "5"], more].concat());
    let first = run(&["--latent", &latent, "--strength", "4", "--scope", "generated", "--save", "loud"]);
    let file = dir.join("small/edits/loud.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("rule = \"set\"") && text.contains("weights_hash") && text.contains("scope = \"generated\""), "{text}");
    let json_text = first["edit"].to_string();
    for edit in ["loud", file.to_str().unwrap(), &json_text] {
        let again = run(&["--edit", edit]);
        assert_eq!((&again["edited"], &again["unedited"]), (&first["edited"], &first["unedited"]), "{edit}");
    }
    let refused = fails(dir, &["steer", "run", "--edit", "soft", "--run", "small"]);
    assert!(refused.contains("soft") && refused.contains("loud"), "{refused}");
    fs::write(&file, text.replace("weights_hash = \"", "weights_hash = \"0")).unwrap();
    assert!(fails(dir, &["steer", "run", "--edit", "loud", "--run", "small"]).contains("--sae"));
    fs::write(&file, "edits = [{ latent = 3, rule = \"louder\" }]").unwrap();
    let refused = fails(dir, &["steer", "run", "--edit", "loud", "--run", "small"]);
    assert!(refused.contains("louder") && refused.contains("loud.toml"), "{refused}");
    assert!(fails(dir, &["steer", "run", "--run", "small"]).contains("--latent"));
    // The maximum is written down: without the dictionary the edit is the same.
    let edit = run(&["--latent", &latent, "--strength", "4", "--save", "fixed"]);
    assert!(edit["edit"]["edits"][0]["max_act"].as_f64().unwrap() > 0.0, "{edit}");
    let taken = fails(dir, &["steer", "run", "--latent", &latent, "--strength", "1", "--save", "fixed", "--run", "small"]);
    assert!(taken.contains("--yes"), "{taken}");
    // Several edits hold at once.
    let both = run(&["--edit", "fixed", "--edit", "{\"edits\":[{\"latent\":1,\"rule\":\"zero\"}]}"]);
    assert_eq!(both["edit"]["edits"].as_array().unwrap().len(), 2);
    fs::remove_file(dir.join("small/features/main.sqlite")).unwrap();
    let again = run(&["--edit", "fixed"]);
    assert_eq!((&again["edited"], &again["steering"]), (&edit["edited"], &edit["steering"]));
    for wrong in [&["--unit", "act"][..], &["--pin", "--unit", "act"]] {
        let refused = fails(dir, &[&["steer", "run", "--latent", &latent, "--run", "small"], wrong].concat());
        assert!(refused.contains("--unit"), "{wrong:?}: {refused}");
    }
}

#[test]
fn the_page_and_the_command_line_write_the_same_text() {
    let served = Served::new(demo::make_with_model);
    let edit = "{\"edits\":[{\"latent\":0,\"rule\":\"set\",\"value\":1.5},{\"latent\":1,\"rule\":\"zero\"}],\"scope\":\"all\",\"keep_error\":true}";
    let encoded: String = edit.bytes().map(|b| format!("%{b:02X}")).collect();
    let address = format!("edit={encoded}&prompt=Nobody&tokens=12&temperature=1&seed=3");
    let page = served.json(&format!("/api/steer?{address}"));
    assert_eq!(page["edits"].as_array().unwrap().len(), 2);
    assert!(page["effect"]["tokens"].as_array().unwrap().len() > 3, "{page}");
    let link = page["link"].as_str().unwrap();
    assert_eq!(served.json(&format!("/api{link}"))["edited"], page["edited"], "the link gives it again");
    // The same while it is written: every token, then the result.
    let stream = served.get(&format!("/steer/stream?{address}"));
    assert!(stream.status == 200 && stream.body.contains("event: token") && stream.body.contains("event: done"), "{}", stream.body);
    let pieces: String = stream
        .body
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l.strip_prefix("data: ")?).ok())
        .filter(|v| v["side"] == "edited")
        .map(|v| v["text"].as_str().unwrap().to_string())
        .collect();
    let whole = format!("{}{}", page["same"].as_str().unwrap(), page["edited"].as_str().unwrap());
    // A link of one feature writes down the maximum and the SAE; another SAE's is refused.
    let one = served.json("/api/steer?feature=0&strength=1.5&prompt=Nobody&tokens=12&top_k=5&stop=q");
    let link = one["link"].as_str().unwrap();
    assert!(link.contains("max_act=") && link.contains("weights_hash=") && link.contains("top_k=5") && link.contains("stop=q"), "{link}");
    assert_eq!(served.json(&format!("/api{link}"))["edited"], one["edited"]);
    assert_ne!(served.json(&format!("/api{}", link.replace("max_act=", "max_act=9")))["caption"], one["caption"]);
    assert_eq!(served.get(&format!("/api{}", link.replace("weights_hash=", "weights_hash=0"))).status, 400);
    // The page shows bytes that are no text as such; letters are letters on both.
    let letters = |s: &str| s.split('\u{27e8}').next().unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    assert!(letters(&pieces).starts_with(&letters(&whole)) && letters(&whole).len() > 3, "{pieces:?} and {whole:?}");
    let swept = served.get(&format!("/steer/sweep?{address}&count=%5Ba-z%5D"));
    assert!(swept.status == 200 && swept.body.contains("<svg") && swept.body.contains("/[a-z]/"), "{}", swept.body);
    let next = served.get(&format!("/steer/next?{address}"));
    assert!(next.status == 200 && next.body.contains("The token after the prompt") && next.body.contains("class=\"up\""), "{}", next.body);
    assert_eq!(served.get("/steer/next?edit=%7B&prompt=x").status, 400);
    for (bad, named) in [("edit=%7B", "edit"), ("edit=%7B%22edits%22%3A%5B%5D%7D", "1 to 16"), ("feature=0&count=%5B", "unclosed")] {
        let answer = served.get(&format!("/steer/sweep?{bad}&prompt=x"));
        assert!(answer.status == 400 && answer.body.to_lowercase().contains(named), "{bad}: {} {}", answer.status, answer.body);
    }
}

#[test]
fn the_page_takes_saved_edits_by_name_rests_where_it_is_told_and_says_what_is_not_read() {
    let served = Served::new(|dir| {
        let run = demo::make_with_model(dir);
        fs::create_dir_all(run.edits()).unwrap();
        fs::write(run.edits().join("loud one.toml"), "[[edits]]\nlatent = 1\nrule = \"set\"\nvalue = 1.5\n").unwrap();
        fs::write(run.edits().join("other.txt"), "not an edit").unwrap();
        fs::write(run.edits().join("calm.toml"), "[[edits]]\nlatent = 2\nrule = \"zero\"\n").unwrap();
        fs::write(run.edits().join("late.toml"), "scope = \"generated\"\n[[edits]]\nlatent = 7\nrule = \"zero\"\n").unwrap();
        run
    });
    let form = served.get("/steer");
    assert!(form.body.contains("/steer?edit=loud%20one") && !form.body.contains("?edit=other"), "{}", form.body);
    let filled = served.get("/steer?edit=loud%20one");
    assert!(filled.status == 200 && filled.body.contains("data-said=\"1.5\""), "{}", filled.body);
    let rest = "prompt=Nobody&tokens=12&temperature=1&seed=3";
    let named = served.json(&format!("/api/steer?edit=loud%20one&{rest}"));
    let plain = served.json(&format!("/api/steer?feature=1&strength=1.5&{rest}"));
    assert_eq!((&named["edited"], &named["same"]), (&plain["edited"], &plain["same"]));
    // Two at once, by a link beside the first; those that do not go together say why.
    let both = "loud%20one%20%2B%20calm";
    assert!(filled.body.contains(&format!("/steer?edit={both}\"")), "{}", filled.body);
    let (form, texts) = (served.get(&format!("/steer?edit={both}")), served.json(&format!("/api/steer?edit={both}&{rest}")));
    assert!(
        form.status == 200 && form.body.matches("name=\"feature\"").count() == 2 && !form.body.contains(&format!("{both}%20%2B%20calm")),
        "{}",
        form.body
    );
    assert_eq!(texts["edit"]["edits"].as_array().unwrap().len(), 2);
    let twice = served.get("/steer?edit=calm%20%2B%20calm");
    assert!(twice.status == 400 && twice.body.contains("Feature 2 is in more than one"), "{}", twice.body);
    let apart = served.get("/steer?edit=calm%20%2B%20late");
    assert!(apart.status == 400 && apart.body.contains("scopes"), "{}", apart.body);
    let unknown = served.get(&format!("/api/steer?edit=soft&{rest}"));
    assert_eq!(served.get("/steer?edit=soft").status, 404);
    assert_eq!(served.get("/steer?latent=1").status, 200, "the word of the command line is known");
    let beyond = served.get("/steer?feature=99999");
    assert!(beyond.status == 404 && beyond.body.contains("99999"), "{} {}", beyond.status, beyond.body);
    assert!(unknown.status == 404 && unknown.body.contains("loud one"), "{}", unknown.body);
    for outside in ["..%2Fx", ".hidden", "a%2Fb"] {
        assert_eq!(served.get(&format!("/api/steer?edit={outside}&{rest}")).status, 400, "{outside}");
    }
    let resting = served.json(&format!("/api/steer?feature=1&strength=1.5&rests=true&{rest}"));
    let tokens = resting["edit"]["rest_after"].as_array().unwrap();
    assert!(!tokens.is_empty() && plain["edit"]["rest_after"].is_null(), "{resting}");
    let link = resting["link"].as_str().unwrap();
    assert!(link.contains("rests=true"), "{link}");
    let again = served.json(&format!("/api{link}"));
    assert_eq!((&again["edited"], &again["edit"]), (&resting["edited"], &resting["edit"]));
    let long = served.json(&format!("/api/steer?feature=1&strength=1&prompt={}&tokens=2", "x+".repeat(490)));
    assert!(long["warning"].as_str().unwrap().contains("its beginning is not read"), "{long}");
}

#[test]
fn a_text_is_described_counted_stopped_and_streamed() {
    let dir = finished();
    let latent = latent(dir);
    let found =
        said(dir, &["steer", "run", "--latent", &latent, "--strength", "2", "--tokens", "15", "--texts", "3", "--regex", "[a-z]", "--effects"]);
    let pairs = works(dir, &["steer", "run", "--latent", &latent, "--strength", "2", "--tokens", "5", "--texts", "3", "--run", "small"]);
    for i in 0..3 {
        assert!(pairs.contains(&format!("{i:>4}  unedited  ")), "{pairs}");
    }
    assert_eq!(pairs.matches("\n      edited    ").count(), 3, "{pairs}");
    let n = found["edited"]["tokens"].as_array().unwrap().len();
    assert_eq!(found["effects"]["tokens"].as_array().unwrap().len(), n);
    assert_eq!(found["many"]["edited"]["texts"].as_array().unwrap().len(), 3);
    assert!(found["many"]["unedited"]["measures"]["concept_tokens"].as_u64().unwrap() > 0, "{found}");
    assert_eq!(found["many"]["unedited"]["measures"]["kl"], 0.0);
    let whole = found["unedited"]["text"].as_str().unwrap();
    let stop: String = whole.chars().skip(8).take(3).collect();
    let stopped = said(dir, &["steer", "run", "--latent", &latent, "--strength", "2", "--tokens", "15", "--stop", &stop]);
    assert!(!stopped["unedited"]["text"].as_str().unwrap().contains(&stop), "{stop:?}: {stopped}");
    let streamed = works(dir, &["steer", "run", "--latent", &latent, "--add", "1", "--tokens", "15", "--stream", "--run", "small"]);
    assert!(streamed.contains("unedited: "), "{streamed}");
    let pinned = said(dir, &["steer", "run", "--latent", &latent, "--pin", "--tokens", "5"]);
    assert!(pinned["prompt"].as_str().unwrap().starts_with("1, 2, 3") && pinned["edit"]["edits"][0]["value"] == 1.0);
}

#[test]
fn a_sweep_says_what_each_strength_does_and_saves_the_one_it_takes() {
    let copied = copied();
    let dir = copied.path();
    let latent = latent(dir);
    let plot = dir.join("sweep.svg");
    let found = said(
        dir,
        &[
            "steer",
            "sweep",
            "--latent",
            &latent,
            "--strengths",
            "0.1,1,20",
            "--texts",
            "4",
            "--tokens",
            "12",
            "--save",
            "chosen",
            "--plot",
            plot.to_str().unwrap(),
        ],
    );
    let swept = found["swept"].as_array().unwrap();
    assert!(swept.len() == 3 && swept[2]["measures"]["kl"].as_f64() > swept[0]["measures"]["kl"].as_f64(), "{found}");
    let chosen = found["chosen"].as_f64().unwrap();
    assert!(swept.iter().any(|s| s["strength"].as_f64() == Some(chosen) && s["whole"] == true));
    assert!(fs::read_to_string(plot).unwrap().contains("<svg"));
    let again = said(dir, &["steer", "sweep", "--edit", "chosen", "--strengths", "1", "--texts", "4", "--tokens", "12"]);
    let same = swept.iter().find(|s| s["strength"].as_f64() == Some(chosen)).unwrap();
    assert_eq!(again["swept"][0]["measures"], same["measures"]);
    let silent = "{\"edits\":[{\"latent\":3,\"rule\":\"zero\"}]}";
    assert!(fails(dir, &["steer", "sweep", "--edit", silent, "--run", "small"]).contains("no rule of this edit has a strength"));
    assert!(fails(dir, &["steer", "run", "--latent", &latent, "--top-k", "0", "--run", "small"]).contains("--top-k"));
    assert!(fails(dir, &["steer", "run", "--edit", "{\"edits\":[]}", "--run", "small"]).contains("no latent"));
    let behind = fails(dir, &["steer", "run", "--latent", &latent, "--zero", "--scope", "500", "--tokens", "10", "--run", "small"]);
    assert!(behind.contains("position 500") && behind.contains("--tokens 10"), "{behind}");
    assert!(fails(dir, &["steer", "run", "--latent", &latent, "--temperature", "-1", "--run", "small"]).contains("must be 0 or more"));
    assert!(fails(dir, &["steer", "sweep", "--latent", &latent, "--zero", "--run", "small"]).contains("--strengths"));
}

#[test]
fn an_edit_is_fitted_to_files_and_used_by_its_name() {
    let copied = copied();
    let dir = copied.path();
    let file = |name: &str, word: &str| {
        let path = dir.join(name);
        let lines: String =
            (0..12).map(|i| format!("{{\"text\": \"The {word} of number {i} and the {word} were there, said the {word}.\"}}\n")).collect();
        fs::write(&path, lines).unwrap();
        path.display().to_string()
    };
    let (positive, negative) = (file("positive.jsonl", "harbour"), file("negative.jsonl", "7"));
    let fit = [
        "steer",
        "fit",
        "--positive",
        &positive,
        "--negative",
        &negative,
        "--docs",
        "6",
        "--texts",
        "6",
        "--tokens",
        "10",
        "--features",
        "2",
        "--fine-tune",
        "--save",
        "fitted",
    ];
    let found = said(dir, &fit);
    let names: Vec<&str> = found["ways"].as_array().unwrap().iter().map(|w| w["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["unedited", "edit", "prompt", "fine-tuned"]);
    assert!(found["classifier_accuracy"].as_f64().unwrap() > 0.9 && !found["edit"].as_array().unwrap().is_empty());
    let sample = |side: &str| found["sample"][side].as_str().unwrap().to_string();
    assert!(!sample("unedited").is_empty() && sample("unedited") != sample("edited"), "{}", found["sample"]);
    let used = said(dir, &["steer", "run", "--edit", "fitted", "--tokens", "5"]);
    assert_eq!(used["edit"]["edits"].as_array().unwrap().len(), found["edit"].as_array().unwrap().len());
    let again = said(dir, &["steer", "run", "--edit", "fitted", "--tokens", "10", "--seed", &found["sample"]["seed"].to_string()]);
    assert_eq!(again["unedited"]["text"], found["sample"]["unedited"], "its first text is written again by its seed");
    assert!(fails(dir, &["steer", "fit", "--positive", "nowhere.txt", "--run", "small"]).contains("nowhere.txt"));
    let one = dir.join("one.jsonl");
    fs::write(&one, "{\"text\": \"one line\"}\n").unwrap();
    let refused = fails(dir, &["steer", "fit", "--positive", one.to_str().unwrap(), "--run", "small"]);
    assert!(refused.contains("at least 4"), "{refused}");
    // Six texts prove little, and it is said where --json is read too, and with the edit.
    let cautions = found["cautions"].as_array().unwrap();
    let hits = |way: usize| found["ways"][way]["hit_rate"].as_f64().unwrap() * 6.0;
    assert_eq!(
        hits(1) - hits(0) < 3.0 * (hits(1) + hits(0)).sqrt().max(1.0),
        cautions.iter().any(|c| c.as_str().unwrap().contains("taken for positive")),
        "{found}"
    );
    let saved = fs::read_to_string(dir.join("small/edits/fitted.toml")).unwrap();
    assert!(saved.contains("of 6 texts taken for positive: unedited"), "{saved}");
    // A txt file is cut at blank lines where it gives too few documents otherwise, and no more often.
    let paragraphs = dir.join("paragraphs.txt");
    fs::write(&paragraphs, "The harbour of the town was there.\n\n".repeat(12)).unwrap();
    let cut = |docs: &str| {
        let args =
            ["steer", "fit", "--positive", paragraphs.to_str().unwrap(), "--negative", &negative, "--docs", docs, "--texts", "2", "--tokens", "4"];
        let told = call(dir, &[&args[..], &["--run", "small"]].concat()).stderr;
        assert!(
            told.contains(&format!("{docs} positive and {docs} negative documents to fit on, {} and", 12 - docs.parse::<u64>().unwrap())),
            "{told}"
        );
        told
    };
    assert!(cut("2").contains("gives 1 documents, and a side needs 4: it is cut at blank lines into 12"));
    fs::write(&paragraphs, "The harbour of the town was there.\n\nSo it was.<|endoftext|>".repeat(12)).unwrap();
    assert!(!cut("2").contains("cut at blank lines"));
    // As a vector; the format of llama.cpp has none after the first block, which is all that this model has.
    let out = dir.join("v.safetensors");
    let exported = said(dir, &["steer", "export", "--edit", "fitted", "--out", out.to_str().unwrap()]);
    assert!(exported["length_at_hook"].as_f64().unwrap() > 0.0 && exported["bytes"] == fs::read(&out).unwrap().len());
    assert!(fails(dir, &["steer", "export", "--edit", "fitted", "--out", "v.gguf", "--run", "small"]).contains("block 0"));
    let tensors = fs::read(dir.join("v.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&tensors).unwrap();
    assert_eq!(tensors.names().len(), 2);
    assert!(fails(dir, &["steer", "export", "--latent", "3", "--zero", "--out", "v.safetensors", "--run", "small"]).contains("no vector"));
}

#[test]
fn a_model_of_two_blocks_has_its_edits_exported_as_control_vectors() {
    let made = tempfile::tempdir().unwrap();
    let dir = made.path();
    copy(&finished().join("small/tokens"), &dir.join("two/tokens"));
    works(dir, &["lm", "train", "--run", "two", "--preset", "tiny", "--n-layers", "2", "--tokens", "20000", "--eval-windows", "8"]);
    let sae = ["sae", "train", "--run", "two", "--hook", "blocks.1.mlp.hook_post", "--d-sae", "64", "--rows", "4096", "--batch", "512"];
    works(dir, &sae);
    let export = |ending: &str| {
        let out = dir.join(format!("v.{ending}"));
        let said = json(dir, &["steer", "export", "--latent", "3", "--add", "2", "--out", out.to_str().unwrap(), "--run", "two"]);
        (said, fs::read(out).unwrap())
    };
    let (_, tensors) = export("safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&tensors).unwrap();
    let residual = tensors.tensor("residual").unwrap().data().to_vec();
    let (said, file) = export("gguf");
    assert!(said["bytes"] == file.len() && said["hook"] == "blocks.1.mlp.hook_post" && said["length_in_residual"].as_f64().unwrap() > 0.0, "{said}");
    let has = |part: &[u8]| file.windows(part.len()).position(|w| w == part);
    assert!(file.starts_with(b"GGUF\x03\0\0\0") && has(b"controlvector.layer_count").is_some());
    // One tensor of d_model numbers: its name, one dimension, their number, type 0 (f32), at the beginning of the data.
    let name = has(b"direction.1").unwrap();
    let rest = &file[name + b"direction.1".len()..];
    let numbers = residual.len() / 4;
    assert_eq!((&rest[..4], &rest[4..12], &rest[12..24]), (&1u32.to_le_bytes()[..], &(numbers as u64).to_le_bytes()[..], &[0; 12][..]));
    let data = (file.len() - rest.len() + 24).next_multiple_of(32);
    assert_eq!(file[data..data + residual.len()], residual);
}

#[test]
fn a_prediction_is_attributed_and_a_profile_says_what_is_left() {
    let copied = copied();
    let dir = copied.path();
    let latent = latent(dir);
    let plot = dir.join("bars.svg");
    let found = said(dir, &["steer", "attribute", "--prompt", "The king", "--plot", plot.to_str().unwrap()]);
    let latents = found["latents"].as_array().unwrap();
    assert!(!latents.is_empty() && latents[0]["ablation"].as_f64().unwrap() != 0.0 && fs::read_to_string(plot).unwrap().contains("<rect"));
    let signs = said(dir, &["steer", "attribute", "--check", "5"]);
    assert!(signs["right"].as_f64().unwrap() > 0.5 && signs["latents"].as_array().unwrap().len() == 5, "{signs}");
    let guard = ["steer", "guard", "--latent", &latent, "--regex", "the", "--n-tokens", "5000", "--prompts", "10", "--texts", "5", "--save", "quiet"];
    let report = said(dir, &guard);
    assert_eq!(report["n_prompts"], 10, "a document that begins before its window can call too");
    assert!(report["n_concept"].as_u64().unwrap() > 0 && report["loss_concept"]["before"].as_f64().unwrap() > 0.0);
    let leak = &report["leak"];
    let sum = leak["edited"].as_f64().unwrap() + leak["others"].as_f64().unwrap() + leak["error"].as_f64().unwrap();
    assert!((sum - 1.0).abs() < 1e-9, "{report}");
    assert!(dir.join("small/edits/quiet.toml").exists());
    let human = works(
        dir,
        &["steer", "guard", "--edit", "quiet", "--regex", "the", "--n-tokens", "5000", "--prompts", "10", "--texts", "5", "--run", "small"],
    );
    assert!(human.contains("loss where it does not") && human.contains("what the SAE does not explain"), "{human}");
    assert!(
        fails(dir, &["steer", "guard", "--latent", &latent, "--regex", "qqqqqq", "--n-tokens", "5000", "--run", "small"]).contains("does not occur")
    );
    // A name that is taken is refused, and with --yes replaced.
    assert!(fails(dir, &[&guard[..], &RUN].concat()).contains("--yes"));
    assert!(works(dir, &[&guard[..], &["--yes"], &RUN].concat()).contains("the concept, /the/, follows"));
    // Without a concept: what removing it costs, where it is active and elsewhere, and which tokens most.
    let cost = said(dir, &["steer", "guard", "--latent", &latent, "--n-tokens", "5000"]);
    let (n, changed) = (cost["n_tokens"].as_u64().unwrap(), cost["n_changed"].as_u64().unwrap());
    assert!(changed > 0 && changed < n && cost["n_concept"].is_null(), "{cost}");
    let unchanged = &cost["loss_unchanged"];
    assert_eq!(unchanged["before"], unchanged["after"], "at the last hook of one block nothing changes elsewhere");
    let hurt = cost["hurt"].as_array().unwrap();
    let rise = |h: &Value| h["loss"]["after"].as_f64().unwrap() - h["loss"]["before"].as_f64().unwrap();
    assert!(!hurt.is_empty() && hurt.windows(2).all(|w| rise(&w[0]) >= rise(&w[1])) && rise(&hurt[hurt.len() - 1]) > 0.0, "{cost}");
    let done =
        call(dir, &["steer", "trial", "--concept", "heading", "--texts", "20", "--tokens", "40", "--candidates", "1", "--run", "small", "--json"]);
    assert!(done.code == Some(0), "{}", done.stderr);
    let tried = serde_json::from_str::<Value>(&done.stdout).unwrap();
    assert_eq!((tried["items"].as_array().unwrap().len(), &tried["items"][0]["sae"]), (1, &Value::from("main")), "{tried}");
    let done = call(dir, &["steer", "trial", "--concept", "heading", "--texts", "20", "--tokens", "40", "--zero-only", "--run", "small", "--json"]);
    assert!(done.code == Some(0), "{}", done.stderr);
    let zeroed = serde_json::from_str::<Value>(&done.stdout).unwrap();
    assert!(zeroed["items"][0]["raising"].is_null() && tried["items"][0]["raising"]["latent"].is_u64(), "{zeroed}");
    let left = &zeroed["items"][0]["zeroed"];
    assert_eq!(*left, tried["items"][0]["zeroed"], "the same with and without the rest");
    assert!(left["n_places"].as_u64().unwrap() > 0 && left["n_texts"].as_u64() >= left["n_places"].as_u64(), "{left}");
    let raising = &tried["items"][0]["raising"];
    assert_eq!(raising["zeroed"]["latents"], serde_json::json!([raising["latent"]]), "the raised feature is held at zero as well");
    assert_eq!(raising["zeroed"]["unedited"], left["unedited"], "after the same prompts");
    let twice = fails(dir, &["steer", "trial", "--sae", "main", "--sae", "main", "--run", "small"]);
    assert!(twice.contains("named twice"), "{twice}");
    let unknown = fails(dir, &["steer", "trial", "--concept", "hexa", "--run", "small"]);
    assert!(unknown.contains("names like it: \"hexadecimal\""), "{unknown}");
    for command in [["steer", "trial", "--texts"], ["steer", "guard", "--n-tokens"], ["steer", "fit", "--tokens"], ["sae", "eval", "--tokens"]] {
        let nothing = call(dir, &[&command[..], &["0", "--run", "small"]].concat());
        assert!(nothing.code == Some(2) && nothing.stderr.contains("a whole number of at least 1 is expected"), "{}", nothing.stderr);
    }
    for hook in [["--hook", "blocks.7.hook_resid_post"], ["--target", "blocks.3.hook_mlp_out"]] {
        let layer = fails(dir, &[&["sae", "train", "--name", "deep", "--run", "small"][..], &hook].concat());
        assert!(layer.contains("is not in a model of 1 layer\n") && layer.contains("choose blocks.0\n"), "{layer}");
    }
    let unit = fails(dir, &["steer", "run", "--latent", &latent, "--zero", "--unit", "act", "--run", "small"]);
    assert!(unit.contains("--zero takes no unit"), "{unit}");
    for (regex, said) in [("", "--regex is empty"), ("[0-9", "--regex \"[0-9\"")] {
        let refused = fails(dir, &["steer", "guard", "--latent", &latent, "--regex", regex, "--run", "small"]);
        assert!(refused.contains(said), "{refused}");
    }
    let all = fails(dir, &["steer", "guard", "--latent", &latent, "--regex", "qqqqqq", "--n-tokens", "100000000", "--run", "small"]);
    assert!(all.contains("that is all there is"), "{all}");
    let misspelt = fails(dir, &["sae", "eval", "--name", "mian", "--run", "small"]);
    assert!(misspelt.contains("those that are there: main"), "{misspelt}");
    // Without the model: what is missing and how it was made.
    fs::rename(dir.join("small/lm"), dir.join("small/lm-away")).unwrap();
    for command in [["steer", "run", "--latent", &latent], ["sae", "eval", "--name", "main"]] {
        let missing = fails(dir, &[&command[..], &RUN].concat());
        assert!(missing.contains("put it back, or train it again with: monosem run"), "{missing}");
    }
}
