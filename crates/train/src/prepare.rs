//! Everything before the first step: model, data, graph, plans, memory account; then loading.
//!
//! Invariant: [`prepare`] reads input and compiles, and [`Prepared::load`] fills the executor; neither writes a file, so a
//! run that is refused leaves nothing behind. All errors of a user's input come from here.

use crate::alternatives::{Setting, with_alternatives};
use crate::buckets::{BucketPlan, LengthBucket, SEQ_LEN_MULTIPLE, buckets, shorter};
use crate::compiled_step::{CompiledStep, MicroStep};
use crate::config::MethodKind;
use crate::evaluate::EvaluationRows;
use crate::memory::Buffers;
use crate::planning::{Limit, MicroStepProblem, PlannedStep, plan_step};
use crate::prices::{MEASURING_BYTES, measured_profile};
use crate::record::{self, Machine, PlanRecord, today};
use crate::report::{Event, PlannedRun, Reporter};
use crate::saves::Save;
use crate::snapshot::{self, DataState};
use crate::spill::{known_profile, with_spill};
use crate::{PhaseMemory, Schedule, TrainConfig, TrainError, memory};
use remat_cpu::{CpuExecutor, CpuOptions};
use remat_data::{Batch, DataLoader, Dataset, DatasetBuilder, Encoder, LoaderOptions, ModelTokens, Order, Sample};
use remat_formats::ModelConfig;
use remat_ir::Storage;
use remat_model::{BatchShape, LoraConfig, Method, Model, Parameter, Quant, Targets, refresh_working_copies};
use remat_plan::{DeviceProfile, Executor, Plan, Policy, ProgramId};
use remat_tensor::{Philox, stream_of_name};
use std::path::{Path, PathBuf};

/// What the rows are called that a preset learns where the settings name no data.
pub(crate) const RANDOM_TOKENS: &str = "random tokens";
const RANDOM_ROWS: usize = 64;

/// Longest sequence unless the user says otherwise.
pub(crate) const DEFAULT_SEQ_LEN: usize = 1024;

/// A save that a run goes on from.
pub(crate) struct Resumed {
    pub(crate) save: Save,
    pub(crate) data: DataState,
}

/// A run that is ready to be loaded.
pub(crate) struct Prepared {
    pub(crate) config: TrainConfig,
    pub(crate) model: Model,
    pub(crate) method: Method,
    pub(crate) loader: DataLoader,
    pub(crate) shape: BatchShape,
    pub(crate) total_updates: u64,
    buckets: Vec<LengthBucket>,
    bucket_plans: Vec<BucketPlan>,
    evaluation: Option<EvaluationData>,
    resumed: Option<Resumed>,
    options: CpuOptions,
    limit: Option<Limit>,
    planned: PlannedStep,
}

/// Held-out rows and the shape they are evaluated in.
struct EvaluationData {
    loader: DataLoader,
    shape: BatchShape,
}

/// Held-out rows with the program that evaluates them.
pub(crate) struct Evaluation {
    pub(crate) rows: EvaluationRows,
    pub(crate) program: ProgramId,
    pub(crate) every: u64,
}

/// A run whose executor is filled.
pub(crate) struct Session {
    pub(crate) config: TrainConfig,
    pub(crate) model: Model,
    pub(crate) method: Method,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) loader: DataLoader,
    pub(crate) step: CompiledStep,
    pub(crate) evaluation: Option<Evaluation>,
    pub(crate) schedule: Schedule,
    pub(crate) total_updates: u64,
    pub(crate) made_updates: u64,
    pub(crate) planned_peak_bytes: u64,
    pub(crate) facts: RunFacts,
}

/// What the lab record says of a run beside its settings and results.
pub(crate) struct RunFacts {
    pub(crate) machine: Machine,
    pub(crate) total_parameters: usize,
    pub(crate) plan: PlanRecord,
    pub(crate) bound_by: String,
}

