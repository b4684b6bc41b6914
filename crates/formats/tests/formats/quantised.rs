//! int8 weights as bitsandbytes stores them: what a file says, and files that are wrong. (NF4 is tested with whole models.)

use crate::bytes::{entry, folder, message, safetensors};
use remat_formats::{ModelFiles, PartContent, quantised_parts};
use remat_tensor::into_bytes;
use remat_tensor::{DType, QuantFormat, Shape};

const CODES: [u8; 6] = [127, 0, 129, 1, 2, 127];

/// Reads the weight `a.weight` of a file with these tensors: name, dtype, shape and bytes.
fn read(tensors: &[(&str, &str, &str, &[u8])]) -> Result<Option<Vec<u8>>, String> {
    let (mut data, mut entries) = (Vec::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let begin = data.len() as u64;
        data.extend_from_slice(bytes);
        entries.push(entry(name, dtype, shape, begin, data.len() as u64));
    }
    let file = safetensors(&format!("{{{}}}", entries.join(",")), &data);
    let dir = folder(&[("model.safetensors", &file)]);
    let files = ModelFiles::open(dir.path()).expect("opened");
    let info = match files.quantised_info("a.weight") {
        Ok(None) => return Ok(None),
        Ok(Some(info)) => info,
        refused => return Err(message(dir.path(), refused)),
    };
    assert_eq!(info.format, QuantFormat::Int8);
    let mut bytes = vec![0; info.format.bytes(&info.shape).expect("small")];
    files.read_quantised("a.weight", &info, &mut into_bytes(&mut bytes)).expect("read");
    Ok(Some(bytes))
}

#[test]
fn codes_are_followed_by_a_scale_per_row() {
    let scales = [1.5f32, 2.5].map(f32::to_le_bytes).concat();
    let whole: [(&str, &str, &str, &[u8]); 3] =
        [("a.weight", "I8", "[2,3]", &CODES), ("a.SCB", "F32", "[2]", &scales), ("a.weight_format", "U8", "[]", &[0])];
    let wanted = [&CODES[..], &scales].concat();
    assert_eq!(read(&whole), Ok(Some(wanted.clone())));
    assert_eq!(read(&whole[..2]), Ok(Some(wanted)), "old files do not say the order");
    let plain: (&str, &str, &str, &[u8]) = ("a.weight", "F16", "[3]", &CODES);
    assert_eq!(read(&[plain]), Ok(None));
}

#[test]
fn what_is_wrong_is_named() {
    let scales = [1.5f32, 2.5].map(f32::to_le_bytes).concat();
    let codes: (&str, &str, &str, &[u8]) = ("a.weight", "I8", "[2,3]", &CODES);
    let scb: (&str, &str, &str, &[u8]) = ("a.SCB", "F32", "[2]", &scales);
    let refused = |tensors: &[_]| read(tensors).expect_err("refused");
    assert_eq!(refused(&[codes]), r#"DIR: tensor "a.SCB" is missing: the quantised weight is incomplete"#);
    let short = ("a.SCB", "F32", "[1]", &scales[..4]);
    assert_eq!(refused(&[codes, short]), r#"DIR: tensor "a.SCB" has 4 bytes; a weight of shape [2, 3] takes 8"#);
    let flat = ("a.weight", "I8", "[6]", &CODES[..]);
    assert_eq!(refused(&[flat, scb]), r#"DIR: tensor "a.weight" has shape [6] in int8; a weight has two axes"#);
    for (shape, bytes) in [("[]", &[1u8][..]), ("[2]", &[0, 0])] {
        let message = refused(&[codes, scb, ("a.weight_format", "U8", shape, bytes)]);
        assert!(message.starts_with(r#"DIR: tensor "a.weight_format" says that codes are not in rows"#), "{message}");
    }
}

#[test]
fn parts_are_written_under_the_names_they_are_read_by() {
    let shape = Shape::from([2, 3]);
    let parts = quantised_parts("a.weight", &shape, QuantFormat::Int8, DType::BF16, &[]);
    let named: Vec<_> = parts.iter().map(|part| (part.name.as_str(), part.dtype, part.shape.to_string())).collect();
    assert_eq!(
        named,
        [
            ("a.weight", DType::I8, "[2, 3]".to_string()),
            ("a.SCB", DType::F32, "[2]".to_string()),
            ("a.weight_format", DType::U8, "[]".to_string())
        ]
    );
    assert_eq!((&parts[0].content, &parts[1].content), (&PartContent::Range(0..6), &PartContent::Range(6..14)));
}
