//! Pages that ask the run more than one thing, over HTTP: search, filters, lists, rating, why, corpus, map, comparison, training.

use crate::demo;
use crate::served::Served;

fn ids(served: &Served, path: &str) -> Vec<u64> {
    let units = served.json(path)["units"].clone();
    units.as_array().unwrap_or_else(|| panic!("{path}: {units}")).iter().map(|u| u["index"].as_u64().unwrap()).collect()
}

#[test]
fn filters_narrow_a_list_together_and_nonsense_is_refused() {
    let served = Served::new(|dir| demo::make(dir, false));
    served.post("/features/1/label", "text=time&author=Ada");
    served.post("/features/2/label", "text=Hebrew&author=Ben");
    assert_eq!(ids(&served, "/api/features?flag=labelled"), [1, 2]);
    assert_eq!(ids(&served, "/api/features?author=Ben"), [2]);
    assert_eq!(ids(&served, "/api/features?flag=unlabelled,alive"), [0, 3, 5, 6, 7, 8]);
    assert_eq!(ids(&served, "/api/features?flag=labelled&author=Ada&to=100"), [1]);
    assert_eq!(ids(&served, "/api/features?from=20"), [5], "per cent of tokens");
    assert!(ids(&served, "/api/features?to=20&flag=alive").iter().all(|id| ![4, 5].contains(id)));
    assert!(ids(&served, "/api/features?token=%F0%9F%A6%89").len() <= 1, "a token that is part of a character may be none");
    let on_year = ids(&served, "/api/features?token=YEAR");
    assert!(on_year.contains(&1) && !on_year.contains(&2), "{on_year:?}");
    let best: Vec<(u32, String, f64)> = vec![(0, "do".into(), 0.9), (1, "time".into(), 0.6)];
    monosem::features::store::set_concepts(&monosem::artifact::RunDir::new(served.dir.path(), "demo").features("main"), &best).unwrap();
    assert_eq!(ids(&served, "/api/features?f1=0.8"), [0]);
    for query in ["from=much", "f1=NaN", "flag=alive,blue", "colour=red"] {
        assert_eq!(served.get(&format!("/features?{query}")).status, 400, "{query}");
    }
    assert!(served.get("/features?token=%3Cb%3E").body.contains("value=\"&#60;b&#62;\""));
}

#[test]
fn what_is_typed_is_found_in_labels_tokens_and_contexts_and_never_becomes_markup() {
    let served = Served::new(|dir| demo::make(dir, false));
    served.post("/features/3/label", "text=%3Ci%3Emarkup%3C%2Fi%3E&author=Ada");
    let said = |q: &str| served.ask("GET", &format!("/search?q={q}"), &[("X-Fragment", "1")], "");
    assert!(said("markup").visible().contains("<i>markup</i>") && !said("markup").body.contains("<i>"));
    assert!(said("did%20not").visible().contains("Contexts"));
    assert!(said("8").visible().contains("Number"));
    assert!(said("%3C%2Fscript%3E%22%20OR%20*").status == 200 && !said("%3Cscript%3E").body.contains("<script"));
    assert!(said("zzqq").visible().contains("Nothing has") && !said("zzqq").body.contains("<html"));
    assert_eq!(said("").status, 200);
    // Opened by its address it is a page with the same in it.
    let page = served.get("/search?q=did%20not");
    assert!(page.body.contains("<html") && page.body.contains("style.css") && page.visible().contains("Contexts"), "{}", page.body);
    assert!(served.get("/search").body.contains("<html") && served.get("/search?q=%3Cscript%3E").body.matches("<script>").count() == 0);
}

#[test]
fn of_several_saes_the_first_and_those_that_are_not_finished_are_open() {
    let served = Served::new(|dir| {
        let run = demo::make_with_model(dir);
        demo::copy_sae(&run, "goes-on");
        demo::finish(&run);
        demo::copy_sae(&run, "other");
        run
    });
    let page = served.get("/training").body;
    assert!(
        page.contains("data-sae=\"main\" open>") && page.contains("data-sae=\"goes-on\" open>") && page.contains("data-sae=\"other\">"),
        "{page}"
    );
    // Without a script its form is in it: what was asked for is open.
    assert!(served.get("/training?sae=other&at=0").body.contains("data-sae=\"other\" open>"));
}

