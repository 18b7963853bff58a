//! Claims about written texts: coupled draws, stop strings, effects along a text, sweeps.

use super::testing::{model, sae};
use super::write::Rig;
use super::*;
use crate::corpus::Tokenizer;
use crate::lm::{CpuEngine, Edit, Engine, HookPoint, Lm, Sampling};
use crate::sae::Select;

const D_IN: usize = 10;

fn hook() -> HookPoint {
    HookPoint::mlp_post(0)
}

#[test]
fn the_longest_repeat_is_that_of_brute_force() {
    let brute = |t: &[u32]| {
        let stretch = |i: usize, n: usize| (i + n..=t.len().saturating_sub(n)).any(|j| t[i..i + n] == t[j..j + n]);
        (1..=t.len()).filter(|&n| (0..=t.len() - n).any(|i| stretch(i, n))).max().unwrap_or(0)
    };
    assert_eq!(quality::longest_repeat(&[1, 2, 3, 1, 2, 3]), 3);
    assert_eq!(quality::longest_repeat(&[7; 9]), 4, "the second stretch begins where the first has ended");
    for seed in 0..60u32 {
        let tokens: Vec<u32> = (0..seed % 23).map(|i| (i * i * 7 + seed * i) % 3).collect();
        assert_eq!(quality::longest_repeat(&tokens), brute(&tokens), "{tokens:?}");
    }
}

/// A model that writes, over a tokenizer of as many tokens as it has.
fn writes() -> (Lm, Tokenizer) {
    let tokenizer = Tokenizer::train(["a b c d the king and queen do"].into_iter(), 260).unwrap();
    (model(1, tokenizer.d_vocab()), tokenizer)
}

fn luck(seed: u64) -> Sampling {
    Sampling { temperature: 1.0, top_k: None, top_p: None, seed }
}

