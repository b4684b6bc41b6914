//! Model folders that are written otherwise than `save_pretrained` does today mean what they mean to transformers 5: heads
//! beside tied embeddings, prefixes, names of activations, rotary scalings.
//!
//! The losses are in `fixtures/configs/folders.jsonl`, recorded from transformers by `fixtures/folders.py`, whose edits of a
//! folder are made here once more.

mod case;

use case::{Case, Run};
use remat_formats::{NamedTensor, SafetensorsFile, write_safetensors};
use remat_model::{Method, Model, ModelError, Quant};
use remat_plan::Policy;
use remat_tensor::{DType, Shape};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FAMILIES: [&str; 5] = ["llama-gqa-tied", "gpt2", "mistral", "qwen2", "qwen3"];
const HEAD: &str = "lm_head.weight";
const LOSSES: f64 = 1e-5;

type Tensors = BTreeMap<String, Tensor>;

#[derive(Clone, PartialEq)]
struct Tensor {
    dtype: DType,
    shape: Shape,
    bytes: Vec<u8>,
}

fn parity(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity").join(name)
}

fn read_all(file: &Path) -> Tensors {
    let file = SafetensorsFile::open(file).unwrap_or_else(|error| panic!("{error}"));
    let read = |name: &str| {
        let info = file.tensor_info(name).expect("listed");
        let mut bytes = Vec::new();
        let take = &mut |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        file.read_chunks(name, take).expect("read");
        Tensor { dtype: info.dtype.expect("one that is known"), shape: info.shape.clone(), bytes }
    };
    file.names().map(|name| (name.to_string(), read(name))).collect()
}

/// The folder of a parity case with keys of its configuration changed and its tensors edited.
fn folder(name: &str, config: &Value, edit: impl FnOnce(Tensors) -> Tensors) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = std::fs::read_to_string(parity(name).join("config.json")).expect("a fixture");
    let mut changed: Value = serde_json::from_str(&text).expect("JSON");
    for (key, value) in config.as_object().expect("an object") {
        changed[key] = value.clone();
    }
    std::fs::write(folder.path().join("config.json"), changed.to_string()).expect("written");
    write_all(folder.path(), &edit(read_all(&parity(name).join("model.safetensors"))));
    folder
}

fn write_all(folder: &Path, tensors: &Tensors) {
    let named: Vec<NamedTensor<'_>> = tensors
        .iter()
        .map(|(name, Tensor { dtype, shape, bytes })| NamedTensor { name, dtype: *dtype, shape, bytes })
        .collect();
    let mut metadata = vec![("format", "pt")];
    if embedding(tensors).is_none() {
        // As `safetensors.torch.save_model` notes what shares memory with what it writes.
        metadata.push(("model.embed_tokens.weight", HEAD));
    }
    write_safetensors(&folder.join("model.safetensors"), &named, &metadata).expect("written");
}

fn embedding(tensors: &Tensors) -> Option<String> {
    let is_it = |name: &&String| name.ends_with("embed_tokens.weight") || name.ends_with("wte.weight");
    tensors.keys().find(is_it).cloned()
}

fn without_prefix(name: &str) -> String {
    if name == HEAD { name.to_string() } else { name.split_once('.').expect("a prefix").1.to_string() }
}

/// The edits of `fixtures/folders.py`.
fn edited(edit: Option<&str>, mut tensors: Tensors) -> Tensors {
    let embedding = embedding(&tensors).expect("an embedding");
    match edit {
        None => {}
        Some("head_reversed") => {
            let table = &tensors[&embedding];
            let row_bytes = table.bytes.len() / table.shape[0];
            let bytes = table.bytes.chunks(row_bytes).rev().flatten().copied().collect();
            tensors.insert(HEAD.to_string(), Tensor { bytes, ..table.clone() });
        }
        Some("head_equal") => {
            tensors.insert(HEAD.to_string(), tensors[&embedding].clone());
        }
        Some("head_alone") => {
            let table = tensors.remove(&embedding).expect("there");
            tensors.insert(HEAD.to_string(), table);
        }
        Some("prefix_off") => return tensors.into_iter().map(|(name, t)| (without_prefix(&name), t)).collect(),
        Some("prefix_twice") => {
            let prefix = embedding.split_once('.').expect("a prefix").0;
            return tensors.into_iter().map(|(name, tensor)| (format!("{prefix}.{name}"), tensor)).collect();
        }
        Some("prefix_mixed") => {
            let named = tensors.into_iter().enumerate();
            return named.map(|(i, (name, t))| (if i % 2 == 1 { without_prefix(&name) } else { name }, t)).collect();
        }
        Some(other) => panic!("no edit {other}"),
    }
    tensors
}