#[test]
fn whoever_opens_the_address_of_a_part_of_a_page_is_led_to_the_page() {
    let served = Served::new(demo::make_full);
    let opened = |path: &str| served.ask("GET", path, &[("Sec-Fetch-Dest", "document")], "");
    for (part, page) in [
        ("/live/result?text=a%26b&at=1", "/live?text=a%26b&at=1"),
        ("/features/rows?q=do&page=1", "/features?q=do&page=1"),
        ("/features/0/why/result?t=70", "/features/0/why?t=70"),
        ("/steer/sweep?feature=0&prompt=x&count=a", "/steer?feature=0&prompt=x&count=a"),
        ("/steer/next?feature=0&prompt=x", "/steer?feature=0&prompt=x"),
        ("/training/then?sae=main", "/training?sae=main"),
        ("/corpus/window?t=70&feature=1", "/corpus?t=70&feature=1"),
    ] {
        let answer = opened(part);
        assert!(answer.status == 303 && answer.head.contains(&format!("location: {page}")), "{part}: {}", answer.head);
        assert_eq!(opened(page).status, 200, "{page}");
        assert!(served.get(part).status == 200 && !served.get(part).body.contains("<html"), "a program gets the part");
    }
    let toy = opened("/toy/stream?n=3&m=2");
    assert!(toy.status == 303 && toy.head.contains("location: /toy?n=3&m=2"), "{}", toy.head);
    assert_eq!(opened("/api/training/then?sae=main").status, 200);
}

#[test]
fn a_page_is_bookmarked_with_who_did_it_and_bad_names_are_refused() {
    let served = Served::new(|dir| demo::make(dir, false));
    let put = |body: &str| served.post("/features/2/list", body).status;
    assert_eq!((put("list=bookmarks&to=in&author=Ada"), put("list=to+look+at&to=in")), (303, 303));
    assert_eq!(ids(&served, "/api/features?list=to+look+at"), [2]);
    let page = served.json("/api/features/2")["lists"].clone();
    assert!(page["bookmarked"] == true && page["of"][0] == "to look at", "{page}");
    assert_eq!((put("list=&to=in"), put("list=x&to=sideways"), put(&format!("list={}&to=in", "x".repeat(61)))), (400, 400, 400));
    assert_eq!(served.post("/features/99/list", "list=x&to=in").status, 404);
    assert_eq!(put("list=to+look+at&to=out"), 303);
    assert!(ids(&served, "/api/features?list=to+look+at").is_empty());
}

#[test]
fn a_rating_is_of_a_place_in_the_order_and_too_many_points_are_refused() {
    let served = Served::new(demo::make_full);
    let page = served.get("/rate?author=Ada&seed=7&n=3");
    assert!(page.visible().contains("1 of 6") && !page.body.contains("/why?t="), "{}", page.body);
    let rate = |place: usize, points: &str| served.post("/rate", &format!("author=Ada&seed=7&n=3&place={place}&said=x&{points}"));
    assert_eq!(rate(0, "confidence=4&activations=0&logits=0&specificity=0").status, 400);
    assert_eq!(rate(6, "confidence=1&activations=0&logits=0&specificity=0").status, 400);
    let kept = rate(0, "confidence=3&activations=5&logits=3&specificity=3");
    assert!(kept.status == 303 && kept.head.contains("location: /rate?author=ada&seed=7&n=3&last=0"), "{}", kept.head);
    let next = served.get("/rate?author=Ada&seed=7&n=3&last=0").visible();
    assert!(next.contains("2 of 6") && next.contains("14 of 14"), "{next}");
    assert!(served.get("/rate?author=Ben&seed=7&n=3").visible().contains("1 of 6"), "another rater begins anew");
    assert_eq!(served.get("/rate?author=Ada&n=0").status, 400);
}

