//! Qwen 2 and 2.5: Llama with biases of q, k and v, never of the output. Yang et al., *Qwen2 technical report*, 2024;
//! transformers' modeling_qwen2.

use super::decoder::Traits;

pub(super) fn traits() -> Traits {
    Traits { qkv_bias: true, output_bias: false, mlp_bias: false, qk_norm: false }
}
