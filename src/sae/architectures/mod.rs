//! The architectures, one file each with its equations, its source and its pseudo-derivatives, and the registry that names them.
//!
//! A new one is a file beside these and a line of [`registry!`]: what it is called in files and on the command line, where it lives, its type.
//! The type's public fields are its settings (with defaults), its [`Architecture`] says what it does. Everything else - the product of the
//! encoder, sparse decoding, gradients by latent, Adam, checkpoints, files - is written once, in `cpu/`, `train` and `format`.
//!
//! B = rows in the batch, D = d_in, F = d_sae. In a step, for the row x (in the units of training) with xc = x - b_dec (where `pre_bias`):
//!
//! z = w_enc xc + b_enc, a = act(z) at the selected latents, x_hat = sum a_j w_dec[j] + b_dec, e = x_hat - x, g = 2 e / B
//! d_a[j] = g . w_dec[j] + slope of the penalty;  d_z[j] = what [`Architecture::backward`] makes of d_a[j]
//! d_w_dec[j] = sum over rows of a_j g,  d_w_enc[j] = sum of d_z[j] xc,  d_b_enc[j] = sum of d_z[j]

mod step;

pub use step::{Entries, LatentStep, Levels, Nesting, Selection, Trained};

use super::{Select, TrainConfig};
use documented::DocumentedFields;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// The units that rows are brought into before the first step. Folded away when the SAE is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Units {
    /// As they come.
    Raw,
    /// E|x| = sqrt(D), no shift.
    RootNorm,
    /// x' = s (x - mean) with E|x'|^2 = D.
    Centred,
}

impl Units {
    /// What is done to the rows.
    pub fn in_words(self) -> &'static str {
        match self {
            Units::Raw => "taken as they come",
            Units::RootNorm => "scaled to a mean norm of sqrt(d_in)",
            Units::Centred => "centred, and scaled to a mean square of d_in",
        }
    }
}

/// Weights before the first step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// PyTorch's linear layers: encoder uniform in +-1/sqrt(D), decoder uniform and then of unit norm, b_dec at the geometric median of the data.
    Linear,
    /// Random directions of this norm, encoder = decoder times `encoder`, biases 0.
    Tied { norm: f32, encoder: f32 },
}

/// What an architecture is, apart from the numerics that all share.
pub trait Architecture: fmt::Debug + Sync {
    /// One line for a list of architectures.
    fn about(&self) -> &'static str;

    /// For the line that announces a training, e.g. `TopK (k 32, AuxK)`.
    fn in_words(&self) -> String;

    /// What is wrong with the settings, if anything is.
    fn check(&self, _d_in: usize, _d_sae: usize) -> Result<(), String> {
        Ok(())
    }

    /// The recipe's own constants, put over those that all short runs share.
    fn tune(&self, config: &mut TrainConfig);

    /// Constants of the paper, for runs of its length, put over those of [`Architecture::tune`].
    fn tune_as_published(&self, _config: &mut TrainConfig) {}

    fn units(&self) -> Units {
        Units::Centred
    }

    fn init(&self, _d_in: usize, _d_sae: usize) -> Init {
        Init::Tied { norm: 1.0, encoder: 1.0 }
    }

    /// (share, z): b_enc is set so that each pre-activation is above z on this share of the first rows. None: b_enc begins at 0.
    fn first_firing(&self, _d_sae: usize) -> Option<(f64, f32)> {
        None
    }

    /// Whether b_dec is subtracted from the input before encoding.
    fn pre_bias(&self) -> bool {
        true
    }

    /// Whether what it reconstructs may be another place than what it reads ([`super::transcoder`]).
    fn transcodes(&self) -> bool {
        true
    }

    /// Whether decoder rows have unit norm all through training: the gradient is projected before the step, rows are normalised after it.
    fn unit_decoder(&self) -> bool {
        true
    }

    /// Which latents of a row take part in a step.
    fn selection(&self) -> Selection;

    /// The rule that the saved SAE selects by, in the units of `trained`.
    fn select(&self, trained: &Trained) -> Select;

    /// Size of the refining step between two selections (ISTA): what is left of a row after the first is added to it, times this, before the second.
    fn refine(&self) -> Option<f32> {
        None
    }

    /// Coefficient of the sparsity penalty beside the squared error summed over what is reconstructed, `d_out` wide; none: sparsity is not a matter of a penalty.
    fn sparsity(&self, _d_out: usize) -> Option<f64> {
        None
    }

