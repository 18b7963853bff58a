//! What stands beside each other: two dictionaries; the model's own neurons.

use super::{Browser, Visit, demo, in_browser};
use fantoccini::Locator;
use monosem::sae::{Origin, Sae};

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

#[test]
fn a_feature_that_another_dictionary_has_in_two_is_shown_as_split() {
    in_browser(
        |dir| {
            let run = demo::make_full(dir);
            // Latents 0 and 1 of the other lean to either side of 0 here; nothing there is like 1 here.
            let mut finer = Sae::load(&run.sae("main")).unwrap();
            let (d, aside) = (finer.d_in, finer.w_dec[2 * finer.d_in..3 * finer.d_in].to_vec());
            let whole = finer.w_dec[..d].to_vec();
            for (latent, sign) in [(0, 0.3), (1, -0.3)] {
                for i in 0..d {
                    finer.w_dec[latent * d + i] = whole[i] + sign * aside[i];
                }
            }
            let origin = Origin {
                model_name: "demo".into(),
                hook_name: "blocks.0.mlp.hook_post".into(),
                hook_name_out: None,
                context_size: demo::N_CTX,
                dataset: "demo".into(),
            };
            finer.save(&run.sae("finer"), &origin, &vec![0.5; 2 * d]).unwrap();
            run
        },
        async |browser: &Browser| -> Visit {
            browser.goto("/compare?with=finer").await?;
            browser.until(".figures", "the figures", |t| t.contains("split")).await?;
            let parts = "[...document.querySelectorAll('#split tbody td:nth-child(3) div')].map((d) => d.textContent.match(/\\d+/)[0]).sort().join() == '0,1'";
            browser.is_true("both parts are named", parts).await?;
            assert_eq!(browser.text("#split tbody td").await?, "2");
            assert_eq!(browser.count("#here a[href='/features/1']").await?, 1, "what is gone is only here");
            browser.click("#split tbody a").await?;
            browser.at("/features/0").await
        },
    );
}
