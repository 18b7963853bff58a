//! Encoded documents sorted on disk by a random key: one file per range of keys, each small enough to sort in memory.

use super::EncodedDocument;
use crate::artifact::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Text per bucket; its tokens take about as much memory.
const BUCKET_BYTES: u64 = 256 << 20;

/// Bucket files in a folder of their own, removed with the value.
pub(super) struct Buckets {
    dir: PathBuf,
    files: Vec<BufWriter<File>>,
}

impl Buckets {
    /// Makes the files for `n_bytes` of text under `parent`.
    pub fn create(parent: &Path, n_bytes: u64) -> Result<Self> {
        Self::with_count(parent, n_bytes.div_ceil(BUCKET_BYTES).max(2) as usize)
    }

    fn with_count(parent: &Path, n_buckets: usize) -> Result<Self> {
        let dir = parent.join(".shuffle");
        let io = |e| Error::io("write", &dir, e);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).map_err(io)?;
        let file = |i: usize| File::create(dir.join(format!("{i:05}"))).map(BufWriter::new);
        let files = (0..n_buckets).map(file).collect::<std::io::Result<_>>().map_err(io)?;
        Ok(Buckets { dir, files })
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Puts a document into the bucket of its key. `number` breaks ties and comes back with it.
    pub fn push(&mut self, key: u64, number: u64, document: &EncodedDocument) -> Result<()> {
        let bucket = ((u128::from(key) * self.files.len() as u128) >> 64) as usize;
        let kind = document.kind.as_deref();
        let mut record = Vec::with_capacity(64 + 4 * document.ids.len() + 6 * document.labels.len());
        record.extend(key.to_le_bytes());
        record.extend(number.to_le_bytes());
        record.extend((document.ids.len() as u64).to_le_bytes());
        record.extend((document.labels.len() as u64).to_le_bytes());
        // One more than the length, so that "no kind" is 0.
        record.extend(kind.map_or(0, |k| k.len() as u64 + 1).to_le_bytes());
        document.ids.iter().for_each(|id| record.extend(id.to_le_bytes()));
        for (token, concept) in &document.labels {
            record.extend(token.to_le_bytes());
            record.extend(concept.to_le_bytes());
        }
        record.extend(kind.unwrap_or_default().as_bytes());
        self.files[bucket].write_all(&record).map_err(|e| Error::io("write", &self.dir, e))
    }

    /// The documents of a bucket in the order of (key, number). Its file is emptied.
    pub fn take(&mut self, bucket: usize) -> Result<Vec<(u64, EncodedDocument)>> {
        let path = self.dir.join(format!("{bucket:05}"));
        self.files[bucket].flush().map_err(|e| Error::io("write", &path, e))?;
        let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        let mut documents = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let parsed = parse(&mut rest).ok_or_else(|| Error::Corrupt { path: path.clone(), what: "a record ends early".into() })?;
            documents.push(parsed);
        }
        documents.sort_unstable_by_key(|(key, number, _)| (*key, *number));
        fs::write(&path, []).map_err(|e| Error::io("write", &path, e))?;
        Ok(documents.into_iter().map(|(_, number, document)| (number, document)).collect())
    }
}

impl Drop for Buckets {
    fn drop(&mut self) {
        self.files.clear();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn parse(rest: &mut &[u8]) -> Option<(u64, u64, EncodedDocument)> {
    let mut header = [0u64; 5];
    for value in &mut header {
        *value = u64::from_le_bytes(rest.split_off(..8)?.try_into().ok()?);
    }
    let [key, number, n_ids, n_labels, kind] = header;
    let ids = rest.split_off(..n_ids as usize * 4)?.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let label = |b: &[u8]| (u32::from_le_bytes([b[0], b[1], b[2], b[3]]), u16::from_le_bytes([b[4], b[5]]));
    let labels = rest.split_off(..n_labels as usize * 6)?.chunks_exact(6).map(label).collect();
    let kind = match kind.checked_sub(1) {
        Some(n) => Some(String::from_utf8(rest.split_off(..n as usize)?.to_vec()).ok()?),
        None => None,
    };
    Some((key, number, EncodedDocument { ids, kind, labels }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn documents_come_back_whole_and_sorted_by_key(
            docs in proptest::collection::vec(
                (any::<u64>(), proptest::collection::vec(any::<u32>(), 0..6), proptest::option::of("[aé]{0,3}"), proptest::collection::vec(any::<(u32, u16)>(), 0..3)), 0..20),
            n_buckets in 1usize..5,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut buckets = Buckets::with_count(dir.path(), n_buckets).unwrap();
            let mut expected = vec![];
            for (number, (key, ids, kind, labels)) in docs.into_iter().enumerate() {
                let document = EncodedDocument { ids, kind, labels };
                buckets.push(key, number as u64, &document).unwrap();
                expected.push((key, number as u64, document));
            }
            expected.sort_by_key(|d| (d.0, d.1));
            let mut found = vec![];
            for bucket in 0..buckets.len() {
                found.extend(buckets.take(bucket).unwrap());
            }
            prop_assert_eq!(found, expected.into_iter().map(|(_, number, document)| (number, document)).collect::<Vec<_>>());
            drop(buckets);
            prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
