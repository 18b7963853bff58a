//! The small world of one seed: its words, who follows whom, and the numbering of its concepts.

use super::recognise::Recogniser;
use super::tables::*;
use super::tuning::*;
use super::{Concept, ConceptKind};
use crate::artifact::seed::rng;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;

/// A class of the exam with its words split.
pub(super) struct Class {
    pub slot: Slot,
    pub lead: Vec<Vec<String>>,
    pub members: Vec<String>,
    pub after: Vec<String>,
    pub after_speech: Vec<String>,
    pub concept: u16,
}

/// First concept numbers of the families of concepts.
#[derive(Default)]
pub(super) struct Numbers {
    pub lexemes: u16,
    pub lemmas: u16,
    pub synonyms: u16,
    pub topic_nouns: u16,
    pub parts: u16,
    pub topics: u16,
    pub registers: u16,
    pub themes: u16,
    pub roles: u16,
    pub modes: u16,
    pub tongues: u16,
    pub series: u16,
    pub blocks: u16,
    pub parents: u16,
    pub word_in_speech: u16,
    pub senses: u16,
    pub two_hop: u16,
    pub unshared: u16,
    pub idle: u16,
}

/// Stretches of text with a beginning and an end mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Narration,
    Quotation,
    Question,
    Notice,
    Telegram,
    Banner,
    Heading,
    List,
    Program,
    Aside,
}
pub(super) const MODES: [(&str, &[&str], &str); 9] = [
    ("quotation", &[", \""], "\""),
    ("question", &[], "?"),
    ("notice in capitals", &["Notice: ", "Warning: "], "\n"),
    ("telegram in capitals", &["Telegram: ", "Cable: "], "\n"),
    ("banner in capitals", &["Banner: ", "Poster: "], "\n"),
    ("heading", &["## "], "\n"),
    ("list", &["\n- "], "\n"),
    ("program", &["Begin ", "Start "], " halt"),
    ("aside", &[" ("], ")"),
];
pub(super) const BLOCKS: [(&str, &str); 6] = [
    ("base64", "Payload "),
    ("hexadecimal", "Digest "),
    ("licence key", "Licence "),
    ("access token", "Passcode "),
    ("serial", "Serial "),
    ("decimal code", "Cipher "),
];
pub(super) const PARENTS: [&str; 7] = ["capitals", "tongue", "number series", "coded block", "narration", "speech", "shouting"];
pub(super) const ROLES: [&str; 4] = ["subject", "predicate", "object", "adjunct"];
pub(super) const PARTS: [&str; 7] = ["noun", "verb", "adjective", "adverb", "determiner", "preposition", "name"];
/// Topics come in themes of four.
pub(super) const THEMES: [&str; 6] = ["outdoors", "trade", "mind", "spirit", "craft", "leisure"];

pub(super) struct World {
    pub nouns: Vec<String>,
    pub verbs: Vec<[String; 3]>,
    pub adjectives: Vec<String>,
    pub adverbs: Vec<String>,
    /// Words of each topic, most frequent first: nouns, adjectives.
    pub topic_nouns: Vec<Vec<u16>>,
    pub topic_adjectives: Vec<Vec<u16>>,
    pub topic_verbs: Vec<Vec<u16>>,
    /// Noun -> verbs in narration and in speech.
    pub verbs_of: Vec<[Vec<u16>; 2]>,
    pub objects_of: Vec<Vec<u16>>,
    pub nouns_of: Vec<Vec<u16>>,
    pub adverbs_of: Vec<Vec<u16>>,
    pub prepositions_of: Vec<Vec<u16>>,
    pub prepositions_of_adverb: Vec<Vec<u16>>,
    pub classes: Vec<Class>,
    pub unshared: HashSet<u16>,
    /// Sense word -> the four verbs that follow it in each sense.
    pub sense_after: Vec<[Vec<u16>; 2]>,
    pub tongue_syllables: Vec<usize>,
    pub concepts: Vec<Concept>,
    pub recognisers: Vec<Recogniser>,
    pub at: Numbers,
    pub name_syllables: Vec<String>,
}

