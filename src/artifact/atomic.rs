//! Files are written to a sibling and renamed: a reader sees the old file or the new one, never half of one.

use super::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// The largest JSON file that is read: 64 MiB. What we write stays far below it.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Writes `path` through a temporary sibling, flushes it to disk and renames it. Parent folders are made.
///
/// # Errors
/// [`Error::Io`] with the path; the old file, if any, is untouched and the temporary one removed.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
    let io = |e| Error::io("write", path, e);
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(io)?;
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("file");
    let temporary = parent.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        let mut out = BufWriter::new(File::create(&temporary)?);
        write(&mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(io)
}

/// Moves a file to `to`, over what is there. Between file systems it is copied, through a temporary sibling too.
pub fn move_file(from: &Path, to: &Path) -> Result<()> {
    let io = |e| Error::io("move to", to, e);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(io)?;
    }
    match fs::rename(from, to) {
        Err(e) if e.kind() == std::io::ErrorKind::CrossesDevices => {
            let mut old = File::open(from).map_err(|e| Error::io("read", from, e))?;
            write_atomic(to, |out| std::io::copy(&mut old, out).map(|_| ()))?;
            fs::remove_file(from).map_err(|e| Error::io("delete", from, e))
        }
        done => done.map_err(io),
    }
}

/// Files that belong together: `write` puts them into an empty folder within `dir`; when all are complete, `before` is called and they are moved into
/// `dir`, over what is there. Where writing fails, on a full disk for one, `dir` is as it was.
///
/// # Errors
/// Those of `write` and `before`, and of moving.
pub fn write_together<E: From<Error>>(
    dir: &Path,
    write: impl FnOnce(&Path) -> std::result::Result<(), E>,
    before: impl FnOnce() -> Result<()>,
) -> std::result::Result<(), E> {
    let staging = dir.join(".new");
    let io = |e| Error::io("write", &staging, e);
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir_all(&staging).map_err(io)?;
    if let Err(error) = write(&staging) {
        let _ = fs::remove_dir_all(&staging);
        return Err(error);
    }
    before()?;
    for entry in fs::read_dir(&staging).map_err(io)? {
        let entry = entry.map_err(io)?;
        move_file(&entry.path(), &dir.join(entry.file_name()))?;
    }
    Ok(fs::remove_dir(&staging).map_err(io)?)
}

/// Deletes a file, if it is there.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("delete", path, e)),
        _ => Ok(()),
    }
}

/// Writes `value` as indented JSON, atomically.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|e| Error::json(path, e))?;
    write_atomic(path, |out| {
        out.write_all(&text)?;
        out.write_all(b"\n")
    })
}

/// Reads one JSON value; refuses files above 64 MiB.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let io = |e| Error::io("read", path, e);
    let n_bytes = fs::metadata(path).map_err(io)?.len();
    if n_bytes > MAX_JSON_BYTES {
        return Err(Error::Corrupt { path: path.into(), what: format!("{n_bytes} bytes of JSON, more than the {MAX_JSON_BYTES} that are read") });
    }
    let text = fs::read(path).map_err(io)?;
    serde_json::from_slice(&text).map_err(|e| Error::json(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_belong_together_are_all_new_or_all_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        fs::write(dir.path().join("a"), "old a").unwrap();
        fs::write(dir.path().join("manifest"), "old").unwrap();
        let forget = || remove_if_there(&dir.path().join("manifest"));
        let failing = |staging: &Path| {
            fs::write(staging.join("a"), "half of a").map_err(|e| Error::io("write", staging, e))?;
            Err(Error::Corrupt { path: staging.into(), what: "no space".into() })
        };
        assert!(write_together::<Error>(dir.path(), failing, forget).is_err());
        assert_eq!((text("a").as_str(), text("manifest").as_str()), ("old a", "old"));
        let whole =
            |staging: &Path| ["a", "b"].iter().try_for_each(|name| fs::write(staging.join(name), "new").map_err(|e| Error::io("write", staging, e)));
        write_together::<Error>(dir.path(), whole, forget).unwrap();
        assert_eq!((text("a").as_str(), text("b").as_str(), text("manifest").as_str()), ("new", "new", ""));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_json(&path, &1).unwrap();
        let failed = write_atomic(&path, |_| Err(std::io::Error::other("disk full")));
        assert!(failed.unwrap_err().to_string().contains("a.json"));
        assert_eq!(read_json::<i32>(&path).unwrap(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
