//! The verifier refuses every broken invariant, each with its own message: valid graphs are broken one way at a time.

use remat_ir::ops::{Accumulate, Add, Concat, RmsNorm, Scale};
use remat_ir::{
    Builder, Graph, OpId, ParameterKind, Region, RegionId, SourceRole, StateRole, Storage, Type, ValueId, verify,
};
use remat_tensor::DType;

/// Values: 0 x, 1 w, 2 grad, 3 norm, 4 norm.rstd, 5 doubled, 6 sum (of grad). Nodes in that order.
fn valid() -> Graph {
    let mut b = Builder::new();
    let x = b.input("x", Type::new(DType::F32, [2, 4]));
    let w = b.weight("w", Type::new(DType::F32, [4]));
    let grad = b.state("grad", Type::new(DType::F32, [2, 4]));
    let norm = b.region("block", |b| b.op("norm", RmsNorm { eps: 1e-5, unit_offset: false }, &[x, w])).expect("valid");
    let doubled = b.op1("doubled", Scale { factor: 2.0 }, &[norm[0]]).expect("valid");
    let sum = b.op1("sum", Accumulate, &[grad, doubled]).expect("valid");
    b.output(sum);
    b.finish()
}

fn refused(expected: &str, change: impl FnOnce(&mut Graph)) {
    let mut graph = valid();
    change(&mut graph);
    assert_eq!(verify(&graph).expect_err(expected).to_string(), expected);
}

/// `valid` with one more node at the end.
fn appended(graph: &mut Graph, add: impl FnOnce(&mut Builder)) {
    let mut b = Builder::extend(std::mem::take(graph));
    add(&mut b);
    *graph = b.finish();
}

#[test]
fn the_valid_graph_passes() {
    verify(&valid()).expect("valid");
}

#[test]
fn names_must_be_unique() {
    refused("graph: two values are named \"x\"", |g| g.values[1].name = "x".to_string());
    refused("graph: two nodes are named \"norm\"", |g| g.nodes[1].name = "norm".to_string());
}

#[test]
fn values_must_have_a_possible_size() {
    refused("graph: value \"w\": f32[0] has an axis of size 0", |g| g.values[1].ty.shape = [0].into());
    refused("graph: value \"w\": f32[] has no axes; a scalar has shape [1]", |g| g.values[1].ty.shape = vec![].into());
    let expected = "graph: value \"w\": f32[4294967296, 4294967296] is larger than 256 TiB";
    refused(expected, |g| g.values[1].ty.shape = [1 << 32, 1 << 32].into());
}

#[test]
fn operands_must_be_computed_before_they_are_read() {
    refused("graph: node \"doubled\" reads \"norm\" before it is computed", |g| {
        g.nodes.swap(0, 1);
        for node in 0..2 {
            for (result, output) in g.nodes[node].outputs.clone().into_iter().enumerate() {
                g.values[output.index()].producer = Some((OpId(node as u32), result));
            }
        }
    });
    refused("graph: node \"doubled\" reads %99, which does not exist", |g| g.nodes[1].inputs[0] = ValueId(99));
    refused("graph: node \"doubled\" reads \"doubled\" before it is computed", |g| g.nodes[1].inputs[0] = ValueId(5));
}

#[test]
fn results_must_be_those_the_op_makes() {
    let expected = "graph: value \"doubled\" is f32[2, 5], but \"doubled\" makes f32[2, 4]";
    refused(expected, |g| g.values[5].ty.shape = [2, 5].into());
    let expected = "graph: value \"doubled\" is bf16[2, 4], but \"doubled\" makes f32[2, 4]";
    refused(expected, |g| g.values[5].ty.dtype = DType::BF16);
    refused("graph: node \"norm\" has 1 results, not 2", |g| {
        g.nodes[0].outputs.pop();
    });
    refused("graph: node \"doubled\" writes %99, which does not exist", |g| g.nodes[1].outputs[0] = ValueId(99));
    refused("scale \"doubled\": attribute factor = inf must be a finite number", |g| {
        g.nodes[1].op = Scale { factor: f32::INFINITY }.into();
    });
}

#[test]
fn sources_and_nothing_else_have_roles_that_suit_them() {
    refused("graph: source \"x\" has no role", |g| g.values[0].role = None);
    refused("graph: value \"x\": kv_cache cannot be input", |g| g.values[0].role = Some(SourceRole::KvCache));
    refused("graph: value \"w\": base gradient cannot be weight", |g| {
        g.values[1].role = Some(SourceRole::Parameter(ParameterKind::Base, StateRole::Gradient));
    });
    refused("graph: value \"grad\": scalar cannot be state", |g| g.values[2].role = Some(SourceRole::Scalar));
    refused("graph: value \"norm\" is a result and cannot be data", |g| g.values[3].role = Some(SourceRole::Data));
}

#[test]
fn every_value_has_one_producer() {
    refused("graph: value \"norm\" is not produced by \"doubled\" alone", |g| g.nodes[1].outputs[0] = ValueId(3));
    refused("graph: value \"norm\" is not produced by \"norm\" alone", |g| g.values[3].producer = None);
    refused("graph: value \"norm.rstd\" is not produced by \"norm\" alone", |g| {
        g.values[4].producer = Some((OpId(0), 0));
    });
    refused("graph: value \"orphan\" has no producer among the nodes", |g| {
        let mut orphan = g.values[5].clone();
        (orphan.name, orphan.producer) = ("orphan".to_string(), Some((OpId(7), 0)));
        g.values.push(orphan);
    });
}

