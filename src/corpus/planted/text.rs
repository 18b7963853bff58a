//! Writes one document: every choice is drawn with a known probability, and every concept is noted where its bytes are written.

use super::recognise::{is_idle, word_ranges};
use super::tables::*;
use super::world::tuning::*;
use super::world::*;
use crate::corpus::{ConceptSpan, Document};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// What a paragraph is made of, in the order of [`tuning::ITEMS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
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
enum Role {
    Subject,
    Predicate,
    Object,
    Adjunct,
}

pub(super) struct Writer<'w> {
    world: &'w World,
    rng: ChaCha8Rng,
    text: String,
    spans: Vec<ConceptSpan>,
    nats: f64,
    topic: usize,
    register: usize,
    mode: Mode,
    /// In a quotation, questions included.
    speech: bool,
    capital: bool,
    all_capitals: bool,
    /// No space before the next word.
    tight: bool,
    cast: Vec<String>,
    last_noun: usize,
}

/// Writes the whole document of `rng`.
pub(super) fn write(world: &World, rng: ChaCha8Rng) -> (Document, f64) {
    let mut w = Writer {
        world,
        rng,
        text: String::with_capacity(4096),
        spans: Vec::with_capacity(4096),
        nats: 0.0,
        topic: 0,
        register: 0,
        mode: Mode::Narration,
        speech: false,
        capital: true,
        all_capitals: false,
        tight: true,
        cast: Vec::new(),
        last_noun: 0,
    };
    w.document();
    let Writer { text, mut spans, nats, register, .. } = w;
    for range in word_ranges(&text).filter(|r| is_idle(&text, r.end)) {
        spans.push(ConceptSpan { start: range.start as u32, end: range.end as u32, concept: world.at.idle });
    }
    spans.sort_unstable_by_key(|s| (s.start, s.end, s.concept));
    spans.dedup();
    (Document { text, kind: Some(REGISTERS[register].to_string()), spans }, nats)
}

