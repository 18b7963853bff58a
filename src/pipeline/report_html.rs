//! The report as one self-contained page.

use super::ConceptGap;
use super::plot::{self, Series};
use super::report::Report;
use super::report_text::{around, best_first, census_line, examples};
use crate::artifact::grouped;
use crate::features::exam::{ConceptScore, MIN_POSITIVES, N_DRAWS};
use crate::features::render::plain;
use crate::features::store::FeatureDetail;
use askama::Template;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    title: String,
    /// Parameters, tokens and rows, for reading.
    size: (String, String, String),
    figures: Vec<(&'static str, String, String)>,
    splices: Vec<Splice>,
    plots: Vec<String>,
    min_positives: u64,
    concepts: Vec<Row>,
    has_probe: bool,
    n_draws: usize,
    has_untrained: bool,
    features: Vec<Card>,
    neuron: Option<Card>,
    took: String,
    /// Latents and neurons by category.
    census: (String, String),
}

struct Splice {
    name: String,
    gap: String,
    zero: String,
    mean: String,
}

struct Row {
    name: String,
    kind: String,
    n: u64,
    latent: String,
    cells: Vec<Cell>,
    forms: String,
    /// Nats, or nothing where there is no gap to tell.
    gap: String,
}

struct Cell {
    text: String,
    good: bool,
}

struct Card {
    title: String,
    note: String,
    contexts: Vec<Context>,
    promoted: String,
}

struct Context {
    act: String,
    before: String,
    token: String,
    after: String,
}

impl Report {
    /// One HTML file: no script, no style sheet or picture from elsewhere.
    pub fn html(&self) -> String {
        let any = |test: &dyn Fn(&ConceptScore) -> bool| self.exam.concepts.iter().any(test);
        let (has_probe, has_untrained) = (any(&|c| c.probe.is_some()), any(&|c| c.untrained.is_some()));
        let page = Page {
            report: self,
            title: format!("Monosem: {}", self.run),
            size: (grouped(self.lm.n_params), grouped(self.lm.tokens), grouped(self.sae.rows)),
            figures: self.figures(),
            splices: self.splices(),
            plots: self.plots(),
            min_positives: MIN_POSITIVES,
            concepts: best_first(&self.exam.concepts)
                .into_iter()
                .map(|c| row(c, self.gaps.iter().find(|g| g.concept == c.concept), has_probe, has_untrained))
                .collect(),
            has_probe,
            n_draws: N_DRAWS,
            has_untrained,
            features: self.features.iter().map(|f| card("feature", f)).collect(),
            neuron: self.neuron.as_ref().map(|n| card("neuron", n)),
            took: format!("{:.0} s", self.seconds()),
            census: (census_line(&self.dictionary.census), census_line(&self.neuron_census)),
        };
        page.render().expect("the template is checked when the program is built")
    }

    fn figures(&self) -> Vec<(&'static str, String, String)> {
        let (eval, ce) = (&self.evaluated.eval, &self.evaluated.controls.sae);
        let percent = |x: f64| format!("{:.1} %", 100.0 * x);
        let share = |x: Option<f64>| x.map_or("-".into(), percent);
        let bayes = self.corpus.bayes_nats_per_token.map(|b| format!("nats per token; the generator itself needs {b:.3}"));
        let mut figures = vec![
            ("held-out loss", format!("{:.3}", self.lm.held_out_loss), bayes.unwrap_or("nats per token".into())),
            ("L0", format!("{:.1}", eval.l0), format!("of {} latents active per token", eval.n_latents)),
            (
                "CE recovered",
                share(ce.ce_recovered_zero),
                format!("against zeroing {}; {} against the mean; gap {:.4} nat", self.sae.hook, share(ce.ce_recovered_mean), ce.gap_nats),
            ),
            ("explained variance", percent(eval.explained_variance), format!("on {} held-out tokens", grouped(eval.n_eval_tokens))),
            (
                "dead",
                percent(eval.dead_frac),
                format!(
                    "on as many; ultra-rare {}, junk {}",
                    eval.ultra_rare_frac.map_or("not told".into(), percent),
                    eval.junk_frac.map_or("-".into(), percent)
                ),
            ),
            (
                "concepts found",
                format!("{} of {}", self.summary.by_union, self.summary.n_scored),
                format!("{} by one latent; {} decided by context", self.summary.by_one_latent, self.summary.by_union_from_context),
            ),
        ];
        if let Some(s) = &self.summary.senses {
            let beside = format!("median AUC at the same token, chance 0.5; neuron {:.2}, random {:.2}", s.neuron, s.random);
            figures.push(("two senses told apart", format!("{:.2}", s.latent), beside));
        }
        figures
    }

