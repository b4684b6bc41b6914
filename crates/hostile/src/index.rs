//! The index of a model of several files: what it names lies in the folder.

use crate::fixtures;
use remat_formats::ModelFiles;

const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
const TWO: &str =
    r#"{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"c":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#;

fn shard(header: &str) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![
        br#"{"metadata":{"total_size":16},"weight_map":{"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"}}"#.to_vec(),
        br#"{"weight_map":{"a":"one.safetensors"}}"#.to_vec(),
    ]
}

pub(crate) fn examine(input: &[u8]) {
    let folder = fixtures::folder(&[
        ("model/model.safetensors.index.json", input),
        ("model/one.safetensors", &shard(ONE)),
        ("model/two.safetensors", &shard(TWO)),
        ("one.safetensors", &shard(ONE)),
    ]);
    let model = folder.path().join("model");
    let files = match ModelFiles::open(&model) {
        Ok(files) => files,
        Err(error) => return crate::refusal::refused(&error),
    };
    for name in files.names() {
        let file = files.file_of(name).expect("a file for each name");
        assert_eq!(file.path().parent(), Some(model.as_path()), "{name} is taken from outside");
        files.read(name).expect("a tensor of files that were taken can be read");
    }
}
