//! The report on a terminal.

use super::exam::{FOUND, WORSE};
use super::report::Report;
use super::stages::Took;
use crate::artifact::grouped;
use crate::features::exam::{ConceptScore, MAX_UNION, MAX_UNION_OF_KIND, MIN_POSITIVES, N_DRAWS};
use crate::features::render::plain;
use crate::features::store::{CategoryCount, Example, FeatureDetail, GroupKind};
use std::fmt::Write;

/// Characters shown before a firing token.
const WIDTH_BEFORE: usize = 48;
/// Concepts listed at most; the JSON and the page have all.
const N_CONCEPTS: usize = 40;

impl Report {
    /// The report as lines of at most some 120 columns. `colour` marks firing tokens in orange, otherwise they stand in [brackets].
    pub fn text(&self, colour: bool) -> String {
        let mut out = String::new();
        self.write_text(&mut out, colour).expect("writing to a string cannot fail");
        out
    }

    fn write_text(&self, out: &mut String, colour: bool) -> std::fmt::Result {
        let (corpus, lm, sae) = (&self.corpus, &self.lm, &self.sae);
        writeln!(out, "{} (seed {})", self.run, self.seed)?;
        writeln!(
            out,
            "  text      {} documents, {} tokens ({} held out), vocabulary {}",
            grouped(corpus.documents),
            grouped(corpus.tokens),
            grouped(corpus.held_out_tokens),
            corpus.d_vocab
        )?;
        let bayes = corpus.bayes_nats_per_token.map(|b| format!("; the generator itself needs {b:.3}")).unwrap_or_default();
        writeln!(
            out,
            "  model     {} parameters, {} tokens: held-out loss {:.3} nats per token{bayes}",
            grouped(lm.n_params),
            grouped(lm.tokens),
            lm.held_out_loss
        )?;
        writeln!(out, "  SAE       {} -> {} at {}, {} rows", sae.d_in, sae.d_sae, sae.hook, grouped(sae.rows))?;
        self.write_quality(out)?;
        self.write_exam(out)?;
        for feature in &self.features {
            write_feature(out, "feature", feature, colour)?;
        }
        if let Some(neuron) = &self.neuron {
            write_feature(out, "the most polysemantic neuron:", neuron, colour)?;
        }
        let seconds = |s: Option<f64>| s.map_or("-".into(), |s| format!("{s:.0} s"));
        let fresh = |t: &Took| if t.seconds.is_none() { " before" } else { "" };
        let stages: Vec<String> = self.took.iter().map(|t| format!("{} {}{}", t.stage.name(), seconds(t.made_in), fresh(t))).collect();
        writeln!(out, "\n{:.0} s of work: {}", self.seconds(), stages.join(", "))
    }

    fn write_quality(&self, out: &mut String) -> std::fmt::Result {
        let (eval, controls) = (&self.evaluated.eval, &self.evaluated.controls);
        let (ce, neurons, random) = (&controls.sae, &controls.largest_neurons, &controls.random_decoder);
        let share = |x: Option<f64>| x.map_or("-".into(), |x| format!("{:.1} %", 100.0 * x));
        writeln!(
            out,
            "  quality   L0 {:.1}, explained variance {:.1} %, on {} held-out tokens",
            eval.l0,
            100.0 * eval.explained_variance,
            grouped(eval.n_eval_tokens)
        )?;
        writeln!(
            out,
            "            dead {:.1} %{}, junk {:.1} % of {} latents",
            100.0 * eval.dead_frac,
            eval.ultra_rare_frac.map_or(String::new(), |share| format!(", ultra-rare {:.1} %", 100.0 * share)),
            100.0 * eval.junk_frac.unwrap_or(0.0),
            grouped(eval.n_latents)
        )?;
        for (name, census) in [("latents", &self.dictionary.census), ("neurons", &self.neuron_census)] {
            if !census.is_empty() {
                writeln!(out, "            {name}, each once, by the first that holds: {}", census_line(census))?;
            }
        }
        writeln!(
            out,
            "  CE        clean {:.4}, zero {:.4}, mean {:.4} nats on {} tokens",
            ce.ce_clean,
            ce.ce_zero,
            ce.ce_mean,
            grouped(ce.n_tokens)
        )?;
        writeln!(out, "            {:<28}{:>9}{:>15}{:>15}", "spliced in", "gap, nats", "recovered/zero", "recovered/mean")?;
        let largest = format!("{} neurons, {}", neurons.k, neurons.rest.in_words());
        let rows = [
            ("this SAE", ce.gap_nats, ce.ce_recovered_zero, ce.ce_recovered_mean),
            (largest.as_str(), neurons.gap_nats, neurons.ce_recovered_zero, neurons.ce_recovered_mean),
            ("random decoder, equal L0", random.gap_nats, random.ce_recovered_zero, random.ce_recovered_mean),
        ];
        for (name, gap, zero, mean) in rows {
            writeln!(out, "            {name:<28}{gap:>9.4}{:>15}{:>15}", share(zero), share(mean))?;
        }
        Ok(())
    }

