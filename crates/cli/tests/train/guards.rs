//! Guards: numbers that are not finite, parameters that never learn, plans that no machine can hold.

use crate::command::{Train, copied, text};
use serde_json::Value;
use std::fs;
use std::path::Path;

#[test]
fn rates_beyond_reason_stop_the_run_before_anything_is_saved() {
    let flags = "--method full --lr 1e30 --clip 0 --schedule constant --steps 20 --save-every 1";
    let train = Train::on("llama-gqa-tied", flags);
    let output = train.command("").output().expect("the binary runs");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("update ") && stderr.contains("--lr"), "{stderr}");
    assert!(!train.out().join("model.safetensors").exists());
    let logged = train.metrics("loss").len();
    assert!(train.out().join(format!("checkpoint-{logged}")).exists(), "the last good update is saved");
    assert!(!train.out().join(format!("checkpoint-{}", logged + 1)).exists());
}

/// Fills the tensors whose names `chosen` accepts with zeros.
fn zero_tensors(folder: &Path, chosen: &dyn Fn(&str) -> bool) {
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).expect("readable");
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).expect("JSON");
    let mut found = 0;
    for (_, entry) in header.as_object().expect("an object").iter().filter(|(name, _)| chosen(name)) {
        let offset =
            |index: usize| 8 + header_bytes + entry["data_offsets"][index].as_u64().expect("a number") as usize;
        bytes[offset(0)..offset(1)].fill(0);
        found += 1;
    }
    assert!(found > 0, "no such tensor");
    fs::write(path, bytes).expect("written");
}

#[test]
fn an_adapter_that_never_gets_a_gradient_is_named() {
    // A zero output projection without an adapter of its own lets no gradient through to queries, keys and values.
    let model = copied("llama-gqa-tied");
    zero_tensors(model.path(), &|name| name == "model.layers.0.self_attn.o_proj.weight");
    let train = Train::on("llama-gqa-tied", "--targets q_proj,v_proj,down_proj --steps 3 --batch-size 2");
    let train = train.model(model.path());
    let output = train.command("").output().expect("the binary runs");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("layers.0.self_attn.q_proj.lora_B.weight") && stderr.contains("never learn"), "{stderr}");
    assert!(!train.out().join("adapter_model.safetensors").exists());
}

#[test]
fn a_layer_that_starts_at_zero_may_learn() {
    // As inserted blocks do; its output projection moves first, then what is behind it gets gradients.
    let model = copied("llama-gqa-tied");
    zero_tensors(model.path(), &|name| name == "model.layers.0.self_attn.o_proj.weight");
    for flags in ["--method full", "--targets all-linear"] {
        Train::on("llama-gqa-tied", &format!("{flags} --steps 4 --batch-size 2 --warmup 2 --quiet"))
            .model(model.path())
            .finish();
    }
}

#[test]
fn rows_of_one_prediction_from_one_token_are_no_fault() {
    let train = Train::on("llama-gqa-tied", "--targets q_proj,k_proj --steps 3 --batch-size 1 --grad-accum 1 --quiet");
    let rows = train.folder.path().join("rows.jsonl");
    fs::write(&rows, "{\"input_ids\": [5, 7]}\n{\"input_ids\": [9, 3]}\n").expect("written");
    train.data(&rows).finish();
}

#[test]
fn a_plan_that_no_machine_can_hold_is_refused_before_loading() {
    let train = Train::on("llama-gqa-tied", "--batch-size 30000000 --steps 1");
    let output = train.command("").output().expect("the binary runs");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("--batch-size") && stderr.contains("MiB"), "{stderr}");
    assert!(!train.out().exists());
}

/// A preset has random numbers for every name, but adapters start at zero there, too, and gradients at nothing.
#[test]
fn adapters_of_a_preset_start_at_zero() {
    let first_loss = |rank: &str| {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut command = crate::command::remat("train --preset gpt2 --seq-len 16 --steps 1 --json".split(' '));
        let output = command.args(["--rank", rank, "--out"]).arg(folder.path().join("out")).output().expect("it runs");
        let stdout = crate::command::text(&output.stdout);
        let mut lines = stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let finished = lines.next_back().expect("an event");
        finished["first_loss"].as_f64().unwrap_or_else(|| panic!("no loss in {finished}"))
    };
    assert_eq!(first_loss("2"), first_loss("8"));
}

/// One update whose rate turns parameters into infinities although its loss and gradients are numbers.
#[test]
fn a_result_that_is_no_number_is_never_written() {
    // Without an update after it there is no loss that could show it.
    for flags in ["--method full --steps 1", "--method lora --rank 4 --steps 1 --save-every 1"] {
        let train =
            Train::on("llama-gqa-tied", &format!("{flags} --lr 1e38 --weight-decay 1e38 --clip 0 --schedule constant"));
        let output = train.command("").output().expect("the binary runs");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{flags}: {stderr}");
        assert!(stderr.contains("update 1: \"") && stderr.contains("nothing of this update was saved"), "{stderr}");
        let written = ["model.safetensors", "adapter_model.safetensors", "checkpoint-1", "record.json"];
        assert!(written.iter().all(|name| !train.out().join(name).exists()), "{flags}");
    }
}

#[test]
fn a_moment_in_a_save_that_is_no_number_is_named() {
    let train = Train::on("llama-gqa-tied", "--method lora --rank 4 --steps 2 --save-every 2 --quiet").finish().train;
    let path = train.out().join("checkpoint-2/optimizer.safetensors");
    let (good, last) = (fs::read(&path).expect("readable"), "lora_B.weight.v");
    let spoil = |value: f32| {
        let mut bytes = good.clone();
        let header_bytes = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).expect("JSON");
        let entry = header.as_object().expect("an object").iter().find(|(name, _)| name.ends_with(last)).expect("one");
        let start = 8 + header_bytes + entry.1["data_offsets"][0].as_u64().expect("a number") as usize;
        bytes[start..start + 4].copy_from_slice(&value.to_le_bytes());
        fs::write(&path, bytes).expect("written");
        reseal(path.parent().expect("a folder"));
    };
    spoil(f32::NAN);
    let output = train.resume("--steps 4");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains(last) && stderr.contains("NaN at element 0"), "{stderr}");
}

/// Makes the manifest of a changed save say what is there.
fn reseal(save: &Path) {
    let path = save.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).expect("readable")).expect("JSON");
    for (name, file) in manifest["files"].as_object_mut().expect("files") {
        let output = std::process::Command::new("sha256sum").arg(save.join(name)).output().expect("coreutils");
        file["sha256"] = text(&output.stdout).split_whitespace().next().expect("a hash").into();
        file["bytes"] = fs::metadata(save.join(name)).expect("a file").len().into();
    }
    fs::write(&path, serde_json::to_vec(&manifest).expect("JSON")).expect("written");
}

#[test]
fn a_base_weight_that_is_no_number_is_named() {
    let model = copied("llama-gqa-tied");
    let path = model.path().join("model.safetensors");
    let mut bytes = fs::read(&path).expect("readable");
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&[0xff; 4]);
    fs::write(&path, bytes).expect("written");
    let train = Train::on("llama-gqa-tied", "--steps 1").model(model.path());
    let output = train.command("").output().expect("the binary runs");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("holds NaN at element") && stderr.contains("tensor \""), "{stderr}");
    assert!(!train.out().exists());
}
