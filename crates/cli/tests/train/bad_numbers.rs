//! Numbers that are none: in a file, in the loss of one sample, in that of all.

use crate::command::{Train, copied, text};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Writes a number into elements of an f32 tensor, counted from its beginning.
fn put(path: &Path, tensor: &str, elements: std::ops::Range<usize>, value: f32) {
    let mut bytes = fs::read(path).expect("readable");
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).expect("JSON");
    assert_eq!(header[tensor]["dtype"], "F32", "{tensor}");
    let start = 8 + header_bytes + header[tensor]["data_offsets"][0].as_u64().expect("a number") as usize;
    for element in elements {
        bytes[start + 4 * element..start + 4 * element + 4].copy_from_slice(&value.to_le_bytes());
    }
    fs::write(path, bytes).expect("written");
}

/// Runs a command that has to end by a guard on numbers, and returns what it says.
fn guarded(train: &Train) -> String {
    let output = train.command("").output().expect("the binary runs");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    said
}

#[test]
fn a_weight_or_an_adapter_that_is_no_number_is_named() {
    let tensor = "model.layers.1.mlp.up_proj.weight";
    for (value, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let model = copied("llama-gqa-tied");
        put(&model.path().join("model.safetensors"), tensor, 5..6, value);
        for flags in ["--method lora --rank 4 --steps 1", "--method full --steps 1", "--method qlora --steps 1"] {
            let train = Train::on("llama-gqa-tied", flags).model(model.path());
            let said = guarded(&train);
            assert!(said.contains(&format!("\"{tensor}\" holds {shown} at element 5")), "{flags}: {said}");
            assert!(!train.out().exists(), "{flags}: nothing is written");
        }
    }
}

/// A base in which positions from `first` on are so large that their sum overflows, which makes a layer norm NaN.
fn with_large_positions(first: usize) -> tempfile::TempDir {
    const WIDTH: usize = 48;
    let model = copied("gpt2");
    let elements = first * WIDTH..(first + 1) * WIDTH;
    put(&model.path().join("model.safetensors"), "transformer.wpe.weight", elements, 3e38);
    model
}

/// Rows of tokens, of these lengths.
fn rows(folder: &Path, lengths: &[usize]) -> std::path::PathBuf {
    let row = |&length: &usize| format!("{{\"input_ids\": {:?}}}\n", (3..3 + length).collect::<Vec<_>>());
    let path = folder.join("rows.jsonl");
    fs::write(&path, lengths.iter().map(row).collect::<String>()).expect("written");
    path
}

#[test]
fn a_bad_sample_is_named_and_told_from_a_rate() {
    let model = with_large_positions(20);
    // Among others of its update, and alone in it.
    let shapes = ["--batch-size 4 --grad-accum 1", "--batch-size 2 --grad-accum 2", "--batch-size 1 --grad-accum 1"];
    for shape in shapes {
        let flags = format!("--method lora --rank 4 --precision f32 --no-shuffle --save-every 1 --steps 4 {shape}");
        let train = Train::on("gpt2", &flags).model(model.path());
        // All of one bucket of lengths.
        let data = rows(train.folder.path(), &[18, 19, 24, 18]);
        let train = train.data(&data);
        let said = guarded(&train);
        assert!(said.contains("the loss of sample 3 of ") && said.contains("rows.jsonl is "), "{shape}: {said}");
        assert!(said.contains("that of others is a number"), "{shape}: {said}");
        let alone = shape.contains("--batch-size 1");
        assert_eq!(said.contains("the last good save is ") && said.contains("checkpoint-2"), alone, "{shape}: {said}");
        assert_eq!(train.out().join("checkpoint-2").exists(), alone, "{shape}");
    }
}

#[test]
fn weights_that_give_no_loss_at_all_are_told_from_a_rate() {
    let model = with_large_positions(1);
    let train = Train::on("gpt2", "--method lora --rank 4 --precision f32 --steps 4").model(model.path());
    let data = rows(train.folder.path(), &[8, 9, 10, 8]);
    let said = guarded(&train.data(&data));
    assert!(said.contains("the loss of every sample") && said.contains("before anything was trained"), "{said}");
}

#[test]
fn a_number_beyond_sixteen_bits_is_refused_where_it_would_be_rounded_to_infinity() {
    let tensor = "model.layers.1.mlp.up_proj.weight";
    let model = copied("llama-gqa-tied");
    put(&model.path().join("model.safetensors"), tensor, 7..8, f32::MAX);
    let train = Train::on("llama-gqa-tied", "--method lora --rank 4 --steps 1 --precision bf16").model(model.path());
    let output = train.command("").output().expect("the binary runs");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(tensor) && said.contains("element 7") && said.contains("--precision"), "{said}");
}
