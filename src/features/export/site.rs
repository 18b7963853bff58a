//! A web site without a server: `index.html` with its script and style, and data in `.js` files, which a page opened from `file://` may load
//! as scripts (it may not fetch). Every text reaches the page as text, never as markup.
//!
//! | file | calls | with |
//! |---|---|---|
//! | `data/meta.js` | `monosem.meta` | names, counts, sizes of the shards below |
//! | `data/list-N.js` | `monosem.list` | a row to each of [`PER_LIST`] features: number, density, maximum, flags, labels, concept, top tokens |
//! | `data/feature-N.js` | `monosem.features` | contexts, histograms and logits of [`PER_SHARD`] features; token texts once in `texts` |
//! | `data/words-N.js` | `monosem.words` | words of one bucket: features by label, by firing token, by context; each list is first number, then steps |

use super::{Folder, Source, check};
use crate::artifact::Progress;
use crate::features::Result;
use crate::features::render::{per_token, plain};
use crate::features::store::{Example, FeatureDetail, Flag, GroupKind};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

const PER_LIST: u32 = 4096;
const PER_SHARD: u32 = 16;
/// Buckets of words.
pub const N_BUCKETS: u32 = 509;

const FILES: [(&str, &str); 3] = [
    ("index.html", include_str!("../../../assets/site/index.html")),
    ("site.js", include_str!("../../../assets/site/site.js")),
    ("site.css", include_str!("../../../assets/site/site.css")),
];

pub(super) fn write(source: &Source, to: &mut Folder, progress: &mut dyn Progress) -> Result<()> {
    let meta = source.dictionary.meta();
    for (name, text) in FILES {
        to.file(name, |out| out.write_all(text.as_bytes()))?;
    }
    script(
        to,
        "meta",
        "meta",
        &json!({
            "model": source.model_id, "name": meta.name, "hook": meta.hook, "kind": meta.kind.name(), "dataset": source.dataset,
            "n_units": meta.n_units, "n_tokens": meta.n_tokens, "flags": Flag::ALL.map(Flag::name),
            "per_list": PER_LIST, "per_shard": PER_SHARD, "n_buckets": N_BUCKETS, "made": source.created_at,
        }),
    )?;
    let (mut list, mut shard, mut words) = (vec![], Shard::default(), Words::default());
    for id in 0..meta.n_units {
        check(progress)?;
        let detail = source.dictionary.feature_in(id, source.text)?;
        list.push(row(source, &detail));
        words.take(source, &detail);
        shard.take(source, &detail);
        let last = id + 1 == meta.n_units;
        if last || (id + 1) % PER_SHARD == 0 {
            script(to, &format!("feature-{}", id / PER_SHARD), "features", &std::mem::take(&mut shard))?;
        }
        if last || (id + 1) % PER_LIST == 0 {
            script(to, &format!("list-{}", id / PER_LIST), "list", &json!({ "from": id / PER_LIST * PER_LIST, "rows": std::mem::take(&mut list) }))?;
        }
        progress.advance(1);
    }
    for (bucket, words) in words.buckets() {
        script(to, &format!("words-{bucket}"), "words", &json!({ "bucket": bucket, "words": words }))?;
    }
    Ok(())
}

/// `data/NAME.js`: a call with one JSON value. JSON is JavaScript since ECMAScript 2019.
fn script<T: Serialize>(to: &mut Folder, name: &str, call: &str, value: &T) -> Result<()> {
    to.file(format!("data/{name}.js"), |out| {
        write!(out, "monosem.{call}(")?;
        serde_json::to_writer(&mut *out, value)?;
        out.write_all(b");\n")
    })
}

fn row(source: &Source, detail: &FeatureDetail) -> Value {
    let s = &detail.summary;
    let flags: Vec<&str> = s.flags.iter().map(|f| f.name()).collect();
    let labels: Vec<&str> = source.labels_of(s.id).iter().map(|l| l.text.as_str()).collect();
    let concept = s.concept.as_ref().map(|c| json!([c.name, c.f1]));
    let tokens: Vec<String> = s.top_tokens.iter().take(6).map(|t| plain(&t.token.bytes)).collect();
    json!([s.id, s.density, s.max_act, flags, labels, concept, tokens])
}

/// Features whose token texts are kept once.
#[derive(Default, Serialize)]
struct Shard {
    texts: Vec<String>,
    features: BTreeMap<u32, Value>,
    #[serde(skip)]
    places: HashMap<String, usize>,
}