#[test]
fn nothing_may_read_a_state_after_its_update() {
    refused("graph: node \"late\" reads \"grad\" after it was updated in place", |g| {
        appended(g, |b| {
            b.op1("late", Scale { factor: 1.0 }, &[ValueId(2)]).expect("well typed");
        });
    });
    refused("graph: node \"twice\" reads \"grad\" after it was updated in place", |g| {
        appended(g, |b| {
            b.op1("twice", Accumulate, &[ValueId(2), ValueId(5)]).expect("well typed");
        });
    });
    refused("graph: output \"grad\" is updated in place before the end", |g| g.outputs.push(ValueId(2)));
    // The continued state may be updated again.
    let mut graph = valid();
    appended(&mut graph, |b| {
        b.op1("again", Accumulate, &[ValueId(6), ValueId(5)]).expect("well typed");
    });
    graph.outputs = vec![ValueId(7)];
    verify(&graph).expect("valid");
    assert_eq!(graph.storage_root(ValueId(7)), ValueId(2));
}

#[test]
fn only_states_are_updated_in_place() {
    refused("graph: \"sum\" updates \"grad\" in place, which is weight", |g| g.values[2].storage = Storage::Weight);
    refused("graph: \"sum\" updates \"grad\" in place, which is input", |g| g.values[2].storage = Storage::Input);
    refused("graph: \"wrong\" updates \"doubled\" in place, which is arena", |g| {
        appended(g, |b| {
            b.op1("wrong", Accumulate, &[ValueId(5), ValueId(0)]).expect("well typed");
        });
    });
    refused("graph: \"twice\" reads \"sum\" twice and updates it in place", |g| {
        appended(g, |b| {
            b.op1("twice", Accumulate, &[ValueId(6), ValueId(6)]).expect("well typed");
        });
    });
}

#[test]
fn donations_are_those_the_op_declares() {
    refused("graph: value \"sum\": its donation is not the one its op declares", |g| g.values[6].donated_from = None);
    let expected = "graph: value \"doubled\": its donation is not the one its op declares";
    refused(expected, |g| g.values[5].donated_from = Some(ValueId(2)));
    refused("graph: value \"doubled\" must be stored as arena", |g| g.values[5].storage = Storage::State);
    refused("graph: value \"sum\" must be stored as state", |g| g.values[6].storage = Storage::Arena);
}

/// Appends a node that repeats `doubled` under another name.
fn repeat(graph: &mut Graph, factor: f32, origin: u32) {
    appended(graph, |b| {
        b.op1("again", Scale { factor }, &[ValueId(3)]).expect("well typed");
    });
    graph.nodes[3].recompute_of = Some(OpId(origin));
}

#[test]
fn a_recomputed_node_repeats_what_it_names() {
    let mut graph = valid();
    repeat(&mut graph, 2.0, 1);
    verify(&graph).expect("valid");
    refused("graph: node \"again\" repeats a node that does not exist", |g| repeat(g, 2.0, 9));
    refused("graph: node \"again\" repeats \"again\", which is not before it", |g| repeat(g, 2.0, 3));
    refused("graph: node \"again\" does not repeat \"norm\"", |g| repeat(g, 2.0, 0));
    refused("graph: node \"again\" does not repeat \"doubled\"", |g| repeat(g, 3.0, 1));
    refused("graph: node \"third\" does not repeat \"again\"", |g| {
        repeat(g, 2.0, 1);
        appended(g, |b| {
            b.op1("third", Scale { factor: 2.0 }, &[ValueId(3)]).expect("well typed");
        });
        g.nodes[4].recompute_of = Some(OpId(3));
    });
    refused("graph: node \"single\" does not repeat \"pair\"", |g| {
        appended(g, |b| {
            b.op1("pair", Concat::WHOLE, &[ValueId(3), ValueId(5)]).expect("well typed");
            b.op1("single", Concat::WHOLE, &[ValueId(3)]).expect("well typed");
        });
        g.nodes[4].recompute_of = Some(OpId(3));
    });
    refused("graph: node \"sum\" updates a state and cannot be repeated", |g| {
        appended(g, |b| {
            b.op1("again", Accumulate, &[ValueId(6), ValueId(5)]).expect("well typed");
        });
        g.nodes[3].recompute_of = Some(OpId(2));
        g.outputs.clear();
    });
}

#[test]
fn regions_form_a_forest() {
    refused("graph: node \"doubled\" is in a region that does not exist", |g| g.nodes[1].region = Some(RegionId(4)));
    refused("graph: region \"block\" stands before its parent", |g| g.regions[0].parent = Some(RegionId(0)));
    refused("graph: region \"block\" stands before its parent", |g| {
        g.regions.push(Region { name: "outer".to_string(), parent: None });
        g.regions[0].parent = Some(RegionId(1));
    });
}

#[test]
fn outputs_must_exist() {
    refused("graph: output %42 does not exist", |g| g.outputs.push(ValueId(42)));
}

#[test]
fn operands_must_fit_the_op() {
    refused("add \"doubled\": expects 2 operands, got 1", |g| g.nodes[1].op = Add.into());
    refused("rms_norm \"norm\": weight f32[3] does not match the last axis of x f32[2, 4]", |g| {
        g.values[1].ty.shape = [3].into();
    });
}