/// Reads all input and compiles the step.
pub(crate) fn prepare(mut config: TrainConfig, resumed: Option<Resumed>, traced: bool) -> Result<Prepared, TrainError> {
    let model = config.open_model()?;
    let settings_of = |adapter: &Path| {
        let folder = resumed.as_ref().map_or(adapter, |resumed| &resumed.save.path);
        Ok(model.adapter_settings(folder)?)
    };
    let method = method(&config, &settings_of)?;
    if let Some(lora) = method.adapter() {
        // An adapter that the run starts from decides these.
        (config.rank, config.alpha, config.targets) =
            (lora.rank, Some(f64::from(lora.alpha)), lora.targets.to_string());
    }
    let seq_len = *config.seq_len.get_or_insert(model.config().max_positions().min(DEFAULT_SEQ_LEN));
    if seq_len > model.config().max_positions() {
        // The model's own message, before any data is read.
        model.training(&method, BatchShape { batch: 1, seq_len })?;
    }
    let mut loader = training_data(&mut config, model.config(), seq_len)?;
    let evaluation = evaluation_data(&mut config, &model, seq_len)?;
    if let Some(resumed) = &resumed {
        loader.restore(&resumed.data.sampler)?;
    }
    let shape = shape_of(&config, &loader, seq_len);
    let training = model.training(&method, shape)?;
    model.check_weights(&training.graph)?;

    let options = config.cpu_options();
    let profile = known_profile(&config, &options)?;
    let buckets = buckets(loader.sequence_lengths(), shape.batch, shape.seq_len);
    let of_shape = |bucket: &LengthBucket| Batch::bytes_of(shape.batch, bucket.seq_len);
    let data_bytes = loader.bytes() + buckets.iter().map(of_shape).sum::<usize>();
    let data_bytes = data_bytes + evaluation.as_ref().map_or(0, EvaluationData::bytes);
    let held_out = evaluation.as_ref().map(|data| model.evaluation(Some(&method), data.shape)).transpose()?;
    let held_out = held_out.map(|evaluation| evaluation.graph);
    let buffers = Buffers {
        data_bytes,
        traced_micro_batches: if traced { config.grad_accum } else { 0 },
        adapter_is_read: resumed.is_some() || config.init_adapter.is_some(),
    };
    let setting = Setting { config: &config, model: &model, method: &method, shape };
    let limit = Limit::of(&config)?;
    let short = &buckets[..buckets.len() - 1];
    let short = short.iter().map(|bucket| shorter(setting, bucket.seq_len)).collect::<Result<Vec<_>, _>>()?;
    let planned = |profile: &DeviceProfile| {
        let micro_step = MicroStepProblem::of(training.clone(), profile)?;
        plan_step(&config, &micro_step, &short, held_out.clone(), profile, buffers, limit)
            .map_err(|error| with_alternatives(error, setting, profile))
    };
    let mut profile = profile;
    let mut step = planned(&profile)?;
    if !profile.prices.measured && prices_decide(&step.micro) && has_room_to_measure(limit) {
        profile = with_spill(measured_profile(&options, config.precision, false)?.0, profile.prices.spill);
        step = planned(&profile)?;
    }
    let bucket_plans = step.bucket_plans(&buckets, &profile);
    let per_epoch = loader.updates_per_epoch() as u64;
    let epochs = config.epochs.unwrap_or(1);
    let total_updates = config.steps.unwrap_or(per_epoch.saturating_mul(epochs));
    if i32::try_from(total_updates).is_err() {
        let value = total_updates.to_string();
        return Err(TrainError::OutOfRange { key: "steps", value, rule: "at most 2147483647 updates" });
    }
    Ok(Prepared {
        config,
        model,
        method,
        loader,
        shape,
        total_updates,
        buckets,
        bucket_plans,
        evaluation,
        resumed,
        options,
        limit,
        planned: step,
    })
}

/// Whether the plan was searched for by price: nothing else asks what an op costs.
fn prices_decide(micro: &Plan) -> bool {
    let searched = matches!(micro.policy, Policy::Auto | Policy::Budget(_));
    micro.copy_steps().next().is_some() || (searched && micro.recomputed_steps().next().is_some())
}

/// Whether measuring prices now leaves the promise of the limit alone.
fn has_room_to_measure(limit: Option<Limit>) -> bool {
    limit.is_none_or(|limit| memory::resident_bytes() as usize + MEASURING_BYTES <= limit.bytes)
}

/// The method, with the settings of the adapter that the run starts or goes on from.
pub(crate) fn method(
    config: &TrainConfig,
    settings_of: &dyn Fn(&Path) -> Result<LoraConfig, TrainError>,
) -> Result<Method, TrainError> {
    if config.method == MethodKind::Full {
        return match config.init_adapter {
            None => Ok(Method::Full),
            Some(_) => {
                let problem = "needs --method lora; merge the adapter into the base to train all of it".to_string();
                Err(TrainError::BadFlag { key: "init-adapter", problem })
            }
        };
    }
    let with = |lora| match config.method {
        MethodKind::Qlora => Method::Qlora(lora, config.quant.map(Quant::from).unwrap_or_default()),
        MethodKind::Lora | MethodKind::Full => Method::Lora(lora),
    };
    if let Some(adapter) = &config.init_adapter {
        let settings = settings_of(adapter)?;
        return Ok(with(LoraConfig { dropout: config.dropout as f32, ..settings }));
    }
    let targets: Targets = config.targets.parse().map_err(|problem| TrainError::BadFlag { key: "targets", problem })?;
    let alpha = config.alpha.expect("`resolved` fills in alpha") as f32;
    let dropout = config.dropout as f32;
    Ok(with(LoraConfig { rank: config.rank, alpha, dropout, rank_stabilised: false, targets }))
}

