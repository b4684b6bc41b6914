//! Short runs of the binary, one of each kind that writes: its inputs, its arguments, what counts of its result.

use crate::outcome::{Tree, tree};
use crate::prices;
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const CASE: &str = "llama-gqa-tied";
const OUT: &str = "out";

/// A short run.
pub struct Job {
    pub name: &'static str,
    /// The verb and its flags, blank between; `MODEL`, `ADAPTER`, `ROWS`, `OUT`, `TMP`, `MAP` and `PRICES` stand for paths.
    flags: &'static str,
}

const TRAIN: &str = "--model MODEL --data ROWS --out OUT --batch-size 2 --grad-accum 1 --seq-len 32 --threads 1 --steps 4 --disk-wait 0";

pub const JOBS: &[Job] = &[
    Job { name: "lora", flags: "train TRAIN --method lora --rank 4 --save-every 2" },
    Job { name: "full", flags: "train TRAIN --method full --save-every 2 --save-total-limit 1" },
    Job { name: "offload", flags: "train TRAIN --method qlora --rank 4 --save-every 3 --offload TMP --precision bf16" },
    Job {
        name: "states",
        flags: "train TRAIN --method full --save-every 3 --save-total-limit 1 --offload TMP --device-map MAP --prices PRICES",
    },
    Job {
        name: "evaluated",
        flags: "train TRAIN --method lora --rank 4 --save-every 2 --eval-data ROWS --eval-every 2 --sample the --sample-every 2",
    },
    Job { name: "quantize", flags: "quantize --model MODEL --out OUT" },
    Job { name: "merge", flags: "merge --model MODEL --adapter ADAPTER --out OUT" },
    Job { name: "gguf", flags: "export gguf --merge --model MODEL --adapter ADAPTER --out OUT" },
];

impl Job {
    /// Copies the inputs into a folder, so that calls on them count too.
    pub fn prepare(&self, folder: &Path) {
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity").join(CASE);
        std::fs::create_dir(folder.join("tmp")).expect("a folder");
        for (from, to) in [(case.clone(), "model"), (case.join("adapter"), "adapter")] {
            let to = folder.join(to);
            std::fs::create_dir(&to).expect("a folder");
            for entry in std::fs::read_dir(from).expect("a fixture").flatten().filter(|entry| entry.path().is_file()) {
                std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
            }
        }
        for name in ["reference.json", "reference.safetensors"] {
            std::fs::remove_file(folder.join("model").join(name)).expect("a file that no reader of models reads");
        }
        prices::file(folder, prices::QUICK);
        std::fs::write(folder.join("map.json"), "{\"model.layers.0.mlp\": \"disk\"}").expect("written");
        std::fs::rename(folder.join("model/rows.jsonl"), folder.join("rows.jsonl")).expect("moved");
    }

    pub fn arguments(&self, folder: &Path) -> Vec<OsString> {
        let path = |word: &str| match word {
            "MODEL" => folder.join("model").into_os_string(),
            "ADAPTER" => folder.join("adapter").into_os_string(),
            "ROWS" => folder.join("rows.jsonl").into_os_string(),
            "OUT" => folder.join(OUT).into_os_string(),
            "TMP" => folder.join("tmp").into_os_string(),
            "MAP" => folder.join("map.json").into_os_string(),
            "PRICES" => folder.join("prices.json").into_os_string(),
            word => word.into(),
        };
        self.flags.replace("TRAIN", TRAIN).split(' ').map(path).collect()
    }

    /// What a person types after a run that ended early: `--resume` where there is a run, else the same again.
    pub fn arguments_again(&self, folder: &Path) -> Vec<OsString> {
        let out = folder.join(OUT);
        if self.is_training() && out.join("config.toml").exists() {
            return vec!["train".into(), "--resume".into(), "--out".into(), out.into()];
        }
        self.arguments(folder)
    }

    pub fn is_training(&self) -> bool {
        self.flags.starts_with("train")
    }

    /// Paths that may be there afterwards beside the inputs.
    pub fn left(&self) -> Vec<&'static str> {
        vec![OUT]
    }

    /// What the job is for: of a run its adapter or model, its last save and its metrics without times; else all files. Where
    /// the folder's own path stands in a text, `FOLDER` does: each run has another.
    pub fn result(&self, folder: &Path) -> Tree {
        let out = folder.join(OUT);
        if out.is_file() {
            return Tree::from([(PathBuf::from(OUT), std::fs::read(out).expect("a file"))]);
        }
        let mut found = if out.is_dir() { tree(&out) } else { Tree::new() };
        if self.is_training() {
            let counts =
                |name: &Path| name.to_string_lossy().ends_with(".safetensors") || name.ends_with("adapter_config.json");
            let metrics = found.get(Path::new("metrics.jsonl")).map(|bytes| without_times(bytes));
            found.retain(|name, _| counts(name));
            found.extend(metrics.map(|metrics| (PathBuf::from("metrics.jsonl"), metrics)));
        }
        let path = folder.to_str().expect("text");
        for (_, text) in found.iter_mut().filter(|(name, _)| name.extension().is_some_and(|found| found == "json")) {
            *text = std::str::from_utf8(text).expect("text").replace(path, "FOLDER").into_bytes();
        }
        found
    }
}

fn without_times(metrics: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(metrics).expect("text");
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        let object = line.as_object_mut().expect("an object");
        for key in ["tokens_per_s", "step_seconds", "peak_bytes", "planned_peak_bytes"] {
            object.remove(key).expect("a key of each line");
        }
        line.to_string() + "\n"
    };
    text.lines().map(line).collect::<String>().into_bytes()
}
