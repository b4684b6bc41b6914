//! A and D: what a region is, and what it costs.

use crate::models::{
    WIDTH, assert_same_under_every_policy, bits, block, chain, classifier, feed, policies, runs_again, started,
};
use remat::{CheckpointPolicy, DType, Error, Graph, Init, Observer, Options, Plan};
use std::collections::HashMap;

#[test]
fn a1_loss_and_parameter_gradients_are_bit_identical_under_every_policy() {
    assert_same_under_every_policy(|| chain(4));
}

#[test]
fn a1_input_gradients_are_bit_identical_under_every_policy() {
    let run = |policy| {
        let mut x = None;
        let (g, loss) = classifier(|g, input| {
            x = Some(input);
            (0..3).try_fold(input, |h, i| g.checkpoint(&format!("layers.{i}"), |g| block(g, h)))
        });
        let options = Options::new().policy(policy).gradients_of(x);
        let mut step = g.compile(loss, options).expect("compiles");
        feed(&mut step);
        step.run().expect("runs");
        step.gradient("x").expect("asked for")
    };
    let expected = run(CheckpointPolicy::none());
    assert!(expected.iter().any(|&dx| dx != 0.0));
    for policy in policies().into_iter().filter(|policy| !policy.to_string().starts_with("save_any")) {
        assert!(run(policy.clone()) == expected, "{policy}");
    }
}

#[test]
fn a1_threads_change_no_bit() {
    let run = |threads, policy| {
        let (g, loss) = chain(3);
        let mut step = g.compile(loss, Options::new().threads(threads).policy(policy).seed(7)).expect("compiles");
        feed(&mut step);
        bits(&mut step)
    };
    let expected = run(1, CheckpointPolicy::none());
    for threads in [2, 3] {
        assert!(run(threads, CheckpointPolicy::full()) == expected, "{threads} threads");
    }
}

/// Counts runs of forward nodes by name, as the executor reports them.
#[derive(Default)]
struct Runs(HashMap<String, usize>);

impl Observer for Runs {
    fn after_step(&mut self, plan: &Plan, id: remat::StepId, _: &dyn remat::StepMemory) {
        let step = &plan.steps[id.index()];
        assert!(id.index() < plan.steps.len());
        if let remat::Action::Compute(op) = step.action {
            let node = plan.graph.node(op);
            let original = node.recompute_of.map_or(node, |of| plan.graph.node(of));
            *self.0.entry(original.name.clone()).or_default() += 1;
        }
    }
}

#[test]
fn a2_each_forward_op_runs_once_and_once_more_only_if_recomputed_and_never_in_the_last_segment() {
    let mut runs = Runs::default();
    started(chain(3), CheckpointPolicy::full()).run_observed(&mut runs).expect("runs");
    let of = |name: &str| runs.0[name];
    // Backward reads what enters and leaves the first GELU and what enters the second; nothing reads the second's result.
    for layer in ["layers.0", "layers.1"] {
        let twice = [".up.linear", ".gelu", ".down.linear"].map(|op| of(&format!("{layer}{op}")));
        assert_eq!(twice, [2, 2, 2], "{layer}");
    }
    for op in [".up.linear", ".gelu", ".down.linear", ".gelu_2"] {
        assert_eq!(of(&format!("layers.2{op}")), 1, "{op} of the last region");
    }
    assert!(runs.0.values().all(|&count| count <= 2));
}

