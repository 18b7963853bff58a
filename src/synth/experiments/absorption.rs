//! Feature absorption in its smallest form (Chanin et al. 2024, "A is for Absorption", toy models).
//!
//! Four orthogonal features of magnitude 1 in 50 dimensions, rates 0.25, 0.05, 0.05, 0.05; four latents; L1. Independent features are recovered.
//! Where feature 1 fires only with feature 0, sparsity is cheaper with one latent for both: the latent of feature 1 gets the direction
//! (v0 + v1) / sqrt(2), cosine 0.71 with each, and the latent of feature 0 learns to be silent where 1 fires.
//!
//! Ours and not published: L1 0.03 beside the squared error summed over dimensions, rate 3e-3, falling over the last 0.3 of 5M rows (published: L1 3e-5, rate 3e-4, 100M rows);
//! and the Matryoshka SAE, which is no part of the publication: eight latents, k 0.5, three prefixes drawn anew for each step. (Of four latents, or with fixed prefixes, one often dies
//! or stands for the absence of what b_dec holds, for rows are centred: LOG.md.)

use super::{Ask, Experiment, Outcome};
use crate::artifact::{Figure, Progress};
use crate::sae::{SaeConfig, SparseRows, TrainConfig};
use crate::synth::Result;
use crate::synth::data::Dictionary;
use crate::synth::data::trees::{Group, Trees};
use crate::synth::scores::Scored;
use crate::synth::source::Rows;
use serde_json::{Value, json};

pub const ABSORPTION: Experiment = Experiment {
    name: "absorption",
    about: "a child that fires only with its parent: the parent's latent goes silent with it",
    source: "Chanin et al. 2024, A is for Absorption",
    rows: 5_000_000,
    takes: "20 seconds",
    run,
};

const D: usize = 50;
/// Latents of an SAE that is none of the published kind.
const ROOMY: usize = 8;

/// Magnitude of every feature.
const MAGNITUDE: f32 = 1.0;
/// Figures' names.
const HOLE: &str = "hierarchical: share of rows of parent and child in which the parent's latent fires";
const ALONE: &str = "hierarchical: share of rows of the parent alone in which it fires";
const ELSEWHERE: &str = "hierarchical: share of rows without the parent in which it fires";
const PARENT: &str = "hierarchical: cosine of the parent's latent with the parent";
const OTHERS: &str = "hierarchical: smallest cosine of the two others";
/// Of a latent that detects the parent: its cosine with the parent and its share of rows of the parent alone at least, that of rows without the parent at most.
const MOSTLY: f64 = 0.95;
const HARDLY: f64 = 0.05;

fn groups(hierarchical: bool) -> Vec<Group> {
    let group = |parent, members: &[(u32, f64)]| Group { parent, exclusive: false, members: members.to_vec() };
    match hierarchical {
        false => vec![group(None, &[(0, 0.25), (1, 0.05), (2, 0.05), (3, 0.05)])],
        // Given its parent at 0.2, so that its rate is the same 0.05.
        true => vec![group(None, &[(0, 0.25), (2, 0.05), (3, 0.05)]), group(Some(0), &[(1, 0.2)])],
    }
}

fn case(hierarchical: bool) -> &'static str {
    if hierarchical { "hierarchical" } else { "independent" }
}

/// What the rows follow from.
fn identity(hierarchical: bool) -> Value {
    json!({ "generator": "absorption", "world": 0, "case": case(hierarchical), "d_in": D, "groups": groups(hierarchical), "magnitude": MAGNITUDE })
}

