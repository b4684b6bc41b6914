//! `--validate` and `--poison`: they look, and change nothing.

use crate::command::{Train, remat, text};

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
