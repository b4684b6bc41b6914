//! Safetensors files that are not what they claim: each is refused at `open`, by name, without panic.

use crate::bytes::{entry, folder, message, safetensors};
use proptest::prelude::*;
use remat_formats::SafetensorsFile;

/// Asserts what `open` says of a file's bytes.
fn check(bytes: &[u8], expected: &str) {
    let dir = folder(&[("t.safetensors", bytes)]);
    let found = message(dir.path(), SafetensorsFile::open(&dir.path().join("t.safetensors")));
    let expected = match expected.strip_prefix("! ") {
        Some(whole) => format!("DIR/t.safetensors: {whole}"),
        None => format!("DIR/t.safetensors: not a valid safetensors file: {expected}; download or save it again"),
    };
    assert_eq!(found, expected);
}

fn one(dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!("{{{}}}", entry("a", dtype, shape, begin, end))
}

#[test]
fn header_lengths() {
    check(b"", "0 bytes are too few for a header, the file is truncated");
    check(&[2, 0, 0, 0, 0, 0, 0], "7 bytes are too few for a header, the file is truncated");
    for length in [1 << 63, u64::MAX, u64::MAX - 7, 100_000_001] {
        let mut bytes = safetensors("{}", b"");
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        check(&bytes, &format!("the header length {length} exceeds 100000000"));
    }
    let mut bytes = safetensors("{}", b"");
    bytes[0] = 3;
    check(&bytes, "the header is 3 bytes, the file 10, it is truncated");
    bytes[..8].copy_from_slice(&99_999_999u64.to_le_bytes());
    check(&bytes, "the header is 99999999 bytes, the file 10, it is truncated");
    check(&safetensors("", b""), "the header does not start with '{'");
}