fn run(ask: &Ask, progress: &mut dyn Progress) -> Result<Outcome> {
    let own = [("relu-2023", json!({ "l1": 0.03 / D as f64 })), ("matryoshka", json!({ "k": 0.5, "random": 3, "sort_every": 1 }))];
    let mut figures = Vec::new();
    for architecture in ask.architectures(&own) {
        let chosen = architecture.as_it_is()?;
        let (is_plain, is_nested) = (architecture.recipe.starts_with("relu"), architecture.recipe == "matryoshka");
        let sae = SaeConfig::new(D, if is_plain { 4 } else { ROOMY }, chosen.recipe.clone());
        let mut seen: Vec<[f64; 8]> = Vec::new();
        for &seed in &ask.seeds {
            let config = chosen.tuned(TrainConfig {
                lr: 3e-3,
                lr_decay: 0.3,
                resample: None,
                snapshots: 0,
                ..TrainConfig::short(sae.clone(), ask.rows(&ABSORPTION), 1024, seed)
            });
            let mut both = [0.0; 8];
            for hierarchical in [false, true] {
                let data = Trees::new(Dictionary::orthogonal(4, D, 0), groups(hierarchical), vec![MAGNITUDE; 4]);
                let label = format!("{} {}", case(hierarchical), chosen.label);
                let jobs = [(label.clone(), config.clone())];
                let scored = ask.trained(&data, &identity(hierarchical), &jobs, 20_000, progress)?.remove(0);
                if hierarchical {
                    both[1..].copy_from_slice(&hierarchical_figures(ask, &scored, &data, &label, seed)?);
                } else {
                    both[0] = (0..4).map(|i| best(&scored, i).1).fold(1.0, f64::min);
                }
            }
            seen.push(both);
        }
        figures.extend(figures_of(&chosen.label, (is_plain, is_nested), &seen));
    }
    let says = says(&figures, &ask.on_rows(&ABSORPTION));
    Ok(Outcome { experiment: ABSORPTION.name, says, figures })
}

/// What came out, with what is accepted of it; `seen` has for each seed the smallest cosine of the independent features and what [`hierarchical_figures`] says.
fn figures_of(label: &str, (is_plain, is_nested): (bool, bool), seen: &[[f64; 8]]) -> [Figure; 8] {
    let figure = |what: &str, i: usize| Figure::new(label, what, &seen.iter().map(|s| s[i]).collect::<Vec<_>>());
    // What is published is published of plain SAEs.
    let expect = |figure: Figure, published: f64, low: f64, high: f64| if is_plain { figure.published(published).within(low, high) } else { figure };
    let asserted = |figure: Figure, low: f64, high: f64| if is_plain || is_nested { figure.within(low, high) } else { figure };
    [
        expect(figure("independent: smallest cosine of a feature", 0), 1.0, 0.99, 1.001),
        expect(figure("hierarchical: cosine of the child's latent with the parent", 1), 0.71, 0.65, 0.78),
        expect(figure("hierarchical: and with the child", 2), 0.71, 0.65, 0.78),
        match is_nested {
            true => figure(OTHERS, 3).at_least(0.99),
            false => expect(figure(OTHERS, 3), 1.0, 0.99, 1.001),
        },
        match is_nested {
            true => figure(HOLE, 4).within(0.95, 1.0),
            false => expect(figure(HOLE, 4), 0.0, 0.0, 0.05),
        },
        // A latent that is dead, or always on, has no hole either.
        asserted(figure(ALONE, 5), MOSTLY, 1.0),
        asserted(figure(ELSEWHERE, 6), 0.0, HARDLY),
        asserted(figure(PARENT, 7), MOSTLY, 1.001),
    ]
}

/// What one sees: who has the hole, of those that found the parent. `rows` says on how many.
fn says(figures: &[Figure], rows: &str) -> String {
    let of = |figure: &Figure| match figure.ours {
        share if share < 0.05 => format!("{} is silent there", figure.of),
        share if share > 0.95 => format!("{} fires there", figure.of),
        share => format!("{} fires in {:.0} % of such rows", figure.of, 100.0 * share),
    };
    let (mut holes, mut lost) = (Vec::new(), Vec::new());
    for figure in figures.iter().filter(|figure| figure.what == HOLE) {
        match no_detector(figures, &figure.of) {
            None => holes.push(of(figure)),
            Some(why) => lost.push(format!("{} ({why})", figure.of)),
        }
    }
    let seen = if holes.is_empty() { String::new() } else { format!(" The parent's latent of {}.", holes.join(", that of ")) };
    let unseen = match lost.is_empty() {
        true => String::new(),
        false => {
            format!(" No latent for the parent was found on {rows} by {}, so nothing follows from where its latents fire.", lost.join(", nor by "))
        }
    };
    format!(
        "Where the child implies the parent, one latent may take both directions and the parent's latent fall silent exactly there: read as a detector of the parent it has a hole \
         then.{seen}{unseen} Published of plain SAEs: the hole; of a latent that has to reconstruct alone: none."
    )
}

