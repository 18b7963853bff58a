//! Clauses and the words in them: subjects, predicates, objects, adjuncts, the classes of the exam, names.

use super::tables::*;
use super::text::{Role, Writer};
use super::tuning::*;
use super::world::*;
use crate::corpus::Split;

impl Writer<'_> {
    pub(super) fn sentence(&mut self, end: &str) {
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

    pub(super) fn clause(&mut self) {
        let subject = self.subject();
        self.predicate(subject);
        self.adjuncts();
    }

    /// Writes a subject; the noun where it is one.
    pub(super) fn subject(&mut self) -> Option<u16> {
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

    pub(super) fn predicate(&mut self, subject: Option<u16>) {
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
                if self.weighted(&[0.3, 0.7]) == 1 {
                    let p = self.mixed(&world.prepositions_of_adverb[adverb as usize], &[], PREPOSITIONS.len());
                    self.preposition(p);
                    self.noun_phrase(None, false);
                }
            }
            _ => {
                let from = self.text.len();
                self.noun_phrase(Some(verb), false);
                self.role(from, Role::Object);
            }
        }
    }

    /// Adjuncts after the predicate: a class of the exam, a number, a place, or none.
    pub(super) fn adjuncts(&mut self) {
        let from = self.text.len();
        match self.weighted(&[1.0 - ADJUNCT_CLASS - 0.18, ADJUNCT_CLASS, 0.10, 0.08]) {
            1 => self.class_in(Slot::Adjunct),
            2 => {
                let p = self.mixed(&self.world.prepositions_of[self.last_noun], &[], PREPOSITIONS.len());
                self.preposition(p);
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
    pub(super) fn noun_phrase(&mut self, verb: Option<u16>, subject: bool) -> u16 {
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
    pub(super) fn class_in(&mut self, slot: Slot) {
        let world = self.world;
        let stands = |c: &&Class| c.slot == slot || (c.slot == Slot::Both && slot != Slot::Verb);
        let choices: Vec<&Class> = world.classes.iter().filter(stands).collect();
        let weights: Vec<f64> = choices.iter().map(|c| class_weight(c.concept as usize)).collect();
        let class = choices[self.weighted(&weights)];
        if class.slot != Slot::Both || slot == Slot::Adjunct {
            let lead = self.template(class.lead.len());
            for word in &class.lead[lead] {
                self.word(word);
            }
        }
        let member = self.uniform(class.members.len());
        let is_name = matches!(CLASSES[class.concept as usize].name, "month" | "day of the week");
        self.capital |= is_name;
        let range = self.word(&class.members[member]);
        // "no one" is decided at its last word.
        let last = class.members[member].rfind(' ').map_or(0, |space| space + 1);
        self.label(range.start + last..range.end, class.concept);
        if self.weighted(&[1.0 - AFTER_SHARE, AFTER_SHARE]) == 1 {
            let after = if self.speech && !class.after_speech.is_empty() { &class.after_speech } else { &class.after };
            let i = self.weighted(&[0.35, 0.25, 0.18, 0.12, 0.10][..after.len()]);
            self.word(&after[i]);
        }
    }

    /// A name of the document's cast. Names are made of four of thirty syllables, so that documents hardly ever share one; the numbers of the
    /// syllables add up to an even number in half A and to an odd one in half B.
    pub(super) fn name(&mut self) {
        let n = self.cast.len();
        let known = if n == 0 { 0 } else { self.weighted(&[1.0 - KNOWN_NAME, KNOWN_NAME]) };
        let name = if known == 1 {
            let i = self.uniform(n);
            self.cast[i].clone()
        } else {
            let mut name = String::new();
            let (n, mut sum) = (self.world.name_syllables.len(), 0);
            for last in [false, false, false, true] {
                let i = match self.split {
                    Split::HeldOutA if last => 2 * self.uniform(n / 2) + sum % 2,
                    Split::HeldOutB if last => 2 * self.uniform(n / 2) + (sum + 1) % 2,
                    _ => self.uniform(n),
                };
                sum += i;
                name += &self.world.name_syllables[i];
            }
            self.cast.push(name.clone());
            name
        };
        self.capital = true;
        let range = self.word(&name);
        self.label(range, self.world.at.parts + 6);
    }

    pub(super) fn noun(&mut self, noun: u16, subject: bool) {
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

    pub(super) fn adjective(&mut self, adjective: u16) {
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

    pub(super) fn adverb(&mut self, adverb: u16) {
        let at = &self.world.at;
        let range = self.word(&self.world.adverbs[adverb as usize]);
        self.label(range.clone(), at.lexemes + (N_NOUNS + N_ADJECTIVES) as u16 + adverb);
        self.label(range, at.parts + 3);
    }

    fn preposition(&mut self, preposition: u16) {
        let range = self.word(PREPOSITIONS[preposition as usize]);
        self.label(range, self.world.at.parts + 5);
    }

    /// Past in narration, present in speech, base form in questions and programs.
    pub(super) fn verb(&mut self, verb: u16) {
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
}
