//! J: what is kept can be read off, before the run.

use crate::models::{ROWS, WIDTH, chain, started};
use remat::{CheckpointPolicy, DType};

#[test]
fn j_saved_residuals_list_every_kept_value_with_type_bytes_layer_and_reader() {
    let step = started(chain(3), CheckpointPolicy::full());
    let kept = step.saved_residuals();
    let total: usize = kept.iter().map(|residual| residual.bytes).sum();
    assert_eq!(total, step.memory().activation_bytes);
    let first = kept.iter().find(|residual| residual.name == "layers.0.gelu_2").expect("what enters the second region");
    assert_eq!((first.ty.dtype, first.ty.shape.dims()), (DType::F32, [ROWS, WIDTH].as_slice()));
    assert_eq!((first.bytes, first.region.as_deref()), (ROWS * WIDTH * 4, Some("layers.0")));
    assert_eq!(first.read_by, "linear", "the recomputed first linear of the second region");
    assert!(kept.iter().all(|residual| residual.bytes == residual.ty.bytes()));
}

#[test]
fn j_the_planned_peak_is_the_sum_of_what_is_allocated() {
    let report = started(chain(3), CheckpointPolicy::full()).memory();
    let parts =
        [report.arena_bytes, report.weight_bytes, report.state_bytes, report.input_bytes, report.executor_bytes];
    assert_eq!(report.planned_peak, parts.iter().sum::<usize>());
    assert!(report.activation_bytes <= report.arena_bytes);
}
