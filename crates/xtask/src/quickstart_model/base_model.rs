//! The quickstart's base model: initialised, trained with this project's own `train`, written in bf16.

use remat_formats::{ModelFiles, NamedTensor, write_atomic, write_safetensors};
use remat_tensor::{DType, HostTensor, Philox, Shape, stream_of_name};
use remat_train::{Event, Existing, MethodKind, PrecisionChoice, Reporter, RunControl, ScheduleKind, TrainConfig};
use serde_json::json;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const WIDTH: usize = 192;
const INNER: usize = 512;
const LAYERS: usize = 6;
const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const HEAD: usize = 32;
const SEQ_LEN: usize = 128;
const BATCH: usize = 16;

/// Writes `config.json` and random weights: normal with deviation 0.02, norms 1.
pub(super) fn initialise(folder: &Path, vocabulary: usize) -> Result<(), Box<dyn Error>> {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary, "hidden_size": WIDTH,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "hidden_act": "silu", "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "attention_bias": false,
        "mlp_bias": false, "bos_token_id": null, "eos_token_id": 0, "torch_dtype": "float32",
    });
    write_atomic(&folder.join("config.json"), format!("{config:#}\n").as_bytes())?;
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_string(), vec![vocabulary, WIDTH]),
        ("model.norm.weight".to_string(), vec![WIDTH]),
    ];
    for layer in 0..LAYERS {
        for (module, shape) in [
            ("input_layernorm", vec![WIDTH]),
            ("post_attention_layernorm", vec![WIDTH]),
            ("self_attn.q_proj", vec![HEADS * HEAD, WIDTH]),
            ("self_attn.k_proj", vec![KV_HEADS * HEAD, WIDTH]),
            ("self_attn.v_proj", vec![KV_HEADS * HEAD, WIDTH]),
            ("self_attn.o_proj", vec![WIDTH, HEADS * HEAD]),
            ("mlp.gate_proj", vec![INNER, WIDTH]),
            ("mlp.up_proj", vec![INNER, WIDTH]),
            ("mlp.down_proj", vec![WIDTH, INNER]),
        ] {
            tensors.push((format!("model.layers.{layer}.{module}.weight"), shape));
        }
    }
    let random = |(name, shape): &(String, Vec<usize>)| {
        let philox = Philox::new(1, stream_of_name(name));
        let n: usize = shape.iter().product();
        let element = |i: usize| if shape.len() == 1 { 1.0 } else { 0.02 * philox.normal(i as u64) };
        HostTensor::from_f32(shape.clone(), (0..n).map(element).collect())
    };
    let values: Vec<HostTensor> = tensors.iter().map(random).collect();
    let named: Vec<NamedTensor<'_>> = tensors
        .iter()
        .zip(&values)
        .map(|((name, _), t)| NamedTensor { name, dtype: t.dtype(), shape: t.shape(), bytes: t.as_bytes() })
        .collect();
    Ok(write_safetensors(&folder.join("model.safetensors"), &named, &[("format", "pt")])?)
}

struct Progress;

impl Reporter for Progress {
    fn report(&mut self, event: Event<'_>) {
        if let Event::Updated { metrics, total_updates, remaining_seconds } = event
            && metrics.step.is_multiple_of(50)
        {
            let (step, loss, speed) = (metrics.step, metrics.loss, metrics.tokens_per_s);
            println!("{step}/{total_updates} · loss {loss:.3} · {speed:.0} tokens/s · {remaining_seconds:.0} s left");
        }
    }
}

/// Trains every parameter for `updates` updates of `BATCH` packed sequences.
pub(super) fn pretrain(base: &Path, text: &Path, out: &Path, updates: u64) -> Result<(), Box<dyn Error>> {
    let config = TrainConfig {
        model: base.to_path_buf(),
        data: vec![text.to_path_buf()],
        out: out.to_path_buf(),
        method: MethodKind::Full,
        precision: PrecisionChoice::Bf16,
        seq_len: Some(SEQ_LEN),
        batch_size: BATCH,
        grad_accum: 1,
        packing: true,
        steps: Some(updates),
        lr: Some(3e-3),
        schedule: ScheduleKind::Cosine,
        warmup: remat_train::Warmup((updates / 20) as f64),
        weight_decay: 0.05,
        ..TrainConfig::default()
    };
    let seen = updates as usize * BATCH * SEQ_LEN;
    println!("training on at most {seen} tokens");
    let control = RunControl {
        device: None,
        existing: Existing::Replace,
        interrupt: &AtomicBool::new(false),
        trace: None,
        config_file: None,
        checks: remat_train::Checks::default(),
        phases_apart: false,
        ranks: None,
    };
    let summary = remat_train::train(config, control, &mut Progress)?;
    println!("loss {:?} → {:?} in {:.0} s", summary.first_loss, summary.last_loss, summary.seconds);
    Ok(())
}

/// Copies a trained folder with its weights rounded to bf16.
pub(super) fn write_bf16(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(to)?;
    let files = ModelFiles::open(from)?;
    let mut tensors: Vec<(String, Shape, HostTensor)> = Vec::new();
    for name in files.names() {
        let info = files.tensor_info(name).ok_or("a listed tensor")?;
        let mut values = vec![0.0; info.shape.numel()];
        files.read_as_f32_into(name, &mut values)?;
        let tensor = HostTensor::from_f32(info.shape.clone(), values).cast(DType::BF16);
        tensors.push((name.to_string(), info.shape.clone(), tensor));
    }
    let named: Vec<NamedTensor<'_>> = tensors
        .iter()
        .map(|(name, shape, t)| NamedTensor { name, dtype: DType::BF16, shape, bytes: t.as_bytes() })
        .collect();
    write_safetensors(&to.join("model.safetensors"), &named, &[("format", "pt")])?;
    let config = std::fs::read_to_string(from.join("config.json"))?.replace("\"float32\"", "\"bfloat16\"");
    write_atomic(&to.join("config.json"), config.as_bytes())?;
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        write_atomic(&to.join(name), &std::fs::read(from.join(name))?)?;
    }
    Ok(())
}
