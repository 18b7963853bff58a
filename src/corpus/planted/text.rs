//! Writes one document: every choice is drawn with a known probability, and every concept is noted where its bytes are written.
//!
//! A document is written for its split: names and templates of half A and half B are disjoint, those of the training text are all of them.
//! The number in its last line is drawn until the hash of the text puts it where it was written for.

use super::recognise::{is_idle, word_ranges};
use super::tables::*;
use super::tuning::*;
use super::world::*;
use crate::corpus::{ConceptSpan, Document, Split};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use std::ops::Range;

/// What a paragraph is made of, in the order of [`tuning::ITEMS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    Plain,
    Quotation,
    Question,
    List,
    Aside,
    Notice,
    Telegram,
    Banner,
    Program,
    Tongue,
    Series,
    Block,
    Sense,
    TwoHop,
    Heading,
    Distractor,
}
const ITEM_KINDS: [Item; 16] = {
    use Item::*;
    [Plain, Quotation, Question, List, Aside, Notice, Telegram, Banner, Program, Tongue, Series, Block, Sense, TwoHop, Heading, Distractor]
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Subject,
    Predicate,
    Object,
    Adjunct,
}

pub(super) struct Writer<'w> {
    pub world: &'w World,
    pub rng: ChaCha8Rng,
    pub text: String,
    pub spans: Vec<ConceptSpan>,
    /// (byte that a choice comes before, its -ln probability), bytes rising.
    pub costs: Vec<(u32, f32)>,
    pub split: Split,
    pub topic: usize,
    pub register: usize,
    pub mode: Mode,
    /// In a quotation, questions included.
    pub speech: bool,
    pub capital: bool,
    pub all_capitals: bool,
    /// No space before the next word.
    pub tight: bool,
    pub cast: Vec<String>,
    pub last_noun: usize,
}

/// Writes the whole document of `rng` for `split`: the document and its costs as in [`Writer::costs`].
pub(super) fn write(world: &World, rng: ChaCha8Rng, split: Split) -> (Document, Vec<(u32, f32)>) {
    let mut w = Writer::new(world, rng, split);
    w.document();
    let Writer { text, mut spans, costs, register, .. } = w;
    for range in word_ranges(&text).filter(|r| is_idle(&text, r.end)) {
        spans.push(ConceptSpan { start: range.start as u32, end: range.end as u32, concept: world.at.idle });
    }
    spans.sort_unstable_by_key(|s| (s.start, s.end, s.concept));
    spans.dedup();
    (Document { text, kind: Some(REGISTERS[register].to_string()), spans }, costs)
}

impl<'w> Writer<'w> {
    pub(super) fn new(world: &'w World, rng: ChaCha8Rng, split: Split) -> Self {
        Writer {
            world,
            rng,
            text: String::with_capacity(4096),
            spans: Vec::with_capacity(4096),
            costs: Vec::with_capacity(2048),
            split,
            topic: 0,
            register: 0,
            mode: Mode::Narration,
            speech: false,
            capital: true,
            all_capitals: false,
            tight: true,
            cast: Vec::new(),
            last_noun: 0,
        }
    }
}

