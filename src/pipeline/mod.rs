//! The whole path: recipes, stages that are skipped while fresh, the quickstart, the report. Knows every stage, computes nothing itself.

mod controls;
mod estimate;
mod evaluate;
mod exam;
pub mod fit;
mod gap;
pub mod guard;
pub mod plot;
mod recipe;
mod report;
mod report_html;
mod report_text;
mod saes;
mod stages;
mod status;
pub mod trial;

pub use controls::{ControlKind, ControlRow, controls, controls_to_train, shuffled_by};
pub use estimate::Estimate;
pub use evaluate::{Controls, EvalConfig, Evaluated, evaluate, evaluate_transcoder, write_eval, write_evaluated};
pub use exam::{ExamSummary, concepts, planted, summarise};
pub use gap::{ConceptGap, gaps};
pub use recipe::{DictionaryStage, ExamStage, LmStage, Recipe, SaeStage};
pub use report::Report;
pub use saes::{in_a_line, is_unfinished, members, saes, saes_in_words, shuffled_control_of, train_command, train_it};
pub use stages::{Stage, Stages};
pub use status::{Status, caches, lm_command, status};

use crate::{activations, artifact, corpus, features, intervene, lm, sae};
use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between the stages; a stage's own error is passed on as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the recipe cannot work: {0}")]
    Recipe(String),
    #[error("{path}: {what}")]
    RecipeFile { path: PathBuf, what: String },
    #[error("there is no {what} in {path}\n  make it: {next}")]
    Missing { what: &'static str, path: PathBuf, next: String },
    #[error(
        "{run} was made with other settings; nothing was changed{differs}\n  choose another --run, or replace what differs and all that follows from it: the same command with --yes"
    )]
    OtherSettings { run: PathBuf, differs: String },
    #[error("{0}")]
    Trial(String),
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    #[error(transparent)]
    Corpus(corpus::Error),
    #[error(transparent)]
    Lm(lm::Error),
    #[error(transparent)]
    Sae(sae::Error),
    #[error(transparent)]
    Activations(activations::Error),
    #[error(transparent)]
    Intervene(intervene::Error),
    #[error(transparent)]
    Features(features::Error),
}

/// Every stage's own `Interrupted` becomes ours, so that the command line knows one.
macro_rules! from_stage {
    ($module:ident, $variant:ident, $interrupted:pat) => {
        impl From<$module::Error> for Error {
            fn from(error: $module::Error) -> Self {
                match error {
                    $interrupted => Error::Interrupted,
                    other => Error::$variant(other),
                }
            }
        }
    };
}

from_stage!(corpus, Corpus, corpus::Error::Interrupted);
from_stage!(lm, Lm, lm::Error::Interrupted { .. });
from_stage!(sae, Sae, sae::Error::Interrupted { .. });
from_stage!(activations, Activations, activations::Error::Interrupted);
from_stage!(intervene, Intervene, intervene::Error::Interrupted);
from_stage!(features, Features, features::Error::Interrupted);
