//! An adapter's matrices read from its folder, to be added to the weights they adapt: W + scale · B·A; of DoRA with the norms
//! that it gives the rows of that.
//!
//! Invariant: sums are f32, over the rank in order, so that the result does not depend on how a weight is cut into pieces;
//! nothing but one module's A and B is held. Look next at `merged`, which adds them.

use crate::adapter::{
    AdaptedModule, AdapterWeights, FileNames, HEAD_MODULE, MAGNITUDE, PREFIX, Targetable, TrainedTokens,
    embedding_module, of_graph, read_settings,
};
use crate::model_builder::BatchShape;
use crate::{LoraConfig, Method, Model, ModelError, build};
use remat_formats::{FormatsError, ModelConfig};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Ends of the names of a module's matrices.
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";
/// The same of an embedding.
const EMBEDDING_A: &str = ".lora_embedding_A";
const EMBEDDING_B: &str = ".lora_embedding_B";

/// An adapter whose folder was opened for a base.
pub(crate) struct OpenAdapter {
    pub(crate) folder: PathBuf,
    /// The modules that it adapts.
    pub(crate) modules: Vec<AdaptedModule>,
    /// Parameters of the base that it has instead of the base.
    replaced: HashSet<String>,
    /// Whether a head that was tied to the embedding is no more.
    pub(crate) unties: bool,
    /// Whether it gives the rows of a weight norms of its own (DoRA).
    pub(crate) has_magnitudes: bool,
    /// The embedding's module, whose matrices have names and places of their own.
    embedding: String,
    /// Rows of tokens that it has instead of the base's.
    tokens: TrainedTokens,
    weights: AdapterWeights,
}

/// The matrices of one linear, in the order of its weight in memory: a row of the weight gets `left` of that row times
/// `right`.
pub(crate) struct LowRank {
    rank: usize,
    columns: usize,
    scale: f32,
    /// [rows, rank].
    left: Vec<f32>,
    /// [rank, columns].
    right: Vec<f32>,
    /// A row of what is added.
    row: Vec<f32>,
    /// The norms that the weight's outputs get.
    norms: Option<Norms>,
}

/// The norms that outputs of a weight get, and those they have with A and B added.
struct Norms {
    magnitude: Vec<f32>,
    /// Of the elements that were measured.
    squares: Vec<f64>,
    /// Whether outputs are columns and not rows of the weight in memory.
    in_out: bool,
}

/// Rows of tokens to be put in place of a table's.
pub(crate) struct TokenRowsOf {
    chosen: Vec<usize>,
    width: usize,
    elements: Vec<f32>,
}

impl TokenRowsOf {
    /// Replaces what of these rows lies in a piece of the table that begins at element `at`.
    pub(crate) fn put(&self, at: usize, piece: &mut [f32]) {
        for (place, row) in self.chosen.iter().enumerate() {
            let start = row * self.width;
            let (first, end) = (at.max(start), (at + piece.len()).min(start + self.width));
            if first < end {
                let from = place * self.width + first - start;
                piece[first - at..end - at].copy_from_slice(&self.elements[from..from + end - first]);
            }
        }
    }
}

impl OpenAdapter {
    /// Opens a PEFT folder for a base; no weights are read.
    ///
    /// # Errors
    /// Settings that are not LoRA's, tensors that do not fit the base.
    pub(crate) fn open(model: &Model, folder: &Path) -> Result<Self, ModelError> {
        let config = read_settings(&model.config, folder)?.config;
        let has_magnitudes = config.variant != LoraConfig::default().variant;
        let method = Method::Lora(config.clone());
        let graph = build::evaluation(model.base(), Some(&method), BatchShape { batch: 1, seq_len: 1 })?.graph;
        let adapters = of_graph(&graph);
        let names = FileNames::of(&model.config, &config)?;
        let weights = AdapterWeights::open(folder, &names, &adapters)?;
        weights.check_copies(&names, model)?;
        let modules = config.modules(&Targetable::of(&model.config))?;
        let of_base = adapters.iter().filter(|(name, _)| !name.starts_with(PREFIX));
        let replaced: HashSet<String> = of_base.map(|(name, _)| (*name).to_string()).collect();
        let head = model.config.head_weight();
        let has_head = graph.values.iter().any(|value| value.parameter() == Some(head.as_str()));
        let embedding = embedding_module(&model.config);
        let adapts_either = modules.iter().any(|module| [embedding.as_str(), HEAD_MODULE].contains(&&*module.name));
        let tokens = TrainedTokens::of_settings(&model.config, &config)?;
        let unties = model.config.tie_word_embeddings && (has_head || adapts_either || tokens.unties());
        let folder = folder.to_path_buf();
        Ok(OpenAdapter { folder, modules, replaced, unties, has_magnitudes, embedding, tokens, weights })
    }

