//! What stands beside each other: two dictionaries; the model's own neurons.

use super::{Browser, Visit, demo, in_browser};
use fantoccini::Locator;

#[test]
fn a_dictionary_beside_another_of_the_same_weights_matches_and_has_nothing_new() {
    in_browser(
        |dir| {
            let run = demo::make_full(dir);
            std::fs::create_dir_all(run.sae("twin")).unwrap();
            for file in std::fs::read_dir(run.sae("main")).unwrap().flatten().filter(|f| f.path().is_file()) {
                std::fs::copy(file.path(), run.sae("twin").join(file.file_name())).unwrap();
            }
            run
        },
        async |browser: &Browser| -> Visit {
            browser.goto("/compare").await?;
            browser.until("select[name=with]", "the other is offered", |t| t.contains("twin")).await?;
            browser.click("form.bar button.main").await?;
            browser.until(".figures", "the figures", |t| t.contains("matched") && t.contains("mean max cosine") && t.contains("1.00")).await?;
            // Eight of the nine are alive.
            assert_eq!(browser.count("#matched tbody tr").await?, 8);
            browser.until("#here", "nothing is lost", |t| t.contains("None.")).await?;
            let ours = browser.text("#matched tbody tr:first-child a").await?;
            browser.click("#matched tbody tr:first-child a").await?;
            browser.at(&format!("/features/{ours}")).await
        },
    );
}

#[test]
fn neurons_are_sorted_by_how_much_they_mix_and_each_page_says_what() {
    in_browser(demo::make_full, async |browser: &Browser| -> Visit {
        browser.goto("/neurons?sort=mixed&flag=alive").await?;
        let first = browser.text(".list tbody tr:first-child a").await?;
        browser.click(".list tbody tr:first-child a").await?;
        browser.at(&format!("/neurons/{first}")).await?;
        browser.until("h1", "a neuron", |t| t.starts_with("Neuron")).await?;
        browser.until("#about", "shares of its activation", |t| t.contains("What its activation falls on") && t.contains(" %")).await?;
        assert!(browser.count(".group .t.fires").await? > 0, "its contexts are there");
        Ok(())
    });
}

#[test]
fn an_sae_beside_a_snapshot_of_its_own_training_says_what_was_kept_and_what_is_new() {
    in_browser(demo::make_full, async |browser: &Browser| -> Visit {
        browser.goto("/compare").await?;
        browser.client.find(Locator::Css("select[name=with]")).await?.select_by_label("main@4").await?;
        browser.click("form.bar button.main").await?;
        browser.until(".figures", "the figures", |t| t.contains("matched") && t.contains("only here") && t.contains("mean max cosine")).await?;
        let near = browser.count("#matched tbody tr").await?;
        browser.client.find(Locator::Css("select[name=with]")).await?.select_by_label("main@1").await?;
        browser.click("form.bar button.main").await?;
        browser.is_true("the earlier one is asked for", "location.search.includes('main%401')").await?;
        browser.until(".figures", "its figures", |t| t.contains("matched")).await?;
        // Noise of twice the size was taken away since: less of it is the same.
        assert!(browser.count("#matched tbody tr").await? <= near && browser.count("#here tbody tr, #there tbody tr").await? > 0);
        Ok(())
    });
}
