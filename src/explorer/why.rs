//! Why a feature or neuron fires at one place of a context or of typed text: its pre-activation token by token and head by head, and what
//! becomes of it when one token is swapped for another. Runs the model; knows no HTTP and no HTML.

use super::app::{App, Model, Page, Problem};
use super::list::url_text;
use super::text;
use super::view::{self, TokenView, UnitView, Units, significant};
use crate::corpus::counts;
use crate::features::can_be_negative;
use crate::features::store::Meta;
use crate::intervene::why::{HeadPart, Reader, Why, why};
use crate::kernels::sparse::dot;
use crate::lm::{Activation, Engine, HookPoint, Site};
use crate::sae::{Sae, Select, SparseRows};
use serde::{Deserialize, Serialize};

/// Longest typed text and replacement, in characters.
pub const MAX_CHARS: usize = 2000;
pub const MAX_SWAP: usize = 60;
/// Sources that the table names; the others are summed.
const N_SOURCES: usize = 12;
/// Tokens after the place that are shown, greyed: a model that only looks back did not see them.
const N_AFTER: usize = 12;

/// What the address says: a place in the stream (`t`), or a typed text and a token of it (`text`, `at`); and perhaps a token to swap.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    pub t: Option<u64>,
    pub text: String,
    pub at: Option<usize>,
    /// Place in the window of the token that is swapped.
    pub swap: Option<usize>,
    /// What stands there instead; nothing takes it away.
    pub with: String,
}

impl Ask {
    pub fn swaps(&self, at: &usize) -> bool {
        self.swap.as_ref() == Some(at)
    }
}

#[derive(Debug, Serialize)]
pub struct WhyPage {
    pub unit: UnitView,
    /// `token 1234 of the stream`, or the typed text's.
    pub place: String,
    pub ask: Ask,
    pub exactness: String,
    pub found: WhyView,
    /// The same place after the swap.
    pub swapped: Option<Swapped>,
    /// The part of the swapped token before, for comparison with the change.
    pub back: String,
}

#[derive(Debug, Serialize)]
pub struct Swapped {
    /// What stood there and what stands there now.
    pub was: String,
    pub now: String,
    /// Change of the pre-activation by running the model again.
    pub change: String,
    /// What the swapped token gave through attention before: the change with all else held if nothing came instead.
    pub part: String,
    pub found: WhyView,
}

/// A pre-activation and its parts, ready to be shown.
#[derive(Debug, Serialize)]
pub struct WhyView {
    pub pre_act: f64,
    pub act: f32,
    pub verdict: String,
    /// The window up to the place and a little after; shades are parts.
    pub tokens: Vec<SourceToken>,
    #[serde(skip)]
    pub rtl: bool,
    pub rows: Vec<SourceRow>,
    pub n_heads: usize,
    /// Parts that are no source's: direct path, position, biases; and the sum of all.
    pub rest: Vec<Line>,
    #[serde(rename = "parts")]
    pub why: Why,
}

#[derive(Debug, Serialize)]
pub struct SourceToken {
    pub token: TokenView,
    /// Place in the window; absent after the place asked about.
    pub at: Option<usize>,
    pub part: f64,
    pub here: bool,
    #[serde(skip)]
    pub class: String,
}

impl WhyView {
    pub fn pre_text(&self) -> String {
        signed(self.pre_act)
    }

    pub fn act_text(&self) -> String {
        significant(f64::from(self.act))
    }

    pub fn heads(&self) -> std::ops::Range<usize> {
        0..self.n_heads
    }
}

impl SourceToken {
    pub fn part_text(&self) -> String {
        signed(self.part)
    }
}

/// A line of the table of sources.
#[derive(Debug, Serialize)]
pub struct SourceRow {
    pub token: String,
    pub place: String,
    pub part: f64,
    pub heads: Vec<HeadCell>,
    /// Of `part`: by where the token stands.
    pub position: f64,
    #[serde(skip)]
    pub bar: Bar,
}

#[derive(Debug, Serialize)]
pub struct HeadCell {
    pub part: f64,
    /// Share of the head's attention.
    pub pattern: f64,
}

impl HeadCell {
    pub fn text(&self) -> String {
        signed(self.part)
    }

    pub fn pattern_text(&self) -> String {
        format!("{:.0} %", 100.0 * self.pattern)
    }
}

impl SourceRow {
    pub fn part_text(&self) -> String {
        signed(self.part)
    }