impl Writer<'_> {
    pub(super) fn document(&mut self) {
        self.topic = self.uniform(TOPICS.len());
        self.register = self.uniform(REGISTERS.len());
        // 100 to 2,000 tokens of some four bytes, log-uniform. The first item that passes the length is the last.
        let length = 420.0 * (8_000.0f64 / 420.0).powf(self.rng.random::<f64>());
        // Bytes at the last look at the length and at the one before.
        let (mut before, mut now) = (0, 0);
        // The first line tells register and topic, so that their labels can be decided from the text before them.
        self.word(REGISTERS[self.register]);
        self.word("on");
        self.word(TOPICS[self.topic]);
        self.line();
        let start = self.text.len();
        self.item(Item::Heading);
        while (self.text.len() as f64) < length {
            let sentences = 3 + self.uniform(5);
            for _ in 0..sentences {
                let item = self.draw_item();
                before = self.text.len();
                self.item(item);
                now = self.text.len();
                if now as f64 > length {
                    break;
                }
            }
            self.line();
            if now as f64 <= length {
                (before, now) = (now, self.text.len());
            }
        }
        let end = self.text.trim_end().len();
        self.text.truncate(end);
        self.label(start..end, self.world.at.topics + self.topic as u16);
        self.label(start..end, self.world.at.themes + (self.topic % THEMES.len()) as u16);
        self.label(start..end, self.world.at.registers + self.register as u16);
        // That the text ends here, and not after the item before or a later one.
        let passed = |bytes: usize| ((bytes as f64 / 420.0).ln() / (8_000.0f64 / 420.0).ln()).clamp(0.0, 1.0);
        self.charge(-(passed(now) - passed(before)).max(f64::MIN_POSITIVE).ln());
        self.entry();
    }

    /// The last line: a number that puts the document into its split. With N numbers and a share p of splits, (split, number) has the
    /// probability p / (p N), so the pair costs ln N.
    fn entry(&mut self) {
        const NUMBERS: std::ops::Range<u32> = 10_000..100_000;
        self.raw("\nEntry ");
        let before = Sha256::new_with_prefix(self.text.as_bytes());
        let mut tail;
        loop {
            tail = format!("{}.", self.rng.random_range(NUMBERS));
            if Split::of_digest(&before.clone().chain_update(&tail).finalize().into()) == self.split {
                break;
            }
        }
        self.charge(f64::from(NUMBERS.len() as u32).ln());
        self.raw(&tail);
    }

    pub(super) fn draw_item(&mut self) -> Item {
        let mut weights = ITEMS;
        for (i, w) in weights.iter_mut().enumerate().skip(1) {
            if i % REGISTERS.len() == self.register {
                *w *= REGISTER_FACTOR;
            }
        }
        ITEM_KINDS[self.weighted(&weights)]
    }

    pub(super) fn item(&mut self, item: Item) {
        match item {
            Item::Plain => self.sentence("."),
            Item::Aside => self.aside(),
            Item::Quotation => self.quotation(),
            Item::Question => self.question(),
            Item::List => self.list(),
            Item::Heading => self.titled(Mode::Heading, &["## "]),
            Item::Notice => self.titled(Mode::Notice, &["Notice: ", "Warning: "]),
            Item::Telegram => self.titled(Mode::Telegram, &["Telegram: ", "Cable: "]),
            Item::Banner => self.titled(Mode::Banner, &["Banner: ", "Poster: "]),
            Item::Program => self.program(),
            Item::Tongue => self.tongue(),
            Item::Series => self.series(),
            Item::Block => self.block(),
            Item::Sense => self.two_senses(),
            Item::TwoHop => self.two_rules(),
            Item::Distractor => self.distractor(),
        }
    }

    // ---- bytes, labels, draws

    /// Writes a word after a space, and returns where it stands without the space.
    pub(super) fn word(&mut self, word: &str) -> Range<usize> {
        if !self.tight {
            self.text.push(' ');
        }
        self.tight = false;
        let start = self.text.len();
        if self.all_capitals {
            self.text.extend(word.chars().map(|c| c.to_ascii_uppercase()));
        } else {
            self.text.push_str(word);
            if self.capital {
                self.text[start..start + 1].make_ascii_uppercase();
            }
        }
        self.capital = false;
        start..self.text.len()
    }

    pub(super) fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Ends the line unless it is already ended.
    pub(super) fn line(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        (self.tight, self.capital) = (true, true);
    }

    pub(super) fn label(&mut self, range: Range<usize>, concept: u16) {
        if range.start < range.end {
            self.spans.push(ConceptSpan { start: range.start as u32, end: range.end as u32, concept });
        }
    }

    pub(super) fn mode_label(&mut self, from: usize, mode: Mode) {
        self.label(from..self.text.len(), self.world.at.modes + mode as u16 - 1);
    }

    pub(super) fn role(&mut self, from: usize, role: Role) {
        self.label(from..self.text.len(), self.world.at.roles + role as u16);
    }

    pub(super) fn uniform(&mut self, n: usize) -> usize {
        self.charge((n as f64).ln());
        self.rng.random_range(0..n)
    }

    /// One of `n` templates: half A has the even ones, half B the odd ones, the training text all. A single template is everyone's.
    pub(super) fn template(&mut self, n: usize) -> usize {
        match self.split {
            Split::HeldOutA if n > 1 => 2 * self.uniform(n.div_ceil(2)),
            Split::HeldOutB if n > 1 => 2 * self.uniform(n / 2) + 1,
            _ => self.uniform(n),
        }
    }

    /// Notes the cost of a choice whose first consequence is the next byte.
    fn charge(&mut self, nats: f64) {
        let at = self.text.len() as u32;
        match self.costs.last_mut() {
            Some(last) if last.0 >= at => last.1 += nats as f32,
            _ => self.costs.push((at, nats as f32)),
        }
    }

    pub(super) fn weighted(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        let mut u = self.rng.random::<f64>() * total;
        let last = weights.len() - 1;
        let i = weights.iter().position(|w| {
            u -= w;
            u < 0.0
        });
        let i = i.unwrap_or(last);
        self.charge(-(weights[i] / total).ln());
        i
    }

    /// One of `preferred` with PREFERRED_SHARE, one of `topical` with TOPIC_SHARE, else any of `n`; empty lists pass their share on.
    /// Charged with the whole mixture's probability, since the text does not show which part it came from.
    pub(super) fn mixed(&mut self, preferred: &[u16], topical: &[u16], n: usize) -> u16 {
        let [a, b] = shares(preferred, topical);
        let u = self.rng.random::<f64>();
        let word = if u < a {
            preferred[zipf_draw(self.rng.random::<f64>(), preferred.len())]
        } else if u < a + b {
            topical[zipf_draw(self.rng.random::<f64>(), topical.len())]
        } else {
            self.rng.random_range(0..n) as u16
        };
        self.charge(-mixed_p(word, preferred, topical, n).ln());
        word
    }

    /// Nouns of the topic, all different. Charged as if they could have been equal, which is an upper bound.
    pub(super) fn different_nouns(&mut self, n: usize) -> Vec<u16> {
        let mut nouns = Vec::with_capacity(n);
        while nouns.len() < n {
            let costs = self.costs.last().copied();
            let noun = self.mixed(&[], &self.world.topic_nouns[self.topic], N_NOUNS);
            if nouns.contains(&noun) {
                // Not charged: the draw left no trace.
                match (costs, self.costs.last_mut()) {
                    (Some(before), Some(last)) if last.0 == before.0 => *last = before,
                    _ => drop(self.costs.pop()),
                }
            } else {
                nouns.push(noun);
            }
        }
        nouns
    }
}

