//! int8 held bit for bit to what bitsandbytes makes of the same tensors (`fixtures/int8.py`).

mod cases;

use cases::{bits, floats};
use remat_tensor::{DType, HostTensor, NotFinite, QuantFormat, QuantisedData, Quantiser, Shape, into_bytes};
use safetensors::SafeTensors;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/int8/cases.safetensors");

fn quantise(shape: [usize; 2], values: &[f32]) -> Result<QuantisedData, NotFinite> {
    QuantisedData::quantise(QuantFormat::Int8, shape, values)
}

#[test]
fn every_case_is_quantised_and_decoded_as_by_bitsandbytes() {
    let bytes = std::fs::read(FILE).expect("the fixture");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let cases: Vec<&str> = file.names().into_iter().filter_map(|name| name.strip_suffix(".input")).collect();
    assert_eq!(cases.len(), 16);
    for case in cases {
        let tensor = |what: &str| file.tensor(&format!("{case}.{what}")).expect("recorded");
        let shape = [tensor("input").shape()[0], tensor("input").shape()[1]];
        let values = floats(&file, &format!("{case}.input"));
        let ours = quantise(shape, &values).expect("finite");
        let (codes, absmax) = ours.bytes().split_at(values.len());
        assert!(codes == tensor("codes").data(), "{case}: codes");
        assert!(absmax == tensor("absmax").data(), "{case}: scales");
        // Numbers alone: where a scale is 0, bitsandbytes has zeros of either sign.
        assert_eq!(ours.to_f32(), floats(&file, &format!("{case}.decoded")), "{case}: decoded");
    }
}

#[test]
fn pieces_of_any_length_give_the_same_bytes() {
    let values: Vec<f32> = (0..1001).map(|index| ((index * 37 % 101) as f32 - 50.0) / 77.0).collect();
    let mut quantiser = Quantiser::new();
    for shape in [[7, 143], [143, 7], [1, 1001], [1001, 1]] {
        let whole = quantise(shape, &values).expect("finite");
        for piece in [1, 6, 7, 8, 143, 200, 1000] {
            let mut bytes = vec![0; whole.bytes().len()];
            let mut write = into_bytes(&mut bytes);
            let mut tensor = quantiser.begin(QuantFormat::Int8, whole.shape(), &mut write);
            values.chunks(piece).for_each(|piece| tensor.push(piece).expect("finite"));
            tensor.finish();
            drop(write);
            assert_eq!(bytes, whole.bytes(), "{shape:?} in pieces of {piece}");
        }
    }
}

#[test]
fn decoding_may_start_anywhere() {
    let values: Vec<f32> = (0..301 * 2).map(|index| (index as f32 * 0.7).sin()).collect();
    let tensor = quantise([2, 301], &values).expect("finite");
    let whole = tensor.to_f32();
    for (first, count) in [(0, 1), (1, 2), (300, 2), (301, 64), (65, 530), (601, 1), (602, 0)] {
        let mut some = vec![f32::NAN; count];
        tensor.view().decode(first, &mut some);
        assert_eq!(bits(&some), bits(&whole[first..first + count]), "{count} from {first}");
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused_where_they_stand() {
    for (bad, at) in [(f32::NAN, 0), (f32::INFINITY, 70), (f32::NEG_INFINITY, 99)] {
        let mut values = vec![0.5; 100];
        values[at] = bad;
        let fault = quantise([4, 25], &values).expect_err("refused");
        assert_eq!((fault.index, fault.value.to_bits()), (at, bad.to_bits()));
    }
}

#[test]
fn a_tensor_takes_a_byte_per_element_and_four_per_row() {
    let bytes = |shape: &[usize]| DType::Int8.bytes_of(&Shape::from(shape));
    assert_eq!(bytes(&[4096, 11008]), Some(4096 * 11008 + 4 * 4096));
    assert_eq!(bytes(&[2, 3, 5]), Some(30 + 4 * 6));
    assert_eq!(bytes(&[0, 5]), Some(0));
    assert_eq!(bytes(&[5, 0]), Some(0));
    assert_eq!(bytes(&[usize::MAX]), None);
}

#[test]
fn host_tensors_hold_rows() {
    let values: Vec<f64> = (0..77).map(|index| f64::from(index) / 77.0).collect();
    let tensor = HostTensor::from_f64([7, 11], DType::Int8, &values);
    assert_eq!(tensor.dtype(), DType::Int8);
    let back = HostTensor::from_le_bytes([7, 11], DType::Int8, tensor.as_bytes()).expect("lengths match");
    assert_eq!(back, tensor);
    assert!(HostTensor::from_le_bytes([11, 7], DType::Int8, tensor.as_bytes()).is_none(), "other rows");
    assert!(HostTensor::zeros([7, 11], DType::Int8).to_f64().iter().all(|&x| x == 0.0));
    let worst = tensor.to_f64().iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= 0.5 / 127.0 + 1e-7, "{worst}");
}
