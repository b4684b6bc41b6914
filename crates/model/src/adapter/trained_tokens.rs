//! Rows of an embedding or a head that are trained alone, in place of the base's: PEFT's `trainable_token_indices`.
//!
//! With S [V, n], the chosen columns of the identity, and the trained rows T [n, D], the table is W + S·(T − Sᵀ·W). It never
//! exists: embeddings add onehot(ids)·(T − Sᵀ·W), and the loss reads its two factors. Invariants: T starts as the base's rows and
//! lies in PEFT's file as it is; of a head that is tied to the embedding, the rows are those of both, unless they are given
//! apart. Look next at `embedding` for adapters of the same two modules.

use super::base_weights::BaseWeights;
use super::embedding::HeadFactors;
use super::file_names::PREFIX;
use super::outer_modules::{HEAD_MODULE, embedding_module};
use super::targets::{Targetable, ends_with_name};
use super::trained_base::TrainedBase;
use super::variant::LoraConfig;
use crate::ModelError;
use crate::graph_builder::GraphBuilder;
use remat_formats::{ModelConfig, SettingName, TokenIndices};
use remat_ir::ops::{Add, Binary, BinaryFunction, Embedding, Extent, Layout, Linear, Selection, Transpose};
use remat_ir::{IrError, ParameterKind, ValueId};

/// The setting's name.
const KEY: SettingName = SettingName("trainable-token-indices");

/// Which rows of a base are trained.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TrainedTokens {
    embedding: Option<Vec<usize>>,
    /// Of a head that has rows of its own.
    head: Option<Vec<usize>>,
    /// Whether the head has those of the embedding.
    is_tied: bool,
}

/// Trained rows in a graph: what they differ by from the base's [n, D], and the columns of the identity [V, n].
#[derive(Clone, Copy)]
pub(crate) struct TokenRows {
    change: ValueId,
    selection: ValueId,
}

impl TrainedTokens {
    /// Of a base and an adapter's settings.
    ///
    /// # Errors
    /// As [`LoraConfig::modules`], [`TrainedBase::of`] and [`TrainedTokens::of`].
    pub(crate) fn of_settings(base: &ModelConfig, lora: &LoraConfig) -> Result<Self, ModelError> {
        let adapted = lora.modules(&Targetable::of(base))?.into_iter().map(|module| module.name);
        let adapted: Vec<String> = adapted.collect();
        let trained = TrainedBase::of(base, lora, adapted.clone())?;
        TrainedTokens::of(base, lora, &adapted, &trained)
    }

    /// Of a base, where these modules have adapters and this of it is trained whole.
    ///
    /// # Errors
    /// A module that the base does not have, or that is trained otherwise, too; a row that is not there, or given twice.
    fn of(
        base: &ModelConfig,
        lora: &LoraConfig,
        adapted: &[String],
        trained: &TrainedBase,
    ) -> Result<Self, ModelError> {
        let Some(given) = &lora.trained_tokens else { return Ok(TrainedTokens::default()) };
        let embedding = embedding_module(base);
        let mut tokens = TrainedTokens::default();
        match given {
            TokenIndices::Embedding(rows) => tokens.embedding = Some(rows.clone()),
            TokenIndices::Modules(modules) => {
                for (name, rows) in modules {
                    let place = if ends_with_name(&embedding, name) {
                        &mut tokens.embedding
                    } else if name == HEAD_MODULE {
                        &mut tokens.head
                    } else {
                        return Err(refused(format!(
                            "{name}: this model has rows of tokens in {embedding} and {HEAD_MODULE}; name one of these"
                        )));
                    };
                    *place = Some(rows.clone());
                }
            }
        }
        tokens.is_tied = base.tie_word_embeddings
            && tokens.embedding.is_some()
            && (tokens.head.is_none() || tokens.head == tokens.embedding);
        if tokens.is_tied {
            tokens.head = None;
        }
        tokens.embedding.iter().chain(&tokens.head).try_for_each(|rows| check_rows(rows, base.vocab_size))?;
        let reached = [
            (tokens.embedding.is_some(), embedding.as_str(), base.embedding_weight()),
            (tokens.head.is_some() || tokens.is_tied, HEAD_MODULE, base.head_weight()),
        ];
        for (is_reached, module, weight) in reached {
            let is_trained = trained.contains(&weight) || (base.tie_word_embeddings && !trained.keeps_tie);
            if is_reached && (is_trained || adapted.iter().any(|name| name == module)) {
                return Err(refused(format!(
                    "{module} is trained by an adapter or whole, too; take it out of {} and {}, or leave this out",
                    SettingName("targets"),
                    SettingName("modules-to-save")
                )));
            }
        }
        Ok(tokens)
    }

    /// Whether a head that was tied to the embedding is no more.
    pub(crate) fn unties(&self) -> bool {
        !self.is_tied && (self.embedding.is_some() || self.head.is_some())
    }