#[test]
fn a3_frozen_embeddings_may_feed_the_first_region() {
    let model = || {
        let build = || -> Result<_, Error> {
            let mut g = Graph::new();
            let ids = g.input("ids", DType::I32, &[24])?;
            let table = g.frozen("table", &[5, WIDTH], Init::Normal(1.0))?;
            let mut h = g.embedding(table, ids)?;
            for layer in 0..3 {
                h = g.checkpoint(&format!("layers.{layer}"), |g| block(g, h))?;
            }
            let classes = g.input("classes", DType::I32, &[24])?;
            let head = g.frozen("head", &[3, WIDTH], Init::Normal(0.3))?;
            let loss = g.cross_entropy(h, head, classes)?;
            Ok((g, loss))
        };
        build().expect("a model that fits")
    };
    let run = |policy| {
        let (g, loss) = model();
        let mut step = g.compile(loss, Options::new().policy(policy)).expect("compiles");
        step.set_input("ids", &[3_i32; 24]).expect("fits");
        step.set_input("classes", &[1_i32; 24]).expect("fits");
        assert_eq!(step.parameter_names().len(), 12, "the table and the head are frozen");
        bits(&mut step)
    };
    assert!(run(CheckpointPolicy::full()) == run(CheckpointPolicy::none()));
}

#[test]
fn a3_nothing_trainable_is_an_error_before_the_run() {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[2, 3]).expect("new");
    let w = g.frozen("w", &[3, 3], Init::Ones).expect("new");
    let y = g.linear(x, w, None).and_then(|y| g.sum(y)).expect("fits");
    let refused = g.compile(y, Options::new()).expect_err("nothing to train").to_string();
    assert!(refused.contains("nothing is trainable"), "{refused}");
}

#[test]
fn a3_a_parameter_that_the_loss_does_not_reach_is_named_before_the_run() {
    let (mut g, loss) = chain(1);
    g.parameter("forgotten", &[2], Init::Ones).expect("new");
    let refused = g.compile(loss, Options::new()).expect_err("not reached").to_string();
    assert!(refused.contains("\"forgotten\""), "{refused}");
}

#[test]
fn a4_regions_take_and_return_any_number_of_values() {
    assert_same_under_every_policy(|| {
        classifier(|g, x| {
            let early = g.dense("early", x, WIDTH)?;
            // Two in, two out, one of them passed straight through; an option and a constant are captured.
            let factor = 0.5;
            let (a, b) = g.checkpoint("two", |g| {
                let a = g.dense("a", early, WIDTH)?;
                let a = g.scale(a, factor)?;
                Ok::<_, Error>((g.add(a, x)?, early))
            })?;
            // None in, none out.
            g.checkpoint("nothing", |_| ());
            let parts = g.checkpoint("parts", |g| {
                let h = g.add(a, b)?;
                let h = g.gelu(h)?;
                g.split(h, &[WIDTH / 2, WIDTH / 2])
            })?;
            g.checkpoint("swap", |g| {
                let h = g.concat(&[parts[1], parts[0]])?;
                let h = g.dense("fc", h, WIDTH)?;
                g.add(h, a)
            })
        })
    });
}

#[test]
fn a5_gradients_of_a_subset_prune_the_rest_of_backward() {
    let compiled = |subset: bool| {
        let mut first = None;
        let (g, loss) = classifier(|g, x| {
            let h = g.checkpoint("layers.0", |g| block(g, x))?;
            let w = g.parameter("second", &[WIDTH, WIDTH], Init::Normal(0.2))?;
            first = Some(w);
            g.checkpoint("layers.1", |g| g.linear(h, w, None))
        });
        let options = if subset { Options::new().gradients_of(first) } else { Options::new() };
        g.compile(loss, options.policy(CheckpointPolicy::none())).expect("compiles")
    };
    let (all, mut subset) = (compiled(false), compiled(true));
    let products = |step: &remat::Step| step.op_runs()["linear_dw"].first;
    assert_eq!(subset.parameter_names(), ["second"]);
    assert_eq!((products(&all), products(&subset)), (3, 1));
    feed(&mut subset);
    subset.run().expect("runs");
    assert!(subset.gradient("second").expect("asked for").iter().any(|&dw| dw != 0.0));
    let refused = subset.gradient("head").expect_err("not asked for").to_string();
    assert!(refused.contains("it has second"), "{refused}");
}

