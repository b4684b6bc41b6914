//! Load, step, evaluation, save and resume, each measured by itself, against what was planned for it: on models so small
//! that the program itself is most of it, and on one whose weights are.

use crate::command::{Train, case, text};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// A new run of three updates, and one that goes on for a fourth. What is wrong with their phases.
fn held_to_plan(train: &Train) -> Vec<String> {
    let mut wrong = Vec::new();
    for (more, phases) in [
        ("--steps 3", ["evaluation", "load", "save", "step"]),
        ("--steps 4 --resume", ["evaluation", "resume", "save", "step"]),
    ] {
        let traced = format!("{more} --trace {}", train.folder.path().join("trace.json").display());
        let output = train.command(&traced).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let lines = text(&output.stdout);
        let finished = lines.lines().last().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let finished = finished.expect("an event");
        let measured = finished["phases"].as_object().expect("phases");
        assert_eq!(measured.keys().map(String::as_str).collect::<Vec<_>>(), phases);
        let (mut most_planned, mut most) = (0, 0);
        for (name, phase) in measured {
            let planned = phase["planned_bytes"].as_u64().expect("a size");
            let peak = phase["peak_bytes"].as_u64().expect("Linux tells");
            (most_planned, most) = (most_planned.max(planned), most.max(peak));
            let slack = (peak / 50).max(16 << 20);
            if peak > planned || planned - peak > slack {
                wrong.push(format!("{more}: {name} took {peak} bytes of {planned} planned"));
            }
        }
        assert!(finished["planned_peak_bytes"].as_u64() >= Some(most_planned));
        assert!(finished["peak_bytes"].as_u64() >= Some(most));
    }
    wrong
}

const PHASES: &str = "--batch-size 4 --threads 2 --save-every 1 --eval-every 1 --json --phases-apart";

#[test]
fn every_phase_is_planned_from_both_sides() {
    for (name, flags) in [
        ("llama-gqa-tied", "--method lora --rank 8"),
        ("llama-gqa-tied", "--method qlora --rank 8 --checkpointing full"),
        ("gpt2", "--method full --optimizer adamw8bit"),
        ("llama-rope3-bias", "--method full"),
    ] {
        let rows = case(name).join("rows.jsonl");
        let train = Train::on(name, &format!("{flags} {PHASES} --eval-data {}", rows.display()));
        assert_eq!(held_to_plan(&train), Vec::<String>::new(), "{name} {flags}");
    }
}

/// A Llama model of random weights.
struct Sizes {
    width: usize,
    inner: usize,
    layers: usize,
}

/// 55 million parameters, most of them in blocks.
const LARGE: Sizes = Sizes { width: 768, inner: 2048, layers: 7 };

/// 10 million: still more than the slack that a phase has.
const MIDDLE: Sizes = Sizes { width: 384, inner: 1024, layers: 4 };

const WORDS: usize = 8192;

/// Its folder, with weights of one dtype.
fn model(dtype: &str, Sizes { width, inner, layers }: Sizes) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": dtype, "hidden_size": width,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": width / 64,
        "num_key_value_heads": width / 64, "vocab_size": WORDS, "max_position_embeddings": 128,
        "tie_word_embeddings": true, "eos_token_id": 1,
    });
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    let mut tensors = vec![("model.embed_tokens.weight".to_string(), vec![WORDS, width])];
    for layer in 0..layers {
        let mut of_layer = |name: &str, shape: &[usize]| {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        };
        ["q", "k", "v", "o"].iter().for_each(|name| of_layer(&format!("self_attn.{name}_proj"), &[width, width]));
        ["gate", "up"].iter().for_each(|name| of_layer(&format!("mlp.{name}_proj"), &[inner, width]));
        of_layer("mlp.down_proj", &[width, inner]);
        ["input", "post_attention"].iter().for_each(|name| of_layer(&format!("{name}_layernorm"), &[width]));
    }
    tensors.push(("model.norm.weight".to_string(), vec![width]));
    write(&folder.path().join("model.safetensors"), dtype, &tensors);
    folder
}

/// Weights of up to a thirtieth, by a linear congruence.
fn write(path: &Path, dtype: &str, tensors: &[(String, Vec<usize>)]) {
    let (name, element) = if dtype == "bfloat16" { ("BF16", 2) } else { ("F32", 4) };
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (tensor, shape) in tensors {
        let from = end;
        end += shape.iter().product::<usize>() * element;
        header.insert(tensor.clone(), json!({ "dtype": name, "shape": shape, "data_offsets": [from, end] }));
    }
    let mut header = Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("written");
    file.write_all(header.as_bytes()).expect("written");
    let mut state = 1u32;
    for _ in 0..end / element {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let weight = (state as i32 as f32 / (30.0 * 2f32.powi(31))).to_le_bytes();
        file.write_all(&weight[4 - element..]).expect("written");
    }
    file.flush().expect("written");
}

fn rows(folder: &Path) -> std::path::PathBuf {
    let row = |row: usize| {
        let ids: Vec<usize> = (0..64).map(|token| (row * 977 + token * 31) % WORDS).collect();
        json!({ "input_ids": ids }).to_string() + "\n"
    };
    let path = folder.join("rows.jsonl");
    std::fs::write(&path, (0..16).map(row).collect::<String>()).expect("written");
    path
}

/// What is wrong with the phases of these methods, on a model of one dtype.
fn wrong_phases(dtype: &str, sizes: Sizes, settings: &[String]) -> Vec<String> {
    let model = model(dtype, sizes);
    let rows = rows(model.path());
    let case = |flags: &String| {
        let train = Train::on("llama-gqa-tied", &format!("{flags} {PHASES} --eval-data {}", rows.display()));
        let wrong = held_to_plan(&train.model(model.path()).data(&rows));
        wrong.into_iter().map(|wrong| format!("{dtype} {flags}: {wrong}")).collect::<Vec<_>>()
    };
    settings.iter().flat_map(case).collect()
}

/// What is written at load lies apart from what the first step writes: in one run of bytes, pages of two MiB would hold
/// both, and all of it would be resident from the start.
#[test]
fn loading_and_resuming_hold_only_what_they_write() {
    let settings = ["--method full --precision f32", "--method lora --precision bf16 --rank 64"].map(str::to_string);
    assert_eq!(wrong_phases("bfloat16", MIDDLE, &settings), Vec::<String>::new());
}

/// Every method, from weights of either dtype, in either precision. Some minutes:
/// `cargo nextest run --cargo-profile ci -p remat-cli --run-ignored only phases`.
#[test]
#[ignore = "some minutes, and 2 GiB"]
fn every_phase_of_a_model_of_220_megabytes_is_planned_from_both_sides() {
    let methods = ["lora", "qlora", "qlora --quant int8", "full", "full --optimizer adamw8bit"];
    let in_precision =
        |method: &str| ["f32", "bf16"].map(|precision| format!("--method {method} --precision {precision}"));
    let settings: Vec<String> = methods.into_iter().flat_map(in_precision).collect();
    let wrong = ["float32", "bfloat16"].map(|dtype| wrong_phases(dtype, LARGE, &settings));
    assert_eq!(wrong.concat(), Vec::<String>::new());
}
