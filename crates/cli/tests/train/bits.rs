//! One result, to the bit, whatever the policy and the number of threads; with dropout and accumulation.

use crate::command::Train;

fn result(case: &str, method: &str, flags: &str) -> (Vec<f64>, Vec<f64>, Vec<u8>) {
    let all = "--steps 4 --batch-size 2 --grad-accum 2 --lr 1e-2 --seq-len 24 --quiet";
    let train = Train::on(case, &format!("{all} {method} {flags}")).finish().train;
    let file = if method.contains("full") { "model.safetensors" } else { "adapter_model.safetensors" };
    (train.metrics("loss"), train.metrics("grad_norm"), train.bytes(file))
}

#[test]
fn policies_and_threads_do_not_change_a_bit() {
    for case in ["llama-gqa-tied", "gpt2"] {
        for method in ["--method lora --rank 4 --dropout 0.1", "--method full"] {
            let reference = result(case, method, "--checkpointing none --threads 1");
            assert_eq!(reference.0.len(), 4);
            for flags in [
                "--checkpointing full --threads 1",
                "--checkpointing every:2 --threads 2",
                "--checkpointing none --threads 4",
                "--checkpointing full --threads 3",
            ] {
                assert!(result(case, method, flags) == reference, "{case} {method} {flags}");
            }
        }
    }
}

#[test]
fn seed_and_dropout_do_change_the_result() {
    let method = "--method lora --rank 4 --dropout 0.1";
    let reference = result("llama-gqa-tied", method, "");
    assert!(result("llama-gqa-tied", method, "--seed 7") != reference);
    assert!(result("llama-gqa-tied", "--method lora --rank 4", "") != reference);
}