impl Writer<'_> {
    fn document(&mut self) {
        self.topic = self.uniform(TOPICS.len());
        self.register = self.uniform(REGISTERS.len());
        // 100 to 2,000 tokens of some four bytes, log-uniform; the length is known at the end of the text and costs nothing.
        let length = 420.0 * (8_000.0f64 / 420.0).powf(self.rng.random::<f64>());
        self.item(Item::Heading);
        let start = self.text.len();
        while (self.text.len() as f64) < length {
            let sentences = 3 + self.uniform(5);
            for _ in 0..sentences {
                let item = self.draw_item();
                self.item(item);
                if self.text.len() as f64 > length {
                    break;
                }
            }
            self.line();
        }
        let end = self.text.trim_end().len();
        self.text.truncate(end);
        self.label(start..end, self.world.at.topics + self.topic as u16);
        self.label(start..end, self.world.at.themes + (self.topic % THEMES.len()) as u16);
        self.label(start..end, self.world.at.registers + self.register as u16);
    }

    fn draw_item(&mut self) -> Item {
        let mut weights = ITEMS;
        for (i, w) in weights.iter_mut().enumerate().skip(1) {
            if i % REGISTERS.len() == self.register {
                *w *= REGISTER_FACTOR;
            }
        }
        ITEM_KINDS[self.weighted(&weights)]
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Plain => self.sentence("."),
            Item::Aside => self.aside(),
            Item::Quotation => self.quotation(),
            Item::Question => self.question(),
            Item::List => self.list(),
            Item::Heading => self.titled(Mode::Heading, "## "),
            Item::Notice => self.titled(Mode::Notice, "Notice: "),
            Item::Telegram => self.titled(Mode::Telegram, "Telegram: "),
            Item::Banner => self.titled(Mode::Banner, "Banner: "),
            Item::Program => self.program(),
            Item::Tongue => self.tongue(),
            Item::Series => self.series(),
            Item::Block => self.block(),
            Item::Sense => self.two_senses(),
            Item::TwoHop => self.two_rules(),
            Item::Distractor => self.distractor(),
        }
    }

    // ---- sentences

    fn sentence(&mut self, end: &str) {
        let from = self.text.len();
        self.clause();
        if self.weighted(&[0.75, 0.25]) == 1 {
            self.raw(",");
            let c = self.uniform(CONJUNCTIONS.len());
            self.word(CONJUNCTIONS[c]);
            self.clause();
        }
        if self.mode == Mode::Narration && !self.speech {
            self.label(from..self.text.len(), self.world.at.parents + 4);
        }
        self.raw(end);
        self.capital = true;
    }

    fn clause(&mut self) {
        let subject = self.subject();
        self.predicate(subject);
        self.adjuncts();
    }

    /// Writes a subject; the noun where it is one.
    fn subject(&mut self) -> Option<u16> {
        let from = self.text.len();
        let kind = self.weighted(&[1.0 - SUBJECT_CLASS - SUBJECT_NAME, SUBJECT_CLASS, SUBJECT_NAME]);
        let noun = match kind {
            0 => Some(self.noun_phrase(None, true)),
            1 => {
                self.class_in(Slot::Subject);
                None
            }
            _ => {
                self.name();
                None
            }
        };
        self.role(from, Role::Subject);
        noun
    }

    fn predicate(&mut self, subject: Option<u16>) {
        let from = self.text.len();
        if self.weighted(&[1.0 - VERB_CLASS, VERB_CLASS]) == 1 {
            self.class_in(Slot::Verb);
            self.role(from, Role::Predicate);
            return;
        }
        let speech = usize::from(self.speech);
        let world = self.world;
        let verb = match subject {
            Some(noun) => self.mixed(&world.verbs_of[noun as usize][speech], &world.topic_verbs[self.topic], N_VERBS),
            None => self.mixed(&[], &world.topic_verbs[self.topic], N_VERBS),
        };
        self.verb(verb);
        self.role(from, Role::Predicate);
        match self.weighted(&[0.2, 0.8]) {
            0 => {
                let adverb = self.mixed(&world.adverbs_of[verb as usize], &[], N_ADVERBS);
                self.adverb(adverb);
            }
            _ => {
                let from = self.text.len();
                self.noun_phrase(Some(verb), false);
                self.role(from, Role::Object);
            }
        }
    }

    /// Adjuncts after the predicate: a class of the exam, a number, a place, or none.
    fn adjuncts(&mut self) {
        let from = self.text.len();
        match self.weighted(&[1.0 - ADJUNCT_CLASS - 0.18, ADJUNCT_CLASS, 0.10, 0.08]) {
            1 => self.class_in(Slot::Adjunct),
            2 => {
                let p = self.mixed(&self.world.prepositions_of[self.last_noun], &[], PREPOSITIONS.len());
                let range = self.word(PREPOSITIONS[p as usize]);
                self.label(range, self.world.at.parts + 5);
                self.noun_phrase(None, false);
            }
            3 => {
                self.word("for");
                let number = 2 + self.uniform(98);
                self.word(&number.to_string());
                let small = number <= 20;
                let words = if small { ["pence", "farthings"] } else { ["crowns", "marks"] };
                let i = self.uniform(2);
                self.word(words[i]);
            }
            _ => {}
        }
        self.role(from, Role::Adjunct);
    }

    /// A noun with its article and perhaps an adjective; the object of `verb` where there is one.
    fn noun_phrase(&mut self, verb: Option<u16>, subject: bool) -> u16 {
        let world = self.world;
        if self.mode != Mode::Telegram {
            let d = self.weighted(&DETERMINER);
            let range = self.word(DETERMINERS[d]);
            self.label(range, world.at.parts + 4);
        }
        if self.weighted(&[1.0 - ADJECTIVE, ADJECTIVE]) == 1 {
            let adjective = self.mixed(&[], &world.topic_adjectives[self.topic], N_ADJECTIVES);
            self.adjective(adjective);
            let noun = self.mixed(&world.nouns_of[adjective as usize], &world.topic_nouns[self.topic], N_NOUNS);
            self.noun(noun, subject);
            return noun;
        }
        let set: &[u16] = verb.map_or(&[], |v| &world.objects_of[v as usize]);
        let noun = self.mixed(set, &world.topic_nouns[self.topic], N_NOUNS);
        self.noun(noun, subject);
        noun
    }

    /// One of the classes that stand in `slot`, a member of it, and what follows its members.
    fn class_in(&mut self, slot: Slot) {
        let world = self.world;
        let stands = |c: &&Class| c.slot == slot || (c.slot == Slot::Both && slot != Slot::Verb);
        let choices: Vec<&Class> = world.classes.iter().filter(stands).collect();
        let weights: Vec<f64> = choices.iter().map(|c| class_weight(c.concept as usize)).collect();
        let class = choices[self.weighted(&weights)];
        if class.slot != Slot::Both || slot == Slot::Adjunct {
            let lead = self.uniform(class.lead.len());
            for word in &class.lead[lead] {
                self.word(word);
            }
        }
        let member = self.uniform(class.members.len());
        let is_name = matches!(CLASSES[class.concept as usize].name, "month" | "day of the week");
        self.capital |= is_name;
        let range = self.word(&class.members[member]);
        self.label(range, class.concept);
        if self.weighted(&[1.0 - AFTER_SHARE, AFTER_SHARE]) == 1 {
            let after = if self.speech && !class.after_speech.is_empty() { &class.after_speech } else { &class.after };
            let i = self.weighted(&[0.35, 0.25, 0.18, 0.12, 0.10][..after.len()]);
            self.word(&after[i]);
        }
    }

    // ---- stretches with a beginning and an end

    fn quotation(&mut self) {
        self.name();
        let s = self.uniform(SAID.len());
        self.word(SAID[s]);
        self.raw(", \"");
        self.begin_quote();
        let from = self.text.len();
        self.all_capitals = self.weighted(&[1.0 - SHOUT, SHOUT]) == 1;
        let sentences = 1 + self.weighted(&[0.4, 0.4, 0.2]);
        for _ in 0..sentences {
            if self.weighted(&[0.8, 0.2]) == 0 { self.sentence(".") } else { self.question() }
        }
        self.mode_label(from, Mode::Quotation);
        self.label(from..self.text.len(), self.world.at.parents + 5);
        if std::mem::take(&mut self.all_capitals) {
            self.label(from..self.text.len(), self.world.at.parents);
        }
        self.raw("\"");
        self.speech = false;
        self.capital = true;
    }

    fn begin_quote(&mut self) {
        (self.speech, self.capital, self.tight) = (true, true, true);
    }

    fn question(&mut self) {
        let outer = std::mem::replace(&mut self.mode, Mode::Question);
        let speech = std::mem::replace(&mut self.speech, true);
        let q = self.uniform(QUESTION_OPENERS.len());
        self.capital = true;
        self.word(QUESTION_OPENERS[q]);
        let from = self.text.len();
        let noun = self.noun_phrase(None, true);
        self.predicate(Some(noun));
        self.adjuncts();
        self.mode_label(from, Mode::Question);
        self.raw("?");
        (self.mode, self.speech, self.capital) = (outer, speech, true);
    }

    fn aside(&mut self) {
        self.clause();
        self.raw(" (");
        self.tight = true;
        let outer = std::mem::replace(&mut self.mode, Mode::Aside);
        let from = self.text.len();
        // Asides name things one after the other without articles.
        let n = 3 + self.uniform(4);
        self.noun_chain(n);
        self.mode_label(from, Mode::Aside);
        self.mode = outer;
        self.raw(").");
        self.capital = true;
    }

    /// Nouns each followed by one of the nouns that its verb takes: "lantern harbour rope".
    fn noun_chain(&mut self, n: usize) {
        let world = self.world;
        let mut noun = self.mixed(&[], &world.topic_nouns[self.topic], N_NOUNS);
        self.noun(noun, false);
        for _ in 1..n {
            let verb = world.verbs_of[noun as usize][0][0];
            noun = self.mixed(&world.objects_of[verb as usize], &world.topic_nouns[self.topic], N_NOUNS);
            self.noun(noun, false);
        }
    }

    fn list(&mut self) {
        let outer = std::mem::replace(&mut self.mode, Mode::List);
        let n = 3 + self.uniform(5);
        self.text.truncate(self.text.trim_end().len());
        for _ in 0..n {
            self.raw("\n- ");
            (self.tight, self.capital) = (true, false);
            let from = self.text.len();
            let world = self.world;
            let adjective = self.mixed(&[], &world.topic_adjectives[self.topic], N_ADJECTIVES);
            self.adjective(adjective);
            let noun = self.mixed(&world.nouns_of[adjective as usize], &world.topic_nouns[self.topic], N_NOUNS);
            self.noun(noun, false);
            if self.weighted(&[0.5, 0.5]) == 1 {
                let adverb = self.mixed(&[], &[], N_ADVERBS);
                self.adverb(adverb);
            }
            self.mode_label(from, Mode::List);
        }
        self.mode = outer;
        self.line();
    }

    /// A line that starts with its title.
    fn titled(&mut self, mode: Mode, title: &str) {
        self.line();
        self.raw(title);
        self.tight = true;
        let outer = std::mem::replace(&mut self.mode, mode);
        let from = self.text.len();
        self.capital = false;
        self.all_capitals = matches!(mode, Mode::Notice | Mode::Telegram | Mode::Banner);
        match mode {
            Mode::Heading => {
                let n = 3 + self.uniform(3);
                self.noun_chain(n);
            }
            Mode::Notice => {
                for i in 0..2 {
                    if i > 0 {
                        self.word("and");
                    }
                    self.clause();
                    self.word("AT ONCE");
                }
            }
            Mode::Telegram => {
                for i in 0..3 {
                    if i > 0 {
                        self.word("STOP");
                    }
                    let subject = self.noun_phrase(None, true);
                    self.predicate(Some(subject));
                }
            }
            _ => {
                let n = 6 + self.uniform(6);
                self.noun_chain(n);
            }
        }
        if self.all_capitals {
            self.label(from..self.text.len(), self.world.at.parents);
        }
        self.all_capitals = false;
        self.mode_label(from, mode);
        self.mode = outer;
        self.line();
    }

    /// Instructions for an imagined machine: the same words in another order.
    fn program(&mut self) {
        self.word("Begin");
        let outer = std::mem::replace(&mut self.mode, Mode::Program);
        let from = self.text.len() + 1;
        let world = self.world;
        let n = 3 + self.uniform(4);
        for i in 0..n {
            if i > 0 {
                self.raw(",");
            }
            match self.uniform(3) {
                0 => {
                    self.word("set");
                    let noun = self.mixed(&[], &world.topic_nouns[self.topic], N_NOUNS);
                    self.noun(noun, false);
                    self.word("to");
                    let number = 2 + self.uniform(98);
                    self.word(&number.to_string());
                }
                1 => {
                    self.word("call");
                    let verb = self.mixed(&[], &world.topic_verbs[self.topic], N_VERBS);
                    self.verb(verb);
                    self.word("with");
                    let noun = self.mixed(&world.objects_of[verb as usize], &world.topic_nouns[self.topic], N_NOUNS);
                    self.noun(noun, false);
                }
                _ => {
                    self.word("if");
                    let noun = self.mixed(&[], &world.topic_nouns[self.topic], N_NOUNS);
                    self.noun(noun, false);
                    self.word("then");
                    let verb = self.mixed(&world.verbs_of[noun as usize][0], &world.topic_verbs[self.topic], N_VERBS);
                    self.verb(verb);
                }
            }
        }
        self.mode_label(from, Mode::Program);
        self.mode = outer;
        self.word("halt");
        self.raw(".");
        self.capital = true;
    }

    /// Syllables of an invented tongue: eight tongues share 24 syllables and differ in the third that each favours.
    fn tongue(&mut self) {
        let k = self.uniform(TONGUES.len());
        self.word("In");
        self.word(TONGUES[k]);
        self.raw(":");
        let n = 14 + self.uniform(20);
        let from = self.text.len() + 1;
        for _ in 0..n {
            let i = self.favoured(24, 3 * k, 8);
            let syllable = SYLLABLES[self.world.tongue_syllables[i]];
            self.word(syllable);
        }
        self.label(from..self.text.len(), self.world.at.tongues + k as u16);
        self.label(from..self.text.len(), self.world.at.parents + 1);
        self.raw(";");
        self.capital = true;
    }

    /// Numbers 20 to 83: eight kinds of series share them and differ in the third that each favours.
    fn series(&mut self) {
        let k = self.uniform(SERIES.len());
        self.word(SERIES[k]);
        self.raw(":");
        let n = 14 + self.uniform(16);
        let from = self.text.len() + 1;
        for _ in 0..n {
            let i = self.favoured(64, 8 * k, 22);
            // Scattered, so that a series is no range of numbers.
            let number = 20 + (i * 37) % 64;
            self.word(&number.to_string());
        }
        self.label(from..self.text.len(), self.world.at.series + k as u16);
        self.label(from..self.text.len(), self.world.at.parents + 2);
        self.raw(";");
        self.capital = true;
    }

    /// One of `n` items: with FAVOURED_SHARE one of the `width` from `first` on (cyclic), else one of the others.
    fn favoured(&mut self, n: usize, first: usize, width: usize) -> usize {
        if self.weighted(&[FAVOURED_SHARE, 1.0 - FAVOURED_SHARE]) == 0 {
            (first + self.uniform(width)) % n
        } else {
            (first + width + self.uniform(n - width)) % n
        }
    }

    /// Characters without meaning: base64, hexadecimal and three kinds of keys.
    fn block(&mut self) {
        const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const HEX: &[u8] = b"0123456789abcdef";
        const SERIAL: &[u8] = b"ABCDEFGHJKLMNPRSTUVWXYZ23456789";
        let k = self.uniform(BLOCKS.len());
        self.word(BLOCKS[k].1.trim_end());
        self.raw(" ");
        let n = 24 + 4 * self.uniform(7);
        let from = self.text.len();
        let (alphabet, group, separator): (&[u8], usize, char) =
            [(BASE64, 99, ' '), (HEX, 99, ' '), (&BASE64[..62], 5, '-'), (&BASE64[..62], 4, '.'), (SERIAL, 3, '-'), (b"0123456789", 99, ' ')][k];
        for i in 0..n {
            if i > 0 && i % group == 0 {
                self.text.push(separator);
            }
            let c = self.uniform(alphabet.len());
            self.text.push(alphabet[c] as char);
        }
        self.label(from..self.text.len(), self.world.at.blocks + k as u16);
        self.label(from..self.text.len(), self.world.at.parents + 3);
        self.raw(";");
        self.capital = true;
    }

    /// A word with two senses: its cue stands 5-40 tokens before it, and what follows depends on both.
    fn two_senses(&mut self) {
        let world = self.world;
        let i = self.uniform(SENSE_WORDS.len());
        let sense = self.uniform(2);
        let cues = CUES[i % 3][sense];
        let nth = self.uniform(6);
        self.word("by");
        self.word("the");
        self.word(cues.split(' ').nth(nth).expect("six cues"));
        self.raw(",");
        if self.weighted(&[0.6, 0.4]) == 1 {
            self.noun_phrase(None, true);
            let p = self.uniform(PREPOSITIONS.len());
            self.word(PREPOSITIONS[p]);
        }
        let subject = self.noun_phrase(None, true);
        let verb = self.mixed(&world.verbs_of[subject as usize][usize::from(self.speech)], &world.topic_verbs[self.topic], N_VERBS);
        self.verb(verb);
        self.word("as");
        self.word("the");
        let range = self.word(SENSE_WORDS[i]);
        self.label(range, world.at.senses + (2 * i + sense) as u16);
        let after = self.mixed(&world.sense_after[i][sense], &[], N_VERBS);
        self.verb(after);
        let adverb = self.mixed(&world.adverbs_of[after as usize], &[], N_ADVERBS);
        self.adverb(adverb);
        self.raw(".");
        self.capital = true;
    }

    /// "Rule: a gives b. Rule: b gives c. Then a yields c." What follows "yields" takes two hops.
    fn two_rules(&mut self) {
        let world = self.world;
        let a = self.mixed(&[], &world.topic_nouns[self.topic], N_NOUNS);
        let b = self.mixed(&[], &world.topic_nouns[self.topic], N_NOUNS);
        let end = self.uniform(24);
        for (from, to) in [(Some(a), None), (None, Some(end))] {
            self.word("rule");
            self.raw(":");
            self.noun(from.unwrap_or(b), false);
            self.word("gives");
            match to {
                None => self.noun(b, false),
                Some(end) => {
                    self.word(SYLLABLES[end]);
                }
            }
            self.raw(".");
            self.capital = true;
        }
        self.word("then");
        self.noun(a, false);
        let range = self.word("yields");
        if end < 6 {
            self.label(range, world.at.two_hop);
        }
        self.word(SYLLABLES[end]);
        self.raw(".");
        self.capital = true;
    }

    /// Words that look like members of a class and are not.
    fn distractor(&mut self) {
        match self.uniform(6) {
            0 => {
                self.word("some");
                let noun = self.mixed(&[], &self.world.topic_nouns[self.topic], N_NOUNS);
                self.noun(noun, true);
                self.predicate(Some(noun));
            }
            1 => {
                self.name();
                self.word("made");
                self.noun_phrase(None, false);
            }
            2 => {
                self.word("the");
                self.word("second");
                let noun = self.mixed(&[], &self.world.topic_nouns[self.topic], N_NOUNS);
                self.noun(noun, true);
                self.predicate(Some(noun));
            }
            3 => {
                self.word("they set");
                let noun = self.mixed(&[], &self.world.topic_nouns[self.topic], N_NOUNS);
                self.noun(noun, false);
                self.word("to");
                let number = 2 + self.uniform(98);
                self.word(&number.to_string());
            }
            4 => {
                self.word("they call");
                let verb = self.mixed(&[], &self.world.topic_verbs[self.topic], N_VERBS);
                self.verb(verb);
                self.word("if");
                let noun = self.mixed(&[], &self.world.topic_nouns[self.topic], N_NOUNS);
                self.noun(noun, false);
                self.word("then");
                self.predicate(Some(noun));
            }
            _ => {
                self.noun_phrase(None, true);
                self.word("lay a light year");
                let p = self.uniform(PREPOSITIONS.len());
                self.word(PREPOSITIONS[p]);
                self.noun_phrase(None, false);
            }
        }
        self.raw(".");
        self.capital = true;
    }

    /// A name of the document's cast. Names are made of four of thirty syllables, so that documents hardly ever share one.
    fn name(&mut self) {
        let n = self.cast.len();
        let known = if n == 0 { 0 } else { self.weighted(&[1.0 - KNOWN_NAME, KNOWN_NAME]) };
        let name = if known == 1 {
            let i = self.uniform(n);
            self.cast[i].clone()
        } else {
            let mut name = String::new();
            for _ in 0..4 {
                let i = self.uniform(self.world.name_syllables.len());
                name += &self.world.name_syllables[i];
            }
            self.cast.push(name.clone());
            name
        };
        self.capital = true;
        let range = self.word(&name);
        self.label(range, self.world.at.parts + 6);
    }

    // ---- words

    fn noun(&mut self, noun: u16, subject: bool) {
        let world = self.world;
        let n = noun as usize;
        self.last_noun = n;
        let range = self.word(&world.nouns[n]);
        self.label(range.clone(), world.at.lexemes + noun);
        self.label(range.clone(), world.at.parts);
        self.label(range.clone(), world.at.topic_nouns + (n % TOPICS.len()) as u16);
        if world.unshared.contains(&noun) {
            self.label(range.clone(), world.at.unshared);
        }
        if subject && self.speech && changes_in_speech(n) && n / 3 < N_WORDS_IN_SPEECH {
            self.label(range, world.at.word_in_speech + (n / 3) as u16);
        }
    }

    fn adjective(&mut self, adjective: u16) {
        let at = &self.world.at;
        let (n, topics) = (adjective as usize, TOPICS.len());
        let range = self.word(&self.world.adjectives[n]);
        self.label(range.clone(), at.lexemes + N_NOUNS as u16 + adjective);
        self.label(range.clone(), at.parts + 2);
        let pair = n / (2 * topics) * topics + n % topics;
        if pair < N_SYNONYMS {
            self.label(range, at.synonyms + pair as u16);
        }
    }

    fn adverb(&mut self, adverb: u16) {
        let at = &self.world.at;
        let range = self.word(&self.world.adverbs[adverb as usize]);
        self.label(range.clone(), at.lexemes + (N_NOUNS + N_ADJECTIVES) as u16 + adverb);
        self.label(range, at.parts + 3);
    }

    /// Past in narration, present in speech, base form in questions and programs.
    fn verb(&mut self, verb: u16) {
        let form = match self.mode {
            Mode::Question | Mode::Program => 2,
            _ => usize::from(self.speech),
        };
        let at = &self.world.at;
        let range = self.word(&self.world.verbs[verb as usize][form]);
        self.label(range.clone(), at.lexemes + (N_NOUNS + N_ADJECTIVES + N_ADVERBS) as u16 + verb);
        self.label(range.clone(), at.lemmas + verb);
        self.label(range, at.parts + 1);
    }

    // ---- bytes, labels, draws

    /// Writes a word after a space, and returns where it stands without the space.
    fn word(&mut self, word: &str) -> Range<usize> {
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

    fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Ends the line unless it is already ended.
    fn line(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        (self.tight, self.capital) = (true, true);
    }

    fn label(&mut self, range: Range<usize>, concept: u16) {
        if range.start < range.end {
            self.spans.push(ConceptSpan { start: range.start as u32, end: range.end as u32, concept });
        }
    }

    fn mode_label(&mut self, from: usize, mode: Mode) {
        self.label(from..self.text.len(), self.world.at.modes + mode as u16 - 1);
    }

    fn role(&mut self, from: usize, role: Role) {
        self.label(from..self.text.len(), self.world.at.roles + role as u16);
    }

    fn uniform(&mut self, n: usize) -> usize {
        self.nats += (n as f64).ln();
        self.rng.random_range(0..n)
    }

    fn weighted(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        let mut u = self.rng.random::<f64>() * total;
        let last = weights.len() - 1;
        let i = weights.iter().position(|w| {
            u -= w;
            u < 0.0
        });
        let i = i.unwrap_or(last);
        self.nats -= (weights[i] / total).ln();
        i
    }

    /// One of `preferred` with PREFERRED_SHARE, one of `topical` with TOPIC_SHARE, else any of `n`; empty lists pass their share on.
    /// Charged with the whole mixture's probability, since the text does not show which part it came from.
    fn mixed(&mut self, preferred: &[u16], topical: &[u16], n: usize) -> u16 {
        let a = if preferred.is_empty() { 0.0 } else { PREFERRED_SHARE };
        let b = if topical.is_empty() { 0.0 } else { (1.0 - a) * TOPIC_SHARE / (1.0 - PREFERRED_SHARE) };
        let u = self.rng.random::<f64>();
        let word = if u < a {
            preferred[zipf_draw(self.rng.random::<f64>(), preferred.len())]
        } else if u < a + b {
            topical[zipf_draw(self.rng.random::<f64>(), topical.len())]
        } else {
            self.rng.random_range(0..n) as u16
        };
        let rank = |list: &[u16]| list.iter().position(|&w| w == word).map_or(0.0, |r| zipf_p(r, list.len()));
        let p = a * rank(preferred) + b * rank(topical) + (1.0 - a - b) / n as f64;
        self.nats -= p.ln();
        word
    }
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
