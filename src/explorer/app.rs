//! What the pages of one run ask: its token stream, dictionaries, labels and model. Reads files by the names of [`RunDir`] alone.
//!
//! Dictionaries are lent from a [`Shelf`], labels opened anew for each question, so a page shows what was built since the server started.

use super::live::Typed;
use super::shelf::{Lent, Shelf};
use super::summaries::Summaries;
use super::view::{UnitView, Units};
use super::{Error, Options, Result};
use crate::artifact::{Manifest, RunDir};
use crate::corpus::{TokenStream, Tokenizer};
use crate::features::store::{FeatureSummary, Meta};
use crate::features::{self, Dictionary, NEURONS};
use crate::labels::{self, Labels};
use crate::lm::{CpuEngine, HookPoint, Lm};
use crate::pipeline::{is_unfinished, saes, saes_in_words, train_command};
use crate::sae::Sae;
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

/// An opened run.
pub struct App {
    pub run: RunDir,
    /// Name of the SAE; also of its dictionary and labels.
    pub sae: String,
    pub stream: TokenStream,
    pub tokenizer: Tokenizer,
    model: Mutex<Option<Model>>,
    pub compared: Mutex<Option<super::compare::Kept>>,
    pub map: Arc<Mutex<super::map::State>>,
    pub learning: Mutex<super::learning::Kept>,
    /// Of features and of neurons.
    dictionaries: [Shelf; 2],
    summaries: [Mutex<Option<Known>>; 2],
    /// What was out of date when the files were last read, and what they were then: every page says it.
    stale: Mutex<Option<(Vec<Written>, Option<Missing>)>>,
}

/// When a file was written and how long it is; nothing where it is not there.
type Written = Option<(SystemTime, u64)>;

/// What is kept in memory of a dictionary, and the state of the file that it was read in.
struct Known {
    meta: Meta,
    changes: u32,
    all: Arc<Summaries>,
}

/// The language model and the SAE, in memory.
pub struct Model {
    pub engine: CpuEngine,
    pub sae: Sae,
    pub hook: HookPoint,
    pub typed: Typed,
    /// Manifest hashes of both.
    made_from: (String, Option<String>),
}

/// A part of the run that is not there, and the command that makes it.
#[derive(Debug, Clone, Serialize)]
pub struct Missing {
    #[serde(rename = "missing")]
    pub what: String,
    pub next: String,
}

/// Why a page cannot be shown.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(skip)]
    pub status: u16,
    pub title: &'static str,
    pub message: String,
    pub next: String,
}

impl Problem {
    pub fn new(status: u16, title: &'static str, error: &dyn std::fmt::Display) -> Self {
        let text = error.to_string();
        let (message, next) = text.split_once('\n').unwrap_or((&text, ""));
        let next = next.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        Problem { status, title, message: message.into(), next }
    }

    pub fn not_found(what: &str) -> Self {
        Problem::new(404, "Not found", &what)
    }

    pub fn bad(what: &str) -> Self {
        Problem::new(400, "That cannot be done", &what)
    }
}

impl From<features::Error> for Problem {
    fn from(error: features::Error) -> Self {
        match error {
            features::Error::NoFeature { .. } => Problem::new(404, "There is no such feature", &error),
            _ => Problem::new(500, "The dictionary cannot be read", &error),
        }
    }
}

impl From<labels::Error> for Problem {
    fn from(error: labels::Error) -> Self {
        match error {
            labels::Error::Invalid(_) => Problem::new(400, "That label cannot be kept", &error),
            _ => Problem::new(500, "The labels cannot be read or written", &error),
        }
    }
}

impl From<Missing> for Problem {
    fn from(missing: Missing) -> Self {
        Problem { status: 404, title: "This part of the run is not there yet", message: missing.what, next: missing.next }
    }
}

/// Whether a part of a page is there.
pub type Part<T> = std::result::Result<T, Missing>;

/// In JSON a part is itself, or an object with `missing` and `next`.
pub fn part<T: Serialize, S: serde::Serializer>(part: &Part<T>, to: S) -> std::result::Result<S::Ok, S::Error> {
    match part {
        Ok(there) => there.serialize(to),
        Err(missing) => missing.serialize(to),
    }
}

/// Whether a page can be shown.
pub type Page<T> = std::result::Result<T, Problem>;

impl App {
    /// The run's SAEs, the open one first.
    pub fn saes(&self) -> Vec<String> {
        let mut names = saes(&self.run);
        names.sort_by_key(|name| *name != self.sae);
        names
    }

