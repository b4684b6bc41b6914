//! `--validate` and `--poison`: they look, and change nothing.

use crate::command::{Train, copied, remat, text};
use serde_json::Value;

/// Numbers in a line, in order.
fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[test]
fn validation_and_poison_find_nothing_and_change_no_bit() {
    for (case, precision) in [("llama-gqa-tied", "f32"), ("gpt2", "bf16")] {
        let flags =
            "--steps 3 --batch-size 2 --grad-accum 2 --seq-len 24 --dropout 0.1 --checkpointing full --save-every 3";
        let run = |more: &str| Train::on(case, &format!("{flags} --precision {precision} {more}")).finish();
        let (plain, checked) = (run(""), run("--validate --poison"));
        for file in ["adapter_model.safetensors", "checkpoint-3/optimizer.safetensors"] {
            assert!(plain.train.bytes(file) == checked.train.bytes(file), "{case}: {file}");
        }
        assert_eq!(plain.train.metrics("loss"), checked.train.metrics("loss"));
        let note = checked.stderr.lines().find(|line| line.contains("validated: ")).expect("says what was compared");
        let [replayed, compared, updates] = numbers(note)[..3] else { panic!("{note}") };
        // 3 updates of 2 micro-batches repeat the same values; the reference follows two updates.
        assert!(replayed > 0 && replayed % 6 == 0, "{note}");
        assert!(compared > 500 && updates == 2, "{note}");
        assert!(!plain.stderr.contains("validated"));
    }
}

/// GPT-2 as it is released: biases that give all keys and values more in common than they differ by, and dropout. Then
/// the gradient of the scores, rounded to bf16 for its product, is a fifth of dq in norm away from f64, and of Σ|dS·k|
/// one part in 500.
#[test]
fn an_ordinary_gpt2_in_bf16_is_valid() {
    let folder = copied("gpt2");
    let weights = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("readable");
    let header_len = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_len]).expect("JSON");
    for layer in 0..3 {
        let (_, tensor) = header
            .as_object()
            .and_then(|tensors| tensors.iter().find(|(name, _)| name.ends_with(&format!("h.{layer}.attn.c_attn.bias"))))
            .expect("a bias");
        assert_eq!(tensor["dtype"], "F32");
        let at = 8 + header_len + tensor["data_offsets"][0].as_u64().expect("an offset") as usize;
        let end = 8 + header_len + tensor["data_offsets"][1].as_u64().expect("an offset") as usize;
        for (index, element) in bytes[at..end].chunks_exact_mut(4).enumerate() {
            let bias = 4.0 * (index as f32 * 0.7).sin();
            element.copy_from_slice(&bias.to_le_bytes());
        }
    }
    std::fs::write(&weights, bytes).expect("written");
    let config = std::fs::read_to_string(folder.path().join("config.json")).expect("readable");
    std::fs::write(folder.path().join("config.json"), config.replace("pdrop\": 0.0", "pdrop\": 0.1")).expect("written");
    for flags in ["--method lora", "--method full --checkpointing full"] {
        let flags = format!("{flags} --precision bf16 --steps 2 --batch-size 2 --grad-accum 2 --validate");
        let finished = Train::on("gpt2", &flags).model(folder.path()).finish();
        let note = finished.stderr.lines().find(|line| line.contains("validated: ")).expect("says what was compared");
        assert!(note.contains("agree with the f64 reference") && numbers(note)[1] > 500, "{note}");
    }
}

#[test]
fn a_step_that_the_reference_cannot_follow_is_still_replayed() {
    let run = Train::on("llama-gqa-tied", "--steps 1 --method qlora --checkpointing full --validate").finish();
    let note = run.stderr.lines().find(|line| line.contains("validated: ")).expect("says what was compared");
    assert!(numbers(note)[0] > 0 && note.contains("which cannot follow the larger forward and backward"), "{note}");
}

#[test]
fn trace_and_validate_exclude_each_other() {
    let output = remat(["train", "--validate", "--trace", "t.json"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}
