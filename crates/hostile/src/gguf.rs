//! The header of GGUF files.

use crate::fixtures;
use remat_formats::GgufHeader;

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A file of version 3 with a text, a number, a list of texts and one tensor.
/// Source: ggml's description of the format, docs/gguf.md.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let (uint32, string, array) = (4u32.to_le_bytes(), 8u32.to_le_bytes(), 9u32.to_le_bytes());
    let entry = |key: &str, kind: &[u8], value: &[u8]| [&text(key)[..], kind, value].concat();
    let tokens = [&string[..], &2u64.to_le_bytes(), &text("a"), &text("b")].concat();
    let entries = [
        entry("general.architecture", &string, &text("llama")),
        entry("general.alignment", &uint32, &32u32.to_le_bytes()),
        entry("tokenizer.ggml.tokens", &array, &tokens),
    ];
    let tensor = [&text("output.weight")[..], &2u32.to_le_bytes(), &4u64.to_le_bytes(), &2u64.to_le_bytes(), &[0; 12]];
    let head = [&b"GGUF"[..], &3u32.to_le_bytes(), &1u64.to_le_bytes(), &3u64.to_le_bytes()].concat();
    let described = [head, entries.concat(), tensor.concat()].concat();
    let padding = vec![0; described.len().next_multiple_of(32) - described.len()];
    vec![[described, padding, vec![0; 32]].concat()]
}

pub(crate) fn examine(input: &[u8]) {
    let folder = fixtures::folder(&[("model.gguf", input)]);
    if let Err(error) = GgufHeader::read(&folder.path().join("model.gguf")) {
        crate::refusal::refused(&error);
    }
}
