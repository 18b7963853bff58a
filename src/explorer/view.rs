//! Rows of the dictionary -> what templates and the JSON API show. Pure functions of plain data: no files, no HTTP, no HTML.

use super::text::{self, Piece};
use crate::artifact::grouped;
use crate::corpus::END_OF_TEXT;
use crate::features::store::{Example, ExampleGroup, FeatureDetail, FeatureSummary, Histogram, LogitEffect, Meta};
use crate::features::{ALIKE_FROM, POLYSEMANTIC_FROM};
use serde::Serialize;
use std::collections::HashSet;

/// Shades of orange in the style sheet, a1 ... a20.
const N_SHADES: f32 = 20.0;

/// Features of an SAE, or the model's own neurons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Units {
    Features,
    Neurons,
}

impl Units {
    pub fn title(self) -> &'static str {
        match self {
            Units::Features => "Features",
            Units::Neurons => "Neurons",
        }
    }

    pub fn path(self) -> &'static str {
        match self {
            Units::Features => "/features",
            Units::Neurons => "/neurons",
        }
    }

    fn one(self) -> &'static str {
        match self {
            Units::Features => "Feature",
            Units::Neurons => "Neuron",
        }
    }
}

/// A token as it is shown: its text in pieces, its shade, its activation.
#[derive(Debug, Clone, Serialize)]
pub struct TokenView {
    pub id: u32,
    /// Hexadecimal pairs.
    pub bytes: String,
    /// What is shown, with marks for what is invisible.
    pub text: String,
    pub act: f32,
    /// Nats by which its loss changes when the feature is removed from the token before it, where that was measured.
    pub loss: Option<f32>,
    /// The token that made the example.
    pub fires: bool,
    /// Whether the model's window held it; tokens outside are greyed.
    pub in_window: bool,
    #[serde(skip)]
    pub pieces: Vec<Piece>,
    #[serde(skip)]
    shade: u32,
}

impl TokenView {
    pub fn class(&self) -> String {
        let mut class = String::from("t");
        if self.shade > 0 {
            class += &format!(" a{}", self.shade);
        }
        if self.fires {
            class += " fires";
        }
        if !self.in_window {
            class += " out";
        }
        class += self.loss.map_or("", loss_class);
        class
    }

    /// Empty where it was not measured.
    pub fn loss_text(&self) -> String {
        self.loss.map(|nats| format!("{nats:+.3}")).unwrap_or_default()
    }

    pub fn value(&self) -> String {
        significant(self.act as f64)
    }
}

/// A run of tokens with one activation each; `max` is the activation of the darkest shade.
pub fn tokens(bytes: &[(u32, &[u8])], acts: &[f32], max: f32) -> Vec<TokenView> {
    let slices: Vec<&[u8]> = bytes.iter().map(|(_, b)| *b).collect();
    let view = |id: u32, bytes: &[u8], pieces: Vec<Piece>, act: f32| TokenView {
        id,
        bytes: text::hex(bytes),
        text: pieces.iter().map(|p| if let Piece::Text(s) | Piece::Mark(s) = p { s.as_str() } else { "" }).collect(),
        act,
        loss: None,
        fires: false,
        in_window: true,
        // Only the token itself spells this in one piece; text that spells it takes several.
        pieces: if bytes == END_OF_TEXT.as_bytes() { vec![Piece::Mark(" ¶ ".into())] } else { pieces },
        shade: shade(act, max),
    };
    bytes.iter().zip(text::pieces(&slices)).zip(acts).map(|((&(id, bytes), pieces), &act)| view(id, bytes, pieces, act)).collect()
}

/// The underline of a change of loss in nats: its colour and kind tell the sign, its thickness the size.
fn loss_class(nats: f32) -> &'static str {
    match nats {
        x if x >= 0.5 => " up3",
        x if x >= 0.1 => " up2",
        x if x >= 0.01 => " up1",
        x if x <= -0.5 => " down3",
        x if x <= -0.1 => " down2",
        x if x <= -0.01 => " down1",
        _ => "",
    }
}

