//! NF4 held bit for bit to what bitsandbytes makes of the same tensors (`fixtures/nf4.py`).

mod cases;

use cases::{bits, floats};
use remat_tensor::nf4::{BLOCK, MAP, Nf4Layout, ScaleKind, nested_map};
use remat_tensor::{DType, HostTensor, NotFinite, QuantFormat, QuantisedData, Quantiser, Shape, into_bytes};
use safetensors::SafeTensors;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/nf4/cases.safetensors");

fn quantise(values: &[f32], kind: ScaleKind) -> Result<QuantisedData, NotFinite> {
    QuantisedData::quantise(QuantFormat::Nf4(kind), [values.len()], values)
}

fn layout(tensor: &QuantisedData) -> Nf4Layout {
    let QuantFormat::Nf4(kind) = tensor.format() else { panic!("{:?}", tensor.format()) };
    Nf4Layout::new(tensor.shape().numel(), kind).expect("small")
}

fn part(tensor: &QuantisedData, range: &std::ops::Range<usize>) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(&tensor.bytes()[range.clone()])
}

#[test]
fn every_case_is_quantised_and_decoded_as_by_bitsandbytes() {
    let bytes = std::fs::read(FILE).expect("the fixture");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    assert_eq!(bits(&floats(&file, "map")), bits(&MAP));
    assert_eq!(bits(&floats(&file, "nested_map")), bits(nested_map()));
    let cases: Vec<&str> = file.names().into_iter().filter_map(|name| name.strip_suffix(".input")).collect();
    assert_eq!(cases.len(), 19);
    for case in cases {
        let of = |what: &str| format!("{case}.{what}");
        let stored = |what: &str| file.tensor(&of(what)).expect("recorded").data().to_vec();
        let values = floats(&file, &of("input"));
        let nested = quantise(&values, ScaleKind::Nested).expect("finite");
        let layout = layout(&nested);
        assert_eq!(nested.bytes()[layout.codes.clone()], stored("codes"), "{case}: codes");
        let (got, want) = (part(&nested, &layout.offset), floats(&file, &of("offset")));
        assert_eq!(bits(&got), bits(&want), "{case}: offset {got:?}, not {want:?}");
        assert_eq!(
            bits(&part(&nested, &layout.nested_absmax)),
            bits(&floats(&file, &of("nested_absmax"))),
            "{case}: nested scales"
        );
        assert_eq!(nested.bytes()[layout.absmax.clone()], stored("absmax"), "{case}: scales");
        let single = quantise(&values, ScaleKind::Single).expect("finite");
        let single_layout = self::layout(&single);
        assert_eq!(single.bytes()[single_layout.codes.clone()], stored("codes"), "{case}: codes of single scales");
        let got = part(&single, &single_layout.absmax);
        assert_eq!(bits(&got), bits(&floats(&file, &of("single_absmax"))), "{case}: single scales");
        if file.tensor(&of("decoded")).is_ok() {
            assert_eq!(bits(&nested.to_f32()), bits(&floats(&file, &of("decoded"))), "{case}: decoded");
            let want = floats(&file, &of("single_decoded"));
            assert_eq!(bits(&single.to_f32()), bits(&want), "{case}: decoded with single scales");
        }
    }
}

/// The offset of single-element blocks is the mean of the elements: the numbers of `numbers` in the script.
#[test]
fn means_of_any_length_have_the_bits_of_torch() {
    let bytes = std::fs::read(FILE).expect("the fixture");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let names: Vec<String> =
        file.names().into_iter().filter(|name| name.starts_with("mean.")).map(str::to_string).collect();
    assert_eq!(names.len(), 13);
    for name in names {
        let count: u64 = name["mean.".len()..].parse().expect("a count");
        // Each number is the largest magnitude of a block of its own.
        let mut values = vec![0.0f32; count as usize * BLOCK];
        for index in 0..count {
            let number = ((index * 2_654_435_761) as u32 >> 8) as f32 / (1u32 << 24) as f32;
            values[index as usize * BLOCK + index as usize % BLOCK] = -number;
        }
        let tensor = quantise(&values, ScaleKind::Nested).expect("finite");
        let offset = part(&tensor, &layout(&tensor).offset);
        assert_eq!(bits(&offset), bits(&floats(&file, &name)), "{name}: {offset:?}");
    }
}

#[test]
fn pieces_of_any_length_give_the_same_bytes() {
    let values: Vec<f32> = (0..1000).map(|index| ((index * 37 % 101) as f32 - 50.0) / 77.0).collect();
    let whole = quantise(&values, ScaleKind::Nested).expect("finite");
    let mut quantiser = Quantiser::new();
    for piece in [1, 7, 63, 64, 65, 200, 999] {
        let mut bytes = vec![0; whole.bytes().len()];
        let mut write = into_bytes(&mut bytes);
        let mut tensor = quantiser.begin(whole.format(), whole.shape(), &mut write);
        values.chunks(piece).for_each(|piece| tensor.push(piece).expect("finite"));
        tensor.finish();
        drop(write);
        assert_eq!(bytes, whole.bytes(), "pieces of {piece}");
    }
}

#[test]
fn decoding_may_start_anywhere() {
    let values: Vec<f32> = (0..301).map(|index| (index as f32 * 0.7).sin()).collect();
    for kind in [ScaleKind::Single, ScaleKind::Nested] {
        let tensor = quantise(&values, kind).expect("finite");
        let whole = tensor.to_f32();
        for (first, count) in [(0, 1), (1, 2), (63, 2), (64, 64), (65, 130), (300, 1), (301, 0)] {
            let mut some = vec![f32::NAN; count];
            tensor.view().decode(first, &mut some);
            assert_eq!(bits(&some), bits(&whole[first..first + count]), "{count} from {first}");
        }
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused_where_they_stand() {
    for (bad, at) in [(f32::NAN, 0), (f32::INFINITY, 70), (f32::NEG_INFINITY, 99)] {
        let mut values = vec![0.5; 100];
        values[at] = bad;
        let fault = quantise(&values, ScaleKind::Nested).expect_err("refused");
        assert_eq!((fault.index, fault.value.to_bits()), (at, bad.to_bits()));
    }
}

#[test]
fn a_large_tensor_takes_4_127_bits_per_element() {
    let shape = Shape::from([4096, 11008]);
    let bits = |dtype: DType| 8.0 * dtype.bytes_of(&shape).expect("fits") as f64 / shape.numel() as f64;
    assert!((bits(DType::Nf4) - 4.127).abs() < 5e-4, "{}", bits(DType::Nf4));
    assert!((bits(DType::Nf4Single) - 4.5).abs() < 5e-4, "{}", bits(DType::Nf4Single));
    assert_eq!(DType::F32.bytes_of(&Shape::from([usize::MAX])), None);
}

#[test]
fn host_tensors_hold_blocks() {
    let values: Vec<f64> = (0..77).map(|index| f64::from(index) / 77.0).collect();
    for dtype in [DType::Nf4, DType::Nf4Single] {
        let tensor = HostTensor::from_f64([7, 11], dtype, &values);
        assert_eq!(tensor.dtype(), dtype);
        let back = HostTensor::from_le_bytes([7, 11], dtype, tensor.as_bytes()).expect("lengths match");
        assert_eq!(back, tensor);
        assert!(HostTensor::from_le_bytes([7, 12], dtype, tensor.as_bytes()).is_none());
        assert!(HostTensor::zeros([7, 11], dtype).to_f64().iter().all(|&x| x == 0.0));
        let worst = tensor.to_f64().iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 0.15, "{dtype}: {worst}");
    }
}
