//! What paragraphs are made of beside plain sentences: quotations, lists, titled lines, programs, tongues, series, coded blocks, words of
//! two senses, chains of rules, distractors.

use super::tables::*;
use super::text::Writer;
use super::tuning::*;
use super::world::*;

impl Writer<'_> {
    pub(super) fn quotation(&mut self) {
        self.name();
        let s = self.template(SAID.len());
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
            self.label(from..self.text.len(), self.world.at.parents + 6);
        }
        self.raw("\"");
        self.speech = false;
        self.capital = true;
    }

    pub(super) fn begin_quote(&mut self) {
        (self.speech, self.capital, self.tight) = (true, true, true);
    }

    pub(super) fn question(&mut self) {
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

    pub(super) fn aside(&mut self) {
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
    pub(super) fn noun_chain(&mut self, n: usize) {
        let world = self.world;
        let mut noun = self.topic_noun(false);
        for _ in 1..n {
            let verb = world.verbs_of[noun as usize][0][0];
            noun = self.mixed(&world.objects_of[verb as usize], &world.topic_nouns[self.topic], N_NOUNS);
            self.noun(noun, false);
        }
    }

    pub(super) fn list(&mut self) {
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
    pub(super) fn titled(&mut self, mode: Mode, titles: &[&str]) {
        self.line();
        let title = self.template(titles.len());
        self.raw(titles[title]);
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
    pub(super) fn program(&mut self) {
        let frame = self.template(2);
        self.word(["Begin", "Start"][frame]);
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
                    self.set_to();
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
                    let noun = self.topic_noun(false);
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

    /// One of the topic's nouns or, now and then, any.
    fn topic_noun(&mut self, subject: bool) -> u16 {
        let noun = self.mixed(&[], &self.world.topic_nouns[self.topic], N_NOUNS);
        self.noun(noun, subject);
        noun
    }

    /// What stands after "set": "rope to 24".
    fn set_to(&mut self) {
        self.topic_noun(false);
        self.word("to");
        let number = 2 + self.uniform(98);
        self.word(&number.to_string());
    }

    /// Syllables of an invented tongue: eight tongues share 24 syllables and differ in the third that each favours.
    pub(super) fn tongue(&mut self) {
        let k = self.uniform(TONGUES.len());
        let frame = self.template(2);
        self.word(["In", "From"][frame]);
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
    pub(super) fn series(&mut self) {
        let k = self.uniform(SERIES.len());
        self.word(SERIES[k]);
        if self.template(2) == 1 {
            self.word("again");
        }
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
    pub(super) fn favoured(&mut self, n: usize, first: usize, width: usize) -> usize {
        if self.weighted(&[FAVOURED_SHARE, 1.0 - FAVOURED_SHARE]) == 0 {
            (first + self.uniform(width)) % n
        } else {
            (first + width + self.uniform(n - width)) % n
        }
    }

    /// Characters without meaning: base64, hexadecimal and three kinds of keys.
    pub(super) fn block(&mut self) {
        const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const HEX: &[u8] = b"0123456789abcdef";
        const SERIAL: &[u8] = b"ABCDEFGHJKLMNPRSTUVWXYZ23456789";
        let k = self.uniform(BLOCKS.len());
        if self.template(2) == 1 {
            self.word("again");
        }
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

    /// Words with two senses: their cue stands 2-40 tokens before them, and what follows each depends on both.
    pub(super) fn two_senses(&mut self) {
        let world = self.world;
        let (group, sense) = (self.uniform(CUES.len()), self.uniform(2));
        let nth = self.uniform(6);
        let frame = self.template(2);
        self.word(["by", "off"][frame]);
        self.word("the");
        self.word(CUES[group][sense].split(' ').nth(nth).expect("six cues"));
        self.raw(",");
        let subject = self.noun_phrase(None, true);
        let verb = self.mixed(&world.verbs_of[subject as usize][usize::from(self.speech)], &world.topic_verbs[self.topic], N_VERBS);
        self.verb(verb);
        // Two or three words under one cue, all different.
        let n = 2 + self.uniform(2);
        let mut rest: Vec<usize> = (group..SENSE_WORDS.len()).step_by(CUES.len()).collect();
        for _ in 0..n {
            let i = rest.swap_remove(self.uniform(rest.len()));
            self.word("as");
            self.word("the");
            let range = self.word(SENSE_WORDS[i]);
            self.label(range, world.at.senses + (2 * i + sense) as u16);
            let after = self.mixed(&world.sense_after[i][sense], &[], N_VERBS);
            self.verb(after);
            let adverb = self.mixed(&world.adverbs_of[after as usize], &[], N_ADVERBS);
            self.adverb(adverb);
        }
        self.raw(".");
        self.capital = true;
    }

    /// "Rules: b gives x, a gives b, c gives d, d gives y, .... Then a yields x." What follows "yields" takes two hops: from a to b, from b to x.
    ///
    /// Four chains of two rules each stand in random order, and one of their four ends, at a random place, is of the marked six. So no word, place
    /// or neighbour tells whether the chain that is asked for has the marked end; only following it does.
    pub(super) fn two_rules(&mut self) {
        let nouns = self.different_nouns(2 * N_CHAINS);
        let mut ends = vec![self.uniform(N_MARKED_ENDS)];
        while ends.len() < N_CHAINS {
            let left: Vec<usize> = (N_MARKED_ENDS..SYLLABLES.len()).filter(|e| !ends.contains(e)).collect();
            let i = self.uniform(left.len());
            ends.push(left[i]);
        }
        let mut rules: Vec<usize> = (0..2 * N_CHAINS).collect();
        for last in (1..rules.len()).rev() {
            let i = self.uniform(last + 1);
            rules.swap(i, last);
        }
        let frame = self.template(2);
        self.word(["rules", "laws"][frame]);
        for (i, &rule) in rules.iter().enumerate() {
            self.raw(if i == 0 { ":" } else { "," });
            let chain = rule / 2;
            if rule % 2 == 0 {
                self.noun(nouns[2 * chain], false);
                self.word("gives");
                self.noun(nouns[2 * chain + 1], false);
            } else {
                self.noun(nouns[2 * chain + 1], false);
                self.word("gives");
                self.word(SYLLABLES[ends[chain]]);
            }
        }
        self.raw(".");
        self.capital = true;
        let asked = self.uniform(N_CHAINS);
        self.word(["then", "hence"][frame]);
        self.noun(nouns[2 * asked], false);
        let range = self.word("yields");
        if asked == 0 {
            self.label(range, self.world.at.two_hop);
        }
        self.word(SYLLABLES[ends[asked]]);
        self.raw(".");
        self.capital = true;
    }

    /// Words that look like members of a class and are not.
    pub(super) fn distractor(&mut self) {
        match self.uniform(6) {
            0 => {
                self.word("some");
                let noun = self.topic_noun(true);
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
                let noun = self.topic_noun(true);
                self.predicate(Some(noun));
            }
            3 => {
                self.word("they set");
                self.set_to();
            }
            4 => {
                self.word("they call");
                let verb = self.mixed(&[], &self.world.topic_verbs[self.topic], N_VERBS);
                self.verb(verb);
                self.word("if");
                let noun = self.topic_noun(false);
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
}