/// act / max in twentieths, rounded up, so that whatever fires is tinted.
pub fn shade(act: f32, max: f32) -> u32 {
    if act > 0.0 && max > 0.0 { (N_SHADES * act / max).ceil().clamp(1.0, N_SHADES) as u32 } else { 0 }
}

/// `token:shade` pairs for the script, which shades a text by one feature: its activations where it fires.
pub fn shades(at: &[(usize, f32)], max: f32) -> String {
    at.iter().map(|&(i, act)| format!("{i}:{}", shade(act, max))).collect::<Vec<_>>().join(" ")
}

/// A firing in its context, cut at the firing token.
#[derive(Debug, Clone, Serialize)]
pub struct ContextView {
    /// Index in the token stream.
    pub t: u64,
    pub document: usize,
    /// Tokens from the start of the document.
    pub document_offset: u64,
    pub act: f32,
    pub before: Vec<TokenView>,
    /// The firing token alone.
    pub at: Vec<TokenView>,
    pub after: Vec<TokenView>,
    /// Strong firings in other documents with nearly this text, which are not shown.
    pub similar: u32,
    /// Its text stands on the page already, perhaps at another place of the corpus.
    pub repeated: bool,
    #[serde(skip)]
    pub rtl: bool,
    /// Address of the unit's page.
    #[serde(skip)]
    href: String,
    /// Whether the model is there that takes the activation apart.
    #[serde(skip)]
    pub has_why: bool,
}

impl ContextView {
    pub fn new(example: &Example, max: f32, href: &str) -> Self {
        let bytes: Vec<(u32, &[u8])> = example.tokens.iter().map(|t| (t.id, t.bytes.as_slice())).collect();
        let mut all = tokens(&bytes, &example.acts, max);
        for (i, token) in all.iter_mut().enumerate() {
            token.fires = i == example.focus;
            token.in_window = (example.window.0..example.window.1).contains(&i);
            token.loss = example.loss.get(i).copied().flatten();
        }
        let mut at = all.split_off(example.focus.min(all.len()));
        let after = at.split_off(at.len().min(1));
        let slices: Vec<&[u8]> = bytes.iter().map(|(_, b)| *b).collect();
        ContextView {
            t: example.t,
            document: example.doc,
            document_offset: example.doc_offset,
            act: example.act,
            before: all,
            at,
            after,
            similar: example.similar,
            repeated: false,
            rtl: text::is_right_to_left(&slices),
            href: href.into(),
            has_why: true,
        }
    }

    pub fn value(&self) -> String {
        significant(self.act as f64)
    }

    /// What a reader sees of it, to find repetitions by.
    fn words(&self) -> Vec<u32> {
        self.before.iter().chain(&self.at).chain(&self.after).map(|t| t.id).collect()
    }

    /// Whether it may say whose it is.
    pub fn named(&self) -> bool {
        !self.href.is_empty()
    }

    /// Activations as shares of `max`, so that their size does not tell whose they are.
    pub fn in_shares_of(&mut self, max: f32) {
        // Effects on the loss would tell it too.
        self.before.iter_mut().chain(&mut self.at).chain(&mut self.after).for_each(|t| t.loss = None);
        let all = self.before.iter_mut().chain(&mut self.at).chain(&mut self.after).map(|t| &mut t.act);
        all.chain([&mut self.act]).for_each(|act| *act /= max.max(f32::MIN_POSITIVE));
    }

    /// The text around it, shaded by the unit.
    pub fn corpus(&self) -> String {
        let unit = self.href.trim_start_matches('/').replace("s/", "=");
        format!("/corpus?t={}&{unit}", self.t)
    }

    /// Where the activation is taken apart.
    pub fn why(&self) -> String {
        format!("{}/why?t={}", self.href, self.t)
    }
}

