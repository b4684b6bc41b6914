//! Adapters of the embedding and of the head: the two modules outside of blocks, under PEFT's names and with its start.
//!
//! Of an embedding y = table[ids] it is y + scale · (Aᵀ[ids])·Bᵀ, with `lora_embedding_A` [r, V], which starts at zero, and
//! `lora_embedding_B` [D, r] (peft's `lora.Embedding`); there is no dropout. Of a head it is LoRA of that linear, where the loss
//! reads its two factors instead of a head with the adapter in it. Invariant: neither makes a copy of the table or of logits;
//! where embedding and head are tied, each has an adapter of its own, as in PEFT.

use super::file_names::PREFIX;
use super::lora::LORA;
use super::outer_modules::{HEAD_MODULE, embedding_module};
use super::selection::AdaptedModule;
use super::trained_base::TrainedBase;
use super::variant::{AdapterTensor, LoraConfig, Start};
use crate::ModelError;
use crate::graph_builder::GraphBuilder;
use remat_formats::{ModelConfig, SettingName};
use remat_ir::ops::{Add, Embedding, Layout, Linear, Transpose};
use remat_ir::{IrError, ParameterKind, ValueId};

/// What an embedding's adapter keeps.
pub(super) const TENSORS: &[AdapterTensor] = &[
    AdapterTensor { kind: ParameterKind::EmbeddingA, start: Start::Zeros },
    AdapterTensor { kind: ParameterKind::EmbeddingB, start: Start::Normal },
];

/// The two factors of what an adapter adds to logits: u [.., r] and up [V, r].
pub(crate) type HeadFactors = (ValueId, ValueId);

/// The embeddings `y` of `ids` with the adapter of the embedding, if there is one; sizes are [V, D].
pub(super) fn emit_embedding(
    g: &mut GraphBuilder,
    modules: &[AdaptedModule],
    path: &str,
    (ids, y): (ValueId, ValueId),
    [vocab, width]: [usize; 2],
) -> Result<ValueId, IrError> {
    let Some(module) = modules.iter().find(|module| module.name == path) else { return Ok(y) };
    let [a_name, b_name] = ["lora_embedding_A", "lora_embedding_B"].map(|tensor| format!("{PREFIX}{path}.{tensor}"));
    let a = g.trained(&a_name, ParameterKind::EmbeddingA, &[module.rank, vocab], true);
    let b = g.trained(&b_name, ParameterKind::EmbeddingB, &[width, module.rank], true);
    g.gate(&b_name, &a_name);
    let rows = g.op1(&format!("{path}.lora_A_rows"), Transpose { permutation: vec![1, 0] }, &[a])?;
    let u = g.op1(&format!("{path}.lora_A"), Embedding, &[rows, ids])?;
    let up = Linear { alpha: module.scale, ..Linear::plain(Layout::OutIn) };
    let delta = g.op1(&format!("{path}.lora_B"), up, &[u, b])?;
    g.op1(&format!("{path}.adapted"), Add, &[y, delta])
}

/// What the adapter of the head adds to the logits of `hidden`, if there is one; sizes are [V, D].
pub(super) fn emit_head(
    g: &mut GraphBuilder,
    (config, modules): (&LoraConfig, &[AdaptedModule]),
    hidden: ValueId,
    [vocab, width]: [usize; 2],
) -> Result<Option<HeadFactors>, IrError> {
    let module = modules.iter().find(|module| module.name == HEAD_MODULE);
    let Some(module) = module else { return Ok(None) };
    let [a_name, b_name] = ["lora_A.weight", "lora_B.weight"].map(|tensor| format!("{PREFIX}{HEAD_MODULE}.{tensor}"));
    let a = g.trained(&a_name, ParameterKind::AdapterA, &[module.rank, width], true);
    let up = g.trained(&b_name, ParameterKind::AdapterB, &[vocab, module.rank], true);
    g.gate(&a_name, &b_name);
    let x = g.dropout(&format!("{HEAD_MODULE}.lora_dropout"), hidden, config.dropout)?;
    let down = Linear { alpha: module.scale, ..Linear::plain(Layout::OutIn) };
    let u = g.op1(&format!("{HEAD_MODULE}.lora_A"), down, &[x, a])?;
    Ok(Some((u, up)))
}

/// Refuses adapters of embedding and head that nothing here, or PEFT, has a meaning for.
///
/// # Errors
/// A variant that is not LoRA's; a module that is trained whole, too; tied adapters.
pub(super) fn check(
    base: &ModelConfig,
    config: &LoraConfig,
    modules: &[AdaptedModule],
    trained: &TrainedBase,
) -> Result<(), ModelError> {
    let embedding = embedding_module(base);
    let weights = [(embedding.as_str(), base.embedding_weight()), (HEAD_MODULE, base.head_weight())];
    for (module, weight) in weights {
        if !modules.iter().any(|adapted| adapted.name == module) {
            continue;
        }
        let targets = SettingName("targets");
        let refuse = |problem: String| Err(ModelError::Setting(format!("{targets}: {module} {problem}")));
        if config.variant != LORA {
            return refuse(format!("can have a LoRA adapter, and these are {:?}; take it out", config.variant));
        }
        if config.start.takes_from_base() {
            let start = SettingName("init-lora-weights");
            return refuse(format!("has no start that is taken out of the base, as {start} asks; take it out"));
        }
        if trained.contains(&weight) {
            let saved = SettingName("modules-to-save");
            return refuse(format!("has an adapter, and {saved} trains it whole; take it out of one of them"));
        }
        if config.ensure_weight_tying && base.tie_word_embeddings {
            let (tying, embedding) = (SettingName("ensure-weight-tying"), embedding.as_str());
            return refuse(format!(
                "cannot share one adapter with what it is tied to, as {tying} asks; leave that out and target \
                 {embedding} and {HEAD_MODULE}, which then have one each"
            ));
        }
    }
    Ok(())
}