    /// The setting that this coefficient is, or is a multiple of.
    fn coefficient(&self) -> &'static str {
        "l1"
    }

    /// The coefficient beyond which more of it does nothing but let latents die. With a target for L0 the coefficient is steered between this and its negative, where the
    /// penalty is a reward; none: it is steered by factors and stays above 0.
    fn saturates(&self) -> Option<f64> {
        None
    }

    /// The penalty as a function of u = a n_j (n_j = |w_dec[j]| where the decoder is free, else 1), as shaped at this point of the run: returns the sum
    /// over `u` and turns `u` into slopes. None: the identity, which is L1.
    fn penalty(&self, _u: &mut [f32]) -> Option<f64> {
        None
    }

    /// The penalty of one row beside its coefficient, from u = a n_j of its active latents (which may be written over), for drawing rows by their loss. None: it cannot be
    /// told from activations.
    fn row_penalty(&self, u: &mut [f32]) -> Option<f64> {
        Some(self.penalty(u).unwrap_or_else(|| u.iter().map(|&u| u as f64).sum()))
    }

    /// Settings without effect beside the others, such as `scale` with the step loss.
    fn unused(&self) -> &'static [&'static str] {
        &[]
    }

    /// What a training without a target for L0 is likely to run into with these settings.
    fn caution(&self) -> Option<String> {
        None
    }

    /// Nested reconstructions with a loss each, at this step of a run with this seed; none: one, of all latents.
    fn levels(&self, _d_sae: usize, _step: u64, _seed: u64) -> Option<Levels> {
        None
    }

    /// Whether the encoder that a latent is read with is a function of both its rows; then [`Architecture::encoder_row`] gives it.
    fn ties_encoder(&self) -> bool {
        false
    }

    /// The encoder row of a latent whose trained rows are v (D,) and d (D,), written into `out`.
    fn encoder_row(&self, v: &[f32], _d: &[f32], out: &mut [f32]) {
        out.copy_from_slice(v);
    }

    /// Whether dead latents are trained on the residual (AuxK).
    fn auxk(&self) -> bool {
        false
    }

    /// Whether that is done for each level of nested reconstructions apart, with what that leaves over.
    fn auxk_by_level(&self) -> bool {
        false
    }

    /// The architecture as its schedule has it after this share of the run.
    fn at(&self, _done: f64) -> Option<Recipe> {
        None
    }

    /// Whether the coefficient of the penalty is changed where the schedule changes its shape, so that the penalty stays what it was.
    fn keeps_its_penalty(&self) -> bool {
        false
    }

    /// Steps after which the latents are put in the order of how often they fire; none: never.
    fn sort_every(&self) -> Option<u64> {
        None
    }

    /// The same without sorting; none where it does not sort.
    fn unsorted(&self) -> Option<Recipe> {
        None
    }

    /// Names and first values of trained vectors beside the four usual tensors, each (F,).
    fn vectors(&self) -> Vec<(&'static str, f32)> {
        Vec::new()
    }

    /// a = act(z) of the entries of one row, which come with act = z. The vectors are in the order of [`Architecture::vectors`].
    fn activate(&self, _entries: &mut Entries, _vectors: &[Vec<f32>]) {}

    /// From d_a to d_z (in place, in `entries.d_pre`) and to the gradients of the vectors. Where all latents are given, those that the selection
    /// leaves out must come out with zeros.
    fn backward(&self, _entries: &mut Entries, _vectors: &[Vec<f32>]) {}

    /// What a step costs while many latents are active, in products of rows (B, D) with weights (D, F): the encoder's, the decoder's, and the gradients of activations and of both weights. What
    /// may be left out of them is not taken off: it is less and less of a batch that is.
    fn dense_products(&self) -> f64 {
        5.0
    }

    /// Whether `activate` and `backward` do anything, so that the engine may leave them out.
    fn shapes_activations(&self) -> bool {
        false
    }

    /// The last word on the gradients of one latent.
    fn finish_latent(&self, _latent: &mut LatentStep) {}
}

/// An error of reading a setting, without names of types.
fn in_words(error: &serde_json::Error) -> String {
    ["usize", "u64"].iter().fold(error.to_string(), |text, kind| text.replace(kind, "a whole number")).replace("f64", "a number")
}

impl Recipe {
    /// The architecture of this name with these settings in place of its defaults.
    ///
    /// # Errors
    /// A name or setting that does not exist, or a value that does not fit, with what there is instead.
    pub fn named(name: &str, settings: &[(&str, Value)]) -> super::Result<Recipe> {
        let refuse = |what: String| Err(super::Error::Config { what });
        let Some(default) = Recipe::all().into_iter().find(|recipe| recipe.name() == name) else {
            return refuse(format!("there is no recipe {name:?}; there are {}", Recipe::NAMES.join(", ")));
        };
        let known = default.settings();
        // What is not given is left to the type: a default may follow from what is.
        let mut value = serde_json::json!({ "name": default.name() });
        for (key, setting) in settings {
            if !known.iter().any(|(name, _)| name == key) {
                let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
                return refuse(format!("{name} has no {key}; it has {}", names.join(", ")));
            }
            if let Some(before) = value.get(key) {
                return refuse(format!("{key} of {name} is given twice, as {before} and as {setting}: leave one out"));
            }
            value[*key] = setting.clone();
        }
        // Said of the first setting that cannot be read alone.
        let alone = |key: &str, setting: &Value| serde_json::from_value::<Recipe>(serde_json::json!({ "name": default.name(), key: setting })).err();
        serde_json::from_value(value).or_else(|e| match settings.iter().find_map(|(key, setting)| Some((key, setting, alone(key, setting)?))) {
            Some((key, setting, e)) => refuse(format!("{key} of {name} is {setting}: {}", in_words(&e))),
            None => refuse(format!("{name}: {}", in_words(&e))),
        })
    }

