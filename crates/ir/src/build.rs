//! Builds graphs: infers result types, keeps names unique, tracks regions and phase.
//!
//! Invariant: what a `Builder` makes is well typed and uniquely named; `verify` proves the rest, above all that no value
//! is read after its update in place. Look next at `ops` for the attributes of each op.

use crate::names::TakenNames;
use crate::{
    Graph, IrError, Node, Op, OpDef, OpId, ParameterKind, Phase, RANDOM_KEY, Region, RegionId, SourceRole, StateRole,
    Storage, Type, Value, ValueId,
};
use remat_tensor::DType;

/// A graph under construction.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    graph: Graph,
    value_names: TakenNames,
    node_names: TakenNames,
    region: Option<RegionId>,
    phase: Option<Phase>,
}

impl Builder {
    /// An empty graph.
    pub fn new() -> Self {
        Builder::default()
    }

    /// Continues an existing graph, for passes that append to it.
    pub fn extend(graph: Graph) -> Self {
        let value_names = TakenNames::of(graph.values.iter().map(|value| &value.name[..]));
        let node_names = TakenNames::of(graph.nodes.iter().map(|node| &node.name[..]));
        Builder { graph, value_names, node_names, region: None, phase: None }
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Ends construction.
    pub fn finish(mut self) -> Graph {
        // Lists that grew have up to twice the room they need, and a graph of a deep model is long.
        self.graph.values.shrink_to_fit();
        self.graph.nodes.shrink_to_fit();
        self.graph
    }

    /// The type of a value made so far.
    pub fn ty(&self, id: ValueId) -> &Type {
        self.graph.ty(id)
    }

    /// A value that is written with the rows of a batch.
    pub fn input(&mut self, name: &str, ty: Type) -> ValueId {
        self.source(name, ty, Storage::Input, SourceRole::Data)
    }

    /// An input of one number.
    pub fn scalar(&mut self, name: &str, dtype: DType) -> ValueId {
        self.source(name, Type::new(dtype, [1]), Storage::Input, SourceRole::Scalar)
    }

    /// The input that random ops read: u32 [4].
    pub fn random_key(&mut self) -> ValueId {
        self.source(RANDOM_KEY, Type::new(DType::U32, [4]), Storage::Input, SourceRole::Key)
    }

    /// A frozen parameter of the model.
    pub fn weight(&mut self, name: &str, ty: Type) -> ValueId {
        self.source(name, ty, Storage::Weight, SourceRole::BASE)
    }

    /// A read-only table that is in no file.
    pub fn constant(&mut self, name: &str, ty: Type) -> ValueId {
        self.source(name, ty, Storage::Weight, SourceRole::Constant)
    }

    /// A trained parameter of the model, which ops may update in place.
    pub fn state(&mut self, name: &str, ty: Type) -> ValueId {
        self.source(name, ty, Storage::State, SourceRole::BASE)
    }

    /// What the model keeps beside its parameters, which ops may update in place.
    pub fn buffer(&mut self, name: &str, ty: Type) -> ValueId {
        self.source(name, ty, Storage::State, SourceRole::Buffer)
    }

    /// What is kept of a parameter of this name and kind, named after it.
    pub fn state_of(&mut self, parameter: &str, kind: ParameterKind, role: StateRole, ty: Type) -> ValueId {
        self.source(&role.name(parameter), ty, Storage::State, SourceRole::Parameter(kind, role))
    }

    /// A source. Its name is what other plans and the device know it by, so it is never changed: `verify` refuses one that
    /// is taken, and a role that does not suit its storage.
    pub fn source(&mut self, name: &str, ty: Type, storage: Storage, role: SourceRole) -> ValueId {
        self.value_names.take(name);
        let name = name.to_string();
        let role = Some(role);
        self.push_value(Value { name, ty, storage, role, producer: None, donated_from: None, checkpoint_name: None })
    }

    /// Keeps a name for a source that is declared later: a result that would have it gets another.
    pub fn reserve(&mut self, name: &str) {
        self.value_names.take(name);
    }

    fn push_value(&mut self, value: Value) -> ValueId {
        let id = ValueId(self.graph.values.len() as u32);
        self.graph.values.push(value);
        id
    }

    /// Marks a value as readable after a run.
    pub fn output(&mut self, id: ValueId) {
        if !self.graph.outputs.contains(&id) {
            self.graph.outputs.push(id);
        }
    }

    /// Gives a value a name that policies know it by, beside its own.
    pub fn name_for_policies(&mut self, id: ValueId, name: &str) {
        self.graph.values[id.index()].checkpoint_name = Some(name.into());
    }

    /// Runs `body` inside a new checkpoint region, nested in the current one. The region is left again whatever
    /// `body` returns, so that a failed region leaves the builder usable.
    pub fn region<T>(&mut self, name: &str, body: impl FnOnce(&mut Builder) -> T) -> T {
        self.enter_region(name);
        let result = body(self);
        self.leave_region();
        result
    }

    /// Enters a new checkpoint region, nested in the current one; for builders that wrap this one.
    pub fn enter_region(&mut self, name: &str) {
        let id = RegionId(self.graph.regions.len() as u32);
        self.graph.regions.push(Region { name: name.to_string(), parent: self.region });
        self.region = Some(id);
    }

    /// Returns to the region around the current one, if there is one.
    pub fn leave_region(&mut self) {
        self.region = self.region.and_then(|id| self.graph.regions[id.index()].parent);
    }

    /// Sets phase and region for the nodes that follow; differentiation uses it.
    pub fn set_context(&mut self, phase: Phase, region: Option<RegionId>) {
        self.phase = Some(phase);
        self.region = region;
    }

    /// Applies an op. Returns its results, whose names are the node's name, with the result's own name behind a dot
    /// for all but the first.
    pub fn op(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let op = op.into();
        let name = self.node_names.unique(name);
        let types: Vec<&Type> = inputs.iter().map(|&id| self.graph.ty(id)).collect();
        let fail = |message| IrError::Operands { op: op.name().to_string(), node: name.clone(), message };
        let results = op.infer(&types).map_err(fail)?;
        let donations = op.donations();
        let id = OpId(self.graph.nodes.len() as u32);
        let mut outputs = Vec::with_capacity(results.len());
        for (index, ty) in results.into_iter().enumerate() {
            let donated_from = donations.iter().find(|d| d.1 == index).map(|d| inputs[d.0]);
            let value_name = match index {
                0 => self.value_names.unique(&name),
                _ => self.value_names.unique(&format!("{name}.{}", op.result_name(index))),
            };
            let storage = if donated_from.is_some() { Storage::State } else { Storage::Arena };
            outputs.push(self.push_value(Value {
                name: value_name,
                ty,
                storage,
                role: None,
                producer: Some((id, index)),
                donated_from,
                checkpoint_name: None,
            }));
        }
        let (phase, region) = (self.phase.unwrap_or(Phase::Forward), self.region);
        let inputs = inputs.to_vec();
        self.graph.nodes.push(Node { op, name, inputs, outputs: outputs.clone(), phase, region, recompute_of: None });
        Ok(outputs)
    }

    /// Applies an op with one result.
    pub fn op1(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, IrError> {
        Ok(self.op(name, op, inputs)?[0])
    }
}

/// What an op's vector-Jacobian product is given: it emits backward nodes through `builder`.
pub struct Vjp<'a> {
    /// Receives the backward nodes.
    pub builder: &'a mut Builder,
    /// Name of the forward node; backward nodes are named after it.
    pub name: &'a str,
    /// Forward operands.
    pub inputs: &'a [ValueId],
    /// Forward results, usable as residuals.
    pub outputs: &'a [ValueId],
    /// Cotangent of each result; `None` where nothing downstream uses it.
    pub cotangents: &'a [Option<ValueId>],
    /// Which operands need a cotangent.
    pub needs: &'a [bool],
}

impl Vjp<'_> {
    /// Emits a backward node named `d.<forward name>.<suffix>`.
    pub fn emit(&mut self, suffix: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let name = if suffix.is_empty() { format!("d.{}", self.name) } else { format!("d.{}.{suffix}", self.name) };
        self.builder.op(&name, op, inputs)
    }

    /// Emits a backward node with one result.
    pub fn emit1(&mut self, suffix: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, IrError> {
        Ok(self.emit(suffix, op, inputs)?[0])
    }

    /// The cotangent of the first result, for ops whose other results are statistics without a derivative.
    /// Differentiation calls a VJP only if some result has a cotangent.
    ///
    /// # Errors
    /// A statistic with a cotangent: passing over it would lose a part of the gradient in silence.
    pub fn dy(&self, op: &'static str) -> Result<ValueId, IrError> {
        if self.cotangents[1..].iter().any(Option::is_some) {
            return Err(
                self.refuse(op, "a statistic of it is used downstream, and only its first result has a derivative")
            );
        }
        self.cotangents[0].ok_or_else(|| self.refuse(op, "none of its results has a cotangent"))
    }

    /// The error of an op that has no derivative here.
    pub fn refuse(&self, op: &'static str, message: &str) -> IrError {
        IrError::NotDifferentiable { op: op.to_string(), node: self.name.to_string(), message: message.to_string() }
    }
}
