//! Qwen 3: Llama with an RMSNorm per head of q and k before their rotation, one weight for all heads. Yang et al.,
//! *Qwen3 technical report*, 2025; keys and defaults as in transformers 5 (`Qwen3Config`).

use super::decoder::{self, Defaults};
use super::family::{Family, Preset};
use super::qwen2;
use super::sliding_window::SlidingWindow;
use super::spec::{BlockSpec, ModelConfig, QkNorm};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const QWEN3: Family = Family { model_type: DEFAULTS.family, title: "Qwen 3", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults { family: "qwen3", head_dim: Some(128), ..qwen2::DEFAULTS };

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = decoder::read(keys, &DEFAULTS)?;
    let sliding_window = SlidingWindow::of_some_layers(keys, config.num_hidden_layers)?;
    let bias = keys.flag("attention_bias", false)?;
    let block = BlockSpec { qkv_bias: bias, output_bias: bias, qk_norm: Some(QkNorm::Head), ..config.block };
    Ok(ModelConfig { sliding_window, block, ..config })
}

const PRESETS: [Preset; 1] = [Preset {
    name: "qwen3-8b",
    parameters: 8_190_735_360,
    config: r#"{"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": false,
        "max_position_embeddings": 40960, "eos_token_id": 151645, "torch_dtype": "bfloat16"}"#,
}];
