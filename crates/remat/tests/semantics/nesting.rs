//! E and F: regions inside regions, and accumulation over micro-batches.

use crate::models::{WIDTH, assert_same_under_every_policy, bits, block, chain, classifier, feed, started};
use remat::{CheckpointPolicy, Error, Graph, Options, Tensor};

/// Outer regions of two children each; with `deep` one child holds a third level.
fn nested(deep: bool) -> (Graph, Tensor) {
    classifier(|g, x| {
        (0..3).try_fold(x, |h, i| {
            g.checkpoint(&format!("outer.{i}"), |g| {
                let h = g.checkpoint("left", |g| block(g, h))?;
                g.checkpoint("right", |g| if deep { g.checkpoint("inner", |g| block(g, h)) } else { block(g, h) })
            })
        })
    })
}

#[test]
fn e_nested_regions_are_bit_identical_under_every_policy() {
    assert_same_under_every_policy(|| nested(false));
    assert_same_under_every_policy(|| nested(true));
}

#[test]
fn e_an_op_in_nested_regions_is_recomputed_once_not_once_per_level() {
    for deep in [false, true] {
        let runs = started(nested(deep), CheckpointPolicy::full()).op_runs();
        // Three outer regions of four linears; the last outer region is never recomputed, and nothing reads the result
        // of a block's last GELU but the next block.
        assert_eq!(
            (runs["linear"].first, runs["linear"].recomputed),
            (12 + 11, 8),
            "forward and dX, which the first does not need; recomputed"
        );
    }
}

#[test]
fn e_segments_of_every_n_regions_span_nested_ones() {
    let kept = |policy| started(nested(false), policy).memory().activation_bytes;
    let linear = |n| started(nested(false), CheckpointPolicy::every(n)).op_runs()["linear"].recomputed;
    assert_eq!((linear(1), linear(2), linear(3)), (8, 8, 0));
    assert!(kept(CheckpointPolicy::full()) < kept(CheckpointPolicy::none()));
}

#[test]
fn e_a_region_may_be_inside_a_scope_and_a_scope_inside_a_region() -> Result<(), Error> {
    let (g, loss) = classifier(|g, x| {
        g.scope("model", |g| {
            let h = g.checkpoint("block", |g| g.scope("mlp", |g| block(g, x)))?;
            g.checkpoint("block", |g| g.scope("other", |g| block(g, h)))
        })
    });
    let step = g.compile(loss, Options::new())?;
    assert_eq!(step.parameter_names()[..2], ["model.block.mlp.up.weight", "model.block.mlp.up.bias"]);
    Ok(())
}

#[test]
fn f_micro_batches_sum_to_the_same_bits_with_and_without_checkpointing() {
    let accumulated = |policy| {
        let mut step = started(chain(3), policy);
        for micro in 0..3 {
            let x: Vec<f32> = (0..24 * WIDTH).map(|i| ((i * (micro + 2) % 17) as f32 - 8.0) / 9.0).collect();
            step.set_input("x", &x).expect("fits");
            step.run_scaled(1.0 / 72.0).expect("runs");
        }
        let names: Vec<String> = step.parameter_names().iter().map(|name| name.to_string()).collect();
        names.iter().flat_map(|name| step.gradient(name).expect("trained")).map(f32::to_bits).collect::<Vec<u32>>()
    };
    assert!(accumulated(CheckpointPolicy::full()) == accumulated(CheckpointPolicy::none()));
}

#[test]
fn f_the_normaliser_is_the_total_of_rows_that_take_part_over_all_micro_batches() {
    // Two micro-batches with 20 and 4 rows in the loss, each scaled by 1/24, give the gradient of one batch of all 24.
    let gradient = |ends: &[usize]| {
        let mut step = started(chain(2), CheckpointPolicy::full());
        feed(&mut step);
        let mut start = 0;
        for &end in ends {
            let part = start..end;
            start = end;
            let classes: Vec<i32> =
                (0..24).map(|row| if part.contains(&row) { row as i32 % 3 } else { -100 }).collect();
            step.set_input("classes", &classes).expect("fits");
            step.run_scaled(1.0 / 24.0).expect("runs");
        }
        step.gradient("layers.0.up.weight").expect("trained")
    };
    let (whole, cut) = (gradient(&[24]), gradient(&[20, 24]));
    let largest = whole.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
    assert!(largest > 0.0);
    assert!(whole.iter().zip(&cut).all(|(a, b)| (a - b).abs() <= 1e-5 * largest));
}

#[test]
fn f_gradients_add_up_until_they_are_zeroed() {
    let mut step = started(chain(2), CheckpointPolicy::full());
    let once = bits(&mut step);
    let again = bits(&mut step);
    assert!(once == again, "zero_gradients forgets the first run");
    step.run().expect("runs");
    step.run().expect("runs");
    let doubled = step.gradient("head").expect("trained");
    let first = &once[once.len() - doubled.len()..];
    assert!(doubled.iter().zip(first).all(|(d, &f)| *d == 2.0 * f32::from_bits(f)), "the head is the last parameter");
}
