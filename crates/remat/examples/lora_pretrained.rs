//! LoRA on a pretrained folder, with gradient checkpointing, saved as a PEFT adapter.
//!
//! Run: `cargo run -p remat --example lora_pretrained -- MODEL_DIR OUT_DIR`.

use remat::{AdamWSettings, BatchShape, CheckpointPolicy, Error, LoraConfig, Method, Model, Options};

fn fine_tune(folder: &str, out: &str, ids: &[i32], updates: usize) -> Result<Vec<f32>, Error> {
    let mut model = Model::from_pretrained(folder)?;
    model.gradient_checkpointing_enable(CheckpointPolicy::full());
    let lora = LoraConfig { rank: 8, alpha: 16.0, ..LoraConfig::default() };
    let options = Options::new().adamw(AdamWSettings::default()).seed(1);
    let shape = BatchShape { batch: 1, seq_len: ids.len() };
    let mut step = model.training_step(&Method::Lora(lora.clone()), shape, options)?;
    println!("footprint {} bytes, kept {} bytes", model.memory_footprint()?, step.memory().activation_bytes);
    // Each token's target is the next one; the last has none.
    let mut targets = ids[1..].to_vec();
    targets.push(-100);
    step.set_input("ids", ids)?;
    step.set_input("targets", &targets)?;
    let tokens = (ids.len() - 1) as f32;
    let mut losses = Vec::new();
    for _ in 0..updates {
        losses.push(step.run_scaled(1.0 / tokens)? / tokens);
        step.update(5e-3)?;
    }
    model.save_adapter(&step, &lora, out)?;
    Ok(losses)
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out] = arguments.as_slice() else {
        println!("usage: lora_pretrained MODEL_DIR OUT_DIR");
        return Ok(());
    };
    let ids: Vec<i32> = (0..32).map(|i| i * 5 % 40).collect();
    println!("losses {:?}", fine_tune(folder, out, &ids, 20)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fine_tunes_a_llama_and_a_gpt2_and_writes_adapters() {
        for family in ["llama-gqa-tied", "gpt2"] {
            let folder = format!("{}/../../fixtures/parity/{family}", env!("CARGO_MANIFEST_DIR"));
            let out = tempfile::tempdir().expect("a folder");
            let ids: Vec<i32> = (0..24).map(|i| i * 5 % 40).collect();
            let losses = fine_tune(&folder, &out.path().display().to_string(), &ids, 12).expect("trains");
            assert!(losses[11] < 0.9 * losses[0], "{family}: {losses:?}");
            for name in ["adapter_config.json", "adapter_model.safetensors"] {
                assert!(out.path().join(name).is_file(), "{family}: {name}");
            }
        }
    }
}
