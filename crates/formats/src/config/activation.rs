//! Names of activation functions. transformers has several for one function, and a file may use any of them.

use crate::FormatsError;
use crate::error::excerpt;
use crate::keys::Keys;

/// What the gate of an MLP goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x / (1 + e⁻ˣ).
    Silu,
    /// x · Φ(x).
    Gelu(GeluForm),
}

/// How GELU is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeluForm {
    /// By the error function.
    Exact,
    /// By the hyperbolic tangent.
    Tanh,
}

/// Names of SiLU.
const SILU: [&str; 2] = ["silu", "swish"];
/// Names of GELU by the error function.
const EXACT: [&str; 2] = ["gelu", "gelu_python"];
/// Names of GELU by tanh; what they round differently is below what dtypes do.
const TANH: [&str; 5] = ["gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"];

/// Refuses a key that names another function than SiLU, the default.
pub(super) fn silu(keys: &Keys<'_>, key: &str) -> Result<(), FormatsError> {
    match keys.string(key)? {
        Some(other) if !SILU.contains(&other) => {
            let problem = format!("is {:?}; only \"silu\" is supported for this architecture", excerpt(other));
            Err(keys.error(key, problem))
        }
        _ => Ok(()),
    }
}

/// The form of GELU that a key names; the default if it is absent.
pub(super) fn gelu(keys: &Keys<'_>, key: &str, default: GeluForm) -> Result<GeluForm, FormatsError> {
    match keys.string(key)? {
        None => Ok(default),
        Some(name) if TANH.contains(&name) => Ok(GeluForm::Tanh),
        Some(name) if EXACT.contains(&name) => Ok(GeluForm::Exact),
        Some(other) => {
            let known = [&EXACT[..], &TANH[..]].concat().join(", ");
            Err(keys.error(key, format!("is {:?}; supported are {known}", excerpt(other))))
        }
    }
}
