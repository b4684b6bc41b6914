//! What a rendering may use up. Invariant: every loop over data and every new text or list is paid for before it is made,
//! so that no template can take more time or memory than its budget, whatever it calls; and because steps are counted, not
//! measured, a template is accepted or refused alike on every machine.

use crate::error::{Error, Result};
use crate::value::Value;

/// The budget of one rendering.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Steps: about one for each operation and each element or 32 bytes that it looks at.
    pub steps: u64,
    /// Bytes of all texts, lists and dictionaries that are made, output included.
    pub bytes: u64,
}

impl Budget {
    /// For data of so many bytes: what the largest published templates take, many times over.
    pub fn for_data(bytes: usize) -> Self {
        let bytes = bytes as u64;
        Budget {
            steps: 5_000_000u64.saturating_add(bytes.saturating_mul(40)),
            bytes: (256u64 << 20).saturating_add(bytes.saturating_mul(64)),
        }
    }
}

/// Counts what is left.
#[derive(Debug)]
pub(crate) struct Meter {
    budget: Budget,
    steps: u64,
    bytes: u64,
}

impl Meter {
    pub(crate) fn new(budget: Budget) -> Self {
        Meter { budget, steps: budget.steps, bytes: budget.bytes }
    }

    /// Pays for looking at so many elements.
    pub(crate) fn steps(&mut self, steps: usize) -> Result<()> {
        match self.steps.checked_sub(steps as u64) {
            Some(left) => self.steps = left,
            None => return Err(self.out_of_steps()),
        }
        Ok(())
    }

    #[cold]
    fn out_of_steps(&mut self) -> Error {
        self.steps = 0;
        Error::budget(format!("it runs without end (stopped after {} steps)", self.budget.steps))
    }

    /// Pays for looking at a text of so many bytes.
    pub(crate) fn scan(&mut self, bytes: usize) -> Result<()> {
        self.steps(1 + bytes / 32)
    }

    /// Pays for a text of so many bytes.
    pub(crate) fn text(&mut self, bytes: usize) -> Result<()> {
        self.scan(bytes)?;
        self.memory(bytes.saturating_add(16))
    }

    /// Pays for a list of so many elements.
    pub(crate) fn list(&mut self, elements: usize) -> Result<()> {
        self.steps(elements)?;
        self.memory(elements.saturating_mul(size_of::<Value>()).saturating_add(48))
    }

    fn memory(&mut self, bytes: usize) -> Result<()> {
        match self.bytes.checked_sub(bytes as u64) {
            Some(left) => self.bytes = left,
            None => {
                self.bytes = 0;
                let most = self.budget.bytes;
                return Err(Error::budget(format!("it makes more than {most} bytes out of one conversation")));
            }
        }
        Ok(())
    }
}
