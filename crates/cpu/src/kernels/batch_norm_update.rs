//! Running statistics of batch norm, in place. As many elements as there are channels: nothing to spread over threads.

use remat_ir::ops::BatchNormUpdate;

/// `running = (1 - momentum) running + momentum new`, the variance made unbiased.
pub fn batch_norm_update(op: &BatchNormUpdate, running: [&mut [f32]; 2], [mean, variance]: [&[f32]; 2]) {
    let [running_mean, running_variance] = running;
    let all = [running_mean.len(), running_variance.len(), variance.len()];
    assert_eq!(all, [mean.len(); 3], "batch_norm_update: operands differ in size");
    let update = |running: &mut [f32], new: &[f32], factor: f64| {
        let momentum = f64::from(op.momentum);
        for (running, &new) in running.iter_mut().zip(new) {
            *running = ((1.0 - momentum) * f64::from(*running) + momentum * factor * f64::from(new)) as f32;
        }
    };
    update(running_mean, mean, 1.0);
    update(running_variance, variance, op.unbiased());
}
