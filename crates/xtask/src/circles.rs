//! Circles of files: a file uses an item of another that uses, directly or through others, one of its own.
//!
//! Method: of each crate the modules are read from its root on. A path (in a `use`, an expression, a type, a macro's tokens)
//! leads to the file that defines the item: a re-export is followed and is no use itself, a module that is only passed
//! through counts for nothing.
//! What is behind `cfg(test)` is left out, and so are methods, whose file only the compiler knows.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// Segments of a path, such as `crate`, `row`, `Row`.
type Segments = Vec<String>;

/// How many re-exports lead to an item at most.
const MOST_HOPS: usize = 32;

/// One module that has a file of its own.
struct Module {
    file: PathBuf,
    /// From the crate's root, which is empty.
    path: Segments,
    /// Names that are defined here.
    items: BTreeSet<String>,
    /// Names that a `use` brings, and where from; a re-export is no different here.
    imports: BTreeMap<String, Segments>,
    /// Where all names come from.
    globs: Vec<Segments>,
    /// All paths that stand in the file.
    paths: BTreeSet<Segments>,
}

/// Files that use each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Circle {
    /// Sorted.
    pub files: Vec<PathBuf>,
    /// What ties them: a file, another of which it uses something, and the path by which it does.
    pub ties: Vec<(PathBuf, PathBuf, String)>,
}

/// From a file to those whose items it uses, with the path of one of these.
type Arrows<'a> = BTreeMap<&'a Path, BTreeMap<&'a Path, String>>;

/// The circles of a crate whose root is `root` (its `lib.rs` or `main.rs`).
pub fn circles(root: &Path) -> Vec<Circle> {
    let mut modules = BTreeMap::new();
    let folder = root.parent().unwrap_or(Path::new(""));
    read_module(root, folder, Vec::new(), &mut modules);
    let arrows: Arrows = modules.values().map(|module| (&*module.file, uses(module, &modules))).collect();
    let of = |files: Vec<PathBuf>| {
        let inside = |file: &Path| files.iter().any(|other| other == file);
        let all = arrows.iter().flat_map(|(&from, there)| there.iter().map(move |(&to, path)| (from, to, path)));
        let ties = all.filter(|(from, to, _)| inside(from) && inside(to));
        let ties = ties.map(|(from, to, path)| (from.to_path_buf(), to.to_path_buf(), path.clone())).collect();
        Circle { ties, files }
    };
    components(&arrows).into_iter().map(of).collect()
}

/// Files whose items a module uses.
fn uses<'a>(module: &Module, modules: &'a BTreeMap<Segments, Module>) -> BTreeMap<&'a Path, String> {
    let found = module.paths.iter().filter_map(|path| Some((defining(&module.path, path, modules, MOST_HOPS)?, path)));
    let others = found.filter(|(found, _)| found.file != module.file);
    others.map(|(found, path)| (&*found.file, path.join("::"))).collect()
}

/// The module that defines what `path`, as it stands in the module `from`, leads to; `None` if that is another crate's, a
/// module itself, or unknown.
fn defining<'a>(
    from: &[String],
    path: &[String],
    modules: &'a BTreeMap<Segments, Module>,
    hops: usize,
) -> Option<&'a Module> {
    let hops = hops.checked_sub(1)?;
    let (mut at, mut rest) = (from.to_vec(), path);
    match rest.first()?.as_str() {
        "crate" => (at, rest) = (Vec::new(), &rest[1..]),
        "self" => rest = &rest[1..],
        _ => {}
    }
    while rest.first().is_some_and(|first| first == "super") {
        at.pop()?;
        rest = &rest[1..];
    }
    loop {
        let name = rest.first()?;
        let child: Segments = at.iter().chain([name]).cloned().collect();
        let module = modules.get(&at)?;
        if modules.contains_key(&child) {
            (at, rest) = (child, &rest[1..]);
        } else if module.items.contains(name) {
            return Some(module);
        } else if let Some(import) = module.imports.get(name) {
            // A name that stands for another crate's.
            if import == path && at == from {
                return None;
            }
            let whole: Segments = import.iter().chain(&rest[1..]).cloned().collect();
            return defining(&at, &whole, modules, hops);
        } else {
            let through = |glob: &Segments| {
                let whole: Segments = glob.iter().chain(rest).cloned().collect();
                defining(&at, &whole, modules, hops)
            };
            return module.globs.iter().find_map(through);
        }
    }
}

/// Reads a module's file and those of its children, which lie in `folder`.
fn read_module(file: &Path, folder: &Path, path: Segments, modules: &mut BTreeMap<Segments, Module>) {
    let Some(parsed) = fs::read_to_string(file).ok().and_then(|text| syn::parse_file(&text).ok()) else { return };
    let mut reader = Reader::default();
    reader.visit_file(&parsed);
    for name in std::mem::take(&mut reader.children) {
        let flat = folder.join(format!("{name}.rs"));
        let child = if flat.is_file() { flat } else { folder.join(&name).join("mod.rs") };
        let path = path.iter().chain([&name]).cloned().collect();
        read_module(&child, &folder.join(&name), path, modules);
    }
    let Reader { items, imports, globs, paths, .. } = reader;
    modules.insert(path.clone(), Module { file: file.to_path_buf(), path, items, imports, globs, paths });
}

