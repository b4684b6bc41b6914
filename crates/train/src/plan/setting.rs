//! What a plan is made of, without data: settings, model, method and the shape of a micro-batch, and the graphs that they
//! are. Look next at `planning` for the plans.

use crate::{TrainConfig, TrainError};
use remat_ir::{Training, World};
use remat_model::{BatchShape, Method, Model};
use remat_step::{AdamWSettings, Clip, Optimizer, TrainingStep, UpdateRule};

/// What a plan is made of, without data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) config: &'a TrainConfig,
    pub(crate) model: &'a Model,
    pub(crate) method: &'a Method,
    pub(crate) shape: BatchShape,
    /// The ranks that train together, and which of them is planned.
    pub(crate) world: World,
}

impl Setting<'_> {
    /// The micro-step before it is differentiated.
    pub(crate) fn training(&self) -> Result<Training, TrainError> {
        Ok(self.model.training_in(self.config.number_format().into(), self.method, self.shape)?)
    }

    /// Forward, backward and update.
    pub(crate) fn step(&self) -> Result<TrainingStep, TrainError> {
        Ok(TrainingStep::new(self.training()?, Some(&update_rule(self.config, self.world)))?)
    }
}

/// How the settings say that an update is made, by these ranks.
pub(crate) fn update_rule(config: &TrainConfig, world: World) -> UpdateRule {
    let optimizer = Optimizer::AdamW(AdamWSettings {
        weight_decay: config.weight_decay as f32,
        moments: config.optimizer.into(),
        adapter_b_rate: config.loraplus_lr_ratio.unwrap_or(1.0) as f32,
        embedding_rate: config.loraplus_embedding_rate() as f32,
        ..AdamWSettings::default()
    });
    let clip = if config.clip > 0.0 { Clip::Norm(config.clip as f32) } else { Clip::None };
    UpdateRule { clip, accumulation: config.accumulation_rule(), world, ..UpdateRule::of(optimizer) }
}
