//! Model folders: one file, shards, and folders that are none.

use crate::bytes::{entry, fixture, folder, message, safetensors};
use remat_formats::ModelFiles;
use remat_tensor::DType;

const INDEX: &str = "model.safetensors.index.json";

fn shard(name: &str) -> Vec<u8> {
    safetensors(&format!("{{{}}}", entry(name, "F32", "[1]", 0, 4)), &1.5f32.to_le_bytes())
}

/// Asserts what is said of a folder of one shard `s.safetensors`, which holds the tensor `a`, with this index.
fn check(index: &str, expected: &str) {
    let dir = folder(&[(INDEX, index.as_bytes()), ("s.safetensors", &shard("a"))]);
    assert_eq!(message(dir.path(), ModelFiles::open(dir.path())), expected);
}

#[test]
fn shards_are_one_model() {
    let index = br#"{"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#;
    let dir = folder(&[(INDEX, index), ("1.safetensors", &shard("a")), ("2.safetensors", &shard("b"))]);
    let files = ModelFiles::open(dir.path()).expect("opened");
    assert_eq!(files.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(files.held().count(), 2);
    let mut value = [0.0];
    files.read_as_f32_into("b", &mut value).expect("read");
    assert_eq!(value, [1.5]);
    assert_eq!(files.read("a").expect("read").to_f64(), [1.5]);
    assert_eq!(message(dir.path(), files.read("c")), r#"DIR: tensor "c" is in none of the model's files"#);
}

#[test]
fn folders_of_the_reference_implementation_are_read() {
    let sharded = ModelFiles::open(&fixture("llama-rope3-bias")).expect("opened");
    assert_eq!(sharded.held().count(), 3);
    assert_eq!(sharded.tensor_info("lm_head.weight").and_then(|info| info.dtype), Some(DType::BF16));
    let single = ModelFiles::open(&fixture("gpt2")).expect("opened");
    assert_eq!(single.held().count(), 1);
    for files in [sharded, single] {
        let names: Vec<&str> = files.names().collect();
        assert!(names.len() > 20);
        for name in names {
            let elements = files.tensor_info(name).expect("listed").shape.numel();
            files.read_as_f32_into(name, &mut vec![0.0; elements]).expect("read");
        }
    }
}

#[test]
fn an_index_cannot_leave_its_folder() {
    for name in ["../s.safetensors", "/etc/passwd", "x/s.safetensors", "..", ".", "", "x\\\\s", "s\\u0000"] {
        let index = format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#);
        let dir = folder(&[(INDEX, index.as_bytes()), ("s.safetensors", &shard("a"))]);
        let refused = message(dir.path(), ModelFiles::open(dir.path()));
        let expected = r#"DIR/model.safetensors.index.json: "a" must name a file in the same folder, not "#;
        assert!(refused.starts_with(expected), "{refused}");
    }
}

#[test]
fn an_index_that_does_not_match_is_refused() {
    check(
        r#"{"weight_map":{"a":"s.safetensors","b":"s.safetensors"}}"#,
        r#"DIR/s.safetensors: tensor "b" is listed in the index but is not in the file; download both again"#,
    );
    check(
        r#"{"weight_map":{"a":"t.safetensors"}}"#,
        "DIR/t.safetensors: does not exist; model.safetensors.index.json lists this shard; download it into the folder",
    );
    let none =
        r#"DIR/model.safetensors.index.json: "weight_map" lists no tensors; it maps tensor names to shard files"#;
    check("{}", none);
    check(r#"{"weight_map":{}}"#, none);
    check(
        r#"{"weight_map":{"a":"s.safetensors","a":"t.safetensors"}}"#,
        "DIR/model.safetensors.index.json: is not valid JSON: the key \"a\" occurs twice at line 1 column 55",
    );
    check(
        r#"{"weight_map":{"a":3}}"#,
        "DIR/model.safetensors.index.json: is not valid JSON: invalid type: integer `3`, expected a string at line 1 column 20",
    );
    check("{", "DIR/model.safetensors.index.json: is not valid JSON: EOF while parsing an object at line 1 column 1");
}

#[test]
fn folders_without_safetensors_say_what_to_do() {
    let dir = folder(&[]);
    let nothing = "holds neither model.safetensors nor model.safetensors.index.json; give the folder of a model";
    assert_eq!(message(dir.path(), ModelFiles::open(dir.path())), format!("DIR: {nothing}"));
    let absent = message(dir.path(), ModelFiles::open(&dir.path().join("absent")));
    assert_eq!(absent, "DIR/absent: does not exist; give the folder of a model as Hugging Face writes it");
    for pickle in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let dir = folder(&[(pickle, b"")]);
        let refused = message(dir.path(), ModelFiles::open(dir.path()));
        assert!(refused.contains("pickle") && refused.contains("safe_serialization=True"), "{refused}");
    }
}

#[test]
fn a_link_to_nothing_is_named() {
    let dir = folder(&[]);
    std::os::unix::fs::symlink("gone", dir.path().join("model.safetensors")).expect("linked");
    let refused = message(dir.path(), ModelFiles::open(dir.path()));
    assert_eq!(refused, "DIR/model.safetensors: does not exist; check the path, or download the file again");
}