    pub fn position_text(&self) -> String {
        signed(self.position)
    }
}

/// A bar from the middle of a view box 100 wide.
#[derive(Debug, Default)]
pub struct Bar {
    pub x: String,
    pub width: String,
    pub class: &'static str,
}

#[derive(Debug, Serialize)]
pub struct Line {
    pub name: &'static str,
    pub value: f64,
    pub note: String,
}

impl Line {
    pub fn text(&self) -> String {
        signed(self.value)
    }
}

impl App {
    pub fn why(&self, units: Units, id: u32, ask: Ask) -> Page<WhyPage> {
        let dictionary = self.dictionary(units)?;
        let meta = dictionary.meta().clone();
        let summary = dictionary.summary(id)?;
        let labels = self.label_texts(units, &meta);
        let unit = self.unit_view(units, &summary, &labels);
        self.with_model(&meta, |model| {
            let hook: HookPoint = meta.hook.parse().map_err(|e: String| Problem::bad(&e))?;
            let n_ctx = model.engine.config().n_ctx;
            let place = self.place(&ask, n_ctx)?;
            let asked = Asked::new(units, id, &meta, hook, model)?;
            let found = self.taken_apart(model, &asked, &place)?;
            let swapped = match ask.swap {
                Some(at) => Some(self.swapped(model, &asked, &place, &found, at, &ask.with, n_ctx)?),
                None => None,
            };
            let exactness = exactness(&asked, model);
            let back = format!("{}/why?{}", unit.href(), place.query);
            Ok(WhyPage { unit, place: place.name, ask, exactness, found, swapped, back })
        })
    }

    /// The window up to the place asked about.
    fn place(&self, ask: &Ask, n_ctx: usize) -> Page<Place> {
        let end_of_text = self.tokenizer.end_of_text();
        if let Some(t) = ask.t {
            if t >= self.stream.len() {
                return Err(Problem::not_found(&format!("The stream has {} tokens.", self.stream.len())));
            }
            let first = t - t % n_ctx as u64;
            let read = |from: u64, to: u64| {
                let mut ids = vec![0; (to.min(self.stream.len()) - from) as usize];
                self.stream.read(from, &mut ids);
                ids
            };
            let ids = read(first, t + 1);
            if !counts(ids[ids.len() - 1], ids.len() - 1, end_of_text) {
                return Err(Problem::bad(
                    "Nothing is said of the first position of a window and of the end of a text: features are not trained on them.",
                ));
            }
            let after = read(t + 1, (t + 1 + N_AFTER as u64).min(first + n_ctx as u64).max(t + 1));
            return Ok(Place { ids, after, name: format!("token {t} of the stream"), query: format!("t={t}") });
        }
        if ask.text.is_empty() || ask.text.chars().count() > MAX_CHARS {
            return Err(Problem::bad(&format!("Say which place: t=N, or text=...&at=N with at most {MAX_CHARS} characters.")));
        }
        let mut ids = vec![end_of_text];
        ids.extend(self.tokenizer.encode(&ask.text));
        let at = ask.at.map_or(ids.len() - 1, |at| at + 1);
        if at >= ids.len() || !counts(ids[at], at % n_ctx, end_of_text) {
            return Err(Problem::bad(&format!("The text has {} tokens, and nothing is said of the first of a window.", ids.len() - 1)));
        }
        let first = at - at % n_ctx;
        let after = ids[at + 1..].iter().take(N_AFTER).copied().collect();
        let query = format!("text={}&at={}", url_text(&ask.text), at - 1);
        Ok(Place { ids: ids[first..=at].to_vec(), after, name: format!("token {} of the typed text", at), query })
    }

