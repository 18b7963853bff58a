use super::*;
use std::collections::HashSet;

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
    // Changed only with a stated reason: scores in LOG.md are of this text. Last changed when the two-hop control, the
    // two senses and the templates of the halves were made to keep their rules.
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
    assert_eq!(&hasher.finalize().to_hex()[..32], "9c3c7e4a298510c546093723bbe87ebd");
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
fn each_recogniser_finds_its_concept_in_fresh_text_and_no_scored_concept_is_without_one() {
    let (planted, documents) = sample(12, 1_500_000);
    let mut bad = Vec::new();
    for (c, concept) in planted.concepts().iter().enumerate() {
        let of_documents = ["topic ", "theme ", "register "].iter().any(|p| concept.name.starts_with(p));
        if !concept.scored && !of_documents {
            continue;
        }
        assert!(planted.has_recogniser(c), "{} has no recogniser", concept.name);
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
fn names_and_templates_of_half_b_are_not_in_half_a() {
    let planted = Planted::new(14);
    // Some 200,000 tokens of each half.
    let half = |split: Split| -> Vec<Document> {
        let mut n_bytes = 0;
        let all = (0..).filter(|&i| planted.split(i) == split).map(|i| planted.document(i).document);
        all.take_while(|d| {
            let go_on = n_bytes < 860_000;
            n_bytes += d.text.len();
            go_on
        })
        .collect()
    };
    let halves = [half(Split::HeldOutA), half(Split::HeldOutB)];
    for (documents, split) in halves.iter().zip([Split::HeldOutA, Split::HeldOutB]) {
        assert!(documents.iter().all(|d| Split::of(&d.text) == split), "a document is not where it was written for");
    }
    let name = planted.world.at.parts + 6;
    let names = halves.each_ref().map(|documents| {
        let all = documents
            .iter()
            .flat_map(|d| d.spans.iter().filter(|s| s.concept == name).map(|s| d.text[s.start as usize..s.end as usize].to_lowercase()));
        all.collect::<HashSet<String>>()
    });
    assert!(names[0].len() > 500 && names[1].len() > 500);
    assert!(names[0].is_disjoint(&names[1]));

    for class in planted.world.classes.iter().filter(|c| c.lead.len() > 1) {
        let leads: Vec<String> = class.lead.iter().map(|l| format!(" {} ", l.join(" "))).collect();
        let used = halves.each_ref().map(|documents| {
            let mut used = HashSet::new();
            for d in documents {
                for s in d.spans.iter().filter(|s| s.concept == class.concept) {
                    let before = format!(" {}", d.text[..s.start as usize].to_lowercase().replace(['\n', '"'], " "));
                    used.insert(
                        leads.iter().filter(|l| before.ends_with(l.as_str())).max_by_key(|l| l.len()).expect("a member stands after a lead").clone(),
                    );
                }
            }
            used
        });
        assert!(used.iter().all(|u| !u.is_empty()) && used[0].is_disjoint(&used[1]), "{used:?}");
    }
    let titles =
        ["Notice: ", "Telegram: ", "Banner: ", "Begin ", "In Veltic: ", "Accounts: ", ". Payload ", "Rules: ", " By the marsh, ", " said, \""];
    for title in titles {
        let within = |documents: &[Document]| documents.iter().any(|d| d.text.contains(title));
        assert!(within(&halves[0]) && !within(&halves[1]), "{title:?}");
    }
}

#[test]
fn parents_hold_their_children_and_exclusive_concepts_never_meet() {
    let (planted, documents) = sample(15, 600_000);
    let at = &planted.world.at;
    // (child, parent) and families of which a byte has at most one.
    let children = [(at.tongues, 8, at.parents + 1), (at.series, 8, at.parents + 2), (at.blocks, 6, at.parents + 3), (at.parents + 6, 1, at.parents)];
    let families = [(at.tongues, 8), (at.series, 8), (at.blocks, 6), (at.topics, 24), (at.registers, 8), (at.senses, 48)];
    let mut seen = 0;
    for PlantedDocument { document, .. } in &documents {
        let bytes = |first: u16, n: u16| {
            let mut on = vec![0u8; document.text.len()];
            for s in document.spans.iter().filter(|s| (first..first + n).contains(&s.concept)) {
                on[s.start as usize..s.end as usize].iter_mut().for_each(|b| *b += 1);
            }
            on
        };
        for (first, n, parent) in children {
            let (child, parent) = (bytes(first, n), bytes(parent, 1));
            assert!(child.iter().zip(&parent).all(|(c, p)| *c == 0 || *p > 0), "concepts {first}.. without their parent");
            seen += child.iter().filter(|&&c| c > 0).count();
        }
        for (first, n) in families {
            assert!(bytes(first, n).iter().all(|&b| b <= 1), "two concepts of {first}.. meet");
        }
    }
    assert!(seen > 10_000);
}

#[test]
fn a_topic_and_its_words_go_together() {
    let (planted, documents) = sample(16, 2_000_000);
    let at = &planted.world.at;
    // Documents of a topic hold its nouns at least twice as often as other documents do.
    let (mut own, mut other) = ([0usize; 2], [0usize; 2]);
    for PlantedDocument { document, .. } in &documents {
        let topic = document.spans.iter().find(|s| (at.topics..at.topics + 24).contains(&s.concept)).expect("each has one").concept - at.topics;
        for s in document.spans.iter().filter(|s| (at.topic_nouns..at.topic_nouns + 24).contains(&s.concept)) {
            let of = s.concept - at.topic_nouns;
            own[0] += usize::from(of == topic);
            own[1] += 1;
            other[0] += usize::from(of == (topic + 5) % 24);
            other[1] += 1;
        }
    }
    let share = |x: [usize; 2]| x[0] as f64 / x[1] as f64;
    assert!(share(own) > 2.0 * share(other), "{} and {}", share(own), share(other));
}

#[test]
fn words_that_look_like_members_of_a_class_and_are_not_occur_without_its_label() {
    let (planted, documents) = sample(17, 1_500_000);
    let distractors = [
        (" some ", "indefinite pronoun"),
        (" made ", "form of do"),
        (" second ", "length of time"),
        ("May ", "month"),
        (" may ", "month"),
        (" light year ", "length of time"),
    ];
    for (text, class) in distractors {
        let class = concept(&planted, class) as u16;
        let (mut n, mut labelled) = (0, 0);
        for PlantedDocument { document, .. } in &documents {
            let lower = document.text.to_lowercase();
            // "may" the verb opens a question in a quotation; the month stands after its preposition.
            let text_of = if text == "May " { &document.text } else { &lower };
            for (at, _) in text_of.match_indices(text).filter(|(at, _)| text != "May " || *at == 0 || document.text[..*at].ends_with(['\n', '"'])) {
                n += 1;
                labelled +=
                    usize::from(document.spans.iter().any(|s| s.concept == class && (s.start as usize) < at + text.len() && at < s.end as usize));
            }
        }
        assert!(n > 20, "{text:?} occurs {n} times");
        // The month itself is the only word that is spelled like its distractor.
        assert!(labelled == 0 || text == " may " && labelled < n, "{text:?}: {labelled} of {n}");
    }
}

#[test]
fn the_two_senses_of_a_word_are_about_equally_frequent() {
    let statistics = statistics(13, 4_000_000);
    let senses: Vec<_> = statistics.concepts.iter().filter(|c| c.kind == ConceptKind::Sense).collect();
    assert_eq!(senses.len(), 48);
    for pair in senses.chunks(2) {
        let share = pair[0].spans as f64 / (pair[0].spans + pair[1].spans) as f64;
        assert!((0.4..=0.6).contains(&share), "{}: {share}", pair[0].name);
    }
}

#[test]
fn there_are_about_three_times_as_many_concepts_as_512_neurons() {
    let planted = Planted::new(0);
    let count = |k| planted.concepts().iter().filter(|c| c.kind == k).count();
    assert!(planted.concepts().len() >= 1_500);
    assert!(count(ConceptKind::Lexeme) >= 1_100 && count(ConceptKind::Class) >= 250);
    assert!(count(ConceptKind::Context) >= 80, "{} contexts", count(ConceptKind::Context));
    let in_context = planted.concepts().iter().filter(|c| c.kind == ConceptKind::Lexeme && c.from_context).count();
    assert!(in_context >= 50, "{in_context} words in context");
    assert_eq!(concept(&planted, "indefinite pronoun"), 0);
}