#[test]
fn a6_live_bytes_fall_from_block_to_block_of_backward() {
    let step = started(chain(5), CheckpointPolicy::full());
    let plan = step.plan();
    let live_at = |at: usize| -> usize {
        let alive = plan.buffers.iter().filter(|b| b.first.index() <= at && at <= b.last.index());
        alive.map(|b| b.slot.bytes).sum()
    };
    // The end of backward of each block, from the last to the first: its last step that is not the forward's.
    let ends = (0..5).rev().map(|layer| {
        let of_layer = |step: &(usize, &remat::PlanStep)| {
            let remat::Action::Compute(op) = step.1.action else { return false };
            let node = plan.graph.node(op);
            let name = node.region.map(|region| plan.graph.regions[region.index()].name.clone());
            name == Some(format!("layers.{layer}")) && node.phase == remat::Phase::Backward
        };
        plan.steps
            .iter()
            .enumerate()
            .filter(of_layer)
            .map(|(at, _)| at)
            .next_back()
            .expect("every block has a backward")
    });
    let live: Vec<usize> = ends.map(live_at).collect();
    assert!(live.windows(2).all(|pair| pair[0] > pair[1]), "{live:?}");
}

#[test]
fn a7_a_value_kept_and_returned_is_stored_once() {
    let (mut g, loss) = classifier(|g, x| {
        let h = g.checkpoint("layers.0", |g| block(g, x))?;
        g.checkpoint("layers.1", |g| block(g, h))
    });
    let h = g.scale(loss, 1.0).expect("fits");
    g.output(h).expect("ours");
    let step = g.compile(loss, Options::new().policy(CheckpointPolicy::none())).expect("compiles");
    let mut names: Vec<String> = step.saved_residuals().into_iter().map(|residual| residual.name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "no value is kept twice");
    let arena_values: Vec<_> = step.plan().buffers.iter().map(|buffer| buffer.value).collect();
    let distinct: std::collections::HashSet<_> = arena_values.iter().collect();
    assert_eq!(distinct.len(), arena_values.len(), "one residence per value");
}

#[test]
fn a7_a_parameter_used_inside_and_outside_a_region_accumulates_both_gradients() {
    let model = |inside: bool, outside: bool| {
        classifier(move |g, x| {
            let shared = g.parameter("shared", &[WIDTH, WIDTH], Init::Normal(0.3))?;
            let other = g.frozen("copy", &[WIDTH, WIDTH], Init::Normal(0.3))?;
            let first = if inside { shared } else { other };
            let second = if outside { shared } else { other };
            let h = g.checkpoint("layers.0", |g| {
                let h = g.linear(x, first, None)?;
                g.gelu(h)
            })?;
            g.linear(h, second, None)
        })
    };
    let gradient = |inside, outside| {
        let mut step = started(model(inside, outside), CheckpointPolicy::full());
        // Both hold the same elements, so that the three models compute the same function.
        let same: Vec<f32> = (0..WIDTH * WIDTH).map(|i| ((i * 13 % 29) as f32 - 14.0) / 40.0).collect();
        step.set_parameter("shared", &same).expect("fits");
        if !(inside && outside) {
            step.set_weight("copy", &same).expect("fits");
        }
        step.run().expect("runs");
        step.gradient("shared").expect("trained")
    };
    let (both, first, second) = (gradient(true, true), gradient(true, false), gradient(false, true));
    for ((both, first), second) in both.iter().zip(first).zip(second) {
        assert!((both - (first + second)).abs() <= 1e-5 * (1.0 + both.abs()), "{both} is not {first} + {second}");
    }
}

#[test]
fn a8_without_gradients_a_region_costs_and_keeps_nothing() {
    let forward = |marked: bool| {
        let (mut g, loss) = classifier(|g, x| {
            (0..3).try_fold(x, |h, i| {
                let name = format!("layers.{i}");
                if marked { g.checkpoint(&name, |g| block(g, h)) } else { g.scope(&name, |g| block(g, h)) }
            })
        });
        g.output(loss).expect("ours");
        g.compile_forward(Options::new().policy(CheckpointPolicy::full())).expect("compiles")
    };
    let (marked, plain) = (forward(true), forward(false));
    assert_eq!(runs_again(&marked), 0);
    assert_eq!(marked.saved_residuals(), []);
    assert_eq!(marked.memory(), plain.memory());
    assert_eq!(marked.op_runs(), plain.op_runs());
}