    fn write_exam(&self, out: &mut String) -> std::fmt::Result {
        let (summary, exam) = (&self.summary, &self.exam);
        writeln!(
            out,
            "\nexam: {} concepts, chosen on {} tokens, scored once on {} others",
            summary.n_scored,
            grouped(exam.n_tokens.0),
            grouped(exam.n_tokens.1)
        )?;
        writeln!(
            out,
            "  F1 >= {FOUND}: {} by one latent (the best neuron lower by {WORSE} for {} of these), {} by a union ({} of these decided by context)",
            summary.by_one_latent, summary.neuron_clearly_worse, summary.by_union, summary.by_union_from_context
        )?;
        if summary.n_negatives > 0 {
            writeln!(
                out,
                "  negatives no better than chance (shuffled model or random directions): {} of {}",
                summary.negatives_at_chance, summary.n_negatives
            )?;
        }
        if let Some(senses) = &summary.senses {
            writeln!(
                out,
                "  senses of {} words with two, median AUC at the same token (chance 0.5): latent {:.2}, neuron {:.2}, random direction {:.2}",
                senses.n / 2,
                senses.latent,
                senses.neuron,
                senses.random
            )?;
        }
        if summary.n_too_rare > 0 {
            writeln!(out, "  too rare to count: {} more with fewer than {MIN_POSITIVES} tokens in one of the halves", summary.n_too_rare)?;
        }
        self.write_concepts(out)
    }

    fn write_concepts(&self, out: &mut String) -> std::fmt::Result {
        let exam = &self.exam;
        writeln!(
            out,
            "  F1 on text that chose nothing, tokens: its positives there. latent, F1: the best one; union: of at most {MAX_UNION} (of a kind of document {MAX_UNION_OF_KIND});"
        )?;
        writeln!(
            out,
            "  neuron, n.union: the same search over neurons; random: over as many random directions, mean and standard deviation of {N_DRAWS} draws;"
        )?;
        writeln!(out, "  token: the best guess from the token alone; forms: words of the concept that the latent answers to")?;
        write!(
            out,
            "  {:<28}{:>8}{:>8}{:>7}{:>7}{:>7}{:>8}{:>8}{:>13}{:>7}{:>7}",
            "concept", "kind", "tokens", "latent", "F1", "union", "neuron", "n.union", "random", "token", "forms"
        )?;
        let full = exam.concepts.iter().any(|s| s.untrained.is_some() || s.probe.is_some());
        write!(out, "{}", if full { format!("{:>10}{:>7}", "shuffled", "probe") } else { String::new() })?;
        writeln!(out, "{}", if self.gaps.is_empty() { String::new() } else { format!("{:>8}", "gap") })?;
        for score in best_first(&exam.concepts).into_iter().take(N_CONCEPTS) {
            let latent = score.latents.ranked.first().map_or("-".into(), |u| u.id.to_string());
            let name: String = score.concept.chars().take(27).collect();
            if score.too_rare {
                writeln!(
                    out,
                    "  {name:<28}{:>8}{:>8}{:>7}{:>7}  too rare: {} tokens to choose on",
                    score.kind, score.n_pos.1, "-", "-", score.n_pos.0
                )?;
                continue;
            }
            write!(out, "  {name:<28}{:>8}{:>8}{latent:>7}{:>7.2}{:>7.2}", score.kind, score.n_pos.1, score.latents.f1(), score.latents.union.f1_b)?;
            write!(out, "{:>8.2}", score.neurons.f1())?;
            let chance = score.chance().to_string();
            write!(out, "{:>8.2}{chance:>13}{:>7.2}{:>7}", score.neurons.union.f1_b, score.token_only, score.n_forms_found)?;
            let number = |f1: Option<f64>| f1.map_or("-".into(), |f1| format!("{f1:.2}"));
            let (shuffled, probe) = (number(score.untrained.as_ref().map(|f| f.f1())), number(score.probe));
            write!(out, "{}", if full { format!("{shuffled:>10}{probe:>7}") } else { String::new() })?;
            let gap = self.gaps.iter().find(|g| g.concept == score.concept).map_or(String::new(), |g| format!("{:>8.2}", g.nats()));
            writeln!(out, "{gap}")?;
        }
        if !self.gaps.is_empty() {
            writeln!(
                out,
                "  gap: nats by which the model is worse than the generator at what follows the concept; large = the model never learned it"
            )?;
        }
        if exam.concepts.len() > N_CONCEPTS {
            writeln!(out, "  ... and {} more in report.json", exam.concepts.len() - N_CONCEPTS)?;
        }
        Ok(())
    }
}

