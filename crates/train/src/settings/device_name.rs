//! Which device a user asks for, by name.
//!
//! Invariant: what is written is what was read. A published card is there to be planned for; a run on one is refused.

use crate::TrainError;
use crate::settings::isa::{Isa, device_options};
use remat_step::DeviceOptions;
use remat_step::device::{CARDS, PublishedCard, published};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The name of a device.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// The CPU.
    #[default]
    Cpu,
    /// A CUDA card by its number for the driver; `cuda` is the first.
    Cuda(usize),
    /// A card of the table of published ones.
    Published(&'static PublishedCard),
    /// All cards of that table, one after the other.
    List,
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let index = text.strip_prefix("cuda:").and_then(|index| index.parse().ok());
        match (text, index, published(text)) {
            ("cpu", _, _) => Ok(DeviceName::Cpu),
            ("cuda", _, _) => Ok(DeviceName::Cuda(0)),
            ("list", _, _) => Ok(DeviceName::List),
            (_, Some(index), _) => Ok(DeviceName::Cuda(index)),
            (_, _, Some(card)) => Ok(DeviceName::Published(card)),
            _ => {
                let names: Vec<&str> = CARDS.iter().map(|card| card.name).collect();
                Err(format!("'{text}' is no device: cpu, cuda, cuda:N, or to plan for, list or {}", names.join(", ")))
            }
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Cpu => f.write_str("cpu"),
            DeviceName::Cuda(0) => f.write_str("cuda"),
            DeviceName::Cuda(index) => write!(f, "cuda:{index}"),
            DeviceName::Published(card) => f.write_str(card.name),
            DeviceName::List => f.write_str("list"),
        }
    }
}

impl TryFrom<String> for DeviceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> String {
        name.to_string()
    }
}

impl DeviceName {
    /// The device of this name, with threads and instruction set for what the host does, and so much of its own memory at most.
    ///
    /// # Errors
    /// A card that is not there, an instruction set that this machine does not have.
    pub fn options(
        self,
        threads: Option<usize>,
        isa: Option<Isa>,
        memory_bytes: Option<usize>,
    ) -> Result<DeviceOptions, TrainError> {
        let options = device_options(threads, isa)?;
        Ok(match self {
            DeviceName::Cpu | DeviceName::List => options,
            DeviceName::Cuda(index) => options.on_cuda(index)?,
            DeviceName::Published(card) => options.for_published(card),
        }
        .with_memory(memory_bytes))
    }

    /// Whether it is a card of the table.
    pub fn is_published(self) -> bool {
        matches!(self, DeviceName::Published(_))
    }

    /// Whether something can run on it.
    pub fn runs(self) -> bool {
        matches!(self, DeviceName::Cpu | DeviceName::Cuda(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let cards = CARDS.iter().map(|card| card.name);
        for name in ["cpu", "cuda", "cuda:3", "list"].into_iter().chain(cards) {
            assert_eq!(name.parse::<DeviceName>().map(|device| device.to_string()), Ok(name.to_string()));
        }
        assert_eq!("cuda:0".parse(), Ok(DeviceName::Cuda(0)));
        for name in ["", "CUDA", "cuda:", "cuda:-1", "gpu", "rtx-9999"] {
            assert!(name.parse::<DeviceName>().is_err_and(|error| error.contains("cuda:N")), "{name}");
        }
    }

    #[test]
    fn a_published_card_is_planned_for_within_its_memory_and_does_not_open() {
        let card = "rtx-3060".parse::<DeviceName>().expect("a card");
        let options = card.options(Some(1), None, None).expect("no card is needed");
        let memory = |options: DeviceOptions| options.profile().own_memory_bytes.expect("its own");
        assert!(memory(options) < 12 << 30 && memory(options) > 11 << 30);
        assert_eq!(memory(options.with_memory(Some(1 << 30))), 1 << 30);
        let error = options.open().err().expect("it is not there").to_string();
        assert!(error.contains("rtx-3060 is a card of the table"), "{error}");
        assert!(!card.runs());
    }
}
