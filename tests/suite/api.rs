//! The JSON API and its description: every address is described, every described address answers, and Neuronpedia's bodies are understood.

use crate::demo;
use crate::served::{Answer, Served};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn document() -> Value {
    serde_json::from_str(include_str!("../../assets/openapi.json")).unwrap()
}

fn post(served: &Served, path: &str, body: &Value) -> Answer {
    served.ask("POST", path, &[("Content-Type", "application/json"), ("X-Api-Key", "whatever a notebook sends")], &body.to_string())
}

fn posted(served: &Served, path: &str, body: &Value) -> Value {
    let answer = post(served, path, body);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// Method and path of every `.route(...)` under /api in the server's source.
fn routes() -> BTreeSet<(String, String)> {
    let source = std::fs::read_to_string("src/explorer/server.rs").unwrap();
    let route = regex::Regex::new(r#"\.route\(\s*(?:&format!\()?"(/api[^"]*)"\)?,\s*(.*)"#).unwrap();
    let method = regex::Regex::new(r"\b(get|post|put|delete)\(").unwrap();
    let mut found = BTreeSet::new();
    for route in route.captures_iter(&source) {
        let path = route[1].replace("{{", "{").replace("}}", "}");
        for one in method.captures_iter(&route[2]) {
            for units in ["features", "neurons"] {
                found.insert((one[1].to_string(), path.replacen("{units}", units, 1)));
            }
        }
    }
    // The page for people, and the answer to every other address.
    found.retain(|(_, path)| path != "/api" && !path.contains("{*rest}"));
    found
}

#[test]
fn every_address_is_described_and_none_that_is_not_there() {
    let document = document();
    let paths = document["paths"].as_object().unwrap().iter();
    let described: BTreeSet<(String, String)> =
        paths.flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|m| (m.clone(), path.clone()))).collect();
    let routes = routes();
    assert!(routes.len() > 15, "{routes:?}");
    assert_eq!(described, routes);
}

/// Whether `value` is what `schema` says, as far as types, required keys and items go.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/components/schemas/")) {
        return conforms(document, &document["components"]["schemas"][name], value, at);
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let is = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{at}: no type {other}"),
    };
    assert!(kinds.iter().any(is), "{at} is no {kinds:?}: {value}");
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(value.get(key).is_some(), "{at} has no {key}");
    }
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(key) {
            conforms(document, schema, value, &format!("{at}.{key}"));
        }
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        conforms(document, &schema["items"], item, &format!("{at}[{i}]"));
    }
}

#[test]
fn every_described_address_answers_as_it_is_described() {
    let served = Served::new(|dir| {
        let run = demo::make_with_model(dir);
        let neurons = run.features("neurons");
        std::fs::copy(run.features("main"), neurons).unwrap();
        run
    });
    assert_eq!(served.json("/api/openapi.json")["info"]["version"], env!("CARGO_PKG_VERSION"));
    let document = document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, question) in methods.as_object().unwrap() {
            let address = path.replace("{id}", "1").replace("{model}", "demo").replace("{source}", "0-main").replace("{index}", "1");
            let answer = if method == "get" {
                let query = match path.as_str() {
                    "/api/live" => "?text=Nobody%20did",
                    "/api/training/then" => "?sae=main&at=1&text=Nobody%20did",
                    _ if path.ends_with("/why") => "?text=Nobody%20did&at=1",
                    "/api/steer" => "?feature=0&strength=1&prompt=The&tokens=3",
                    _ => "",
                };
                served.get(&format!("{address}{query}"))
            } else {
                let example = question["requestBody"]["content"]["application/json"]["example"].to_string().replace("quickstart", "demo");
                served.ask("POST", &address, &[("Content-Type", "application/json")], if example == "null" { "" } else { &example })
            };
            // The neurons here are a copy of the features, which nothing in the model explains.
            if path == "/api/neurons/{id}/why" && answer.status != 200 {
                continue;
            }
            assert_eq!(answer.status, 200, "{method} {address}: {}", answer.body);
            let value: Value = serde_json::from_str(&answer.body).unwrap();
            conforms(&document, &question["responses"]["200"]["content"]["application/json"]["schema"], &value, &format!("{method} {path}"));
        }
    }
    let page = served.get("/api");
    let listed = document["paths"].as_object().unwrap().keys().all(|path| page.visible().contains(path.as_str()));
    assert!(page.status == 200 && listed && page.head.contains("text/html"), "{}", page.visible());
    let unknown = served.json("/api/nowhere");
    conforms(&document, &document["components"]["schemas"]["Error"], &unknown, "error");
}

