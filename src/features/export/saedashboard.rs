//! SAEDashboard batches: `batch-N.json` of 128 features, `run_settings.json`, `skipped_indexes.json`. Tensors of tokens (`tokens_N.pt`) are
//! not written: they are Python pickles, and nothing that reads batches needs them.

use super::dashboard::Feature;
use super::{Folder, Source, check};
use crate::artifact::{self, Progress, read_json};
use crate::features::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Features in a file.
const PER_BATCH: usize = 128;

/// One file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    pub model_id: String,
    pub layer: usize,
    pub sae_set: String,
    /// Absent in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sae_id_suffix: Option<String>,
    pub features: Vec<Feature>,
}

#[derive(Debug, Serialize)]
struct Skipped<'a> {
    model_id: &'a str,
    layer: String,
    sae_set: &'a str,
    log_sparsity: f64,
    skipped_indexes: Vec<u32>,
}

/// Name of the folder that SAEDashboard would make.
pub fn folder_name(source: &Source) -> String {
    let meta = source.dictionary.meta();
    format!("{}_{}_{}_{}", source.model_id, source.set, meta.hook, meta.n_units)
}

pub(super) fn write(source: &Source, to: &mut Folder, progress: &mut dyn Progress) -> Result<()> {
    let meta = source.dictionary.meta();
    let folder = PathBuf::from(folder_name(source));
    let (mut batch, mut n_batches, mut skipped) = (vec![], 0, vec![]);
    for id in 0..meta.n_units {
        check(progress)?;
        let (feature, detail) = Feature::read(source, id)?;
        if detail.summary.n_active == 0 {
            skipped.push(id)
        } else {
            batch.push(feature)
        }
        if batch.len() == PER_BATCH || (id + 1 == meta.n_units && !batch.is_empty()) {
            let features = std::mem::take(&mut batch);
            let file = Batch { model_id: source.model_id.clone(), layer: source.layer(), sae_set: source.set.clone(), sae_id_suffix: None, features };
            to.json(folder.join(format!("batch-{n_batches}.json")), &file)?;
            n_batches += 1;
        }
        progress.advance(1);
    }
    let (model_id, sae_set) = (source.model_id.as_str(), source.set.as_str());
    // Dead ones are what is skipped: the logarithm below which SAEDashboard skips is that of one firing in all tokens.
    let log_sparsity = -(meta.n_tokens.max(1) as f64).log10();
    to.json(
        folder.join("skipped_indexes.json"),
        &Skipped { model_id, layer: source.layer().to_string(), sae_set, log_sparsity, skipped_indexes: skipped },
    )?;
    to.json(
        folder.join("run_settings.json"),
        &serde_json::json!({
            "sae_set": sae_set, "sae_path": meta.name, "model_id": model_id, "hook_name": meta.hook, "outputs_dir": ".",
            "n_features_at_a_time": PER_BATCH, "n_batches": n_batches, "n_prompts_total": meta.n_tokens / (meta.n_ctx as u64 - 1).max(1),
            "n_tokens_in_prompt": meta.n_ctx, "huggingface_dataset_path": source.dataset, "monosem": meta,
        }),
    )
}

/// Reads every `batch-N.json` of a folder, in the order of N.
///
/// # Errors
/// There is none, or one is no batch.
pub fn read(folder: &Path) -> Result<Vec<Batch>> {
    let mut files = super::neuronpedia::batches(folder, ".json")?;
    files.sort();
    if files.is_empty() {
        return Err(Error::Invalid(format!("{} holds no batch-N.json\n  name the folder that SAEDashboard made", folder.display())));
    }
    let read = |(_, path): (u64, PathBuf)| -> Result<Batch> {
        let size = std::fs::metadata(&path).map_err(|e| artifact::Error::io("read", &path, e))?.len();
        if size > MAX_FILE {
            return Err(Error::Invalid(format!("{} has {size} bytes; a batch has at most {MAX_FILE}\n  write smaller batches", path.display())));
        }
        Ok(read_json(&path)?)
    };
    files.into_iter().map(read).collect()
}

/// The largest batch that is read, bytes: 128 features of 100 contexts of 1,024 tokens are 200 MB.
const MAX_FILE: u64 = 1 << 30;
