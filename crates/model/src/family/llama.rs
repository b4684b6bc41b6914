//! Llama: biases of attention and MLP by configuration. Touvron et al., 2023; transformers' modeling_llama.

use super::decoder::Traits;
use remat_formats::DecoderConfig;

pub(super) fn traits(config: &DecoderConfig) -> Traits {
    let DecoderConfig { attention_bias, mlp_bias, .. } = *config;
    Traits { qkv_bias: attention_bias, output_bias: attention_bias, mlp_bias, qk_norm: false }
}
