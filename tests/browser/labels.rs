//! Labels in their place, lists, bookmarks.

use super::{Browser, Visit, demo, in_browser};
use fantoccini::Locator;
use fantoccini::key::Key;

#[test]
fn a_label_is_written_in_the_list_by_keyboard_and_another_author_s_stands_beside_it() {
    in_browser(
        |dir| demo::make(dir, false),
        async |browser: &Browser| -> Visit {
            browser.goto("/features").await?;
            browser.type_in("body", "jje").await?;
            browser.client.active_element().await?.send_keys("Ada").await?;
            browser.type_in(".inplace input[aria-label=Label]", "spans of time").await?;
            browser.type_in(".inplace input[aria-label=Label]", &(Key::Enter + "")).await?;
            browser.until(".list tr.here .name", "the label stands in its row", |t| t.starts_with("spans of time")).await?;
            browser.goto("/features/1").await?;
            assert_eq!(browser.text("h1").await?, "spans of time");
            // Ben writes his own; both are there, and Ada's is taken up again.
            for (field, text) in [("#text", "durations"), ("#author", "Ben")] {
                browser.client.find(Locator::Css(field)).await?.clear().await?;
                browser.type_in(field, text).await?;
            }
            browser.click(".labelform button").await?;
            browser.until("h1", "the newest heads the page", |t| t == "durations").await?;
            assert_eq!(browser.count(".labels li").await?, 2);
            browser.click(".labels li:last-child .edit").await?;
            assert_eq!(browser.client.find(Locator::Css("#author")).await?.prop("value").await?.as_deref(), Some("Ada"));
            browser.click(".labelform button[formaction]").await?;
            browser.until("h1", "undo takes Ben's back", |t| t == "spans of time").await?;
            let history = browser.text(".history").await?;
            assert!(history.contains("Ada") && !history.contains("Ben"), "{history}");
            Ok(())
        },
    );
}

#[test]
fn a_star_bookmarks_a_feature_and_a_list_gathers_features_and_neurons() {
    in_browser(
        |dir| demo::make(dir, true),
        async |browser: &Browser| -> Visit {
            browser.goto("/lists").await?;
            assert!(browser.text("main").await?.contains("Nothing is in a list yet"));
            browser.goto("/features/2").await?;
            browser.type_in("body", "b").await?;
            browser.until(".star", "the star is set", |t| t.contains('★')).await?;
            for path in ["/features/2", "/neurons/1"] {
                browser.goto(path).await?;
                browser.type_in("#list", "to look at").await?;
                browser.type_in("#list", &(Key::Enter + "")).await?;
                browser.until("aside .chips", "the list is named on the page", |t| t.contains("to look at")).await?;
            }
            browser.goto("/lists").await?;
            let lists = browser.text("main").await?;
            assert!(lists.contains("bookmarks") && lists.contains("to look at") && lists.contains("Neuron 1"), "{lists}");
            browser.goto("/features?list=to+look+at").await?;
            assert_eq!(browser.count(".list tbody tr").await?, 1);
            browser.goto("/features/2").await?;
            browser.click("aside .chips button").await?;
            browser.until("aside .chips", "it is taken out", |t| t.trim().is_empty()).await
        },
    );
}

#[test]
fn an_import_of_labels_is_taken_back_as_one_step_on_the_page() {
    in_browser(
        |dir| {
            let run = demo::make(dir, false);
            let mut labels = monosem::labels::Labels::open(&run.labels("main")).unwrap();
            labels.set("weights of main", 0, "mine", "Ada").unwrap();
            let defaults = monosem::labels::Import { weights_hash: "weights of main", n_units: 9, author: "Ben" };
            labels.import(monosem::labels::Format::Csv, "latent,text\n0,dogs\n1,cats\n2,owls\n", defaults).unwrap();
            run
        },
        async |browser: &Browser| -> Visit {
            browser.goto("/features/1").await?;
            browser.until("h1", "it came with the import", |t| t == "cats").await?;
            browser.click("button[formaction$='import=true']").await?;
            browser.until("h1", "it is gone", |t| t == "Feature 1").await?;
            browser.goto("/features?flag=labelled").await?;
            assert_eq!(browser.count(".list tbody tr").await?, 1, "and so are the others; what was there before stays");
            browser.goto("/lists").await?;
            browser.until(".steps", "what was labelled last", |t| t.contains("mine") && !t.contains("import")).await?;
            browser.click("form[action='/features/label/undo'] button").await?;
            browser.until("main", "nothing is left", |t| !t.contains("Labelled last")).await
        },
    );
}
