//! Reading and writing safetensors files that are valid.

use crate::bytes::{entry, fixture, folder, message, safetensors};
use remat_formats::{
    FormatsError, NamedTensor, SafetensorsFile, TensorSpec, write_safetensors, write_safetensors_from,
};
use remat_tensor::{DType, HostTensor, Shape};
use std::path::{Path, PathBuf};

fn write(path: &Path, tensors: &[(&str, &HostTensor)], metadata: &[(&str, &str)]) -> Result<(), FormatsError> {
    let tensors: Vec<NamedTensor<'_>> = tensors
        .iter()
        .map(|(name, t)| NamedTensor { name, dtype: t.dtype(), shape: t.shape(), bytes: t.as_bytes() })
        .collect();
    write_safetensors(path, &tensors, metadata)
}

#[test]
fn what_is_written_is_read_back_for_every_dtype() {
    let dir = folder(&[]);
    let path = dir.path().join("t.safetensors");
    let tensors: Vec<(&str, HostTensor)> = DType::PLAIN
        .into_iter()
        .map(|dtype| (dtype.name(), HostTensor::from_f64([3, 1], dtype, &[1.0, 2.0, 250.0])))
        .chain([("empty", HostTensor::zeros([0, 4], DType::F32)), ("scalar", HostTensor::from_f32(vec![], vec![7.5]))])
        .collect();
    let borrowed: Vec<(&str, &HostTensor)> = tensors.iter().map(|(name, t)| (*name, t)).collect();
    write(&path, &borrowed, &[("format", "pt")]).expect("written");
    let file = SafetensorsFile::open(&path).expect("opened");
    assert_eq!(file.metadata()["format"], "pt");
    assert_eq!(file.file_bytes(), std::fs::metadata(&path).expect("there").len());
    let mut names: Vec<&str> = borrowed.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(file.names().collect::<Vec<_>>(), names);
    for (name, tensor) in &tensors {
        assert_eq!(&file.read(name).expect("read"), tensor, "{name}");
        let info = file.tensor_info(name).expect("listed");
        assert_eq!(info.offset % tensor.dtype().element_bytes().expect("plain") as u64, 0, "{name} is aligned");
    }
}

#[test]
fn the_header_is_padded_and_tensors_are_sorted() {
    let dir = folder(&[]);
    let path = dir.path().join("t.safetensors");
    let (b, a) = (HostTensor::from_f32([1], vec![2.0]), HostTensor::from_f32([1], vec![1.0]));
    write(&path, &[("b", &b), ("a", &a)], &[]).expect("written");
    let bytes = std::fs::read(&path).expect("there");
    let header = r#"{"a":{"data_offsets":[0,4],"dtype":"F32","shape":[1]},"b":{"data_offsets":[4,8],"dtype":"F32","shape":[1]}}"#;
    let padded = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    assert_eq!(bytes, safetensors(&padded, &[0, 0, 128, 63, 0, 0, 0, 64]));
}

