//! Text that breaks careless pages: every script and control character there is, a token of 10,000 characters, a site that no server serves.

use super::{Browser, Visit, demo, in_browser};
use fantoccini::Locator;
use monosem::artifact::{RunDir, Silent};
use monosem::corpus::{TokenStream, Tokenizer};
use monosem::features::export::{Format, Source, export};
use monosem::features::text::StreamText;
use monosem::features::{Dictionary, import};
use std::path::{Path, PathBuf};

const LONG: usize = 10_000;

/// A dictionary of another program, whose tokens are whatever it says.
fn imported(dir: &Path) -> RunDir {
    let long = "\u{5d0}".repeat(LONG);
    let tokens = [
        "</script><script>alert(1)</script>",
        &long,
        " \u{4e2d}\u{6587}",
        " \u{645}\u{631}\u{62d}\u{628}\u{627}",
        "\u{1f989}",
        "\u{0}\u{7}\t\n",
        "end",
    ];
    let batch = serde_json::json!({
        "model_id": "m", "layer": 0, "sae_set": "s", "features": [{
            "feature_index": 0, "neg_str": ["a"], "neg_values": [-1.0], "pos_str": [long, "<b>"], "pos_values": [2.0, 1.0],
            "frac_nonzero": 0.25, "freq_hist_data_bar_values": [0.5, 1.5], "freq_hist_data_bar_heights": [4, 1],
            "n_prompts_total": 10, "n_tokens_in_prompt": 16, "dataset": "d",
            "activations": [{
                "bin_min": -1, "bin_max": 2.0, "bin_contains": -1, "tokens": tokens, "values": [0.5, 2.0, 0.0, 0.25, 1.0, 0.0, 0.0], "qualifying_token_index": 1,
            }],
        }],
    });
    let folder = dir.join("dump");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("batch-0.json"), batch.to_string()).unwrap();
    let run = RunDir::new(dir, "odd");
    import::write_run(&import::read(&folder).unwrap(), &run).unwrap();
    run
}

#[test]
fn a_token_of_ten_thousand_letters_among_scripts_and_control_characters_is_a_page_like_any() {
    in_browser(imported, async |browser: &Browser| -> Visit {
        for width in [1200, 500] {
            browser.client.set_window_size(width, 900).await?;
            browser.goto("/features/0").await?;
            assert!(browser.client.get_alert_text().await.is_err(), "text of a document must not run");
            let token = browser.client.find(Locator::Css(".group .t.fires")).await?;
            let text = token.prop("textContent").await?.unwrap_or_default();
            assert_eq!(text.chars().filter(|c| *c == '\u{5d0}').count(), LONG);
            let context = browser.client.find(Locator::Css(".group .ctx")).await?.prop("textContent").await?.unwrap_or_default();
            for part in ["</script><script>", "\u{4e2d}\u{6587}", "\u{645}\u{631}\u{62d}\u{628}\u{627}", "\u{1f989}", "end"] {
                assert!(context.contains(part), "{part}");
            }
            assert!(browser.spill().await? <= 0, "{} px too wide at {width}", browser.spill().await?);
            browser.goto("/features").await?;
            assert!(browser.spill().await? <= 0, "the list is {} px too wide at {width}", browser.spill().await?);
        }
        Ok(())
    });
}

#[test]
fn an_exported_site_is_read_and_searched_from_its_files_alone() {
    let site = std::cell::RefCell::new(PathBuf::new());
    in_browser(
        |dir| {
            let run = demo::make(dir, false);
            let dictionary = Dictionary::open(&run.features("main")).unwrap();
            let stream = TokenStream::open(&run.tokens()).unwrap();
            let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).unwrap();
            let source = Source {
                dictionary: &dictionary,
                text: &StreamText { stream: &stream, tokenizer: &tokenizer },
                labels: &[],
                directions: None,
                lm: None,
                model_id: "demo".into(),
                set: "main".into(),
                dataset: "demo text".into(),
                created_at: "2026-01-02T03:04:05Z".into(),
            };
            export(Format::Site, &source, &dir.join("site"), &mut Silent).unwrap();
            *site.borrow_mut() = dir.join("site/index.html");
            run
        },
        async |browser: &Browser| -> Visit {
            browser.client.goto(&format!("file://{}", site.borrow().display())).await?;
            browser.until("#about", "what it is", |t| t.contains("9 latents of demo")).await?;
            assert_eq!(browser.count("tbody tr").await?, 9);
            browser.type_in("#search", "centuries").await?;
            browser.until("#main .quiet", "fewer are found", |t| !t.starts_with("9 of") && t.contains("of 9")).await?;
            browser.click("tbody tr:first-child a").await?;
            browser.until("h1", "a latent's page", |t| t.starts_with("latent ")).await?;
            assert!(browser.count(".context .fires").await? > 0, "with its contexts");
            browser.click("a[rel=next]").await?;
            browser.until("h1", "the next", |t| t.starts_with("latent ")).await
        },
    );
}
