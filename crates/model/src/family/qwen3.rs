//! Qwen 3: Llama with an RMSNorm per head of q and k before their rotation, one weight for all heads. Yang et al.,
//! *Qwen3 technical report*, 2025; transformers' modeling_qwen3.

use super::decoder::Traits;
use remat_formats::DecoderConfig;

pub(super) fn traits(config: &DecoderConfig) -> Traits {
    let bias = config.attention_bias;
    Traits { qkv_bias: bias, output_bias: bias, mlp_bias: false, qk_norm: true }
}
