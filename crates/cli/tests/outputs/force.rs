//! `--force`: only what remat wrote is replaced, and only once what replaces it is whole.

use crate::tree::{Tree, names, wait_for};
use std::fs;
use std::process::Command;

const RUN: &str = "train --model m/model --data d/rows.jsonl --out run --batch-size 2 --grad-accum 1 --quiet";

fn weights(tree: &Tree) -> Vec<u8> {
    tree.read("run/adapter_model.safetensors")
}

#[test]
fn a_killed_run_leaves_the_result_that_it_was_to_replace() {
    let tree = Tree::new();
    tree.expect(&format!("{RUN} --steps 2 --save-every 1"), 0, &[]);
    fs::write(tree.at("run/notes.txt"), "mine").expect("written");
    fs::create_dir(tree.at("run/checkpoint-best")).expect("made");
    let old = weights(&tree);

    // A run that would take for ever, killed after its first updates.
    let mut child = tree.command(&format!("{RUN} --steps 1000000 --rank 4 --force")).spawn().expect("runs");
    wait_for(&tree.at("run/metrics.jsonl"), |path| {
        tree.at("run/.remat-replaced").is_dir() && fs::metadata(path).is_ok_and(|file| file.len() > 0)
    });
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(weights(&tree) == old, "the old adapter is still there");
    tree.expect("generate --model m/model --adapter run --prompt x --max-tokens 1 --quiet", 0, &[]);
    let aside = [".remat-replaced/checkpoint-1", ".remat-replaced/checkpoint-2", ".remat-replaced/config.toml"];
    assert!(aside.iter().all(|name| tree.at("run").join(name).exists()));
    // Two runs are never mixed: there is nothing to go on from, and the other is named.
    tree.expect("train --resume --out run", 2, &["no complete checkpoint-N", "is in run/.remat-replaced"]);

    // The next one goes to its end; what was set aside goes with its first save.
    tree.expect(&format!("{RUN} --steps 1 --rank 4 --force --save-every 1"), 0, &["stays in run/.remat-replaced"]);
    assert!(weights(&tree) != old);
    assert_eq!(
        names(&tree.at("run")),
        [
            ".lock",
            ".remat-files.json",
            "adapter_config.json",
            "adapter_model.safetensors",
            "checkpoint-1",
            "checkpoint-best",
            "config.toml",
            "events.out.tfevents.remat",
            "generation_config.json",
            "metrics.jsonl",
            "notes.txt",
            "record.json",
            "record.md",
            "report.html",
            "rows.bin",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    );
    assert_eq!(tree.read("run/notes.txt"), b"mine");
    assert_eq!(String::from_utf8_lossy(&tree.read("run/metrics.jsonl")).lines().count(), 1);
}

#[test]
fn a_run_that_fails_leaves_the_result_that_it_was_to_replace() {
    let tree = Tree::new();
    tree.expect(&format!("{RUN} --steps 1"), 0, &[]);
    let (old, record) = (weights(&tree), tree.read("run/record.json"));
    // Without a finite loss, the run ends before it has saved.
    tree.expect(&format!("{RUN} --steps 8 --lr 1e30 --clip 0 --schedule constant --force"), 4, &["update"]);
    assert!(weights(&tree) == old && tree.read("run/record.json") == record);
    tree.expect(&format!("{RUN} --steps 1 --method full --force"), 0, &[]);
    assert!(!tree.at("run/adapter_model.safetensors").exists() && tree.at("run/model.safetensors").exists());
    assert!(!tree.at("run/.remat-replaced").exists());
}

#[test]
fn folders_that_no_run_wrote_are_refused() {
    let tree = Tree::new();
    for name in ["config.json", "model.safetensors"] {
        fs::create_dir_all(tree.at("theirs")).expect("made");
        fs::write(tree.at("theirs").join(name), "theirs").expect("written");
    }
    for name in ["adapter_config.json", "adapter_model.safetensors", "record.md", "questions.jsonl"] {
        fs::create_dir_all(tree.at("hand-made")).expect("made");
        fs::write(tree.at("hand-made").join(name), "theirs").expect("written");
    }
    let before = tree.contents();
    let rows = "--model m/model --data d/rows.jsonl --force";
    let by = "there was not written by remat";
    tree.expect(&format!("train {rows} --method full --out theirs"), 2, &["--out theirs: config.json", by]);
    tree.expect(&format!("train {rows} --out hand-made"), 2, &["--out hand-made: ", by]);
    tree.expect(&format!("profile {rows} --out hand-made"), 2, &["--out hand-made: record.md", by]);
    tree.expect("quickstart --force --out hand-made", 2, &["--out hand-made: questions.jsonl", by]);
    tree.expect(
        "quantize --model m/model --force --out theirs",
        2,
        &["--out theirs: is not a model folder that remat wrote"],
    );
    tree.expect("quantize --model m/model --force --out d/rows.jsonl", 2, &["--out d/rows.jsonl"]);
    assert!(tree.contents() == before);
}

#[test]
fn a_quantised_model_is_replaced_and_what_lies_beside_it_is_not() {
    let tree = Tree::new();
    tree.expect("quantize --model m/model --out few", 0, &[]);
    let old = tree.read("few/model.safetensors");
    fs::write(tree.at("few/README.md"), "mine").expect("written");
    fs::create_dir(tree.at("few/run")).expect("made");
    // Somebody's file under a name that the new model has.
    fs::rename(tree.at("few/tokenizer.json"), tree.at("few/kept.json")).expect("renamed");
    fs::create_dir(tree.at("few/tokenizer.json")).expect("made");
    tree.expect(
        "quantize --model m/model --quant int8 --out few --force",
        2,
        &["tokenizer.json there was not written"],
    );
    fs::remove_dir(tree.at("few/tokenizer.json")).expect("removed");
    assert!(tree.read("few/model.safetensors") == old);

    // A disk that fills up, for which a limit on the size of files stands.
    let script = "trap '' XFSZ; ulimit -f 40; exec \"$0\" quantize --model m/model --quant int8 --out few --force";
    let mut bash = Command::new("bash");
    bash.args(["-c", script, env!("CARGO_BIN_EXE_remat")]).current_dir(tree.root.path());
    assert_eq!(bash.output().expect("bash runs").status.code(), Some(1));
    assert!(tree.read("few/model.safetensors") == old);

    tree.expect("quantize --model m/model --quant int8 --out few --force", 0, &[]);
    assert!(tree.read("few/model.safetensors") != old);
    let expected = [
        ".remat-files.json",
        "README.md",
        "config.json",
        "generation_config.json",
        "kept.json",
        "model.safetensors",
        "run",
        "tokenizer.json",
    ];
    assert_eq!(names(&tree.at("few")), [&expected[..], &["tokenizer_config.json"]].concat());
    tree.expect("generate --model few --prompt x --max-tokens 1 --quiet", 0, &[]);
}
