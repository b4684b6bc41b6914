//! Tokenizers as transformers saves them.

use crate::bytes::{fixture, folder, message};
use proptest::prelude::*;
use remat_formats::Tokenizer;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::OnceLock;

/// `tokenizer.json` of a fixture.
fn tokenizer_json() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| std::fs::read_to_string(fixture("llama-gqa-tied/tokenizer.json")).expect("a fixture"))
}

/// A folder with a fixture's tokenizer and this configuration beside it.
fn with_config(config: &Value) -> tempfile::TempDir {
    folder(&[("tokenizer.json", tokenizer_json().as_bytes()), ("tokenizer_config.json", config.to_string().as_bytes())])
}

fn open(path: &Path) -> Tokenizer {
    Tokenizer::from_dir(path).expect("read")
}

/// What transformers 5.23 makes of a text: its ids without and with special tokens, and its text again.
fn check(case: &str, text: &str, ids: &[u32], before: &[u32], decoded: &str) {
    let tokenizer = open(&fixture(case));
    assert_eq!(tokenizer.encode(text, false).expect("encoded"), ids, "{case}: {text:?}");
    assert_eq!(tokenizer.encode(text, true).expect("encoded"), [before, ids].concat(), "{case}: {text:?}");
    assert_eq!(tokenizer.decode(ids, true).expect("decoded"), decoded, "{case}: {text:?}");
    assert!(ids.iter().all(|id| *id < tokenizer.id_limit()));
}

#[test]
fn ids_are_those_of_transformers() {
    let keeper = [137, 80, 63, 144, 68, 88, 105, 83, 98, 140, 68, 9, 80, 85, 98, 100, 72];
    check("llama-gqa-tied", "The keeper of the lamp, at last", &keeper, &[0], "The keeper of the lamp, at last");
    check("llama-gqa-tied", "", &[], &[0], "");
    let special = [53, 80, 91, 1, 57, 89, 67, 58, 72, 57, 76, 72];
    check("llama-gqa-tied", "a  b</s><|endoftext|>", &special, &[0], "a  bendoftext");
    check("gpt2", "a  b</s><|endoftext|>", &[52, 79, 90, 11, 70, 0], &[], "a  b/s");
    check("gpt2", " snow\n", &[85, 65, 93, 78], &[], " snow\n");
}

#[test]
fn spans_cover_the_text_they_stand_for() {
    let texts = ["The keeper  of the lamp,\n\n at last EOS a", "", " x", "EOSEOS", "Take time\n"];
    for (case, eos) in [("llama-gqa-tied", "</s>"), ("gpt2", "<|endoftext|>")] {
        let tokenizer = open(&fixture(case));
        for text in texts.map(|text| text.replace("EOS", eos)) {
            let text = text.as_str();
            let spans = tokenizer.encode_spans(text).expect("encoded").tokens;
            let ids: Vec<u32> = spans.iter().map(|(id, _)| *id).collect();
            assert_eq!(ids, tokenizer.encode(text, false).expect("encoded"), "{case}: {text:?}");
            let mut end = 0;
            for (id, range) in spans {
                assert_eq!(range.start, end, "{case}: {text:?}");
                end = range.end;
                let token = tokenizer.decode(&[id], false).expect("decoded");
                assert_eq!(token, text[range], "{case}: {text:?}");
            }
            assert_eq!(end, text.len(), "{case}: {text:?}");
        }
    }
}

#[test]
fn a_trimming_post_processor_does_not_move_spans() {
    let mut json: Value = serde_json::from_str(tokenizer_json()).expect("JSON");
    let trimming = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    json["post_processor"] = json!({"type": "Sequence", "processors": [trimming, json["post_processor"]]});
    let folder = folder(&[("tokenizer.json", json.to_string().as_bytes())]);
    let (plain, trimming) = (open(&fixture("llama-gqa-tied")), open(folder.path()));
    let text = "a lamp \n\n and </s> more";
    assert_eq!(trimming.encode_spans(text).expect("encoded").tokens, plain.encode_spans(text).expect("encoded").tokens);
    for add_special in [false, true] {
        let [ours, theirs] = [&trimming, &plain].map(|it| it.encode(text, add_special).expect("encoded"));
        assert_eq!(ours, theirs);
    }
}

#[test]
fn only_special_tokens_are_special() {
    let tokenizer = open(&fixture("llama-gqa-tied"));
    let id = |token: &str| tokenizer.token_to_id(token).expect("a token");
    assert!(tokenizer.is_special(id("<s>")) && tokenizer.is_special(id("</s>")));
    assert!(!tokenizer.is_special(id("a")) && !tokenizer.is_special(u32::MAX));
}

