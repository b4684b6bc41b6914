//! Files from strangers. Each [`Target`] is a reader of files: inputs that it takes, and what must hold of any others.
//!
//! Invariant: whatever the bytes, a reader answers or refuses in words; it does not panic, hang, or hold more than in
//! proportion to what it was given. `tests/changed_inputs.rs` changes the inputs a few times in the test suite, `fuzz/`
//! as often as there is time for. Files only for tests; never a dependency of a shipped crate.

mod adapter;
mod config;
mod fixtures;
mod gguf;
mod index;
mod mutate;
mod refusal;
mod rows;
mod run_folder;
mod safetensors;
mod settings;
mod template;
mod tokenizer;

pub use mutate::Mutator;

/// A reader of files.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name, as of its fuzz target.
    pub name: &'static str,
    /// Inputs that it takes.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input and panics if what must hold does not.
    pub examine: fn(&[u8]),
}

/// All readers.
pub const TARGETS: &[Target] = &[
    Target { name: "adapter", seeds: adapter::seeds, examine: adapter::examine },
    Target { name: "config", seeds: config::seeds, examine: config::examine },
    Target { name: "gguf", seeds: gguf::seeds, examine: gguf::examine },
    Target { name: "index", seeds: index::seeds, examine: index::examine },
    Target { name: "rows", seeds: rows::seeds, examine: rows::examine },
    Target { name: "run_folder", seeds: run_folder::seeds, examine: run_folder::examine },
    Target { name: "safetensors", seeds: safetensors::seeds, examine: safetensors::examine },
    Target { name: "settings", seeds: settings::seeds, examine: settings::examine },
    Target { name: "template", seeds: template::seeds, examine: template::examine },
    Target { name: "tokenizer", seeds: tokenizer::seeds, examine: tokenizer::examine },
];

/// The target of a name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target is named \"{name}\""))
}
