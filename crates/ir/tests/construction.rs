//! Building graphs: names, regions, phases and donation; and the interpreter's demands on its sources.

use remat_ir::ops::{Accumulate, Add, Layout, Linear, RmsNorm, Scale};
use remat_ir::{
    Array, Builder, Interpreter, OpId, ParameterKind, Phase, RegionId, Rounding, StateRole, Storage, Type, ValueId,
    verify,
};
use remat_tensor::DType;
use std::collections::HashMap;

fn f32(shape: &[usize]) -> Type {
    Type::new(DType::F32, shape)
}

#[test]
fn names_are_made_unique_and_results_are_named_after_their_node() {
    let mut b = Builder::new();
    let (x, w) = (b.input("x", f32(&[2, 4])), b.weight("w", f32(&[4])));
    let again = b.input("again", f32(&[2, 4]));
    let norm = b.op("norm", RmsNorm { eps: 0.0, unit_offset: false }, &[x, w]).expect("valid");
    let third = b.op("norm", RmsNorm { eps: 0.0, unit_offset: false }, &[again, w]).expect("valid");
    let names = |ids: &[remat_ir::ValueId]| ids.iter().map(|&id| b.graph().value(id).name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&norm), ["norm", "norm.rstd"]);
    assert_eq!(names(&third), ["norm#2", "norm#2.rstd"]);
    // A name that looks like a made one does not collide with it.
    let mut b = Builder::extend(b.finish());
    let taken = b.input("norm#3", f32(&[1]));
    let fourth = b.op1("norm", Scale { factor: 1.0 }, &[x]).expect("valid");
    assert_eq!(b.graph().value(taken).name, "norm#3");
    assert_ne!(b.graph().value(fourth).name, "norm#3");
    assert_eq!(b.graph().find("norm#2.rstd"), Some(third[1]));
    verify(&b.finish()).expect("valid");
}

#[test]
fn a_source_keeps_its_name_and_one_that_is_taken_is_refused() {
    let declared = |declare: &dyn Fn(&mut Builder) -> ValueId| {
        let mut b = Builder::new();
        let x = b.input("x", f32(&[2]));
        let y = b.op1("y", Scale { factor: 1.0 }, &[x]).expect("valid");
        b.output(y);
        declare(&mut b);
        verify(&b.finish()).map_err(|error| error.to_string())
    };
    let twice = |name: &str| Err(format!("graph: two values are named \"{name}\""));
    assert_eq!(declared(&|b| b.state("x.grad", f32(&[2]))), Ok(()));
    assert_eq!(declared(&|b| b.input("x", f32(&[2]))), twice("x"));
    assert_eq!(declared(&|b| b.state("y", f32(&[2]))), twice("y"));
    assert_eq!(
        declared(&|b| {
            b.state_of("w", ParameterKind::Base, StateRole::FirstMoment, f32(&[2]));
            b.state("w.m", f32(&[2]))
        }),
        twice("w.m")
    );
}

#[test]
fn a_refused_node_names_op_node_and_shapes_and_leaves_no_trace() {
    let mut b = Builder::new();
    let (x, w) = (b.input("x", f32(&[2, 4])), b.weight("w", f32(&[3, 5])));
    let before = b.graph().clone();
    let error = b.op("q_proj", Linear::plain(Layout::OutIn), &[x, w]).expect_err("does not fit").to_string();
    assert_eq!(
        error,
        "linear \"q_proj\": the last axis of x f32[2, 4] does not match w f32[3, 5], whose input size is 5"
    );
    assert_eq!(*b.graph(), before);
}

