//! Reads the text form of a graph that `print` writes.
//!
//! Invariant: what `parse` returns passes `verify`; any other text is an error with its line. The text is read once, line
//! by line; nothing in it can ask for more memory than its own length.

use crate::{
    CustomOps, Graph, IrError, Node, Op, OpDef, OpId, Phase, Region, RegionId, SourceRole, Storage, Text, Value,
    ValueId, verify,
};
use std::collections::BTreeMap;

/// The graph that `text` describes.
///
/// # Errors
/// Text that is not of the printed form, with its line; a graph that `verify` refuses.
pub fn parse(text: &str) -> Result<Graph, IrError> {
    parse_with(text, &CustomOps::new())
}

/// As [`parse`], with definitions for the custom ops of the text.
///
/// # Errors
/// As [`parse`]; a custom op without definition.
pub fn parse_with(text: &str, custom: &CustomOps) -> Result<Graph, IrError> {
    let mut parser = Parser { custom: custom.clone(), ..Parser::default() };
    let mut last = 0;
    for (index, line) in text.lines().enumerate() {
        last = index + 1;
        parser.line(line).map_err(|message| IrError::Parse { line: last, message })?;
    }
    let graph = parser.finish().map_err(|message| IrError::Parse { line: last.max(1), message })?;
    verify(&graph)?;
    Ok(graph)
}

/// Which line may come next.
#[derive(Default, PartialEq)]
enum Stage {
    #[default]
    Head,
    Body,
    Outputs,
    End,
}

#[derive(Default)]
struct Parser {
    custom: CustomOps,
    stage: Stage,
    graph: Graph,
    /// By id, since sources are printed before all results, whatever their ids.
    values: BTreeMap<ValueId, Value>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let mut text = Text::new(line);
        if text.rest().is_empty() {
            return Ok(());
        }
        match self.stage {
            Stage::Head => {
                text.expect("graph {")?;
                self.stage = Stage::Body;
            }
            Stage::Body if text.eat("region") => self.region(&mut text)?,
            Stage::Body if text.rest().starts_with('#') => self.node(&mut text)?,
            Stage::Body if text.eat("outputs") => {
                self.graph.outputs = text.list()?;
                self.stage = Stage::Outputs;
            }
            Stage::Body => self.source(&mut text)?,
            Stage::Outputs => {
                text.expect("}")?;
                self.stage = Stage::End;
            }
            Stage::End => return Err("nothing may follow the closing brace".to_string()),
        }
        text.end()
    }

    fn region(&mut self, text: &mut Text<'_>) -> Result<(), String> {
        let index = text.id("@")? as usize;
        if index != self.graph.regions.len() {
            return Err(format!(
                "region @{index} must be @{}: regions are numbered in order",
                self.graph.regions.len()
            ));
        }
        let name = text.string()?;
        let parent = if text.eat("in") { Some(RegionId(text.id("@")?)) } else { None };
        self.graph.regions.push(Region { name, parent });
        Ok(())
    }

    fn source(&mut self, text: &mut Text<'_>) -> Result<(), String> {
        let word = text.word();
        let storage = [Storage::Input, Storage::Weight, Storage::State].into_iter().find(|s| s.name() == word);
        let Some(storage) = storage else {
            return Err(format!("'{word}' is not a line of a graph (region, input, weight, state, #, outputs)"));
        };
        let id = self.value(text, storage, None)?;
        let role = match text.remainder().trim_end() {
            "" => SourceRole::usual(storage),
            word => SourceRole::from_text(word).ok_or_else(|| format!("'{word}' is no role of a source"))?,
        };
        self.values.get_mut(&id).expect("it was read above").role = Some(role);
        Ok(())
    }

    fn value(
        &mut self,
        text: &mut Text<'_>,
        storage: Storage,
        producer: Option<(OpId, usize)>,
    ) -> Result<ValueId, String> {
        let id = ValueId(text.id("%")?);
        let name = text.string()?;
        text.expect(":")?;
        let ty = text.ty()?;
        let checkpoint_name = if text.eat("as ") { Some(text.string()?.into()) } else { None };
        let value = Value { name, ty, storage, role: None, producer, donated_from: None, checkpoint_name };
        match self.values.insert(id, value) {
            Some(_) => Err(format!("%{} is defined twice", id.0)),
            None => Ok(id),
        }
    }

    fn node(&mut self, text: &mut Text<'_>) -> Result<(), String> {
        let index = text.id("#")?;
        if index as usize != self.graph.nodes.len() {
            return Err(format!("node #{index} must be #{}: nodes are numbered in order", self.graph.nodes.len()));
        }
        let mut outputs = Vec::new();
        while !text.eat("=") {
            if !outputs.is_empty() {
                text.expect(",")?;
            }
            let producer = Some((OpId(index), outputs.len()));
            outputs.push(self.value(text, Storage::Arena, producer)?);
        }
        let name = text.word();
        let op = Op::from_text(name, text.json()?, &self.custom)?;
        let inputs = text.list()?;
        let name = text.string()?;
        let phase = if text.eat("backward") { Phase::Backward } else { Phase::Forward };
        let region = if text.rest().starts_with('@') { Some(RegionId(text.id("@")?)) } else { None };
        let recompute_of = if text.eat("recompute") { Some(OpId(text.id("#")?)) } else { None };
        for (operand, result) in op.donations() {
            // With too few operands or results there is nothing to donate; `verify` says what is wrong.
            if let (Some(&from), Some(to)) = (inputs.get(operand), outputs.get(result)) {
                let value = self.values.get_mut(to).expect("it was read above");
                (value.storage, value.donated_from) = (Storage::State, Some(from));
            }
        }
        self.graph.nodes.push(Node { op, name, inputs, outputs, phase, region, recompute_of });
        Ok(())
    }

    fn finish(mut self) -> Result<Graph, String> {
        if self.stage != Stage::End {
            return Err("the text ends before the graph does (expected: outputs(..), then a closing brace)".to_string());
        }
        for (index, (id, value)) in self.values.into_iter().enumerate() {
            if id.index() != index {
                return Err(format!("%{index} is not defined, but %{} is: values are numbered without gaps", id.0));
            }
            self.graph.values.push(value);
        }
        Ok(self.graph)
    }
}
