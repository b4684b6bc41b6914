//! The states that a save holds, each whole, and which rank has which of their bytes.
//!
//! Invariant: names, types and order depend on the parameters and the settings alone, so a save is the same on any number of
//! ranks. Look next at `snapshot`, which writes and reads them, and at `ranks::whole_states`, which brings them together.

use crate::TrainConfig;
use remat_formats::TensorSpec;
use remat_ir::ops::MOMENT_BLOCK;
use remat_ir::{Parameter, StateRole, Storage, Type, World};
use remat_plan::Device;
use remat_step::{MomentFormat, Shards};
use remat_tensor::DType;
use std::ops::Range;

/// A state as a save holds it.
#[derive(Debug, Clone)]
pub(crate) struct SavedState {
    pub(crate) name: String,
    /// Of all of it.
    pub(crate) ty: Type,
    /// Which rank has which bytes, in their order; empty where every rank has all of them.
    pub(crate) parts: Vec<(usize, Range<usize>)>,
}

impl SavedState {
    /// Whether every rank has all of it.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.parts.is_empty()
    }

    /// The bytes that a rank has.
    pub(crate) fn held(&self, rank: usize) -> Range<usize> {
        if self.is_everywhere() {
            return 0..self.ty.bytes();
        }
        self.parts.iter().find(|(owner, _)| *owner == rank).map_or(0..0, |(_, bytes)| bytes.clone())
    }
}

/// The states that outlive an update.
pub(crate) fn saved_states(parameters: &[Parameter], config: &TrainConfig, world: World) -> Vec<SavedState> {
    let moments = MomentFormat::from(config.optimizer);
    let shards = (!world.is_alone()).then(|| Shards::of(parameters, world.size));
    let mut states = Vec::new();
    for (index, parameter) in parameters.iter().enumerate() {
        for &role in moments.saved(parameter) {
            let ty = type_of(parameter, role, moments);
            let of_rank = |(rank, elements): (usize, Range<usize>)| (rank, bytes_of(&elements, role, &ty));
            let parts = match &shards {
                Some(shards) if role.is_moment() => shards.of_parameter(index).map(of_rank).collect(),
                _ => Vec::new(),
            };
            states.push(SavedState { name: parameter.state(role), ty, parts });
        }
    }
    states
}

/// What they are in a file.
pub(crate) fn specs(states: &[SavedState]) -> Vec<TensorSpec<'_>> {
    states.iter().map(|SavedState { name, ty, .. }| TensorSpec { name, dtype: ty.dtype, shape: &ty.shape }).collect()
}

/// Names of those of them that a device has something of.
pub(crate) fn held_names(states: &[SavedState], device: &dyn Device) -> Vec<String> {
    let names = states.iter().map(|state| state.name.clone());
    names.filter(|name| device.source(Storage::State, name).is_some()).collect()
}

fn type_of(parameter: &Parameter, role: StateRole, moments: MomentFormat) -> Type {
    let shape = &parameter.ty.shape;
    match role {
        StateRole::FirstMomentScales | StateRole::SecondMomentScales => {
            Type::new(DType::F32, [shape.numel().div_ceil(MOMENT_BLOCK)])
        }
        StateRole::FirstMoment | StateRole::SecondMoment if moments.quantises(parameter) => {
            Type::new(DType::U8, shape.clone())
        }
        _ => parameter.ty.clone(),
    }
}

/// The bytes of a state that belong to some elements of its parameter, which are whole blocks of moments.
fn bytes_of(elements: &Range<usize>, role: StateRole, ty: &Type) -> Range<usize> {
    let per_element = match role {
        StateRole::FirstMomentScales | StateRole::SecondMomentScales => MOMENT_BLOCK,
        _ => 1,
    };
    let bytes = ty.dtype.element_bytes().expect("states stand on their own");
    bytes * elements.start.div_ceil(per_element)..bytes * elements.end.div_ceil(per_element)
}
