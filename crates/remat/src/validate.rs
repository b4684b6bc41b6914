//! Validation of a step of one's own. Invariant: a validation leaves parameters, gradients, buffers and counters as they were.
//! Look next at `remat_plan::validate` for what is compared.

use crate::{Error, Step};
use remat_plan::{Validation, ValidationError, validate};

impl Step {
    /// Runs the step once on the present inputs and compares every recomputed value, bit by bit, with what the forward made;
    /// and, where the step is small enough (and its weights are not quantised), every value with the f64 interpreter.
    ///
    /// # Errors
    /// The first value that differs, by name, op and layer.
    pub fn validate(&mut self) -> Result<Validation, Error> {
        let before = self.changed_states()?;
        self.prepare()?;
        let program = self.program();
        let validated = validate(self.device_mut(), program, true);
        self.restore_changed(&before)?;
        validated.map_err(|error| match error {
            ValidationError::Differs(fault) => Error::Validation(fault),
            ValidationError::Device(error) => error.into(),
        })
    }
}
