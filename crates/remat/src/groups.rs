//! Groups of parameters with a learning rate or weight decay of their own, or that stay as they are.
//!
//! Invariant: a group that has no parameter is a mistake and refused by its name; so is a parameter of two groups. Look next
//! at [`crate::Options::group`].

use crate::Error;
use remat_step::Group;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// The learning rate of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GroupRate {
    /// This many times the rate that [`crate::Step::update`] is given.
    Factor(f32),
    /// This rate, whatever an update is given.
    Own(f32),
}

impl GroupRate {
    pub(crate) fn of(self, rate: f32) -> f32 {
        match self {
            GroupRate::Factor(factor) => rate * factor,
            GroupRate::Own(own) => own,
        }
    }

    pub(crate) fn is_usable(self) -> bool {
        let (GroupRate::Factor(number) | GroupRate::Own(number)) = self;
        number.is_finite() && number >= 0.0
    }
}

type Predicate = Arc<dyn Fn(&str, &[usize]) -> bool + Send + Sync>;

/// Which parameters.
#[derive(Clone)]
enum Members {
    /// Those whose names match; `*` stands for any characters.
    Pattern(String),
    /// Those that it holds of, by name and shape.
    Predicate(Predicate),
}

/// Parameters with settings of their own, as `param_groups` of torch.optim. What a group leaves open is as for all others.
///
/// ```
/// use remat::{Graph, Init, Options, Optimizer, ParameterGroup, SgdSettings};
///
/// # fn main() -> Result<(), remat::Error> {
/// let mut g = Graph::new();
/// let x = g.parameter("body.x", &[2], Init::Ones)?;
/// let y = g.parameter("head.y", &[2], Init::Ones)?;
/// let sum = g.add(x, y)?;
/// let loss = g.sum(sum)?;
/// let options = Options::new()
///     .optimizer(Optimizer::Sgd(SgdSettings::default()))
///     .group(ParameterGroup::named("head", "head.*").rate_factor(0.5));
/// let mut step = g.compile(loss, options)?;
/// step.run()?;
/// step.update(0.25)?;
/// // Both have a gradient of 1, brought to a norm of 1: 0.5 in each of four elements.
/// let (body, head) = (step.parameter("body.x")?, step.parameter("head.y")?);
/// assert!((body[0] - 0.875).abs() < 1e-5 && (head[0] - 0.9375).abs() < 1e-5);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ParameterGroup {
    name: String,
    members: Members,
    pub(crate) rate: Option<GroupRate>,
    weight_decay: Option<f32>,
    frozen: bool,
}

impl fmt::Debug for ParameterGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParameterGroup({}, {})", self.name, self.described())
    }
}

impl ParameterGroup {
    /// The parameters whose names match a pattern, in which `*` stands for any characters, none included.
    pub fn named(name: &str, pattern: &str) -> Self {
        ParameterGroup::of(name, Members::Pattern(pattern.to_string()))
    }

    /// The parameters that `predicate` holds of: it is given name and shape.
    pub fn matching(name: &str, predicate: impl Fn(&str, &[usize]) -> bool + Send + Sync + 'static) -> Self {
        ParameterGroup::of(name, Members::Predicate(Arc::new(predicate)))
    }

    fn of(name: &str, members: Members) -> Self {
        ParameterGroup { name: name.to_string(), members, rate: None, weight_decay: None, frozen: false }
    }

    /// `factor` times the learning rate of each update.
    pub fn rate_factor(self, factor: f32) -> Self {
        ParameterGroup { rate: Some(GroupRate::Factor(factor)), ..self }
    }

    /// A learning rate of its own, whatever updates are given; [`crate::Step::set_group_rate`] changes it.
    pub fn learning_rate(self, rate: f32) -> Self {
        ParameterGroup { rate: Some(GroupRate::Own(rate)), ..self }
    }

    /// Decay of all its weights, vectors included; the optimizer's own is only for weights of two axes and more.
    pub fn weight_decay(self, decay: f32) -> Self {
        ParameterGroup { weight_decay: Some(decay), ..self }
    }

