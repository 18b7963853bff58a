//! Search as you type, filters, saved views.

use super::{Browser, Visit, demo, in_browser};
use fantoccini::Locator;
use fantoccini::key::Key;
use monosem::artifact::RunDir;
use monosem::features::import;
use std::path::Path;

#[test]
fn what_is_typed_into_the_search_box_is_found_in_labels_tokens_and_contexts_and_opened_by_keyboard() {
    in_browser(
        |dir| {
            let run = demo::make(dir, true);
            let mut labels = monosem::labels::Labels::open(&run.labels(monosem::features::NEURONS)).unwrap();
            labels.set("weights of neurons", 2, "a mixture of scripts", "Ada").unwrap();
            run
        },
        async |browser: &Browser| -> Visit {
            browser.goto("/live").await?;
            browser.type_in("body", "/").await?;
            browser.client.active_element().await?.send_keys("e").await?;
            browser.until("#found", "tokens are found", |t| t.contains("Tokens") && t.contains("of it")).await?;
            browser.type_in("#search", &(Key::Backspace + "did not answer")).await?;
            browser.until("#found", "words of a context are found", |t| t.contains("Contexts") && t.contains("did not answer")).await?;
            // Down to the first hit and Enter: its page.
            browser.type_in("#search", &(Key::Down + "")).await?;
            let first = browser.text("#found a.here b").await?;
            browser.type_in("#search", &(Key::Enter + "")).await?;
            browser.at(&format!("/features/{first}")).await?;
            // A label is found as soon as it is written.
            browser.type_in("#text", "Hebrew letters").await?;
            browser.type_in("#author", "Ada").await?;
            browser.click(".labelform button").await?;
            browser.until("h1", "the label heads the page", |t| t == "Hebrew letters").await?;
            browser.type_in("#search", "hebrew let").await?;
            browser.until("#found", "the label is found", |t| t.contains("Labels") && t.contains("Hebrew letters")).await?;
            browser.type_in("#search", &(Key::Escape + "")).await?;
            assert!(!browser.client.find(Locator::Css("#found")).await?.is_displayed().await?, "Escape closes");
            // A neuron by what somebody says of it.
            browser.client.find(Locator::Css("#search")).await?.clear().await?;
            browser.type_in("#search", "mixture").await?;
            browser.until("#found", "the neuron is found", |t| t.contains("Neurons") && t.contains("a mixture of scripts")).await?;
            assert_eq!(browser.count("#found a[href='/neurons/2']").await?, 1);
            browser.client.find(Locator::Css("#search")).await?.clear().await?;
            browser.type_in("#search", "zzqq").await?;
            browser.until("#found", "nothing is said to be nothing", |t| t.contains("Nothing has")).await
        },
    );
}

#[test]
fn a_list_is_narrowed_by_density_token_and_flags_and_its_address_gives_the_same_view_again() {
    in_browser(
        |dir| demo::make(dir, false),
        async |browser: &Browser| -> Visit {
            browser.goto("/features").await?;
            assert_eq!(browser.count(".list tbody tr").await?, 9);
            browser.click(".more summary").await?;
            browser.type_in("input[name=from]", "5").await?;
            browser.until("#rows .faint", "only frequent ones are left", |t| !t.starts_with("9 of 9")).await?;
            let dense = browser.count(".list tbody tr").await?;
            assert!((1..9).contains(&dense));
            browser.type_in("input[name=token]", "e").await?;
            browser.click("#rows .chip[href*='token=e'][href*='flag=alive']").await?;
            browser.until("#rows .chip[aria-current]", "the chip is set", |t| t.starts_with("alive")).await?;
            let url = browser.client.current_url().await?;
            let query = url.query().unwrap_or_default().to_string();
            assert!(query.contains("from=5") && query.contains("token=e") && query.contains("flag=alive"), "{query}");
            browser.until("#rows .faint", "the rows are those of the filter", |t| t.contains(" of 9")).await?;
            let rows = browser.text("#rows").await?;
            browser.goto("/").await?;
            browser.goto(&format!("/features?{query}")).await?;
            assert_eq!(browser.text("#rows").await?, rows, "the address is the view");
            // j walks to a row, Enter opens it.
            browser.type_in("body", "j").await?;
            browser.client.active_element().await?.send_keys(&(Key::Enter + "")).await?;
            browser.text(".facts").await.map(|_| ())
        },
    );
}

