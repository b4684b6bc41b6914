//! Which ops are alike in time and in memory: a class whose rates predict an op's seconds, and the kind of workspace that its
//! kernels need.
//!
//! Invariant: both follow from the op and the types of its operands and results alone; what a class costs and how many bytes
//! a workspace has is a device's affair. Look next at `OpDef::class` and `OpDef::workspace`.

/// Matrix products with a side of at most this are thin: an adapter's, bound by memory more than by arithmetic.
pub const THIN: usize = 128;

/// Declares the classes with their names, so that table and enum cannot differ.
macro_rules! classes {
    ($($class:ident $name:literal,)*) => {
        /// Ops whose time is predicted by one pair of rates.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum OpClass { $(#[doc = $name] $class,)* }

        impl OpClass {
            /// All classes, in the order of their numbers.
            pub const ALL: &'static [OpClass] = &[$(OpClass::$class,)*];

            /// A word for reports.
            pub const fn name(self) -> &'static str {
                match self { $(OpClass::$class => $name,)* }
            }
        }
    };
}

classes! {
    // Wide matrix products, by the layout of the weight; then those with few outputs, and with few inputs.
    GemmOutIn "gemm out-in",
    GemmInOut "gemm in-out",
    // The same with a quantised weight, which is decoded on the way.
    Nf4OutIn "gemm out-in, nf4",
    Nf4InOut "gemm in-out, nf4",
    Int8OutIn "gemm out-in, int8",
    Int8InOut "gemm in-out, int8",
    ThinOut "gemm to thin",
    ThinIn "gemm from thin",
    WeightGradient "weight gradient",
    ThinWeightGradient "thin weight gradient",
    Head "head",
    // Its weight's gradient moves whole states, which take less time than packing as many bytes of a weight.
    HeadWeightGradient "head, weight gradient",
    Attention "attention",
    AttentionGrad "attention gradient",
    // A random number for every pair of tokens.
    AttentionDropout "attention, dropout",
    AttentionDropoutGrad "attention gradient, dropout",
    RmsNorm "rms norm",
    RmsNormGrad "rms norm gradient",
    LayerNorm "layer norm",
    LayerNormGrad "layer norm gradient",
    Swiglu "swiglu",
    SwigluGrad "swiglu gradient",
    Gelu "gelu",
    GeluGrad "gelu gradient",
    Rope "rope",
    Dropout "dropout",
    Optimizer "optimizer",
    // Bound by the search for codes and not by memory.
    Optimizer8bit "optimizer, 8 bits",
    Add "add",
    Copy "split, concat",
    // Reads all gradients and writes one number.
    GradNorm "gradient norm",
    Cast "cast",
    // Everything else: sums, gathers.
    Stream "stream",
}

impl OpClass {
    /// Whether it is the head's: products with one logit for each token and each word.
    pub const fn is_head(self) -> bool {
        matches!(self, OpClass::Head | OpClass::HeadWeightGradient)
    }
}

/// What kernels may need while they run, beside operands and results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workspace {
    /// Nothing.
    None,
    /// Logits of some tokens at a time.
    Logits {
        /// All tokens.
        tokens: usize,
        /// Logits of one.
        vocab: usize,
    },
    /// Sums of gradients for some heads at a time.
    HeadGradients {
        /// Rows of tokens.
        batch: usize,
        /// Queries of a row.
        queries: usize,
        /// Keys of a row.
        keys: usize,
        /// Heads of queries.
        heads: usize,
        /// Heads of keys and values.
        kv_heads: usize,
        /// Elements of a head.
        head_size: usize,
    },
}
