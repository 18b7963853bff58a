//! Files of a whole folder, changed and read.

use crate::change::{Change, changed, changes, config};
use crate::memory::peak;
use crate::run::Whole;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::path::Path;

/// Bytes that a reader of a small file may hold: decoders have buffers of fixed size, of which zstd's largest window is 128 MiB.
pub const ALLOWED: usize = 160 << 20;

/// Changes `name` of a whole folder again and again, and calls `read` with the path of the changed copy.
pub fn fuzz(name: &str, read: impl Fn(&Path)) {
    let whole = Whole::new();
    fuzz_in(&whole, name, changed, read);
}

/// The same in a folder at hand, with changes of one's own.
pub fn fuzz_in(whole: &Whole, name: &str, change: impl Fn(&[u8], &[Change]) -> Vec<u8>, read: impl Fn(&Path)) {
    let (bytes, path) = (whole.bytes(name), whole.path(name));
    read(&path);
    let done = TestRunner::new(config()).run(&changes(), |changes| {
        let bytes = change(&bytes, &changes);
        std::fs::write(&path, &bytes).unwrap();
        let ((), held) = peak(|| read(&path));
        prop_assert!(held < ALLOWED + 64 * bytes.len(), "{held} bytes for a file of {}", bytes.len());
        Ok(())
    });
    done.unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// What libraries say when they panic, which is caught, is no news a thousand times.
pub fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let of_library = |l: &std::panic::Location| l.file().contains("parquet-") || l.file().contains("tokenizers-");
            if !info.location().is_some_and(of_library) {
                tell(info);
            }
        }));
    });
}