#[test]
fn special_tokens_are_found_by_their_names() {
    let tokenizer = open(&fixture("llama-gqa-tied"));
    let bos = tokenizer.bos().expect("a BOS");
    assert_eq!(tokenizer.id_to_token(bos).as_deref(), Some("<s>"));
    let eos = tokenizer.eos().expect("an EOS");
    assert_eq!(tokenizer.token_to_id("</s>"), Some(eos));
    let ids = tokenizer.encode("a</s>", false).expect("encoded");
    assert_eq!(ids.last(), Some(&eos), "a special token in a text is one token");
    assert_eq!(tokenizer.decode(&ids, true).expect("decoded"), "a");
    assert_eq!(tokenizer.decode(&ids, false).expect("decoded"), "a</s>");
    assert_eq!(tokenizer.token_to_id("no such token"), None);
    assert_eq!(tokenizer.id_to_token(u32::MAX), None);
}

#[test]
fn special_tokens_may_be_objects_or_stand_in_the_map() {
    let dir = with_config(&json!({ "bos_token": { "content": "<s>", "lstrip": false }, "pad_token": "</s>" }));
    let tokenizer = open(dir.path());
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (tokenizer.token_to_id("<s>"), None));
    assert_eq!(tokenizer.pad(), tokenizer.token_to_id("</s>"));
    std::fs::write(dir.path().join("special_tokens_map.json"), r#"{"eos_token":{"content":"</s>"}}"#).expect("written");
    assert_eq!(open(dir.path()).eos(), tokenizer.token_to_id("</s>"));
    let without = folder(&[("tokenizer.json", tokenizer_json().as_bytes())]);
    let tokenizer = open(without.path());
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.chat_templates().default.as_deref()), (None, None, None));
}

#[test]
fn an_eos_that_is_no_token_is_an_error() {
    let dir = with_config(&json!({ "eos_token": "<|im_end|>" }));
    let expected = r#"DIR/tokenizer_config.json: "eos_token" is "<|im_end|>", which tokenizer.json does not have"#;
    assert_eq!(message(dir.path(), Tokenizer::from_dir(dir.path())), expected);
    // A padding token is not needed here: rows are padded by position.
    let dir = with_config(&json!({ "pad_token": "[PAD]" }));
    assert_eq!(open(dir.path()).pad(), None);
}

#[test]
fn chat_templates_are_found_in_all_three_places() {
    let template = |config: &Value| open(with_config(config).path()).chat_templates().default.clone();
    assert_eq!(template(&json!({})), None);
    assert_eq!(template(&json!({ "chat_template": "{{ a }}" })).as_deref(), Some("{{ a }}"));
    let list =
        json!({ "chat_template": [{ "name": "tool", "template": "t" }, { "name": "default", "template": "d" }] });
    assert_eq!(template(&list).as_deref(), Some("d"));
    let dir = with_config(&json!({ "chat_template": "{{ a }}" }));
    std::fs::write(dir.path().join("chat_template.jinja"), "{{ file }}").expect("written");
    assert_eq!(open(dir.path()).chat_templates().default.as_deref(), Some("{{ file }}"));
}

