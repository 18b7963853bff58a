//! The explorer over HTTP: pages, lists, labels, live text and steering of a small run.

use crate::demo;
use crate::served::Served;

#[test]
fn every_page_answers_with_nothing_inline_and_nothing_from_elsewhere() {
    let served = Served::new(|dir| demo::make(dir, true));
    let inline = regex::Regex::new(r#"(?i)<style|<script>|<[a-z]+[^<>]*\s(style|on[a-z]+)=|(src|href|action)="(https?:|//)"#).unwrap();
    for path in [
        "/",
        "/features",
        "/features?sort=dense&flag=alive",
        "/features/0",
        "/features/4",
        "/neurons",
        "/neurons/1",
        "/live",
        "/steer",
        "/toy?n=3&m=2",
        "/nope",
    ] {
        let answer = served.get(path);
        assert_eq!(answer.status, if path == "/nope" { 404 } else { 200 }, "{path}: {}", answer.body);
        assert!(answer.head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{path}: {}", answer.head);
        assert!(answer.head.contains("x-content-type-options: nosniff"), "{path}");
        assert!(!inline.is_match(&answer.body), "{path}: {:?}", inline.find(&answer.body));
    }
    let style = served.get("/assets/style.css");
    assert!(style.status == 200 && style.head.contains("content-type: text/css") && !style.body.contains("http"));
    assert!(served.get("/assets/app.js").head.contains("content-type: text/javascript"));
}

#[test]
fn text_of_documents_is_shown_and_never_becomes_markup() {
    let served = Served::new(|dir| demo::make(dir, false));
    let markup = served.get("/features/3");
    assert!(!markup.body.contains("<script>alert") && !markup.body.contains("<img"), "corpus text must be escaped");
    assert!(markup.visible().contains("</script>") && markup.visible().contains("onerror=alert(1)>"));
    let hebrew = served.get("/features/2");
    assert!(hebrew.visible().contains("שלום") && hebrew.body.contains("dir=\"rtl\""));
    let owl = served.get("/features/6");
    assert!(owl.visible().contains("🦉") && owl.visible().contains("👨"), "an emoji split over tokens is whole again");
    let control = served.get("/features/8");
    assert!(control.visible().contains("⟨00⟩⟨01⟩⟨07⟩⟨1b⟩[31m"));
    let raw = |c: char| matches!(c, '\0'..='\u{8}' | '\u{1b}' | '\u{7f}' | '\u{202a}'..='\u{202e}' | '\u{200b}');
    assert!(!control.body.contains(raw), "no control character reaches the browser");
    let api = served.json("/api/features/3");
    assert!(api["groups"][0]["parts"][0]["contexts"][0]["at"][0]["act"].as_f64().unwrap() > 0.0);
}

#[test]
fn concepts_written_while_it_serves_are_shown_without_a_restart() {
    let served = Served::new(|dir| demo::make(dir, false));
    assert!(!served.get("/").visible().contains("F1 0.93"));
    let best: Vec<(u32, String, f64)> = (0..demo::FEATURES.len() as u32).map(|f| (f, "a known thing".to_string(), 0.93)).collect();
    monosem::features::store::set_concepts(&monosem::artifact::RunDir::new(served.dir.path(), "demo").features("main"), &best).unwrap();
    assert!(served.get("/").visible().contains("a known thing, F1 0.93"));
}

#[test]
fn random_and_interval_contexts_stand_before_the_strongest() {
    let served = Served::new(|dir| demo::make(dir, false));
    let body = served.get("/features/0").body;
    let place = |id: &str| body.find(&format!("<section class=\"group\" id=\"{id}\"")).unwrap_or_else(|| panic!("no group {id}"));
    assert!(place("random") < place("range") && place("range") < place("top"));
    // The firing token of the strongest example is as dark as it gets.
    assert!(body[place("top")..].contains("class=\"t a20 fires\""));
    assert!(body.contains("<svg class=\"hist\"") && body.contains("rel=\"next\" href=\"/features/1\""));
    // Feature 4 is dead: neighbours pass over it.
    assert!(served.get("/features/5").body.contains("rel=\"prev\" href=\"/features/3\""));
    assert!(served.get("/features/4").visible().contains("did not fire"));
}

#[test]
fn a_page_shows_category_places_neighbours_and_effects_on_the_loss() {
    let served = Served::new(|dir| demo::make(dir, false));
    let body = served.get("/features/0").body;
    for part in ["<b>context</b>", "Fires together with", "by position in the window", "nat, thicker from", "id=\"silent\"", "id=\"ranks\""] {
        assert!(body.contains(part), "{part}");
    }
    // What the demo wrote: 0.3 nat after the firing token, blue; -0.05 after other firings, red.
    assert!(body.contains("data-l=\"+0.300\"") && body.contains(" up2\"") && body.contains(" down1\""), "underlines");
    let json = served.json("/api/features/0");
    let evidence = &json["evidence"];
    assert_eq!(evidence["category"], "context");
    assert_eq!(evidence["over_time"].as_array().unwrap().len(), 32);
    let census = served.get("/").body;
    assert!(census.contains("Each feature once") && census.contains("its contexts fall into fewer than two groups of alike ones"));
}

#[test]
fn lists_are_searched_sorted_and_filtered() {
    let served = Served::new(|dir| demo::make(dir, false));
    let ids = |path: &str| -> Vec<u64> {
        let units = served.json(path)["units"].clone();
        units.as_array().unwrap_or_else(|| panic!("{path}: {units}")).iter().map(|u| u["index"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids("/api/features"), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(ids("/api/features?sort=dense")[0], 5);
    assert!(served.get("/features").visible().contains("tokens of training text"));
    assert_eq!(ids("/api/features?flag=dead"), [4]);
    assert_eq!(ids("/api/features?flag=single-token"), [6]);
    assert!(!ids("/api/features?flag=alive").contains(&4));
    assert_eq!(ids("/api/features?q=8")[0], 8, "a number finds the feature");
    assert!(ids("/api/features?q=%22%20OR%20%3C/script%3E").len() < 9, "what is typed is no query language");
    let fragment = served.get("/features/rows?q=%3Cscript%3E%22");
    assert!(fragment.status == 200 && !fragment.body.contains("<script>") && !fragment.body.contains("<html"));
    for (path, named) in [("sort=bogus", "bogus"), ("flag=deadd", "single-token"), ("sorted=dense", "sorted")] {
        let refused = served.get(&format!("/api/features?{path}"));
        assert!(refused.status == 400 && refused.body.contains(named), "{path}: {} {}", refused.status, refused.body);
    }
    assert_eq!(served.get("/features?page=minus").status, 400);
}

#[test]
fn labels_are_written_searched_and_taken_back() {
    let served = Served::new(|dir| demo::make(dir, false));
    let saved = served.post("/features/0/label", "text=forms+of+%3Cb%3Edo%3C%2Fb%3E&author=Ada");
    assert!(saved.status == 303 && saved.head.contains("location: /features/0"), "{}", saved.body);
    let page = served.get("/features/0");
    assert!(page.body.contains("forms of &#60;b&#62;do") && page.visible().contains("Ada"));
    assert_eq!(served.json("/api/features?q=forms")["units"][0]["index"], 0);
    assert_eq!(served.json("/api/features?flag=labelled")["total"], 1);
    assert!(served.get("/").visible().contains("forms of <b>do</b>"), "the tour begins with what is labelled");
    served.post("/features/0/label", "text=better&author=Ada");
    assert_eq!(served.json("/api/features/0")["labels"]["current"], "better");
    served.post("/features/0/label/undo", "");
    assert_eq!(served.json("/api/features/0")["labels"]["current"], "forms of <b>do</b>");
    let origin = format!("http://{}", served.address);
    let api = served.ask(
        "POST",
        "/api/features/1/label",
        &[("Origin", &origin), ("Content-Type", "application/json")],
        r#"{"text": "time", "author": "Eve"}"#,
    );
    assert!(api.status == 200 && api.body.contains("\"current\":\"time\""), "{}", api.body);
    // What anyone says of a feature finds it, not only what was said last.
    served.post("/features/0/label", "text=verbs&author=Bob");
    for said in ["forms", "verbs"] {
        assert_eq!(served.json(&format!("/api/features?q={said}"))["units"][0]["index"], 0, "{said}");
        assert!(served.get(&format!("/search?q={said}")).visible().contains(said), "{said}");
        assert!(served.get(&format!("/map/find?q={said}")).body.contains('0'), "{said}");
    }
    for (body, what) in [("text=x&author=", "author"), (&*format!("text={}&author=A", "x".repeat(501)), "500")] {
        let refused = served.post("/features/1/label", body);
        assert!(refused.status == 400 && refused.body.contains(what), "{} {}", refused.status, refused.body);
    }
    assert_eq!(served.post("/features/99/label", "text=x&author=A").status, 404);
    assert_eq!(served.post("/features/1/label", &"x".repeat(20 << 10)).status, 413, "a body has at most 16 KiB");
}

#[test]
fn other_sites_and_other_names_get_nothing() {
    let served = Served::new(|dir| demo::make(dir, false));
    for host in ["evil.example", "127.0.0.1.evil.example", ""] {
        let answer = served.ask("GET", "/api/features/0", &[("Host", host)], "");
        assert!(answer.status == 421 || answer.status == 400, "{host}: {}", answer.status);
        assert!(!answer.body.contains("density"));
    }
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    for origin in ["http://evil.example", "null", "https://127.0.0.1"] {
        assert_eq!(served.ask("POST", "/features/0/label", &[("Origin", origin), form], "text=x&author=y").status, 403, "{origin}");
    }
    assert_eq!(served.ask("GET", "/api/live?text=x", &[("Sec-Fetch-Site", "cross-site")], "").status, 403);
    assert_eq!(served.json("/api/features/0")["labels"]["current"], "", "nothing was written");
    for path in ["/assets/../Cargo.toml", "/assets/%2e%2e%2fCargo.toml", "/assets//etc/passwd", "/features/..%2f..%2fetc%2fpasswd", "/features/-1"] {
        let answer = served.get(path);
        assert!(answer.status == 404 && !answer.body.contains("[package]") && !answer.body.contains("root:"), "{path}: {}", answer.status);
    }
}

#[test]
fn the_tour_shows_both_recovered_shares_the_gap_and_the_dead_of_held_out_text() {
    let served = Served::new(|dir| {
        let run = demo::make_with_model(dir);
        let eval = serde_json::json!({
            "l0": 12.5, "l1": 1.0, "mse": 0.1, "nmse": 0.1, "fvu": 0.1, "explained_variance": 0.9, "cosine": 0.9, "l2_ratio": 1.0,
            "ce_clean": 2.5, "ce_spliced": 2.625, "ce_zero": 5.0, "ce_mean": 3.0, "ce_recovered_zero": 0.95, "ce_recovered_mean": 0.75,
            "kl": 0.1, "dead_frac": 0.125, "ultra_rare_frac": 0.0, "junk_frac": 0.0, "junk_cosine": 0.1, "mean_encoder_decoder_cosine": 0.5,
            "n_latents": 9, "n_eval_tokens": 123456, "density_histogram": [], "formulas": {},
        });
        std::fs::write(run.sae("main").join("eval.json"), eval.to_string()).unwrap();
        run
    });
    let page = served.get("/").visible();
    for said in ["95.0 %", "against zeroing; 75.0 % against the mean; gap +0.125 nat", "12 %", "of 9 on 123,456 held-out tokens"] {
        assert!(page.contains(said), "{said}: {page}");
    }
}

#[test]
fn what_is_missing_or_damaged_is_said_with_the_command_and_the_rest_works() {
    let served = Served::new(|dir| demo::make(dir, false));
    for path in ["/neurons", "/"] {
        let page = served.get(path);
        assert!(
            page.status == 200 && page.visible().contains("monosem features build --neurons") && page.visible().contains("--run demo"),
            "{path}: {}",
            page.visible()
        );
    }
    let neuron = served.get("/neurons/0");
    assert!(neuron.status == 404 && neuron.visible().contains("monosem features build --neurons"));
    let unknown = served.get("/features/4000000000");
    assert!(unknown.status == 404 && unknown.visible().contains("0 to 8"));
    assert!(served.json("/api/features/99")["error"]["message"].as_str().unwrap().contains("no latent 99"));
    // There is no model in this run: the page that needs one says so, the others go on.
    let live = served.get("/live/result?text=hello");
    assert!(live.status == 404 && live.body.contains("role=\"alert\"") && live.visible().contains("came without the model"), "{}", live.body);
    assert_eq!(served.get("/steer?feature=0&prompt=x&tokens=100000").status, 400);
    std::fs::write(served.dir.path().join("demo/features/neurons.sqlite"), "not a database").unwrap();
    assert!(served.get("/neurons").visible().contains("cannot be used"));
    assert_eq!(served.get("/features/0").status, 200);
}

#[test]
fn live_text_and_steering_run_the_model() {
    let served = Served::new(demo::make_with_model);
    let live = served.json("/api/live?text=Nobody%20did%20%D7%A9%D7%9C%D7%95%D7%9D");
    assert!(!live["tokens"].as_array().unwrap().is_empty(), "{live}");
    assert!(live["firing"][0]["share"].as_f64().unwrap() > 0.0);
    let fragment = served.get("/live/result?text=Nobody%20did%20%3Cb%3E&at=0");
    assert!(fragment.status == 200 && fragment.body.contains("aria-pressed=\"true\"") && !fragment.body.contains("<b>"));
    let typed = served.get(&format!("/live/result?text={}", "x".repeat(2001)));
    assert!(typed.status == 400 && typed.body.contains("2000"));
    let steer = "/api/steer?feature=0&strength=0.5&prompt=Nobody&tokens=12&temperature=1&seed=3";
    let (once, again) = (served.json(steer), served.json(steer));
    assert!(once == again && once["caption"].as_str().unwrap().contains("Clamped to"), "the same address writes the same text: {once}");
    for (path, named) in [("unit=17&prompt=x", "unit"), ("prompt=x", "feature=N"), ("feature=0&strenght=3&prompt=x", "strenght")] {
        let refused = served.get(&format!("/api/steer?{path}"));
        assert!(refused.status == 400 && refused.body.contains(named), "{path}: {} {}", refused.status, refused.body);
    }
    let found = served.json("/api/steer?feature=0&prompt=Nobody&tokens=12&seed=3");
    assert!(found["found"]["multiple"].is_number(), "a strength that is not given is found: {found}");
    assert!(served.get("/steer").visible().contains("0 removes the feature"));
    let page = served.get("/steer?feature=0&strength=0.5&prompt=%3Ci%3E&tokens=5&temperature=1&seed=3");
    assert!(page.status == 200 && page.body.contains("&#60;i&#62;") && page.visible().contains("Unedited"), "{}", page.body);
}

#[test]
fn a_toy_model_trains_in_bounds_in_pictures_and_without_a_model_of_language() {
    let served = Served::new(|dir| demo::make(dir, false));
    for (asked, named) in [
        ("n=50", "2 to 40, not 50"),
        ("n=1", "2 to 40, not 1"),
        ("m=11&n=12", "1 to 10, not 11"),
        ("n=4&m=4", "m is 4 and n is 4"),
        ("p=0.001", "0.005 to 1, not 0.001"),
        ("p=NaN", "not NaN"),
        ("base=2", "0.5 to 1, not 2"),
        ("seed=9007199254740992", "9007199254740991"),
        ("n=x", "n: invalid digit"),
        ("output=tanh", "tanh"),
        ("k=3", "k"),
    ] {
        let refused = served.get(&format!("/toy?{asked}"));
        assert!(refused.status == 400 && refused.visible().contains(named), "{asked}: {} {}", refused.status, refused.visible());
        let stream = served.get(&format!("/toy/stream?{asked}"));
        assert!(stream.body.starts_with("event: problem\n") && stream.visible().contains(named), "{asked}: {}", stream.body);
    }
    // Without parameters the form; with them, for those without a script, the trained model.
    let form = served.get("/toy");
    assert!(form.body.contains("href=\"/toy\"") && form.body.contains("type=\"range\"") && !form.body.contains("<svg"), "{}", form.body);
    let linear = served.get("/toy?n=3&m=2&p=1&output=linear");
    assert!(linear.body.matches("<svg").count() == 2 && linear.visible().contains("2 of 3"), "{}", linear.body);
    // In pictures: they move, and end in the same.
    let stream = served.get("/toy/stream?n=3&m=2&p=1&output=linear");
    assert!(stream.head.contains("content-type: text/event-stream") && stream.body.ends_with("event: done\ndata: trained\n\n"));
    let frames: Vec<&str> = stream.body.split("event: frame\n").skip(1).collect();
    assert!(frames.len() == 61 && frames.iter().all(|f| f.contains("<svg")) && frames[60].contains(">3000 <") && frames[0] != frames[60]);
}

#[test]
fn the_page_of_all_toy_experiments_is_linked_and_served_as_it_was_written() {
    let served = Served::new(|dir| demo::make(dir, false));
    let (page, paper) = (served.get("/toy"), served.get("/toy/paper"));
    assert!(page.status == 200 && page.visible().contains("monosem toy all") && !page.body.contains("href=\"/toy/paper\""));
    assert!(paper.status == 404 && paper.visible().contains("monosem toy all --dir") && paper.visible().contains("--run demo"));
    let (folder, html) = (served.dir.path().join("demo/toy"), "<!doctype html><style>p { color: red; }</style><p>All of it</p>");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("index.html"), html).unwrap();
    let (page, paper) = (served.get("/toy"), served.get("/toy/paper"));
    assert!(page.body.contains("href=\"/toy/paper\"") && paper.status == 200 && paper.body == html);
    // Its style is allowed to it, and nothing else.
    assert!(
        paper.head.contains("content-type: text/html")
            && paper.head.contains("content-security-policy: default-src 'none'; style-src 'unsafe-inline'")
    );
    assert!(!paper.head.contains("script-src") && paper.head.contains("x-content-type-options: nosniff"), "{}", paper.head);
}

#[test]
fn every_page_says_when_the_model_was_replaced_since() {
    let run = std::cell::RefCell::new(None);
    let served = Served::new(|dir| {
        let made = demo::make(dir, false);
        *run.borrow_mut() = Some(made.clone());
        made
    });
    let pages = ["/", "/features", "/features/0", "/neurons", "/live", "/steer", "/toy", "/nowhere"];
    let warns = |page: &str| served.get(page).body.contains("out of date");
    assert!(pages.iter().all(|page| !warns(page)));
    let lm = run.borrow().as_ref().unwrap().lm();
    monosem::artifact::Manifest::new("lm", 1, serde_json::json!({}), 7).write(&lm).unwrap();
    for page in pages {
        let body = served.get(page).body;
        assert!(warns(page) && body.contains("monosem features build --sae main"), "{page}: {body}");
    }
}
