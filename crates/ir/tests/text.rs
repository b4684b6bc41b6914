//! The text form: what is printed is read back exactly, and no text makes the reader panic.

use proptest::prelude::*;
use remat_ir::ops::{Add, Attention, Layout, Linear, LinearDw, MaskedFill, RmsNorm, Scale, Split, Zeros};
use remat_ir::{
    Builder, Graph, Op, OpDef, OpId, ParameterKind, Phase, Sample, SourceRole, StateRole, Storage, Type, parse,
};
use remat_tensor::DType;
use std::sync::LazyLock;

/// Printed once: samples of gradient ops evaluate their forward.
static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let graphs = Op::samples().iter().map(graph_of).collect::<Vec<_>>();
    graphs.iter().chain([&rich_graph()]).map(Graph::to_string).collect()
});

fn f32(shape: &[usize]) -> Type {
    Type::new(DType::F32, shape)
}

/// A graph of one op, its operands states so that every op can be applied.
fn graph_of(sample: &Sample) -> Graph {
    let mut b = Builder::new();
    let sources = sample.types.iter().enumerate();
    let mut source = |(i, ty): (usize, &Type)| match ty.dtype.quant_format() {
        None => b.state(&format!("x{i}"), ty.clone()),
        Some(_) => b.weight(&format!("x{i}"), ty.clone()),
    };
    let inputs: Vec<_> = sources.map(&mut source).collect();
    let results = b.op("node", sample.op.clone(), &inputs).expect("samples are valid");
    results.into_iter().for_each(|id| b.output(id));
    b.finish()
}

/// A graph with everything that has a text: regions, phases, donation, recomputation, odd names, a source behind a node.
fn rich_graph() -> Graph {
    let mut b = Builder::new();
    let x = b.input("x", f32(&[2, 3]));
    let w = b.weight("layers.0.\"w\"\\ \u{301}\t\u{7f}é\n", f32(&[4, 3]));
    b.enter_region("layers");
    b.enter_region("0 \"quoted\"");
    let y = b.op1("y\u{0}'", Linear::plain(Layout::OutIn), &[x, w]).expect("valid");
    b.leave_region();
    b.name_for_policies(y, "as \"quoted\" =");
    let late = b.state_of("w", ParameterKind::AdapterB, StateRole::Gradient, f32(&[4, 3]));
    b.scalar("lr", DType::F32);
    b.random_key();
    b.constant("inv_freq", f32(&[2]));
    b.source("cache", f32(&[1, 8, 2]), Storage::State, SourceRole::KvCache);
    b.source("a", f32(&[4]), Storage::Weight, SourceRole::Parameter(ParameterKind::AdapterA, StateRole::Value));
    let norm = b.op("norm", RmsNorm { eps: 1e-6, unit_offset: false }, &[y, late]);
    assert!(norm.is_err(), "a refused node leaves no trace");
    b.leave_region();
    b.set_context(Phase::Backward, None);
    let again = b.op1("y again", Linear::plain(Layout::OutIn), &[x, w]).expect("valid");
    let dw = LinearDw { layout: Layout::OutIn, alpha: -0.1, accumulate: true };
    let dw = b.op1("dw", dw, &[x, again, late]).expect("valid");
    b.output(y);
    b.output(dw);
    let mut graph = b.finish();
    graph.nodes[1].recompute_of = Some(OpId(0));
    graph
}

#[test]
fn print_then_parse_gives_the_graph_back() {
    for sample in Op::samples() {
        let graph = graph_of(&sample);
        let text = graph.to_string();
        assert_eq!(parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}")), graph, "{text}");
    }
    let graph = rich_graph();
    assert_eq!(parse(&graph.to_string()).expect("valid"), graph);
    assert_eq!(parse(&Graph::default().to_string()).expect("valid"), Graph::default());
}

#[test]
fn attributes_keep_every_bit() {
    for factor in [0.1f32, 1.0 / 3.0, f32::MIN_POSITIVE, f32::MAX, -0.0, 1e-7, 16_777_217.0] {
        let graph = graph_of(&Sample::new(Scale { factor }).normal([2]));
        let Op::Scale(read) = &parse(&graph.to_string()).expect("valid").nodes[0].op.clone() else { panic!("a scale") };
        assert_eq!(read.factor.to_bits(), factor.to_bits());
    }
}