    pub fn open(run: &RunDir, options: &Options) -> Result<Self> {
        let nothing = |what: String, next: String| Error::Nothing { path: run.root.clone(), what, next };
        let build = format!("monosem quickstart {}", run.flags());
        let stream = TokenStream::open(&run.tokens()).map_err(|e| nothing(e.to_string(), build.clone()))?;
        let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).map_err(|e| nothing(e.to_string(), build))?;
        let sae = match &options.sae {
            Some(name) if saes(run).contains(name) => name.clone(),
            Some(name) => {
                return Err(nothing(format!("there is no SAE named {name}; known are: {}", saes_in_words(run, None)), train_command(run, name)));
            }
            None => saes(run).into_iter().next().unwrap_or_else(|| "main".into()),
        };
        Ok(App {
            run: run.clone(),
            sae,
            stream,
            tokenizer,
            model: Mutex::new(None),
            compared: Mutex::default(),
            map: Arc::default(),
            learning: Mutex::default(),
            dictionaries: Default::default(),
            summaries: Default::default(),
            stale: Mutex::default(),
        })
    }

    fn name(&self, units: Units) -> &str {
        match units {
            Units::Features => &self.sae,
            Units::Neurons => NEURONS,
        }
    }

    /// The dictionary of the features or of the neurons, checked against the token stream.
    pub fn dictionary(&self, units: Units) -> Part<Lent<'_>> {
        let (what, flags) = match units {
            Units::Features => ("The feature dictionary", format!("--sae {}", self.sae)),
            Units::Neurons => ("The dictionary of the model's own neurons", "--neurons".to_string()),
        };
        let next = format!("monosem features build {flags} {}", self.run.flags());
        let missing = |what: String| Missing { what, next: next.clone() };
        let path = self.run.features(self.name(units));
        if units == Units::Features && is_unfinished(&self.run, &self.sae) {
            return Err(Missing { what: format!("The training of {} is not finished.", self.sae), next: train_command(&self.run, &self.sae) });
        }
        if !path.is_file() {
            return Err(missing(format!("{what} has not been built yet.")));
        }
        let first_line = |e: features::Error| e.to_string().lines().next().unwrap_or_default().to_string();
        let open = || {
            let dictionary = Dictionary::open(&path).map_err(|e| missing(format!("{what} cannot be used: {}.", first_line(e))))?;
            dictionary.check(&self.stream).map_err(|e| missing(format!("{what} is out of date: {}.", first_line(e))))?;
            Ok(dictionary)
        };
        self.dictionaries[units as usize].lend(&path, open)
    }

    /// The dictionary that was made from tokens, a model or an SAE that have been replaced since, and the command that makes it anew.
    pub fn out_of_date(&self) -> Option<Missing> {
        let files = [Units::Features, Units::Neurons].map(|units| self.run.features(self.name(units)));
        let manifests = [self.run.tokens(), self.run.lm(), self.run.sae(&self.sae)].map(|dir| dir.join("manifest.json"));
        let written = |path: &PathBuf| std::fs::metadata(path).ok().and_then(|m| Some((m.modified().ok()?, m.len())));
        let now: Vec<Written> = files.iter().chain(&manifests).map(written).collect();
        let mut known = locked(&self.stale);
        match &*known {
            Some((then, what)) if *then == now => what.clone(),
            _ => known.insert((now, self.look_for_stale())).1.clone(),
        }
    }

    fn look_for_stale(&self) -> Option<Missing> {
        [(Units::Features, format!("--sae {}", self.sae)), (Units::Neurons, "--neurons".into())].into_iter().find_map(|(units, flags)| {
            let dictionary = Dictionary::open(&self.run.features(self.name(units))).ok()?;
            let error = dictionary.check_run(&self.run).err()?.to_string();
            let what = format!("What is shown here is out of date: {}.", error.lines().next().unwrap_or_default());
            Some(Missing { what, next: format!("monosem features build {flags} {}", self.run.flags()) })
        })
    }

    fn labels_path(&self, units: Units) -> PathBuf {
        self.run.labels(self.name(units))
    }

    /// The labels, where somebody has written one; reading makes no file.
    pub fn labels(&self, units: Units) -> Page<Option<Labels>> {
        Ok(Labels::open_to_read(&self.labels_path(units))?)
    }

    /// The labels for writing.
    pub fn labels_to_write(&self, units: Units) -> Page<Labels> {
        Ok(Labels::open(&self.labels_path(units))?)
    }

    /// The newest label in force of every unit that has one. Labels that cannot be read are as good as none here; the unit's page says why.
    pub fn label_texts(&self, units: Units, meta: &Meta) -> HashMap<u32, String> {
        // Listed by latent, then time: the newest comes last and stays.
        self.all_labels(units, meta).into_iter().collect()
    }

    /// Every label in force, one of each author, by latent and then time.
    pub fn all_labels(&self, units: Units, meta: &Meta) -> Vec<(u32, String)> {
        let listed = self.labels(units).ok().flatten().and_then(|l| l.list(&meta.weights_hash, None).ok()).unwrap_or_default();
        listed.into_iter().map(|l| (l.latent, l.text)).collect()
    }

    /// Whether the dictionary came from another program, without the model that it was made from.
    pub fn is_imported(&self) -> bool {
        !self.run.lm().exists() && self.run.features(&self.sae).is_file()
    }

    pub fn unit_view(&self, units: Units, summary: &FeatureSummary, labels: &HashMap<u32, String>) -> UnitView {
        UnitView::new(units, summary, labels.get(&summary.id).cloned())
    }

    /// Every unit's summary by number, read again when the dictionary was built anew or concepts were written into it: ranking live text
    /// asks for hundreds at each keystroke.
    pub fn summaries(&self, units: Units, dictionary: &Dictionary) -> Page<Arc<Summaries>> {
        let mut cached = locked(&self.summaries[units as usize]);
        let changes = dictionary.changes()?;
        if let Some(known) = &*cached
            && known.changes == changes
            && &known.meta == dictionary.meta()
        {
            return Ok(known.all.clone());
        }
        let query = features::store::ListQuery { limit: u64::from(dictionary.meta().n_units), ..Default::default() };
        let all = Arc::new(Summaries::new(dictionary.list(&query)?.features));
        *cached = Some(Known { meta: dictionary.meta().clone(), changes, all: all.clone() });
        Ok(all)
    }

    /// Reads what live text and steering ask for first. What fails here fails again, and is told, where it is asked for.
    pub fn warm_up(&self) {
        if let Ok(dictionary) = self.dictionary(Units::Features)
            && self.summaries(Units::Features, &dictionary).is_ok()
        {
            let _ = self.with_model(dictionary.meta(), |_| Ok(()));
        }
    }

    /// Refuses when the dictionary, whose maxima live text and steering are measured by, was made from another model or SAE.
    fn made_from(&self, what: &str, dir: &std::path::Path, hash: Option<&str>) -> Page<()> {
        let current = crate::artifact::read_json::<Manifest>(&dir.join("manifest.json")).map(|m| m.hash());
        match (current, hash) {
            (Ok(current), Some(hash)) if current != hash => Err(Problem {
                status: 409,
                title: "The dictionary is out of date",
                message: format!("The feature dictionary was made from {what} {hash}, but {} is now {current}.", dir.display()),
                next: format!("monosem features build --sae {} {}", self.sae, self.run.flags()),
            }),
            _ => Ok(()),
        }
    }

    /// Runs `work` with the model that the dictionary was made from, loading it when it is first asked for. One at a time.
    pub fn with_model<T>(&self, meta: &Meta, work: impl FnOnce(&mut Model) -> Page<T>) -> Page<T> {
        let mut slot = locked(&self.model);
        let made_from = (meta.lm_hash.clone(), meta.sae_hash.clone());
        if slot.as_ref().is_none_or(|model| model.made_from != made_from) {
            *slot = None;
            if self.is_imported() {
                return Err(Problem {
                    status: 404,
                    title: "There is no model here",
                    message: "This dictionary came without the model and the SAE that it was made from: there is no live text, no steering, no map, and no \
                              reason why a feature fires."
                        .into(),
                    next: format!("monosem features list --sae {} {}", self.sae, self.run.flags()),
                });
            }
            let failed = |e: &dyn std::fmt::Display| Problem::new(500, "The model cannot be loaded", e);
            self.made_from("lm", &self.run.lm(), Some(&meta.lm_hash))?;
            self.made_from("SAE", &self.run.sae(&self.sae), meta.sae_hash.as_deref())?;
            let lm = Lm::load(&self.run.lm()).map_err(|e| failed(&e))?;
            let sae = Sae::load_any(&self.run.sae(&self.sae)).map_err(|e| failed(&e))?;
            let hook: HookPoint = meta.hook.parse().map_err(|e: String| failed(&e))?;
            let d_in = hook.d_in(&lm.config);
            if sae.d_in != d_in || lm.config.d_vocab != self.stream.d_vocab() {
                let what = format!(
                    "the SAE reads {} numbers and {hook} has {d_in}; the model knows {} tokens and the stream {}\nmonosem info {}",
                    sae.d_in,
                    lm.config.d_vocab,
                    self.stream.d_vocab(),
                    self.run.name()
                );
                return Err(failed(&what));
            }
            let typed = Typed::new(&lm.config, hook);
            *slot = Some(Model { engine: CpuEngine::new(lm), sae, hook, typed, made_from });
        }
        work(slot.as_mut().expect("it was loaded above"))
    }
}

/// A panic in another request leaves plain data behind, so its lock is good to use.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