#[test]
fn regions_nest_and_are_left_even_by_an_error() {
    let mut b = Builder::new();
    let x = b.input("x", f32(&[3]));
    let double = |b: &mut Builder, name: &str| b.op1(name, Scale { factor: 2.0 }, &[x]);
    b.region("outer", |b| {
        double(b, "in outer").expect("valid");
        b.region("inner", |b| double(b, "in inner")).expect("valid");
        let failed = b.region("broken", |b| b.op1("wrong", Add, &[x]));
        assert!(failed.is_err());
        double(b, "in outer again").expect("valid");
    });
    b.enter_region("sibling");
    double(&mut b, "in sibling").expect("valid");
    b.leave_region();
    b.leave_region();
    double(&mut b, "outside").expect("valid");
    let graph = b.finish();
    let regions: Vec<Option<u32>> = graph.nodes.iter().map(|node| node.region.map(|region| region.0)).collect();
    assert_eq!(regions, [Some(0), Some(1), Some(0), Some(3), None]);
    assert_eq!(graph.region_path(Some(RegionId(1))), [RegionId(0), RegionId(1)]);
    let parents: Vec<_> = graph.regions.iter().map(|region| (region.name.as_str(), region.parent)).collect();
    let outer = Some(RegionId(0));
    assert_eq!(parents, [("outer", None), ("inner", outer), ("broken", outer), ("sibling", None)]);
    verify(&graph).expect("valid");
}

#[test]
fn phase_storage_and_users_are_recorded() {
    let mut b = Builder::new();
    let (x, grad) = (b.input("x", f32(&[3])), b.state("grad", f32(&[3])));
    let y = b.op1("y", Add, &[x, x]).expect("valid");
    b.set_context(Phase::Backward, None);
    let sum = b.op1("sum", Accumulate, &[grad, y]).expect("valid");
    b.output(y);
    b.output(y);
    let graph = b.finish();
    assert_eq!(graph.outputs, [y]);
    assert_eq!([graph.node(OpId(0)).phase, graph.node(OpId(1)).phase], [Phase::Forward, Phase::Backward]);
    assert_eq!([graph.value(y).storage, graph.value(sum).storage], [Storage::Arena, Storage::State]);
    assert_eq!(graph.storage_root(sum), grad);
    assert_eq!(graph.users()[x.index()], [OpId(0)], "a node that reads twice is listed once");
}

#[test]
fn the_interpreter_wants_every_source_in_its_shape() {
    let mut b = Builder::new();
    let (x, w) = (b.input("x", f32(&[2])), b.weight("layer.weight", f32(&[2])));
    let y = b.op1("y", Add, &[x, w]).expect("valid");
    let graph = b.finish();
    let run = |sources: Vec<(&str, Array)>| {
        let sources = sources.into_iter().map(|(name, array)| (name.to_string(), array)).collect::<HashMap<_, _>>();
        Interpreter::exact().run(&graph, &sources)
    };
    let pair = |a: f64, b: f64| Array::new([2], vec![a, b]);
    let values = run(vec![("x", pair(1.0, 2.0)), ("layer.weight", pair(0.5, 0.25))]).expect("runs");
    assert_eq!(values[y.index()].data, [1.5, 2.25]);
    let error = run(vec![("x", pair(1.0, 2.0))]).expect_err("missing").to_string();
    assert_eq!(error, "value \"layer.weight\": not given");
    let wrong = Array::zeros([2, 1]);
    let error = run(vec![("x", pair(1.0, 2.0)), ("layer.weight", wrong)]).expect_err("wrong shape").to_string();
    assert_eq!(error, "value \"layer.weight\": has shape [2, 1], the graph expects [2]");
}

#[test]
fn the_interpreter_rounds_at_op_outputs_if_asked() {
    let mut b = Builder::new();
    let x = b.input("x", Type::new(DType::BF16, [1]));
    let y = b.op1("y", Scale { factor: 1.0 }, &[x]).expect("valid");
    let graph = b.finish();
    let sources = HashMap::from([("x".to_string(), Array::new([1], vec![1.0 + 1.0 / 1024.0]))]);
    let run = |rounding| Interpreter { rounding }.run(&graph, &sources).expect("runs")[y.index()].data[0];
    assert_eq!(run(Rounding::None), 1.0 + 1.0 / 1024.0);
    assert_eq!(run(Rounding::ToDtype), 1.0);
}
