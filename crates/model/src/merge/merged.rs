//! The parameters of a base with an adapter folded in, one by one, in pieces.
//!
//! Invariant: what is held is one weight's A and B, the codes of one quantised weight, and pieces of bounded size, so that a
//! model may be larger than memory.

use super::low_rank::OpenAdapter;
use crate::adapter::AdaptedModule;
use crate::parameters::Parameter;
use crate::source::Source;
use crate::{Model, ModelError};
use remat_formats::{FormatsError, ModelConfig};
use remat_tensor::{QuantisedView, into_bytes};
use std::path::Path;

/// Elements that are decoded at a time.
const STRIP_ELEMENTS: usize = 1 << 18;
/// Most that pieces take on their way: as they are read, as f32, with the adapter, and as they are written.
const PIECES_BYTES: usize = 12 << 20;

/// A base and what is folded in.
pub(crate) struct Merged<'a> {
    pub(crate) model: &'a Model,
    /// Its configuration, with a head that is no more tied if the adapter unties it.
    pub(crate) config: ModelConfig,
    pub(crate) adapter: Option<OpenAdapter>,
    pub(crate) parameters: Vec<Parameter>,
}

/// What an adapter changed of a weight: sums of squares.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Change {
    pub(crate) base: f64,
    pub(crate) added: f64,
}

/// Takes the next elements of a weight.
type Sink<'a> = dyn FnMut(&[f32]) -> Result<(), FormatsError> + 'a;

impl<'a> Merged<'a> {
    /// Opens the adapter, if one is given, and checks that all fits; no weights are read.
    ///
    /// # Errors
    /// An adapter that does not fit the base or is not LoRA; tensors of the base that are missing.
    pub(crate) fn open(model: &'a Model, adapter: Option<&Path>) -> Result<Self, ModelError> {
        let adapter = adapter.map(|folder| OpenAdapter::open(model, folder)).transpose()?;
        let unties = adapter.as_ref().is_some_and(|adapter| adapter.unties);
        let tie_word_embeddings = model.config.tie_word_embeddings && !unties;
        let config = ModelConfig { tie_word_embeddings, ..model.config.clone() };
        let parameters = model.parameters_of(&config)?;
        Ok(Merged { model, config, adapter, parameters })
    }

    /// Streams a parameter with the adapter in it, in f32; a linear's weight [out, in], or [in, out] if that is asked for.
    ///
    /// # Errors
    /// A read that fails, what `sink` returns.
    pub(crate) fn stream(
        &self,
        parameter: &Parameter,
        in_out: bool,
        sink: &mut Sink<'_>,
    ) -> Result<Change, ModelError> {
        let mut change = Change::default();
        if let Some(adapter) = self.adapter.as_ref().filter(|adapter| adapter.replaces(&parameter.name)) {
            adapter.stream(&parameter.name, sink)?;
            return Ok(change);
        }
        let rows = self.adapter.as_ref().map(|adapter| adapter.token_rows(&self.config, &parameter.name));
        if let Some(rows) = rows.transpose()?.flatten() {
            let (mut at, mut elements) = (0, Vec::new());
            self.read_base(parameter, in_out, &mut |piece| {
                elements.clear();
                elements.extend_from_slice(piece);
                rows.put(at, &mut elements);
                at += piece.len();
                sink(&elements)
            })?;
            return Ok(change);
        }
        let Some((adapter, module)) = self.adapter_of(parameter) else {
            self.read_base(parameter, in_out, sink)?;
            return Ok(change);
        };
        let in_out = parameter.is_linear && in_out;
        let mut low_rank = adapter.low_rank(module, fans(parameter), in_out)?;
        if low_rank.is_to_measure() {
            let mut at = 0;
            self.read_base(parameter, in_out, &mut |piece| {
                low_rank.measure(at, piece);
                at += piece.len();
                Ok(())
            })?;
        }
        let (mut at, mut elements) = (0, Vec::new());
        self.read_base(parameter, in_out, &mut |piece| {
            elements.clear();
            elements.extend_from_slice(piece);
            change.base += piece.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
            change.added += low_rank.fold(at, &mut elements);
            at += piece.len();
            sink(&elements)
        })?;
        Ok(change)
    }