/// Collects what one file says.
#[derive(Default)]
struct Reader {
    children: Vec<String>,
    items: BTreeSet<String>,
    imports: BTreeMap<String, Segments>,
    globs: Vec<Segments>,
    paths: BTreeSet<Segments>,
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name) = head(item);
        if attributes.iter().any(is_test) {
            return;
        }
        self.items.extend(name);
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        match &module.content {
            // Its file is this one, and its `super` too.
            Some(_) => visit::visit_item_mod(self, module),
            None => self.children.push(module.ident.to_string()),
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_use(&item.tree, Vec::new(), matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

impl Reader {
    fn add_use(&mut self, tree: &UseTree, mut before: Segments, is_private: bool) {
        let name = match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                return self.add_use(&path.tree, before, is_private);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.add_use(tree, before.clone(), is_private));
            }
            UseTree::Glob(_) => return self.globs.push(before),
            UseTree::Name(name) if name.ident == "self" => before.last().cloned().unwrap_or_default(),
            UseTree::Name(name) => {
                before.push(name.ident.to_string());
                name.ident.to_string()
            }
            UseTree::Rename(renamed) => {
                before.push(renamed.ident.to_string());
                renamed.rename.to_string()
            }
        };
        if is_private {
            self.paths.insert(before.clone());
        }
        self.imports.insert(name, before);
    }

    /// Paths among the tokens of a macro's call.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Segments = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.add_path(&mut path);
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.add_path(&mut path);
                    self.add_tokens(group.stream());
                }
                _ => self.add_path(&mut path),
            }
        }
        self.add_path(&mut path);
    }

    fn add_path(&mut self, path: &mut Segments) {
        let path = std::mem::take(path);
        if !path.is_empty() {
            self.paths.insert(path);
        }
    }
}

fn is_test(attribute: &Attribute) -> bool {
    let is_cfg = attribute.path().is_ident("cfg");
    is_cfg && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
}

/// An item's attributes, and the name that it defines.
fn head(item: &Item) -> (&[Attribute], Option<String>) {
    let named = |attributes, name: &syn::Ident| (attributes, Some(name.to_string()));
    match item {
        Item::Const(item) => named(&item.attrs[..], &item.ident),
        Item::Enum(item) => named(&item.attrs[..], &item.ident),
        Item::Fn(item) => named(&item.attrs[..], &item.sig.ident),
        Item::Macro(item) => (&item.attrs[..], item.ident.as_ref().map(ToString::to_string)),
        Item::Static(item) => named(&item.attrs[..], &item.ident),
        Item::Struct(item) => named(&item.attrs[..], &item.ident),
        Item::Trait(item) => named(&item.attrs[..], &item.ident),
        Item::TraitAlias(item) => named(&item.attrs[..], &item.ident),
        Item::Type(item) => named(&item.attrs[..], &item.ident),
        Item::Union(item) => named(&item.attrs[..], &item.ident),
        Item::Impl(item) => (&item.attrs[..], None),
        // An inline module's names are found as the file's own.
        Item::Mod(item) => (&item.attrs[..], item.content.as_ref().map(|_| item.ident.to_string())),
        Item::Use(item) => (&item.attrs[..], None),
        _ => (&[], None),
    }
}

/// Strongly connected components of more than one file.
fn components(arrows: &Arrows) -> Vec<Vec<PathBuf>> {
    let reached: BTreeMap<&Path, BTreeSet<&Path>> = arrows.keys().map(|&from| (from, reach(from, arrows))).collect();
    let mut found: Vec<Vec<PathBuf>> = Vec::new();
    for (&from, there) in &reached {
        let back = there.iter().filter(|to| reached.get(*to).is_some_and(|back| back.contains(from)));
        let circle: Vec<PathBuf> = back.map(|to| to.to_path_buf()).collect();
        // A file that reaches itself does so by another.
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

fn reach<'a>(from: &'a Path, arrows: &Arrows<'a>) -> BTreeSet<&'a Path> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(at) = open.pop() {
        for &to in arrows.get(at).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(to) {
                open.push(to);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let folder = tempfile::tempdir().expect("folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let shown = |file: &PathBuf| file.strip_prefix(folder.path()).expect("inside").display().to_string();
        circles(&folder.path().join("lib.rs")).iter().map(|circle| circle.files.iter().map(shown).collect()).collect()
    }

    #[test]
    fn a_circle_is_found_through_re_exports_macros_and_modules_alike() {
        let b = ("b/mod.rs", "mod inner; pub use inner::B;");
        for a in [
            "use crate::B; pub struct A(B);",
            "use super::b; pub type A = b::B;",
            "pub fn A() { print!(\"{}\", crate::b::B::new()) }",
        ] {
            let files = [
                ("lib.rs", "mod a; mod b; pub use b::*;"),
                ("a.rs", a),
                b,
                ("b/inner.rs", "pub struct B; fn f(_: crate::a::A) {}"),
            ];
            assert_eq!(of(&files), [["a.rs", "b/inner.rs"]], "{a}");
        }
    }

    #[test]
    fn a_child_that_uses_its_parent_s_item_and_is_used_by_it_is_a_circle() {
        let child = ("a.rs", "use super::Top; pub struct A(Top);");
        assert_eq!(of(&[("lib.rs", "mod a; pub struct Top; pub fn f(_: a::A) {}"), child]), [["a.rs", "lib.rs"]]);
        assert_eq!(of(&[("lib.rs", "mod a; pub use a::A; pub struct Top;"), child]), [] as [[&str; 0]; 0]);
    }

    #[test]
    fn tests_other_crates_and_modules_passed_through_make_none() {
        let files = [
            ("lib.rs", "mod a; mod b; use std::fmt; pub fn f() {}"),
            ("a.rs", "use std::fmt; use crate::b; pub struct A(b::B); impl fmt::Display for A {}"),
            ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; fn f(_: A) {} }"),
        ];
        assert_eq!(of(&files), [] as [[&str; 0]; 0]);
    }
}
