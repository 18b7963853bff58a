//! Activation rows on disk: `activations/<hook>/rows-00000.safetensors ...` with a manifest; row i is token `first_token + i`.
//!
//! Every token of the cached windows has its row (those that do not count too), so that rows stay keyed by the index in the stream.
//! A harvest that is interrupted keeps its finished shards, and goes on with them when it is run again with the same inputs.

use super::{Error, Result, ShuffleConfig, Shuffled, WindowRows, check};
use crate::artifact::{self, Dtype, Manifest, Progress, Tensor, TensorFile, settings, why_stale, write_tensors};
use crate::corpus::{Split, TokenStream};
use crate::lm::{Engine, HookPoint};
use half::bf16;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

const STAGE: &str = "activations";
const FORMAT_VERSION: u32 = 1;
/// Rows are cut into files of about this many bytes.
const SHARD_BYTES: usize = 256 << 20;

/// Number format of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum CacheDtype {
    /// 2 bytes, 8 bits of mantissa.
    Bf16,
    /// 4 bytes, exactly what the model computed.
    F32,
}

impl CacheDtype {
    fn bytes(self) -> usize {
        match self {
            CacheDtype::Bf16 => 2,
            CacheDtype::F32 => 4,
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            CacheDtype::Bf16 => Dtype::BF16,
            CacheDtype::F32 => Dtype::F32,
        }
    }
}

impl std::fmt::Display for CacheDtype {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            CacheDtype::Bf16 => "bf16",
            CacheDtype::F32 => "f32",
        })
    }
}

/// What is cached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CacheConfig {
    pub hook: HookPoint,
    /// The first so many training tokens, rounded up to whole windows; `None` for all.
    pub n_tokens: Option<u64>,
    pub dtype: CacheDtype,
    /// Refused above this size, GB of 10^9 bytes.
    pub max_gb: f64,
    /// Whether rows that were cached with other settings may be deleted.
    pub replace: bool,
}

/// What the manifest says of the cached rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    hook: HookPoint,
    dtype: CacheDtype,
    n_ctx: usize,
    d_in: usize,
    first_token: u64,
    n_rows: u64,
    rows_per_shard: u64,
}

impl Recorded {
    fn plan(engine: &dyn Engine, stream: &TokenStream, config: CacheConfig, shard_bytes: usize) -> Result<Self> {
        check(engine.config(), config.hook, stream)?;
        let n_ctx = engine.config().n_ctx;
        let d_in = config.hook.d_in(engine.config());
        let windows = stream.windows(Split::Train, n_ctx);
        let there = windows.end - windows.start;
        let n_windows = config.n_tokens.map_or(there, |n| n.div_ceil(n_ctx as u64).min(there));
        if n_windows == 0 {
            return Err(Error::NoRows { n_windows, n_ctx });
        }
        let windows_per_shard = (shard_bytes / (n_ctx * d_in * config.dtype.bytes())).max(1);
        Ok(Recorded {
            hook: config.hook,
            dtype: config.dtype,
            n_ctx,
            d_in,
            first_token: windows.start * n_ctx as u64,
            n_rows: n_windows * n_ctx as u64,
            rows_per_shard: (windows_per_shard * n_ctx) as u64,
        })
    }

    fn n_bytes(&self) -> u64 {
        self.n_rows * (self.d_in * self.dtype.bytes()) as u64
    }

    fn n_shards(&self) -> u64 {
        self.n_rows.div_ceil(self.rows_per_shard)
    }

    fn rows_of_shard(&self, shard: u64) -> u64 {
        (self.n_rows - shard * self.rows_per_shard).min(self.rows_per_shard)
    }
}

fn shard_name(shard: u64) -> String {
    format!("rows-{shard:05}.safetensors")
}

/// Rows and bytes that [`cache`] would write.
pub fn cache_bytes(engine: &dyn Engine, stream: &TokenStream, config: CacheConfig) -> Result<(u64, u64)> {
    let plan = Recorded::plan(engine, stream, config, SHARD_BYTES)?;
    Ok((plan.n_rows, plan.n_bytes()))
}