/// Contexts that were chosen in one way, with what the page says above them.
#[derive(Debug, Clone, Serialize)]
pub struct GroupView {
    /// Anchor on the page.
    pub id: &'static str,
    pub title: &'static str,
    pub note: &'static str,
    pub parts: Vec<PartView>,
}

#[derive(Debug, Clone, Serialize)]
pub struct PartView {
    pub title: String,
    /// Empty where no sample was kept of the firings that the part stands for.
    pub contexts: Vec<ContextView>,
}

/// Random firings, then intervals from the strongest down, then the strongest: the unchosen before the chosen.
pub fn groups(detail: &FeatureDetail, href: &str) -> Vec<GroupView> {
    use crate::features::store::GroupKind::{Interval, Quantile, Random, Top, Zero};
    let max = detail.summary.max_act;
    let part = |group: &ExampleGroup| {
        let title = match group.kind {
            Interval | Quantile => {
                let mass = group.share_mass.map(|m| format!(", {} of its activation", percent(m))).unwrap_or_default();
                format!("{}: {} of its firings{mass}", group.name, percent(group.share_firings))
            }
            Top | Random | Zero => String::new(),
        };
        PartView { title, contexts: group.examples.iter().map(|e| ContextView::new(e, max, href)).collect() }
    };
    let mut groups: Vec<GroupView> = [
        (Random, "random", "Random", "a uniform sample of every firing: what it mostly does"),
        (Quantile, "ranks", "By rank", "samples of its firings by tenths, as near as bins of activation allow, from the strongest down"),
        (Interval, "range", "Across its range", "samples within each interval of activation"),
        (Top, "top", "Strongest", "at most one per document: what it does at its clearest"),
        (Zero, "silent", "Silent", "its own tokens in places where it does not fire"),
    ]
    .into_iter()
    .map(|(kind, id, title, note)| {
        // A part without a sample is one all the same: few are kept at each strength, and they may all lie beside it.
        let is_part = |g: &&ExampleGroup| g.kind == kind && (!g.examples.is_empty() || matches!(kind, Interval | Quantile));
        let parts = detail.groups.iter().filter(is_part).map(part).collect();
        GroupView { id, title, note, parts }
    })
    .filter(|g: &GroupView| g.parts.iter().any(|p| !p.contexts.is_empty()))
    .collect();
    let mut seen = HashSet::new();
    let contexts = groups.iter_mut().flat_map(|g| &mut g.parts).flat_map(|p| &mut p.contexts);
    contexts.for_each(|c| c.repeated = !seen.insert(c.words()));
    groups
}

/// One row of a list, and the head of a page.
#[derive(Debug, Clone, Serialize)]
pub struct UnitView {
    pub units: Units,
    pub index: u32,
    /// The newest label in force.
    pub label: Option<String>,
    pub flags: Vec<&'static str>,
    /// Tokens with most activation.
    pub tokens: Vec<String>,
    pub density: f64,
    pub max_act: f32,
    /// The neuron's number, and whether this is its negative side.
    pub neuron: Option<(u32, bool)>,
    pub summary: FeatureSummary,
}

impl UnitView {
    pub fn new(units: Units, summary: &FeatureSummary, label: Option<String>) -> Self {
        UnitView {
            units,
            index: summary.id,
            label,
            flags: summary.flags.iter().map(|f| f.name()).collect(),
            tokens: summary.top_tokens.iter().take(6).map(|t| text::plain(&t.token.bytes)).collect(),
            density: summary.density,
            max_act: summary.max_act,
            neuron: summary.neuron.map(|n| (n, !summary.positive)),
            summary: summary.clone(),
        }
    }

    pub fn href(&self) -> String {
        format!("{}/{}", self.units.path(), self.index)
    }

    /// `Feature 12`; `Neuron 5, negative side`.
    pub fn name(&self) -> String {
        match self.neuron {
            Some((n, true)) => format!("Neuron {n}, negative side"),
            Some((n, false)) => format!("Neuron {n}"),
            None => format!("{} {}", self.units.one(), self.index),
        }
    }