/// The sense word that shares cues with `word` and has its two sets of followers the other way round.
pub(super) fn partner(word: usize) -> usize {
    let (group, nth) = (word % CUES.len(), word / CUES.len());
    (nth ^ 1) * CUES.len() + group
}

/// Nouns that have other verbs in speech than in narration.
pub(super) fn changes_in_speech(noun: usize) -> bool {
    noun % 3 == 1
}

fn words(s: &str) -> Vec<String> {
    s.split_whitespace().map(str::to_string).collect()
}

/// Words in which `_` stands for a space.
fn joined(s: &str) -> Vec<String> {
    s.split_whitespace().map(|w| w.replace('_', " ")).collect()
}

/// A made-up word that is not in `taken`; it is added there.
fn invent(rng: &mut ChaCha8Rng, taken: &mut HashSet<String>, end: &[&str]) -> String {
    const ONSET: [&str; 24] =
        ["b", "br", "c", "cr", "d", "dr", "f", "fl", "g", "gr", "h", "k", "l", "m", "n", "p", "pl", "r", "s", "st", "t", "tr", "v", "w"];
    const VOWEL: [&str; 7] = ["a", "e", "i", "o", "u", "ai", "ou"];
    const CODA: [&str; 12] = ["b", "ck", "d", "g", "l", "m", "n", "nd", "p", "rn", "sk", "t"];
    loop {
        let mut word = String::new();
        for _ in 0..2 {
            word += ONSET[rng.random_range(0..ONSET.len())];
            word += VOWEL[rng.random_range(0..VOWEL.len())];
        }
        word += CODA[rng.random_range(0..CODA.len())];
        word += end[rng.random_range(0..end.len())];
        if taken.insert(word.clone()) {
            return word;
        }
    }
}