/// Runs the training documents through the model and writes the rows at `config.hook` to `dir`. `lm` is the manifest of the model that
/// `engine` runs.
///
/// Shards that are there of the same rows are kept, as long as they are as the manifest has them; a longer cache goes on from a shorter one.
///
/// # Errors
/// [`Error::TooLarge`], [`artifact::Error::Finished`] and [`artifact::Error::Refused`] (rows of other settings are there) before anything is written;
/// [`Error::Interrupted`] with the finished shards kept.
pub fn cache(
    engine: &mut dyn Engine,
    lm: &Manifest,
    stream: &TokenStream,
    dir: &Path,
    config: CacheConfig,
    progress: &mut dyn Progress,
) -> Result<Manifest> {
    cache_in_shards(engine, lm, stream, dir, config, SHARD_BYTES, progress)
}

/// [`cache`] with files of about `shard_bytes` bytes; at least one window each.
pub(super) fn cache_in_shards(
    engine: &mut dyn Engine,
    lm: &Manifest,
    stream: &TokenStream,
    dir: &Path,
    config: CacheConfig,
    shard_bytes: usize,
    progress: &mut dyn Progress,
) -> Result<Manifest> {
    let started = std::time::Instant::now();
    let plan = Recorded::plan(engine, stream, config, shard_bytes)?;
    if plan.n_bytes() as f64 > config.max_gb * 1e9 {
        return Err(Error::TooLarge { bytes: plan.n_bytes(), max_gb: config.max_gb });
    }
    let recorded = serde_json::to_value(plan).expect("plain data");
    let mut manifest = Manifest::new(STAGE, FORMAT_VERSION, recorded, lm.seed);
    manifest.inputs.insert("lm".into(), lm.hash());
    manifest.inputs.insert("tokens".into(), stream.manifest().hash());
    // A shard is the same however many follow it.
    let mut any_length = manifest.clone();
    any_length.config["n_rows"] = serde_json::Value::Null;
    let made_from = any_length.hash();

    fs::create_dir_all(dir).map_err(|e| artifact::Error::io("make", dir, e))?;
    let kept = what_is_kept(dir, &plan, &manifest, &made_from, config.replace)?;
    remove_other_shards(dir, &plan, kept)?;
    progress.begin("harvest", plan.n_rows, "tokens");
    for shard in 0..plan.n_shards() {
        let path = dir.join(shard_name(shard));
        if !path.exists() {
            if progress.interrupted() {
                progress.end();
                return Err(Error::Interrupted);
            }
            write_shard(engine, stream, &plan, shard, &path, &made_from)?;
        }
        manifest.record_file(dir, &shard_name(shard))?;
        progress.advance(plan.rows_of_shard(shard));
    }
    progress.end();
    manifest.counts.insert("rows".into(), plan.n_rows);
    manifest.counts.insert("bytes".into(), plan.n_bytes());
    manifest.wall_seconds = started.elapsed().as_secs_f64();
    manifest.write(dir)?;
    Ok(manifest)
}

/// Which shards in `dir` may be kept.
struct Kept {
    /// What they may say that they were made from; a former version had the number of rows in it.
    made_from: Vec<String>,
    /// The hashes of a finished cache; none where a harvest was interrupted.
    recorded: Option<BTreeMap<String, String>>,
}

impl Kept {
    fn includes(&self, path: &Path, name: &str, plan: &Recorded) -> bool {
        let is_recorded = || match &self.recorded {
            None => true,
            Some(hashes) => hashes.get(name).is_some_and(|hash| artifact::hash_file(path).is_ok_and(|found| found == *hash)),
        };
        (0..plan.n_shards()).any(|s| shard_name(s) == name && is_whole(path, plan, s, &self.made_from)) && is_recorded()
    }
}

