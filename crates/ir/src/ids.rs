//! Indices of values, nodes and regions: they hold for one graph.

/// Index of a value in [`crate::Graph::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// Index of a node in [`crate::Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u32);

/// Index of a checkpoint region in [`crate::Graph::regions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId(pub u32);

impl ValueId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl OpId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl RegionId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
