//! Bad input: exit code 2, a message that names the file, key or line, no panic, and nothing half-written.

use crate::command::{Train, case, copied, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Asserts that a run is refused as it should be, and leaves nothing.
fn assert_refused(train: &Train, flags: &str, parts: &[&str]) {
    let output = train.command(flags).output().expect("the binary runs");
    assert_message(&output, 2, parts);
    assert!(!train.out().exists(), "a refused run leaves nothing behind");
}

fn assert_message(output: &Output, code: i32, parts: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(!stderr.contains("internal error") && !stderr.contains("panicked"), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "'{part}' is not in: {stderr}");
    }
}

/// A run on a copy of a case's model folder that was damaged.
fn damaged(name: &str, damage: impl Fn(&Path)) -> (tempfile::TempDir, Train) {
    let copy = copied(name);
    damage(copy.path());
    let train = Train::on(name, "--steps 1 --batch-size 2").model(copy.path());
    (copy, train)
}

fn weights(folder: &Path) -> PathBuf {
    folder.join("model.safetensors")
}

/// A safetensors file of a header and `data_bytes` zeros.
fn container(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data_bytes, 0);
    bytes
}

#[test]
fn weight_files_that_are_damaged_or_hostile() {
    let truncate = |bytes: &[u8], to: usize| bytes[..to].to_vec();
    type Damage = Box<dyn Fn(&[u8]) -> Vec<u8>>;
    let cases: Vec<(&str, Damage)> = vec![
        ("empty", Box::new(|_| Vec::new())),
        ("cut in the length", Box::new(move |bytes| truncate(bytes, 5))),
        ("cut in the header", Box::new(move |bytes| truncate(bytes, 100))),
        ("cut in the data", Box::new(move |bytes| truncate(bytes, bytes.len() - 1))),
        ("longer than it says", Box::new(|bytes| [bytes, b"x"].concat())),
        ("header of 2^63 bytes", Box::new(|bytes| [&(1_u64 << 63).to_le_bytes(), &bytes[8..]].concat())),
        ("header is not JSON", Box::new(|_| container("{\"a\": ", 0))),
        (
            "tensors overlap",
            Box::new(|_| {
                let entry = |name: &str, range: &str| {
                    format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{range}}}")
                };
                container(&format!("{{{},{}}}", entry("a", "[0,8]"), entry("b", "[4,12]")), 12)
            }),
        ),
        (
            "shape overflows",
            Box::new(|_| {
                let huge = u64::MAX / 2;
                let shape = format!("[{huge},{huge}]");
                container(&format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,4]}}}}"), 4)
            }),
        ),
    ];
    for (name, damage) in cases {
        let (_copy, train) = damaged("llama-gqa-tied", |folder| {
            let bytes = fs::read(weights(folder)).expect("readable");
            fs::write(weights(folder), damage(&bytes)).expect("written");
        });
        eprintln!("{name}");
        assert_refused(&train, "", &["model.safetensors"]);
    }
}

#[test]
fn model_folders_that_are_incomplete_or_unknown() {
    let edit = |folder: &Path, from: &str, to: &str| {
        let path = folder.join("config.json");
        let text = fs::read_to_string(&path).expect("readable");
        assert!(text.contains(from), "{from} is not in config.json");
        fs::write(path, text.replace(from, to)).expect("written");
    };
    let (_copy, train) = damaged("llama-gqa-tied", |folder| fs::remove_file(weights(folder)).expect("removed"));
    assert_refused(&train, "", &["model.safetensors"]);
    let (_copy, train) = damaged("llama-gqa-tied", |f| fs::remove_file(f.join("config.json")).expect("removed"));
    assert_refused(&train, "", &["config.json"]);
    let (_copy, train) =
        damaged("llama-gqa-tied", |f| edit(f, "\"model_type\": \"llama\"", "\"model_type\": \"mamba\""));
    assert_refused(&train, "", &["config.json", "mamba", "llama, mistral, mixtral, qwen2, "]);
    let (_copy, train) =
        damaged("llama-gqa-tied", |folder| fs::write(folder.join("config.json"), "{").expect("written"));
    assert_refused(&train, "", &["config.json"]);
    let (_copy, train) = damaged("llama-gqa-tied", |f| edit(f, "\"intermediate_size\": ", "\"intermediate_size\": 1"));
    assert_refused(&train, "", &["mlp", "shape"]);
    let (_copy, train) = damaged("llama-rope3-bias", |folder| {
        fs::remove_file(folder.join("model-00002-of-00003.safetensors")).expect("removed");
    });
    assert_refused(&train, "", &["model-00002-of-00003.safetensors"]);
    let absent = Train::on("gpt2", "--steps 1").model(Path::new("/does/not/exist"));
    assert_refused(&absent, "", &["/does/not/exist"]);
}

#[test]
fn adapters_of_other_bases() {
    let other = case("llama-rope3-bias").join("adapter");
    let train = Train::on("llama-gqa-tied", "--steps 1 --batch-size 2");
    assert_refused(&train, &format!("--init-adapter {}", other.display()), &["adapter_model.safetensors", "shape"]);
    let gpt2 = case("gpt2").join("adapter");
    assert_refused(&train, &format!("--init-adapter {}", gpt2.display()), &["adapter_config.json"]);
    assert_refused(&train, "--init-adapter /does/not/exist", &["/does/not/exist"]);
    assert_refused(&train, &format!("--method full --init-adapter {}", other.display()), &["--init-adapter"]);
}