/// Refuses where rows of other settings would be deleted unasked; rows of a model or of tokens that are no more are worth nothing.
fn what_is_kept(dir: &Path, plan: &Recorded, here: &Manifest, made_from: &str, replace: bool) -> Result<Kept> {
    let mut made_from = vec![made_from.to_string(), here.hash()];
    let path = dir.join("manifest.json");
    if !path.exists() {
        let within = |name: &str| (0..plan.n_shards()).any(|s| shard_name(s) == name);
        let is_other = |path: &Path, name: &str| made_from_of(path).is_some_and(|of| !made_from.contains(&of) || !within(name));
        let others = shards(dir)?.iter().filter(|(path, name)| is_other(path, name)).count();
        if others > 0 && !replace {
            let what =
                format!("it holds {others} shards of a harvest with other settings, of more tokens or of another model, that was not finished");
            let next = "go on with that by the flags it was begun with, or delete them: the same command with --yes".to_string();
            return Err(artifact::Error::Refused { path: dir.into(), what, next }.into());
        }
        return Ok(Kept { made_from, recorded: None });
    }
    let there = match Manifest::read(dir, STAGE, FORMAT_VERSION) {
        Ok(there) => there,
        // Nothing is known of the shards beside a manifest that cannot be read.
        Err(_) if replace => return Ok(Kept { made_from, recorded: Some(BTreeMap::new()) }),
        Err(unread) => return Err(unread.into()),
    };
    if there.inputs == here.inputs && !replace {
        let rows = |manifest: &Manifest| manifest.config["n_rows"].as_u64().unwrap_or(0);
        let mut wanted = here.config.clone();
        if rows(here) > rows(&there) {
            wanted["n_rows"] = there.config["n_rows"].clone();
        }
        settings::refuse_finished(dir, &there.config, &wanted, "--run")?;
    }
    let mut of_their_length = here.clone();
    of_their_length.config["n_rows"] = there.config["n_rows"].clone();
    made_from.push(of_their_length.hash());
    Ok(Kept { made_from, recorded: Some(there.files) })
}

fn made_from_of(path: &Path) -> Option<String> {
    TensorFile::open(path).ok()?.metadata().get("made_from").cloned()
}

/// The shards in `dir`, with their names.
fn shards(dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let io = |e| artifact::Error::io("read", dir, e);
    let mut found = vec![];
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("rows-") && name.ends_with(".safetensors") {
            found.push((path, name));
        }
    }
    Ok(found)
}

/// Deletes shards that are not kept, then the manifest, so that what is found later is finished and of this harvest: whoever is stopped before leaves a manifest that
/// what is missing does not agree with.
fn remove_other_shards(dir: &Path, plan: &Recorded, kept: Kept) -> Result<()> {
    for (path, name) in shards(dir)? {
        if !kept.includes(&path, &name, plan) {
            fs::remove_file(&path).map_err(|e| artifact::Error::io("delete", &path, e))?;
        }
    }
    Ok(artifact::remove_if_there(&dir.join("manifest.json"))?)
}

fn is_whole(path: &Path, plan: &Recorded, shard: u64, made_from: &[String]) -> bool {
    TensorFile::open(path).is_ok_and(|file| {
        file.metadata().get("made_from").is_some_and(|of| made_from.contains(of))
            && file.shape("rows").is_ok_and(|s| s == [plan.rows_of_shard(shard) as usize, plan.d_in])
    })
}

fn write_shard(engine: &mut dyn Engine, stream: &TokenStream, plan: &Recorded, shard: u64, path: &Path, made_from: &str) -> Result<()> {
    let n_rows = plan.rows_of_shard(shard) as usize;
    let t0 = plan.first_token + shard * plan.rows_per_shard;
    let mut ids = vec![0; n_rows];
    stream.read(t0, &mut ids);
    let per_batch = (4096 / plan.n_ctx).max(1) * plan.n_ctx;
    let mut rows = vec![0.0; per_batch.min(n_rows) * plan.d_in];
    let shape = [n_rows, plan.d_in];
    // One entry only: more would be written in any order, and the file's hash would not be repeatable.
    let metadata = [("made_from", made_from.to_string())];
    let (mut narrow, mut wide) = (Vec::new(), Vec::new());
    for ids in ids.chunks(per_batch) {
        let rows = &mut rows[..ids.len() * plan.d_in];
        engine.forward_to(ids, plan.n_ctx, plan.hook, rows);
        match plan.dtype {
            CacheDtype::Bf16 => narrow.extend(rows.iter().map(|&x| bf16::from_f32(x))),
            CacheDtype::F32 => wide.extend_from_slice(rows),
        }
    }
    let tensor = match plan.dtype {
        CacheDtype::Bf16 => Tensor::bf16("rows", &shape, &narrow),
        CacheDtype::F32 => Tensor::f32("rows", &shape, &wide),
    };
    Ok(write_tensors(path, &[tensor], &metadata)?)
}

