//! An SAE on its way: snapshots that a training leaves in `sae/<name>/history/<step>.safetensors`, so that one can watch it learn. Until it is
//! finished they lie beside its checkpoints.
//!
//! A snapshot is the SAE as it would be saved then (folded, raw model units), its matrices in bf16. Only the explorer and comparisons read them: what a
//! training makes is the same without them, and they may be deleted.

use super::{Sae, SaeConfig, Select, TrainConfig, Transcoder};
use crate::artifact::{Error, Result, RunDir, Tensor, TensorFile, move_file, write_tensors};
use half::bf16;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// What a snapshot says of itself. The figures are those of its last batch, as in `train.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Steps that were done, and that the training has.
    pub step: u64,
    pub steps: u64,
    /// Rows that were trained on.
    pub rows: u64,
    pub loss: f64,
    pub fvu: f64,
    pub l0: f64,
    pub dead_frac: f64,
    /// Where the rows come from, e.g. `blocks.0.mlp.hook_post`.
    pub hook: String,
    /// What a transcoder reconstructs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_out: Option<String>,
    /// Settings and inputs of the training (`artifact::settings::identity`).
    pub run: String,
}

/// What only loading needs.
#[derive(Debug, Serialize, Deserialize)]
struct Encoding {
    /// Absent in a snapshot of an older program, which is read by what else it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<Rule>,
    /// Latents kept per row, of TopK and of a pursuit.
    k: Option<usize>,
    /// Norm at which a pursuit ends.
    #[serde(default)]
    least: Option<f32>,
    /// Size of the refining step between two thresholds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refine: Option<f32>,
    apply_b_dec_to_input: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    transcoder: bool,
}

/// Which [`Select`] a snapshot has, so that one that has lost a tensor of its rule is not taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Rule {
    Relu,
    Topk,
    JumpRelu,
    Refined,
    Pursuit,
    Gated,
}

impl Rule {
    fn of(select: &Select) -> Self {
        match select {
            Select::Relu => Rule::Relu,
            Select::TopK { .. } => Rule::Topk,
            Select::JumpRelu { .. } => Rule::JumpRelu,
            Select::Refined { .. } => Rule::Refined,
            Select::Pursuit { .. } => Rule::Pursuit,
            Select::Gated { .. } => Rule::Gated,
        }
    }

    /// Of a snapshot that does not name it, with tensors of these names.
    fn guessed(encoding: &Encoding, names: &[String]) -> Self {
        let has = |tensor: &str| names.iter().any(|name| name == tensor);
        match encoding {
            Encoding { k: Some(_), least: Some(_), .. } => Rule::Pursuit,
            Encoding { k: Some(_), .. } => Rule::Topk,
            Encoding { refine: Some(_), .. } => Rule::Refined,
            _ if has("threshold") => Rule::JumpRelu,
            _ if has("r_mag") => Rule::Gated,
            _ => Rule::Relu,
        }
    }
}

impl TrainConfig {
    /// After which steps snapshots are kept: 1/2, 1/4, 1/8 ... of the run, as many as asked for, ascending; the beginning is where most changes.
    pub fn snapshot_steps(&self) -> Vec<u64> {
        let halves = (1..=self.snapshots.min(63)).rev().map(|i| self.steps() >> i);
        let mut steps: Vec<u64> = halves.filter(|&step| step > 0).collect();
        steps.dedup();
        steps
    }
}

/// Bytes of one snapshot, but for its header and for thresholds.
pub fn bytes(config: &SaeConfig) -> u64 {
    let (d, e, f) = (config.d_in as u64, config.d_out() as u64, config.d_sae as u64);
    2 * (d + e) * f + 4 * (e + f) + if config.skip() { 4 * d * e } else { 0 }
}

