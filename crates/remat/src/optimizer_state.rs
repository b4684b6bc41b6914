//! What an optimizer keeps: moments by parameter, the number of updates, the rates of groups.
//!
//! Invariant: what is written is what the next update reads; nothing else changes.

use crate::step::Step;
use crate::{Error, GroupRate};
use remat_ir::{StateRole, Storage};
use remat_tensor::DType;

/// What an optimizer keeps of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The first moment of AdamW and Lion; the buffer of momentum of SGD.
    First,
    /// The second moment of AdamW.
    Second,
}

impl Moment {
    fn role(self) -> StateRole {
        match self {
            Moment::First => StateRole::FirstMoment,
            Moment::Second => StateRole::SecondMoment,
        }
    }
}

impl Step {
    /// A moment of a parameter, with as many elements.
    ///
    /// # Errors
    /// A parameter or moment that there is not, moments of 8 bits, which are saved and loaded as a whole.
    pub fn moment(&self, parameter: &str, moment: Moment) -> Result<Vec<f32>, Error> {
        let state = self.known_moment(parameter, moment)?;
        self.read(Storage::State, &state)
    }

    /// Writes a moment of a parameter.
    ///
    /// # Errors
    /// As [`Step::moment`]; another number of elements.
    pub fn set_moment(&mut self, parameter: &str, moment: Moment, elements: &[f32]) -> Result<(), Error> {
        let state = self.known_moment(parameter, moment)?;
        let device = self.device();
        let expected = device.source_type(device.known(Storage::State, &state)?).clone();
        if expected.shape.numel() != elements.len() {
            let given = format!("{} of f32", elements.len());
            return Err(Error::WrongElements { kind: "moment", name: state, expected: expected.to_string(), given });
        }
        self.write(Storage::State, &state, elements)
    }

    fn known_moment(&self, parameter: &str, moment: Moment) -> Result<String, Error> {
        self.known_parameter(parameter)?;
        let state = moment.role().name(parameter);
        let device = self.device();
        let Some(source) = device.source(Storage::State, &state) else {
            let optimizer = self.recipe().options.optimizer.as_ref().map_or("none", |optimizer| optimizer.name());
            let message =
                format!("there is no {moment:?} moment of \"{parameter}\" here: the optimizer is {optimizer}");
            return Err(Error::NotCompiledFor(message));
        };
        if device.source_type(source).dtype != DType::F32 {
            let message = format!(
                "the moments of \"{parameter}\" are codes of 8 bits, which say nothing without their scales: use Step::save and \
                 Step::load_state"
            );
            return Err(Error::NotCompiledFor(message));
        }
        Ok(state)
    }

    /// Updates made so far: what AdamW corrects its moments by.
    pub fn updates(&self) -> u32 {
        self.updates_made
    }

    /// Sets the number of updates made so far, for moments that were made elsewhere.
    pub fn set_updates(&mut self, updates: u32) {
        self.updates_made = updates;
    }

    /// The learning rate of a group that was compiled with one of its own, from the next update on.
    ///
    /// # Errors
    /// A group that is not there or has the rate of all, a rate that is negative or not finite.
    pub fn set_group_rate(&mut self, group: &str, rate: GroupRate) -> Result<(), Error> {
        let refused = |problem: &str| Error::ParameterGroup { group: group.to_string(), problem: problem.to_string() };
        if !rate.is_usable() {
            return Err(refused("its rate must be a finite number of at least 0"));
        }
        let groups = &mut self.recipe_mut().options.groups;
        let found = groups.iter_mut().find(|other| other.name() == group && other.rate.is_some());
        let missing =
            "there is none of this name with a rate of its own: give ParameterGroup::rate_factor or learning_rate";
        found.ok_or_else(|| refused(missing))?.rate = Some(rate);
        Ok(())
    }

    /// Writes the rates of groups for an update at `learning_rate`.
    pub(crate) fn write_group_rates(&mut self, learning_rate: f32) -> Result<(), Error> {
        let rated: Vec<(String, f32)> = self
            .recipe()
            .options
            .groups
            .iter()
            .filter_map(|group| {
                let rate = group.rate?.of(learning_rate);
                Some((remat_step::rate_input(group.name()), rate))
            })
            .collect();
        for (input, rate) in rated {
            self.write(Storage::Input, &input, &[rate])?;
        }
        Ok(())
    }

    /// The key of the next run's random ops: the seed's low and high half, the number of updates, and of runs since. A run
    /// adds 1 to the last, an update 1 to the one before it, which begins the last anew.
    pub fn random_key(&self) -> [u32; 4] {
        self.key
    }

    /// Sets the key of the next run's random ops: with the key of an earlier run, dropout draws the same masks.
    pub fn set_random_key(&mut self, key: [u32; 4]) {
        self.key = key;
    }
}
