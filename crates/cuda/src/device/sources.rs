//! Weights, states and inputs on the card, shared by all plans through their names.
//!
//! Invariant: one allocation for each kind, and every source at a multiple of the rules' alignment. Inputs of integers are known on
//! the host, too, for the checks of `ids.rs`.

use super::error::device_error;
use super::ids::Check;
use super::memory::Region;
use crate::driver::Driver;
use crate::rules::RULES;
use remat_ir::{Storage, Type, Value, ValueId};
use remat_plan::{DeviceError, DeviceMemory, Place, Plan, SourceId};
use remat_tensor::DType;
use std::collections::HashMap;
use std::rc::Rc;

struct Source {
    storage: Storage,
    ty: Type,
    /// Where it begins in its kind's region.
    offset: usize,
    /// An input of integers as it was written.
    integers: Option<Vec<i32>>,
}

/// Weights, inputs, states.
const KINDS: usize = 3;

fn kind_of(storage: Storage) -> usize {
    match storage {
        Storage::Weight => 0,
        Storage::Input | Storage::Arena => 1,
        Storage::State => 2,
    }
}

/// All sources.
pub(super) struct Sources {
    by_name: HashMap<String, SourceId>,
    all: Vec<Source>,
    regions: [Region; KINDS],
}

impl Sources {
    /// None at all.
    pub(super) fn empty() -> Self {
        Sources { by_name: HashMap::new(), all: Vec::new(), regions: std::array::from_fn(|_| Region::empty()) }
    }

    /// Allocates every source of the plans, zeroed.
    pub(super) fn of(driver: &Rc<dyn Driver>, plans: &[Plan]) -> Result<Self, DeviceError> {
        let mut sources = Sources::empty();
        let mut bytes = [0; KINDS];
        let values = plans.iter().flat_map(|plan| &*plan.graph.values);
        values.filter(|value| value.producer.is_none()).try_for_each(|value| sources.add(value, &mut bytes))?;
        let names = ["the weights", "the inputs", "parameters, gradients and moments"];
        for ((region, bytes), what) in sources.regions.iter_mut().zip(bytes).zip(names) {
            *region = Region::new(driver, bytes, what)?;
            region.zero()?;
        }
        Ok(sources)
    }

    fn add(&mut self, value: &Value, bytes: &mut [usize; KINDS]) -> Result<(), DeviceError> {
        if let Some(known) = self.by_name.get(&value.name) {
            let known = &self.all[known.index()];
            if known.ty == value.ty && known.storage == value.storage {
                return Ok(());
            }
            let describe = |ty: &Type, storage: Storage| format!("{} {ty}", storage.name());
            return Err(DeviceError::SourceMismatch {
                name: value.name.clone(),
                first: describe(&known.ty, known.storage),
                second: describe(&value.ty, value.storage),
            });
        }
        let end = &mut bytes[kind_of(value.storage)];
        let indexes = value.storage == Storage::Input && value.ty.dtype == DType::I32;
        let integers = indexes.then(|| vec![0; value.ty.shape.numel()]);
        let source = Source { storage: value.storage, ty: value.ty.clone(), offset: *end, integers };
        *end += value.ty.bytes().next_multiple_of(RULES.slot_alignment_bytes);
        self.by_name.insert(value.name.clone(), SourceId(self.all.len() as u32));
        self.all.push(source);
        Ok(())
    }

    /// Where an operand or result of a plan lies.
    pub(super) fn address_of(&self, plan: &Plan, place: &Place, arena: &Region) -> u64 {
        let id: ValueId = match *place {
            Place::Arena(buffer) => return arena.at(plan.buffers[buffer.index()].slot.offset),
            Place::Weight(weight) => weight.value,
            Place::State(root) | Place::Spilled(root) => root,
            Place::Input(id) => id,
        };
        let source = self.by_name.get(&plan.graph.value(id).name).expect("`of` allocated every source");
        self.address(*source, 0, 0)
    }

    /// Address of `bytes` bytes of a source from its byte `offset` on.
    pub(super) fn address(&self, source: SourceId, offset: usize, bytes: usize) -> u64 {
        let source = &self.all[source.index()];
        let end = offset + bytes;
        assert!(end <= source.ty.bytes(), "byte {end} of a source of {} bytes", source.ty.bytes());
        self.regions[kind_of(source.storage)].at(source.offset + offset)
    }

    /// Copies bytes in.
    pub(super) fn write(
        &mut self,
        driver: &dyn Driver,
        source: SourceId,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), DeviceError> {
        driver.write(self.address(source, offset, bytes.len()), bytes).map_err(device_error)?;
        if let Some(integers) = &mut self.all[source.index()].integers {
            bytemuck::cast_slice_mut::<i32, u8>(integers)[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Refuses inputs that a kernel cannot index by.
    pub(super) fn check_ids(&self, checks: &[Check]) -> Result<(), DeviceError> {
        checks.iter().try_for_each(|check| {
            let source = self.by_name.get(&check.input).map(|source| &self.all[source.index()]);
            source.and_then(|source| source.integers.as_deref()).map_or(Ok(()), |integers| check.check(integers))
        })
    }

    pub(super) fn find(&self, storage: Storage, name: &str) -> Option<SourceId> {
        self.by_name.get(name).copied().filter(|id| self.all[id.index()].storage == storage)
    }

    pub(super) fn ty(&self, id: SourceId) -> &Type {
        &self.all[id.index()].ty
    }

    /// Allocated bytes by kind.
    pub(super) fn sizes(&self) -> DeviceMemory {
        let [weights, inputs, states] = [0, 1, 2].map(|kind: usize| self.regions[kind].bytes());
        DeviceMemory { weights, inputs, states, ..DeviceMemory::default() }
    }
}
