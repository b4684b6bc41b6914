//! What llama.cpp calls a family, its tensors and its sizes, and what it computes of each.
//!
//! Read from llama.cpp (`src/llama-arch.cpp`, `src/models/`) and its converter (`conversion/`, `gguf-py`). Where llama.cpp
//! rotates neighbouring pairs of a head (Llama's own layout) and the checkpoint rotates its two halves (transformers' layout),
//! rows of queries and keys are written in the other order; [`GgufName::head_rows`] says where.
//! Invariant: what a family's code in llama.cpp has no place for (biases, windows, scalings) is refused by name, or bounds
//! the context that the file claims, within which it changes nothing.

use super::write::GgufEntry;
use crate::Experts;
use crate::{Activation, GeluForm, Mlp, ModelConfig, Norm, Positions, Projections, RopeScaling};

/// A model as llama.cpp knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufArchitecture {
    family: &'static Family,
    context: usize,
    /// What is not as in the checkpoint, for people.
    pub notes: Vec<String>,
}

/// A tensor's name, and how its rows are ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufName {
    /// As `blk.0.attn_q.weight`.
    pub name: String,
    /// Of queries and keys that llama.cpp rotates in pairs: rows of a head, whose two halves are written in turns, one row
    /// of each.
    pub head_rows: Option<usize>,
    /// Of a linear of an expert: its number. The experts' matrices are one tensor, behind each other.
    pub expert: Option<usize>,
}

impl GgufName {
    /// Whether llama.cpp reads it as f32: the router's, and the gate of the expert that every token has.
    pub fn is_router(&self) -> bool {
        self.name.contains(".ffn_gate_inp")
    }

    /// Whether llama.cpp reads a matrix of one row as a vector.
    pub fn is_vector(&self) -> bool {
        self.name.ends_with(".ffn_gate_inp_shexp.weight")
    }
}

/// A family's code in llama.cpp.
#[derive(Debug, PartialEq)]
struct Family {
    /// `model_type` in the checkpoint.
    model_type: &'static str,
    /// `general.architecture`.
    name: &'static str,
    /// Whether it rotates neighbouring pairs.
    rotates_pairs: bool,
    /// Whether a file may leave the head out where it is the embedding.
    ties_head: bool,
    /// Whether queries, keys and values may have biases, the output, the MLP.
    biases: [bool; 3],
    /// Whether it reads a factor for each rotary frequency.
    rope_factors: bool,
    /// Whether it reads Granite's factors.
    multipliers: bool,
    /// Whether it divides the scores of a token's experts by their sum, of one with experts.
    experts: Option<bool>,
}

const LLAMA: Family = Family {
    model_type: "llama",
    name: "llama",
    rotates_pairs: true,
    ties_head: true,
    biases: [true; 3],
    rope_factors: true,
    multipliers: false,
    experts: None,
};

/// Without rotation in pairs, factors and biases: what the newer families start from.
const PLAIN: Family = Family { rotates_pairs: false, biases: [false; 3], rope_factors: false, ..LLAMA };

static FAMILIES: [Family; 11] = [
    LLAMA,
    Family { model_type: "mistral", ..LLAMA },
    Family { model_type: "granite", name: "granite", multipliers: true, ..LLAMA },
    Family { model_type: "smollm3", name: "smollm3", rotates_pairs: true, ..PLAIN },
    Family { model_type: "qwen2", name: "qwen2", biases: [true, false, false], ..PLAIN },
    Family { model_type: "qwen3", name: "qwen3", ..PLAIN },
    Family { model_type: "olmo2", name: "olmo2", ties_head: false, ..PLAIN },
    Family { model_type: "gpt2", name: "gpt2", biases: [true; 3], ..PLAIN },
    Family { model_type: "mixtral", experts: Some(true), ..LLAMA },
    Family { model_type: "qwen2_moe", name: "qwen2moe", biases: [true, false, false], experts: Some(false), ..PLAIN },
    Family { model_type: "qwen3_moe", name: "qwen3moe", experts: Some(true), ..PLAIN },
];

/// Every so many layers, SmolLM 3 rotates nothing in llama.cpp, whatever the configuration says.
const SMOLLM3_UNROTATED: usize = 4;

