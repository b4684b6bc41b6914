//! Which weights of the base are held in four bits: those that the files hold so, and under QLoRA every linear of every
//! block. Embeddings, norms, biases and the head stay as they are.
//!
//! Invariant: a 4-bit weight is [out, in] whatever the family stores, as bitsandbytes has it: GPT-2's Conv1D weights are
//! transposed while they are quantised. Look next at `load.rs` for the quantising and `remat_tensor::nf4` for the format.

use crate::{ModelError, family};
use remat_formats::{ModelConfig, ModelFiles};
use remat_tensor::DType;
use std::collections::BTreeMap;

/// The 4-bit weights of a checkpoint, by the names of their values.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct StoredFourBit {
    weights: BTreeMap<String, Stored>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    /// Its name in the files.
    pub tensor: String,
    /// What the files say of it.
    pub info: remat_formats::Nf4Info,
}

impl StoredFourBit {
    /// Looks every linear up in the files.
    pub fn of(config: &ModelConfig, files: &ModelFiles) -> Result<Self, ModelError> {
        let mut weights = BTreeMap::new();
        for module in family::linear_names(config) {
            let name = format!("{module}.weight");
            // Base-only checkpoints omit the outer module.
            let inner = name.split_once('.').map(|(_, inner)| inner.to_string());
            for tensor in [Some(name.clone()), inner].into_iter().flatten() {
                if let Some(info) = files.nf4_info(&tensor)? {
                    weights.insert(name.clone(), Stored { tensor, info });
                    break;
                }
            }
        }
        Ok(StoredFourBit { weights })
    }

    /// The weight of this name, if it is stored in four bits.
    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.weights.get(name)
    }

    /// Whether no weight is.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// The dtype of the weight of this name, if it is stored in four bits.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.get(name).map(|stored| stored.info.dtype())
    }
}