    /// Every setting with its value; null where an optional one is not set.
    pub fn settings(&self) -> Vec<(String, Value)> {
        let Value::Object(map) = serde_json::to_value(self).expect("plain data") else { unreachable!("a recipe is an object") };
        map.into_iter().filter(|(key, _)| key != "name").collect()
    }
}

/// `name` in files and on the command line, older names, the file, the type.
macro_rules! registry {
    ($($name:literal $(| $old:literal)* => $file:ident::$Type:ident),* $(,)?) => {
        $(mod $file; pub use $file::$Type;)*

        /// An architecture with its settings: `{"name": "topk", "k": 32, "auxk": true}`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "name")]
        pub enum Recipe {
            $(#[serde(rename = $name $(, alias = $old)*)] $Type($Type),)*
        }

        impl Recipe {
            /// Every name.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The name of this one.
            pub fn name(&self) -> &'static str {
                match self { $(Recipe::$Type(_) => $name),* }
            }

            /// What one of [`Recipe::settings`] means, in a line: the documentation of the field.
            pub fn meaning(&self, setting: &str) -> Option<String> {
                let documented = match self { $(Recipe::$Type(_) => $Type::get_field_docs(setting)),* };
                Some(documented.ok()?.replace('\n', " "))
            }

            /// Every architecture with its default settings.
            pub fn all() -> Vec<Recipe> {
                vec![$(Recipe::$Type($Type::default())),*]
            }
        }

        impl std::ops::Deref for Recipe {
            type Target = dyn Architecture + 'static;
            fn deref(&self) -> &Self::Target {
                match self { $(Recipe::$Type(settings) => settings),* }
            }
        }

        $(impl From<$Type> for Recipe {
            fn from(settings: $Type) -> Recipe {
                Recipe::$Type(settings)
            }
        })*
    };
}

registry! {
    "topk" | "top-k" => topk::TopK,
    "batch-topk" => batch_topk::BatchTopK,
    "matryoshka" => matryoshka::Matryoshka,
    "jump-relu" => jump_relu::JumpRelu,
    "gated" => gated::Gated,
    "aligned" => aligned::Aligned,
    "matching-pursuit" => pursuit::MatchingPursuit,
    "relu-2023" | "relu2023" => relu_2023::Relu2023,
    "relu-april-2024" => relu_april_2024::ReluApril2024,
    "tanh" => tanh::Tanh,
    "p-anneal" => p_anneal::PAnneal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_written_and_read_by_its_name_and_refuses_settings_it_does_not_have() {
        for recipe in Recipe::all() {
            let written = serde_json::to_value(&recipe).unwrap();
            assert_eq!(written["name"], recipe.name());
            assert_eq!(serde_json::from_value::<Recipe>(written.clone()).unwrap(), recipe);
            // Nothing but the name: the defaults.
            assert_eq!(serde_json::from_value::<Recipe>(serde_json::json!({ "name": recipe.name() })).unwrap(), recipe);
            let mut odd = written;
            odd["no_such_setting"] = 1.into();
            assert!(serde_json::from_value::<Recipe>(odd).is_err(), "{recipe:?}");
            recipe.check(64, 512).unwrap();
            assert!(recipe.settings().iter().all(|(setting, _)| recipe.meaning(setting).is_some_and(|meaning| meaning.ends_with('.'))), "{recipe:?}");
            assert_eq!(recipe.meaning("no_such_setting"), None);
        }
        assert!(Recipe::NAMES.iter().collect::<std::collections::HashSet<_>>().len() == Recipe::NAMES.len());
        // Which of two values is meant cannot be told.
        let twice = Recipe::named("topk", &[("k", 16.into()), ("k", 8.into())]).unwrap_err().to_string();
        assert!(twice.contains("k of topk is given twice, as 16 and as 8"), "{twice}");
        let half = Recipe::named("topk", &[("k", 1.5.into())]).unwrap_err().to_string();
        assert!(half.contains("k of topk is 1.5") && half.ends_with("expected a whole number"), "{half}");
    }
}
