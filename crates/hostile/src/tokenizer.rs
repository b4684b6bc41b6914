//! `tokenizer.json`: a tokenizer that is taken encodes any text, or says why not, and decodes what it encoded.

use crate::fixtures;
use remat_formats::Tokenizer;

const TEXTS: &[&str] =
    &["", "hello hello", " Größe: 12,5 µm <s>[INST]", "\u{1F600}\u{200D}\0\r\n\t", "<|im_start|>x<|im_end|>"];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    fixtures::all("tokenizers", ".tokenizer.json")
}

pub(crate) fn examine(input: &[u8]) {
    let folder = fixtures::folder(&[("tokenizer.json", input)]);
    let tokenizer = match Tokenizer::from_file(&folder.path().join("tokenizer.json")) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return crate::refusal::refused(&error),
    };
    for text in TEXTS {
        match tokenizer.encode(text, true) {
            Err(error) => crate::refusal::refused(&error),
            Ok(ids) => {
                assert!(ids.iter().all(|&id| id < tokenizer.id_limit()), "{ids:?} of {text:?}");
                if let Err(error) = tokenizer.decode(&ids, false) {
                    crate::refusal::refused(&error);
                }
            }
        }
    }
}
