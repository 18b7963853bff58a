//! That concepts have consequences: from the generator's own distributions where it has them, else counted in its text.

use super::tables::*;
use super::text::mixed_p;
use super::tuning::*;
use super::world::{World, partner};
use super::*;
use std::collections::HashMap;

/// sum p ln(p / q), nats.
fn kl(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
}

fn distribution(preferred: &[u16], topical: &[u16], n: usize) -> Vec<f64> {
    (0..n as u16).map(|w| mixed_p(w, preferred, topical, n)).collect()
}

#[test]
fn a_draw_has_the_probability_that_it_is_charged_with() {
    let world = World::new(3);
    let p = distribution(&world.verbs_of[5][0], &world.topic_verbs[2], N_VERBS);
    assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let mut writer = text::Writer::new(&world, rng(3, "test", 0), Split::Train);
    let n = 200_000;
    let mut counts = vec![0.0; N_VERBS];
    (0..n).for_each(|_| counts[writer.mixed(&world.verbs_of[5][0], &world.topic_verbs[2], N_VERBS) as usize] += 1.0 / n as f64);
    // Five standard deviations of a share.
    assert!(p.iter().zip(&counts).all(|(p, c)| (p - c).abs() < 5.0 * (p / n as f64).sqrt()));
}

/// What each lexeme governs (its verb, noun, object or preposition), against the average over its part of speech, in a document of topic 0.
#[test]
fn each_lexeme_has_successors_of_its_own() {
    let world = World::new(31);
    let families: [(&str, Vec<Vec<f64>>); 4] = [
        ("noun", (0..N_NOUNS).map(|i| distribution(&world.verbs_of[i][0], &world.topic_verbs[0], N_VERBS)).collect()),
        ("verb", (0..N_VERBS).map(|i| distribution(&world.objects_of[i], &world.topic_nouns[0], N_NOUNS)).collect()),
        ("adjective", (0..N_ADJECTIVES).map(|i| distribution(&world.nouns_of[i], &world.topic_nouns[0], N_NOUNS)).collect()),
        ("adverb", (0..N_ADVERBS).map(|i| distribution(&world.prepositions_of_adverb[i], &[], PREPOSITIONS.len())).collect()),
    ];
    for (name, words) in families {
        let mean: Vec<f64> = (0..words[0].len()).map(|w| words.iter().map(|p| p[w]).sum::<f64>() / words.len() as f64).collect();
        let least = words.iter().map(|p| kl(p, &mean)).fold(f64::INFINITY, f64::min);
        assert!(least >= 0.2, "a {name} has only {least:.3} nat");
    }
}

#[test]
fn what_follows_a_word_of_two_senses_is_decided_by_cue_and_word_together_and_not_by_their_sum() {
    for seed in [0, 32, 33] {
        let world = World::new(seed);
        let p = |word: usize, sense: usize| distribution(&world.sense_after[word][sense], &[], N_VERBS);
        for (word, name) in SENSE_WORDS.iter().enumerate() {
            let other = partner(word);
            assert!(other != word && other % CUES.len() == word % CUES.len(), "partners share their cues");
            for sense in 0..2 {
                let d = kl(&p(word, sense), &p(word, 1 - sense));
                assert!(d >= 0.3, "{name}, sense {}: {d:.3} nat", sense + 1);
                // The cue alone tells nothing: over a pair of partners what follows is the same under both cues.
                assert_eq!(p(word, sense), p(other, 1 - sense));
            }
            // If ln p were f(cue) + g(word), this difference of differences would be 0 for each verb that follows.
            let v = world.sense_after[word][0].iter().find(|v| !world.sense_after[word][1].contains(v)).expect("the senses differ");
            let l = |word: usize, sense: usize| p(word, sense)[*v as usize].ln();
            assert!(l(word, 0) - l(word, 1) - l(other, 0) + l(other, 1) > 1.0, "{name}");
        }
    }
}

/// Words after the members of each class, counted in fresh text: per class and member.
fn successors(planted: &Planted, n_bytes: usize) -> Vec<HashMap<String, HashMap<String, f64>>> {
    let mut all = vec![HashMap::<String, HashMap<String, f64>>::new(); CLASSES.len()];
    let mut read = 0;
    for PlantedDocument { document, .. } in planted.documents() {
        if read > n_bytes {
            break;
        }
        read += document.text.len();
        for span in document.spans.iter().filter(|s| (s.concept as usize) < CLASSES.len()) {
            let member = document.text[span.start as usize..span.end as usize].to_lowercase();
            let after = &document.text[span.end as usize..];
            let next = recognise::word_ranges(after).next().filter(|r| r.start == 1).map_or("", |r| &after[r]);
            *all[span.concept as usize].entry(member).or_default().entry(next.to_lowercase()).or_default() += 1.0;
        }
    }
    all
}

#[test]
fn members_of_a_class_have_the_same_successors_and_classes_have_others() {
    let planted = Planted::new(34);
    let counted = successors(&planted, 8_000_000);
    let mut classes: Vec<HashMap<&str, f64>> = Vec::new();
    for (class, members) in planted.world.classes.iter().zip(&counted) {
        let name = &planted.concepts()[class.concept as usize].name;
        let total: f64 = members.values().flat_map(|m| m.values()).sum();
        let mut sum: HashMap<&str, f64> = HashMap::new();
        members.values().flatten().for_each(|(next, n)| *sum.entry(next).or_default() += n);
        // The words of the class one by one, all others as one.
        let named: Vec<&String> = class.after.iter().chain(&class.after_speech).collect();
        let shares = |count: &dyn Fn(&str) -> f64, total: f64| {
            let mut p: Vec<f64> = named.iter().map(|w| count(w) / total).collect();
            p.push(1.0 - p.iter().sum::<f64>());
            p
        };
        let class_p = shares(&|w| sum.get(w).copied().unwrap_or(0.0), total);
        let mut mean = 0.0;
        for next in members.values() {
            let n: f64 = next.values().sum();
            mean += kl(&shares(&|w| next.get(w).copied().unwrap_or(0.0), n), &class_p) / members.len() as f64;
            assert!(n / total < 0.25, "one member is {:.2} of {name}", n / total);
        }
        // A sample of 8 MB adds (successors - 1) / (2 n) = 0.005 nat or less to the truth, which is 0.
        assert!(mean < 0.05, "{name}: {mean:.4} nat between a member and its class");
        assert!(members.len() >= 12, "{name}: {} members", members.len());
        classes.push(sum);
    }
    for (i, a) in classes.iter().enumerate() {
        for (j, b) in classes.iter().enumerate().filter(|(j, _)| *j != i) {
            let (n_a, n_b): (f64, f64) = (a.values().sum(), b.values().sum());
            let unseen = a.keys().filter(|w| !b.contains_key(*w)).count() as f64;
            let d: f64 = a
                .iter()
                .map(|(w, n)| n / n_a * ((n / n_a) / ((b.get(w).unwrap_or(&0.0) + 0.5) / (n_b + 0.5 * (b.len() as f64 + unseen)))).ln())
                .sum();
            assert!(d > 1.0, "{} and {}: {d:.2} nat", CLASSES[i].name, CLASSES[j].name);
        }
    }
}
