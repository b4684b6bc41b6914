//! Plans without backward on a device of their own: what generation and evaluation run.
//!
//! Invariant: the plans share weights, states and caches by name.

use crate::{DeviceOptions, StepError};
use remat_compiler::compile;
use remat_ir::{Graph, Storage};
use remat_plan::{Device, DeviceMemory, DeviceProfile, Plan, Policy, ProgramId, SourceId};
use std::collections::HashMap;

/// Loaded forward plans, in the order of their graphs.
pub struct LoadedForward {
    device: Box<dyn Device>,
    programs: Vec<ProgramId>,
}

impl LoadedForward {
    /// The plan of a graph without backward: nothing is kept.
    ///
    /// # Errors
    /// A malformed graph.
    pub fn plan(graph: Graph, profile: &DeviceProfile) -> Result<Plan, StepError> {
        Ok(compile(graph, &Policy::None, profile)?)
    }

    /// What plans that are loaded together take: sources and arena.
    pub fn bytes(plans: &[Plan]) -> usize {
        let sources = plans.iter().flat_map(|plan| &*plan.graph.values).filter(|value| value.producer.is_none());
        let by_name: HashMap<&str, usize> = sources.map(|value| (value.name.as_str(), value.ty.bytes())).collect();
        by_name.values().sum::<usize>() + plans.iter().map(|plan| plan.arena_bytes).max().unwrap_or(0)
    }

    /// Allocates what the plans need.
    ///
    /// # Errors
    /// A plan that the device cannot run, memory that it does not have.
    pub fn load(plans: Vec<Plan>, options: DeviceOptions) -> Result<Self, StepError> {
        let mut device = options.open()?;
        let programs = device.load(plans)?;
        Ok(LoadedForward { device, programs })
    }

    /// What is allocated.
    pub fn memory(&self) -> DeviceMemory {
        self.device.memory()
    }

    /// The device, to load weights into.
    pub fn device_mut(&mut self) -> &mut dyn Device {
        self.device.as_mut()
    }

    /// The plans, to be run.
    pub fn forwards(&mut self) -> Forwards<'_> {
        Forwards::of(self.device.as_mut(), &self.programs)
    }

    /// Runs plan `index`.
    ///
    /// # Errors
    /// An input that a kernel refuses.
    pub fn run(&mut self, index: usize) -> Result<(), StepError> {
        self.forwards().run(index)
    }
}

/// Forward plans on the device that they are loaded in, for as long as they are run: on one of their own, or beside a
/// training step.
pub struct Forwards<'a> {
    device: &'a mut dyn Device,
    programs: &'a [ProgramId],
}

impl<'a> Forwards<'a> {
    /// Programs of a device, in the order of their graphs.
    pub(crate) fn of(device: &'a mut dyn Device, programs: &'a [ProgramId]) -> Self {
        Forwards { device, programs }
    }

    /// The input of this name.
    ///
    /// # Errors
    /// No plan has it.
    pub fn input(&self, name: &str) -> Result<SourceId, StepError> {
        Ok(self.device.known(Storage::Input, name)?)
    }

    /// Writes an input.
    ///
    /// # Errors
    /// A device that fails.
    pub fn write<T: bytemuck::NoUninit>(&mut self, input: SourceId, elements: &[T]) -> Result<(), StepError> {
        Ok(self.device.write_all(input, elements)?)
    }

    /// Runs plan `index`.
    ///
    /// # Errors
    /// An input that a kernel refuses.
    pub fn run(&mut self, index: usize) -> Result<(), StepError> {
        Ok(self.device.run(self.programs[index])?)
    }

    /// Copies the elements of an f32 output of plan `index`, which has just run.
    ///
    /// # Errors
    /// A name that is no output.
    pub fn read_output(&self, index: usize, name: &str, into: &mut [f32]) -> Result<(), StepError> {
        Ok(self.device.read_output(self.programs[index], name, 0, bytemuck::cast_slice_mut(into))?)
    }
}
