//! The folder of one run: where each stage's files are, and the lock that keeps two processes from writing to it at once.

use super::{Error, Result, shell_word};
use fs4::FileExt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// What the names of folders of checkpoints begin with where they are of SAEs.
const SAE_STAGE: &str = "sae-";

/// Paths inside `runs/<run>`. Makes nothing by itself.
#[derive(Debug, Clone)]
pub struct RunDir {
    pub root: PathBuf,
}

impl RunDir {
    pub fn new(dir: &Path, run: &str) -> Self {
        RunDir { root: dir.join(run) }
    }

    pub fn name(&self) -> String {
        self.root.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The flags that name this run on the command line, to be pasted: `--run NAME`, with `--dir DIR` unless it is the default.
    pub fn flags(&self) -> String {
        match self.root.parent() {
            Some(dir) if dir != Path::new("runs") && !dir.as_os_str().is_empty() => {
                format!("--dir {} --run {}", shell_word(&dir.to_string_lossy()), shell_word(&self.name()))
            }
            _ => format!("--run {}", shell_word(&self.name())),
        }
    }

    pub fn config(&self) -> PathBuf {
        self.root.join("run.toml")
    }

    pub fn tokens(&self) -> PathBuf {
        self.root.join("tokens")
    }

    pub fn lm(&self) -> PathBuf {
        self.root.join("lm")
    }

    /// `hook` is the printed hook point, e.g. `blocks.0.mlp.hook_post`.
    pub fn activations(&self, hook: &str) -> PathBuf {
        self.root.join("activations").join(hook)
    }

    pub fn sae(&self, name: &str) -> PathBuf {
        self.root.join("sae").join(name)
    }

    pub fn features(&self, name: &str) -> PathBuf {
        self.root.join("features").join(format!("{name}.sqlite"))
    }

    /// Saved edits, NAME.toml.
    pub fn edits(&self) -> PathBuf {
        self.root.join("edits")
    }

    /// The saved edit of that name, whether it is there or not; none where that is no name of one file.
    pub fn edit(&self, name: &str) -> Option<PathBuf> {
        let one = Path::new(name).file_name().is_some_and(|file| file == name) && !name.starts_with('.');
        one.then(|| self.edits().join(format!("{name}.toml")))
    }

    /// Names of the saved edits, ascending.
    pub fn edit_names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.edits()).into_iter().flatten().flatten().map(|e| e.path());
        let saved = entries.filter(|path| path.extension().is_some_and(|e| e == "toml"));
        let mut names: Vec<String> = saved.filter_map(|path| path.file_stem().map(|s| s.to_string_lossy().into_owned())).collect();
        names.sort();
        names
    }

    pub fn labels(&self, name: &str) -> PathBuf {
        self.root.join("labels").join(format!("{name}.sqlite"))
    }

    /// Where a stage keeps what it is in the middle of: its checkpoints, and of a training the log and the snapshots too, so that what is finished
    /// stays whole beside it.
    pub fn checkpoints(&self, stage: &str) -> PathBuf {
        self.root.join("checkpoints").join(stage)
    }

    /// [`Self::checkpoints`] of the training of an SAE.
    pub fn sae_checkpoints(&self, name: &str) -> PathBuf {
        self.checkpoints(&format!("{SAE_STAGE}{name}"))
    }

    /// Names of the SAEs that have a folder of checkpoints, in no order; a finished training leaves its own behind, empty.
    pub fn saes_begun(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join("checkpoints")).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix(SAE_STAGE)?.to_string())).collect()
    }

    /// The process that is writing to the run now, as it wrote itself into the lock.
    pub fn in_use_by(&self) -> Option<String> {
        let mut file = File::open(self.root.join(".lock")).ok()?;
        if FileExt::try_lock(&file).is_ok() {
            return None;
        }
        let mut owner = String::new();
        file.read_to_string(&mut owner).ok()?;
        Some(owner.trim().into())
    }

    /// Takes the run for writing until the lock is dropped (the operating system drops it when the process dies).
    pub fn lock(&self) -> Result<RunLock> {
        let path = self.root.join(".lock");
        let io = |e| Error::io("lock", &path, e);
        let made = (!self.root.exists()).then(|| self.root.clone());
        fs::create_dir_all(&self.root).map_err(io)?;
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(io)?;
        if FileExt::try_lock(&file).is_err() {
            let mut owner = String::new();
            let _ = file.read_to_string(&mut owner);
            return Err(Error::Locked { path: self.root.clone(), owner: owner.trim().into() });
        }
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io)?;
        Ok(RunLock { _file: file, made })
    }
}

/// Held while a process writes to a run.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
    /// The run's folder, if it was made by taking the lock.
    made: Option<PathBuf>,
}

impl Drop for RunLock {
    /// A run in which nothing came about leaves no folder.
    fn drop(&mut self) {
        let Some(root) = &self.made else { return };
        let only_the_lock = fs::read_dir(root).is_ok_and(|entries| entries.flatten().all(|e| e.file_name() == ".lock"));
        if only_the_lock {
            let _ = fs::remove_file(root.join(".lock")).and_then(|()| fs::remove_dir(root));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_in_which_nothing_came_about_leaves_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), "r");
        drop(run.lock().unwrap());
        assert!(!run.root.exists());
        let held = run.lock().unwrap();
        fs::write(run.config(), "x").unwrap();
        drop(held);
        assert!(run.config().exists());
        fs::remove_file(run.config()).unwrap();
        drop(run.lock().unwrap());
        assert!(run.root.exists(), "a folder that was there stays");
    }

    #[test]
    fn a_second_lock_on_a_run_is_refused_and_names_the_owner() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), "r");
        fs::create_dir(&run.root).unwrap();
        let held = run.lock().unwrap();
        let error = run.lock().unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        assert_eq!(run.in_use_by(), Some(std::process::id().to_string()));
        drop(held);
        assert_eq!(run.in_use_by(), None);
        run.lock().unwrap();
    }
}