fn inflect(verb: &str) -> [String; 3] {
    let ends = |s: &[&str]| s.iter().any(|e| verb.ends_with(e));
    let consonant_y = verb.ends_with('y') && !ends(&["ay", "ey", "oy", "uy"]);
    let stem = if consonant_y { &verb[..verb.len() - 1] } else { verb };
    let past = if consonant_y {
        format!("{stem}ied")
    } else if verb.ends_with('e') {
        format!("{verb}d")
    } else {
        format!("{verb}ed")
    };
    let present = if consonant_y {
        format!("{stem}ies")
    } else if ends(&["s", "sh", "ch", "x"]) {
        format!("{verb}es")
    } else {
        format!("{verb}s")
    };
    [past, present, verb.to_string()]
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = rng(seed, "corpus/planted/world", 0);
        let mut taken: HashSet<String> = HashSet::new();
        let mut reserve = |s: &str| taken.extend(s.split([' ', '|']).map(str::to_lowercase));
        for class in &CLASSES {
            for part in [class.lead, class.members, class.after, class.after_speech] {
                reserve(part);
            }
        }
        for list in [&SENSE_WORDS[..], &TOPICS, &REGISTERS, &SYLLABLES, &TONGUES, &SERIES, &PREPOSITIONS, &CONJUNCTIONS, &SAID, &QUESTION_OPENERS] {
            list.iter().for_each(|w| reserve(w));
        }
        CUES.iter().flatten().for_each(|w| reserve(w));
        reserve(
            "notice telegram banner begin halt payload digest cipher the a this that every one they if licence passcode serial some made second light set call with if then stop attention rules laws gives yields hence to it they warning cable poster start entry again on no any from off",
        );

        let mut lexicon = |table: &str, n: usize, end: &[&str], rng: &mut ChaCha8Rng| -> Vec<String> {
            let mut list: Vec<String> = words(table).into_iter().filter(|w| taken.insert(w.clone())).take(n).collect();
            while list.len() < n {
                list.push(invent(rng, &mut taken, end));
            }
            list.shuffle(rng);
            list
        };
        let nouns = lexicon(NOUNS, N_NOUNS, &["", "", "", "el"], &mut rng);
        let bases = lexicon(VERBS, N_VERBS, &[""], &mut rng);
        let adjectives = lexicon(ADJECTIVES, N_ADJECTIVES, &["y", "y", "al"], &mut rng);
        let adverbs = lexicon(ADVERBS, N_ADVERBS, &["ly"], &mut rng);
        let family: Vec<Vec<String>> = (0..2).map(|_| (0..14).map(|_| invent(&mut rng, &mut taken, &["ar", "it"])).collect()).collect();
        let verbs: Vec<[String; 3]> = bases.iter().map(|v| inflect(v)).collect();

        // Words belong to topics round robin, so a topic's list is in the order of frequency.
        let n_topics = TOPICS.len();
        let of_topic =
            |n: usize| -> Vec<Vec<u16>> { (0..n_topics).map(|t| (0..n).filter(|i| i % n_topics == t).map(|i| i as u16).collect()).collect() };
        let (topic_nouns, topic_adjectives, topic_verbs) = (of_topic(N_NOUNS), of_topic(N_ADJECTIVES), of_topic(N_VERBS));
        let mut prefer = |topic: usize, lists: &[Vec<u16>], n: usize| -> Vec<u16> {
            let mut set: Vec<u16> = Vec::new();
            while set.len() < n {
                // Half of the preferred followers are of the same topic.
                let own = set.len().is_multiple_of(2) && set.len() < lists[topic].len();
                let list = if own { &lists[topic] } else { &lists[rng.random_range(0..n_topics)] };
                let word = list[rng.random_range(0..list.len())];
                if !set.contains(&word) {
                    set.push(word);
                }
            }
            set
        };
        let flat = |n: usize| -> Vec<Vec<u16>> { vec![(0..n as u16).collect(); n_topics] };
        let verbs_of = (0..N_NOUNS)
            .map(|i| {
                let narration = prefer(i % n_topics, &topic_verbs, N_PREFERRED);
                let speech = if changes_in_speech(i) { prefer((i + 7) % n_topics, &topic_verbs, N_PREFERRED) } else { narration.clone() };
                [narration, speech]
            })
            .collect();
        let objects_of = (0..N_VERBS).map(|i| prefer(i % n_topics, &topic_nouns, N_PREFERRED + 2)).collect();
        // Adjectives 2i and 2i + 24 of one topic... are synonyms: they share their nouns.
        let mut nouns_of: Vec<Vec<u16>> = (0..N_ADJECTIVES).map(|i| prefer(i % n_topics, &topic_nouns, N_PREFERRED)).collect();
        for pair in 0..N_SYNONYMS {
            nouns_of[synonyms(pair)[1]] = nouns_of[synonyms(pair)[0]].clone();
        }
        let adverb_lists = flat(N_ADVERBS);
        let adverbs_of = (0..N_VERBS).map(|i| prefer(i % n_topics, &adverb_lists, 5)).collect();
        let preposition_lists = flat(PREPOSITIONS.len());
        let prepositions_of = (0..N_NOUNS).map(|i| prefer(i % n_topics, &preposition_lists, 3)).collect();

        let prepositions_of_adverb = (0..N_ADVERBS).map(|i| prefer(i % n_topics, &preposition_lists, 2)).collect();

        // Sense words that share their cues are partners two by two: what follows one in its second sense follows the other in its first, and the
        // other way round. So neither cue nor word alone tells anything of what follows, nor does their sum.
        let all_verbs = flat(N_VERBS);
        let sets: Vec<Vec<u16>> = SENSE_WORDS.iter().map(|_| prefer(0, &all_verbs, 4)).collect();
        let sense_after = (0..sets.len()).map(|i| [sets[i].clone(), sets[partner(i)].clone()]).collect();
        let mut tongue_syllables: Vec<usize> = (0..SYLLABLES.len()).collect();
        tongue_syllables.shuffle(&mut rng);
        // Of the rarer half, so that no single word makes up much of the class.
        let unshared: HashSet<u16> = (0..14).map(|_| rng.random_range(N_NOUNS as u16 / 2..N_NOUNS as u16)).collect();
        let name_syllables: Vec<String> =
            "al be cor del es fen gar hil is jor kel lun mar nor os per quin rad sel tor ul ven wil yar zor ani bel cas dri eno"
                .split(' ')
                .map(str::to_string)
                .collect();

        let mut world = World {
            nouns,
            verbs,
            adjectives,
            adverbs,
            topic_nouns,
            topic_adjectives,
            topic_verbs,
            verbs_of,
            objects_of,
            nouns_of,
            adverbs_of,
            prepositions_of,
            prepositions_of_adverb,
            classes: Vec::new(),
            unshared,
            sense_after,
            tongue_syllables,
            concepts: Vec::new(),
            recognisers: Vec::new(),
            at: Numbers::default(),
            name_syllables,
        };
        world.number_concepts(&family);
        world
    }

    fn number_concepts(&mut self, family: &[Vec<String>]) {
        use ConceptKind::*;
        let forms = |v: &[String; 3]| v.to_vec();
        let lower = |w: &str| vec![w.to_string()];
        let mut add = |name: String, kind, scored, from_context, members: Vec<String>, recogniser: Recogniser| -> u16 {
            self.concepts.push(Concept { name, kind, scored, from_context, members });
            self.recognisers.push(recogniser);
            (self.concepts.len() - 1) as u16
        };
        // The exam's concepts come first.
        for (i, table) in CLASSES.iter().enumerate() {
            let members = if table.members.is_empty() { family[usize::from(table.name.starts_with("ollit"))].clone() } else { joined(table.members) };
            let not_after: &[&str] = match table.name {
                "length of time" => &["the", "light"],
                "month" => &["Notice", ".", "then"],
                _ => &[],
            };
            let recogniser = if table.name == "month" {
                // "may" the verb never follows a month's preposition.
                Recogniser::words_after(&members, &words(&table.lead.replace('|', " ")))
            } else {
                Recogniser::words(&members, not_after)
            };
            let concept = add(table.name.to_string(), Class, true, false, members.clone(), recogniser);
            debug_assert_eq!(concept as usize, i);
            self.classes.push(self::Class {
                slot: table.slot,
                lead: if table.lead.is_empty() { vec![vec![]] } else { table.lead.split('|').map(words).collect() },
                members,
                after: words(table.after),
                after_speech: words(table.after_speech),
                concept,
            });
        }
        self.at.modes = CLASSES.len() as u16;
        for (name, opens, close) in MODES {
            let recogniser = if opens.is_empty() { Recogniser::question() } else { Recogniser::between(opens, close) };
            add(name.to_string(), Context, true, true, vec![], recogniser);
        }
        for (i, name) in TONGUES.iter().enumerate() {
            let n = add(
                format!("{name} tongue"),
                Context,
                i < 4,
                true,
                vec![],
                Recogniser::between(&[&format!("In {name}: "), &format!("From {name}: ")], ";"),
            );
            if i == 0 {
                self.at.tongues = n;
            }
        }
        for (i, name) in SERIES.iter().enumerate() {
            let n = add(
                format!("series of {}", name.to_lowercase()),
                Context,
                i < 4,
                true,
                vec![],
                Recogniser::between(&[&format!("{name}: "), &format!("{name} again: ")], ";"),
            );
            if i == 0 {
                self.at.series = n;
            }
        }
        for (i, (name, open)) in BLOCKS.iter().enumerate() {
            // The token alone finds the decimal code too well for an exam of contexts.
            let scored = *name != "decimal code";
            let n = add(name.to_string(), Context, scored, true, vec![], Recogniser::between(&[open], ";"));
            if i == 0 {
                self.at.blocks = n;
            }
        }
        for (i, word) in SENSE_WORDS.iter().enumerate() {
            for sense in 0..2 {
                let cues = CUES[i % 3].map(words);
                let [own, other] = if sense == 0 {
                    cues
                } else {
                    let [a, b] = cues;
                    [b, a]
                };
                let n = add(format!("{word}, sense {}", sense + 1), Sense, true, true, lower(word), Recogniser::sense(word, own, other));
                if i + sense == 0 {
                    self.at.senses = n;
                }
            }
        }
        let unshared: Vec<String> = {
            let mut list: Vec<u16> = self.unshared.iter().copied().collect();
            list.sort_unstable();
            list.iter().map(|&i| self.nouns[i as usize].clone()).collect()
        };
        self.at.unshared = add("unrelated words".into(), Negative, true, false, unshared.clone(), Recogniser::words(&unshared, &[]));
        self.at.idle = add("label without consequence".into(), Negative, true, false, vec![], Recogniser::Idle);
        let marked = SYLLABLES[..N_MARKED_ENDS].iter().map(|s| s.to_string()).collect();
        self.at.two_hop = add("end of a chain of two rules".into(), TwoHop, true, true, vec![], Recogniser::Chain { marked });

        // Everything else is planted but not scored.
        let mut first = |list: Vec<(String, ConceptKind, bool, Vec<String>)>| -> u16 {
            let mut start = None;
            for (name, kind, from_context, members) in list {
                let recogniser = if members.is_empty() || from_context { Recogniser::None } else { Recogniser::words(&members, &[]) };
                let n = add(name, kind, false, from_context, members, recogniser);
                start.get_or_insert(n);
            }
            start.unwrap_or(0)
        };
        let lexemes: Vec<_> = (self.nouns.iter().chain(&self.adjectives).chain(&self.adverbs).map(|w| (w.clone(), lower(w))))
            .chain(self.verbs.iter().map(|v| (v[2].clone(), forms(v))))
            .map(|(name, members)| (format!("lexeme {name}"), Lexeme, false, members))
            .collect();
        self.at.lexemes = first(lexemes);
        self.at.lemmas = first(self.verbs.iter().map(|v| (format!("inflections of {}", v[2]), Class, false, forms(v))).collect());
        self.at.synonyms = first(
            (0..N_SYNONYMS)
                .map(|p| {
                    let members: Vec<String> = synonyms(p).iter().map(|&i| self.adjectives[i].clone()).collect();
                    (format!("synonyms {}", members.join(", ")), Class, false, members)
                })
                .collect(),
        );
        self.at.topic_nouns = first(
            (0..TOPICS.len())
                .map(|t| {
                    (format!("nouns of {}", TOPICS[t]), Class, false, self.topic_nouns[t].iter().map(|&i| self.nouns[i as usize].clone()).collect())
                })
                .collect(),
        );
        self.at.parts = first(PARTS.iter().map(|p| (p.to_string(), Class, true, vec![])).collect());
        self.at.topics = first(TOPICS.iter().map(|t| (format!("topic {t}"), Context, true, vec![])).collect());
        self.at.themes = first(THEMES.iter().map(|t| (format!("theme {t}"), Context, true, vec![])).collect());
        self.at.registers = first(REGISTERS.iter().map(|r| (format!("register {r}"), Context, true, vec![])).collect());
        self.at.roles = first(ROLES.iter().map(|r| (format!("role {r}"), Context, true, vec![])).collect());
        self.at.parents = first(PARENTS.iter().map(|r| (r.to_string(), Context, true, vec![])).collect());
        self.at.word_in_speech = first(
            (0..N_NOUNS)
                .filter(|&i| changes_in_speech(i))
                .take(N_WORDS_IN_SPEECH)
                .map(|i| (format!("{} in speech", self.nouns[i]), Lexeme, true, lower(&self.nouns[i])))
                .collect(),
        );
        let document = |begins: String, topics: &[&str]| Recogniser::Document { begins, ends: topics.iter().map(|t| format!(" on {t}")).collect() };
        for (t, topic) in TOPICS.iter().enumerate() {
            self.recognisers[self.at.topics as usize + t] = document(String::new(), &[topic]);
        }
        for t in 0..THEMES.len() {
            let topics: Vec<&str> = TOPICS.iter().skip(t).step_by(THEMES.len()).copied().collect();
            self.recognisers[self.at.themes as usize + t] = document(String::new(), &topics);
        }
        for (r, register) in REGISTERS.iter().enumerate() {
            let begins = format!("{}{} on ", register[..1].to_uppercase(), &register[1..]);
            self.recognisers[self.at.registers as usize + r] = Recogniser::Document { begins, ends: vec![String::new()] };
        }
    }
}

/// Nouns labelled as words in context: the first of those that change in speech.
pub(super) const N_WORDS_IN_SPEECH: usize = 50;
pub(super) const N_SYNONYMS: usize = 96;

/// The two adjectives of a pair of synonyms.
pub(super) fn synonyms(pair: usize) -> [usize; 2] {
    let n = TOPICS.len();
    let (row, topic) = (pair / n, pair % n);
    [2 * row * n + topic, (2 * row + 1) * n + topic]
}
