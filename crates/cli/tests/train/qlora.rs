//! `--method qlora`: what it prints and writes, and that loading never holds the 16-bit model.

use crate::command::{Train, case, remat, text};
use remat_formats::{TensorSpec, write_safetensors_from};
use remat_tensor::{DType, Shape};
use serde_json::{Value, json};
use std::path::Path;

const LAYERS: usize = 3;
const WIDTH: usize = 1024;
const INNER: usize = 2816;
const VOCAB: usize = 256;

/// A Llama of 3 blocks whose linears take 77 MB in 16 bits and 20 MB in 4.
fn write_model(folder: &Path) {
    let config = json!({
        "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
        "num_attention_heads": 8, "vocab_size": VOCAB, "rms_norm_eps": 1e-5, "max_position_embeddings": 128,
        "eos_token_id": 2, "torch_dtype": "bfloat16",
    });
    std::fs::write(folder.join("config.json"), config.to_string()).expect("written");
    let mut tensors = vec![("model.embed_tokens.weight".to_string(), Shape::from([VOCAB, WIDTH]))];
    tensors.push(("lm_head.weight".to_string(), Shape::from([VOCAB, WIDTH])));
    tensors.push(("model.norm.weight".to_string(), Shape::from([WIDTH])));
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: Shape| tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        add("input_layernorm", Shape::from([WIDTH]));
        add("post_attention_layernorm", Shape::from([WIDTH]));
        for projection in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(&format!("self_attn.{projection}"), Shape::from([WIDTH, WIDTH]));
        }
        add("mlp.gate_proj", Shape::from([INNER, WIDTH]));
        add("mlp.up_proj", Shape::from([INNER, WIDTH]));
        add("mlp.down_proj", Shape::from([WIDTH, INNER]));
    }
    let specs: Vec<TensorSpec<'_>> =
        tensors.iter().map(|(name, shape)| TensorSpec { name, dtype: DType::BF16, shape }).collect();
    // Numbers of both signs around 0.01, by a congruential generator.
    let mut state = 1u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        [(state >> 16) as u8, if state >> 31 == 0 { 0x3c } else { 0xbc }]
    };
    write_safetensors_from(&folder.join("model.safetensors"), &specs, &[("format", "pt")], &mut |index, sink| {
        (0..tensors[index].1.numel() / WIDTH)
            .try_for_each(|_| sink(&(0..WIDTH).flat_map(|_| number()).collect::<Vec<u8>>()))
    })
    .expect("written");
}

fn event(stdout: &str, name: &str) -> Value {
    let events = stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events.into_iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("no event {name}"))
}

#[test]
fn loading_never_holds_the_sixteen_bit_model() {
    let model = tempfile::tempdir().expect("temporary folder");
    write_model(model.path());
    // Scales and maps included; the maps and whole pages tell in weights as small as these.
    for (quant, most_millibits) in [("nf4", 4150), ("int8", 8035)] {
        let flags = "--method qlora --rank 4 --steps 2 --batch-size 1 --seq-len 16 --checkpointing full \
                     --precision bf16 --threads 2 --json --quant";
        let rows = case("llama-gqa-tied").join("rows.jsonl");
        let train = Train::on("llama-gqa-tied", &format!("{flags} {quant}"));
        let finished = train.model(model.path()).data(&rows).finish();
        let (planned, done) = (event(&finished.stdout, "planned"), event(&finished.stdout, "finished"));
        let bytes = |value: &Value| value.as_u64().expect("a size");
        let (planned_peak, measured) = (bytes(&planned["planned_peak_bytes"]), bytes(&done["peak_bytes"]));
        assert!(measured <= planned_peak, "{quant}: measured {measured}, planned {planned_peak}");
        let parameters = (LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER)) as u64;
        let quantised = bytes(&planned["parts"]["quantised_weights"]);
        assert!(8 * quantised < most_millibits * parameters / 1000, "{quant}: {quantised} for {parameters} parameters");
        // The 16-bit linears would take this much more; the plan leaves no room for them.
        let sixteen_bits = 2 * parameters;
        assert!(planned_peak < quantised + sixteen_bits, "{quant}: planned {planned_peak}: too much to tell");
    }
}

#[test]
fn the_table_says_the_bits_and_peft_gets_a_lora_adapter() {
    for (name, quant) in [("llama-gqa-tied", "nf4"), ("gpt2", "nf4"), ("llama-gqa-tied", "int8"), ("gpt2", "int8")] {
        // nf4 needs no flag.
        let flag = if quant == "nf4" { String::new() } else { format!("--quant {quant}") };
        let flags = format!("--method qlora {flag} --rank 4 --steps 6 --batch-size 2 --lr 1e-2");
        let finished = Train::on(name, &flags).finish();
        assert!(finished.stderr.contains(&format!("method    qlora {quant}, rank 4")), "{}", finished.stderr);
        assert!(text(&finished.train.bytes("config.toml")).contains(&format!("quant = \"{quant}\"")), "{name}");
        assert!(finished.stderr.contains(" bits per parameter"), "{}", finished.stderr);
        let adapter: Value =
            serde_json::from_slice(&finished.train.bytes("adapter_config.json")).expect("PEFT's configuration");
        assert_eq!(adapter["peft_type"], "LORA");
        let losses = finished.train.metrics("loss");
        assert!(losses.last() < losses.first(), "{name}: {losses:?}");
    }
}

#[test]
fn a_run_on_quantised_weights_resumes_exactly() {
    for quant in ["nf4", "int8"] {
        let flags = format!("--method qlora --quant {quant} --rank 4 --batch-size 2 --lr 1e-2 --quiet --steps 4");
        let whole = Train::on("llama-gqa-tied", &flags).finish().train;
        let parts = Train::on("llama-gqa-tied", &format!("{flags} --save-every 2")).finish().train;
        let newest = parts.out().join("checkpoint-4");
        std::fs::remove_dir_all(&newest).expect("the last save");
        let output = parts.resume("--quiet");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(whole.bytes("adapter_model.safetensors") == parts.bytes("adapter_model.safetensors"), "{quant}");
    }
}

#[test]
fn a_preset_runs_on_random_weights_and_tokens_within_its_plan() {
    let out = tempfile::tempdir().expect("temporary folder");
    let flags = "train --preset llama-160m --method qlora --precision bf16 --seq-len 8 --steps 2 --batch-size 1 \
                 --grad-accum 1 --rank 2 --json --out";
    let mut command = remat(flags.split_whitespace());
    let output = command.arg(out.path().join("run")).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    let (planned, done) = (event(&stdout, "planned"), event(&stdout, "finished"));
    let bytes = |value: &Value| value.as_u64().expect("a size");
    let (planned_peak, measured) = (bytes(&planned["planned_peak_bytes"]), bytes(&done["peak_bytes"]));
    assert!(measured <= planned_peak, "measured {measured}, planned {planned_peak}");
    // Random logits are nearly uniform over 32000 tokens.
    let loss = event(&stdout, "updated")["loss"].as_f64().expect("a number");
    assert!((loss - 32000f64.ln()).abs() < 0.5, "{loss}");
}