#[test]
fn many_texts_are_each_the_one_that_is_written_alone() {
    let (lm, tokenizer) = writes();
    let sae = sae(D_IN, 23, Select::TopK { k: 4 });
    let rig = Rig { lm: &lm, tokenizer: &tokenizer, sae: &sae, hook: hook() };
    let writing = write::Writing::new(20, &luck(4));
    let steering = Steering::one(3, Rule::Set(3.0));
    let prompts = [rig.prompt("the king"), rig.prompt(""), rig.prompt("a b c d a b c d a b c d")];
    let edited = write::texts(rig, (&steering).into(), &prompts, &writing).unwrap();
    let unedited = write::texts(rig, write::Change::default(), &prompts, &writing).unwrap();
    for (i, prompt) in prompts.iter().enumerate() {
        let both = steer(rig, &steering, prompt, &writing.of_text(i), &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap();
        assert_eq!((&both.edited.tokens, &both.unedited.tokens), (&edited[i], &unedited[i]));
    }
    let nothing = Steering::one(3, Rule::Add(0.0));
    assert_eq!(write::texts(rig, (&nothing).into(), &prompts, &writing).unwrap(), unedited, "strength 0 is the same text token for token");
    assert_ne!(edited, unedited);
    // A bias of every token but one leaves that one.
    let mut bias = vec![-1e4; lm.config.d_vocab];
    bias[65] = 0.0;
    let biased = write::Change { steering: None, bias: Some(&bias) };
    assert!(write::texts(rig, biased, &prompts, &writing).unwrap().iter().all(|t| t == &[65; 20]));
}

#[test]
fn a_text_ends_before_a_stop_string_even_where_tokens_cross_it() {
    let (lm, tokenizer) = writes();
    let sae = sae(D_IN, 23, Select::Relu);
    let rig = Rig { lm: &lm, tokenizer: &tokenizer, sae: &sae, hook: hook() };
    let free = write::Writing::new(40, &luck(1));
    let prompt = [rig.prompt("the")];
    let whole = write::texts(rig, write::Change::default(), &prompt, &free).unwrap().remove(0);
    let bytes = tokenizer.decode_bytes(&whole);
    let ascii = (2..bytes.len() - 2).find(|&i| bytes[i..i + 2].is_ascii()).expect("some pair of letters");
    let stop = String::from_utf8(bytes[ascii..ascii + 2].to_vec()).unwrap();
    let at = bytes.windows(2).position(|w| w == stop.as_bytes()).unwrap();
    let writing = write::Writing { stop: vec!["never written".into(), stop], ..free };
    let cut = write::texts(rig, write::Change::default(), &prompt, &writing).unwrap().remove(0);
    assert!(whole.starts_with(&cut) && tokenizer.decode_bytes(&cut).len() <= at && tokenizer.decode_bytes(&whole[..=cut.len()]).len() > at);
}

#[test]
fn an_effect_is_what_two_whole_passes_of_the_model_say() {
    let (lm, tokenizer) = writes();
    let sae = sae(D_IN, 23, Select::TopK { k: 4 });
    let rig = Rig { lm: &lm, tokenizer: &tokenizer, sae: &sae, hook: hook() };
    let steering = Steering::of(vec![LatentEdit::new(3, Rule::Set(2.0)), LatentEdit::new(9, Rule::Zero)]);
    let (prompt, tokens) = (vec![tokenizer.end_of_text(), 70, 71], [72u32, 65, 80, 66]);
    let effect = effect::effect(rig, &steering, &prompt, &tokens, 3).unwrap();
    let ids: Vec<u32> = prompt.iter().chain(&tokens).copied().collect();
    let mut engine = CpuEngine::new(lm.clone());
    let log_probs = |z: &[f32]| {
        let sum = z.iter().map(|&z| f64::from(z).exp()).sum::<f64>().ln();
        z.iter().map(|&z| f64::from(z) - sum).collect::<Vec<_>>()
    };
    for (i, got) in effect.tokens.iter().enumerate() {
        let at = prompt.len() - 1 + i;
        let mut clean = vec![0.0; lm.config.d_vocab];
        engine.logits(&ids, ids.len(), &[at], None, &mut clean);
        let mut editor = Editor::new(&sae, &steering, prompt.len(), tokenizer.end_of_text()).unwrap();
        let mut apply = |rows: &mut [f32]| editor.apply(0, &ids, rows);
        let mut edited = vec![0.0; lm.config.d_vocab];
        engine.logits(&ids, ids.len(), &[at], Some(Edit { hook: hook(), apply: &mut apply }), &mut edited);
        let (p, q) = (log_probs(&clean), log_probs(&edited));
        let kl: f64 = q.iter().zip(&p).map(|(q, p)| q.exp() * (q - p)).sum();
        assert!((got.kl - kl).abs() < 1e-5 && kl > 1e-4, "{} and {kl}", got.kl);
        assert!((got.log_prob_unedited - p[tokens[i] as usize]).abs() < 1e-5 && (got.log_prob_edited - q[tokens[i] as usize]).abs() < 1e-5);
        let change = |id: u32| q[id as usize].exp() - p[id as usize].exp();
        let most = (0..lm.config.d_vocab as u32).max_by(|a, b| change(*a).total_cmp(&change(*b))).unwrap();
        assert_eq!((got.promoted[0].token, got.promoted.len()), (most, 3));
        assert!(got.suppressed.iter().all(|m| m.edited < m.unedited));
    }
    assert!(effect.most_moved.iter().all(|m| m.latent != 3 && m.latent != 9));
    let nothing = effect::effect(rig, &Steering::one(3, Rule::Scale(1.0)), &prompt, &tokens, 3).unwrap();
    assert_eq!((nothing.mean_kl, nothing.others_moved, nothing.most_moved), (0.0, 0.0, vec![]));
    assert!(nothing.tokens.iter().all(|t| t.promoted.is_empty() && t.suppressed.is_empty()));
}

#[test]
fn the_effect_on_the_next_token_is_that_of_the_edited_model_exact_or_run_again() {
    let (lm, tokenizer) = writes();
    // The last block's hooks are exact, the first's of two is not.
    let deep = super::testing::model(2, lm.config.d_vocab);
    for (lm, hook) in [(&lm, hook()), (&deep, HookPoint::mlp_post(0)), (&deep, HookPoint::mlp_post(1))] {
        let sae = sae(hook.d_in(&lm.config), 23, Select::TopK { k: 4 });
        let rig = Rig { lm, tokenizer: &tokenizer, sae: &sae, hook };
        let prompt = rig.prompt("the king and the");
        for scope in [Scope::All, Scope::Prompt, Scope::Continuation] {
            let steering = Steering { scope, ..Steering::of(vec![LatentEdit::new(5, Rule::Add(3.0)), LatentEdit::new(7, Rule::Set(0.5))]) };
            let found = effect::next_effect(rig, &steering, &prompt, 3).unwrap();
            let run = effect::effect(rig, &steering, &prompt, &[found.token], 3).unwrap().tokens.remove(0);
            assert!((found.kl - run.kl).abs() < 1e-5 && (found.log_prob_edited - run.log_prob_edited).abs() < 1e-5, "{hook} {scope:?}");
            assert_eq!(found.log_prob_unedited, run.log_prob_unedited);
            let tokens = |moved: &[effect::Moved]| moved.iter().map(|m| m.token).collect::<Vec<_>>();
            assert_eq!((tokens(&found.promoted), tokens(&found.suppressed)), (tokens(&run.promoted), tokens(&run.suppressed)));
            assert_eq!(found.kl > 1e-6, scope != Scope::Continuation, "{hook} {scope:?}: {}", found.kl);
        }
    }
}

#[test]
fn a_sweep_measures_the_texts_that_it_wrote_and_takes_the_best_that_is_whole() {
    let (lm, tokenizer) = writes();
    let sae = sae(D_IN, 23, Select::Relu);
    let rig = Rig { lm: &lm, tokenizer: &tokenizer, sae: &sae, hook: hook() };
    let (prompts, writing) = ([rig.prompt("the"), rig.prompt("king")], write::Writing::new(15, &luck(2)));
    let concept = concept::Concept::Tokens((0..60).collect());
    let trial = strength::Trial { rig, prompts: &prompts, writing: &writing, concept: Some(&concept) };
    let unedited = trial.write(write::Change::default()).unwrap();
    assert_eq!(unedited.measures.kl, 0.0);
    let total: f64 = prompts.iter().zip(&unedited.texts).map(|(p, t)| t.len() as f64 * quality::perplexity(&lm, p, t).unwrap().ln()).sum();
    assert!((unedited.measures.perplexity.ln() - total / unedited.measures.n_tokens as f64).abs() < 1e-9);
    let in_concept = unedited.texts.iter().flatten().filter(|&&t| t < 60).count() as u64;
    assert_eq!(unedited.measures.concept_tokens, in_concept);
    let adding = |s| Steering::one(5, Rule::Add(s));
    let swept = strength::sweep(trial, &unedited.measures, strength::Bounds::default(), &[0.0, 4.0], &adding, 2).unwrap();
    assert_eq!(swept[0].measures, unedited.measures, "adding nothing writes the same texts");
    assert!(swept[0].whole && swept[1].measures.kl > 0.0);
    // Side effects over both texts are those of each, by tokens.
    let loud = trial.write((&adding(4.0)).into()).unwrap();
    let moved = |(p, t): (&Vec<u32>, &Vec<u32>)| t.len() as f64 * effect::effect(rig, &adding(4.0), p, t, 0).unwrap().others_moved;
    let both = prompts.iter().zip(&loud.texts).map(moved).sum::<f64>() / loud.measures.n_tokens as f64;
    assert!((swept[1].others_moved.unwrap() - both).abs() < 1e-12 && both > 0.0 && swept[0].others_moved == Some(0.0), "{both}");
    let with = |kl: f64, rate: f64, whole: bool| strength::Swept {
        whole,
        measures: strength::Measures { concept_rate: rate, kl, ..swept[0].measures.clone() },
        ..swept[0].clone()
    };
    let all = [with(0.1, 0.1, true), with(0.2, 0.4, true), with(0.3, 0.3, true), with(0.4, 0.9, false)];
    assert_eq!((strength::choose(&all, Some(0.05)), strength::choose(&all, None), strength::choose(&all[3..], Some(0.05))), (Some(1), Some(2), None));
    // Nor is one that writes no more of the concept than there is without it.
    assert_eq!((strength::choose(&all, Some(0.39)), strength::choose(&all, Some(0.4))), (Some(1), None));
    // What changes nothing is not taken, however much of the concept is written anyway.
    assert_eq!(strength::choose(&[with(0.0, 0.9, true), with(0.1, 0.1, true)], Some(0.05)), Some(1));
    // An upper bound does less the higher it is: the largest that does nothing is not the one.
    let capped = strength::sweep(
        trial,
        &unedited.measures,
        strength::Bounds { max_perplexity_ratio: f64::MAX, min_distinct_2_ratio: 0.0 },
        &[0.0, 1e6],
        &|s| Steering::one(5, Rule::AtMost(s)),
        0,
    );
    let capped = capped.unwrap();
    assert_eq!(capped[1].measures.kl, 0.0);
    assert_eq!(strength::choose(&capped, None), (capped[0].measures.kl > 0.0).then_some(0));
    assert_eq!(capped[0].others_moved, None);
}

#[test]
fn a_few_texts_more_are_luck_and_most_of_them_are_not() {
    let luck = |own, base| strength::shares_may_be_luck((own, 20), (base, 20));
    // Three deviations of the difference of two draws of 20, at the rate of both together.
    assert!(luck(0, 0) && luck(5, 1) && luck(19, 13));
    assert!(!luck(18, 6) && !luck(20, 7) && !luck(0, 9));
    // Of more texts the same shares are no luck.
    assert!(!strength::shares_may_be_luck((190, 200), (130, 200)));
}

#[test]
fn a_text_comes_apart_by_perplexity_or_by_repetition() {
    let said = |ratio, distinct| strength::comes_apart(ratio, distinct);
    assert_eq!(said(Some(1.4), (0.9, 0.8)), None);
    assert!(said(Some(1.6), (0.9, 0.8)).is_some_and(|s| s.contains("1.6 times") && !s.contains("repetitions")));
    assert!(said(None, (0.9, 0.5)).is_some_and(|s| s.contains("50 % of its pairs") && !s.contains("perplexing")));
    assert!(said(Some(2.0), (0.9, 0.1)).is_some_and(|s| s.contains(", and ")));
}

#[test]
fn a_handful_of_tokens_more_is_called_luck_and_many_are_not() {
    let counted = |concept_tokens, n_tokens| strength::Measures {
        n_tokens,
        perplexity: 1.0,
        distinct_2: 1.0,
        longest_repeat: 0.0,
        kl: 0.0,
        concept_tokens,
        concept_rate: concept_tokens as f64 / n_tokens as f64,
    };
    let luck = |edited, unedited| strength::may_be_luck(&edited, &unedited);
    assert!(
        luck(counted(4, 1000), counted(1, 1000))
            && luck(counted(7, 1000), counted(1, 1000))
            && luck(counted(0, 1000), counted(0, 1000))
            && luck(counted(1, 1000), counted(0, 1000))
    );
    assert!(!luck(counted(40, 1000), counted(10, 1000)) && !luck(counted(10, 1000), counted(40, 1000)));
    // The same rate in fewer tokens is the same rate.
    assert!(luck(counted(40, 1000), counted(400, 10_000)));
}

#[test]
fn the_strength_that_is_found_is_one_for_all_edits_and_leaves_eight_texts_whole() {
    let (lm, tokenizer) = writes();
    let sae = sae(D_IN, 23, Select::Relu);
    let rig = Rig { lm: &lm, tokenizer: &tokenizer, sae: &sae, hook: hook() };
    let prompt = rig.prompt("the");
    let held = Steering::of(vec![LatentEdit::new(5, Rule::Set(0.0)), LatentEdit::new(7, Rule::Set(0.0))]);
    let maxima = [0.4, 0.8];
    let found = strength::safe_strength(rig, &held, &maxima, &prompt, &luck(2)).unwrap();
    // By hand: both latents at the multiple, eight texts of 32 tokens.
    let prompts = vec![prompt; 8];
    let writing = write::Writing::new(32, &luck(2));
    let trial = strength::Trial { rig, prompts: &prompts, writing: &writing, concept: None };
    let unedited = trial.write(write::Change::default()).unwrap().measures;
    for tried in &found.tried {
        let edits = [(5, maxima[0]), (7, maxima[1])].map(|(latent, max)| LatentEdit::new(latent, Rule::Set(tried.multiple * max)));
        let edited = trial.write((&Steering::of(edits.to_vec())).into()).unwrap().measures;
        let (perplexity, distinct, whole) = strength::Bounds::default().hold(&edited, &unedited);
        assert_eq!((tried.perplexity_ratio, tried.distinct_2_ratio), (perplexity, distinct));
        assert_eq!(whole, found.within_bounds && tried.multiple == found.multiple, "the first that is whole is taken");
    }
}

#[test]
fn texts_in_every_scope_are_edited_where_it_says_past_the_window_too() {
    let (lm, tokenizer) = writes();
    let sae = sae(D_IN, 23, Select::TopK { k: 4 });
    let rig = Rig { lm: &lm, tokenizer: &tokenizer, sae: &sae, hook: hook() };
    let prompt = rig.prompt("the king");
    let n = 2 * lm.config.n_ctx;
    let writing = write::Writing::new(n, &luck(3));
    for scope in [Scope::All, Scope::Prompt, Scope::Generated, Scope::Continuation, Scope::From(4)] {
        let steering = Steering { scope, ..Steering::one(5, Rule::Add(3.0)) };
        let mut writer = write::Writer::reading(rig, (&steering).into(), &prompt, prompt.len()).unwrap();
        // The row that is the prompt's last, then one a token: changed exactly where the scope says.
        let mut at = prompt.len() - 1;
        for step in 0..n {
            let (before, after) = writer.rows();
            assert_eq!(before != after, scope.contains(at, prompt.len()), "{scope:?}, position {at}");
            if writer.write(step, &writing).is_none() {
                break;
            }
            at += usize::from(step > 0);
        }
        let positions = writer.finish().tokens.len();
        assert!(positions > lm.config.n_ctx, "{scope:?}: {positions} tokens do not leave the window");
    }
}

#[test]
fn distinct_bigrams_fall_with_repetition() {
    assert_eq!(quality::distinct_2(&[1, 2, 1, 2, 1]), 0.5);
    assert_eq!(quality::distinct_2(&[1, 2, 3, 4]), 1.0);
    assert_eq!(quality::distinct_2(&[1]), 1.0);
}
