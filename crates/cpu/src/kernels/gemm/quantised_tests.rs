//! Products with quantised weights against the dense kernel on the weights that decoding gives: equal bit for bit.

use half::bf16;
use remat_tensor::nf4::ScaleKind;
use remat_tensor::{QuantFormat, QuantisedData};

use super::*;
use crate::testing::{normals, pools};

const FORMATS: [QuantFormat; 3] =
    [QuantFormat::Nf4(ScaleKind::Nested), QuantFormat::Nf4(ScaleKind::Single), QuantFormat::Int8];

/// Out and in of a weight: whole blocks, rows that begin inside a block and inside a byte, a short last block, more
/// than one task and more than one block of k.
const WEIGHTS: [[usize; 2]; 6] = [[1, 1], [64, 128], [33, 100], [7, 13], [300, 65], [96, 1030]];

fn product<A: Element, B: Element>(
    pool: &ThreadPool,
    size: [usize; 3],
    a: &[A],
    b: Right<'_, B>,
    bias: &[A],
    residual: &[A],
) -> Vec<u32> {
    let mut c = vec![A::from_f32(f32::NAN); size[0] * size[1]];
    let epilogue = Epilogue { alpha: 0.7, start: Start::Residual(residual.into()), bias: Some(bias) };
    gemm(pool, size, Matrix::rows(a, size[2]), b, epilogue, c.as_mut_slice());
    c.iter().map(|x| x.to_f32().to_bits()).collect()
}

fn check<T: Element>(format: QuantFormat) {
    let round = |values: Vec<f32>| values.into_iter().map(T::from_f32).collect::<Vec<T>>();
    for [out, input] in WEIGHTS {
        let quantised = QuantisedData::quantise(format, [out, input], &normals(out * input, 5)).expect("finite");
        let dense = round(quantised.to_f32());
        for forward in [true, false] {
            let size = if forward { [19, out, input] } else { [19, input, out] };
            let [m, n, k] = size;
            let (a, bias, residual) = (round(normals(m * k, 1)), round(normals(n, 2)), round(normals(m * n, 3)));
            let (want, got) = if forward {
                (
                    Matrix::transposed(&dense, input).into(),
                    QuantisedMatrix::<T>::transposed(quantised.view(), input).into(),
                )
            } else {
                (Matrix::rows(&dense, input).into(), QuantisedMatrix::rows(quantised.view(), input).into())
            };
            for pool in pools(&[1, 3]) {
                let want = product(&pool, size, &a, want, &bias, &residual);
                let got = product(&pool, size, &a, got, &bias, &residual);
                assert_eq!(want, got, "{} {size:?} {format:?}, forward: {forward}", pool.level());
            }
        }
    }
}

#[test]
fn f32_products_have_the_bits_of_the_decoded_weight() {
    FORMATS.into_iter().for_each(check::<f32>);
}

#[test]
fn bf16_products_have_the_bits_of_the_decoded_weight_in_bf16() {
    FORMATS.into_iter().for_each(check::<bf16>);
}