    /// They are not trained: no gradient, no optimizer state.
    pub fn frozen(self) -> Self {
        ParameterGroup { frozen: true, ..self }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn described(&self) -> String {
        match &self.members {
            Members::Pattern(pattern) => format!("\"{pattern}\""),
            Members::Predicate(_) => "its predicate".to_string(),
        }
    }

    fn holds(&self, name: &str, shape: &[usize]) -> bool {
        match &self.members {
            Members::Pattern(pattern) => matches(pattern, name),
            Members::Predicate(predicate) => predicate(name, shape),
        }
    }

    fn refuse<T>(&self, problem: String) -> Result<T, Error> {
        Err(Error::ParameterGroup { group: self.name.clone(), problem })
    }

    /// Refuses settings that say nothing or contradict each other.
    fn check(&self, has_optimizer: bool) -> Result<(), Error> {
        let sets = self.rate.is_some() || self.weight_decay.is_some();
        if self.frozen && sets {
            return self.refuse("is frozen, so a rate or weight decay says nothing: leave one of them out".to_string());
        }
        if sets && !has_optimizer {
            return self.refuse("there is no optimizer to use its settings: give Options::optimizer".to_string());
        }
        if self.rate.is_some_and(|rate| !rate.is_usable()) {
            return self.refuse("its rate must be a finite number of at least 0".to_string());
        }
        if self.weight_decay.is_some_and(|decay| !decay.is_finite()) {
            return self.refuse("its weight decay must be a finite number".to_string());
        }
        Ok(())
    }
}

/// Groups with their members.
#[derive(Debug, Default)]
pub(crate) struct Grouped {
    /// For the update.
    pub groups: Vec<Group>,
    /// Names of parameters that are not trained.
    pub frozen: HashSet<String>,
}

/// Finds the parameters, given by name and shape, of each group.
pub(crate) fn grouped(
    groups: &[ParameterGroup],
    parameters: &[(&str, &[usize])],
    has_optimizer: bool,
) -> Result<Grouped, Error> {
    let mut taken: HashMap<&str, &str> = HashMap::new();
    let mut grouped = Grouped::default();
    for (index, group) in groups.iter().enumerate() {
        group.check(has_optimizer)?;
        if groups[..index].iter().any(|other| other.name == group.name) {
            return group.refuse("there are two of this name: give each its own".to_string());
        }
        let members: Vec<&str> =
            parameters.iter().filter(|(name, shape)| group.holds(name, shape)).map(|(name, _)| *name).collect();
        if members.is_empty() {
            let names: Vec<&str> = parameters.iter().map(|(name, _)| *name).collect();
            let names = if names.is_empty() { "none".to_string() } else { names.join(", ") };
            return group.refuse(format!("{} matches no parameter; there are {names}", group.described()));
        }
        for member in &members {
            if let Some(other) = taken.insert(member, &group.name) {
                let problem = format!("\"{member}\" is in the group \"{other}\", too: a parameter is in one at most");
                return group.refuse(problem);
            }
        }
        let parameters: Vec<String> = members.iter().map(ToString::to_string).collect();
        if group.frozen {
            grouped.frozen.extend(parameters);
        } else {
            let (name, weight_decay) = (group.name.clone(), group.weight_decay);
            grouped.groups.push(Group { name, parameters, has_own_rate: group.rate.is_some(), weight_decay });
        }
    }
    Ok(grouped)
}

/// Whether `name` is `pattern` with each `*` replaced by some characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("head", "head", true),
            ("head", "head.weight", false),
            ("head.*", "head.weight", true),
            ("*.bias", "layers.0.bias", true),
            ("*.bias", "bias", false),
            ("layers.*.up.*", "layers.10.up.weight", true),
            ("layers.*.up.*", "layers.10.down.weight", false),
            ("*a*a", "a", false),
            ("*a*a", "aa", true),
            ("*", "anything", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