    /// A module that it adapts.
    pub(crate) fn module(&self, name: &str) -> Option<&AdaptedModule> {
        self.modules.iter().find(|module| module.name == name)
    }

    /// The module that a weight of the base belongs to, and that it adapts.
    pub(crate) fn module_of_weight(&self, base: &ModelConfig, weight: &str) -> Option<&AdaptedModule> {
        match weight.strip_suffix(".weight") {
            Some(_) if weight == base.head_weight() => self.module(HEAD_MODULE),
            Some(module) => self.module(module),
            None => None,
        }
    }

    /// Whether it has a parameter of the base instead of the base.
    pub(crate) fn replaces(&self, parameter: &str) -> bool {
        self.replaced.contains(parameter)
    }

    /// Whether it has any, or rows of one.
    pub(crate) fn replaces_some(&self, base: &ModelConfig) -> Option<String> {
        let of_tokens = [base.embedding_weight(), base.head_weight()];
        let of_tokens = of_tokens.into_iter().filter(|weight| self.tokens.of_weight(base, weight).is_some());
        self.replaced.iter().cloned().chain(of_tokens).min()
    }

    /// Rows of a weight that it has instead of the base: which, and their elements one behind the other.
    ///
    /// # Errors
    /// A read that fails; a number that is infinite or none.
    pub(crate) fn token_rows(&self, base: &ModelConfig, weight: &str) -> Result<Option<TokenRowsOf>, ModelError> {
        let Some((chosen, state)) = self.tokens.of_weight(base, weight) else { return Ok(None) };
        let width = base.hidden_size;
        let mut elements = vec![0.0; chosen.len() * width];
        self.weights.read_into(&state, &mut elements)?;
        Ok(Some(TokenRowsOf { chosen: chosen.to_vec(), width, elements }))
    }

    /// Streams such a parameter.
    ///
    /// # Errors
    /// A read that fails, what `sink` returns.
    pub(crate) fn stream(
        &self,
        parameter: &str,
        sink: &mut dyn FnMut(&[f32]) -> Result<(), FormatsError>,
    ) -> Result<(), ModelError> {
        self.weights.stream(parameter, sink)
    }

    /// A [rank, in] and B [out, rank] of a module that it adapts.
    ///
    /// # Errors
    /// A read that fails; a number that is infinite or none.
    pub(crate) fn matrices(
        &self,
        AdaptedModule { name: module, rank, .. }: &AdaptedModule,
        (fan_in, fan_out): (usize, usize),
    ) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
        let (mut a, mut b) = (vec![0.0; rank * fan_in], vec![0.0; fan_out * rank]);
        if *module == self.embedding {
            // What an embedding adds to a row of [V, D] is Aᵀ·Bᵀ: its A is the second factor of it, turned.
            let (mut first, mut second) = (vec![0.0; fan_out * rank], vec![0.0; rank * fan_in]);
            self.weights.read_into(&format!("{PREFIX}{module}{EMBEDDING_A}"), &mut first)?;
            self.weights.read_into(&format!("{PREFIX}{module}{EMBEDDING_B}"), &mut second)?;
            return Ok((transposed(&second, *rank), transposed(&first, fan_out)));
        }
        self.weights.read_into(&format!("{PREFIX}{module}{A}"), &mut a)?;
        self.weights.read_into(&format!("{PREFIX}{module}{B}"), &mut b)?;
        Ok((a, b))
    }

    /// What it adds to a weight that is laid out [out, in], or [in, out].
    ///
    /// # Errors
    /// As [`OpenAdapter::matrices`].
    pub(crate) fn low_rank(
        &self,
        module: &AdaptedModule,
        (fan_in, fan_out): (usize, usize),
        in_out: bool,
    ) -> Result<LowRank, ModelError> {
        let (a, b) = self.matrices(module, (fan_in, fan_out))?;
        let (rank, scale) = (module.rank, module.scale);
        let (columns, left, right) = match in_out {
            false => (fan_in, b, a),
            true => (fan_out, transposed(&a, fan_in), transposed(&b, rank)),
        };
        let norms = match self.has_magnitudes {
            false => None,
            true => {
                let mut magnitude = vec![0.0; fan_out];
                self.weights.read_into(&format!("{PREFIX}{}.{MAGNITUDE}", module.name), &mut magnitude)?;
                Some(Norms { magnitude, squares: vec![0.0; fan_out], in_out })
            }
        };
        Ok(LowRank { rank, columns, scale, left, right, row: vec![0.0; columns], norms })
    }

    /// Bytes that [`OpenAdapter::low_rank`] holds at its highest.
    pub(crate) fn held_bytes(module: &AdaptedModule, (fan_in, fan_out): (usize, usize), in_out: bool) -> usize {
        let elements = module.rank * (fan_in + fan_out);
        // Norms and their squares in f64 count three.
        size_of::<f32>() * (elements * (1 + usize::from(in_out)) + fan_in.max(fan_out) + 3 * fan_out)
    }
}

