//! A model on disk in the layout of Hugging Face's GPT-2.

use super::Lm;
use crate::artifact::Result;
use std::path::Path;

impl Lm {
    /// Reads a Hugging Face GPT-2 folder.
    pub fn load(_dir: &Path) -> Result<Self> {
        todo!()
    }

    /// Writes `config.json` and `model.safetensors`; `end_of_text` becomes the bos and eos token.
    pub fn save(&self, _dir: &Path, _end_of_text: Option<u32>) -> Result<()> {
        todo!()
    }
}