#[test]
fn a_notebook_for_neuronpedia_reads_features_texts_labels_and_steers() {
    let served = Served::new(demo::make_with_model);
    assert_eq!(served.post("/features/0/label", "text=forms+of+do&author=ann").status, 303);
    let feature = served.json("/api/feature/demo/0-main/0");
    assert_eq!((&feature["index"], &feature["explanations"][0]["description"]), (&json!("0"), &json!("forms of do")));
    let activation = &feature["activations"][0];
    let place = activation["maxValueTokenIndex"].as_u64().unwrap() as usize;
    assert_eq!(activation["values"][place], activation["maxValue"]);

    let text = "Nobody did answer.";
    let names = json!({ "modelId": "demo", "source": "0-main" });
    let all = posted(&served, "/api/search-all", &json!({ "modelId": "demo", "sourceSet": "main", "text": text, "numResults": 5 }));
    let results = all["result"].as_array().unwrap();
    assert!(!results.is_empty() && results.len() <= 5 && all["tokens"][0] == "<|endoftext|>", "{all}");
    let tokens: String = all["tokens"].as_array().unwrap()[1..].iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(tokens, text);
    for result in results {
        assert_eq!(result["values"].as_array().unwrap().len(), all["tokens"].as_array().unwrap().len());
        let at = result["maxValueIndex"].as_u64().unwrap() as usize;
        assert_eq!(result["values"][at], result["maxValue"]);
        // One feature alone has the same values.
        let one = json!({ "feature": { "modelId": "demo", "source": "0-main", "index": result["index"] }, "customText": text });
        assert_eq!(posted(&served, "/api/activation/new", &one)["values"], result["values"]);
    }
    let maxima: Vec<f64> = results.iter().map(|r| r["maxValue"].as_f64().unwrap()).collect();
    assert!(maxima.windows(2).all(|w| w[0] >= w[1]), "strongest first: {maxima:?}");
    let at = 2;
    let sorted = posted(&served, "/api/search-all", &json!({ "modelId": "demo", "sourceSet": "main", "text": text, "sortIndexes": [at] }));
    let there: Vec<f64> = sorted["result"].as_array().unwrap().iter().map(|r| r["values"][at].as_f64().unwrap()).collect();
    assert!(!there.is_empty() && there.windows(2).all(|w| w[0] >= w[1]) && there.iter().all(|v| *v > 0.0), "{there:?}");
    let elsewhere = json!({ "modelId": "demo", "sourceSet": "main", "text": text, "selectedLayers": ["7-main"] });
    assert_eq!(posted(&served, "/api/search-all", &elsewhere)["result"], json!([]));

    let mut ask = names.clone();
    ask["text"] = text.into();
    ask["densityThreshold"] = (-1).into();
    ask["numResults"] = 2.into();
    let by_token = posted(&served, "/api/search-topk-by-token", &ask);
    let by_token = by_token["results"].as_array().unwrap();
    assert_eq!(by_token.len(), all["tokens"].as_array().unwrap().len());
    assert!(by_token[0]["topFeatures"] == json!([]) && by_token.iter().all(|t| t["topFeatures"].as_array().unwrap().len() <= 2));
    let mut ask = names;
    ask["customText"] = text.into();
    let source = posted(&served, "/api/activation/source", &ask);
    let first = &by_token[2]["topFeatures"][0];
    let pairs = source["results"][0]["activeFeatures"][first["featureIndex"].to_string()].as_array().unwrap();
    assert!(pairs.contains(&json!([2, first["activationValue"]])), "{first} {pairs:?}");

    let steer = |strength: f64| {
        let feature = json!({ "modelId": "demo", "layer": "0-main", "index": 0, "strength": strength });
        posted(
            &served,
            "/api/steer",
            &json!({ "prompt": "The captain", "modelId": "demo", "features": [feature], "n_tokens": 12, "seed": 3, "strength_multiplier": 2 }),
        )
    };
    let still = steer(0.0);
    assert_eq!(still["DEFAULT"], still["STEERED"], "strength 0 changes nothing");
    assert!(still["DEFAULT"].as_str().unwrap().starts_with("The captain"));
    assert_eq!(steer(500.0)["DEFAULT"], still["DEFAULT"]);
    assert_ne!(steer(500.0)["STEERED"], still["STEERED"]);

    let found = posted(&served, "/api/explanation/search", &json!({ "modelId": "demo", "layers": ["0-main"], "query": "do forms" }));
    assert_eq!((&found["results"][0]["index"], &found["resultsCount"], &found["hasMore"]), (&json!("0"), &json!(1), &json!(false)));
}

#[test]
fn what_neuronpedia_clients_get_wrong_is_told_to_them() {
    let served = Served::new(demo::make_with_model);
    for (path, status, said) in [
        ("/api/feature/gpt2-small/0-main/0", 404, "modelId is"),
        ("/api/feature/demo/6-res-jb/0", 404, "0-main"),
        ("/api/feature/demo/0-main/99", 404, "0 to 8"),
        ("/api/feature/demo/0-main/x", 404, "number"),
    ] {
        let answer = served.get(path);
        assert!(answer.status == status && answer.body.contains(said), "{path}: {} {}", answer.status, answer.body);
    }
    let feature = json!({ "modelId": "demo", "source": "0-main", "index": 1, "strength": 1 });
    let steer = |changes: Value| {
        let mut body = json!({ "prompt": "x", "modelId": "demo", "features": [feature] });
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        post(&served, "/api/steer", &body)
    };
    for (path, body, said) in [
        ("/api/explanation/search", json!({ "modelId": "demo", "query": "ab" }), "3 to"),
        ("/api/search-all", json!({ "modelId": "demo" }), "text"),
        ("/api/search-all", json!({ "modelId": "demo", "text": "x".repeat(2001) }), "2000"),
        ("/api/activation/new", json!({ "feature": feature, "customText": "" }), "1 to"),
    ] {
        let answer = post(&served, path, &body);
        assert!(answer.status == 400 && answer.body.contains(said), "{path}: {} {}", answer.status, answer.body);
    }
    for (changes, said) in [
        (json!({ "n_tokens": 100_000 }), "1 to 200"),
        (json!({ "stream": true }), "stream"),
        (json!({ "steer_method": "ORTHOGONAL_DECOMP" }), "SIMPLE_ADDITIVE"),
        (json!({ "features": [] }), "features"),
        (json!({ "features": [feature, feature] }), "twice"),
        (json!({ "temperature": -1 }), "0 to 5"),
    ] {
        let answer = steer(changes.clone());
        assert!(answer.status == 400 && answer.body.contains(said), "{changes}: {} {}", answer.status, answer.body);
    }
}