#[test]
fn rows_that_cannot_be_trained_on() {
    let train = Train::on("llama-gqa-tied", "--steps 1 --batch-size 2");
    let rows = train.folder.path().join("rows.jsonl");
    let good = "{\"input_ids\": [1, 2, 3]}\n";
    for (content, parts) in [
        (String::new(), &["rows.jsonl", "no rows"][..]),
        (format!("{good}{{\"input_ids\": [1, 2\n"), &["rows.jsonl:2"]),
        (format!("{good}{good}{{\"input_ids\": [1, 99999]}}\n"), &["rows.jsonl:3", "99999"]),
        (format!("{good}{{\"inputs\": [1]}}\n"), &["rows.jsonl:2", "input_ids"]),
        ("{\"input_ids\": [1, 2], \"labels\": [-100, -100]}\n".to_string(), &["token to train on"]),
    ] {
        fs::write(&rows, content).expect("written");
        let train = Train::on("llama-gqa-tied", "--steps 1 --batch-size 2").data(&rows);
        assert_refused(&train, "", parts);
    }
    let absent = Train::on("gpt2", "--steps 1").data(Path::new("/does/not/exist.jsonl"));
    assert_refused(&absent, "", &["/does/not/exist.jsonl"]);
}

#[test]
fn folders_that_cannot_be_written() {
    let train = Train::on("gpt2", "--steps 1 --batch-size 2");
    let file = train.folder.path().join("file");
    fs::write(&file, "").expect("written");
    for out in [file.clone(), file.join("below"), PathBuf::from("/proc/remat/out")] {
        let mut command = crate::command::remat(["train", "--steps", "1"]);
        command.arg("--model").arg(case("gpt2")).arg("--data").arg(case("gpt2").join("rows.jsonl"));
        let output = command.arg("--out").arg(&out).output().expect("the binary runs");
        assert_message(&output, 2, &["--out", &out.display().to_string()]);
    }
    assert_eq!(fs::read(&file).expect("readable"), b"");
}

#[test]
fn folders_with_nothing_to_resume() {
    // A finished result is not made anew because its state was not kept.
    let train = Train::on("gpt2", "--method full --steps 1 --batch-size 2 --quiet").finish().train;
    assert_message(&train.resume("--steps 2"), 2, &["no complete checkpoint-N"]);
    let empty = Train::on("gpt2", "");
    assert_message(&empty.resume(""), 2, &["config.toml"]);
    assert!(!empty.out().exists());
}

#[test]
fn settings_out_of_range() {
    let train = Train::on("gpt2", "--batch-size 2");
    for (flags, part) in [
        ("--steps 0", "--steps"),
        ("--steps 1 --epochs 1", "--epochs"),
        ("--lr -1", "--lr"),
        ("--lr NaN", "--lr"),
        ("--dropout 1", "--dropout"),
        ("--rank 0", "--rank"),
        ("--threads 0", "--threads"),
        ("--targets nothing_here", "nothing_here"),
        ("--targets (", "--targets"),
        ("--checkpointing sometimes", "--checkpointing"),
        ("--seq-len 1", "--seq-len"),
        ("--seq-len 100000", "--seq-len"),
        ("--memory much", "--memory"),
        ("--config /does/not/exist.toml", "/does/not/exist.toml"),
    ] {
        assert_refused(&train, flags, &[part]);
    }
}

#[test]
fn a_second_run_in_the_same_folder_is_refused_while_the_first_goes() {
    let train = Train::on("llama-gqa-tied", "--steps 1 --batch-size 2 --quiet").finish().train;
    let before = train.bytes("metrics.jsonl");
    // As a run holds it; the system lets go of it when the process ends.
    let lock = fs::File::open(train.out().join(".lock")).expect("a run leaves its lock file");
    lock.try_lock().expect("the run has ended");
    for flags in ["--force", ""] {
        let output = train.command(flags).output().expect("the binary runs");
        assert_message(&output, 2, &["another run is writing to it", "choose another folder"]);
    }
    assert_message(&train.resume(""), 2, &["another run is writing to it"]);
    assert!(train.bytes("metrics.jsonl") == before, "a refused run changes nothing");
    drop(lock);
    let output = train.command("--force").output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

/// A count that config.toml cannot hold would be a run that cannot be resumed.
#[test]
fn counts_that_a_file_cannot_hold() {
    let train = Train::on("llama-gqa-tied", "--steps 1");
    let file = train.folder.path().join("run.toml");
    fs::write(&file, "rank = 4\n").expect("written");
    let with_file = format!("--config {}", file.display());
    for (flag, more) in [("save-every", ""), ("save-every", with_file.as_str()), ("grad-accum", "")] {
        let output = train.command(&format!("--{flag} 9223372036854775808 {more}")).output().expect("the binary runs");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(&format!("--{flag} 9223372036854775808: must be at most")), "{stderr}");
        assert!(!train.out().exists());
    }
    assert_refused(
        &train,
        "--warmup 9223372036854775808",
        &["--warmup 92233720", "a whole number of updates, or a share"],
    );
}

/// Each of the processes would train alone, and write over the others' folder.
#[test]
fn a_launcher_that_this_build_cannot_talk_to() {
    let launchers = [
        ("Open MPI", [("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "1")].as_slice()),
        ("MPICH", &[("PMI_SIZE", "2"), ("PMI_RANK", "0")]),
        ("Slurm", &[("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", "0")]),
        ("torchrun", &[("WORLD_SIZE", "2"), ("RANK", "0")]),
    ];
    for (launcher, variables) in launchers {
        let train = Train::on("llama-gqa-tied", "--steps 1");
        let output = train.command("").envs(variables.iter().copied()).output().expect("the binary runs");
        assert_message(&output, 2, &[launcher, "one of 2", "--features mpi"]);
        assert!(!train.out().exists(), "a refused run leaves nothing behind");
    }
}
