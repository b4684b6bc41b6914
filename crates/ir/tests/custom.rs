//! Custom ops in the text form: printed with name and attributes, read with the definitions given.

use remat_ir::{Array, Builder, Custom, CustomOp, CustomOps, Type, parse, parse_with};
use remat_tensor::DType;
use std::sync::Arc;

struct Negate;

impl CustomOp for Negate {
    fn name(&self) -> &str {
        "negate"
    }
    fn infer(&self, _attributes: &str, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        inputs.first().map(|x| vec![(*x).clone()]).ok_or_else(|| "expects an operand".to_string())
    }
    fn eval(&self, _attributes: &str, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].map(|x| -x)]
    }
}

#[test]
fn a_custom_op_is_printed_and_read_with_its_definition() {
    let mut b = Builder::new();
    let x = b.input("x", Type::new(DType::F32, [2]));
    let y = b.op1("y", Custom::new(Arc::new(Negate), "with \"quotes\""), &[x]).expect("fits");
    b.output(y);
    let graph = b.finish();
    let text = graph.to_string();
    let mut known = CustomOps::new();
    known.register(Arc::new(Negate));
    assert_eq!(parse_with(&text, &known).expect("registered"), graph);
    let refused = parse(&text).expect_err("not registered").to_string();
    assert!(refused.contains("custom op \"negate\" is not registered"), "{refused}");
    let broken = text.replace("\"name\":\"negate\"", "\"name\":3");
    let refused = parse_with(&broken, &known).expect_err("no name").to_string();
    assert!(refused.contains("both text"), "{refused}");
}