#[test]
fn a_list_is_searched_sorted_filtered_by_score_author_and_label_and_its_view_is_in_the_address() {
    in_browser(
        |dir| {
            let run = demo::make(dir, false);
            let best: Vec<(u32, String, f64)> = vec![(0, "forms of do".into(), 0.9), (1, "time".into(), 0.6), (7, "pronouns".into(), 0.95)];
            monosem::features::store::set_concepts(&run.features("main"), &best).unwrap();
            let mut labels = monosem::labels::Labels::open(&run.labels("main")).unwrap();
            for (latent, author) in [(0, "Ada"), (1, "Ben"), (2, "Ada")] {
                labels.set("weights of main", latent, "a label", author).unwrap();
            }
            run
        },
        async |browser: &Browser| -> Visit {
            let listed = |expected: &'static str| {
                format!("[...document.querySelectorAll('.list tbody td:first-child a')].map((a) => a.textContent).join() == '{expected}'")
            };
            browser.goto("/features").await?;
            // Words of a context and of a concept.
            browser.type_in("#q", "pronouns").await?;
            browser.is_true("by its concept", &listed("7")).await?;
            browser.client.find(Locator::Css("#q")).await?.clear().await?;
            browser.type_in("#q", "did not answer").await?;
            browser.until("#rows .faint", "words of a context", |t| t.contains("with this text")).await?;
            browser.client.find(Locator::Css("#q")).await?.clear().await?;
            browser.type_in("#q", " ").await?;
            browser.click(".more summary").await?;
            browser.type_in("input[name=f1]", "0.8").await?;
            browser.is_true("those of this score", &listed("0,7")).await?;
            browser.client.find(Locator::Css("select[name=author]")).await?.select_by_label("Ada").await?;
            browser.is_true("and this author", &listed("0")).await?;
            browser.client.find(Locator::Css("input[name=f1]")).await?.clear().await?;
            browser.type_in("input[name=f1]", " ").await?;
            browser.is_true("of any score", &listed("0,2")).await?;
            browser.client.find(Locator::Css("select[name=author]")).await?.select_by_value("").await?;
            browser.click("#rows .chip[href*='flag=unlabelled']").await?;
            browser.is_true("those without a label", &listed("3,4,5,6,7,8")).await?;
            // The head of a column sorts by it, once more the other way.
            browser.click("th a[href*='sort=dense']").await?;
            browser.is_true("the most frequent", "document.querySelector('.list tbody a').textContent == '5'").await?;
            browser.click("th a[href*='sort=rare']").await?;
            browser.is_true("the rarest", "document.querySelector('.list tbody a').textContent == '4'").await?;
            browser.is_true("and says so", "document.querySelector('th[aria-sort=ascending]').textContent.includes('density')").await
        },
    );
}

#[test]
fn a_long_list_has_pages_and_search_has_one_of_its_own() {
    in_browser(many, async |browser: &Browser| -> Visit {
        let first = "document.querySelector('.list tbody a').textContent";
        browser.goto("/features?sort=max").await?;
        assert_eq!(browser.count(".list tbody tr").await?, 50);
        browser.is_true("falling by the largest", &format!("{first} == '119'")).await?;
        browser.click(".pages a[rel=next]").await?;
        browser.is_true("the next fifty", &format!("{first} == '69' && location.search.includes('sort=max')")).await?;
        browser.click(".pages a[rel=next]").await?;
        assert_eq!(browser.count(".list tbody tr").await?, 20);
        assert_eq!(browser.count(".pages a[rel=next]").await?, 0, "there is no more");
        browser.click(".pages a[rel=prev]").await?;
        browser.is_true("back", &format!("{first} == '69'")).await?;
        // Opened by its address, search is a page like any other, and whole words come first.
        browser.goto("/search?q=word").await?;
        browser.until("h1", "a page", |t| t == "Features with \u{201c}word\u{201d}").await?;
        browser.is_true("the style sheet is there", "getComputedStyle(document.querySelector('h1')).fontFamily.includes('serif')").await?;
        assert_eq!(browser.text(".list tbody tr:first-child .name .tok").await?.trim(), "word");
        browser.click(".list tbody tr:first-child a").await?;
        browser.at("/features/3").await
    });
}

/// A dictionary of 120 features, as another program would write it; feature 3 fires on "word", the others on "wordsN".
fn many(dir: &Path) -> RunDir {
    let feature = |i: usize| {
        let token = if i == 3 { " word".to_string() } else { format!(" words{i}") };
        let act = 1.0 + i as f64 / 100.0;
        serde_json::json!({
            "feature_index": i, "neg_str": ["a"], "neg_values": [-1.0], "pos_str": ["b"], "pos_values": [1.0], "frac_nonzero": 0.01,
            "freq_hist_data_bar_values": [0.5, 1.5], "freq_hist_data_bar_heights": [4, 1], "n_prompts_total": 10, "n_tokens_in_prompt": 16, "dataset": "d",
            "activations": [{
                "bin_min": -1, "bin_max": act, "bin_contains": -1, "tokens": ["the", token, "."], "values": [0.0, act, 0.0], "qualifying_token_index": 1,
            }],
        })
    };
    let batch = serde_json::json!({ "model_id": "m", "layer": 0, "sae_set": "s", "features": (0..120).map(feature).collect::<Vec<_>>() });
    let folder = dir.join("dump");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("batch-0.json"), batch.to_string()).unwrap();
    let run = RunDir::new(dir, "many");
    import::write_run(&import::read(&folder).unwrap(), &run).unwrap();
    run
}
