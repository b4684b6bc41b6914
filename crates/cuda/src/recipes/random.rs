//! Launches of the ops that draw from Philox.

use crate::call::OpTypes;
use crate::launch::Launch;
use remat_ir::ops;

/// `dropout`.
pub fn dropout(op: &ops::Dropout, call: &OpTypes<'_>) -> Result<Vec<Launch>, String> {
    let count = call.numel(0);
    let launch = Launch::of("dropout", call.named("dropout", 0)?).read(0).read(1).write(0);
    let launch = launch.word(op.stream).word(op.first).word32(ops::Dropout::threshold(op.p));
    Ok(vec![launch.f32(ops::Dropout::factor(op.p)).u64(count).over(count)])
}

/// `embedding_noise`.
pub fn embedding_noise(op: &ops::EmbeddingNoise, call: &OpTypes<'_>) -> Result<Vec<Launch>, String> {
    let [line, width] = [call.shape(0)[1], call.shape(0)[2]];
    let launch = Launch::of("embedding_noise", call.named("embedding_noise", 0)?).read(0).read(1).read(2).write(0);
    let launch = launch.word(op.stream).f32(op.alpha).u32(line).u32(width);
    Ok(vec![launch.grid([crate::launch::blocks(call.rows(0), 1), 1, 1], 128)])
}
