//! Watching a training that has not ended, and an SAE at moments of its training.

use super::{Browser, Visit, demo, in_browser};
use std::io::Write;

#[test]
fn a_training_that_goes_on_is_followed_and_its_slider_goes_back() {
    let lm = std::cell::RefCell::new(std::path::PathBuf::new());
    in_browser(
        |dir| {
            let run = demo::make(dir, false);
            let making = run.checkpoints("lm");
            std::fs::create_dir_all(&making).unwrap();
            std::fs::write(making.join("train.jsonl"), "{\"step\":10,\"tokens\":100,\"loss\":8.25}\n{\"step\":20,\"tokens\":200,\"loss\":7.5}\n")
                .unwrap();
            *lm.borrow_mut() = making;
            run
        },
        async |browser: &Browser| -> Visit {
            browser.goto("/training").await?;
            browser.until(".training summary small", "the last line", |t| t.starts_with("step 20") && t.contains("interrupted")).await?;
            browser.until(".training figcaption", "its loss", |t| t == "loss 7.5 nats per token").await?;
            let mut log = std::fs::OpenOptions::new().append(true).open(lm.borrow().join("train.jsonl")).unwrap();
            writeln!(log, "{{\"step\":30,\"tokens\":2000896,\"loss\":6.125}}").unwrap();
            browser.until(".training figcaption", "the new line comes by itself", |t| t.starts_with("loss 6.125 ")).await?;
            browser.until(".training summary small", "counts are exact", |t| t.starts_with("step 30, 2,000,896 tokens")).await?;
            browser.client.find(fantoccini::Locator::Css(".training input")).await?.send_keys(&(fantoccini::key::Key::Home + "")).await?;
            browser.until(".training figcaption", "the slider goes back", |t| t.starts_with("loss 8.25 ")).await?;
            // Axes have their ends and what they count.
            let axes = browser.client.find(fantoccini::Locator::Css(".plots svg")).await?.prop("textContent").await?.unwrap_or_default();
            assert!(axes.contains("tokens trained on") && axes.contains("8.25") && axes.contains("2M"), "{axes}");
            // While a process is at work on the run it is not interrupted.
            let run = monosem::artifact::RunDir { root: lm.borrow().parent().unwrap().parent().unwrap().into() };
            let lock = run.lock().unwrap();
            browser.until(".training summary small", "it goes on", |t| t.ends_with("; not finished")).await?;
            drop(lock);
            // It is finished: one curve, of what is finished.
            std::fs::create_dir_all(run.lm()).unwrap();
            std::fs::rename(lm.borrow().join("train.jsonl"), run.lm().join("train.jsonl")).unwrap();
            monosem::artifact::Manifest::new("lm", 1, serde_json::json!({}), 0).write(&run.lm()).unwrap();
            browser.until(".training summary small", "it has ended", |t| t.ends_with("; finished")).await?;
            // A training that replaces it stands beside it, and takes nothing away before it is done.
            std::fs::write(lm.borrow().join("train.jsonl"), "{\"step\":10,\"tokens\":100,\"loss\":9.5}\n").unwrap();
            browser.goto("/training").await?;
            browser.until(".training:last-child h2", "the new one", |t| t == "lm, anew").await?;
            browser.until(".training:last-child summary small", "is not finished", |t| t.ends_with("; interrupted")).await?;
            browser.until(".training:first-child summary small", "the old one is", |t| t.ends_with("; finished")).await
        },
    );
}

#[test]
fn the_slider_over_checkpoints_changes_the_table_and_follows_the_training() {
    let here = std::cell::RefCell::new(std::path::PathBuf::new());
    in_browser(
        |dir| {
            let run = demo::make_with_model(dir);
            std::fs::write(run.sae("main").join("train.jsonl"), "{\"step\":4,\"rows\":40,\"fvu\":0.5}\n").unwrap();
            *here.borrow_mut() = run.root.clone();
            run
        },
        async |browser: &Browser| -> Visit {
            use fantoccini::{Locator, key::Key};
            let run = monosem::artifact::RunDir { root: here.borrow().clone() };
            browser.goto("/training").await?;
            browser.until(".learning .when", "the newest", |t| t == "step 4 of 8, 50 %").await?;
            browser.until(".learning .come small", "it is the newest itself", |t| t == "1.00").await?;
            assert!(browser.count(".learning .livetext .t").await? > 5, "the first words of the corpus");
            let slider = browser.client.find(Locator::Css(".learning input[type=range]")).await?;
            slider.send_keys(&(Key::Home + "")).await?;
            browser.until(".learning .when", "the slider goes back", |t| t == "step 1 of 8, 12 %").await?;
            browser.until(".learning .figures-then", "the share that has been learnt", |t| !t.contains("100 % of 9")).await?;
            browser.until(".learning .come small", "directions were others then", |t| t != "1.00").await?;
            assert_eq!(slider.attr("aria-valuetext").await?.as_deref(), Some("step 1 of 8, 12 %"));
            // Under the pointer a row shades the text by its feature alone.
            browser.hover(".learning .firing tbody tr:last-child .name").await?;
            browser.is_true("shaded by one", "!document.querySelector('.learning .livetext').classList.contains('all')").await?;
            browser.is_true("where it fires", "document.querySelector('.learning .firing tbody tr:last-child').dataset.shades.split(' ').every((pair) => { const [at, shade] = pair.split(':'); return document.querySelector(`.learning .t[data-at='${at}']`).className == 't a' + shade; })").await?;
            browser.hover("h1").await?;
            browser.is_true("by all", "document.querySelector('.learning .livetext').classList.contains('all')").await?;
            // Other text, other features; what is typed never becomes markup.
            browser.paste_in(".learning textarea", " <b>Nobody</b> 🦉").await?;
            browser.until(".learning .livetext", "the text", |t| t.contains("<b>Nobody</b>") && t.contains("🦉")).await?;
            // The end of the training comes by itself; the slider stays where it was put, and goes to the new end.
            demo::finish(&run);
            browser.until(".learning .name", "the dictionary names features", |t| t != "no dictionary yet").await?;
            browser.until(".learning .when", "it stays", |t| t == "step 1 of 8, 12 %").await?;
            slider.send_keys(&(Key::End + "")).await?;
            browser.until(".learning .when", "the finished one", |t| t == "finished, 8 steps").await?;
            browser.until(".learning .come small", "it is the newest itself", |t| t == "1.00").await?;
            browser.client.set_window_size(420, 900).await?;
            assert!(browser.spill().await? <= 0, "no wider than a phone");
            Ok(())
        },
    );
}

#[test]
fn a_finished_sae_that_is_not_the_first_is_closed_and_asks_for_nothing_until_it_is_opened() {
    in_browser(
        |dir| {
            let run = demo::make_with_model(dir);
            demo::copy_sae(&run, "goes-on");
            demo::finish(&run);
            demo::copy_sae(&run, "other");
            run
        },
        async |browser: &Browser| -> Visit {
            browser.goto("/training").await?;
            browser.until(".learning[data-sae=main] .come small", "the first is open", |t| t == "1.00").await?;
            browser.until(".learning[data-sae=goes-on] .come small", "and what is not finished", |t| t == "1.00").await?;
            browser.until(".learning[data-sae=other] .when", "it says how far it is", |t| t == "finished, 8 steps").await?;
            assert_eq!(browser.count(".learning[data-sae=other] .livetext").await?, 0, "nothing was asked for it");
            browser.click(".learning[data-sae=other] summary").await?;
            browser.until(".learning[data-sae=other] .come small", "now it was", |t| t == "1.00").await
        },
    );
}
