//! The guide's page on models of one's own shows pieces of the examples: each as it stands in the program that is run.

use std::path::Path;

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of a page with this fence.
fn blocks<'p>(page: &'p str, fence: &str) -> Vec<&'p str> {
    let fenced = page.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    fenced.filter(|(info, _)| *info == fence).map(|(_, block)| block).collect()
}

#[test]
fn what_the_guide_shows_of_an_example_is_the_example() {
    let page = text("../../docs/own-model.md");
    let names = ["digits_cnn", "encoder_decoder", "custom_op"];
    let examples = names.map(|name| text(&format!("examples/{name}.rs")));
    let shown = blocks(&page, "rust,ignore");
    for (name, example) in names.iter().zip(&examples) {
        let found = shown.iter().filter(|block| example.contains(**block)).count();
        assert!(found >= 2, "{found} pieces are shown of {name}");
    }
    for block in &shown {
        assert!(examples.iter().any(|example| example.contains(block)), "no example has this:\n{block}");
    }
}