    /// The rows of a weight of the base that are trained, and the state that has them.
    pub(crate) fn of_weight(&self, base: &ModelConfig, weight: &str) -> Option<(&[usize], String)> {
        if weight == base.embedding_weight() {
            return Some((self.embedding.as_deref()?, state_of(&embedding_module(base))));
        }
        (weight == base.head_weight()).then_some(())?;
        Some((self.head.as_deref()?, state_of(HEAD_MODULE)))
    }

    /// The embeddings `y` of `ids` with the trained rows in place of the base's, and these rows.
    pub(crate) fn emit_embedding(
        &self,
        g: &mut GraphBuilder,
        path: &str,
        (table, ids, y): (ValueId, ValueId, ValueId),
    ) -> Result<(ValueId, Option<TokenRows>), IrError> {
        let Some(chosen) = &self.embedding else { return Ok((y, None)) };
        let rows = emit_rows(g, path, table, chosen)?;
        let which = g.op1(&format!("{path}.tokens.of_ids"), Embedding, &[rows.selection, ids])?;
        let change = g.op1(&format!("{path}.tokens.added"), Linear::plain(Layout::InOut), &[which, rows.change])?;
        Ok((g.op1(&format!("{path}.tokens.replaced"), Add, &[y, change])?, Some(rows)))
    }

    /// What the trained rows add to the logits of `hidden`.
    pub(crate) fn emit_head(
        &self,
        g: &mut GraphBuilder,
        (hidden, head): (ValueId, ValueId),
        of_embedding: Option<TokenRows>,
    ) -> Result<Option<HeadFactors>, IrError> {
        let rows = match (&self.head, of_embedding.filter(|_| self.is_tied)) {
            (Some(chosen), _) => emit_rows(g, HEAD_MODULE, head, chosen)?,
            (None, Some(rows)) => rows,
            (None, None) => return Ok(None),
        };
        let u = g.op1(&format!("{HEAD_MODULE}.tokens.u"), Linear::plain(Layout::OutIn), &[hidden, rows.change])?;
        Ok(Some((u, rows.selection)))
    }
}

/// The name of the state of a module's trained rows, which is PEFT's in its file.
fn state_of(module: &str) -> String {
    format!("{PREFIX}{module}.token_adapter.trainable_tokens_delta")
}

fn emit_rows(g: &mut GraphBuilder, module: &str, table: ValueId, chosen: &[usize]) -> Result<TokenRows, IrError> {
    let (dtype, rows, width) = (g.ty(table).dtype, g.ty(table).shape[0], g.ty(table).shape[1]);
    let name = |part: &str| format!("{module}.tokens.{part}");
    let selection = g.op1(&name("selection"), Selection { dtype, rows, chosen: chosen.to_vec() }, &[])?;
    let turned = g.op1(&name("turned"), Transpose { permutation: vec![1, 0] }, &[selection])?;
    let base = g.op1(&name("base"), Linear::plain(Layout::InOut), &[turned, table])?;
    let trained = g.trained(&state_of(module), ParameterKind::Tokens, &[chosen.len(), width], true);
    let sub = Binary { function: BinaryFunction::Sub, a: Extent::default(), b: Extent::default() };
    let change = g.op1(&name("change"), sub, &[trained, base])?;
    Ok(TokenRows { change, selection })
}

/// Each of a module's trained rows as the base has it, to begin with: the state's name and the rows, one behind the other.
pub(super) fn starts(
    base: &ModelConfig,
    weights: &dyn BaseWeights,
    lora: &LoraConfig,
) -> Result<Vec<(String, Vec<f32>)>, ModelError> {
    let tokens = TrainedTokens::of_settings(base, lora)?;
    let mut starts = Vec::new();
    for weight in [base.embedding_weight(), base.head_weight()] {
        let Some((chosen, state)) = tokens.of_weight(base, &weight) else { continue };
        let width = base.hidden_size;
        let mut rows = vec![0.0; chosen.len() * width];
        let mut at = 0;
        weights.read_weight(&weight, base.vocab_size * width, &mut |piece| {
            for (place, &row) in chosen.iter().enumerate() {
                let (first, end) = (at.max(row * width), (at + piece.len()).min((row + 1) * width));
                if first < end {
                    let to = place * width + first - row * width;
                    rows[to..to + end - first].copy_from_slice(&piece[first - at..end - at]);
                }
            }
            at += piece.len();
            Ok(())
        })?;
        starts.push((state, rows));
    }
    Ok(starts)
}

fn check_rows(rows: &[usize], vocab: usize) -> Result<(), ModelError> {
    if let Some(row) = rows.iter().find(|row| **row >= vocab) {
        return Err(refused(format!("{row}: this model has tokens 0 to {}", vocab - 1)));
    }
    let mut sorted = rows.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(refused(format!("{}: given twice", pair[0]))),
        None => Ok(()),
    }
}

fn refused(problem: String) -> ModelError {
    ModelError::Setting(format!("{KEY} {problem}"))
}