    fn taken_apart(&self, model: &mut Model, asked: &Asked, place: &Place) -> Page<WhyView> {
        let failed = |e| Problem::new(400, "This cannot be taken apart", &e);
        let why = why(&mut model.engine, &place.ids, asked.reader()).map_err(failed)?;
        let (act, verdict) = asked.act(model, place, &why);
        let all: Vec<(u32, &[u8])> = place.ids.iter().chain(&place.after).map(|&id| (id, self.tokenizer.bytes(id))).collect();
        let slices: Vec<&[u8]> = all.iter().map(|(_, b)| *b).collect();
        let n = place.ids.len();
        let part = |j: usize| if j < why.sources.len() { why.of(j) } else { 0.0 } + if j + 1 == n { why.direct.total() } else { 0.0 };
        let most = (0..n).map(|j| part(j).abs()).fold(0.0, f64::max);
        let views = view::tokens(&all, &vec![0.0; all.len()], 1.0);
        let tokens = views.into_iter().enumerate().map(|(j, mut token)| {
            token.in_window = j < n;
            token.fires = j + 1 == n;
            let part = if j < n { part(j) } else { 0.0 };
            let shade = view::shade(part.abs() as f32, most as f32);
            let class = match (j < n, shade) {
                (false, _) => "t out".into(),
                (_, 0) => "t".into(),
                (_, shade) => format!("t {}{shade}{}", if part > 0.0 { "a" } else { "c" }, if j + 1 == n { " fires" } else { "" }),
            };
            SourceToken { token, at: (j < n).then_some(j), part, here: j + 1 == n, class }
        });
        let tokens: Vec<SourceToken> = tokens.collect();
        let n_heads = why.sources.first().map_or(0, Vec::len);
        Ok(WhyView {
            pre_act: why.pre_act,
            act,
            verdict,
            tokens,
            rtl: text::is_right_to_left(&slices),
            rows: rows(&why, &slices[..n]),
            n_heads,
            rest: rest(&why, asked),
            why,
        })
    }

    #[allow(clippy::too_many_arguments)]
    fn swapped(&self, model: &mut Model, asked: &Asked, place: &Place, before: &WhyView, at: usize, with: &str, n_ctx: usize) -> Page<Swapped> {
        if at >= place.ids.len() || with.chars().count() > MAX_SWAP {
            return Err(Problem::bad(&format!("A token of the window is swapped, 0 to {}, for at most {MAX_SWAP} characters.", place.ids.len() - 1)));
        }
        let new = self.tokenizer.encode(with);
        let mut ids = place.ids.clone();
        ids.splice(at..=at, new.iter().copied());
        let last_is_gone = at + 1 == place.ids.len() && new.is_empty();
        if ids.len() < 2 || ids.len() > n_ctx || last_is_gone {
            return Err(Problem::bad("The place asked about must stay, behind a token, within the model's window."));
        }
        let swapped = Place { ids, after: place.after.clone(), name: String::new(), query: String::new() };
        let found = self.taken_apart(model, asked, &swapped)?;
        Ok(Swapped {
            was: text::plain(self.tokenizer.bytes(place.ids[at])),
            now: if new.is_empty() { "nothing".into() } else { text::plain(&self.tokenizer.decode_bytes(&new)) },
            change: signed(found.pre_act - before.pre_act),
            part: signed(if at < before.why.sources.len() { before.why.of(at) } else { 0.0 }),
            found,
        })
    }
}

/// A place with the tokens before it in its window.
struct Place {
    ids: Vec<u32>,
    after: Vec<u32>,
    name: String,
    /// The part of the address that leads here.
    query: String,
}

/// The unit as a direction at a hook.
struct Asked {
    hook: HookPoint,
    direction: Vec<f32>,
    offset: f64,
    latent: Option<u32>,
}

impl Asked {
    /// A latent is its encoder row at the SAE's hook. A neuron is an axis; of the MLP's neurons the pre-activation is taken apart, where it is linear.
    fn new(units: Units, id: u32, meta: &Meta, hook: HookPoint, model: &Model) -> Page<Self> {
        if units == Units::Features {
            let sae = &model.sae;
            let (latent, d) = (id as usize, sae.d_in);
            if latent >= sae.d_sae {
                return Err(Problem::bad(&format!("The SAE has {} latents.", sae.d_sae)));
            }
            let direction = sae.w_enc[latent * d..][..d].to_vec();
            let shift = if sae.apply_b_dec_to_input { f64::from(dot(&direction, &sae.b_dec)) } else { 0.0 };
            return Ok(Asked { hook, direction, offset: f64::from(sae.b_enc[latent]) - shift, latent: Some(id) });
        }
        let d = hook.d_in(model.engine.config());
        debug_assert!(meta.n_units as usize <= 2 * d || !can_be_negative(hook, model.engine.config()));
        let mut direction = vec![0.0; d];
        *direction.get_mut(id as usize % d.max(1)).ok_or_else(|| Problem::bad("There is no such neuron."))? =
            if (id as usize) < d { 1.0 } else { -1.0 };
        let site = if hook.site == Site::MlpPost { Site::MlpPre } else { hook.site };
        Ok(Asked { hook: HookPoint { site, ..hook }, direction, offset: 0.0, latent: None })
    }

