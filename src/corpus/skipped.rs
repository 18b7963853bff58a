//! What was left out while text was read: told file by file, counted by reason, listed for the manifest.

use super::{Reason, RecordError};
use crate::artifact::{Progress, grouped};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// The first so many bad records are told of one by one, wherever they are.
const MAX_TOLD: usize = 5;
/// The first bad record of each file is told of, for so many files.
const MAX_FILES_TOLD: usize = 100;
/// So many records, and so many files, are listed in the manifest; all are counted.
const MAX_LISTED: usize = 1000;

/// Records that could not be used, and files of folders that were not looked into.
#[derive(Default)]
pub(super) struct Skipped {
    n: u64,
    by_reason: BTreeMap<Reason, u64>,
    /// Records left out of each file, files in the order of reading.
    by_file: Vec<(String, u64)>,
    file_numbers: HashMap<String, usize>,
    listed: Vec<String>,
}

impl Skipped {
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Counts a bad record; tells of it where it is among the first, or the first of its file.
    pub fn add(&mut self, e: RecordError, progress: &mut dyn Progress) {
        self.n += 1;
        *self.by_reason.entry(e.reason).or_default() += 1;
        let next = self.by_file.len();
        let file = *self.file_numbers.entry(e.file.clone()).or_insert(next);
        if file == next {
            self.by_file.push((e.file.clone(), 0));
        }
        self.by_file[file].1 += 1;
        let line = format!("{}, {}: {}", e.file, e.place, e.what);
        if self.n <= MAX_TOLD as u64 || (self.by_file[file].1 == 1 && file < MAX_FILES_TOLD) {
            progress.note(&format!("left out: {line}"));
        }
        if self.listed.len() < MAX_LISTED {
            self.listed.push(line);
        }
    }

    /// Counts by reason in words: `3 empty, 2 not UTF-8`.
    pub fn reasons(&self) -> String {
        self.by_reason.iter().map(|(reason, n)| format!("{} {reason}", grouped(*n))).collect::<Vec<_>>().join(", ")
    }

    /// A line on all that was left out, where that was anything.
    pub fn tell(&self, progress: &mut dyn Progress) {
        if self.n > 0 {
            let (files, n) = (self.by_file.len(), self.n);
            let plural = |n: u64| if n == 1 { "" } else { "s" };
            progress.note(&format!(
                "left out {} record{} of {} file{}: {}",
                grouped(n),
                plural(n),
                grouped(files as u64),
                plural(files as u64),
                self.reasons()
            ));
        }
    }

    /// For `details` of the manifest; the lists end after 1,000 entries, the counts are of all.
    pub fn details(&self) -> serde_json::Value {
        let by_reason: BTreeMap<String, u64> = self.by_reason.iter().map(|(reason, &n)| (reason.to_string(), n)).collect();
        let by_file: BTreeMap<&str, u64> = self.by_file.iter().take(MAX_LISTED).map(|(file, n)| (file.as_str(), *n)).collect();
        json!({"records": self.listed, "by_reason": by_reason, "by_file": by_file})
    }
}

/// Tells which files of the folders have endings that are not read, and lists them for the manifest.
pub(super) fn not_read(files: &[PathBuf], progress: &mut dyn Progress) -> Vec<String> {
    let names: Vec<String> = files.iter().take(MAX_LISTED).map(|f| f.display().to_string()).collect();
    if !names.is_empty() {
        let (told, more) = (names.len().min(MAX_TOLD), files.len().saturating_sub(MAX_TOLD));
        let more = if more > 0 { format!(" and {} more", grouped(more as u64)) } else { String::new() };
        progress.note(&format!("not read, by their endings: {}{more}", names[..told].join(", ")));
    }
    names
}
