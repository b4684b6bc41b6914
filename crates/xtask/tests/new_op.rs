//! `new-op` on a copy of the files that it touches: what it writes, where, and what it refuses.

use remat_xtask::{new_op, tidy};
use std::fs;
use std::path::Path;

/// The code base's own files: those that new-op reads, and a file of each op.
fn copy() -> tempfile::TempDir {
    let (root, copy) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), tempfile::tempdir().expect("a folder"));
    let ops = fs::read_to_string(root.join(new_op::TABLE)).expect("it is there");
    let names = new_op::table(&ops).into_iter().flat_map(|(_, name)| [new_op::definition(name), new_op::kernel(name)]);
    for file in names.chain([new_op::TABLE, new_op::KERNELS, new_op::DISPATCH].map(str::to_string)) {
        let to = copy.path().join(&file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        fs::copy(root.join(&file), to).expect("copied");
    }
    copy
}

fn text(root: &Path, file: &str) -> String {
    fs::read_to_string(root.join(file)).expect("it is there")
}

/// The one line that `now` has and `was` has not, and the lines around it.
fn added(was: &str, now: &str) -> [String; 3] {
    let (was, now): (Vec<&str>, Vec<&str>) = (was.lines().collect(), now.lines().collect());
    let at = (0..now.len()).find(|&at| was.get(at) != Some(&now[at])).expect("a line more");
    assert_eq!([&now[..at], &now[at + 1..]].concat(), was, "and nothing else");
    [now[at - 1], now[at], now[at + 1]].map(|line| line.trim().to_string())
}

#[test]
fn an_op_is_two_files_a_line_in_each_table_and_an_arm() {
    let (copy, original) = (copy(), copy());
    assert_eq!(tidy::op_faults(copy.path()), Vec::<String>::new());
    let written = new_op::add(copy.path(), "square_root").expect("a new op");
    let files = ["crates/ir/src/ops/square_root.rs", "crates/cpu/src/kernels/square_root.rs"];
    let tables = [new_op::TABLE, new_op::KERNELS, new_op::DISPATCH];
    assert_eq!(written, files.into_iter().chain(tables).map(|file| copy.path().join(file)).collect::<Vec<_>>());
    let [table, kernels, dispatch] = tables.map(|file| added(&text(original.path(), file), &text(copy.path(), file)));
    assert_eq!((&table[1][..], &table[2][..]), ("SquareRoot square_root,", "}"));
    assert_eq!(kernels, ["pub mod split;", "pub mod square_root;", "pub mod square_sums;"]);
    let arm = "Op::SquareRoot(_) => kernels::square_root::square_root(pool, call.shared::<T>(0), call.out::<T>(0)),";
    assert_eq!((&dispatch[1][..], &dispatch[2][..]), (arm, "Op::Custom(op) => {"));
    let [op, kernel] = files.map(|file| text(copy.path(), file));
    assert!(op.starts_with("//! `square_root`: y = x, element-wise.\n") && op.contains("impl OpDef for SquareRoot {"));
    assert!(kernel.starts_with("//! `square_root`: ") && kernel.contains("pub fn square_root<'a, T: Element>("));
    assert!(!(op + &kernel).contains("NAME"));
    assert_eq!(tidy::op_faults(copy.path()), Vec::<String>::new());
}

#[test]
fn names_that_are_taken_or_no_names_are_refused_and_nothing_is_written() {
    let copy = copy();
    let before = text(copy.path(), new_op::TABLE);
    for taken in ["gelu", "linear_dw", "adamw", "gemm"] {
        fs::write(copy.path().join(new_op::kernel("gemm")), "").expect("written");
        let error = new_op::add(copy.path(), taken).expect_err("taken").to_string();
        assert_eq!(error, format!("there is an op or a kernel named {taken}"));
    }
    for wrong in ["", "SquareRoot", "soft-cap", "2d", "soft__cap", "_cap", "cap_", "custom", "mod", "../x", "é"] {
        let error = new_op::add(copy.path(), wrong).expect_err("no name").to_string();
        assert!(error.contains("is no name for an op"), "{wrong}: {error}");
    }
    assert_eq!(text(copy.path(), new_op::TABLE), before);
    let missing = new_op::add(Path::new("/nowhere"), "square_root").expect_err("no code").to_string();
    assert!(missing.starts_with("crates/ir/src/ops/mod.rs: "), "{missing}");
}

#[test]
fn an_op_that_lacks_a_place_and_a_list_of_ops_elsewhere_are_untidy() {
    let copy = copy();
    let spoil = |file: &str, old: &str, new: &str| {
        let was = text(copy.path(), file);
        assert!(was.contains(old), "{file}: {old}");
        fs::write(copy.path().join(file), was.replacen(old, new, 1)).expect("written");
    };
    spoil(new_op::KERNELS, "pub mod gelu;\n", "");
    spoil(new_op::DISPATCH, "Op::Gelu(", "Op::GeluGrad(");
    fs::remove_file(copy.path().join(new_op::definition("rope"))).expect("removed");
    fs::write(copy.path().join(new_op::definition("silu")), "").expect("written");
    let faults = tidy::op_faults(copy.path());
    assert_eq!(
        faults,
        [
            "crates/ir/src/ops/rope.rs: op rope has no such file",
            "crates/cpu/src/kernels.rs: op gelu has no `pub mod gelu;`",
            "crates/cpu/src/executor/dispatch.rs: op gelu has no arm `Op::Gelu(..)`",
            "crates/ir/src/ops/silu.rs: is not in the table of ops",
        ]
    );
    let of = |file: &str, line: &str| tidy::list_of_ops(file, line, &["Gelu", "AdamW"]);
    for line in [
        "    Op::Gelu(_) => 3,",
        "if let Op::AdamW(op) = op {",
        "x.op.name() == \"gelu\"",
        "op.name().starts_with(\"a\")",
    ] {
        assert!(of("crates/plan/src/price.rs", line), "{line}");
        assert!(!of("crates/cpu/src/executor/dispatch.rs", line) && !of("crates/plan/tests/x.rs", line), "{line}");
    }
    for line in ["// Op::Gelu is one", "Op::samples()", "Op::NAMES", "LoopOp::Gelu(_)", "node.op.name() == name"] {
        assert!(!of("crates/plan/src/price.rs", line), "{line}");
    }
}