    /// The label, or the name where there is none.
    pub fn title(&self) -> String {
        self.label.clone().unwrap_or_else(|| self.name())
    }

    /// The concept that the exam found it best for, where it is at least half right about it: `metal, F1 0.93`; else empty.
    pub fn concept(&self) -> String {
        self.summary.concept.as_ref().map(|c| format!("{}, F1 {:.2}", c.name, c.f1)).unwrap_or_default()
    }

    pub fn density_text(&self) -> String {
        percent(self.density)
    }

    /// Polysemanticity; a unit that never fired has none.
    pub fn mixed_text(&self) -> String {
        if self.summary.n_active > 0 { significant(self.summary.polysemantic) } else { "-".into() }
    }

    pub fn max_text(&self) -> String {
        significant(self.max_act as f64)
    }
}

/// A named figure.
#[derive(Debug, Clone, Serialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
    pub note: String,
}

impl Fact {
    pub fn new(name: &str, value: String, note: &str) -> Self {
        Fact { name: name.into(), value, note: note.into() }
    }
}

/// What a page says about one unit beside its histogram.
pub fn facts(summary: &FeatureSummary, meta: &Meta) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new("density", format!("{} of {} tokens", percent(summary.density), grouped(meta.n_tokens)), ""),
        Fact::new("firings", grouped(summary.n_active), ""),
        Fact::new("largest", significant(summary.max_act as f64), ""),
        Fact::new("mean where it fires", significant(summary.mean_act as f64), ""),
        Fact::new("effective tokens", format!("{}{}", if summary.tokens_exact { "" } else { "≥ " }, significant(summary.effective_tokens)), ""),
        Fact::new("groups of contexts", groups_of_contexts(summary, meta), ""),
    ];
    if let Some(cosine) = summary.enc_dec_cosine {
        facts.push(Fact::new("encoder · decoder", format!("{cosine:.2}"), ""));
    }
    if let Some(concept) = &summary.concept {
        facts.push(Fact::new("best concept", format!("{}, F1 {:.2}", concept.name, concept.f1), ""));
    }
    facts
}

fn groups_of_contexts(summary: &FeatureSummary, meta: &Meta) -> String {
    let own = significant(summary.polysemantic);
    if meta.polysemantic_chance > 0.0 { format!("{own} (at random {})", significant(meta.polysemantic_chance)) } else { own }
}

/// What the number of groups of contexts is; empty where an older program measured it in another way.
pub fn groups_note(meta: &Meta) -> String {
    match meta.alike_from {
        from if from > 0.0 => format!(
            "Groups of contexts: exp(\u{2212}\u{3a3} p\u{1d62} ln \u{3a3} z\u{1d62}\u{2c7c} p\u{2c7c}) over sampled contexts of all ranks; p\u{1d62} is the share of \
             the activation that a context stands for, z\u{1d62}\u{2c7c} is 1 where two are alike, else 0. Alike are two that are more so than {:.0} % of pairs \
             drawn at random (likeness {from:.2}: of their tokens' embeddings or those of the eight before). From {POLYSEMANTIC_FROM} it is called polysemantic.",
            100.0 * ALIKE_FROM
        ),
        _ => String::new(),
    }
}

/// A row of a table of logit effects.
#[derive(Debug, Clone, Serialize)]
pub struct EffectView {
    pub text: String,
    pub value: String,
}

impl EffectView {
    /// The token alone.
    pub fn without_value(self) -> Self {
        EffectView { value: String::new(), ..self }
    }
}

pub fn effects(list: &[LogitEffect]) -> Vec<EffectView> {
    let view = |e: &LogitEffect| EffectView { text: text::plain(&e.token.bytes), value: format!("{:+.2}", e.effect) };
    list.iter().take(10).map(view).collect()
}

