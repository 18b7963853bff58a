//! Whole files -> files that are nearly whole.

use proptest::prelude::*;
use serde_json::{Value, json};

/// 48 cases a test unless `PROPTEST_CASES` says otherwise. Nothing is remembered: a case that failed becomes a test of its own.
pub fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(48), failure_persistence: None, ..ProptestConfig::default() }
}

/// One change to bytes; places are shares of the length, so that they fit every file.
#[derive(Debug, Clone)]
pub enum Change {
    Flip(f64, u8),
    Cut(f64),
    Insert(f64, Vec<u8>),
    Remove(f64, usize),
    /// A part of the file once more.
    Repeat(f64, f64, usize),
    /// Eight bytes that say a size.
    Size(f64, u64),
    /// A run of digits becomes another number.
    Number(usize, usize),
    /// The JSON value with this number, in the order of the text, becomes another.
    Json(usize, usize),
}

pub fn changes() -> impl Strategy<Value = Vec<Change>> {
    let place = || 0.0..1.0f64;
    let sizes = prop_oneof![Just(0u64), Just(u64::MAX), Just(i64::MAX as u64), Just(1 << 40), any::<u64>()];
    let one = prop_oneof![
        3 => (place(), any::<u8>()).prop_map(|(at, b)| Change::Flip(at, b)),
        1 => place().prop_map(Change::Cut),
        2 => (place(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (place(), 1usize..40).prop_map(|(at, n)| Change::Remove(at, n)),
        1 => (place(), place(), 1usize..200).prop_map(|(from, at, n)| Change::Repeat(from, at, n)),
        1 => (prop_oneof![Just(0.0), place()], sizes).prop_map(|(at, n)| Change::Size(at, n)),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(which, what)| Change::Number(which, what)),
        4 => (any::<usize>(), any::<usize>()).prop_map(|(which, what)| Change::Json(which, what)),
    ];
    prop::collection::vec(one, 1..4)
}

pub fn changed(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for change in changes {
        let at = |share: f64| (share * out.len() as f64) as usize;
        match change {
            Change::Flip(place, by) => {
                let place = at(*place);
                out.get_mut(place).into_iter().for_each(|b| *b ^= by);
            }
            Change::Cut(place) => out.truncate(at(*place)),
            Change::Insert(place, bytes) => drop(out.splice(at(*place)..at(*place), bytes.iter().copied())),
            Change::Remove(place, n) => {
                let from = at(*place);
                out.drain(from..(from + n).min(out.len()));
            }
            Change::Repeat(from, place, n) => {
                let (from, place) = (at(*from), at(*place));
                let part = out[from..(from + n).min(out.len())].to_vec();
                out.splice(place..place, part);
            }
            Change::Size(place, n) => {
                let place = at(*place);
                out.iter_mut().skip(place).zip(n.to_le_bytes()).for_each(|(to, b)| *to = b);
            }
            Change::Number(which, what) => number_changed(&mut out, *which, ODD_NUMBERS[what % ODD_NUMBERS.len()]),
            Change::Json(which, what) => out = json_changed(&out, *which, *what),
        }
    }
    out
}

const ODD_NUMBERS: [&str; 12] =
    ["", "-1", "0", "1e308", "-0.0", "NaN", "0.5", "4294967295", "4294967296", "9223372036854775807", "18446744073709551616", "0x7f"];

/// Puts `with` in the place of one run of digits.
fn number_changed(bytes: &mut Vec<u8>, which: usize, with: &str) {
    let begins = |i: &usize| bytes[*i].is_ascii_digit() && (*i == 0 || !bytes[*i - 1].is_ascii_digit());
    let starts: Vec<usize> = (0..bytes.len()).filter(begins).collect();
    let Some(&start) = starts.get(which % starts.len().max(1)) else { return };
    let n = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    bytes.splice(start..start + n, with.bytes());
}

/// The file with one JSON value changed: the whole file, one line of it, or the header of a safetensors file.
fn json_changed(bytes: &[u8], which: usize, what: usize) -> Vec<u8> {
    if let Ok(mut value) = serde_json::from_slice::<Value>(bytes) {
        return replace(&mut value, which, what).to_string().into_bytes();
    }
    let header = bytes.get(..8).map(|b| u64::from_le_bytes(b.try_into().expect("eight bytes")) as usize);
    if let Some((header, rest)) = header.and_then(|n| bytes.get(8..)?.split_at_checked(n))
        && let Ok(mut value) = serde_json::from_slice::<Value>(header)
    {
        let header = replace(&mut value, which, what).to_string();
        return [&(header.len() as u64).to_le_bytes(), header.as_bytes(), rest].concat();
    }
    let mut lines: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let line = which % lines.len();
    if let Ok(mut value) = serde_json::from_slice::<Value>(&lines[line]) {
        lines[line] = replace(&mut value, which / 7, what).to_string().into_bytes();
    }
    lines.join(&b'\n')
}

fn replace(value: &mut Value, which: usize, what: usize) -> &Value {
    let n = count(value);
    let mut left = which % n.max(1);
    put(value, &mut left, odd(what));
    value
}

/// Values that a careless reader believes.
fn odd(what: usize) -> Value {
    match what % 22 {
        0 => json!(null),
        1 => json!(-1),
        2 => json!(u64::MAX),
        3 => json!(i64::MIN),
        4 => json!(1e308),
        5 => json!(-0.5),
        6 => json!(""),
        7 => json!("\u{0}../../../etc/passwd"),
        8 => json!([]),
        9 => json!({}),
        10 => json!([[[[[[[[1]]]]]]]]),
        11 => json!("\u{202e}\u{fffd}x"),
        12 => json!(4_294_967_295u64),
        13 => json!([1, "2", null, {}]),
        14 => json!(true),
        15 => json!(0),
        16 => json!([u64::MAX, u64::MAX]),
        17 => json!("F8_E5M2"),
        18 => json!(1 << 31),
        19 => json!([0, 18446744073709551615u64]),
        20 => json!("x".repeat(what % 5000)),
        _ => json!(vec![0; what % 3000]),
    }
}

fn children(value: &mut Value) -> Box<dyn Iterator<Item = &mut Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter_mut()),
        Value::Object(map) => Box::new(map.values_mut()),
        _ => Box::new(std::iter::empty()),
    }
}

fn count(value: &mut Value) -> usize {
    1 + children(value).map(count).sum::<usize>()
}

fn put(value: &mut Value, left: &mut usize, new: Value) -> bool {
    if *left == 0 {
        *value = new;
        return true;
    }
    *left -= 1;
    for child in children(value) {
        if put(child, left, new.clone()) {
            return true;
        }
    }
    false
}
