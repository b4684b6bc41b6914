//! What is trained: everything, or low-rank adapters on a base that is frozen, perhaps in few bits.

use crate::Quant;
use crate::adapter::LoraConfig;

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Every parameter.
    Full,
    /// Low-rank adapters; the base is frozen.
    Lora(LoraConfig),
    /// Low-rank adapters on a base whose linears are held in few bits (Dettmers et al., *QLoRA*, 2023).
    Qlora(LoraConfig, Quant),
}

impl Method {
    /// The adapters' settings, unless the base itself is trained.
    pub fn adapter(&self) -> Option<&LoraConfig> {
        match self {
            Method::Full => None,
            Method::Lora(lora) | Method::Qlora(lora, _) => Some(lora),
        }
    }

    /// What linears that the files hold otherwise are quantised to.
    pub(crate) fn quant(&self) -> Option<Quant> {
        match self {
            Method::Qlora(_, quant) => Some(*quant),
            Method::Lora(_) | Method::Full => None,
        }
    }
}