fn open(folder: &Path) -> Model {
    Model::open(folder).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(folder: &Path) -> String {
    let error = Model::open(folder).map(|_| ()).expect_err("refused").to_string();
    error.replace(&folder.display().to_string(), "DIR")
}

#[test]
fn losses_are_those_of_transformers() {
    let rows = include_str!("../../../fixtures/configs/folders.jsonl");
    for row in rows.lines() {
        let row: Value = serde_json::from_str(row).expect("JSON");
        let name = row["case"].as_str().expect("a case");
        let folder = folder(name, &row["config"], |tensors| edited(row["edit"].as_str(), tensors));
        let (loss, expected) =
            (Case::open(name).with_model_of(folder.path()).base_loss(), row["loss"].as_f64().expect("a number"));
        assert!((loss - expected).abs() < LOSSES, "{row}: {loss}");
    }
    assert!(rows.lines().count() > 40);
}

#[test]
fn a_head_that_differs_is_told_and_is_kept_by_whatever_writes_the_model() {
    for name in FAMILIES {
        let folder = folder(name, &json!({ "tie_word_embeddings": true }), |t| edited(Some("head_reversed"), t));
        let model = open(folder.path());
        let [note] = model.notes() else { panic!("{:?}", model.notes()) };
        assert!(note.contains("different values: as in transformers, they are not tied"), "{note}");
        let head_in = |folder: &Path| {
            let file = SafetensorsFile::open(&folder.join("model.safetensors")).expect("a file");
            file.read(HEAD).expect("a head").to_f64()
        };

        let case = Case::open(name).with_model_of(folder.path());
        let saved = tempfile::tempdir().expect("a temporary folder");
        Run::new(&case, &case.full(), &Policy::Full).save_full(saved.path());
        let quantised = saved.path().join("quantised");
        model.write_quantised(Quant::Int8, &quantised, false).unwrap_or_else(|error| panic!("{error}"));
        for (written, precision) in [(saved.path(), 0.0), (&quantised, 1.0 / 256.0)] {
            let again = open(written);
            assert_eq!(again.notes(), [""; 0], "{name}");
            assert!(!again.config().tie_word_embeddings);
            for (found, expected) in head_in(written).iter().zip(head_in(folder.path())) {
                assert!((found - expected).abs() <= precision * expected.abs(), "{name}: {found} {expected}");
            }
        }
        let again = Case::open(name).with_model_of(saved.path()).base_loss();
        assert!((again - case.base_loss()).abs() < LOSSES, "{name}");
    }
}

#[test]
fn modules_that_wrap_a_model_count_for_nothing() {
    let wrapped = |wrap: &dyn Fn(&str) -> String| {
        let rename = |tensors: Tensors| tensors.into_iter().map(|(name, t)| (wrap(&name), t)).collect();
        let folder = folder("llama-gqa-tied", &json!({}), rename);
        Case::open("llama-gqa-tied").with_model_of(folder.path()).base_loss()
    };
    let expected = wrapped(&str::to_string);
    let wraps: [&dyn Fn(&str) -> String; 5] = [
        &|name| format!("module.{name}"),
        &|name| format!("_orig_mod.{name}"),
        &|name| format!("module._orig_mod.{name}"),
        &|name| name.replacen("model.", "model._orig_mod.", 1),
        &|name| format!("_orig_mod.{}", without_prefix(name)),
    ];
    for wrap in wraps {
        assert_eq!(wrapped(wrap).to_bits(), expected.to_bits(), "{}", wrap("model.norm.weight"));
    }
}

#[test]
fn what_is_not_read_is_noted_once_and_what_is_remade_is_not() {
    let with = |case: &str, names: &[&str]| {
        folder(case, &json!({}), |mut tensors| {
            let any = tensors.values().next().expect("a tensor").clone();
            tensors.extend(names.iter().map(|name| (name.to_string(), any.clone())));
            tensors
        })
    };
    let remade = ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"];
    assert_eq!(open(with("llama-gqa-tied", &remade).path()).notes(), [""; 0]);
    let remade = ["transformer.h.0.attn.bias", "h.1.attn.masked_bias"];
    assert_eq!(open(with("gpt2", &remade).path()).notes(), [""; 0]);
    let extra = ["model.layers.9.mlp.up_proj.weight", "score.weight", "model.layers.0.self_attn.q_proj.bias"];
    let dir = with("llama-gqa-tied", &extra);
    for name in ["pytorch_model.bin", "model.fp16.safetensors", "adapter_model.safetensors", "optimizer.pt"] {
        std::fs::write(dir.path().join(name), "").expect("written");
    }
    let model = open(dir.path());
    let notes: Vec<String> =
        model.notes().iter().map(|note| note.replace(&dir.path().display().to_string(), "DIR")).collect();
    assert_eq!(
        notes,
        [
            r#"DIR: 3 tensors of the files are not read, for this model has no such parameter: "model.layers.0.self_attn.q_proj.bias", "model.layers.9.mlp.up_proj.weight", "score.weight""#,
            r#"DIR: not read, for the weights are in other files: "model.fp16.safetensors", "pytorch_model.bin""#,
            r#"DIR: an adapter lies beside the model and is not applied: "adapter_model.safetensors""#,
        ]
    );
}

#[test]
fn what_a_quantised_folder_leaves_in_16_bits_stays_so() {
    for (name, quant) in FAMILIES.into_iter().flat_map(|name| [Quant::Nf4, Quant::Int8].map(|quant| (name, quant))) {
        let out = tempfile::tempdir().expect("a temporary folder");
        let out = out.path().join("quantised");
        let plain = open(&parity(name));
        plain.write_quantised(quant, &out, false).unwrap_or_else(|error| panic!("{error}"));
        let left = format!("{}.weight", plain.linear_names()[1]);
        let mut tensors = read_all(&out.join("model.safetensors"));
        let layer = left.strip_suffix(".weight").expect("a weight");
        tensors.retain(|tensor, _| !tensor.starts_with(layer) || tensor.ends_with(".bias"));
        tensors.insert(left.clone(), read_all(&parity(name).join("model.safetensors"))[&left].clone());
        write_all(&out, &tensors);
        let case = Case::open(name);
        let Method::Lora(lora) = case.lora() else { panic!("an adapter") };
        let dtypes = |model: &Model| -> BTreeMap<String, DType> {
            let shape = remat_model::BatchShape { batch: 1, seq_len: 4 };
            let graph = model.training(&Method::Qlora(lora.clone(), quant), shape).expect("a graph").graph;
            model.check_weights(&graph).unwrap_or_else(|error| panic!("{error}"));
            graph.values.into_iter().map(|value| (value.name, value.ty.dtype)).collect()
        };
        let (stored, loaded) = (open(&out), dtypes(&plain));
        let kept = dtypes(&stored);
        for linear in plain.linear_names() {
            let weight = format!("{linear}.weight");
            assert!(loaded[&weight].quant_format().is_some(), "{weight}");
            assert_eq!(kept[&weight].quant_format().is_some(), weight != left, "{name} {quant}: {weight}");
        }
        let [note] = stored.notes() else { panic!("{:?}", stored.notes()) };
        assert!(note.contains(&format!(" 1 of {} linears are not", plain.linear_names().len())), "{note}");
    }
}

#[test]
fn a_missing_tensor_is_told_with_the_nearest_that_are_there() {
    let missing = |gone: &'static str| {
        let dir = folder("mistral", &json!({}), |mut tensors| {
            tensors.remove(gone).expect("was there");
            tensors
        });
        let case = Case::open("mistral").with_model_of(dir.path());
        let graph = case.training(&case.full()).graph;
        let error: ModelError = case.model().check_weights(&graph).expect_err("incomplete");
        error.to_string().replace(&dir.path().display().to_string(), "DIR")
    };
    assert_eq!(
        missing("model.layers.1.mlp.up_proj.weight"),
        "DIR: tensor \"model.layers.1.mlp.up_proj.weight\" is missing: the files hold 20 tensors, the nearest by name \
         \"model.layers.0.mlp.up_proj.weight\", \"model.layers.1.mlp.down_proj.weight\", \
         \"model.layers.1.mlp.gate_proj.weight\"; they are incomplete or belong to another config.json"
    );
    let head = missing(HEAD);
    assert!(head.ends_with("if the head is the embedding, set tie_word_embeddings to true in config.json"), "{head}");
}