    fn reader(&self) -> Reader<'_> {
        Reader { hook: self.hook, direction: &self.direction, offset: self.offset }
    }

    /// The activation at the place, and what stands between it and the pre-activation.
    fn act(&self, model: &mut Model, place: &Place, why: &Why) -> (f32, String) {
        let Some(latent) = self.latent else {
            let act = match (self.hook.site, model.engine.config().activation) {
                (Site::MlpPre, Activation::Gelu) => crate::kernels::activation::gelu_naive(why.pre_act),
                (Site::MlpPre, Activation::Relu) => why.pre_act.max(0.0),
                _ => why.pre_act,
            };
            return (act as f32, String::new());
        };
        let Model { engine, sae, .. } = model;
        let mut rows = vec![0.0; place.ids.len() * sae.d_in];
        engine.forward_to(&place.ids, place.ids.len(), self.hook, &mut rows);
        let mut acts = SparseRows::default();
        sae.encode(&rows[(place.ids.len() - 1) * sae.d_in..], &mut acts);
        let (latents, values) = acts.row(0);
        let act = latents.binary_search(&latent).map_or(0.0, |i| values[i]);
        (act, silent(sae, latent, why.pre_act, act))
    }
}

/// Why a latent whose pre-activation is above zero is silent all the same, or nothing.
fn silent(sae: &Sae, latent: u32, pre_act: f64, act: f32) -> String {
    match &sae.select {
        // Read twice: the pre-activation that is taken apart is the first reading's.
        Select::Refined { .. } if act > 0.0 => "The parts are those of the first reading; the activation is of the row refined by it.".into(),
        Select::Refined { .. } => "It is silent: what the first reading left of the row decided against it.".into(),
        _ if act > 0.0 => String::new(),
        _ if pre_act <= 0.0 => "It is silent: its pre-activation is not above 0.".into(),
        Select::TopK { k } => format!("It is silent: {k} other latents are larger here."),
        Select::JumpRelu { threshold } => {
            format!("It is silent: its threshold is {}.", significant(f64::from(threshold[latent as usize])))
        }
        Select::Pursuit { .. } => "It is silent: other latents were taken before it.".into(),
        Select::Gated { .. } => "It is silent: its gate is open, but its magnitude is not above 0.".into(),
        Select::Relu => String::new(),
    }
}

/// What the split is exact about, for this hook and this model.
fn exactness(asked: &Asked, model: &Model) -> String {
    let config = model.engine.config();
    let gates = match (asked.hook.site, config.activation) {
        (Site::ResidPre | Site::ResidMid | Site::MlpIn | Site::MlpPre, _) => "",
        (_, Activation::Relu) => ", and which neurons are on",
        (_, Activation::Gelu) => ", and each neuron's gate Φ(pre)",
    };
    let above = if asked.hook.layer > 0 {
        " What enters this block was itself mixed from earlier tokens by the blocks below; it is counted to the token where it stands."
    } else {
        ""
    };
    format!(
        "The parts add up to the pre-activation, exactly but for rounding, with these held as they are here: where each head looks, the two LayerNorms' scales{gates}. \
         They do not say how those would change with another text; for that, swap a token and the model runs again.{above}"
    )
}

fn rows(why: &Why, bytes: &[&[u8]]) -> Vec<SourceRow> {
    let n = why.sources.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| why.of(b).abs().total_cmp(&why.of(a).abs()).then(b.cmp(&a)));
    let most = order.first().map_or(0.0, |&j| why.of(j).abs());
    let place = |j: usize| match n - 1 - j {
        0 => "itself".into(),
        back => format!("{back} before"),
    };
    let cells = |heads: &[HeadPart]| heads.iter().map(|h| HeadCell { part: h.part.total(), pattern: h.pattern }).collect();
    let named = order.iter().take(N_SOURCES).map(|&j| SourceRow {
        token: text::plain(bytes[j]),
        place: place(j),
        part: why.of(j),
        heads: cells(&why.sources[j]),
        position: why.sources[j].iter().map(|h| h.part.position).sum(),
        bar: bar(why.of(j), most),
    });
    let mut rows: Vec<SourceRow> = named.collect();
    let others = order.get(N_SOURCES..).unwrap_or_default();
    if !others.is_empty() {
        let sum = |of: &dyn Fn(usize) -> f64| others.iter().map(|&j| of(j)).sum::<f64>();
        let heads = (0..why.sources[0].len())
            .map(|h| HeadCell { part: sum(&|j| why.sources[j][h].part.total()), pattern: sum(&|j| why.sources[j][h].pattern) });
        rows.push(SourceRow {
            token: String::new(),
            place: format!("{} others", others.len()),
            part: sum(&|j| why.of(j)),
            heads: heads.collect(),
            position: sum(&|j| why.sources[j].iter().map(|h| h.part.position).sum()),
            bar: bar(sum(&|j| why.of(j)), most),
        });
    }
    rows
}

