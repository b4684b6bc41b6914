//! The names that every template has: filters, tests and functions. Invariant: a name of these tables is all that the
//! reader of templates knows of what it does, so a tree of one names no code; each variant has its arm in `filters`, `checks`
//! or `calls`.

macro_rules! names {
    ($(#[$attribute:meta])* $type:ident { $($variant:ident: $name:literal $(| $other:literal)*),+ $(,)? }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $type {
            $($variant),+
        }

        impl $type {
            /// The one of this name.
            pub(crate) fn named(name: &str) -> Option<Self> {
                match name {
                    $($name $(| $other)* => Some($type::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

names! {
    /// What stands behind `|`.
    Filter {
        Abs: "abs",
        Attr: "attr",
        Batch: "batch",
        Capitalize: "capitalize",
        Center: "center",
        Default: "default" | "d",
        Dictsort: "dictsort",
        Escape: "escape" | "e" | "forceescape",
        First: "first",
        Float: "float",
        Format: "format",
        Groupby: "groupby",
        Indent: "indent",
        Int: "int",
        Items: "items",
        Join: "join",
        Last: "last",
        Length: "length" | "count",
        List: "list",
        Lower: "lower",
        Map: "map",
        Max: "max",
        Min: "min",
        Pprint: "pprint",
        Reject: "reject",
        Rejectattr: "rejectattr",
        Replace: "replace",
        Reverse: "reverse",
        Round: "round",
        Select: "select",
        Selectattr: "selectattr",
        Slice: "slice",
        Sort: "sort",
        String: "string" | "safe",
        Striptags: "striptags",
        Sum: "sum",
        Title: "title",
        Tojson: "tojson",
        Trim: "trim",
        Truncate: "truncate",
        Unique: "unique",
        Upper: "upper",
        Urlencode: "urlencode",
        Wordcount: "wordcount",
        Wordwrap: "wordwrap",
    }
}

names! {
    /// What stands behind `is`.
    #[allow(clippy::enum_variant_names, reason = "one of the tests is called `test`")]
    Test {
        Boolean: "boolean",
        Callable: "callable",
        Defined: "defined",
        Divisibleby: "divisibleby",
        Eq: "eq" | "==" | "equalto",
        Escaped: "escaped",
        Even: "even",
        False: "false",
        Filter: "filter",
        Float: "float",
        Ge: "ge" | ">=",
        Gt: "gt" | ">" | "greaterthan",
        In: "in",
        Integer: "integer",
        Iterable: "iterable",
        Le: "le" | "<=",
        Lower: "lower",
        Lt: "lt" | "<" | "lessthan",
        Mapping: "mapping",
        Ne: "ne" | "!=",
        None: "none",
        Number: "number",
        Odd: "odd",
        Sameas: "sameas",
        Sequence: "sequence",
        String: "string",
        Test: "test",
        True: "true",
        Undefined: "undefined",
        Upper: "upper",
    }
}

/// Functions that every template has.
const FUNCTIONS: [&str; 7] = ["range", "dict", "namespace", "cycler", "joiner", "raise_exception", "strftime_now"];

/// The name of a function, as long as the program runs.
pub(crate) fn function(name: &str) -> Option<&'static str> {
    FUNCTIONS.iter().find(|function| **function == name).copied()
}