#[test]
fn writing_refuses_what_could_not_be_read() {
    let dir = folder(&[("t.safetensors", b"before")]);
    let path = dir.path().join("t.safetensors");
    let one = HostTensor::from_f32([1], vec![1.0]);
    let twice = message(dir.path(), write(&path, &[("a", &one), ("a", &one)], &[]));
    assert_eq!(twice, r#"DIR/t.safetensors: tensor "a" would be written twice, or has a reserved name"#);
    let reserved = message(dir.path(), write(&path, &[("__metadata__", &one)], &[]));
    assert_eq!(reserved, r#"DIR/t.safetensors: tensor "__metadata__" would be written twice, or has a reserved name"#);
    let shape = Shape::new([2]);
    let short = NamedTensor { name: "a", dtype: DType::F32, shape: &shape, bytes: &[0; 4] };
    let short = message(dir.path(), write_safetensors(&path, &[short], &[]));
    assert_eq!(short, r#"DIR/t.safetensors: tensor "a" came with 4 bytes; f32 of shape [2] takes 8"#);
    let shape = Shape::new([usize::MAX, 2]);
    let huge = TensorSpec { name: "a", dtype: DType::F32, shape: &shape };
    let huge = message(dir.path(), write_safetensors_from::<FormatsError>(&path, &[huge], &[], &mut |_, _| Ok(())));
    assert!(huge.ends_with("does not fit a file"), "{huge}");
    // Nothing is left behind, and the file that was there is as it was.
    assert_eq!(std::fs::read(&path).expect("there"), b"before");
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1);
}

#[test]
fn a_source_streams_from_one_file_to_another() {
    let dir = folder(&[]);
    let (from, to) = (dir.path().join("from.safetensors"), dir.path().join("to.safetensors"));
    // Larger than the buffer, and not a multiple of it.
    let values: Vec<f32> = (0..300_001).map(|i| i as f32).collect();
    let large = HostTensor::from_f32([300_001], values.clone());
    let small = HostTensor::from_f64([2], DType::BF16, &[1.0, 2.0]);
    write(&from, &[("large", &large), ("small", &small)], &[]).expect("written");
    let source = SafetensorsFile::open(&from).expect("opened");
    let specs: Vec<TensorSpec<'_>> = source
        .names()
        .filter_map(|name| {
            let info = source.tensor_info(name)?;
            Some(TensorSpec { name, dtype: info.dtype?, shape: &info.shape })
        })
        .collect();
    let mut pieces = 0;
    write_safetensors_from(&to, &specs, &[], &mut |index, sink| {
        source.read_chunks(specs[index].name, &mut |piece| {
            pieces += 1;
            sink(piece)
        })
    })
    .expect("copied");
    assert!(pieces > 2, "the large tensor came in {pieces} pieces");
    assert_eq!(std::fs::read(&from).expect("there"), std::fs::read(&to).expect("there"));
    let mut widened = vec![0.0; 300_001];
    SafetensorsFile::open(&to).expect("opened").read_as_f32_into("large", &mut widened).expect("read");
    assert_eq!(widened, values);
}

#[test]
fn half_precision_is_widened_exactly() {
    let dir = folder(&[]);
    let path = dir.path().join("t.safetensors");
    let values = [0.0, -1.5, 3.140625, 1.0e-7, 65280.0, -65280.0];
    let f16 = HostTensor::from_f64([2, 3], DType::F16, &values);
    let bf16 = HostTensor::from_f64([6], DType::BF16, &values);
    write(&path, &[("f16", &f16), ("bf16", &bf16)], &[]).expect("written");
    let file = SafetensorsFile::open(&path).expect("opened");
    for (name, tensor) in [("f16", &f16), ("bf16", &bf16)] {
        let mut widened = [0.0f32; 6];
        file.read_as_f32_into(name, &mut widened).expect("read");
        assert_eq!(widened.map(f64::from).to_vec(), tensor.to_f64(), "{name}");
    }
    let mut short = [0.0f32; 5];
    let wrong = message(dir.path(), file.read_as_f32_into("f16", &mut short));
    assert_eq!(wrong, r#"DIR/t.safetensors: tensor "f16" has 6 elements, 5 are wanted"#);
    let absent = message(dir.path(), file.read("absent"));
    assert_eq!(absent, r#"DIR/t.safetensors: tensor "absent" is not in the file"#);
}

#[test]
fn a_parameter_that_is_no_number_is_named_with_its_element() {
    let dir = folder(&[]);
    let path = dir.path().join("t.safetensors");
    // Behind the first piece that a tensor is read in.
    let mut values = vec![0.5; 700_000];
    values[600_001] = f64::NEG_INFINITY;
    let tensors = [("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16)];
    let tensors = tensors.map(|(name, dtype)| (name, HostTensor::from_f64([700_000], dtype, &values)));
    write(&path, &tensors.each_ref().map(|(name, tensor)| (*name, tensor)), &[]).expect("written");
    let file = SafetensorsFile::open(&path).expect("opened");
    for (name, _) in &tensors {
        let start = format!("DIR/t.safetensors: tensor {name:?} holds -inf at element 600001: the file is damaged");
        let widened = message(dir.path(), file.read_as_f32_into(name, &mut vec![0.0; 700_000]));
        assert!(widened.starts_with(&start), "{widened}");
        let rounded = message(dir.path(), file.read_chunks_as_bf16(name, &mut |_| Ok(())));
        assert!(rounded.starts_with(&start), "{rounded}");
    }
}

#[test]
fn bf16_is_copied_and_the_others_are_rounded_to_it() {
    let dir = folder(&[]);
    let path = dir.path().join("t.safetensors");
    // A tie to even either way, above a tie, the smallest of f16, and what f16 cannot hold.
    let values = [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -1.00390726, 5.960464477539063e-8, 1e30, -1e30];
    let wanted = [1.0, 1.015625, -1.0078125, 5.960464477539063e-8, 1.0002555517425873e30, -1.0002555517425873e30];
    let f32 = HostTensor::from_f64([6], DType::F32, &values);
    let bf16 = HostTensor::from_f64([6], DType::BF16, &wanted);
    let f16 = HostTensor::from_f64([6], DType::F16, &[1.00390625, 1.01171875, -1.005859375, 5.96e-8, 65504.0, -0.0]);
    write(&path, &[("f32", &f32), ("bf16", &bf16), ("f16", &f16)], &[]).expect("written");
    let file = SafetensorsFile::open(&path).expect("opened");
    let read = |name: &str| {
        let mut rounded = Vec::new();
        let take = &mut |piece: &[half::bf16]| {
            rounded.extend(piece.iter().map(|x| x.to_f64()));
            Ok(())
        };
        file.read_chunks_as_bf16(name, take).expect("read");
        rounded
    };
    assert_eq!(read("f32"), wanted);
    assert_eq!(read("bf16"), wanted);
    assert_eq!(read("f16"), [1.0, 1.015625, -1.0078125, 5.960464477539063e-8, 65536.0, 0.0]);
}

#[test]
fn other_dtypes_hurt_only_who_reads_them() {
    let header = format!(
        "{{{},{},{},{}}}",
        entry("double", "F64", "[1]", 0, 8),
        entry("mask", "BOOL", "[2]", 8, 10),
        entry("nibbles", "F4", "[4]", 10, 12),
        entry("novel", "F2_E1M0", "[8]", 12, 14),
    );
    let dir = folder(&[("t.safetensors", &safetensors(&header, &[1; 14]))]);
    let file = SafetensorsFile::open(&dir.path().join("t.safetensors")).expect("opened");
    assert_eq!(file.tensor_info("double").map(|info| (info.dtype, &*info.stored)), Some((None, "F64")));
    let mut raw = Vec::new();
    let mut keep = |piece: &[u8]| {
        raw.extend_from_slice(piece);
        Ok(())
    };
    file.read_chunks("novel", &mut keep).expect("raw bytes can be had");
    assert_eq!(raw, [1, 1]);
    let unreadable = message(dir.path(), file.read("mask"));
    assert_eq!(unreadable, r#"DIR/t.safetensors: tensor "mask" is stored as "BOOL"; convert it to F32, F16 or BF16"#);
    let unreadable = message(dir.path(), file.read_as_f32_into("novel", &mut [0.0; 8]));
    assert_eq!(
        unreadable,
        r#"DIR/t.safetensors: tensor "novel" is stored as "F2_E1M0"; convert it to F32, F16 or BF16"#
    );
}

#[test]
fn a_file_cut_after_it_was_opened_is_an_error() {
    let dir = folder(&[]);
    let path = dir.path().join("t.safetensors");
    write(&path, &[("a", &HostTensor::zeros([64], DType::F32))], &[]).expect("written");
    let file = SafetensorsFile::open(&path).expect("opened");
    let handle = std::fs::File::options().write(true).open(&path).expect("there");
    handle.set_len(100).expect("cut");
    let cut = message(dir.path(), file.read("a"));
    let expected = "lies beyond the end of the file, which was cut since it was opened";
    assert_eq!(cut, format!("DIR/t.safetensors: tensor \"a\" {expected}"));
}

#[test]
fn a_file_that_claims_more_than_memory_is_an_error() {
    // Sparse: the file system stores a few kilobytes of it. More than a process can address, whatever the system grants.
    let bytes = 1u64 << 48;
    let header = format!("{{{}}}", entry("a", "U8", &format!("[{bytes}]"), 0, bytes));
    let sparse = |folder: &Path| {
        let dir = tempfile::tempdir_in(folder).ok()?;
        let path = dir.path().join("t.safetensors");
        std::fs::write(&path, safetensors(&header, &[])).ok()?;
        let handle = std::fs::File::options().write(true).open(&path).ok()?;
        handle.set_len(8 + header.len() as u64 + bytes).ok()?;
        Some((dir, path))
    };
    // Ext4 has no files of this size; where no folder takes one, there is no such threat to test.
    let folders = [PathBuf::from("/dev/shm"), std::env::temp_dir()];
    let Some((dir, path)) = folders.iter().find_map(|folder| sparse(folder)) else { return };
    let file = SafetensorsFile::open(&path).expect("the header is valid");
    let refused = message(dir.path(), file.read("a"));
    assert_eq!(refused, format!("DIR/t.safetensors: tensor \"a\" takes {bytes} bytes, more than there is memory"));
}

#[test]
fn files_of_the_reference_implementation_are_read() {
    let file = SafetensorsFile::open(&fixture("llama-gqa-tied/model.safetensors")).expect("opened");
    let info = file.tensor_info("model.embed_tokens.weight").expect("listed");
    assert_eq!((info.dtype, info.shape.dims()), (Some(DType::F32), &[160, 64][..]));
    let tensor = file.read("model.embed_tokens.weight").expect("read");
    assert!(tensor.to_f64().iter().any(|x| *x != 0.0));
}

/// The length comes first: its bytes may be those that a pickle or an archive begins with.
#[test]
fn a_header_of_any_length_is_read_and_a_pickle_is_told_all_the_same() {
    let dir = folder(&[]);
    let path = dir.path().join("t.safetensors");
    let one = HostTensor::from_f32(vec![1], vec![7.5]);
    let mut like_pickles = 0;
    for padding in (0..1600).step_by(8) {
        write(&path, &[("x", &one)], &[("padding", " ".repeat(padding).as_str())]).expect("written");
        let bytes = std::fs::read(&path).expect("there");
        like_pickles += usize::from(bytes[0] == 0x80 && (2..=5).contains(&bytes[1]));
        let file = SafetensorsFile::open(&path).unwrap_or_else(|error| panic!("{padding}: {error}"));
        assert_eq!(file.read("x").expect("read"), one);
    }
    assert_eq!(like_pickles, 4, "of 640, 896, 1152 and 1408 bytes");
    for protocol in 2..=5_u8 {
        for length in [8, 9, 900] {
            let mut bytes = vec![0; length];
            (bytes[0], bytes[1]) = (0x80, protocol);
            std::fs::write(&path, bytes).expect("written");
            let refused = SafetensorsFile::open(&path).expect_err("a pickle").to_string();
            assert!(refused.contains("it is a PyTorch pickle file"), "{refused}");
        }
    }
}
