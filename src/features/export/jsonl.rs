//! JSON Lines: `meta.json`, how the dictionary was made, and `features.jsonl`, one feature to a line with everything that
//! `monosem features show --json` says of it, and its labels.

use super::{Folder, LabelText, Source, check};
use crate::artifact::Progress;
use crate::features::Result;
use crate::features::store::FeatureDetail;
use serde::{Deserialize, Serialize};
use std::io::Write;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    #[serde(flatten)]
    pub feature: FeatureDetail,
    pub labels: Vec<LabelText>,
}

pub(super) fn write(source: &Source, to: &mut Folder, progress: &mut dyn Progress) -> Result<()> {
    let meta = source.dictionary.meta();
    to.json("meta.json", meta)?;
    let mut failed = None;
    to.file("features.jsonl", |out| {
        for id in 0..meta.n_units {
            let line = check(progress).and_then(|()| source.dictionary.feature_in(id, source.text));
            match line {
                Ok(feature) => serde_json::to_writer(&mut *out, &Line { feature, labels: source.labels_of(id).to_vec() })?,
                Err(error) => {
                    failed = Some(error);
                    return Err(std::io::Error::other("the dictionary cannot be read"));
                }
            }
            out.write_all(b"\n")?;
            progress.advance(1);
        }
        Ok(())
    })
    .map_err(|error| failed.unwrap_or(error))
}