#[test]
fn header_texts() {
    check(&safetensors(" {}", b""), "the header does not start with '{'");
    check(&safetensors("[]", b""), "the header does not start with '{'");
    check(&safetensors("{\"a\":", b""), "header: EOF while parsing a value at line 1 column 5");
    check(&safetensors("{} x", b""), "header: trailing characters at line 1 column 4");
    let mut bytes = safetensors("{\"a?\":0}", b"");
    bytes[11] = 0xff;
    check(&bytes, "the header is not UTF-8 text: byte 3 begins no character");
    check(
        &safetensors(r#"{"a":7}"#, b""),
        "header: invalid type: integer `7`, expected struct Entry at line 1 column 6",
    );
    check(
        &safetensors(r#"{"a":{"dtype":"U8","shape":[0]}}"#, b""),
        "header: missing field `data_offsets` at line 1 column 31",
    );
    let metadata = safetensors(r#"{"__metadata__":{"a":1}}"#, b"");
    check(&metadata, "header: invalid type: integer `1`, expected a string at line 1 column 22");
}

#[test]
fn duplicate_keys() {
    let a = entry("a", "U8", "[1]", 0, 1);
    check(&safetensors(&format!("{{{a},{a}}}"), &[0]), r#"header: "a" occurs twice at line 1 column 105"#);
    let twice = r#"{"__metadata__":{},"__metadata__":{}}"#;
    check(&safetensors(twice, b""), r#"header: "__metadata__" occurs twice at line 1 column 37"#);
    let inside = r#"{"__metadata__":{"k":"1","k":"2"}}"#;
    check(&safetensors(inside, b""), r#"header: the key "k" occurs twice at line 1 column 33"#);
    let field = r#"{"a":{"dtype":"U8","dtype":"F32","shape":[1],"data_offsets":[0,1]}}"#;
    check(&safetensors(field, &[0]), "header: duplicate field `dtype` at line 1 column 26");
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let dir = folder(&[("t.safetensors", &safetensors(&deep, b""))]);
    let refused = message(dir.path(), SafetensorsFile::open(&dir.path().join("t.safetensors")));
    assert!(refused.contains("header: "), "{refused}");
    let ignored = format!(
        r#"{{"a":{{"x":{}1{},"dtype":"U8","shape":[0],"data_offsets":[0,0]}}}}"#,
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    let dir = folder(&[("t.safetensors", &safetensors(&ignored, b""))]);
    // An unknown key is passed over, as by the reference implementation; what counts is that the stack holds.
    let _ = SafetensorsFile::open(&dir.path().join("t.safetensors"));
    let axes = format!("[{}1]", "1,".repeat(64));
    let too_many = safetensors(&one("U8", &axes, 0, 1), &[0]);
    let dir = folder(&[("t.safetensors", &too_many)]);
    let refused = message(dir.path(), SafetensorsFile::open(&dir.path().join("t.safetensors")));
    assert!(refused.contains("a shape has more than 64 axes"), "{refused}");
}

#[test]
fn shapes() {
    check(&safetensors(&one("F32", "[2]", 0, 4), &[0; 4]), r#"tensor "a": shape [2] of F32 does not take 4 bytes"#);
    check(&safetensors(&one("F4", "[3]", 0, 2), &[0; 2]), r#"tensor "a": shape [3] of F4 does not take 2 bytes"#);
    let huge = u64::MAX;
    let counted = format!(r#"tensor "a": shape [{huge}, 2] has more elements than can be counted"#);
    check(&safetensors(&one("U8", &format!("[{huge},2]"), 0, 8), &[0; 8]), &counted);
    // An element count that wraps to 0 bytes.
    let wraps = format!(r#"tensor "a": shape [{}] of F32 does not take 0 bytes"#, 1u64 << 62);
    check(&safetensors(&one("F32", &format!("[{}]", 1u64 << 62), 0, 0), &[]), &wraps);
    let fraction = safetensors(&one("U8", "[1.5]", 0, 1), &[0]);
    check(&fraction, "header: invalid type: floating point `1.5`, expected usize at line 1 column 31");
    let negative = safetensors(&one("U8", "[-1]", 0, 1), &[0]);
    check(&negative, "header: invalid value: integer `-1`, expected usize at line 1 column 30");
}

#[test]
fn offsets() {
    check(&safetensors(&one("U8", "[1]", 2, 1), &[0]), r#"tensor "a": "data_offsets" end before they begin"#);
    check(&safetensors(&one("U8", "[1]", u64::MAX - 1, u64::MAX), &[0]), r#"tensor "a": "data_offsets" overflow"#);
    let start = 8 + one("U8", "[1]", u64::MAX, u64::MAX).len() as u64;
    let end = u64::MAX - start + 1;
    check(&safetensors(&one("U8", "[1]", end - 1, end), &[0]), r#"tensor "a": "data_offsets" overflow"#);
    let pair = |first: (u64, u64), second: (u64, u64)| {
        let a = entry("a", "U8", &format!("[{}]", first.1 - first.0), first.0, first.1);
        let b = entry("b", "U8", &format!("[{}]", second.1 - second.0), second.0, second.1);
        format!("{{{a},{b}}}")
    };
    check(&safetensors(&pair((0, 4), (2, 6)), &[0; 6]), r#"tensor "b" overlaps the one before it"#);
    check(&safetensors(&pair((0, 4), (0, 4)), &[0; 4]), r#"tensor "b" overlaps the one before it"#);
    check(&safetensors(&pair((0, 4), (5, 8)), &[0; 8]), r#"there is a hole of 1 bytes before tensor "b""#);
    check(&safetensors(&pair((1, 4), (4, 8)), &[0; 8]), r#"there is a hole of 1 bytes before tensor "a""#);
    check(&safetensors(&pair((0, 4), (4, 8)), &[0; 9]), "1 bytes follow the last tensor");
    check(&safetensors("{}", &[0; 3]), "3 bytes follow the last tensor");
    let truncated = safetensors(&pair((0, 4), (4, 8)), &[0; 7]);
    let (wants, has) = (truncated.len() + 1, truncated.len());
    check(&truncated, &format!("the tensors need {wants} bytes, the file has {has}, it is truncated"));
}

#[test]
fn names_cannot_steer_a_terminal() {
    let header = format!("{{{}}}", entry("a\\u001b[2J", "U8", "[2]", 0, 1));
    check(&safetensors(&header, &[0]), r#"tensor "a\u{1b}[2J": shape [2] of U8 does not take 1 bytes"#);
    let long = format!("{{{}}}", entry(&"x".repeat(10_000), "U8", "[2]", 0, 1));
    let dir = folder(&[("t.safetensors", &safetensors(&long, &[0]))]);
    assert!(message(dir.path(), SafetensorsFile::open(&dir.path().join("t.safetensors"))).len() < 400);
}

#[test]
fn every_truncation_of_a_valid_file_is_refused() {
    let header = format!("{{{},{}}}  ", entry("a", "F32", "[2]", 0, 8), entry("b", "U8", "[3]", 8, 11));
    let bytes = safetensors(&header, &[7; 11]);
    let dir = folder(&[("t.safetensors", &bytes)]);
    let path = dir.path().join("t.safetensors");
    assert!(SafetensorsFile::open(&path).is_ok());
    for length in 0..bytes.len() {
        std::fs::write(&path, &bytes[..length]).expect("written");
        let refused = message(dir.path(), SafetensorsFile::open(&path));
        assert!(refused.contains("truncated"), "{length} bytes: {refused}");
    }
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let dir = folder(&[]);
    let missing = message(dir.path(), SafetensorsFile::open(&dir.path().join("t.safetensors")));
    assert_eq!(missing, "DIR/t.safetensors: does not exist; check the path, or download the file again");
    // The second has no end: opening it must not read it.
    for path in [dir.path(), "/dev/zero".as_ref()] {
        let refused = SafetensorsFile::open(path).expect_err("an error").to_string();
        assert!(refused.ends_with("is not a regular file; give the path of a file"), "{refused}");
    }
    // A pipe that nobody writes to, and a socket.
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
    assert!(made.success());
    let socket = dir.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    for path in [&pipe, &socket] {
        for error in [remat_formats::open_file(path).map(drop), remat_formats::read_file(path, 9).map(drop)] {
            assert!(error.expect_err("an error").to_string().contains("is not a regular file"));
        }
    }
    drop(listener);
    let large = dir.path().join("large");
    std::fs::write(&large, [b'a'; 10]).expect("written");
    assert_eq!(remat_formats::read_file(&large, 10).expect("small enough").len(), 10);
    let error = remat_formats::read_file(&large, 9).expect_err("too large").to_string();
    assert_eq!(error, "holds 10 bytes, more than the 9 such a file may have");
}

/// Opens bytes as a file and reads every tensor in every way. Nothing is asserted but that this returns, and that a file
/// which opens has tensors that lie in it.
fn survive(bytes: &[u8]) {
    let dir = folder(&[("t.safetensors", bytes)]);
    let Ok(file) = SafetensorsFile::open(&dir.path().join("t.safetensors")) else { return };
    for name in file.names() {
        let info = file.tensor_info(name).expect("listed");
        assert!(info.offset + info.bytes <= bytes.len() as u64);
        let mut count = 0;
        let mut sum = |piece: &[u8]| {
            count += piece.len() as u64;
            Ok(())
        };
        file.read_chunks(name, &mut sum).expect("inside the file");
        assert_eq!(count, info.bytes);
        assert_eq!(file.read(name).is_ok(), info.dtype.is_some(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        survive(&bytes);
    }

    #[test]
    fn random_headers_are_survived(header in r#"\{("[ab_]{1,2}":\{"dtype":"(F32|U8|I64|X)","shape":\[[0-9]{0,3}\],"data_offsets":\[[0-9],[0-9]\]\},?){0,3}\}"#) {
        survive(&safetensors(&header, &[0; 8]));
    }

    #[test]
    fn mutations_of_a_valid_file_are_survived(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>()) {
        let header = format!(
            "{{\"__metadata__\":{{\"format\":\"pt\"}},{},{}}}",
            entry("a", "F32", "[2,1]", 0, 8),
            entry("b", "BF16", "[3]", 8, 14),
        );
        let mut bytes = safetensors(&header, &[9; 14]);
        for (at, byte) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        survive(&bytes);
        survive(&bytes[..cut.index(bytes.len())]);
    }
}