/// Bars of an inline SVG, view box 300 x 110, baseline at y = 90.
#[derive(Debug, Clone, Default)]
pub struct HistogramView {
    pub bars: Vec<Bar>,
    pub ticks: Vec<Tick>,
    pub note: String,
}

#[derive(Debug, Clone)]
pub struct Bar {
    pub x: String,
    pub y: String,
    pub width: String,
    pub height: String,
    pub title: String,
}

#[derive(Debug, Clone)]
pub struct Tick {
    pub x: String,
    pub anchor: &'static str,
    pub text: String,
}

/// Both axes logarithmic: bins are four to a doubling, counts span decades.
pub fn histogram(h: &Histogram) -> HistogramView {
    let Some(first) = h.counts.iter().position(|&n| n > 0) else { return HistogramView::default() };
    let last = h.counts.iter().rposition(|&n| n > 0).unwrap_or(first);
    let n_bars = (last - first + 1).max(8);
    let most = h.counts.iter().copied().max().unwrap_or(1);
    let width = 300.0 / n_bars as f64;
    let height = |n: u64| if n == 0 { 0.0 } else { 74.0 * (1.0 + n as f64).ln() / (1.0 + most as f64).ln() };
    let bar = |i: usize| {
        let tall = height(h.counts[i]);
        Bar {
            x: format!("{:.1}", (i - first) as f64 * width),
            y: format!("{:.1}", 90.0 - tall),
            width: format!("{:.1}", (width - 1.0).max(0.5)),
            height: format!("{tall:.1}"),
            title: format!("{} to {}: {} firings", significant(h.edges[i] as f64), significant(h.edges[i + 1] as f64), grouped(h.counts[i])),
        }
    };
    let tick = |i: usize, anchor| Tick { x: format!("{:.1}", (i - first) as f64 * width), anchor, text: significant(h.edges[i] as f64) };
    let mut ticks = vec![tick(first, "start"), tick(last + 1, if n_bars > last + 1 - first { "middle" } else { "end" })];
    if last - first >= 6 {
        ticks.insert(1, tick(first + (last + 1 - first) / 2, "middle"));
    }
    HistogramView { bars: (first..=last).map(bar).collect(), ticks, note: format!("most: {} firings a bin; both axes logarithmic", grouped(most)) }
}

/// Three significant digits, without exponent where that reads better.
pub fn significant(x: f64) -> String {
    if x == 0.0 {
        return "0".into();
    }
    let digits = (2 - x.abs().log10().floor() as i32).clamp(0, 12) as usize;
    if x.abs() < 1e-4 { format!("{x:.1e}") } else { format!("{x:.digits$}") }
}

/// A share as a percentage with two significant digits.
pub fn percent(share: f64) -> String {
    let p = 100.0 * share;
    if p == 0.0 {
        "0 %".into()
    } else if p < 0.001 {
        format!("{p:.1e} %")
    } else {
        let digits = (1 - p.log10().floor() as i32).clamp(0, 4) as usize;
        format!("{p:.digits$} %")
    }
}