/// The rows to train on, of a model of this configuration; random ones of a preset if the settings name none.
pub(crate) fn training_data(
    config: &mut TrainConfig,
    model: &ModelConfig,
    seq_len: usize,
) -> Result<DataLoader, TrainError> {
    let order = if config.no_shuffle { Order::InOrder } else { Order::Shuffled { seed: config.seed } };
    let TrainConfig { batch_size, grad_accum, packing, .. } = *config;
    let options = LoaderOptions { batch_size, grad_accum, packing, order };
    if config.data.is_empty() {
        return Ok(DataLoader::new(random_rows(config.seed, model.vocab_size(), seq_len)?, options)?);
    }
    load_data(config, &config.data.clone(), model, seq_len, options)
}

/// The shape of a micro-batch: as long as the longest row needs, `seq_len` at most.
pub(crate) fn shape_of(config: &TrainConfig, loader: &DataLoader, seq_len: usize) -> BatchShape {
    let longest = loader.longest_sequence().next_multiple_of(SEQ_LEN_MULTIPLE);
    BatchShape { batch: config.batch_size, seq_len: seq_len.min(longest) }
}

/// The held-out rows, if the settings name any: as the data of training are, but in file order.
fn evaluation_data(
    config: &mut TrainConfig,
    model: &Model,
    seq_len: usize,
) -> Result<Option<EvaluationData>, TrainError> {
    if config.eval_data.is_empty() {
        return Ok(None);
    }
    let TrainConfig { batch_size, packing, .. } = *config;
    let options = LoaderOptions { batch_size, grad_accum: 1, packing, order: Order::InOrder };
    let loader = load_data(config, &config.eval_data.clone(), model.config(), seq_len, options)?;
    let seq_len = seq_len.min(loader.longest_sequence().next_multiple_of(SEQ_LEN_MULTIPLE));
    Ok(Some(EvaluationData { loader, shape: BatchShape { batch: batch_size, seq_len } }))
}

/// Reads rows. Where a chat template asks for the day, that is part of the settings from then on.
fn load_data(
    config: &mut TrainConfig,
    files: &[PathBuf],
    model: &ModelConfig,
    seq_len: usize,
    options: LoaderOptions,
) -> Result<DataLoader, TrainError> {
    // A preset has no folder, and so no tokenizer: its rows are token ids.
    let tokens = match config.preset {
        Some(_) => None,
        None => ModelTokens::open(&config.model, model.eos_token_ids().first().copied())?,
    };
    let tokens = tokens.map(|tokens| match tokens.asks_for_the_day() {
        true => tokens.on_day(*config.chat_date.get_or_insert_with(today)),
        false => tokens,
    });
    let encoder = Encoder::for_model(tokens.as_ref(), model.vocab_size());
    let encoder = encoder.with_train_on(config.train_on.into());
    let dataset = Dataset::load(files, &encoder, seq_len)?;
    Ok(DataLoader::new(dataset, options)?)
}

/// Rows of random tokens, all of the full length.
fn random_rows(seed: u64, vocabulary: usize, seq_len: usize) -> Result<Dataset, TrainError> {
    let mut builder = DatasetBuilder::new(seq_len)?;
    builder.start_source(Path::new(RANDOM_TOKENS));
    let philox = Philox::new(seed, stream_of_name(RANDOM_TOKENS));
    for row in 0..RANDOM_ROWS {
        let id = |token: usize| philox.word((row * seq_len + token) as u64) % vocabulary as u32;
        let ids: Vec<u32> = (0..seq_len).map(id).collect();
        let labels = ids.iter().map(|&id| id as i32).collect();
        builder.push(&Sample { ids, labels, terminated: true, complete: true })?;
    }
    Ok(builder.finish()?)
}

impl EvaluationData {
    fn bytes(&self) -> usize {
        self.loader.bytes() + Batch::bytes_of(self.shape.batch, self.shape.seq_len)
    }
}