/// Writes the snapshot into the folder `dir` of the SAE, or of its checkpoints.
pub fn write(dir: &Path, sae: &Sae, moment: &Moment) -> Result<()> {
    let (d, e, f) = (sae.d_in, sae.d_out(), sae.d_sae);
    let narrow = |x: &[f32]| x.iter().map(|&v| bf16::from_f32(v)).collect::<Vec<_>>();
    let (w_enc, w_dec) = (narrow(&sae.w_enc), narrow(&sae.w_dec));
    let mut tensors = vec![
        Tensor::bf16("w_enc", &[f, d], &w_enc),
        Tensor::f32("b_enc", &[f], &sae.b_enc),
        Tensor::bf16("w_dec", &[f, e], &w_dec),
        Tensor::f32("b_dec", &[e], &sae.b_dec),
    ];
    if let Some(Transcoder { w_skip, .. }) = sae.transcoder.as_ref().filter(|t| !t.w_skip.is_empty()) {
        tensors.push(Tensor::f32("w_skip", &[e, d], w_skip));
    }
    let (mut k, mut least) = (None, None);
    match &sae.select {
        Select::TopK { k: kept } => k = Some(*kept),
        Select::Pursuit { k: taken, least: norm } => (k, least) = (Some(*taken), Some(*norm)),
        Select::JumpRelu { threshold } => tensors.push(Tensor::f32("threshold", &[f], threshold)),
        Select::Refined { first, threshold, .. } => {
            tensors.push(Tensor::f32("first_threshold", &[f], first));
            tensors.push(Tensor::f32("threshold", &[f], threshold));
        }
        Select::Gated { b_mag, r_mag } => {
            tensors.push(Tensor::f32("b_mag", &[f], b_mag));
            tensors.push(Tensor::f32("r_mag", &[f], r_mag));
        }
        Select::Relu => {}
    }
    let refine = if let Select::Refined { step, .. } = sae.select { Some(step) } else { None };
    let (rule, transcoder) = (Some(Rule::of(&sae.select)), sae.transcoder.is_some());
    let encoding = Encoding { rule, k, least, refine, apply_b_dec_to_input: sae.apply_b_dec_to_input, transcoder };
    let json = |value: serde_json::Result<String>| value.expect("plain data");
    let metadata = [("moment", json(serde_json::to_string(moment))), ("encoding", json(serde_json::to_string(&encoding)))];
    write_tensors(&path(dir, moment.step), &tensors, &metadata)
}

/// Where the snapshots of an SAE lie: of the training that makes it anew, while that goes on, else of the one that made it.
pub fn folder(run: &RunDir, name: &str) -> PathBuf {
    let making = run.sae_checkpoints(name);
    if files(&making).is_empty() { run.sae(name) } else { making }
}

/// The snapshots in `dir`, oldest first. One that cannot be read is left out: a training may be replacing it.
pub fn list(dir: &Path) -> Vec<Moment> {
    let read = |(_, path): (u64, PathBuf)| header(&TensorFile::open(&path).ok()?, "moment").ok();
    files(dir).into_iter().filter_map(read).collect()
}

