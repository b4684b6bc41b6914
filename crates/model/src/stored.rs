//! Which weights of the base the files hold quantised, and the formats that linears of every block can have: of files that
//! hold none quantised, all are quantised while they are loaded under QLoRA. Embeddings, norms, biases and the head stay as they are.
//!
//! Invariant: a quantised weight is [out, in] whatever the family stores, as bitsandbytes has it: GPT-2's Conv1D weights
//! are transposed while they are quantised. Look next at `load.rs` for the quantising and `remat_tensor` for the formats.

use crate::{ModelError, Quant};
use remat_formats::{ModelConfig, ModelFiles, QuantisedInfo};
use remat_tensor::DType;
use std::collections::BTreeMap;

/// The quantised weights of a checkpoint, by the names of their values.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct StoredQuantised {
    weights: BTreeMap<String, Stored>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    /// Its name in the files.
    pub tensor: String,
    /// What the files say of it.
    pub info: QuantisedInfo,
}

impl StoredQuantised {
    /// Looks every linear up in the files, where a parameter has the name that `tensor_of` gives.
    pub fn of<'a>(
        config: &ModelConfig,
        files: &ModelFiles,
        tensor_of: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, ModelError> {
        let mut weights = BTreeMap::new();
        for module in config.linear_names() {
            let name = format!("{module}.weight");
            let Some(tensor) = tensor_of(&name).map(str::to_string) else { continue };
            if let Some(info) = files.quantised_info(&tensor)? {
                weights.insert(name, Stored { tensor, info });
            }
        }
        Ok(StoredQuantised { weights })
    }

    /// The weight of this name, if it is stored quantised.
    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.weights.get(name)
    }

    /// What the first of them is stored in; `None` if no weight is.
    pub fn first(&self) -> Option<Quant> {
        self.weights.values().map(|stored| Quant::of(stored.info.format)).next()
    }

    /// One that is not stored in `quant`.
    pub fn other_than(&self, quant: Quant) -> Option<Quant> {
        self.weights.values().map(|stored| Quant::of(stored.info.format)).find(|&stored| stored != quant)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.weights.len()
    }

    /// The dtype of a linear's weight where linears are quantised to `quant`, if it is held quantised: what the files hold
    /// so keeps it, and what they leave in 16 bits beside such weights stays as it is.
    pub fn dtype(&self, name: &str, quant: Option<Quant>) -> Option<DType> {
        match self.get(name) {
            Some(stored) => Some(stored.info.format.dtype()),
            None if self.weights.is_empty() => quant.map(|quant| quant.format().dtype()),
            None => None,
        }
    }
}
