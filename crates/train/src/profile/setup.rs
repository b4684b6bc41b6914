//! What a profile is made of, as settings say it. Invariant: the same set-up as a run's, so that its steps are the run's.

use crate::plan::planning::{Limit, Limits};
use crate::plan::setup::{SetUp, SetUpFor};
use crate::record::machine::Machine;
use crate::{TrainConfig, TrainError};
use remat_data::{Batch, DataLoader, SampleStats};
use remat_model::{BatchShape, Method, Model};
use remat_plan::{Prices, SpillPrices};
use remat_step::DeviceOptions;

/// What a job borrows, as settings say it.
pub struct ProfileSetup {
    /// The settings, with derived defaults.
    pub config: TrainConfig,
    /// The folder's model, or a preset's with random weights.
    pub model: Model,
    /// What is trained.
    pub method: Method,
    /// Shape of a micro-batch.
    pub shape: BatchShape,
    /// The rows that are stepped on, if the settings name any.
    pub rows: Option<SampleRows>,
    /// Threads and instruction level.
    pub options: DeviceOptions,
    /// The machine, with the threads and instruction level of the steps.
    pub machine: Machine,
    /// How much memory there may be.
    pub limits: Limits,
    /// What operations cost, if the settings say.
    pub prices: Option<Prices>,
    /// What copies to the settings' folder cost, if they name one.
    pub spill: Option<SpillPrices>,
}

/// A micro-batch of a user's rows.
pub struct SampleRows {
    /// The first of the run that these settings would make.
    pub batch: Batch,
    /// What was read, file by file.
    pub data: Vec<SampleStats>,
}

impl ProfileSetup {
    /// Of settings; data and a folder to write are not asked for, and tokens are random without data.
    ///
    /// # Errors
    /// Bad settings; a model that cannot be opened.
    pub fn of(config: TrainConfig) -> Result<Self, TrainError> {
        let setup = SetUp::of(config.resolved_to_plan()?, SetUpFor::Profile)?;
        let SetUp { config, model, method, shape, loader, options, limits, prices, spill, .. } = setup;
        let machine = Machine::this(&options.level.to_string(), options.threads);
        let rows = loader.map(|loader| SampleRows::first_of(loader, shape)).transpose()?;
        Ok(ProfileSetup { config, model, method, shape, rows, options, machine, limits, prices, spill })
    }

    /// The limit of the memory where the arena lies.
    pub fn limit(&self) -> Option<Limit> {
        self.limits.in_domain(self.options.profile().tensor_domain())
    }
}

impl SampleRows {
    /// The first micro-batch of a run over these rows, in the shape that the run would have.
    fn first_of(mut loader: DataLoader, shape: BatchShape) -> Result<Self, TrainError> {
        let (mut update, mut batch) = (loader.update_buffer(), Batch::new(shape.batch, shape.seq_len));
        loader.next_update(&mut update)?;
        loader.fill(&update, 0, &mut batch)?;
        Ok(SampleRows { batch, data: loader.dataset().stats().to_vec() })
    }
}
