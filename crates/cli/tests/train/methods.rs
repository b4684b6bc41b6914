//! Methods by their flags: a run, its folder, going on from it, its plan, and what is refused by name.

use crate::command::{Train, case, remat, text};
use serde_json::Value;
use std::path::Path;

const COMMON: &str = "--rank 4 --batch-size 2 --grad-accum 1 --seq-len 24 --lr 5e-3 --no-shuffle --quiet";
const LLAMA: &str = "llama-gqa-tied";

/// Flags of methods, and the model each is run on.
const METHODS: [(&str, &str); 10] = [
    (
        LLAMA,
        "--rslora --rank-pattern q_proj=2 --rank-pattern {\"mlp.up_proj\":6} --alpha-pattern v_proj=3 \
         --exclude-modules k_proj --layers-to-transform 0,2",
    ),
    ("gpt2", "--bias all --loraplus-lr-ratio 8 --method qlora"),
    (LLAMA, "--modules-to-save embed_tokens,lm_head --ensure-weight-tying --targets q_proj,v_proj"),
    ("gpt2", "--neftune-noise-alpha 5 --packing"),
    (
        "gpt2",
        "--targets c_attn,wte,lm_head --dropout 0.1 --loraplus-lr-ratio 4 --loraplus-lr-embedding 1e-3 --method qlora \
         --precision bf16",
    ),
    (LLAMA, "--trainable-token-indices 7,3,42 --targets q_proj,v_proj --precision bf16"),
    (LLAMA, "--modules-to-save lm_head --bias none --precision bf16 --optimizer adamw8bit"),
    (LLAMA, "--dora --dropout 0.1 --method qlora --precision bf16"),
    ("gpt2", "--init-lora-weights pissa_niter_2 --alpha-pattern c_attn=3"),
    (LLAMA, "--init-lora-weights olora --method qlora"),
];

fn settings(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("adapter_config.json")).expect("settings");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_run_that_goes_on_is_the_run_that_was_not_stopped() {
    for (model, flags) in METHODS {
        let whole = Train::on(model, &format!("{COMMON} {flags} --steps 4 --save-every 2")).finish().train;
        let losses = whole.metrics("loss");
        assert!(losses[3] < losses[0], "{flags}: {losses:?}");
        let last = whole.bytes("adapter_model.safetensors");
        for name in ["checkpoint-4", "adapter_model.safetensors", "adapter_config.json", "record.json"] {
            let path = whole.out().join(name);
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("removed");
        }
        let resumed = whole.resume("--quiet");
        assert_eq!(resumed.status.code(), Some(0), "{flags}: {}", text(&resumed.stderr));
        assert!(whole.bytes("adapter_model.safetensors") == last, "{flags}: other bytes after going on");
    }
}

#[test]
fn what_is_trained_does_not_depend_on_what_is_recomputed() {
    for (model, flags) in METHODS {
        let of = |more: &str| {
            let run = Train::on(model, &format!("{COMMON} {flags} --steps 2 {more}")).finish().train;
            run.bytes("adapter_model.safetensors")
        };
        assert!(of("--checkpointing none --threads 1") == of("--checkpointing full --threads 2"), "{flags}");
    }
}

#[test]
fn a_folder_says_what_its_flags_said_and_is_a_start_and_an_adapter() {
    let (model, flags) = METHODS[0];
    let first = Train::on(model, &format!("{COMMON} {flags} --steps 2")).finish().train;
    let config = settings(&first.out());
    for (key, expected) in [
        ("use_rslora", serde_json::json!(true)),
        ("rank_pattern", serde_json::json!({ "q_proj": 2, "mlp.up_proj": 6 })),
        ("alpha_pattern", serde_json::json!({ "v_proj": 3 })),
        ("exclude_modules", serde_json::json!(["k_proj"])),
        ("layers_to_transform", serde_json::json!([0, 2])),
    ] {
        assert_eq!(config[key], expected, "{key}");
    }
    let start = format!("--init-adapter {}", first.out().display());
    let second = Train::on(model, &format!("{} {start} --steps 1", COMMON.replace("--rank 4 ", ""))).finish().train;
    assert!(second.metrics("loss")[0] < first.metrics("loss")[0]);
    let mut again = settings(&second.out());
    again["base_model_name_or_path"] = config["base_model_name_or_path"].clone();
    assert_eq!(again, config);
    let written = text(&second.bytes("config.toml"));
    assert!(written.contains("rslora = true") && written.contains("layers-to-transform = \"0,2\""), "{written}");
}

#[test]
fn noise_is_of_training_alone() {
    let losses = |flags: &str| {
        let rows = case("gpt2").join("rows.jsonl");
        let common = format!("{} --steps 1 --eval-data {} {flags}", COMMON.replace("5e-3", "0"), rows.display());
        let run = Train::on("gpt2", &common).finish().train;
        let line = text(&run.bytes("metrics.jsonl"));
        let line: Value = serde_json::from_str(line.lines().last().expect("a line")).expect("JSON");
        (line["loss"].as_f64().expect("a loss"), line["val_loss"].as_f64().expect("a held-out loss"))
    };
    let (without, with) = (losses(""), losses("--neftune-noise-alpha 20"));
    assert_ne!(without.0, with.0);
    assert_eq!(without.1, with.1);
    // The noise is small against the embeddings' own size, and grows with alpha.
    let less = losses("--neftune-noise-alpha 0.1");
    assert!((less.0 - without.0).abs() < (with.0 - without.0).abs(), "{without:?} {less:?} {with:?}");
}