#[test]
fn a9_the_peak_is_strictly_lower_on_chains_of_two_or_more_blocks() {
    for blocks in 2..6 {
        let peak = |policy| started(chain(blocks), policy).memory().planned_peak;
        let (full, none) = (peak(CheckpointPolicy::full()), peak(CheckpointPolicy::none()));
        assert!(full < none, "{blocks} blocks: {full} is not below {none}");
    }
}

#[test]
fn a10_a_region_that_fails_to_build_leaves_the_graph_usable() {
    let broken = |g: &mut Graph, x| {
        g.checkpoint("broken", |g| {
            let narrow = g.parameter("narrow", &[4, 4], Init::Ones)?;
            g.linear(x, narrow, None)
        })
    };
    let mut first = Graph::new();
    let x = first.input("x", DType::F32, &[2, WIDTH]).expect("new");
    let refused = broken(&mut first, x).expect_err("does not fit").to_string();
    assert!(refused.contains("broken.linear"), "{refused}");
    let y = first.checkpoint("sound", |g| g.dense("fc", x, 3)).expect("fits");
    assert_eq!(first.name(y).expect("ours"), "sound.fc.linear", "the failed region was left");
}

#[test]
fn a10_a_failing_step_leaves_the_session_usable() {
    let mut g = Graph::new();
    let ids = g.input("ids", DType::I32, &[4]).expect("new");
    let table = g.parameter("table", &[5, 8], Init::Normal(1.0)).expect("new");
    let h = g.checkpoint("r", |g| g.embedding(table, ids)).and_then(|h| g.gelu(h)).expect("fits");
    let loss = g.sum(h).expect("fits");
    let mut step = g.compile(loss, Options::new()).expect("compiles");
    step.set_input("ids", &[0, 1, 2, 9]).expect("fits");
    let refused = step.run().expect_err("9 is outside the table").to_string();
    assert!(refused.contains("id 9"), "{refused}");
    step.zero_gradients().expect("gradients exist");
    step.set_input("ids", &[0, 1, 2, 3]).expect("fits");
    assert!(step.run().expect("runs").is_finite());
}

#[test]
fn d_recomputation_ends_with_the_last_value_that_backward_needs() {
    // Of a block, the last linear's result is read by the residual sum alone, which needs nothing for its derivative.
    let model = || {
        classifier(|g, x| {
            (0..3).try_fold(x, |h, i| {
                g.checkpoint(&format!("layers.{i}"), |g| {
                    let inner = g.dense("up", h, 4 * WIDTH)?;
                    let inner = g.gelu(inner)?;
                    let down = g.dense("down", inner, WIDTH)?;
                    g.add(h, down)
                })
            })
        })
    };
    let step = started(model(), CheckpointPolicy::full());
    let runs = step.op_runs();
    assert_eq!(runs["linear"].recomputed, 2, "up of the first two blocks, never down");
    assert_eq!(runs["gelu"].recomputed, 2);
}

#[test]
fn d_nothing_is_recomputed_where_nothing_is_needed() {
    // Sums and scales save nothing, so a region of them alone is not run again.
    let model = || {
        classifier(|g, x| {
            let x = g.dense("first", x, WIDTH)?;
            (0..3).try_fold(x, |h, i| {
                g.checkpoint(&format!("layers.{i}"), |g| {
                    let half = g.scale(h, 0.5)?;
                    g.add(h, half)
                })
            })
        })
    };
    assert_eq!(runs_again(&started(model(), CheckpointPolicy::full())), 0);
}