/// What the manifest of a cache says, its rows unread.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CacheSummary {
    pub hook: HookPoint,
    pub dtype: CacheDtype,
    /// Rows in the cache, those that do not count too.
    pub n_rows: u64,
    /// On disk.
    pub bytes: u64,
    /// Which input has changed since the cache was made or is gone, `lm` or `tokens`, in words.
    pub stale: Option<String>,
}

impl CacheSummary {
    /// Of the cache in `dir`; `inputs` are the names and hashes of what is there now, none for what is missing.
    ///
    /// # Errors
    /// No manifest of a cache, or a damaged one.
    pub fn read(dir: &Path, inputs: &[(&str, Option<String>)]) -> Result<Self> {
        let manifest = Manifest::read(dir, STAGE, FORMAT_VERSION)?;
        let recorded: Recorded = serde_json::from_value(manifest.config).map_err(|e| artifact::Error::json(&dir.join("manifest.json"), e))?;
        let changed = inputs.iter().find(|(input, hash)| manifest.inputs.get(*input) != hash.as_ref());
        Ok(CacheSummary {
            hook: recorded.hook,
            dtype: recorded.dtype,
            n_rows: recorded.n_rows,
            bytes: manifest.counts.get("bytes").copied().unwrap_or_default(),
            stale: changed.map(|(input, hash)| why_stale(input, hash.as_ref())),
        })
    }
}

/// The rows of windows as they are on disk.
pub struct CachedRows {
    dir: PathBuf,
    recorded: Recorded,
    shards: Vec<TensorFile>,
}

impl CachedRows {
    /// Opens `dir` and checks manifest, shapes, sizes and hashes (reads every row once, about a second per gigabyte). `rerun` is the command
    /// that makes the cache, for messages.
    ///
    /// # Errors
    /// [`Error::NoCache`] where no finished cache is there, [`Error::OtherHook`] for one of another hook, [`artifact::Error::Stale`] for
    /// one made from another model or other tokens, [`artifact::Error::Corrupt`] for a damaged one.
    pub fn open(dir: &Path, hook: HookPoint, lm: &Manifest, stream: &TokenStream, rerun: &str) -> Result<Self> {
        if !dir.join("manifest.json").exists() {
            return Err(Error::NoCache { dir: dir.into(), rerun: rerun.into() });
        }
        let manifest = Manifest::read(dir, STAGE, FORMAT_VERSION)?;
        manifest.check_input(dir, "lm", lm, rerun)?;
        manifest.check_input(dir, "tokens", stream.manifest(), rerun)?;
        manifest.check_files(dir)?;
        let path = dir.join("manifest.json");
        let recorded: Recorded = serde_json::from_value(manifest.config).map_err(|e| artifact::Error::json(&path, e))?;
        if recorded.hook != hook {
            return Err(Error::OtherHook { dir: dir.into(), found: recorded.hook, expected: hook, rerun: rerun.into() });
        }
        let corrupt = |what: String| artifact::Error::Corrupt { path: path.clone(), what };
        let n_ctx = recorded.n_ctx as u64;
        if recorded.n_ctx == 0 || recorded.d_in == 0 || recorded.rows_per_shard == 0 || !recorded.rows_per_shard.is_multiple_of(n_ctx) {
            return Err(corrupt(format!("n_ctx {n_ctx}, d_in {}, rows_per_shard {} cannot be", recorded.d_in, recorded.rows_per_shard)).into());
        }
        let train = stream.windows(Split::Train, recorded.n_ctx);
        if recorded.first_token != train.start * n_ctx
            || recorded.n_rows == 0
            || !recorded.n_rows.is_multiple_of(n_ctx)
            || recorded.n_rows / n_ctx > train.end - train.start
        {
            return Err(corrupt(format!("{} rows from token {} are not training windows of {n_ctx}", recorded.n_rows, recorded.first_token)).into());
        }
        let mut shards = Vec::new();
        for s in 0..recorded.n_shards() {
            let file = TensorFile::open(&dir.join(shard_name(s)))?;
            file.bytes("rows", recorded.dtype.dtype(), &[Some(recorded.rows_of_shard(s) as usize), Some(recorded.d_in)])?;
            shards.push(file);
        }
        Ok(CachedRows { dir: dir.into(), recorded, shards })
    }

