//! Files of tensors: a file that is taken is read whole, and its tensors lie within it.

use crate::fixtures;
use remat_formats::SafetensorsFile;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let header = |text: &str, data: &[u8]| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat();
    vec![
        header("{}", b""),
        header(r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#, &[0; 16]),
        header(
            r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},"c":{"dtype":"U8","shape":[],"data_offsets":[6,7]},"d":{"dtype":"I64","shape":[0,5],"data_offsets":[7,7]}}"#,
            &[1; 7],
        ),
        fixtures::bytes("parity/llama-gqa-tied/adapter/adapter_model.safetensors"),
    ]
}

pub(crate) fn examine(input: &[u8]) {
    let folder = fixtures::folder(&[("model.safetensors", input)]);
    let file = match SafetensorsFile::open(&folder.path().join("model.safetensors")) {
        Ok(file) => file,
        Err(error) => return crate::refusal::refused(&error),
    };
    let mut total = 0;
    for name in file.names() {
        let mut read = 0;
        let whole = file.read_chunks(name, &mut |bytes| {
            read += bytes.len();
            Ok(())
        });
        whole.expect("a tensor of a file that was taken can be read");
        total += read;
    }
    assert!(total <= input.len(), "{total} bytes of tensors in a file of {}", input.len());
}