#[test]
fn weights_in_other_formats_are_refused_with_what_they_are() {
    let none = |name: &str, begins: &[u8]| {
        let dir = folder("llama-gqa-tied", &json!({}), |tensors| tensors);
        std::fs::remove_file(dir.path().join("model.safetensors")).expect("removed");
        std::fs::write(dir.path().join(name), begins).expect("written");
        refused(dir.path())
    };
    for (name, what) in [
        ("pytorch_model.bin", "pickle"),
        ("pytorch_model-00001-of-00002.bin", "pickle"),
        ("consolidated.00.pth", "pickle"),
        ("model.pt", "pickle"),
        ("model.ckpt", "pickle"),
        ("model-Q4_K_M.gguf", "llama.cpp"),
        ("tf_model.h5", "another framework"),
        ("flax_model.msgpack", "another framework"),
        ("model.onnx", "ONNX"),
    ] {
        let refused = none(name, b"");
        assert!(refused.contains(&format!("{name:?} is ")) && refused.contains(what), "{refused}");
        assert!(refused.contains("convert it: "), "{refused}");
    }
    for (begins, what) in [
        (&b"PK\x03\x04...."[..], "a PyTorch pickle file"),
        (b"\x80\x02......", "a PyTorch pickle file"),
        (b"GGUF\x03\0\0\0", "llama.cpp"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    ] {
        let refused = none("model.safetensors", begins);
        assert!(refused.starts_with("DIR/model.safetensors: is no safetensors file: it is "), "{refused}");
        assert!(refused.contains(what), "{refused}");
    }
    let other = none("model-00001-of-00002.safetensors", b"");
    assert!(other.contains("but \"model-00001-of-00002.safetensors\"; rename"), "{other}");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("model.gguf");
    std::fs::write(&file, "GGUF").expect("written");
    assert!(refused(&file).starts_with("DIR: is a model in llama.cpp's format, and no folder of a model"));
}
