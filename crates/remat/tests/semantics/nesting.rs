//! E and F: regions inside regions, and accumulation over micro-batches.

use crate::models::{WIDTH, assert_same_under_every_policy, bits, block, chain, classifier, feed, started};
use remat::{CheckpointPolicy, Error, Graph, Options, Tensor};
use std::collections::HashMap;

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
fn e_an_op_in_nested_regions_is_recomputed_once_per_level_and_the_last_block_never() {
    for deep in [false, true] {
        let mut step = started(nested(deep), CheckpointPolicy::full());
        // Three outer regions of two children of two linears each. Backward of an outer region passes through its left child
        // for what that hands on, and then repeats each child by itself: six linears, in each of two regions. Of the last
        // outer region, where backward begins, only the left child is repeated.
        let runs = step.op_runs();
        assert_eq!(
            (runs["linear"].first, runs["linear"].recomputed),
            (12 + 11, 2 * 6 + 2),
            "forward and dX, which the first does not need; recomputed"
        );
        let mut counted = Runs::default();
        step.run_observed(&mut counted).expect("runs");
        let times = |name: &str| counted.0[name];
        let up = |outer: usize, child: &str| {
            let inner = if deep && child == "right" { "right.inner" } else { child };
            times(&format!("outer.{outer}.{inner}.up.linear"))
        };
        for outer in 0..2 {
            assert_eq!((up(outer, "left"), up(outer, "right")), (3, 2), "outer.{outer}");
        }
        assert_eq!((up(2, "left"), up(2, "right")), (2, 1), "backward begins with the last");
    }
}

/// How often each node ran, by the name of the one that it repeats.
#[derive(Default)]
struct Runs(HashMap<String, usize>);

impl remat::Observer for Runs {
    fn after_step(&mut self, plan: &remat::Plan, id: remat::StepId, _: &dyn remat::StepMemory) {
        let remat::Action::Compute(op) = plan.steps[id.index()].action else { return };
        let node = plan.graph.node(op);
        let original = node.recompute_of.map_or(node, |of| plan.graph.node(of));
        *self.0.entry(original.name.clone()).or_default() += 1;
    }
}

#[test]
fn e_a_region_around_all_blocks_changes_no_plan() {
    let blocks = |around: bool| {
        classifier(|g, x| {
            let all = |g: &mut Graph| (0..12).try_fold(x, |h, i| g.checkpoint(&format!("layers.{i}"), |g| block(g, h)));
            if around { g.checkpoint("model", all) } else { g.scope("model", all) }
        })
    };
    let none = started(blocks(true), CheckpointPolicy::none()).memory();
    for policy in [
        CheckpointPolicy::full(),
        CheckpointPolicy::every(3),
        CheckpointPolicy::budget(none.activation_bytes / 2),
        CheckpointPolicy::dots_saveable(),
    ] {
        let (inside, alone) = (started(blocks(true), policy.clone()), started(blocks(false), policy.clone()));
        assert_eq!(inside.memory(), alone.memory(), "{policy}");
        assert_eq!(inside.op_runs(), alone.op_runs(), "{policy}");
        assert!(inside.memory().arena_bytes * 4 < none.arena_bytes * 3, "{policy}");
    }
    let expected = bits(&mut started(blocks(true), CheckpointPolicy::none()));
    for policy in
        [CheckpointPolicy::full(), CheckpointPolicy::every(3), CheckpointPolicy::budget(none.activation_bytes / 4)]
    {
        assert!(bits(&mut started(blocks(true), policy.clone())) == expected, "{policy}");
    }
}

#[test]
fn e_levels_hold_what_one_child_needs_at_a_time() {
    // Four regions of eight blocks each: outside levels, backward of a region would hold what all its blocks keep.
    let model = |inner: bool| {
        classifier(|g, x| {
            (0..4).try_fold(x, |h, i| {
                g.checkpoint(&format!("outer.{i}"), |g| {
                    (0..8).try_fold(h, |h, j| match inner {
                        true => g.checkpoint(&format!("{j}"), |g| block(g, h)),
                        false => g.scope(&format!("{j}"), |g| block(g, h)),
                    })
                })
            })
        })
    };
    let (levels, flat) =
        (started(model(true), CheckpointPolicy::full()), started(model(false), CheckpointPolicy::full()));
    assert!(levels.memory().arena_bytes * 2 < flat.memory().arena_bytes, "{:?}, {:?}", levels.memory(), flat.memory());
    let again = |step: &remat::Step| step.op_runs()["linear"].recomputed;
    // Flat: three regions of sixteen linears. With levels: seven blocks are passed through and eight repeated in each of
    // three regions, and seven in the last.
    assert_eq!((again(&flat), again(&levels)), (3 * 16, 3 * (7 + 8) * 2 + 7 * 2));
}

#[test]
fn e_segments_of_every_n_regions_span_nested_ones() {
    let kept = |policy| started(nested(false), policy).memory().activation_bytes;
    let linear = |n| started(nested(false), CheckpointPolicy::every(n)).op_runs()["linear"].recomputed;
    // Of two outer regions in one segment the four children are two segments, the first passed through for the second's
    // start; the third outer region is the last segment. All three are one segment: then the children are cut into runs of
    // three, and the first run is repeated.
    assert_eq!((linear(1), linear(2), linear(3)), (14, 4 + 4 + 4, 6));
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