impl LowRank {
    /// Whether all elements of the weight have to be measured before the first is changed.
    pub(crate) fn is_to_measure(&self) -> bool {
        self.norms.is_some()
    }

    /// Takes the elements of the weight from `first` on into the norms of its outputs.
    pub(crate) fn measure(&mut self, first: usize, elements: &[f32]) {
        let mut adapted = elements.to_vec();
        self.add(first, &mut adapted);
        let columns = self.columns;
        let Some(Norms { squares, in_out, .. }) = &mut self.norms else { return };
        for (at, &x) in (first..).zip(&adapted) {
            let output = if *in_out { at % columns } else { at / columns };
            squares[output] += f64::from(x) * f64::from(x);
        }
    }

    /// Changes the elements of the weight from `first` on into those of the adapted weight. Returns the sum of squares of the
    /// differences. Elements must all have been measured, where that is needed.
    pub(crate) fn fold(&mut self, first: usize, elements: &mut [f32]) -> f64 {
        if self.norms.is_none() {
            return self.add(first, elements);
        }
        let before = elements.to_vec();
        self.add(first, elements);
        let columns = self.columns;
        let Some(Norms { magnitude, squares, in_out }) = &self.norms else { return 0.0 };
        let mut changed = 0.0;
        for ((at, x), before) in (first..).zip(elements).zip(before) {
            let output = if *in_out { at % columns } else { at / columns };
            *x = (f64::from(*x) * f64::from(magnitude[output]) / squares[output].sqrt()) as f32;
            changed += (f64::from(*x) - f64::from(before)).powi(2);
        }
        changed
    }

    /// Adds to the elements of the weight from `first` on. Returns the sum of squares of what was added.
    fn add(&mut self, first: usize, elements: &mut [f32]) -> f64 {
        let (mut at, mut squares, mut rest) = (first, 0.0, elements);
        while !rest.is_empty() {
            let (row, column) = (at / self.columns, at % self.columns);
            let (run, behind) = rest.split_at_mut(rest.len().min(self.columns - column));
            let delta = &mut self.row[..run.len()];
            delta.fill(0.0);
            for r in 0..self.rank {
                let factor = self.left[row * self.rank + r];
                let from = r * self.columns + column;
                let right = &self.right[from..from + run.len()];
                delta.iter_mut().zip(right).for_each(|(sum, x)| *sum += factor * x);
            }
            for (x, sum) in run.iter_mut().zip(delta) {
                let added = self.scale * *sum;
                squares += f64::from(added) * f64::from(added);
                *x += added;
            }
            at += run.len();
            rest = behind;
        }
        squares
    }
}

/// A matrix of rows of so many columns, turned.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns.max(1);
    let mut turned = Vec::with_capacity(matrix.len());
    for column in 0..columns {
        turned.extend((0..rows).map(|row| matrix[row * columns + column]));
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_get_the_same_bits() {
        let (rank, rows, columns) = (3, 5, 7);
        let numbers = |count: usize, step: f32| (0..count).map(|i| (i as f32 * step).sin()).collect::<Vec<f32>>();
        let low_rank = || LowRank {
            rank,
            columns,
            scale: 0.5,
            left: numbers(rows * rank, 0.7),
            right: numbers(rank * columns, 1.3),
            row: vec![0.0; columns],
            norms: None,
        };
        let weight = numbers(rows * columns, 0.1);
        let mut whole = weight.clone();
        let squares = low_rank().add(0, &mut whole);
        // By the definition, in f64.
        let (left, right) = (numbers(rows * rank, 0.7), numbers(rank * columns, 1.3));
        let delta = |i: usize| -> f64 {
            let (row, column) = (i / columns, i % columns);
            (0..rank).map(|r| f64::from(left[row * rank + r]) * f64::from(right[r * columns + column])).sum::<f64>()
                * 0.5
        };
        for (i, x) in whole.iter().enumerate() {
            assert!((f64::from(*x) - f64::from(weight[i]) - delta(i)).abs() < 1e-6);
        }
        let expected: f64 = (0..rows * columns).map(|i| delta(i).powi(2)).sum();
        assert!((squares / expected - 1.0).abs() < 1e-6, "{squares} {expected}");
        for size in [1, 2, 6, 7, 8, 20] {
            let (mut pieces, mut low_rank) = (weight.clone(), low_rank());
            for (number, piece) in pieces.chunks_mut(size).enumerate() {
                low_rank.add(number * size, piece);
            }
            assert_eq!(pieces, whole, "in pieces of {size}");
        }
        assert_eq!(transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
