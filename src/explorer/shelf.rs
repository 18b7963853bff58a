//! Opened dictionaries that wait for the next question: opening one reads its schema anew, and SQLite's cache is empty then.

use super::app::locked;
use crate::features::Dictionary;
use std::ops::Deref;
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

/// As many as questions are worked on at once.
const KEPT: usize = 4;

/// Which file it was: a dictionary that is built anew is another file of the same name.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Identity {
    /// 0 where the system does not number files.
    number: u64,
    created: Option<SystemTime>,
}

/// The opened dictionaries of one path.
#[derive(Default)]
pub struct Shelf {
    kept: Mutex<Vec<(Identity, Dictionary)>>,
}

/// A dictionary that goes back on the shelf when it is dropped.
pub struct Lent<'a> {
    shelf: &'a Shelf,
    identity: Option<Identity>,
    /// Taken when it goes back.
    dictionary: Option<Dictionary>,
}

impl Shelf {
    /// One that is kept and still the file at `path`, or what `open` gives.
    pub fn lend<E>(&self, path: &Path, open: impl FnOnce() -> Result<Dictionary, E>) -> Result<Lent<'_>, E> {
        let identity = identity(path);
        let mut kept = locked(&self.kept);
        kept.retain(|(of, _)| Some(*of) == identity);
        let taken = kept.pop();
        drop(kept);
        let dictionary = match taken {
            Some((_, dictionary)) => dictionary,
            None => open()?,
        };
        Ok(Lent { shelf: self, identity, dictionary: Some(dictionary) })
    }
}

impl Deref for Lent<'_> {
    type Target = Dictionary;

    fn deref(&self) -> &Dictionary {
        self.dictionary.as_ref().expect("it is taken only when dropped")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut kept = locked(&self.shelf.kept);
        if let (Some(identity), Some(dictionary)) = (self.identity, self.dictionary.take())
            && kept.len() < KEPT
        {
            kept.push((identity, dictionary));
        }
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let number = 0;
    Some(Identity { number, created: metadata.created().ok() })
}