    /// Rows in the cache, those that do not count too.
    pub fn n_rows(&self) -> u64 {
        self.recorded.n_rows
    }

    pub fn hook(&self) -> HookPoint {
        self.recorded.hook
    }

    pub fn n_ctx(&self) -> usize {
        self.recorded.n_ctx
    }

    pub fn dtype(&self) -> CacheDtype {
        self.recorded.dtype
    }

    /// The windows that are in the cache, counted from the beginning of the stream.
    pub fn windows(&self) -> Range<u64> {
        let Recorded { n_ctx, first_token, n_rows, .. } = self.recorded;
        let first = first_token / n_ctx as u64;
        first..first + n_rows / n_ctx as u64
    }

    /// Copies rows `first..first + n` of the cache, which must lie in one window, into `out` (n, d_in).
    fn read(&self, first: u64, out: &mut [f32]) -> io::Result<()> {
        let Recorded { dtype, d_in, rows_per_shard, .. } = self.recorded;
        let (shard, row) = ((first / rows_per_shard) as usize, (first % rows_per_shard) as usize);
        let file = self
            .shards
            .get(shard)
            .ok_or_else(|| io::Error::other(format!("{} has {} rows, row {first} was asked for", self.dir.display(), self.recorded.n_rows)))?;
        let bytes = file.bytes("rows", dtype.dtype(), &[None, Some(d_in)]).map_err(io::Error::other)?;
        let bytes = &bytes[row * d_in * dtype.bytes()..][..out.len() * dtype.bytes()];
        match dtype {
            CacheDtype::Bf16 => out.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(x, b)| *x = bf16::from_le_bytes([b[0], b[1]]).to_f32()),
            CacheDtype::F32 => out.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(x, b)| *x = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        }
        Ok(())
    }
}

impl WindowRows for CachedRows {
    fn d_in(&self) -> usize {
        self.recorded.d_in
    }

    fn fill(&mut self, windows: &[u64], _ids: &[u32], rows: &mut [f32]) -> io::Result<()> {
        let Recorded { n_ctx, d_in, first_token, .. } = self.recorded;
        for (&w, rows) in windows.iter().zip(rows.chunks_exact_mut(n_ctx * d_in)) {
            self.read(w * n_ctx as u64 - first_token, rows)?;
        }
        Ok(())
    }
}

/// Activation rows of a cache, shuffled by the same rules as [`Streamed`](super::Streamed): where the cache is f32 and holds the windows
/// that streaming would read, the rows are the same bit for bit, and so is an SAE trained on them.
pub type Cached<'a> = Shuffled<'a, CachedRows>;

impl<'a> Cached<'a> {
    /// The windows of a cache.
    ///
    /// # Errors
    /// [`Error::NoRows`]
    pub fn open(rows: CachedRows, stream: &'a TokenStream, config: ShuffleConfig) -> Result<Self> {
        let (windows, n_ctx) = (rows.windows(), rows.n_ctx());
        Shuffled::over(rows, stream, windows, n_ctx, config)
    }
}