    fn splices(&self) -> Vec<Splice> {
        let controls = &self.evaluated.controls;
        let share = |x: Option<f64>| x.map_or("-".into(), |x| format!("{:.1} %", 100.0 * x));
        let splice = |name: String, gap: f64, zero, mean| Splice { name, gap: format!("{gap:.4}"), zero: share(zero), mean: share(mean) };
        let (sae, neurons, random) = (&controls.sae, &controls.largest_neurons, &controls.random_decoder);
        vec![
            splice("this SAE".into(), sae.gap_nats, sae.ce_recovered_zero, sae.ce_recovered_mean),
            splice(
                format!("the {} largest neurons, {}", neurons.k, neurons.rest.in_words()),
                neurons.gap_nats,
                neurons.ce_recovered_zero,
                neurons.ce_recovered_mean,
            ),
            splice("random decoder, equal L0".into(), random.gap_nats, random.ce_recovered_zero, random.ce_recovered_mean),
        ]
    }

    fn plots(&self) -> Vec<String> {
        let curves = &self.curves;
        // Entry 0 never fired, entry 1 is below 1e-7, then a decade each up to 1.
        let histogram: Vec<f64> = self.evaluated.eval.density_histogram.iter().map(|&n| n as f64).collect();
        let edges: Vec<f64> = (0..=histogram.len()).map(|i| i as f64 - histogram.len() as f64).collect();
        let lm = [Series::new("training", curves.lm.clone()), Series::new("held out", curves.lm_held_out.clone())];
        vec![
            plot::lines("Loss of the language model", "tokens", "nats per token", &lm),
            plot::lines("Fraction of variance unexplained", "rows", "FVU", &[Series::new("FVU", curves.fvu.clone())]),
            plot::lines("Dead latents while training", "rows", "share", &[Series::new("dead", curves.dead.clone())]),
            plot::histogram(
                &format!("Latents by density on {} tokens", grouped(self.evaluated.eval.n_eval_tokens)),
                "log10 density (first bar: never fired)",
                "latents",
                &edges,
                &histogram,
            ),
        ]
    }
}

fn row(score: &ConceptScore, gap: Option<&ConceptGap>, has_probe: bool, has_untrained: bool) -> Row {
    let cell = |x: f64| match score.too_rare {
        false => Cell { text: format!("{x:.2}"), good: x >= super::exam::FOUND },
        true => Cell { text: "-".into(), good: false },
    };
    let mut cells = vec![cell(score.latents.f1()), cell(score.latents.union.f1_b), cell(score.neurons.f1()), cell(score.neurons.union.f1_b)];
    let chance = score.chance();
    let random = if score.too_rare { cell(0.0) } else { Cell { text: chance.to_string(), ..cell(chance.mean) } };
    cells.extend([random, cell(score.token_only)]);
    let optional = |x: Option<f64>| x.map_or(Cell { text: "-".into(), good: false }, cell);
    if has_untrained {
        cells.push(optional(score.untrained.as_ref().map(|f| f.f1())));
    }
    if has_probe {
        cells.push(optional(score.probe));
    }
    Row {
        name: score.concept.clone(),
        kind: match score {
            _ if score.too_rare => format!("{}, too rare", score.kind),
            _ if score.from_context && score.kind != "context" => format!("{}, by context", score.kind),
            _ => score.kind.clone(),
        },
        n: score.n_pos.1,
        latent: score.latents.ranked.first().filter(|_| !score.too_rare).map_or("-".into(), |u| u.id.to_string()),
        cells,
        forms: if score.too_rare { "-".into() } else { score.n_forms_found.to_string() },
        gap: gap.map_or(String::new(), |g| format!("{:.2}", g.nats())),
    }
}

fn card(what: &str, feature: &FeatureDetail) -> Card {
    let summary = &feature.summary;
    let contexts = examples(feature).into_iter().map(|(_, example)| {
        let (before, token, after) = around(example, 24, 12);
        Context { act: format!("{:.2}", example.act), before, token, after }
    });
    Card {
        title: format!("{what} {}", summary.neuron.unwrap_or(summary.id)),
        note: format!(
            "on {:.3} % of tokens{}",
            100.0 * summary.density,
            summary.concept.as_ref().map(|c| format!(" · {} (F1 {:.2})", c.name, c.f1)).unwrap_or_default()
        ),
        contexts: contexts.collect(),
        promoted: feature.logits_up.iter().take(8).map(|l| plain(&l.token.bytes).replace(' ', "·")).collect::<Vec<_>>().join("  "),
    }
}
