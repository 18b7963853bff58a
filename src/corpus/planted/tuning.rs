//! Everything that can be turned to make the corpus harder or easier, in one place.

pub const N_NOUNS: usize = 660;
pub const N_VERBS: usize = 120;
pub const N_ADJECTIVES: usize = 200;
pub const N_ADVERBS: usize = 120;
/// Preferred followers of a word, and the share of draws that go to them; the rest goes to the topic, then to all words.
pub const N_PREFERRED: usize = 10;
pub const PREFERRED_SHARE: f64 = 0.43;
pub const TOPIC_SHARE: f64 = 0.21;
/// Exponent of the Zipf law within a topic.
pub const ZIPF: f64 = 0.5;
/// Share of a tongue's or series' words that come from its own third of the shared stock.
pub const FAVOURED_SHARE: f64 = 0.88;
/// Chance that a class member is followed by one of the words of its class (by anything else otherwise).
pub const AFTER_SHARE: f64 = 0.94;
/// Weights of what a document is made of, in the order of `Item`.
pub const ITEMS: [f64; 16] = [46.0, 12.0, 5.0, 1.2, 2.8, 0.5, 0.55, 0.65, 1.6, 4.2, 3.8, 2.7, 12.0, 2.0, 1.2, 6.0];
/// How strongly a document's register favours its own items.
pub const REGISTER_FACTOR: f64 = 2.5;
pub const SUBJECT_CLASS: f64 = 0.30;
pub const SUBJECT_NAME: f64 = 0.10;
/// Weights of the exam's classes among those of their slot: pronouns and lengths of time have many forms.
pub fn class_weight(class: usize) -> f64 {
    [2.2, 1.0, 2.2].get(class).copied().unwrap_or(0.9)
}
pub const VERB_CLASS: f64 = 0.055;
pub const ADJUNCT_CLASS: f64 = 0.62;
pub const ADJECTIVE: f64 = 0.5;
/// Chance that a quotation is shouted, in capitals.
pub const SHOUT: f64 = 0.04;
/// Chance that a name is one that the document has already used.
pub const KNOWN_NAME: f64 = 0.3;
/// Weights of the determiners.
pub const DETERMINER: [f64; 6] = [0.5, 0.2, 0.1, 0.08, 0.07, 0.05];
/// Chains of two rules that stand side by side, and how many of the first syllables are marked ends.
pub const N_CHAINS: usize = 4;
pub const N_MARKED_ENDS: usize = 6;
