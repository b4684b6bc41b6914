//! What torch.nn.Conv1d and Conv2d have in common: their parameters.

use crate::{Error, Graph, Init, Tensor};

/// `<name>.weight` [outputs, inputs/groups, window..] and, with a `bias`, `<name>.bias` [outputs], both uniform in ±1/√fan_in,
/// where fan_in is the number of elements that one output reads.
pub(super) fn parameters(
    g: &mut Graph,
    name: &str,
    [inputs, outputs]: [usize; 2],
    window: &[usize],
    groups: usize,
    bias: bool,
) -> Result<(Tensor, Option<Tensor>), Error> {
    if groups == 0 || !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
        let message = format!("convolution \"{name}\": {groups} groups do not divide {inputs} and {outputs} channels");
        return Err(Error::NotCompiledFor(message));
    }
    let shape: Vec<usize> = [outputs, inputs / groups].into_iter().chain(window.iter().copied()).collect();
    let fan_in = shape[1..].iter().map(|&size| size as f32).product::<f32>();
    let init = Init::Uniform(1.0 / fan_in.sqrt());
    g.scope(name, |g| {
        let weight = g.parameter("weight", &shape, init.clone())?;
        Ok((weight, bias.then(|| g.parameter("bias", &[outputs], init)).transpose()?))
    })
}
