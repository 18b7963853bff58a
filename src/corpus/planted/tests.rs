use super::*;

/// Documents of a seed that nothing was tuned on.
fn sample(seed: u64, n_bytes: usize) -> (Planted, Vec<PlantedDocument>) {
    let planted = Planted::new(seed);
    let mut total = 0;
    let documents = planted
        .documents()
        .take_while(|d| {
            let go_on = total < n_bytes;
            total += d.document.text.len();
            go_on
        })
        .collect();
    (planted, documents)
}

fn concept(planted: &Planted, name: &str) -> usize {
    planted.concepts().iter().position(|c| c.name == name).unwrap()
}

#[test]
fn a_document_depends_on_seed_and_index_alone() {
    let (a, b) = (Planted::new(7), Planted::new(7));
    let later = a.document(5);
    assert_eq!(later.document, b.documents().nth(5).unwrap().document);
    assert_ne!(later.document.text, b.document(6).document.text);
    assert_ne!(later.document.text, Planted::new(8).document(5).document.text);
}

#[test]
fn the_first_megabyte_of_seed_0_is_the_one_that_was_examined() {
    // Changed only with a stated reason: scores in LOG.md are of this text. Last changed when the Bayes loss was raised above 2.5 nats per token.
    let mut hasher = blake3::Hasher::new();
    let mut n_bytes = 0;
    for made in Planted::new(0).documents() {
        if n_bytes >= 1 << 20 {
            break;
        }
        n_bytes += made.document.text.len();
        hasher.update(made.document.text.as_bytes());
        for span in &made.document.spans {
            hasher.update(format!("{} {} {};", span.start, span.end, span.concept).as_bytes());
        }
    }
    assert_eq!(&hasher.finalize().to_hex()[..32], "693be5e8b03067d7d337363369a6b92e");
}

#[test]
fn spans_are_sorted_and_lie_on_character_boundaries() {
    let (planted, documents) = sample(11, 300_000);
    for PlantedDocument { document, .. } in &documents {
        assert!(document.spans.windows(2).all(|w| (w[0].start, w[0].end) <= (w[1].start, w[1].end)));
        for span in &document.spans {
            assert!(span.start < span.end && span.end as usize <= document.text.len(), "{span:?} of {} bytes", document.text.len());
            assert!(document.text.is_char_boundary(span.start as usize) && document.text.is_char_boundary(span.end as usize));
            assert!((span.concept as usize) < planted.concepts().len());
        }
    }
}

#[test]
fn each_recogniser_finds_its_concept_in_fresh_text() {
    let (planted, documents) = sample(12, 1_500_000);
    let mut bad = Vec::new();
    for (c, concept) in planted.concepts().iter().enumerate().filter(|(_, c)| c.scored) {
        if !planted.has_recogniser(c) {
            continue;
        }
        let (mut hit, mut found, mut truth) = (0usize, 0usize, 0usize);
        for PlantedDocument { document, .. } in &documents {
            let mut carried = vec![0u8; document.text.len()];
            document.spans.iter().filter(|s| s.concept as usize == c).for_each(|s| carried[s.start as usize..s.end as usize].fill(1));
            planted.recognise(c, &document.text).into_iter().for_each(|r| carried[r].iter_mut().for_each(|b| *b |= 2));
            hit += carried.iter().filter(|&&b| b == 3).count();
            found += carried.iter().filter(|&&b| b & 2 != 0).count();
            truth += carried.iter().filter(|&&b| b & 1 != 0).count();
        }
        let f1 = 2.0 * hit as f64 / (found + truth) as f64;
        if f1.is_nan() || f1 < 0.95 {
            bad.push(format!("{}: F1 {f1:.3}", concept.name));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn the_two_senses_of_a_word_are_about_equally_frequent() {
    let statistics = statistics(13, 6_000_000);
    let senses: Vec<_> = statistics.concepts.iter().filter(|c| c.kind == ConceptKind::Sense).collect();
    assert_eq!(senses.len(), 48);
    for pair in senses.chunks(2) {
        let share = pair[0].spans as f64 / (pair[0].spans + pair[1].spans) as f64;
        assert!((0.4..=0.6).contains(&share), "{}: {share}", pair[0].name);
    }
}

#[test]
fn there_are_more_consequential_concepts_than_three_times_512() {
    let planted = Planted::new(0);
    let count = |k| planted.concepts().iter().filter(|c| c.kind == k).count();
    assert!(planted.concepts().len() >= 1_500);
    assert!(count(ConceptKind::Lexeme) >= 1_100 && count(ConceptKind::Class) >= 250);
    assert_eq!(concept(&planted, "indefinite pronoun"), 0);
}
