//! `monosem features export`

use super::super::{Global, Interrupted, Terminal, again};
use super::{Which, labels_of, open_text, print};
use crate::artifact::RunDir;
use crate::features::export::{Format, LabelText, Source, export, slug};
use crate::features::store::Kind;
use crate::features::text::StreamText;
use crate::features::{self};
use crate::lm::Lm;
use crate::sae::Sae;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Format of the files
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Format,
    /// Folder to write; new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the model in files that have one [default: the run's name]
    #[arg(long, value_name = "ID")]
    model_id: Option<String>,
    /// Name of the set of features in files that have one [default: the SAE's name]
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
}

pub fn run(args: Args, which: &Which, global: &Global, run: &RunDir) -> anyhow::Result<()> {
    let dictionary = which.dictionary(run)?;
    let (stream, tokenizer) = open_text(run)?;
    dictionary.check(&stream)?;
    let meta = dictionary.meta();
    let labels = labels_of(which, run, meta, None)?;
    let labels: Vec<LabelText> = labels.into_iter().map(|l| LabelText { latent: l.latent, text: l.text, author: l.author, time: l.time }).collect();
    // Both are of use, not needed: an imported dictionary has neither.
    let lm = run.lm().join("config.json").is_file().then(|| Lm::load(&run.lm())).transpose()?;
    let path = run.features(which.name());
    let source = Source {
        dictionary: &dictionary,
        text: &StreamText { stream: &stream, tokenizer: &tokenizer },
        labels: &labels,
        directions: directions(which, run, meta)?,
        lm: lm.as_ref(),
        model_id: slug(args.model_id.as_deref().unwrap_or(&run.name())),
        set: slug(args.set.as_deref().unwrap_or(which.name())),
        dataset: format!("{} ({})", run.name(), meta.tokens_from),
        created_at: made_at(&path),
    };
    tell!("export of {} {}s of {} to {}", meta.n_units, meta.kind.name(), path.display(), args.out.display());
    let files = match export(args.format, &source, &args.out, &mut Terminal::new()) {
        Err(features::Error::Interrupted) => return Err(Interrupted { resume: again("") }.into()),
        done => done?,
    };
    print(global, &serde_json::json!({ "out": args.out, "files": files }), |out| {
        let first = files.iter().find(|f| f.ends_with("index.html")).or(files.first());
        let first = first.map(|f| format!(", {}", args.out.join(f).display())).unwrap_or_default();
        writeln!(out, "{}: {} files{first}", args.out.display(), files.len())
    })
}

/// Decoder rows of the SAE; of neurons, the axes of the hook, then their opposites.
fn directions(which: &Which, run: &RunDir, meta: &features::store::Meta) -> anyhow::Result<Option<Vec<f32>>> {
    if meta.kind == Kind::Neuron {
        return Ok(Some(features::axes(meta.d_in, meta.n_units as usize)));
    }
    let dir = run.sae(which.name());
    if !dir.join("cfg.json").is_file() {
        return Ok(None);
    }
    let sae = Sae::load_any(&dir)?;
    // A transcoder's directions are those of another place than the dictionary's hook.
    Ok((sae.transcoder.is_none() && sae.d_sae == meta.n_units as usize && sae.d_in == meta.d_in).then_some(sae.w_dec))
}

/// When the file was written, as RFC 3339.
fn made_at(path: &Path) -> String {
    let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let seconds = modified.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |d| d.as_secs());
    crate::labels::rfc3339(seconds)
}