/// The SAE as it was after `step`.
///
/// # Errors
/// A file that is not there, damaged, or without what its rule of selection needs.
pub fn load(dir: &Path, step: u64) -> Result<Sae> {
    let path = path(dir, step);
    let file = TensorFile::open(&path)?;
    let corrupt = |what: String| Error::Corrupt { path: path.clone(), what };
    let size = |name: &str| -> Result<(usize, usize)> {
        let shape = file.shape(name)?;
        if let &[f, d] = &shape[..] { Ok((f, d)) } else { Err(corrupt(format!("{name} has the shape {shape:?}"))) }
    };
    let (d_sae, d_in) = size("w_enc")?;
    let encoding: Encoding = header(&file, "encoding")?;
    let rule = encoding.rule.unwrap_or_else(|| Rule::guessed(&encoding, &file.names()));
    let Encoding { k, least, refine, apply_b_dec_to_input, transcoder, .. } = encoding;
    let d_out = if transcoder { size("w_dec")?.1 } else { d_in };
    let kept = || match k {
        Some(k) if (1..=d_sae).contains(&k) => Ok(k),
        Some(k) => Err(corrupt(format!("k is {k} of {d_sae} latents"))),
        None => Err(corrupt(format!("its rule is {rule:?}, and it has no k"))),
    };
    let number = |name: &str, value: Option<f32>| value.ok_or_else(|| corrupt(format!("its rule is {rule:?}, and it has no {name}")));
    let floats = |name: &str, shape: &[usize]| -> Result<Vec<f32>> {
        let values = file.f32(name, shape)?;
        if values.iter().all(|v| v.is_finite()) { Ok(values) } else { Err(corrupt(format!("{name} holds a value that is not finite"))) }
    };
    let of_each = |name: &str| floats(name, &[d_sae]);
    // A latent may be switched off by a threshold that nothing exceeds.
    let thresholds = |name: &str| {
        let values = file.f32(name, &[d_sae])?;
        if values.iter().all(|v| *v > f32::NEG_INFINITY) { Ok(values) } else { Err(corrupt(format!("{name} holds a value that is no threshold"))) }
    };
    let select = match rule {
        Rule::Relu => Select::Relu,
        Rule::Topk => Select::TopK { k: kept()? },
        Rule::JumpRelu => Select::JumpRelu { threshold: thresholds("threshold")? },
        Rule::Refined => {
            Select::Refined { step: number("refine", refine)?, first: thresholds("first_threshold")?, threshold: thresholds("threshold")? }
        }
        Rule::Pursuit => Select::Pursuit { k: kept()?, least: number("least", least)? },
        Rule::Gated => Select::Gated { b_mag: of_each("b_mag")?, r_mag: of_each("r_mag")? },
    };
    let (w_enc, w_dec) = (floats("w_enc", &[d_sae, d_in])?, floats("w_dec", &[d_sae, d_out])?);
    let transcoder = match transcoder {
        true if file.names().iter().any(|name| name == "w_skip") => Some(Transcoder { d_out, w_skip: floats("w_skip", &[d_out, d_in])? }),
        true => Some(Transcoder { d_out, w_skip: Vec::new() }),
        false => None,
    };
    let (b_enc, b_dec) = (floats("b_enc", &[d_sae])?, floats("b_dec", &[d_out])?);
    Ok(Sae { d_in, d_sae, select, w_enc, b_enc, w_dec, b_dec, apply_b_dec_to_input, transcoder })
}

fn header<T: for<'a> Deserialize<'a>>(file: &TensorFile, key: &str) -> Result<T> {
    serde_json::from_str(file.metadata().get(key).map_or("", String::as_str)).map_err(|e| Error::json(file.path(), e))
}

/// Deletes the snapshots of later steps: a training goes on from `step`, or begins anew.
pub(super) fn keep_until(dir: &Path, step: u64) -> Result<()> {
    for (_, path) in files(dir).into_iter().filter(|(at, _)| *at > step) {
        fs::remove_file(&path).map_err(|e| Error::io("delete", &path, e))?;
    }
    Ok(())
}

/// Moves the snapshots of a training that is finished from one folder to another. Stopped on the way and called again it comes to the same: older ones that were there
/// are deleted before, by [`keep_until`].
pub(super) fn hand_over(from: &Path, to: &Path) -> Result<()> {
    for (step, made) in files(from) {
        move_file(&made, &path(to, step))?;
    }
    // Whatever else somebody put there stays, and so does the folder then.
    let _ = fs::remove_dir(from.join("history"));
    Ok(())
}

fn path(dir: &Path, step: u64) -> PathBuf {
    dir.join("history").join(format!("{step:08}.safetensors"))
}

