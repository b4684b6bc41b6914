//! The supported families, one line each; a family's file reads its keys into a [`ModelConfig`].
//!
//! Invariant: nothing else lists them. What a family is called, how its keys are read and which published shapes of it are
//! known by name stand in its own file.

use super::spec::ModelConfig;
use crate::FormatsError;
use crate::keys::Keys;

/// One family.
pub(super) struct Family {
    /// `model_type`.
    pub model_type: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Reads the keys. Defaults are those of transformers' configuration class.
    pub read: fn(&Keys<'_>) -> Result<ModelConfig, FormatsError>,
    /// Published shapes.
    pub presets: &'static [Preset],
}

/// A published shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// The name it is chosen by.
    pub name: &'static str,
    /// Its parameters, as its makers or transformers count them.
    pub parameters: usize,
    /// The `config.json` its makers published, reduced to the keys that shape the computation.
    pub config: &'static str,
}
