//! That the end of a chain of two rules cannot be told by anything that looks back once.

use super::text::Writer;
use super::*;
use std::collections::HashMap;

/// One item as a reader sees it: the rules in order, the noun that is asked for, whether the label is on.
struct Item {
    rules: Vec<(String, String)>,
    asked: String,
    positive: bool,
}

fn items(n: usize) -> Vec<Item> {
    let planted = Planted::new(41);
    (0..n as u64)
        .map(|i| {
            let mut writer = Writer::new(&planted.world, rng(41, "test/two-hop", i), Split::Train);
            writer.two_rules();
            let (rules, asked) = writer.text.split_once('.').expect("rules, then a question");
            let rules = rules.split_once(": ").expect("a title").1.split(", ");
            let rules = rules.map(|r| r.split_once(" gives ").expect("a rule")).map(|(a, b)| (a.to_string(), b.to_string())).collect();
            let asked = asked.split_whitespace().nth(1).expect("then a yields").to_string();
            Item { rules, asked, positive: writer.spans.iter().any(|s| s.concept == planted.world.at.two_hop) }
        })
        .collect()
}

fn follow(item: &Item, from: &str) -> Option<String> {
    item.rules.iter().find(|r| r.0 == from).map(|r| r.1.clone())
}

/// What one look back can bring: words and pairs of neighbours that are present, what stands in each place, the place of the token that
/// equals the last one, each together with the last word, and any two places of those together.
fn one_hop_features(item: &Item) -> Vec<String> {
    let mut all = vec![format!("asked {}", item.asked)];
    let asked_at = item.rules.iter().position(|r| r.0 == item.asked).expect("its rule is there");
    all.push(format!("asked at {asked_at}"));
    for (place, (from, to)) in item.rules.iter().enumerate() {
        all.extend([format!("has {from}"), format!("has {to}"), format!("{from} gives {to}")]);
        all.extend([
            format!("{to} at {place}"),
            format!("{from} at {place}"),
            format!("{to} with {}", item.asked),
            format!("{to} and asked at {asked_at}"),
        ]);
        all.push(format!("{to} {} places from the asked", place as i64 - asked_at as i64));
        if place > 0 {
            let before = &item.rules[place - 1];
            all.extend([format!("{} then {from}", before.1), format!("{} then {to}", before.1)]);
        }
    }
    // "b gives b's end" next to "a gives b" would be a neighbour of the same noun: as a feature, whether the asked one's neighbours share a word.
    let beside = |place: usize| item.rules.get(place).is_some_and(|r| r.0 == item.rules[asked_at].1);
    all.push(format!("beside {}", beside(asked_at + 1)));
    all
}

/// Area under the ROC curve on the second half of a logistic regression fitted to the first, one weight per feature.
fn auc(items: &[Item], truth: impl Fn(&Item) -> bool) -> f64 {
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let rows: Vec<(Vec<usize>, bool)> = items
        .iter()
        .map(|item| {
            let features = one_hop_features(item).into_iter().map(|f| {
                let next = numbers.len();
                *numbers.entry(f).or_insert(next)
            });
            (features.collect(), truth(item))
        })
        .collect();
    let mut w = vec![0.0f64; numbers.len()];
    let score = |w: &[f64], row: &[usize]| row.iter().map(|&f| w[f]).sum::<f64>();
    let (fit, rest) = rows.split_at(rows.len() / 2);
    for epoch in 0..6 {
        for (row, y) in fit {
            let error = f64::from(*y) - 1.0 / (1.0 + (-score(&w, row)).exp());
            row.iter().for_each(|&f| w[f] += 0.03 / (1.0 + epoch as f64) * error);
        }
    }
    let mut scores: Vec<(f64, bool)> = rest.iter().map(|(row, y)| (score(&w, row), *y)).collect();
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n_pos = scores.iter().filter(|s| s.1).count() as f64;
    let ranks: f64 = scores.iter().enumerate().filter(|(_, s)| s.1).map(|(rank, _)| rank as f64 + 1.0).sum();
    (ranks - n_pos * (n_pos + 1.0) / 2.0) / (n_pos * (scores.len() as f64 - n_pos))
}

#[test]
fn following_two_rules_decides_the_end_of_a_chain_and_one_look_back_does_not() {
    let items = items(16_000);
    let marked = |end: &str| super::tables::SYLLABLES[..super::tuning::N_MARKED_ENDS].contains(&end);
    for item in &items {
        let end = follow(item, &item.asked).and_then(|b| follow(item, &b)).expect("a chain of two rules");
        assert_eq!(item.positive, marked(&end));
        assert_eq!(item.rules.iter().filter(|r| marked(&r.1)).count(), 1, "one marked end, whatever is asked");
    }
    let share = items.iter().filter(|i| i.positive).count() as f64 / items.len() as f64;
    assert!((share - 0.25).abs() < 0.02, "{share}");
    let two_hops = auc(&items, |i| i.positive);
    // 2,000 positives of 8,000: the standard error of an AUC at chance is 0.0075.
    assert!((two_hops - 0.5).abs() < 0.03, "one look back reaches an AUC of {two_hops:.3}");
}

#[test]
fn the_same_predictor_finds_what_one_look_back_can_tell() {
    let items = items(6_000);
    // Where the rule of the noun that is asked for stands.
    let early = auc(&items, |i| i.rules.iter().position(|r| r.0 == i.asked).expect("there") < 3);
    assert!(early > 0.95, "{early}");
    // Whether the marked end comes before the others.
    let syllable = |s: &str| super::tables::SYLLABLES.iter().position(|t| *t == s);
    let first = auc(&items, |i| i.rules.iter().find_map(|r| syllable(&r.1)).expect("four ends") < super::tuning::N_MARKED_ENDS);
    assert!(first > 0.75, "{first}");
}