pub(crate) fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Prepared {
    /// Tells what was planned.
    pub(crate) fn announce(&self, reporter: &mut dyn Reporter) {
        reporter.report(Event::Planned(&PlannedRun {
            config: &self.config,
            family: self.model.config().family(),
            trained_parameters: self.trained_parameters(),
            total_parameters: self.total_parameters(),
            data: self.loader.dataset().stats(),
            eval_data: self.evaluation.as_ref().map_or(&[], |data| data.loader.dataset().stats()),
            shape: self.shape,
            updates_per_epoch: self.loader.updates_per_epoch() as u64,
            total_updates: self.total_updates,
            resumed_from: self.resumed.as_ref().map(|resumed| resumed.save.step),
            device: &self.options.profile().name,
            threads: self.options.threads,
            plan_steps: self.planned.micro.steps.len(),
            recomputed_steps: self.planned.micro.recomputed_steps().count(),
            tiles: self.planned.micro.tiles(),
            offloaded_bytes: self.planned.micro.offloaded_bytes(),
            buckets: &self.bucket_plans,
            arena_bytes: self.arena_bytes(),
            memory: &self.planned.account,
        }));
    }

    /// What the run will hold, phase by phase.
    pub(crate) fn phases(&self) -> Vec<PhaseMemory> {
        self.planned.account.phases()
    }

    fn arena_bytes(&self) -> usize {
        memory::largest_arena(&self.planned.micro, &self.planned.others())
    }

    fn trained_parameters(&self) -> usize {
        self.planned.parameters.iter().map(|parameter| parameter.ty.shape.numel()).sum()
    }

    /// Parameters of base and adapters together.
    fn total_parameters(&self) -> usize {
        let weights = self.planned.micro.graph.values.iter().filter(|value| value.storage == Storage::Weight);
        self.trained_parameters() + weights.map(|value| value.ty.shape.numel()).sum::<usize>()
    }

    fn facts(&self) -> RunFacts {
        let PlannedStep { micro, account, .. } = &self.planned;
        RunFacts {
            machine: Machine::this(&self.options.level.to_string(), self.options.threads),
            total_parameters: self.total_parameters(),
            plan: PlanRecord {
                policy: micro.policy.to_string(),
                steps: micro.steps.len(),
                recomputed_steps: micro.recomputed_steps().count(),
                offloaded_bytes: micro.offloaded_bytes(),
                arena_bytes: self.arena_bytes(),
                activation_bytes: account.bytes_of("kept activations"),
            },
            bound_by: record::bound_by(account, record::limiting(self.limit, micro)),
        }
    }

    /// Allocates everything and fills it: base weights, then the adapter or the saved state.
    pub(crate) fn load(self) -> Result<Session, TrainError> {
        let facts = self.facts();
        let PlannedStep { micro, update, evaluation, shorter, account, parameters, random } = self.planned;
        let graph = micro.graph.clone();
        let mut executor = CpuExecutor::new(self.options);
        executor.set_spill_folder(self.config.offload.clone());
        let first_shorter = 2 + usize::from(evaluation.is_some());
        let programs = executor.load([micro, update].into_iter().chain(evaluation).chain(shorter).collect())?;
        let micro_step = |bucket: &LengthBucket, program: ProgramId| {
            let shape = BatchShape { seq_len: bucket.seq_len, ..self.shape };
            MicroStep::new(program, shape, program != programs[0])
        };
        let by_length = programs[first_shorter..].iter().chain(&programs[..1]);
        let micros = self.buckets.iter().zip(by_length).map(|(bucket, &program)| micro_step(bucket, program)).collect();
        let per_epoch = self.loader.updates_per_epoch() as u64;
        let evaluation = self.evaluation.zip(programs.get(2)).map(|(data, &program)| Evaluation {
            rows: EvaluationRows::new(data.loader, data.shape),
            program,
            every: self.config.eval_every.unwrap_or(per_epoch),
        });
        self.model.load_weights(&graph, &mut executor)?;
        match (&self.resumed, &self.config.init_adapter, &self.method) {
            (Some(resumed), _, _) => {
                let states = snapshot::saved_states(&parameters, &self.config);
                snapshot::restore(&resumed.save, &states, &mut executor)?;
                refresh_working_copies(&parameters, &mut executor)?;
            }
            (None, Some(adapter), _) => self.model.load_adapter(adapter, &parameters, &mut executor)?,
            (None, None, Method::Lora(_) | Method::Qlora(..)) => {
                self.model.init_adapter(&parameters, self.config.seed, &mut executor)?;
            }
            (None, None, Method::Full) => {}
        }
        // The buffers that weights were read through are no part of a step.
        remat_cpu::release_freed_memory();
        let step = CompiledStep {
            executor,
            micros,
            update: programs[1],
            used: 0,
            dropout_seed: random.then_some(self.config.seed),
            trace: None,
            validation: None,
        };
        Ok(Session {
            evaluation,
            schedule: self.config.lr_schedule(self.total_updates),
            made_updates: self.resumed.as_ref().map_or(0, |resumed| resumed.save.step),
            planned_peak_bytes: account.planned_peak_bytes() as u64,
            config: self.config,
            model: self.model,
            method: self.method,
            parameters,
            loader: self.loader,
            step,
            total_updates: self.total_updates,
            facts,
        })
    }
}
