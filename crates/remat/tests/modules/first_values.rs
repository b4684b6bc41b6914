//! What parameters and buffers hold before training.

use crate::block::{WIDTH, block};
use crate::images::images;
use remat::modules::{InProjection, MultiHeadAttention, MultiHeadAttentionOptions};
use remat::{Error, Graph, Options, Step};

/// A uniform of so many elements fills its bound: the largest of n misses the bound by a third with probability (2/3)^n.
fn within(step: &Step, name: &str, bound: f32) {
    let values = step.parameter(name).expect("a parameter");
    let most = values.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let least = if values.len() < 8 { 0.0 } else { 0.6 * bound };
    assert!(most <= bound && most > least, "{name}: {most} of {bound}");
    assert!(values.len() == 1 || values.iter().any(|x| x != &values[0]), "{name} is one number");
}

fn all(step: &Step, name: &str, number: f32) {
    let values = step.parameter(name).or_else(|_| step.buffer(name)).expect("a parameter or buffer");
    assert!(values.iter().all(|&x| x == number), "{name}: {values:?}");
}

#[test]
fn first_values_are_torchs() {
    let step = block().expect("compiles");
    let root = (WIDTH as f32).sqrt();
    within(&step, "fc.weight", 1.0 / root);
    within(&step, "fc.bias", 1.0 / root);
    within(&step, "attn.in_proj_weight", (6.0 / 32.0_f32).sqrt());
    within(&step, "attn.out_proj.weight", 1.0 / root);
    for name in ["attn.in_proj_bias", "attn.out_proj.bias", "ln.bias"] {
        all(&step, name, 0.0);
    }
    for name in ["ln.weight", "norm.weight"] {
        all(&step, name, 1.0);
    }
    let table = step.parameter("embed.weight").expect("a parameter");
    let squares = table.iter().map(|x| x * x).sum::<f32>() / 88.0;
    assert!((0.6..1.5).contains(&squares), "{squares}");
}

#[test]
fn first_values_of_images_are_torchs() {
    let step = images(true).expect("compiles");
    // An output reads 3·3·2 elements of the first, half of 4 channels with 2·3 of the second, 6·3 of the third.
    for (name, fan_in) in
        [("conv.weight", 18), ("conv.bias", 18), ("grouped.weight", 12), ("along.weight", 18), ("along.bias", 18)]
    {
        within(&step, name, 1.0 / (fan_in as f32).sqrt());
    }
    for norm in ["bn", "gn", "bn1", "bn_rows"] {
        all(&step, &format!("{norm}.weight"), 1.0);
        all(&step, &format!("{norm}.bias"), 0.0);
    }
    for norm in ["bn", "bn1", "bn_rows"] {
        all(&step, &format!("{norm}.running_mean"), 0.0);
        all(&step, &format!("{norm}.running_var"), 1.0);
    }
    assert!(!step.parameter_names().contains(&"grouped.bias"), "it was made without");
}

#[test]
fn projections_of_three_widths_have_three_weights() -> Result<(), Error> {
    let mut g = Graph::new();
    let options = MultiHeadAttentionOptions { key_width: Some(4), value_width: Some(24), ..Default::default() };
    let module = MultiHeadAttention::new(&mut g, "attn", 8, 2, options)?;
    let InProjection::Separate(weights) = module.in_proj else { panic!("{:?}", module.in_proj) };
    let mut loss = g.sum(module.out_proj.weight)?;
    for weight in weights {
        let sum = g.sum(weight)?;
        loss = g.add(loss, sum)?;
    }
    let options = Options::new().threads(1).gradients_of(weights);
    let step = g.compile(loss, options)?;
    assert_eq!(step.parameter_names(), ["attn.q_proj_weight", "attn.k_proj_weight", "attn.v_proj_weight"]);
    for (name, sides) in [("q", 16.0), ("k", 12.0), ("v", 32.0)] {
        within(&step, &format!("attn.{name}_proj_weight"), (6.0 / sides as f32).sqrt());
    }
    Ok(())
}