impl Shard {
    fn take(&mut self, source: &Source, detail: &FeatureDetail) {
        let s = &detail.summary;
        let groups: Vec<Value> = detail
            .groups
            .iter()
            // As everywhere: random firings first, the silent ones last.
            .filter(|g| !g.examples.is_empty())
            .map(|g| json!({ "name": g.name, "n": g.n_firings, "contexts": g.examples.iter().map(|e| self.context(e)).collect::<Vec<_>>() }))
            .collect();
        let effects =
            |effects: &[crate::features::store::LogitEffect]| effects.iter().map(|e| json!([plain(&e.token.bytes), e.effect])).collect::<Vec<_>>();
        let tokens: Vec<Value> = s.top_tokens.iter().map(|t| json!([plain(&t.token.bytes), t.n, t.mass])).collect();
        let value = json!({
            "n": s.n_active, "mean": s.mean_act, "effective": s.effective_tokens, "polysemantic": s.polysemantic, "cosine": s.enc_dec_cosine,
            "tokens": tokens, "up": effects(&detail.logits_up), "down": effects(&detail.logits_down),
            "histogram": detail.histogram, "labels": source.labels_of(s.id), "groups": groups,
        });
        self.features.insert(s.id, value);
    }

    /// `[act, t, document, focus, from, to, texts, [place, act, ...]]`: the window is `from..to`, places are of what fires.
    fn context(&mut self, e: &Example) -> Value {
        let bytes: Vec<&[u8]> = e.tokens.iter().map(|t| t.bytes.as_slice()).collect();
        let texts: Vec<usize> = per_token(&bytes).into_iter().map(|text| self.place(text)).collect();
        let acts: Vec<Value> = e.acts.iter().enumerate().filter(|(_, a)| **a > 0.0).flat_map(|(i, a)| [json!(i), json!(a)]).collect();
        json!([e.act, e.t, e.doc, e.focus, e.window.0, e.window.1, texts, acts])
    }

    fn place(&mut self, text: String) -> usize {
        *self.places.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            self.texts.len() - 1
        })
    }
}

/// Word -> features that are labelled with it, fire on it, have it in a context. Features rise.
#[derive(Default)]
struct Words(HashMap<String, [Vec<u32>; 3]>);

impl Words {
    fn take(&mut self, source: &Source, detail: &FeatureDetail) {
        let id = detail.summary.id;
        source.labels_of(id).iter().for_each(|l| self.add(0, id, &l.text));
        detail.summary.top_tokens.iter().for_each(|t| self.add(1, id, &t.token.text));
        // As the dictionary's own index: what the intervals show is a sample of the same.
        for group in detail.groups.iter().filter(|g| matches!(g.kind, GroupKind::Top | GroupKind::Random)) {
            for example in &group.examples {
                let bytes: Vec<u8> = example.tokens.iter().flat_map(|t| t.bytes.iter().copied()).collect();
                self.add(2, id, &String::from_utf8_lossy(&bytes));
            }
        }
    }

    fn add(&mut self, place: usize, id: u32, text: &str) {
        for word in words(text) {
            let of = &mut self.0.entry(word).or_default()[place];
            if of.last() != Some(&id) {
                of.push(id);
            }
        }
    }

    fn buckets(self) -> BTreeMap<u32, BTreeMap<String, Vec<Vec<u32>>>> {
        let mut buckets: BTreeMap<u32, BTreeMap<String, Vec<Vec<u32>>>> = BTreeMap::new();
        let steps = |ids: Vec<u32>| ids.iter().scan(0, |before, &id| Some(id - std::mem::replace(before, id))).collect::<Vec<u32>>();
        for (word, places) in self.0 {
            buckets.entry(bucket(&word)).or_default().insert(word, places.map(steps).to_vec());
        }
        buckets
    }
}

/// Lower-case runs of letters and digits; a Chinese or Japanese character is a word of its own. `site.js` does the same with what is typed.
fn words(text: &str) -> Vec<String> {
    let mut found: Vec<String> = vec![];
    let mut open = false;
    for c in text.to_lowercase().chars() {
        let alone = matches!(c as u32, 0x3040..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0x20000..=0x3ffff);
        match found.last_mut() {
            Some(word) if c.is_alphanumeric() && open && !alone => word.push(c),
            _ if c.is_alphanumeric() => found.push(c.into()),
            _ => {}
        }
        open = c.is_alphanumeric() && !alone;
    }
    // Longer runs are no words: base64 and the like.
    found.retain(|w| w.len() <= 64);
    found
}

/// By the first two characters, so that a beginning of two letters is found in one file.
fn bucket(word: &str) -> u32 {
    let mut chars = word.chars().map(u32::from);
    (chars.next().unwrap_or(0) * 31 + chars.next().unwrap_or(0)) % N_BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_runs_and_chinese_characters_alone() {
        assert_eq!(words("The U.S. 42nd—día"), ["the", "u", "s", "42nd", "día"]);
        assert_eq!(words("日本 go語x"), ["日", "本", "go", "語", "x"]);
        assert_eq!(bucket("do"), bucket("does"), "a beginning of two letters and its words are in one file");
    }
}
