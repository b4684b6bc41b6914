//! Launches of the ops that move elements in groups.

use crate::call::{OpTypes, float_bytes};
use crate::launch::Launch;
use remat_ir::ops;
use remat_tensor::DType;

type Launches = Result<Vec<Launch>, String>;

/// Where groups of elements lie: the first one's beginning, and how far apart they are.
struct Place {
    first: usize,
    stride: usize,
}

/// `groups` of `size` elements from operand `read` to result `write`.
fn moved(
    call: &OpTypes<'_>,
    [read, write]: [usize; 2],
    [size, groups]: [usize; 2],
    from: Place,
    to: Place,
) -> Launches {
    let ty = call.reads[read];
    let width = match ty.dtype {
        DType::F32 | DType::BF16 => float_bytes(ty),
        DType::I32 => size_of::<i32>(),
        other => return Err(format!("there is no CUDA kernel that moves {other}")),
    };
    let launch = Launch::of("rows", format!("rows_{width}")).read(read).write(write).u64(from.first).u64(from.stride);
    let count = size * groups;
    Ok(vec![launch.u64(to.first).u64(to.stride).u64(size).u64(count).over(count)])
}

/// `split`.
pub fn split(op: &ops::Split, call: &OpTypes<'_>) -> Launches {
    let shape = call.shape(0);
    let behind: usize = shape[shape.len() - op.behind..].iter().product();
    let stride = behind * op.sizes.iter().sum::<usize>();
    let (mut first, mut launches) = (0, Vec::new());
    for (index, size) in op.sizes.iter().map(|size| behind * size).enumerate() {
        let groups = call.numel(0) / stride;
        let (from, to) = (Place { first, stride }, Place { first: 0, stride: size });
        launches.extend(moved(call, [0, index], [size, groups], from, to)?);
        first += size;
    }
    Ok(launches)
}

/// `concat`.
pub fn concat(op: &ops::Concat, call: &OpTypes<'_>) -> Launches {
    let stride = op.width(call.writes[0].shape.dims());
    let (mut first, mut launches) = (0, Vec::new());
    for index in 0..call.reads.len() {
        let size = op.width(call.shape(index));
        let groups = call.numel(index) / size;
        let (from, to) = (Place { first: 0, stride: size }, Place { first, stride });
        launches.extend(moved(call, [index, 0], [size, groups], from, to)?);
        first += size;
    }
    Ok(launches)
}

/// `reshape`: the same bytes, unless they are in their place already.
pub fn reshape(call: &OpTypes<'_>) -> Launches {
    let start = || Place { first: 0, stride: 0 };
    let mut launches = moved(call, [0, 0], [call.numel(0), 1], start(), start())?;
    launches.iter_mut().for_each(|launch| launch.copies = Some([0, 0]));
    Ok(launches)
}

/// `slice_rows`.
pub fn slice_rows(op: &ops::SliceRows, call: &OpTypes<'_>) -> Launches {
    let (first, size) = (op.first * call.last(0), call.result_numel(0));
    moved(call, [0, 0], [size, 1], Place { first, stride: 0 }, Place { first: 0, stride: 0 })
}

/// `write_rows`: x, unless it is the result already, then the rows.
pub fn write_rows(op: &ops::WriteRows, call: &OpTypes<'_>) -> Launches {
    let start = || Place { first: 0, stride: 0 };
    let mut launches = moved(call, [0, 0], [call.numel(0), 1], start(), start())?;
    launches.iter_mut().for_each(|launch| launch.copies = Some([0, 0]));
    let to = Place { first: op.first * call.last(0), stride: 0 };
    launches.extend(moved(call, [1, 0], [call.numel(1), 1], start(), to)?);
    Ok(launches)
}
