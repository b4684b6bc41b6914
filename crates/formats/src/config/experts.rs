//! Mixtures of experts: a router that chooses for each token some of many MLPs, and what families with one share in their keys.
//!
//! Invariant: the sizes are positive, a token has no more experts than there are, and what would compute something else is refused by
//! name. Keys as in transformers 5 (`MixtralConfig`, `Qwen2MoeConfig`, `Qwen3MoeConfig`). Look next at `mixtral` and `qwen3_moe`.

use super::most;
use crate::FormatsError;
use crate::keys::{Keys, shown};

/// The experts of a model: MLPs of the block's own form, and of a width of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// E: experts of a layer.
    pub count: usize,
    /// k: experts of a token.
    pub per_token: usize,
    /// Width of an expert.
    pub inner_size: usize,
    /// Whether the scores of a token's experts are divided by their sum.
    pub normalised: bool,
    /// Width of the expert that every token has beside its own, times a gate of its own.
    pub shared_inner_size: Option<usize>,
    /// Which layers have experts; the others have the one MLP.
    pub layers: Vec<bool>,
}

impl Experts {
    /// Name of the router, in the MLP's place.
    pub const ROUTER: &'static str = "gate";
    /// Name of the expert that every token has, there.
    pub const SHARED: &'static str = "shared_expert";
    /// Name of its gate, there.
    pub const SHARED_GATE: &'static str = "shared_expert_gate";

    /// Names of one linear of all experts, where `mlp` is the MLP's place.
    pub fn of_linear(&self, mlp: &str, linear: &str) -> Vec<String> {
        (0..self.count).map(|expert| format!("{mlp}.experts.{expert}.{linear}")).collect()
    }

    /// Refuses experts that are wider together than any MLP.
    pub(super) fn bounded(self, keys: &Keys<'_>) -> Result<Self, FormatsError> {
        let shared = self.shared_inner_size.unwrap_or(0);
        if self.count * self.inner_size + shared > most::INNER {
            let (count, width) = (self.count, self.inner_size);
            let problem = format!("and the experts' width: {count} experts of {width} are wider than {}", most::INNER);
            return Err(keys.error("num_experts", problem));
        }
        Ok(self)
    }

    /// All linears, those that run as one together.
    pub(super) fn linears(&self, mlp: &str, names: &[&str]) -> Vec<Vec<String>> {
        let own = names.iter().map(|linear| self.of_linear(mlp, linear));
        let shared = names.iter().map(|linear| vec![format!("{mlp}.{}.{linear}", Experts::SHARED)]);
        let gate = [vec![format!("{mlp}.{}", Experts::SHARED_GATE)]];
        let shared = self.shared_inner_size.map(|_| shared.chain(gate));
        own.chain(shared.into_iter().flatten()).collect()
    }
}

/// What is taken where a key is absent.
pub(super) struct Defaults {
    /// The key of E, and E.
    pub count: (&'static str, usize),
    pub per_token: usize,
}

/// How many experts there are and how many a token has, in every layer.
pub(super) fn read(keys: &Keys<'_>, defaults: &Defaults, layers: usize) -> Result<Experts, FormatsError> {
    // Files have either name of the key.
    let names = ["num_local_experts", "num_experts"];
    let key = names.into_iter().find(|key| keys.has(key)).unwrap_or(defaults.count.0);
    let count = keys.size(key, defaults.count.1, most::EXPERTS)?;
    let per_token = keys.size("num_experts_per_tok", defaults.per_token, most::EXPERTS)?;
    if per_token > count {
        return Err(keys.error("num_experts_per_tok", format!("is {per_token}; there are {count} experts")));
    }
    // Without it transformers adds no loss of routers, whatever its factor is.
    if keys.flag("output_router_logits", false)? && keys.maybe_number("router_aux_loss_coef")? != Some(0.0) {
        let problem = "is true, which adds a loss that balances experts; this loss is not supported: set it to false";
        return Err(keys.error("output_router_logits", problem));
    }
    Ok(Experts {
        count,
        per_token,
        inner_size: 0,
        normalised: true,
        shared_inner_size: None,
        layers: vec![true; layers],
    })
}

/// Which layers have experts, of Qwen's families: every `decoder_sparse_step`th, but for those that `mlp_only_layers` lists.
pub(super) fn sparse_layers(keys: &Keys<'_>, layers: usize) -> Result<Vec<bool>, FormatsError> {
    let step = keys.size("decoder_sparse_step", 1, most::LAYERS)?;
    let mut sparse: Vec<bool> = (0..layers).map(|layer| (layer + 1).is_multiple_of(step)).collect();
    let key = "mlp_only_layers";
    let listed = match keys.value(key) {
        None => &[][..],
        Some(value) => match value.as_array() {
            Some(list) => list,
            None => return Err(keys.error(key, format!("is {}; it must be a list of layers", shown(value)))),
        },
    };
    for layer in listed {
        let Some(number) = layer.as_u64() else {
            return Err(keys.error(key, format!("has {}; it must be a list of layers", shown(layer))));
        };
        // transformers takes no notice of layers that are not there.
        if let Some(is_sparse) = usize::try_from(number).ok().and_then(|number| sparse.get_mut(number)) {
            *is_sparse = false;
        }
    }
    Ok(sparse)
}
