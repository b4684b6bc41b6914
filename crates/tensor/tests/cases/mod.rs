//! Numbers of a fixture's tensors, and their bits.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

/// A tensor's values, widened to f32.
pub fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    match tensor.dtype() {
        Dtype::F32 => bytemuck::pod_collect_to_vec(tensor.data()),
        Dtype::BF16 => bytemuck::pod_collect_to_vec::<u8, bf16>(tensor.data()).iter().map(|x| x.to_f32()).collect(),
        Dtype::F16 => bytemuck::pod_collect_to_vec::<u8, f16>(tensor.data()).iter().map(|x| x.to_f32()).collect(),
        other => panic!("{name} is {other:?}"),
    }
}

/// What equality of every bit compares.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