/// `class 32 %, context 41 %, ...`: categories that are not empty.
pub fn census_line(census: &[CategoryCount]) -> String {
    let all = census.iter().map(|c| c.n).sum::<u64>().max(1) as f64;
    let there = census.iter().filter(|c| c.n > 0).map(|c| format!("{} {:.1} %", c.category.name(), 100.0 * c.n as f64 / all));
    there.collect::<Vec<_>>().join(", ")
}

/// By F1 of the best latent on B, negatives after the rest, what is too rare last.
pub fn best_first(concepts: &[ConceptScore]) -> Vec<&ConceptScore> {
    let mut sorted: Vec<&ConceptScore> = concepts.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |s: &ConceptScore| (s.too_rare, s.kind == "negative");
        key(a).cmp(&key(b)).then(b.latents.f1().total_cmp(&a.latents.f1())).then(a.concept.cmp(&b.concept))
    });
    sorted
}

fn write_feature(out: &mut String, what: &str, feature: &FeatureDetail, colour: bool) -> std::fmt::Result {
    let summary = &feature.summary;
    let concept = summary.concept.as_ref().map(|c| format!(", {} (F1 {:.2})", c.name, c.f1)).unwrap_or_default();
    writeln!(out, "\n{what} {}: on {:.3} % of tokens{concept}", summary.neuron.unwrap_or(summary.id), 100.0 * summary.density)?;
    for (chosen, example) in examples(feature) {
        writeln!(out, "  {chosen:<8}{:>7.2}  {}", example.act, line(example, colour))?;
    }
    let promoted: Vec<String> = feature.logits_up.iter().take(6).map(|l| format!("\"{}\"", plain(&l.token.bytes))).collect();
    if !promoted.is_empty() {
        writeln!(out, "           makes likelier: {}", promoted.join(" "))?;
    }
    Ok(())
}

/// Two random firings, two from the middle of the range, two of the strongest, each with the word for how it was chosen.
pub fn examples(feature: &FeatureDetail) -> Vec<(&'static str, &Example)> {
    let of = |kind: GroupKind| feature.groups.iter().filter(move |g| g.kind == kind);
    let quantiles: Vec<&Example> = of(GroupKind::Interval).filter_map(|g| g.examples.first()).collect();
    let middle = quantiles.len() / 2;
    let random = of(GroupKind::Random).flat_map(|g| &g.examples).take(2);
    let mid = quantiles.iter().skip(middle.saturating_sub(1)).take(2).copied();
    let top = of(GroupKind::Top).flat_map(|g| &g.examples).take(2);
    let named = |name: &'static str| move |example| (name, example);
    random.map(named("random")).chain(mid.map(named("middle"))).chain(top.map(named("strong"))).collect()
}

/// Bytes before the firing token, the token, bytes after it; cut to a line. Tokens are joined before they are decoded.
pub fn around(example: &Example, before: usize, after: usize) -> (String, String, String) {
    let text = |range: std::ops::Range<usize>| plain(&example.tokens[range].iter().flat_map(|t| t.bytes.clone()).collect::<Vec<u8>>());
    let from = example.focus.saturating_sub(before);
    let to = (example.focus + 1 + after).min(example.tokens.len());
    (text(from..example.focus), text(example.focus..example.focus + 1), text(example.focus + 1..to))
}

fn line(example: &Example, colour: bool) -> String {
    let (before, token, after) = around(example, 16, 8);
    let marked = if colour { format!("\x1b[38;5;208m{token}\x1b[0m") } else { format!("[{token}]") };
    // The firing tokens of all lines stand in one column.
    let before: Vec<char> = before.chars().collect();
    let shown: String = before[before.len().saturating_sub(WIDTH_BEFORE)..].iter().collect();
    format!("{shown:>WIDTH_BEFORE$}{marked}{after}")
}
