//! `steer export`: an edit as a vector for other tools.

use super::Global;
use super::edits::EditArgs;
use super::rig::Opened;
use super::run::all_rules;
use crate::artifact::{RunDir, write_atomic};
use crate::cli::features::print;
use crate::intervene::vectors::{gguf, vectors};
use anyhow::{Context, bail};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

/// Write an edit as a vector that other tools add to the model: .gguf (a llama.cpp control vector) or .safetensors
///
/// Only set and add are vectors: what they add where the latents are silent. A safetensors file holds `hook`, (d_in,), and where it is known `residual`,
/// (d_model,); a GGUF file the latter as direction.N, added after block N counted from 0. The format has no vector after block 0, so models of one block have safetensors
/// alone.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    edit: EditArgs,
    /// Where to: a name that ends in .gguf or .safetensors
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Name of the SAE [default: main, or the only one of the run]
    #[arg(long, value_name = "NAME")]
    sae: Option<String>,
}

pub(super) fn run(args: &ExportArgs, global: &Global, dir: &RunDir) -> anyhow::Result<()> {
    let mut opened = Opened::open(dir, args.sae.as_deref())?;
    let edit = match (args.edit.saved(dir)?, args.edit.rule()?) {
        (Some(saved), _) => saved,
        (None, Some((rule, value))) if !args.edit.latent.is_empty() => args.edit.of(rule, value),
        _ => bail!("say what to export: --edit NAME, or --latent N with --strength or --add"),
    };
    let edit = args.edit.resting(edit, &opened)?;
    let steering = opened.resolve(&edit)?;
    let vectors = vectors(&opened.lm, opened.hook, &opened.sae, &steering)?;
    let ending = args.out.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let bytes = match ending.as_str() {
        "gguf" => {
            if opened.hook.layer == 0 {
                bail!(
                    "{} is in block 0, after which a GGUF control vector cannot be added (its first is for block 1)\n  write .safetensors",
                    opened.hook
                );
            }
            let residual = vectors.residual.as_ref().with_context(|| {
                format!("what {} adds to the residual stream depends on the text, so there is no control vector\n  write .safetensors, which holds it at the hook", opened.hook)
            })?;
            gguf(residual, opened.hook.layer, "gpt2")
        }
        "safetensors" => {
            let view = |x: &'_ [f32]| -> anyhow::Result<(Vec<usize>, Vec<u8>)> { Ok((vec![x.len()], bytemuck::cast_slice(x).to_vec())) };
            let mut data = vec![("hook", view(&vectors.hook)?)];
            if let Some(residual) = &vectors.residual {
                data.push(("residual", view(residual)?));
            }
            let tensors: Vec<(&str, TensorView)> = data
                .iter()
                .map(|(name, (shape, bytes))| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
                .collect::<anyhow::Result<_>>()?;
            let about = HashMap::from([
                ("hook".to_string(), opened.hook.to_string()),
                ("edit".into(), edit.to_json()),
                ("weights_hash".into(), opened.weights_hash.clone()),
            ]);
            safetensors::serialize(tensors, Some(about))?
        }
        other => bail!("{}: {other:?} is not gguf or safetensors", args.out.display()),
    };
    write_atomic(&args.out, |file| file.write_all(&bytes))?;
    let length = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    let result = serde_json::json!({
        "file": args.out, "hook": opened.hook, "length_at_hook": length(&vectors.hook), "length_in_residual": vectors.residual.as_deref().map(length), "bytes": bytes.len(),
    });
    print(global, &result, |out| {
        let residual = vectors.residual.as_deref().map_or(String::new(), |r| format!(", {:.3} in the residual stream", length(r)));
        writeln!(out, "wrote {}: {}; length {:.3} at {}{residual}", args.out.display(), all_rules(&steering), length(&vectors.hook), opened.hook)
    })
}