/// Why the latent of an SAE that is nearest to the parent does not detect it, so that its silence is no hole; none: it detects the parent.
fn no_detector(figures: &[Figure], of: &str) -> Option<String> {
    let at = |what: &str| figures.iter().find(|figure| figure.of == of && figure.what == what).map_or(0.0, |figure| figure.ours);
    match (at(PARENT), at(ALONE), at(ELSEWHERE)) {
        (cosine, ..) if cosine < MOSTLY => Some(format!("the nearest has a cosine of {cosine:.2} with it")),
        (_, alone, _) if alone < MOSTLY => Some(format!("the nearest fires in {:.0} % of the rows of the parent alone", 100.0 * alone)),
        (_, _, elsewhere) if elsewhere > HARDLY => Some(format!("the nearest fires in {:.0} % of the rows without it", 100.0 * elsewhere)),
        _ => None,
    }
}

/// The latent with the largest cosine with a feature.
fn best(scored: &Scored, feature: u32) -> (u32, f64) {
    let cosine = |j: u32| (j, scored.geometry.cosine(j, feature) as f64);
    (0..scored.geometry.near.len() as u32).map(cosine).fold((0, -1.0), |a, b| if b.1 > a.1 { b } else { a })
}

/// What is said above of the hierarchical case, in its order.
fn hierarchical_figures(ask: &Ask, scored: &Scored, data: &Trees, label: &str, seed: u64) -> Result<[f64; 7]> {
    let (child, with_child) = best(scored, 1);
    // Of the other latents the one nearest to the parent.
    let parent = (0..scored.geometry.near.len() as u32)
        .filter(|&j| j != child)
        .max_by(|&a, &b| scored.geometry.cosine(a, 0).total_cmp(&scored.geometry.cosine(b, 0)))
        .expect("four latents");
    let sae = crate::sae::Sae::load(&ask.place(label, seed))?;
    let (mut x, mut features, mut latents) = (vec![0.0; 20_000 * D], SparseRows::default(), SparseRows::default());
    Rows::new(data, seed, "eval").next_with_features(&mut x, &mut features);
    sae.encode(&x, &mut latents);
    // Of rows with the parent and with the child, or not, the share in which the parent's latent fires.
    let fires = |has_parent: bool, has_child: bool| {
        let is_one = |r: &usize| [0, 1].map(|i| features.row(*r).0.contains(&i)) == [has_parent, has_child];
        let rows: Vec<usize> = (0..20_000).filter(is_one).collect();
        rows.iter().filter(|&&r| latents.row(r).0.contains(&parent)).count() as f64 / rows.len().max(1) as f64
    };
    let others = best(scored, 2).1.min(best(scored, 3).1);
    Ok([
        scored.geometry.cosine(child, 0) as f64,
        with_child,
        others,
        fires(true, true),
        fires(true, false),
        fires(false, false),
        scored.geometry.cosine(parent, 0) as f64,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Silent;
    use crate::synth::experiments::Architecture;

    #[test]
    fn a_latent_that_is_dead_or_always_on_is_no_detector_of_the_parent() {
        let missed = |kind: (bool, bool), seen: [f64; 8]| {
            let missed = figures_of("a", kind, &[seen]).into_iter().filter(|f| f.holds() == Some(false));
            missed.map(|f| f.what).collect::<Vec<String>>()
        };
        let (plain, nested, other) = ((true, false), (false, true), (false, false));
        assert_eq!(missed(plain, [1.0, 0.71, 0.71, 1.0, 0.0, 1.0, 0.0, 1.0]), [""; 0]);
        assert_eq!(missed(nested, [1.0, -0.2, 0.98, 1.0, 1.0, 1.0, 0.0, 0.98]), [""; 0]);
        assert_eq!(missed(plain, [1.0, 0.71, 0.71, 1.0, 0.0, 0.0, 0.0, 0.3]), [ALONE, PARENT]);
        assert_eq!(missed(nested, [1.0, -0.2, 0.98, 1.0, 1.0, 1.0, 1.0, 0.98]), [ELSEWHERE]);
        assert_eq!(missed(nested, [1.0, -0.2, 0.98, 0.5, 0.0, 1.0, 0.0, 0.98]), [OTHERS, HOLE]);
        assert_eq!(missed(other, [0.0; 8]), [""; 0]);
    }

    #[test]
    fn where_the_parent_was_not_found_nothing_is_concluded() {
        // Hole, parent alone, without the parent, cosine.
        let figures = |of: &str, seen: [f64; 4]| {
            [HOLE, ALONE, ELSEWHERE, PARENT].into_iter().zip(seen).map(|(what, ours)| Figure::new(of, what, &[ours])).collect::<Vec<Figure>>()
        };
        let said = |all: &[Vec<Figure>]| says(&all.concat(), "7 rows");
        let hole = |ours: f64| said(&[figures("a", [ours, 1.0, 0.0, 0.99])]);
        assert!(hole(0.0).contains("latent of a is silent there.") && hole(1.0).contains("of a fires there."), "{}", hole(0.0));
        assert!(hole(0.4).contains("fires in 40 %") && !hole(0.4).contains("nothing follows"), "{}", hole(0.4));
        // A newcomer's 100,000 rows: a latent with a cosine of 0.31 was called the parent's.
        let lost = said(&[figures("a", [1.0, 1.0, 0.0, 0.31])]);
        assert!(lost.contains("was found on 7 rows by a (the nearest has a cosine of 0.31 with it)") && !lost.contains("fires there"), "{lost}");
        // Dead, and always on.
        let both = said(&[figures("a", [0.0, 0.0, 0.0, 0.99]), figures("b", [1.0, 1.0, 0.8, 0.99]), figures("c", [1.0, 1.0, 0.0, 0.99])]);
        assert!(both.contains("by a (the nearest fires in 0 % of the rows of the parent alone), nor by b (the nearest fires in 80 %"), "{both}");
        assert!(both.contains("latent of c fires there.") && !both.contains("a is silent"), "{both}");
    }

    #[test]
    fn the_data_are_named_by_what_their_rows_follow_from() {
        let (independent, hierarchical) = (identity(false), identity(true));
        assert_eq!((&independent["groups"][0]["members"][1], &independent["case"]), (&json!([1, 0.05]), &json!("independent")));
        assert_eq!((&hierarchical["groups"][1]["parent"], &hierarchical["groups"][1]["members"][0]), (&json!(0), &json!([1, 0.2])));
    }

    #[test]
    fn settings_of_the_training_are_heeded_and_matryoshka_has_to_find_the_two_others() {
        let parts = tempfile::tempdir().unwrap();
        let recipes = vec![Architecture::parse("matryoshka:k=0.4,prefixes=[1],auxk=false,lr=0.123").unwrap()];
        let ask = Ask { folder: parts.path().into(), seeds: vec![0], rows: Some(20_480), recipes, ..Ask::default() };
        let outcome = run(&ask, &mut Silent).unwrap();
        let manifest = |of: &str| std::fs::read_to_string(parts.path().join(of).join("manifest.json")).unwrap();
        for case in ["independent", "hierarchical"] {
            let manifest = manifest(&format!("{case}-matryoshka-k=0.4-prefixes=[1]-auxk=false-lr=0.123-s0"));
            assert!(manifest.contains("\"lr\": 0.123"), "{manifest}");
        }
        let others = outcome.figures.iter().find(|f| f.what == OTHERS).unwrap();
        assert_eq!((others.band, others.published), (Some((0.99, f64::INFINITY)), None));
    }
}
