//! The code base keeps its own rules.

use std::path::Path;

#[test]
fn the_code_base_is_tidy() {
    let faults = remat_xtask::tidy::faults(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