/// What the statistics of a dictionary are over, in words: `training text`.
pub fn text_of(meta: &Meta) -> String {
    let word = |name: &str| match name {
        "train" => "training text".to_string(),
        "held_out_a" => "held-out half A".into(),
        "held_out_b" => "held-out half B".into(),
        other => other.into(),
    };
    meta.tokens_from.split('+').map(word).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::store::{GroupKind, TokenText};

    #[test]
    fn numbers_are_written_for_reading() {
        assert_eq!(["0.00123", "12.3", "1235", "0", "1.2e-5"], [0.001234, 12.34, 1234.6, 0.0, 0.000012].map(significant));
        assert_eq!(["1.2 %", "0.012 %", "45 %", "1.0e-4 %"], [0.0123, 0.000123, 0.45, 1e-6].map(percent));
    }

    #[test]
    fn the_shade_grows_with_the_activation_and_nothing_that_fires_is_blank() {
        let shades = [0.0, 1e-6, 0.5, 0.51, 1.0, 7.0].map(|a| shade(a, 1.0));
        assert_eq!(shades, [0, 1, 10, 11, 20, 20]);
        assert_eq!(shade(1.0, 0.0), 0);
    }

    #[test]
    fn a_context_is_cut_at_its_firing_token_and_greys_what_the_model_did_not_see() {
        let token = |id: u32, s: &str| TokenText::new(id, s.as_bytes());
        let example = Example {
            t: 42,
            start: 40,
            focus: 2,
            act: 3.0,
            tokens: vec![token(1, "old"), token(2, " we"), token(3, " do"), token(4, " it")],
            acts: vec![0.0, 0.0, 3.0, 1.0],
            loss: vec![None, Some(0.009), Some(-0.2), Some(0.7)],
            window: (1, 4),
            doc: 7,
            doc_offset: 2,
            ..Default::default()
        };
        let view = ContextView::new(&example, 6.0, "/features/7");
        assert_eq!(view.before.iter().map(TokenView::class).collect::<Vec<_>>(), ["t out", "t"]);
        assert_eq!(view.at.iter().map(TokenView::class).collect::<Vec<_>>(), ["t a10 fires down2"]);
        assert_eq!(view.after.iter().map(TokenView::class).collect::<Vec<_>>(), ["t a4 up3"]);
        assert_eq!((view.why().as_str(), view.corpus().as_str()), ("/features/7/why?t=42", "/corpus?t=42&feature=7"));
    }

    #[test]
    fn a_tenth_of_whose_firings_no_sample_was_kept_is_not_passed_over() {
        let example =
            Example { act: 1.0, tokens: vec![TokenText::new(1, b" do")], acts: vec![1.0], loss: vec![None], window: (0, 1), ..Default::default() };
        let group = |kind: GroupKind, examples: Vec<Example>| ExampleGroup {
            kind,
            name: kind.name().into(),
            low: 0.0,
            high: 1.0,
            n_firings: 5,
            share_firings: 0.5,
            share_mass: None,
            examples,
        };
        let summary = serde_json::json!({
            "id": 7, "neuron": null, "positive": true, "density": 0.1, "n_active": 10, "max_act": 2.0, "mean_act": 1.0, "flags": [],
            "top_tokens": [], "effective_tokens": 1.0, "tokens_exact": true, "polysemantic": 1.0, "enc_dec_cosine": null, "concept": null,
            "category": null,
        });
        let detail = FeatureDetail {
            summary: serde_json::from_value(summary).unwrap(),
            histogram: Histogram::default(),
            groups: vec![
                group(GroupKind::Random, vec![]),
                group(GroupKind::Interval, vec![]),
                group(GroupKind::Quantile, vec![example]),
                group(GroupKind::Quantile, vec![]),
            ],
            over_time: vec![],
            over_position: vec![],
            coactive: vec![],
            similar: vec![],
            correlated: vec![],
            neurons: vec![],
            alignment: vec![],
            logits_up: vec![],
            logits_down: vec![],
        };
        let shown = groups(&detail, "/features/7");
        assert_eq!(shown.iter().map(|g| g.id).collect::<Vec<_>>(), ["ranks"], "of the others there is nothing to show");
        assert_eq!(shown[0].parts.iter().map(|p| p.contexts.len()).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(shown[0].parts[1].title, "quantile: 50 % of its firings");
    }

    #[test]
    fn the_tallest_bar_is_the_fullest_bin_and_empty_ends_are_cut() {
        let h = Histogram { edges: vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0], counts: vec![0, 5, 100, 1, 0] };
        let view = histogram(&h);
        assert_eq!(view.bars.len(), 3);
        assert_eq!(view.bars[1].height, "74.0");
        assert_eq!(view.ticks[0].text, "2.00");
        assert!(histogram(&Histogram::default()).bars.is_empty());
    }
}