#[test]
fn attributes_may_be_infinite() {
    for value in [f32::NEG_INFINITY, f32::INFINITY, -2.5] {
        let sample = Sample::new(MaskedFill { value, filled: true }).normal([2]).ids([2], 2);
        let text = graph_of(&sample).to_string();
        let Op::MaskedFill(read) = &parse(&text).expect("valid").nodes[0].op.clone() else { panic!("{text}") };
        assert_eq!(read.value.to_bits(), value.to_bits());
    }
    let text = graph_of(&Sample::new(MaskedFill { value: f32::INFINITY, filled: true }).normal([2]).ids([2], 2));
    assert!(text.to_string().contains(r#"masked_fill{"value":"inf","filled":true}"#), "{text}");
    let refused = parse(&text.to_string().replace("\"inf\"", "\"many\"")).expect_err("no number").to_string();
    assert!(refused.contains("'many' is no number"), "{refused}");
}

#[test]
fn the_text_reads_as_documented() {
    let mut b = Builder::new();
    let (x, w) = (b.input("x", f32(&[2, 4])), b.weight("w", f32(&[3, 4])));
    b.state_of("a", ParameterKind::AdapterA, StateRole::FirstMoment, f32(&[2]));
    let y = b.region("layers.0", |b| b.op1("y", Linear::plain(Layout::OutIn), &[x, w])).expect("valid");
    let pieces = b.op("cut", Split { sizes: vec![1, 2], groups: 1, behind: 0 }, &[y]).expect("valid");
    b.output(pieces[1]);
    let expected = r#"graph {
  region @0 "layers.0"
  input %0 "x": f32[2, 4]
  weight %1 "w": f32[3, 4]
  state %2 "a.m": f32[2] adapter_a first_moment
  #0 %3 "y": f32[2, 3] = linear{"layout":"out_in","alpha":1.0,"bias":false,"residual":false}(%0, %1) "y" @0
  #1 %4 "cut": f32[2, 1], %5 "cut.1": f32[2, 2] = split{"sizes":[1,2]}(%3) "cut"
  outputs(%5)
}"#;
    assert_eq!(b.finish().to_string(), expected);
}

#[test]
fn faults_are_told_with_their_line() {
    let head = "graph {\n  input %0 \"x\": f32[2]\n";
    let node = |text: &str| format!("{head}  #0 %1 \"y\": f32[2] = {text}\n  outputs(%1)\n}}");
    let cases = [
        (String::new(), "line 1: the text ends before the graph does (expected: outputs(..), then a closing brace)"),
        ("grph {".to_string(), "line 1: expected 'graph {' before 'grph {'"),
        (head.to_string(), "line 2: the text ends before the graph does (expected: outputs(..), then a closing brace)"),
        (format!("{head}  outputs()\n}}\nx"), "line 5: nothing may follow the closing brace"),
        (format!("{head}  outputs() 1\n}}"), "line 3: unexpected '1'"),
        (format!("{head}  outputs(%7)\n}}"), "graph: output %7 does not exist"),
        (
            format!("{head}  thing %1\n"),
            "line 3: 'thing' is not a line of a graph (region, input, weight, state, #, outputs)",
        ),
        (format!("{head}  input %0 \"z\": f32[2]\n"), "line 3: %0 is defined twice"),
        (
            format!("{head}  input %4000000000 \"z\": f32[2]\n  outputs()\n}}"),
            "line 5: %1 is not defined, but %4000000000 is: values are numbered without gaps",
        ),
        (format!("{head}  input %1 \"z\": f32[2] moment\n"), "line 3: 'moment' is no role of a source"),
        (
            format!("{head}  input %1 \"z\": f32[2] base gradient\n  outputs()\n}}"),
            "graph: value \"z\": base gradient cannot be input",
        ),
        (format!("{head}  input %5000000000 \"z\": f32[2]\n"), "line 3: %5000000000 is too large"),
        (format!("{head}  input %1 \"z: f32[2]\n"), "line 3: expected a quoted name before '\"z: f32[2]'"),
        (
            format!("{head}  input %1 \"\\u{{110000}}\": f32[2]\n"),
            "line 3: expected a quoted name before '\"\\u{110000}\": f32[2]'",
        ),
        (
            format!("{head}  input %1 \"z\": f64[2]\n"),
            "line 3: unknown dtype 'f64' (known: f32, bf16, f16, i32, u32, u8, i8, nf4, nf4_single, int8)",
        ),
        (
            format!("{head}  input %1 \"z\": f32[99999999999999999999]\n"),
            "line 3: expected a number before '99999999999999999999]'",
        ),
        (
            format!("{head}  input %1 \"z\": f32[2, 0]\n  outputs()\n}}"),
            "graph: value \"z\": f32[2, 0] has an axis of size 0",
        ),
        (format!("{head}  region @1 \"r\"\n"), "line 3: region @1 must be @0: regions are numbered in order"),
        (format!("{head}  #1 = add() \"y\"\n"), "line 3: node #1 must be #0: nodes are numbered in order"),
        (node("fly(%0) \"y\""), "line 3: there is no op named 'fly'"),
        (
            node("scale(%0) \"y\""),
            "line 3: attributes null: invalid type: null, expected struct Scale at line 1 column 4",
        ),
        (
            node("scale{\"factor\":1,\"x\":2}(%0) \"y\""),
            "line 3: attributes {\"factor\":1,\"x\":2}: unknown field `x`, expected `factor` at line 1 column 15",
        ),
        (node("scale{\"factor\":1(%0) \"y\""), "line 3: attributes: expected `,` or `}` at line 1 column 12"),
        (node("scale{\"factor\":1.0}(%0, ) \"y\""), "line 3: expected '%' before ') \"y\"'"),
        (node("scale{\"factor\":1.0}(%0)"), "line 3: expected a quoted name before ''"),
        (
            node("scale{\"factor\":1e99}(%0) \"y\""),
            "line 3: attributes {\"factor\":1e99}: number out of range at line 1 column 14",
        ),
        (node("scale{\"factor\":1.0}(%1) \"y\""), "graph: node \"y\" reads \"y\" before it is computed"),
        (node("add(%0) \"y\""), "add \"y\": expects 2 operands, got 1"),
        (node("scale{\"factor\":1.0}(%0) \"y\" @3"), "graph: node \"y\" is in a region that does not exist"),
        (
            node("scale{\"factor\":1.0}(%0) \"y\" recompute #0"),
            "graph: node \"y\" repeats \"y\", which is not before it",
        ),
    ];
    for (text, expected) in cases {
        let error = parse(&text).expect_err(expected).to_string();
        assert_eq!(error, expected, "{text}");
    }
}

#[test]
fn hostile_sizes_are_refused_without_work() {
    let giant = Zeros { dtype: DType::F32, shape: vec![usize::MAX, usize::MAX] };
    let text = graph_of(&Sample::new(Zeros { dtype: DType::F32, shape: vec![2] })).to_string();
    let attributes = Op::from(giant).attributes();
    let start = text.find('{').expect("a brace") + 1;
    let start = start + text[start..].find('{').expect("attributes");
    let end = start + text[start..].find('}').expect("attributes") + 1;
    let error = parse(&format!("{}{attributes}{}", &text[..start], &text[end..])).expect_err("too large").to_string();
    assert!(error.ends_with("is larger than 256 TiB"), "{error}");
    // Deep nesting inside attributes must not overflow the stack.
    let deep =
        |text: String| parse(&format!("graph {{\n  #0 %0 \"y\": f32[1] = zeros{{\"shape\":{text}")).expect_err("deep");
    let open = deep("[".repeat(1_000_000)).to_string();
    assert!(open.starts_with("line 2: attributes: EOF while parsing"), "{open}");
    let closed = deep(format!("{}{}}}() \"y\"", "[".repeat(1_000_000), "]".repeat(1_000_000))).to_string();
    assert!(closed.starts_with("line 2: attributes ") && closed.contains("invalid type: sequence"), "{:.200}", closed);
}

#[test]
fn reading_time_grows_with_the_length_only() {
    let mut b = Builder::new();
    let mut x = b.input("x", f32(&[4]));
    for _ in 0..20_000 {
        x = b.op1("same name", Add, &[x, x]).expect("valid");
    }
    let graph = b.finish();
    // Quadratic reading of two megabytes would take minutes.
    assert_eq!(parse(&graph.to_string()).expect("valid"), graph);
}

/// One change of a text: at a place, delete some characters and put in others.
fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, String)>> {
    let piece = prop_oneof![
        Just(String::new()),
        prop::sample::select(vec![
            "%",
            "#",
            "@",
            "\"",
            "\\u{",
            "}",
            "{",
            "[",
            "]",
            "(",
            ")",
            ",",
            "=",
            "-1",
            "0",
            "1",
            "2",
            "3",
            "7",
            "4294967295",
            "18446744073709551615",
            "null",
            "NaN",
            "1e999",
            "\n",
            "f32",
            "bf16",
            "i32",
            "u32",
            " backward",
            " recompute #0",
            "add",
            "rope",
            "state",
            "é",
        ])
        .prop_map(str::to_string),
        "\\PC{0,3}",
    ];
    prop::collection::vec((any::<prop::sample::Index>(), 0usize..4, piece), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_text_never_panics(which in any::<prop::sample::Index>(), edits in edits()) {
        let mut text = TEXTS[which.index(TEXTS.len())].clone();
        for (at, deleted, inserted) in edits {
            let places: Vec<usize> = text.char_indices().map(|(i, _)| i).chain([text.len()]).collect();
            let at = at.index(places.len());
            let end = places[(at + deleted).min(places.len() - 1)];
            text.replace_range(places[at]..end, &inserted);
        }
        if let Ok(graph) = parse(&text) {
            // What is accepted is a graph like any other.
            prop_assert_eq!(parse(&graph.to_string()), Ok(graph));
        }
    }

    #[test]
    fn any_text_never_panics(text in "(graph \\{\n)?(\\PC|\n){0,80}") {
        let _ = parse(&text);
    }
}

#[test]
fn attention_prints_an_absent_window() {
    let sample = Op::samples().into_iter().find(|sample| matches!(sample.op, Op::Attention(_))).expect("a sample");
    let Op::Attention(Attention { window, .. }) = &sample.op else { panic!("attention") };
    assert_eq!(window, &None);
    assert!(graph_of(&sample).to_string().contains("\"window\":null"));
}
