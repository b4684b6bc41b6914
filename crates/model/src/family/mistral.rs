//! Mistral: Llama without biases, with a sliding window in every layer. Jiang et al., *Mistral 7B*, 2023; transformers'
//! modeling_mistral.

use super::decoder::Traits;

pub(super) fn traits() -> Traits {
    Traits { qkv_bias: false, output_bias: false, mlp_bias: false, qk_norm: false }
}