/// (step, file), by step.
fn files(dir: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(dir.join("history")) else { return Vec::new() };
    let step = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".safetensors")?.parse::<u64>().ok();
    let mut files: Vec<(u64, PathBuf)> = entries.flatten().map(|e| e.path()).filter_map(|p| Some((step(&p)?, p))).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::seed;
    use crate::sae::{Recipe, SparseRows};
    use rand::RngExt;

    fn sae(select: Select) -> Sae {
        let (d_in, d_sae) = (5, 7);
        let mut rng = seed::rng(0, "test/history", 0);
        let mut random = |n: usize| (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<f32>>();
        Sae {
            d_in,
            d_sae,
            select,
            w_enc: random(35),
            b_enc: random(7),
            w_dec: random(35),
            b_dec: random(5),
            apply_b_dec_to_input: true,
            transcoder: None,
        }
    }

    fn moment(step: u64) -> Moment {
        Moment {
            step,
            steps: 64,
            rows: 9 * step,
            loss: 1.5,
            fvu: 0.25,
            l0: 3.0,
            dead_frac: 0.125,
            hook: "h".into(),
            hook_out: None,
            run: "{}".into(),
        }
    }

    #[test]
    fn a_snapshot_comes_back_as_it_was_but_for_the_last_bits_of_its_matrices() {
        let dir = tempfile::tempdir().unwrap();
        for (step, select) in (1..).zip(rules()) {
            let sae = sae(select);
            write(dir.path(), &sae, &moment(step)).unwrap();
            let read = load(dir.path(), step).unwrap();
            // bf16 keeps eight bits: half a unit in the last place is at most 2^-8 of the value.
            assert!(read.w_enc.iter().zip(&sae.w_enc).all(|(a, b)| (a - b).abs() <= b.abs() / 256.0));
            assert!(read.w_dec.iter().zip(&sae.w_dec).all(|(a, b)| (a - b).abs() <= b.abs() / 256.0));
            let rest = Sae { w_enc: sae.w_enc.clone(), w_dec: sae.w_dec.clone(), ..read.clone() };
            assert_eq!(rest, sae);
            let mut rows = SparseRows::default();
            // A row and its opposite: what one leaves silent fires on the other.
            read.encode(&[5.0, -5.0, 10.0, 2.5, 20.0, -5.0, 5.0, -10.0, -2.5, -20.0], &mut rows);
            assert!((0..2).any(|i| !rows.row(i).0.is_empty()));
        }
        assert_eq!(list(dir.path()), [1, 2, 3, 4, 5, 6].map(moment));
    }

    /// One of each; the two vectors of a rule differ.
    fn rules() -> [Select; 6] {
        let vector = |first: f32| (0..7).map(|j| first + j as f32 / 64.0).collect::<Vec<f32>>();
        [
            Select::Relu,
            Select::TopK { k: 2 },
            Select::Refined { step: 0.25, first: vector(0.5), threshold: vector(0.25) },
            Select::JumpRelu { threshold: vector(0.25) },
            Select::Gated { b_mag: vector(0.25), r_mag: vector(-0.5) },
            Select::Pursuit { k: 3, least: 0.5 },
        ]
    }

    /// Writes a snapshot anew without this tensor and this entry of its encoding; an empty name: with all of them.
    fn strip(dir: &Path, step: u64, tensor: &str, entry: &str) {
        let path = path(dir, step);
        let file = TensorFile::open(&path).unwrap();
        let mut encoding: serde_json::Map<String, serde_json::Value> = header(&file, "encoding").unwrap();
        let found = encoding.remove(entry).is_some() || file.names().iter().any(|name| name == tensor);
        assert!(found, "{step} has no {tensor}{entry}");
        let copy = |name: String| {
            let (dtype, shape) = (file.dtype(&name).unwrap(), file.shape(&name).unwrap());
            let sizes: Vec<Option<usize>> = shape.iter().map(|&n| Some(n)).collect();
            let bytes = file.bytes(&name, dtype, &sizes).unwrap().to_vec();
            Tensor { name, dtype, shape, bytes: bytes.into() }
        };
        let tensors: Vec<Tensor> = file.names().into_iter().filter(|name| name != tensor).map(copy).collect();
        let metadata = [("moment", file.metadata()["moment"].clone()), ("encoding", serde_json::Value::Object(encoding).to_string())];
        write_tensors(&path, &tensors, &metadata).unwrap();
    }

    #[test]
    fn a_snapshot_that_has_lost_a_part_of_its_rule_is_refused_and_taken_for_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut refused = 0;
        for (step, select) in (1..).zip(rules()) {
            let (tensors, entries): (&[&str], &[&str]) = match select {
                Select::Relu => (&[], &[]),
                Select::TopK { .. } => (&[], &["k"]),
                Select::Refined { .. } => (&["first_threshold", "threshold"], &["refine"]),
                Select::JumpRelu { .. } => (&["threshold"], &[]),
                Select::Gated { .. } => (&["b_mag", "r_mag"], &[]),
                Select::Pursuit { .. } => (&[], &["k", "least"]),
            };
            for (tensor, entry) in tensors.iter().map(|&tensor| (tensor, "")).chain(entries.iter().map(|&entry| ("", entry))) {
                write(dir.path(), &sae(select.clone()), &moment(step)).unwrap();
                load(dir.path(), step).unwrap();
                strip(dir.path(), step, tensor, entry);
                let error = load(dir.path(), step).unwrap_err().to_string();
                let want = if entry.is_empty() { format!("tensor {tensor} is missing") } else { format!("it has no {entry}") };
                assert!(error.contains(&want), "{select:?}: {error}");
                refused += 1;
            }
        }
        assert_eq!(refused, 9);
    }

    #[test]
    fn a_snapshot_of_an_older_program_that_does_not_name_its_rule_is_read_by_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        for (step, select) in (1..).zip(rules()) {
            write(dir.path(), &sae(select.clone()), &moment(step)).unwrap();
            let named = load(dir.path(), step).unwrap();
            strip(dir.path(), step, "", "rule");
            let read = load(dir.path(), step).unwrap();
            assert!(read == named && read.select == select, "{select:?}");
        }
    }

    #[test]
    fn what_is_no_snapshot_is_left_out_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(list(dir.path()).is_empty());
        write(dir.path(), &sae(Select::TopK { k: 2 }), &moment(8)).unwrap();
        let folder = dir.path().join("history");
        fs::write(folder.join("00000009.safetensors"), b"short").unwrap();
        fs::write(folder.join("notes.txt"), b"").unwrap();
        assert_eq!(list(dir.path()), [moment(8)]);
        assert!(load(dir.path(), 9).unwrap_err().to_string().contains("00000009.safetensors"));
        assert!(load(dir.path(), 10).is_err());
        let mut broken = sae(Select::TopK { k: 2 });
        (broken.select, broken.b_enc[3]) = (Select::TopK { k: 8 }, f32::NAN);
        write(dir.path(), &broken, &moment(10)).unwrap();
        assert!(load(dir.path(), 10).unwrap_err().to_string().contains("k is 8 of 7"));
        broken.select = Select::Relu;
        write(dir.path(), &broken, &moment(10)).unwrap();
        assert!(load(dir.path(), 10).unwrap_err().to_string().contains("b_enc"));
        keep_until(dir.path(), 8).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        keep_until(dir.path(), 0).unwrap();
        assert!(list(dir.path()).is_empty() && folder.join("notes.txt").exists(), "only snapshots are deleted");
    }

    #[test]
    fn snapshots_stand_at_halves_of_halves_of_the_run() {
        let sae = SaeConfig::new(5, 7, Recipe::topk(2, false));
        let mut config = TrainConfig::short(sae, 976 * 10, 10, 0);
        assert_eq!(config.snapshot_steps(), [15, 30, 61, 122, 244, 488]);
        (config.rows, config.snapshots) = (50, 100);
        assert_eq!(config.snapshot_steps(), [1, 2], "five steps have no more");
        config.snapshots = 0;
        assert!(config.snapshot_steps().is_empty());
        assert_eq!(bytes(&config.sae), 2 * 2 * 35 + 4 * 12);
    }
}