impl GgufArchitecture {
    /// Of a configuration.
    ///
    /// # Errors
    /// What llama.cpp cannot compute of it, by name.
    pub fn of(config: &ModelConfig) -> Result<Self, String> {
        let Some(family) = FAMILIES.iter().find(|family| family.model_type == config.family) else {
            let known = FAMILIES.each_ref().map(|family| family.model_type).join(", ");
            return Err(format!("the family {:?} is not among those that are exported: {known}", config.family));
        };
        biases_are_read(family, config)?;
        parts_are_known(family, config)?;
        experts_are_computed(family, config)?;
        layers_are_computed(family, config)?;
        let mut architecture = GgufArchitecture { family, context: config.max_position_embeddings, notes: Vec::new() };
        architecture.scale_positions(config)?;
        let windows = (0..config.num_hidden_layers).filter_map(|layer| config.window(layer));
        if let Some(window) = windows.min().filter(|&window| window < architecture.context) {
            architecture.notes.push(format!(
                "llama.cpp has no sliding window for {}: the file claims a context of {window} tokens, the window, within \
                 which it computes the same; beyond, it sees more keys than the model was trained with",
                config.family
            ));
            architecture.context = window;
        }
        Ok(architecture)
    }

    /// Refuses scalings of rotary positions that are not computed alike.
    fn scale_positions(&mut self, config: &ModelConfig) -> Result<(), String> {
        let Some(rotary) = config.rotary() else { return Ok(()) };
        let name = self.family.name;
        match rotary.scaling {
            RopeScaling::None | RopeScaling::Linear { .. } => {}
            RopeScaling::Llama3 { .. } if self.family.rope_factors => {}
            RopeScaling::Llama3 { .. } => {
                return Err(format!("rope_type \"llama3\": llama.cpp reads no factors of frequencies for {name}"));
            }
            RopeScaling::Yarn { truncate: false, .. } => {
                return Err("truncate = false of yarn: llama.cpp always widens the range to whole pairs".to_string());
            }
            RopeScaling::Yarn { factor, attention_factor, .. } => {
                let implied = if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
                if (attention_factor / implied - 1.0).abs() > 1e-6 {
                    let problem = "llama.cpp takes the one that the factor implies";
                    return Err(format!("attention_factor = {attention_factor} of yarn: {problem}, {implied}"));
                }
            }
            RopeScaling::Dynamic { .. } => self.notes.push(format!(
                "llama.cpp has no dynamic scaling of positions: within {} tokens, the context that the file claims, it \
                 computes the same",
                config.max_position_embeddings
            )),
            RopeScaling::LongRope { .. } => {
                let problem = "llama.cpp chooses its factors by the size of the context, not by the length of a text";
                return Err(format!("rope_type \"longrope\": {problem}"));
            }
        }
        Ok(())
    }

