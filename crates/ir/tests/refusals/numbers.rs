//! Refusals of functions of numbers, by element and along axes.

use remat_ir::Op;
use remat_ir::ops::*;

/// The same of products, numbers and masks.
pub fn refusals() -> Vec<(Op, &'static str, &'static str)> {
    vec![
        (
            Matmul::PLAIN.into(),
            "f32[2, 3, 4] f32[2, 3, 4]",
            "a f32[2, 3, 4] and b f32[2, 3, 4]: sums over 4 and 3 terms do not fit",
        ),
        (
            Matmul::PLAIN.into(),
            "f32[2, 3, 4] f32[3, 4, 5]",
            "the leading axes of a f32[2, 3, 4] and b f32[3, 4, 5] do not broadcast",
        ),
        (Matmul::PLAIN.into(), "f32[4] f32[4, 5]", "a f32[4] must have at least 2 axes"),
        (Gather { axis: 2 }.into(), "f32[2, 3] i32[4]", "x f32[2, 3] has no axis 2"),
        (Gather { axis: 0 }.into(), "f32[2, 3] f32[4]", "ids f32[4] must be i32"),
        (
            GatherGrad { axis: 1, size: 3 }.into(),
            "f32[2, 3] i32[4]",
            "dy f32[2, 3] must have the axes of ids i32[4] from axis 1 on",
        ),
        (
            TakeAlongAxis { axis: 1 }.into(),
            "f32[2, 3] i32[3, 3]",
            "ids i32[3, 3] must have the shape of x f32[2, 3] in all axes but axis 1",
        ),
        (
            TakeAlongAxisGrad { axis: 0, size: 3 }.into(),
            "f32[2, 3] i32[3, 3]",
            "dy f32[2, 3] must have the shape of ids i32[3, 3]",
        ),
        (Select.into(), "f32[2] f32[2] f32[2]", "the mask f32[2] must be i32"),
        (Select.into(), "i32[2] f32[2] bf16[2]", "a f32[2] and b bf16[2] must have one dtype"),
        (
            MaskedFill { value: 0.0, filled: true }.into(),
            "f32[3] i32[2, 3]",
            "the mask i32[2, 3] does not broadcast to x f32[3]: sizes must be equal or 1",
        ),
        (MaskedFill { value: f32::NAN, filled: true }.into(), "f32[3] i32[3]", "attribute value must be a number"),
        (Softmax { log: true }.into(), "i32[3]", "x i32[3] must hold real numbers"),
        (Route { experts_per_token: 2 }.into(), "bf16[4, 8]", "scores bf16[4, 8] must be f32 with at least one axis"),
        (
            Route { experts_per_token: 9 }.into(),
            "f32[4, 8]",
            "attribute experts_per_token = 9 must be from 1 to the 8 experts of f32[4, 8]",
        ),
        (GroupedLinear::plain(Layout::OutIn).into(), "i32[2] f32[3, 4] f32[5, 4]", "expects 4 operands, got 3"),
        (
            GroupedLinear::plain(Layout::OutIn).into(),
            "i32[2] f32[3, 4] f32[5, 4] f32[6, 4]",
            "the weights f32[5, 4] and f32[6, 4] must be of one type",
        ),
        (
            GroupedLinear::plain(Layout::OutIn).into(),
            "i32[1] f32[1, 3, 4] f32[5, 4]",
            "ends i32[1] must have one axis, and x f32[1, 3, 4] two",
        ),
        (
            GroupedLinearDw { layout: Layout::OutIn, alpha: 1.0, groups: 3, accumulate: false }.into(),
            "i32[2] f32[3, 4] f32[3, 5]",
            "attribute groups = 3 does not fit ends i32[2]",
        ),
        (
            GroupedLinearDw { layout: Layout::OutIn, alpha: 1.0, groups: 2, accumulate: true }.into(),
            "i32[2] f32[3, 4] f32[3, 5] f32[5, 4]",
            "expects 5 operands, got 4",
        ),
    ]
}