fn bar(part: f64, most: f64) -> Bar {
    let width = if most > 0.0 { (50.0 * part.abs() / most).min(50.0) } else { 0.0 };
    let x = if part >= 0.0 { 50.0 } else { 50.0 - width };
    Bar { x: format!("{x:.1}"), width: format!("{width:.1}"), class: if part >= 0.0 { "up" } else { "down" } }
}

fn rest(why: &Why, asked: &Asked) -> Vec<Line> {
    let line = |name, value, note: &str| Line { name, value, note: note.into() };
    let heads: f64 = (0..why.sources.len()).map(|j| why.of(j)).sum();
    let mut lines = vec![line("through attention", heads, "all heads, all tokens of the window up to here")];
    if asked.hook.layer == 0 {
        lines.push(line("the token itself", why.direct.token, "its embedding, past the attention"));
        lines.push(line("its position", why.direct.position, "its position's embedding, past the attention"));
    } else {
        lines.push(line("what stands here already", why.direct.total(), "the residual stream that enters the block, past the attention"));
    }
    lines.push(line("biases", why.constant, "there whatever the text says"));
    lines.push(line("sum", why.sum(), "of all of these"));
    lines
}

/// With a sign, and three decimals, or fewer where the number is large: what stands in one column is read down.
fn signed(x: f64) -> String {
    let decimals = if x.abs() < 10.0 { 3 } else { 1 };
    let digits = format!("{:.decimals$}", x.abs());
    let nothing = digits.chars().all(|c| c == '0' || c == '.');
    format!(
        "{}{digits}",
        if nothing {
            ""
        } else if x > 0.0 {
            "+"
        } else {
            "−"
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intervene::why::Part;

    fn source(parts: [f64; 2]) -> Vec<HeadPart> {
        parts.map(|token| HeadPart { pattern: 0.1, part: Part { token, position: 0.5 } }).to_vec()
    }

    #[test]
    fn the_largest_parts_come_first_whatever_their_sign_and_the_others_are_summed() {
        let mut sources: Vec<Vec<HeadPart>> = (0..14).map(|j| source([f64::from(j), -1.0])).collect();
        sources[3] = source([-40.0, 0.0]);
        let why = Why { pre_act: 0.0, constant: 0.0, direct: Part::default(), sources };
        let rows = rows(&why, &[&b"x"[..]; 14]);
        assert_eq!((rows[0].place.as_str(), rows[1].place.as_str(), rows[12].place.as_str()), ("10 before", "itself", "2 others"));
        assert_eq!((rows[0].bar.class, rows[0].bar.width.as_str(), rows[1].bar.class), ("down", "50.0", "up"));
        let total: f64 = rows.iter().map(|r| r.part).sum();
        assert!((total - why.sum()).abs() < 1e-9 && rows.iter().all(|r| (r.heads.iter().map(|h| h.part).sum::<f64>() - r.part).abs() < 1e-9));
    }

    #[test]
    fn a_silent_latent_is_told_what_it_lacks() {
        let sae = |select| Sae {
            d_in: 1,
            d_sae: 2,
            select,
            w_enc: vec![1.0; 2],
            b_enc: vec![0.0; 2],
            w_dec: vec![1.0; 2],
            b_dec: vec![0.0],
            apply_b_dec_to_input: false,
            transcoder: None,
        };
        assert!(silent(&sae(Select::TopK { k: 1 }), 0, 0.5, 0.0).contains("1 other latents"));
        assert!(silent(&sae(Select::JumpRelu { threshold: vec![0.75, 2.0] }), 1, 0.5, 0.0).contains("2.00"));
        assert!(silent(&sae(Select::Relu), 0, -0.5, 0.0).contains("not above 0"));
        assert_eq!(silent(&sae(Select::Relu), 0, 0.5, 0.5), "");
    }
}