    /// `general.architecture`.
    pub fn name(&self) -> &'static str {
        self.family.name
    }

    /// Whether a file must hold a head although it is the embedding.
    pub fn repeats_tied_head(&self) -> bool {
        !self.family.ties_head
    }

    /// The sizes and constants of the model, by key.
    pub fn entries(&self, config: &ModelConfig) -> Vec<(String, GgufEntry)> {
        let size = |number: usize| GgufEntry::U32(u32::try_from(number).unwrap_or(u32::MAX));
        let number = |number: f64| GgufEntry::F32(number as f32);
        let mut entries = vec![
            ("block_count", size(config.num_hidden_layers)),
            ("context_length", size(self.context)),
            ("embedding_length", size(config.hidden_size)),
            ("feed_forward_length", size(config.intermediate_size)),
            ("attention.head_count", size(config.num_attention_heads)),
            ("attention.head_count_kv", size(config.num_key_value_heads)),
            ("vocab_size", size(config.vocab_size)),
        ];
        let eps = match config.block.norm {
            Norm::Rms | Norm::RmsUnitOffset => "attention.layer_norm_rms_epsilon",
            Norm::Layer => "attention.layer_norm_epsilon",
        };
        entries.push((eps, number(config.block.norm_eps)));
        if let Some(rotary) = config.rotary() {
            let head = size(config.head_dim);
            entries.push(("attention.key_length", head.clone()));
            entries.push(("attention.value_length", head.clone()));
            entries.push(("rope.dimension_count", size(rotary.dims)));
            entries.push(("rope.freq_base", number(rotary.theta)));
            scaling(&rotary.scaling, &mut entries);
        }
        if self.family.multipliers {
            let attention = config.block.attention_scale.unwrap_or_else(|| 1.0 / (config.head_dim as f64).sqrt());
            entries.push(("attention.scale", number(attention)));
            entries.push(("embedding_scale", number(config.embedding_multiplier)));
            entries.push(("residual_scale", number(config.block.residual_multiplier)));
            entries.push(("logit_scale", number(config.logits_divisor)));
        }
        if let Some(experts) = &config.block.experts {
            entries.push(("expert_count", size(experts.count)));
            entries.push(("expert_used_count", size(experts.per_token)));
            entries.push(("expert_feed_forward_length", size(experts.inner_size)));
            if let Some(shared) = experts.shared_inner_size {
                entries.push(("expert_shared_feed_forward_length", size(shared)));
            }
        }
        entries.into_iter().map(|(key, entry)| (format!("{}.{key}", self.family.name), entry)).collect()
    }

    /// What llama.cpp calls a parameter; `None` if it has none of the kind.
    pub fn tensor(&self, config: &ModelConfig, parameter: &str) -> Option<GgufName> {
        let (module, part) = parameter.rsplit_once('.')?;
        let named = |name: String| Some(GgufName { name: format!("{name}.{part}"), head_rows: None, expert: None });
        let (names, outer) = (&config.block.names, |name: &str| config.outer(name));
        if module == "lm_head" {
            return named("output".to_string());
        }
        if module == outer(names.embedding) {
            return named("token_embd".to_string());
        }
        if module == outer(names.final_norm) {
            return named("output_norm".to_string());
        }
        if let Positions::Learned(table) = config.positions
            && module == outer(table)
        {
            return named("position_embd".to_string());
        }
        let (layer, inner) = module.strip_prefix(&outer(names.layers))?.strip_prefix('.')?.split_once('.')?;
        if let Some((kind, expert)) = config.block.experts.as_ref().and_then(|_| of_experts(config, inner)) {
            return Some(GgufName { name: format!("blk.{layer}.{kind}.{part}"), head_rows: None, expert });
        }
        let (kind, heads) = self.inner(config, inner)?;
        let head_rows = heads.filter(|_| self.family.rotates_pairs).map(|()| config.head_dim);
        Some(GgufName { name: format!("blk.{layer}.{kind}.{part}"), head_rows, expert: None })
    }

    /// What a module of a block is called, and whether its rows are rotated.
    fn inner(&self, config: &ModelConfig, module: &str) -> Option<(&'static str, Option<()>)> {
        let names = &config.block.names;
        let norms = [
            (names.attention_norms.before, "attn_norm"),
            (names.attention_norms.after, "post_attention_norm"),
            (names.mlp_norms.before, "ffn_norm"),
            (names.mlp_norms.after, "post_ffw_norm"),
        ];
        if let Some((_, kind)) = norms.iter().find(|(name, _)| *name == Some(module)) {
            return Some((kind, None));
        }
        let (part, linear) = module.split_once('.')?;
        if part == names.mlp {
            return Some((of_mlp(config, linear)?, None));
        }
        if part != names.attention {
            return None;
        }
        match config.block.projections {
            Projections::Separate([q, ..]) if linear == q => Some(("attn_q", Some(()))),
            Projections::Separate([_, k, _]) if linear == k => Some(("attn_k", Some(()))),
            Projections::Separate([.., v]) if linear == v => Some(("attn_v", None)),
            Projections::Fused(qkv) if linear == qkv => Some(("attn_qkv", None)),
            Projections::Separate(_) | Projections::Fused(_) | Projections::FusedByHead(_) => match linear {
                "q_norm" => Some(("attn_q_norm", None)),
                "k_norm" => Some(("attn_k_norm", None)),
                output if output == names.output => Some(("attn_output", None)),
                _ => None,
            },
        }
    }
}

/// What a linear of an MLP is called.
fn of_mlp(config: &ModelConfig, linear: &str) -> Option<&'static str> {
    match config.block.mlp {
        Mlp::Gated { inner: [gate, _], .. } if linear == gate => Some("ffn_gate"),
        Mlp::Gated { inner: [_, up], .. } | Mlp::Plain { up, .. } if linear == up => Some("ffn_up"),
        Mlp::Gated { down, .. } | Mlp::Plain { down, .. } if linear == down => Some("ffn_down"),
        Mlp::Gated { .. } | Mlp::GatedFused { .. } | Mlp::Plain { .. } => None,
    }
}

/// What a linear of a mixture of experts is called, and the number of its expert; `module` is its name in the block.
fn of_experts(config: &ModelConfig, module: &str) -> Option<(String, Option<usize>)> {
    let within = module.strip_prefix(config.block.names.mlp)?.strip_prefix('.')?;
    match within {
        Experts::ROUTER => return Some(("ffn_gate_inp".to_string(), None)),
        Experts::SHARED_GATE => return Some(("ffn_gate_inp_shexp".to_string(), None)),
        _ => {}
    }
    let (owner, linear) = within.rsplit_once('.')?;
    let kind = of_mlp(config, linear)?;
    if owner == Experts::SHARED {
        return Some((format!("{kind}_shexp"), None));
    }
    let number = owner.strip_prefix("experts.")?.parse().ok()?;
    Some((format!("{kind}_exps"), Some(number)))
}

