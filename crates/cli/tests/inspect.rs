//! `remat inspect`: what files and folders of weights say of themselves.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity").join(name)
}

fn inspect(path: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remat")).arg("inspect").arg(path).args(more).output().expect("runs")
}

fn json(path: &Path) -> Value {
    let output = inspect(path, &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_model_an_adapter_and_a_file_are_told_apart() {
    let model = json(&case("llama-gqa-tied"));
    assert_eq!((&model["kind"], &model["settings"]["family"]), (&"model".into(), &"llama".into()));
    let names: Vec<&str> =
        model["tensors"].as_array().expect("tensors").iter().filter_map(|t| t["name"].as_str()).collect();
    assert!(names.contains(&"model.embed_tokens.weight"), "{names:?}");
    let file = json(&case("llama-gqa-tied").join("model.safetensors"));
    assert_eq!((&file["kind"], &file["tensors"]), (&"safetensors".into(), &model["tensors"]));
    let total = &file["totals"]["F32"];
    let bytes = std::fs::metadata(case("llama-gqa-tied").join("model.safetensors")).expect("there").len();
    assert!(total["bytes"].as_u64().is_some_and(|total| total < bytes && total > bytes / 2), "{total} of {bytes}");
    assert_eq!(total["elements"].as_u64().map(|elements| 4 * elements), total["bytes"].as_u64());

    let adapter = json(&case("llama-gqa-tied").join("adapter"));
    assert_eq!((&adapter["kind"], &adapter["settings"]["method"]), (&"adapter".into(), &"LORA".into()));
    assert!(adapter["settings"]["rank"].is_u64() && adapter["totals"]["F32"]["tensors"].is_u64(), "{adapter:#}");
}

#[test]
fn gguf_is_read_and_what_it_holds_steers_no_terminal() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("model.gguf");
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let file = [
        b"GGUF\x03\0\0\0".to_vec(),
        1_u64.to_le_bytes().to_vec(),
        1_u64.to_le_bytes().to_vec(),
        [text("general.name"), 8_u32.to_le_bytes().to_vec(), text("a\x1b[2Jb")].concat(),
        [text("w\x1b"), 1_u32.to_le_bytes().to_vec(), 64_u64.to_le_bytes().to_vec(), vec![8, 0, 0, 0], vec![0; 8]]
            .concat(),
    ];
    std::fs::write(&path, file.concat()).expect("written");
    let found = json(&path);
    assert_eq!((&found["kind"], &found["settings"]["general.name"]), (&"gguf".into(), &"a\x1b[2Jb".into()));
    assert_eq!(found["totals"]["Q8_0"]["bytes"], 68);
    let page = inspect(&path, &[]);
    let page = String::from_utf8(page.stdout).expect("text");
    assert!(!page.contains('\x1b') && page.contains("Q8_0: 1 tensor, 64 elements, 68 B"), "{page}");
}

#[test]
fn what_is_nothing_of_these_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("notes.txt"), "mine").expect("written");
    for path in [folder.path().to_path_buf(), folder.path().join("notes.txt"), folder.path().join("absent")] {
        let output = inspect(&path, &[]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(path.file_name().expect("named").to_str().expect("UTF-8")), "{stderr}");
    }
}