#[test]
fn why_adds_up_for_features_neurons_and_typed_text_and_places_that_are_none_are_refused() {
    let served = Served::new(demo::make_full);
    for path in ["/api/features/0/why?t=70", "/api/neurons/1/why?t=70", "/api/features/3/why?text=Nobody%20did%20it&at=2"] {
        let found = served.json(path)["found"].clone();
        let of = |part: &serde_json::Value| part["token"].as_f64().unwrap() + part["position"].as_f64().unwrap();
        let parts = &found["parts"];
        let heads = parts["sources"].as_array().unwrap().iter().flat_map(|s| s.as_array().unwrap());
        let sum = parts["constant"].as_f64().unwrap() + of(&parts["direct"]) + heads.map(|h| of(&h["part"])).sum::<f64>();
        // The forward pass is in f32.
        assert!((sum - found["pre_act"].as_f64().unwrap()).abs() < 1e-4, "{path}: {sum} and {}", found["pre_act"]);
    }
    let swapped = served.json("/api/features/0/why?t=70&swap=3&with=%20dollars");
    assert!(swapped["swapped"]["change"].is_string() && swapped["swapped"]["found"]["parts"]["sources"].is_array());
    for path in ["t=64", "t=99999999", "text=", "t=70&swap=64", "t=70&swap=6&with=", "text=x&at=9"] {
        let status = served.get(&format!("/features/0/why?{path}")).status;
        assert!(status == 400 || status == 404, "{path}: {status}");
    }
    let markup = served.get("/features/0/why?text=%3Cscript%3Ealert(1)%3C/script%3E");
    assert!(markup.status == 200 && !markup.body.contains("<script>alert"), "{}", markup.body);
}

#[test]
fn a_document_is_read_around_a_place_and_shaded_by_a_unit() {
    let served = Served::new(demo::make_full);
    let page = served.get("/corpus?t=300&feature=5");
    assert!(page.status == 200 && page.visible().contains("token 300 of") && page.visible().contains("fires on"), "{}", page.body);
    assert!(served.get("/corpus?t=300&feature=").status == 200 && served.get("/corpus?t=99999999").status == 404);
    let window = served.get("/corpus/window?t=300&neuron=2");
    assert!(
        window.status == 200 && window.body.starts_with("<div class=\"line\"") && window.body.matches("data-t=").count() == demo::N_CTX,
        "{}",
        window.body
    );
    assert!(!served.get("/corpus?t=3").body.contains("<script>alert"));
}