#[test]
fn plans_count_what_a_method_trains() {
    let trained = |flags: &str| {
        let mut command = remat(["plan", "--json", "--model"]);
        command.arg(case(LLAMA)).args(COMMON.replace(" --quiet", "").split_whitespace());
        let output = command.args(flags.split_whitespace()).output().expect("the binary runs");
        assert!(output.status.success(), "{flags}: {}", text(&output.stderr));
        let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let phase = plan["phases"].as_array().expect("phases").iter().find(|phase| phase["name"] == "step");
        let parts = &phase.expect("a step")["parts"];
        (parts["adapter"].as_u64().expect("bytes"), parts["weights"].as_u64().expect("bytes"))
    };
    let (plain, frozen) = trained("");
    let (fewer, _) = trained("--layers-to-transform 1");
    assert!(fewer * 2 < plain, "one layer of three: {fewer} of {plain}");
    // What was taken out of the base is held as often as what is trained.
    assert_eq!(trained("--init-lora-weights olora"), (plain, frozen + plain));
    let (dora, beside) = trained("--dora");
    assert!(dora > plain && beside == frozen, "{dora} {beside}");
    // An embedding of 160 x 64 in f32: trained in place of the frozen one if it is the head, too, else beside it.
    let table = 160 * 64 * 4;
    assert_eq!(trained("--modules-to-save embed_tokens --ensure-weight-tying"), (plain + table, frozen - table));
    assert_eq!(trained("--modules-to-save lm_head"), (plain + table, frozen));
    assert_eq!(trained("--modules-to-save embed_tokens,lm_head"), (plain + 2 * table, frozen - table));
}

#[test]
fn what_does_not_go_together_is_refused_by_name() {
    for (model, flags, expected) in [
        (LLAMA, "--rank-pattern c_attn=2", "--rank-pattern c_attn: matches no module that has an adapter"),
        (LLAMA, "--rank-pattern q_proj=0", "--rank-pattern q_proj=0: an adapter needs a rank of at least 1"),
        (LLAMA, "--alpha-pattern (q=1", "--alpha-pattern (q: not a valid regular expression"),
        (LLAMA, "--exclude-modules Wqkv", "--exclude-modules Wqkv: matches no linear module"),
        (LLAMA, "--targets q_proj --exclude-modules q_proj", "--targets q_proj: all that they match is excluded"),
        (LLAMA, "--layers-to-transform 3", "--layers-to-transform 3: this model has layers 0 to 2"),
        (LLAMA, "--targets .*q_proj --layers-to-transform 1", "--layers-to-transform goes with names, as in PEFT"),
        (
            LLAMA,
            "--dora --init-lora-weights pissa",
            "--init-lora-weights pissa: goes with plain LoRA, and this is dora",
        ),
        (LLAMA, "--init-lora-weights pissa --method qlora", "as in PEFT, and these are in nf4; use olora"),
        (LLAMA, "--init-lora-weights corda", "--init-lora-weights: is \"corda\"; it must be default, gaussian, pissa"),
        (LLAMA, "--bias all", "--bias all: this model has no bias; leave it out"),
        (LLAMA, "--modules-to-save wte", "--modules-to-save wte: this model has no module of that name"),
        (LLAMA, "--modules-to-save q_proj", "has an adapter; a module is trained whole or by an adapter"),
        (
            LLAMA,
            "--method qlora --targets v_proj --modules-to-save q_proj",
            "is held in few bits and cannot be trained whole",
        ),
        ("gpt2", "--modules-to-save wte --ensure-weight-tying", "name lm_head there"),
        ("mistral", "--modules-to-save lm_head --ensure-weight-tying", "is not tied to the embedding; leave it out"),
        (LLAMA, "--method full --bias all", "--bias: is of adapters, and full fine-tuning has none"),
        (LLAMA, "--method full --loraplus-lr-ratio 2", "--loraplus-lr-ratio: is of adapters"),
        (LLAMA, "--loraplus-lr-ratio 0", "--loraplus-lr-ratio"),
        (LLAMA, "--loraplus-lr-embedding 1e-4", "--loraplus-lr-embedding: is of LoRA+; add --loraplus-lr-ratio 16"),
        (LLAMA, "--trainable-token-indices 3,160", "--trainable-token-indices 160: this model has tokens 0 to 159"),
        (LLAMA, "--trainable-token-indices 3,5,3", "--trainable-token-indices 3: given twice"),
        (LLAMA, "--trainable-token-indices wpe=3", "--trainable-token-indices wpe: this model has rows of tokens in"),
        (
            LLAMA,
            "--trainable-token-indices 3 --targets q_proj,lm_head",
            "--trainable-token-indices lm_head is trained by an adapter or whole, too",
        ),
        (
            LLAMA,
            "--trainable-token-indices 3 --modules-to-save embed_tokens",
            "--trainable-token-indices model.embed_tokens is trained by an adapter or whole, too",
        ),
        (LLAMA, "--targets q_proj,wte", "--targets wte: matches no linear module"),
        (
            LLAMA,
            "--targets q_proj,lm_head --modules-to-save embed_tokens,lm_head",
            "has an adapter; a module is trained whole or by an adapter",
        ),
        (
            LLAMA,
            "--targets embed_tokens,lm_head --modules-to-save embed_tokens --ensure-weight-tying",
            "has an adapter; a module is trained whole or by an adapter",
        ),
        (LLAMA, "--neftune-noise-alpha -1", "--neftune-noise-alpha"),
    ] {
        let train = Train::on(model, &format!("{COMMON} --steps 1"));
        let output = train.command(flags).output().expect("the binary runs");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags}: {stderr}");
        assert!(stderr.contains(expected), "{flags}: {stderr}");
        assert!(!train.out().exists(), "{flags}: nothing is written");
    }
}