#[test]
fn the_post_processor_alone_adds_special_tokens() {
    let mut json: Value = serde_json::from_str(tokenizer_json()).expect("JSON");
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": { "<s>": { "id": "<s>", "ids": [0], "tokens": ["<s>"] } },
    });
    let config = json!({ "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false, "add_eos_token": true });
    let dir = folder(&[
        ("tokenizer.json", json.to_string().as_bytes()),
        ("tokenizer_config.json", config.to_string().as_bytes()),
    ]);
    let tokenizer = open(dir.path());
    let plain = tokenizer.encode("hello", false).expect("encoded");
    let special = tokenizer.encode("hello", true).expect("encoded");
    assert_eq!(special, [&[0], &plain[..]].concat());
}

#[test]
fn truncation_and_padding_in_the_file_are_switched_off() {
    let mut json: Value = serde_json::from_str(tokenizer_json()).expect("JSON");
    json["truncation"] = json!({ "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0 });
    json["padding"] = json!({
        "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>",
    });
    let text = "a text that is certainly longer than four tokens, but shorter than 64";
    let dir = folder(&[("tokenizer.json", json.to_string().as_bytes())]);
    let expected = open(&fixture("llama-gqa-tied")).encode(text, false).expect("encoded");
    assert!(expected.len() > 4 && expected.len() != 64);
    assert_eq!(open(dir.path()).encode(text, false).expect("encoded"), expected);
}

#[test]
fn files_that_are_no_tokenizer_are_refused() {
    let dir = folder(&[]);
    let missing = message(dir.path(), Tokenizer::from_dir(dir.path()));
    assert!(missing.starts_with("DIR/tokenizer.json: does not exist; save the tokenizer"), "{missing}");
    for bytes in [&b""[..], b"{}", b"[]", b"\xff\xfe", b"{\"model\":{\"type\":\"BPE\"}}"] {
        let dir = folder(&[("tokenizer.json", bytes)]);
        let refused = message(dir.path(), Tokenizer::from_dir(dir.path()));
        assert!(refused.starts_with("DIR/tokenizer.json: is not a tokenizer file: "), "{refused}");
    }
    let dir = folder(&[("tokenizer.json", tokenizer_json().as_bytes()), ("tokenizer_config.json", b"{\"a\"")]);
    let refused = message(dir.path(), Tokenizer::from_dir(dir.path()));
    let expected = "DIR/tokenizer_config.json: is not valid JSON: EOF while parsing an object at line 1 column 4";
    assert_eq!(refused, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn mutated_tokenizers_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..3),
        text in ".{0,20}",
    ) {
        // Swap values of leaves for each other: what parses as JSON and is nonsense as a tokenizer.
        let mut json: Value = serde_json::from_str(tokenizer_json()).expect("JSON");
        let leaves = ["/model/type", "/model/unk_token", "/model/merges", "/model/vocab", "/added_tokens", "/normalizer",
            "/pre_tokenizer", "/post_processor", "/decoder", "/model/byte_fallback", "/added_tokens/0/id",
            "/added_tokens/0/content", "/truncation", "/version"];
        for (from, to) in &edits {
            let value = json.pointer(leaves[from.index(leaves.len())]).cloned().unwrap_or(json!(u64::MAX));
            if let Some(target) = json.pointer_mut(leaves[to.index(leaves.len())]) {
                *target = value;
            }
        }
        let dir = folder(&[("tokenizer.json", json.to_string().as_bytes())]);
        if let Ok(tokenizer) = Tokenizer::from_dir(dir.path())
            && let Ok(ids) = tokenizer.encode(&text, true)
        {
            let _ = tokenizer.decode(&ids, false);
        }
    }
}

#[test]
fn the_template_for_tools_is_found_in_a_list_and_beside_the_file() {
    let config = serde_json::json!({"chat_template": [
        {"name": "tool_use", "template": "{{ tools }}"}, {"name": "default", "template": "{{ messages }}"},
    ]});
    let dir = with_config(&config);
    let templates = open(dir.path()).chat_templates().clone();
    assert_eq!(templates.default.as_deref(), Some("{{ messages }}"));
    assert_eq!(templates.tool_use.as_deref(), Some("{{ tools }}"));
    // Files put the list aside, as in transformers.
    std::fs::write(dir.path().join("chat_template.jinja"), "{{ file }}").expect("written");
    let templates = open(dir.path()).chat_templates().clone();
    assert_eq!((templates.default.as_deref(), templates.tool_use), (Some("{{ file }}"), None));
    let more = dir.path().join("additional_chat_templates");
    std::fs::create_dir(&more).expect("made");
    std::fs::write(more.join("tool_use.jinja"), "{{ file_for_tools }}").expect("written");
    let templates = open(dir.path()).chat_templates().clone();
    assert_eq!(templates.tool_use.as_deref(), Some("{{ file_for_tools }}"));
}

/// A tokenizer file that is cut or changed anywhere gives an error, or one that works: nothing in between, and at once.
#[test]
fn changed_files_are_errors_or_tokenizers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity");
    // The library's panics become errors, and are not worth a line each here.
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !remat_formats::panic_is_caught() {
            shown(info);
        }
    }));
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("tokenizer.json");
    let try_bytes = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        let Ok(tokenizer) = Tokenizer::from_file(&path) else { return false };
        for text in ["the red box 12", "é\u{301}  \n", ""] {
            if let Ok(ids) = tokenizer.encode(text, true) {
                drop(tokenizer.decode(&ids, false));
            }
            drop(tokenizer.encode_spans(text));
        }
        true
    };
    let (mut opened, mut tried) = (0, 0);
    for (name, step) in [("llama-gqa-tied", 61), ("qwen3", 67), ("gpt2", 71)] {
        let whole = std::fs::read(root.join(name).join("tokenizer.json")).expect("read");
        assert!(try_bytes(&whole), "{name}");
        for at in (0..whole.len()).step_by(step) {
            assert!(!try_bytes(&whole[..at]), "{name}: the first {at} bytes are no file");
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 7);
            opened += usize::from(try_bytes(&flipped));
            tried += 1;
        }
    }
    assert!(tried > 250 && opened > 5, "{opened} of {tried} changed files are tokenizers");
}