/// Refuses mixtures of experts that the code of a family computes otherwise.
fn experts_are_computed(family: &Family, config: &ModelConfig) -> Result<(), String> {
    let (Some(experts), Some(normalised)) = (&config.block.experts, family.experts) else { return Ok(()) };
    let name = family.name;
    if let Some(layer) = experts.layers.iter().position(|has_experts| !has_experts) {
        return Err(format!("layer {layer} has no experts: llama.cpp has experts in every layer of {name}"));
    }
    if experts.normalised != normalised {
        let does = if normalised { "always divides" } else { "never divides" };
        return Err(format!(
            "norm_topk_prob = {}: llama.cpp {does} scores by their sum for {name}",
            experts.normalised
        ));
    }
    Ok(())
}

fn biases_are_read(family: &Family, config: &ModelConfig) -> Result<(), String> {
    let block = &config.block;
    let of = ["queries, keys and values", "attention's output", "the MLP"];
    let there = [block.qkv_bias, block.output_bias, block.mlp_bias];
    match (0..of.len()).find(|&part| there[part] && !family.biases[part]) {
        Some(part) => Err(format!("biases of {}: llama.cpp reads none for {}", of[part], family.name)),
        None => Ok(()),
    }
}

/// Refuses parts of blocks that none of the families above has in llama.cpp.
fn parts_are_known(family: &Family, config: &ModelConfig) -> Result<(), String> {
    let block = &config.block;
    let gated_by_silu = match block.mlp {
        Mlp::Gated { activation, .. } => activation == Activation::Silu,
        Mlp::GatedFused { .. } => false,
        Mlp::Plain { .. } => true,
    };
    let rotary = config.rotary();
    let foreign = [
        (block.norm == Norm::RmsUnitOffset, "norms of 1 + w"),
        (!gated_by_silu, "its MLP's form"),
        (matches!(block.projections, Projections::FusedByHead(_)), "queries, keys and values head by head"),
        (block.attention_softcap.is_some() || config.logits_softcap.is_some(), "soft caps"),
        (block.parallel_residual, "an MLP beside attention"),
        (rotary.is_some_and(|rotary| rotary.dims != config.head_dim), "the rotation of a part of each head"),
        (rotary.is_some_and(|rotary| rotary.local_theta.is_some()), "another base of rotation under a window"),
    ];
    match foreign.iter().find(|(is_there, _)| *is_there) {
        Some((_, part)) => Err(format!("{part}: llama.cpp has no such thing for {}", family.name)),
        None => Ok(()),
    }
}

/// Refuses what the code of a family has wired in otherwise.
fn layers_are_computed(family: &Family, config: &ModelConfig) -> Result<(), String> {
    let name = family.name;
    if let Mlp::Plain { gelu: GeluForm::Exact, .. } = config.block.mlp {
        return Err(format!("GELU by the error function: llama.cpp computes it by tanh for {name}"));
    }
    if let Some(rotary) = config.rotary() {
        let unrotated = |layer: usize| name == "smollm3" && (layer + 1).is_multiple_of(SMOLLM3_UNROTATED);
        if let Some(layer) = (0..config.num_hidden_layers).find(|&layer| rotary.rotates(layer) == unrotated(layer)) {
            let is = if rotary.rotates(layer) { "rotated" } else { "not rotated" };
            return Err(format!(
                "no_rope_layers: layer {layer} is {is}; llama.cpp leaves out every {SMOLLM3_UNROTATED}th layer of smollm3, and \
                 none of other families"
            ));
        }
    }
    let width = config.num_attention_heads * config.head_dim;
    if name == "olmo2" && width != config.hidden_size {
        return Err(format!("head_dim: the heads together are {width} wide; llama.cpp takes hidden_size for {name}"));
    }
    Ok(())
}

/// The keys of a scaling of rotary positions that have any.
fn scaling(scaling: &RopeScaling, entries: &mut Vec<(&'static str, GgufEntry)>) {
    let number = |number: f64| GgufEntry::F32(number as f32);
    match *scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Dynamic { .. } | RopeScaling::LongRope { .. } => {
        }
        RopeScaling::Linear { factor } => {
            entries.push(("rope.scaling.type", GgufEntry::Text("linear".to_string())));
            entries.push(("rope.scaling.factor", number(factor)));
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_position_embeddings: original, .. } => {
            entries.push(("rope.scaling.type", GgufEntry::Text("yarn".to_string())));
            entries.push(("rope.scaling.factor", number(factor)));
            let original = u32::try_from(original).unwrap_or(u32::MAX);
            entries.push(("rope.scaling.original_context_length", GgufEntry::U32(original)));
            entries.push(("rope.scaling.yarn_beta_fast", number(beta_fast)));
            entries.push(("rope.scaling.yarn_beta_slow", number(beta_slow)));
        }
    }
}