/// Shares of draws that go to `preferred` and to `topical`.
fn shares(preferred: &[u16], topical: &[u16]) -> [f64; 2] {
    let a = if preferred.is_empty() { 0.0 } else { PREFERRED_SHARE };
    let b = if topical.is_empty() { 0.0 } else { (1.0 - a) * TOPIC_SHARE / (1.0 - PREFERRED_SHARE) };
    [a, b]
}

/// Probability that [`Writer::mixed`] draws `word`.
pub(super) fn mixed_p(word: u16, preferred: &[u16], topical: &[u16], n: usize) -> f64 {
    let [a, b] = shares(preferred, topical);
    let rank = |list: &[u16]| list.iter().position(|&w| w == word).map_or(0.0, |r| zipf_p(r, list.len()));
    a * rank(preferred) + b * rank(topical) + (1.0 - a - b) / n as f64
}

/// Zipf weights of ranks 0..64 and their running sums.
static ZIPF_TABLE: std::sync::LazyLock<[(f64, f64); 64]> = std::sync::LazyLock::new(|| {
    let mut sum = 0.0;
    std::array::from_fn(|r| {
        let w = (r as f64 + 1.5).powf(-ZIPF);
        sum += w;
        (w, sum)
    })
});

fn zipf_p(rank: usize, n: usize) -> f64 {
    ZIPF_TABLE[rank].0 / ZIPF_TABLE[n - 1].1
}

fn zipf_draw(u: f64, n: usize) -> usize {
    let table = &ZIPF_TABLE[..n];
    let target = u * table[n - 1].1;
    table.partition_point(|&(_, sum)| sum <= target).min(n - 1)
}
