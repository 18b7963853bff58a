//! Which documents, in which order: shares by kind or file, limits, a random key each.

use super::build::Scan;
use super::config::CorpusConfig;
use super::source::glob;
use super::{Error, Result, Split};
use crate::artifact::Progress;
use std::collections::BTreeMap;

/// What is kept of each document between the passes (56 bytes).
pub(super) struct Info {
    /// Its place in the order: documents are sorted by key, then number.
    pub key: u64,
    pub n_bytes: u64,
    pub kind: Option<u32>,
    pub input: u32,
    pub split: Split,
    /// Cost under the planted generator, nats; 0 for real text.
    pub bayes_nats: f64,
}

/// Numbers of the chosen documents in the order of the stream.
///
/// Without a mix these are all, up to `max_bytes`. With one, each share gets its part of T bytes, T being `max_bytes` or else the most that
/// gives every share in full; a share that has too little text gives all it has. A share ends before the document that would pass its part.
pub(super) fn select(config: &CorpusConfig, scan: &mut Scan, progress: &mut dyn Progress) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = (0..scan.infos.len()).collect();
    order.sort_unstable_by_key(|&i| (scan.infos[i].key, i));
    let (groups, shares) =
        if config.mix.is_empty() { (vec![Some(0); scan.infos.len()], vec![Share { name: "all".into(), share: 1.0 }]) } else { groups(config, scan)? };
    let mut available = vec![0u64; shares.len()];
    for (info, group) in scan.infos.iter().zip(&groups) {
        if let Some(group) = group {
            available[*group] += info.n_bytes;
        }
    }
    let most = available.iter().zip(&shares).map(|(&n, s)| n as f64 / s.share).fold(f64::INFINITY, f64::min);
    let total = config.max_bytes.map_or(most, |max| max as f64);
    // A byte of slack, so that a share of all there is takes all there is in spite of rounding.
    let parts: Vec<u64> = shares.iter().map(|s| (s.share * total + 0.5) as u64).collect();
    let (mut used, mut full) = (vec![0u64; shares.len()], vec![false; shares.len()]);
    order.retain(|&i| {
        let Some(group) = groups[i] else { return false };
        full[group] |= used[group] + scan.infos[i].n_bytes > parts[group];
        if !full[group] {
            used[group] += scan.infos[i].n_bytes;
        }
        !full[group]
    });
    if order.is_empty() {
        let n = scan.infos.len();
        let what = match n {
            0 => "no document could be read as text; why is said above\n  where the text is in another field or column than `text`, name it with --field".into(),
            n => format!("no document is left of {n} that were read\n  raise the limits, or change the mix"),
        };
        return Err(Error::Config { what });
    }
    if !config.mix.is_empty() {
        let sum: u64 = used.iter().sum();
        for ((share, &used), &available) in shares.iter().zip(&used).zip(&available) {
            let (actual, asked) = (100.0 * used as f64 / sum as f64, 100.0 * share.share);
            progress.note(&format!("mix: {:<24} {actual:5.1} % (asked {asked:.1} %), {used} of {available} bytes", share.name));
        }
    }
    Ok(order)
}

struct Share {
    name: String,
    share: f64,
}

/// The share that each document counts towards, and the shares.
fn groups(config: &CorpusConfig, scan: &Scan) -> Result<(Vec<Option<usize>>, Vec<Share>)> {
    // The most particular key wins: an exact kind, then longer patterns before shorter ones, `*` last.
    let mut keys: Vec<(&String, f64)> = config.mix.iter().map(|(key, share)| (key, *share)).filter(|(key, _)| *key != "*").collect();
    keys.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
    let patterns = keys.iter().map(|(key, _)| glob(key)).collect::<Result<Vec<_>>>()?;
    let mut shares: Vec<Share> = keys.iter().map(|(key, share)| Share { name: key.to_string(), share: *share }).collect();
    let rest = config.mix.get("*");
    let mut remaining: BTreeMap<String, usize> = BTreeMap::new();
    let mut known: BTreeMap<(Option<u32>, u32), Option<usize>> = BTreeMap::new();
    let mut group_of = |info: &Info| -> Option<usize> {
        let kind = info.kind.map(|k| scan.kinds[k as usize].as_str());
        let path = scan.inputs[info.input as usize].as_str();
        let exact = kind.and_then(|kind| keys.iter().position(|(key, _)| *key == kind));
        let by_kind = || kind.and_then(|kind| patterns.iter().position(|p| p.is_match(kind)));
        let by_path = || patterns.iter().position(|p| p.is_match(path));
        exact.or_else(by_kind).or_else(by_path).or_else(|| {
            rest?;
            let n = shares.len();
            let name = kind.unwrap_or(path).to_string();
            Some(*remaining.entry(name.clone()).or_insert_with(|| {
                shares.push(Share { name, share: 0.0 });
                n
            }))
        })
    };
    let groups: Vec<Option<usize>> = scan.infos.iter().map(|info| *known.entry((info.kind, info.input)).or_insert_with(|| group_of(info))).collect();
    for share in &mut shares[keys.len()..] {
        share.share = rest.unwrap_or(&0.0) / remaining.len() as f64;
    }
    if rest.is_some() && remaining.is_empty() {
        return Err(Error::Config { what: "the mix gives \"*\" a share, but no kind is left for it".into() });
    }
    for (number, share) in shares.iter().enumerate() {
        if !groups.contains(&Some(number)) {
            let kinds = &scan.kinds;
            return Err(Error::Config { what: format!("nothing matches {:?} of the mix (kinds: {kinds:?})", share.name) });
        }
    }
    Ok((groups, shares))
}
