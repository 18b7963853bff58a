//! A pass that was interrupted goes on where it stopped: the collector as it stands, in one file, and for what settings and inputs it is.
//!
//! The file is a magic number, the collector and its identity in postcard's encoding (numbers keep their bits), and the blake3 hash of all that. It
//! is derived, of this program version only, and deleted when the dictionary is written.

use super::collect::Collector;
use super::{Error, Result};
use crate::artifact::{self, Start, settings, write_atomic};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MAGIC: &[u8; 8] = b"monocol2";
const HASH_BYTES: usize = 32;
const FILE: &str = "collector.bin";

/// Where a pass is saved, how often, and what becomes of one that is there.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub path: PathBuf,
    pub start: Start,
    pub every: Duration,
}

impl Checkpoint {
    /// `dir/collector.bin`, every three minutes.
    pub fn new(dir: PathBuf, start: Start) -> Self {
        Checkpoint { path: dir.join(FILE), start, every: Duration::from_secs(180) }
    }

    /// Whether a folder holds one.
    pub fn is_at(dir: &Path) -> bool {
        dir.join(FILE).is_file()
    }

    /// The collector to go on with, if there is one.
    ///
    /// # Errors
    /// A checkpoint is there and was not asked for, or is one of other settings or inputs than `identity`, or is damaged.
    pub fn load(&self, identity: &str) -> Result<Option<Collector>> {
        if !self.path.exists() {
            return Ok(None);
        }
        match self.start {
            Start::New => Err(artifact::Error::Unfinished { path: self.path.clone() }.into()),
            Start::Replace => self.clear().map(|()| None),
            Start::Resume => {
                let bytes = fs::read(&self.path).map_err(|e| artifact::Error::io("read", &self.path, e))?;
                let next = "discard it and begin anew: the same command with --yes instead of --resume";
                let refused = |what: String| Error::from(artifact::Error::Refused { path: self.path.clone(), what, next: next.into() });
                let (found, collector) = decode(&bytes).ok_or_else(|| refused("it is damaged, or of another version of the program".into()))?;
                if let Some((what, _)) = settings::other_identity(&found, identity) {
                    return Err(refused(format!("it was made with other settings: {what}")));
                }
                Ok(Some(collector))
            }
        }
    }

    pub fn save(&self, identity: &str, collector: &Collector) -> Result<()> {
        let write = |out: &mut dyn Write| -> std::io::Result<()> {
            let mut out = Hashing { out, hasher: blake3::Hasher::new() };
            out.write_all(MAGIC)?;
            postcard::to_io(&(identity, collector), &mut out).map_err(std::io::Error::other)?;
            let hash = out.hasher.finalize();
            out.out.write_all(hash.as_bytes())
        };
        Ok(write_atomic(&self.path, |out| write(out))?)
    }

    /// Deletes the file: the dictionary is written, or begins anew.
    pub(super) fn clear(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(artifact::Error::io("delete", &self.path, e).into()),
            _ => Ok(()),
        }
    }
}

/// `None` where the bytes are not those that were written.
fn decode(bytes: &[u8]) -> Option<(String, Collector)> {
    let (body, hash) = bytes.split_last_chunk::<HASH_BYTES>()?;
    let state = body.strip_prefix(MAGIC).filter(|_| blake3::hash(body).as_bytes() == hash)?;
    postcard::from_bytes(state).ok()
}

struct Hashing<'a> {
    out: &'a mut dyn Write,
    hasher: blake3::Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::build::{BuildConfig, Units};
    use super::super::fake::{self, FakeEngine};
    use super::super::pass::pass;
    use super::*;
    use crate::artifact::Progress;
    use crate::lm::HookPoint;
    use std::cell::Cell;
    use std::path::Path;

    /// Interrupts when it is asked for the n-th time.
    struct StopAt(Cell<i32>);

    impl Progress for StopAt {
        fn begin(&mut self, _: &str, _: u64, _: &str) {}
        fn advance(&mut self, _: u64) {}
        fn figure(&mut self, _: &str) {}
        fn note(&mut self, _: &str) {}
        fn end(&mut self) {}
        fn interrupted(&self) -> bool {
            self.0.set(self.0.get() - 1);
            self.0.get() < 0
        }
    }

    fn run(dir: &Path, start: Start, stop_at: i32, seed: u64) -> Result<super::super::collect::Findings> {
        let tokens = tempfile::tempdir().unwrap();
        let stream = fake::stream(tokens.path());
        let sae = fake::sae();
        let mut config = BuildConfig { n_tokens: 1003, batch_tokens: 80, ..Default::default() };
        config.collect.seed = seed;
        let checkpoint = Checkpoint::new(dir.join("checkpoints"), start);
        let units = Units::Latents { sae: &sae, name: "x", manifest_hash: "", target: None };
        let mut progress = StopAt(Cell::new(stop_at));
        let identity = settings::identity(&serde_json::json!({ "n": 1 }), &Default::default());
        pass(&mut FakeEngine::new(), &stream, HookPoint::mlp_post(0), units, &config, Some((&checkpoint, &identity)), &mut progress)
    }

    #[test]
    fn an_interrupted_pass_goes_on_bit_for_bit_at_any_thread_count() {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let want = run(whole.path(), Start::New, i32::MAX, 1).unwrap();
        assert!(want.units.iter().any(|u| !u.coactive.is_empty() && !u.correlated.is_empty() && !u.neurons.is_empty()));
        for (n, stop_at) in [3, 0, 5].into_iter().enumerate() {
            let part = |start| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n + 1).build().unwrap();
                pool.install(|| run(parts.path(), start, stop_at, 1))
            };
            assert!(matches!(part(if n == 0 { Start::New } else { Start::Resume }), Err(Error::Interrupted)));
        }
        assert_eq!(run(parts.path(), Start::Resume, i32::MAX, 1).unwrap(), want);
    }

    #[test]
    fn a_checkpoint_that_was_not_asked_for_is_of_other_settings_or_is_damaged_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoints/collector.bin");
        assert!(run(dir.path(), Start::New, 2, 1).is_err() && path.exists());
        let error = |start| run(dir.path(), start, i32::MAX, 1).unwrap_err().to_string();
        assert!(error(Start::New).contains("--resume"), "{}", error(Start::New));
        let mut other = Checkpoint::new(dir.path().join("checkpoints"), Start::Resume);
        let refused = other.load(&settings::identity(&serde_json::json!({ "n": 2 }), &Default::default())).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("n is 1 there, 2 here"), "{refused}");
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(error(Start::Resume).contains("damaged"), "{}", error(Start::Resume));
        for cut in [0, 7, 39, 40, bytes.len() - 1] {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert!(error(Start::Resume).contains("damaged"));
        }
        other.start = Start::Replace;
        assert!(other.load("{}").unwrap().is_none() && !path.exists());
    }
}