    /// The adapter of a parameter and its module, where it has one.
    pub(crate) fn adapter_of(&self, parameter: &Parameter) -> Option<(&OpenAdapter, &AdaptedModule)> {
        let adapter = self.adapter.as_ref()?;
        Some((adapter, adapter.module_of_weight(&self.config, &parameter.name)?))
    }

    /// Whether the files hold a parameter quantised.
    pub(crate) fn is_quantised(&self, parameter: &Parameter) -> bool {
        self.model.stored.get(&parameter.name).is_some()
    }

    /// Bytes that are held at the highest point, beside what the process held before.
    pub(crate) fn held_bytes(&self, in_out: bool) -> usize {
        let of = |parameter: &Parameter| {
            let stored = self.model.stored.get(&parameter.name);
            let codes = stored.and_then(|stored| stored.info.format.bytes(&stored.info.shape)).unwrap_or(0);
            let adapter = self.adapter_of(parameter);
            codes
                + adapter.map_or(0, |(_, module)| {
                    OpenAdapter::held_bytes(module, fans(parameter), parameter.is_linear && in_out)
                })
        };
        PIECES_BYTES + self.parameters.iter().map(of).max().unwrap_or(0)
    }

    /// Streams a parameter of the base in f32.
    fn read_base(&self, parameter: &Parameter, in_out: bool, sink: &mut Sink<'_>) -> Result<(), ModelError> {
        if self.is_quantised(parameter) {
            return self.read_quantised(parameter, in_out, sink);
        }
        let turned = parameter.is_linear && self.model.config.block.weights_in_out;
        if turned != (parameter.is_linear && in_out) {
            let mut outcome = Ok(());
            self.model.read_out_in(&parameter.name, &parameter.shape, &mut |piece| {
                // The first failure is told when all has been read.
                if outcome.is_ok() {
                    outcome = sink(piece);
                }
            })?;
            return Ok(outcome?);
        }
        let source = &self.model.source;
        let tensor = self.model.tensor_of(&parameter.name).unwrap_or_else(|| parameter.name.clone());
        source.read_chunks(&tensor, parameter.shape.numel(), sink)
    }

    /// Decodes a weight that the files hold quantised, [out, in] in all families.
    fn read_quantised(&self, parameter: &Parameter, in_out: bool, sink: &mut Sink<'_>) -> Result<(), ModelError> {
        let (Some(stored), Source::Files(files, _)) = (self.model.stored.get(&parameter.name), &self.model.source)
        else {
            return Ok(());
        };
        let (format, shape) = (stored.info.format, &stored.info.shape);
        let mut codes = vec![0; format.bytes(shape).unwrap_or(0)];
        files.read_quantised(&stored.tensor, &stored.info, &mut into_bytes(&mut codes))?;
        let view = QuantisedView::new(format, shape, &codes);
        let (fan_in, fan_out) = fans(parameter);
        if !in_out {
            let mut strip = vec![0.0; STRIP_ELEMENTS.min(shape.numel())];
            for first in (0..shape.numel()).step_by(STRIP_ELEMENTS) {
                let strip = &mut strip[..STRIP_ELEMENTS.min(shape.numel() - first)];
                view.decode(first, strip);
                sink(strip)?;
            }
            return Ok(());
        }
        let wide = (STRIP_ELEMENTS / fan_out).clamp(1, fan_in);
        let (mut strip, mut row) = (vec![0.0; wide * fan_out], vec![0.0; wide]);
        for first in (0..fan_in).step_by(wide) {
            let wide = wide.min(fan_in - first);
            for o in 0..fan_out {
                view.decode(o * fan_in + first, &mut row[..wide]);
                row[..wide].iter().enumerate().for_each(|(i, &x)| strip[i * fan_out + o] = x);
            }
            sink(&strip[..wide * fan_out])?;
        }
        Ok(())
    }
}

/// Widths of a linear's operand and result.
fn fans(parameter: &Parameter) -> (usize, usize) {
    (parameter.shape[1], parameter.shape[0])
}