#[test]
fn an_sae_is_compared_with_one_that_is_listed_and_no_name_is_a_path() {
    let served = Served::new(|dir| {
        let run = demo::make_full(dir);
        let copy = run.sae("copy");
        std::fs::create_dir_all(&copy).unwrap();
        for file in std::fs::read_dir(run.sae("main")).unwrap().flatten().filter(|f| f.path().is_file()) {
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
        run
    });
    let page = served.get("/compare?with=copy").visible();
    assert!(page.contains("matched") && page.contains("of 8 (100 %)"), "an SAE beside itself: {page}");
    for with in ["..%2Fmain", "%2Fetc", "demo/../demo/main"] {
        let refused = served.get(&format!("/compare?with={with}"));
        assert!(refused.status == 404 && refused.visible().contains("known are copy"), "{with}: {}", refused.visible());
    }
    let itself = served.get("/compare?with=main");
    assert!(itself.status == 400 && itself.visible().contains("main is the SAE that is shown"), "{}", itself.visible());

    // Another SAE in its place, while the pages are open.
    let copy = served.dir.path().join("demo/sae/copy");
    let mut other = monosem::sae::Sae::load(&copy).unwrap();
    other.w_dec.reverse();
    other.save(&copy, &monosem::sae::read_origin(&copy).unwrap(), &[]).unwrap();
    let page = served.get("/compare?with=copy").visible();
    assert!(page.contains("matched") && !page.contains("of 8 (100 %)"), "what was found before is shown: {page}");
}

#[test]
fn the_map_has_every_living_direction_and_finds_by_text() {
    let served = Served::new(demo::make_full);
    assert_eq!(served.get("/map/points").status, 404, "there is none before somebody asks for it");
    for _ in 0..200 {
        if served.json("/map/state")["ready"] == 8 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(served.json("/map/state")["ready"], 8);
    assert!(served.json("/map/find?q=owl").as_array().is_some());
    assert_eq!(served.json("/map/find?q=7"), serde_json::json!([7]));
    assert!(served.get("/map/tip?id=3").visible().contains("Feature 3") && served.get("/map/tip?id=99").status == 404);
    assert!(served.dir.path().join("demo/features/main.map.safetensors").is_file(), "it is kept beside the dictionary");
}

#[test]
fn an_sae_is_asked_at_each_moment_of_its_training() {
    let served = Served::new(demo::make_with_model);
    let run = monosem::artifact::RunDir::new(served.dir.path(), "demo");
    let ways = |served: &Served| served.json("/api/training")["learning"].clone();
    assert_eq!(ways(&served)[0]["sae"], "main");
    let steps =
        |ways: &serde_json::Value| -> Vec<u64> { ways[0]["points"].as_array().unwrap().iter().map(|p| p["step"].as_u64().unwrap()).collect() };
    assert_eq!(steps(&ways(&served)), [1, 4]);
    // While it trains the newest is the last snapshot, and no dictionary is believed to be of it.
    let text = "&text=Nobody%20did%20answer";
    let then = |at: usize| served.json(&format!("/api/training/then?sae=main&at={at}{text}"));
    let (first, last) = (then(0), then(1));
    assert_eq!((&last["learnt"], &last["point"]["when"]), (&1.0.into(), &"step 4 of 8, 50 %".into()));
    assert!(first["learnt"].as_f64().unwrap() < 1.0 && first["tokens"].as_array().unwrap().len() >= 3, "{first}");
    let firing = |then: &serde_json::Value| then["firing"].as_array().unwrap().clone();
    assert!(!firing(&first).is_empty() && firing(&first).iter().all(|f| f["unit"].is_null() && f["cosine"].as_f64().unwrap() < 0.999));
    assert!(firing(&last).iter().all(|f| f["cosine"] == 1.0));
    assert!(served.get("/training").body.contains("data-sae=\"main\"") && !served.get("/training").body.contains("<table"));

    demo::finish(&run);
    assert_eq!(steps(&ways(&served)), [1, 4, 8]);
    let (half, done) = (then(1), then(2));
    assert_eq!((&done["learnt"], &done["point"]["when"]), (&1.0.into(), &"finished, 8 steps".into()));
    assert!(half["learnt"].as_f64().unwrap() < 1.0, "the newest is the finished one now");
    assert!(firing(&half).iter().all(|f| f["unit"]["index"] == f["latent"]), "the dictionary names its features");
    // At the end it says what live text says.
    let live = served.json(&format!("/api/live?{}", &text[1..]));
    let pairs =
        |of: &serde_json::Value, id: fn(&serde_json::Value) -> u64| firing(of).iter().map(|f| (id(f), f["act"].to_string())).collect::<Vec<_>>();
    assert_eq!(pairs(&done, |f| f["latent"].as_u64().unwrap()), pairs(&live, |f| f["unit"]["index"].as_u64().unwrap()));
    // Without a script a form asks for the same.
    let page = served.get(&format!("/training?sae=main&at=0{text}"));
    assert!(page.status == 200 && page.body.contains("<table") && page.visible().contains("step 1 of 8, 12 %"), "{}", page.visible());

    for (query, status) in [("sae=..%2Fmain&at=0", 404), ("sae=", 404), ("sae=main&at=3", 400), ("sae=main&at=-1", 400), ("sae=main&step=1", 400)] {
        assert_eq!(served.get(&format!("/api/training/then?{query}")).status, status, "{query}");
        assert_eq!(served.get(&format!("/training/then?{query}")).status, status, "{query}");
    }
    let long = "x".repeat(2001);
    assert_eq!(served.get(&format!("/training/then?sae=main&text={long}")).status, 400);
    // A finished SAE of another training is no part of this one's way.
    let mut other = monosem::artifact::Manifest::read(&run.sae("main"), "sae", monosem::sae::SAE_FORMAT_VERSION).unwrap();
    other.config = serde_json::json!({ "rows": 81 });
    other.write(&run.sae("main")).unwrap();
    assert_eq!(steps(&ways(&served)), [1, 4]);
}
