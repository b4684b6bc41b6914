//! Fills an executor's weights and states from the checkpoint, one tensor at a time through a bounded buffer.
//!
//! Invariant: no tensor is ever held twice; f16 and bf16 are widened on the way.

use crate::build::{K_CACHE, V_CACHE};
use crate::rope::{INV_FREQ, inv_freq};
use crate::{Model, ModelError};
use remat_ir::{Graph, Storage, Type};
use remat_plan::Executor;

impl Model {
    /// Loads every base parameter that `graph` names: frozen weights, and trained states under full fine-tuning.
    /// Tensor shapes are checked before the first byte is copied.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape, or of a dtype that cannot be widened to f32.
    pub fn load_weights(&self, graph: &Graph, executor: &mut dyn Executor) -> Result<(), ModelError> {
        self.check_weights(graph)?;
        for value in graph.values.iter().filter(|value| value.producer.is_none()) {
            if value.name == INV_FREQ {
                if let Some(config) = self.config.decoder() {
                    floats(executor.weight_mut(INV_FREQ)?.bytes).copy_from_slice(&inv_freq(config));
                }
            } else if let Some(tensor) = self.tensor_of(&value.name) {
                let target = match value.storage {
                    Storage::Weight => executor.weight_mut(&value.name)?,
                    Storage::State => executor.state_mut(&value.name)?,
                    Storage::Input | Storage::Arena => continue,
                };
                self.files.read_as_f32_into(&tensor, floats(target.bytes))?;
            }
        }
        Ok(())
    }

    /// Checks that every weight of `graph` is in the files with its shape, without reading any.
    ///
    /// # Errors
    /// The first tensor that is missing or of another shape.
    pub fn check_weights(&self, graph: &Graph) -> Result<(), ModelError> {
        for value in &graph.values {
            let base = match value.storage {
                Storage::Weight => value.name != INV_FREQ,
                Storage::State => value.producer.is_none() && is_base_parameter(&value.name),
                Storage::Input | Storage::Arena => false,
            };
            if base {
                self.check_tensor(&value.name, &value.ty)?;
            }
        }
        Ok(())
    }

    fn check_tensor(&self, name: &str, ty: &Type) -> Result<(), ModelError> {
        let fail = |problem: String| ModelError::Tensor {
            folder: self.folder.display().to_string(),
            tensor: name.to_string(),
            problem,
        };
        let Some(tensor) = self.tensor_of(name) else {
            return Err(fail("is missing: the files are incomplete or belong to another config.json".to_string()));
        };
        let info = self.files.tensor_info(&tensor).ok_or_else(|| fail("is missing".to_string()))?;
        if info.shape.dims() != ty.shape.dims() {
            let (found, expected) = (&info.shape, &ty.shape);
            return Err(fail(format!("has shape {found}, config.json implies {expected}")));
        }
        Ok(())
    }

    /// The checkpoint's name of a parameter: as given, or without the outer module that base-only checkpoints omit.
    fn tensor_of(&self, name: &str) -> Option<String> {
        let without_outer = || name.split_once('.').map(|(_, inner)| inner.to_string());
        [Some(name.to_string()), without_outer()].into_iter().flatten().find(|n| self.files.tensor_info(n).is_some())
    }
}

/// Whether a state is a parameter of the base model: not an adapter, gradient, moment or cache.
fn is_base_parameter(name: &str) -> bool {
    !name.contains(".lora_") && ![".grad", ".m", ".v", K_CACHE, V_CACHE].iter().any(|suffix| name.ends_with(suffix))
}

/// An executor's f32 tensor as numbers. Executors align tensors to at least 64 bytes.
pub(crate) fn floats(bytes: &mut [u8]) -> &mut [f32] {
    bytemuck::cast_slice_mut(bytes)
}
