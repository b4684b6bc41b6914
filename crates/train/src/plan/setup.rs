//! What settings come to before anything is planned: model, method, rows, shapes, lengths, device, limit.
//!
//! Invariant: a run, its plan without weights and a profile of policies are all set up here, from the same settings in the
//! same order, so that what one of them reads and holds is what the others account for. Settings are typed and checked
//! before the first file is opened. Look next at `planning` for what is made of a set-up.

use crate::folder::file_names::{EVAL_ROWS_FILE, ROWS_FILE};
use crate::folder::kept_rows::{Keeping, RowsOf};
use crate::folder::snapshot::Resumed;
use crate::generate::sample_texts::SampleTexts;
use crate::plan::buckets::{LengthBucket, SEQ_LEN_MULTIPLE, buckets, shorter};
use crate::plan::memory::Buffers;
use crate::plan::out_of_reach::{refuse_rank, refuse_tokens};
use crate::plan::planning::{Limits, OtherGraphs};
use crate::plan::setting::Setting;
use crate::prices::given_prices::given_prices;
use crate::prices::machine_prices::cached_profile;
use crate::prices::spill::{file_reads, spill_prices, with_spill};
use crate::record::time::today;
use crate::run::control::RunControl;
use crate::settings::adapter_options::AdapterOptions;
use crate::settings::kinds::{AccumulationKind, MethodKind};
use crate::{TrainConfig, TrainError};
use remat_comm::{Link, LinkProbe, measure_links};
use remat_data::{Batch, DataLoader, Dataset, DatasetBuilder, LoaderOptions, ModelTokens, Order, Sample};
use remat_formats::SettingName;
use remat_formats::{TokenIndices, tokenizer_reading_bytes};
use remat_ir::World;
use remat_model::{BatchShape, LoraConfig, Method, Model, Quant, Targets};
use remat_plan::{DeviceProfile, LinkPrices, Prices, SpillPrices};
use remat_step::DeviceOptions;
use remat_tensor::{Philox, stream_of_name};
use std::collections::BTreeMap;
use std::path::Path;

/// What the rows are called that a preset learns where the settings name no data.
pub(crate) const RANDOM_TOKENS: &str = "random tokens";
const RANDOM_ROWS: usize = 64;

/// Longest sequence unless the user says otherwise.
pub(crate) const DEFAULT_SEQ_LEN: usize = 1024;

/// Who asks for a set-up.
pub(crate) enum SetUpFor<'a> {
    /// A run, which may go on from a save.
    Run(Option<&'a Resumed>, RunControl<'a>),
    /// A plan, for which weights need not be there, nor rows; of one of so many ranks.
    Plan(usize),
    /// A profile, which steps on the first micro-batch.
    Profile,
}

/// What settings come to.
pub(crate) struct SetUp {
    /// The settings, with what was derived from model and rows.
    pub(crate) config: TrainConfig,
    pub(crate) model: Model,
    pub(crate) method: Method,
    /// Shape of a micro-batch.
    pub(crate) shape: BatchShape,
    /// The rows; `None` where a plan is made from a length alone.
    pub(crate) loader: Option<DataLoader>,
    pub(crate) evaluation: Option<EvaluationData>,
    /// The texts that are continued now and then.
    pub(crate) samples: Option<SampleTexts>,
    /// Lengths that have plans of their own, the shortest first.
    pub(crate) buckets: Vec<LengthBucket>,
    /// What is held beside the plans.
    pub(crate) buffers: Buffers,
    pub(crate) options: DeviceOptions,
    pub(crate) limits: Limits,
    /// What operations cost, if the settings say.
    pub(crate) prices: Option<Prices>,
    /// What copies to the settings' folder cost, if they name one.
    pub(crate) spill: Option<SpillPrices>,
    /// Bytes per second of the model's files, where weights may be read from there alone.
    pub(crate) file_reads: Option<f64>,
    /// The ranks that train together.
    pub(crate) world: World,
    /// What joins them.
    pub(crate) links: Option<LinkPrices>,
}

/// Held-out rows and the shape they are evaluated in.
pub(crate) struct EvaluationData {
    pub(crate) loader: DataLoader,
    pub(crate) shape: BatchShape,
}

impl SetUpFor<'_> {
    fn device_options(&self, config: &TrainConfig) -> DeviceOptions {
        let options = config.device_options();
        match self {
            SetUpFor::Run(_, RunControl { device: Some(opener), .. }) => options.opened_by(*opener),
            _ => options,
        }
    }

    /// Rows of a preset are random where none are named; a folder without rows is planned by its length.
    fn needs_rows(&self, config: &TrainConfig) -> bool {
        match self {
            SetUpFor::Run(..) => true,
            SetUpFor::Plan(_) => config.preset.is_some() || !config.data.is_empty(),
            SetUpFor::Profile => !config.data.is_empty(),
        }
    }

    fn keeping(&self) -> Keeping {
        match self {
            SetUpFor::Run(Some(_), _) => Keeping::Resumed,
            SetUpFor::Run(None, _) => Keeping::Scanned,
            SetUpFor::Plan(_) | SetUpFor::Profile => Keeping::No,
        }
    }

    fn world(&self) -> World {
        match self {
            SetUpFor::Run(_, RunControl { ranks: Some(engine), .. }) => {
                World { rank: engine.rank(), size: engine.size() }
            }
            SetUpFor::Plan(ranks) => World { rank: 0, size: (*ranks).max(1) },
            SetUpFor::Run(..) | SetUpFor::Profile => World::ALONE,
        }
    }

    /// What joins the ranks, measured between those of a run; what a plan moves is counted apart.
    fn links(&self) -> Result<Option<LinkPrices>, TrainError> {
        match self {
            SetUpFor::Run(_, RunControl { ranks: Some(engine), .. }) => {
                let links = measure_links(engine.as_ref(), LinkProbe::QUICK)?;
                let slowest = |slowest: LinkPrices, link: &Link| LinkPrices {
                    bytes_per_second: slowest.bytes_per_second.min(link.bytes_per_second),
                    seconds: slowest.seconds.max(link.seconds),
                };
                Ok(Some(links.iter().fold(LinkPrices::FREE, slowest)))
            }
            SetUpFor::Plan(_) => Ok(Some(LinkPrices::FREE)),
            SetUpFor::Run(..) | SetUpFor::Profile => Ok(None),
        }
    }

    fn traced_micro_batches(&self, config: &TrainConfig) -> usize {
        match self {
            SetUpFor::Run(_, RunControl { trace: Some(_), .. }) => config.grad_accum,
            // One is timed now and then, to hold it to the prices.
            _ => 1,
        }
    }
}

impl SetUp {
    /// Reads everything but weights.
    ///
    /// # Errors
    /// Bad settings, rows or files.
    pub(crate) fn of(mut config: TrainConfig, whom: SetUpFor<'_>) -> Result<Self, TrainError> {
        let model = match whom {
            SetUpFor::Plan(_) => config.open_model_to_plan()?,
            SetUpFor::Run(..) | SetUpFor::Profile => config.open_model()?,
        };
        let resumed = if let SetUpFor::Run(resumed, _) = whom { resumed } else { None };
        let adapter = config.init_adapter.as_deref();
        let model = match adapter.map(|adapter| resumed.map_or(adapter, |resumed| &resumed.save.path)) {
            Some(adapter) if config.add_tokens.is_none() => model.with_tokens_of(adapter)?,
            _ => model,
        };
        let method = method_of_model(&mut config, &model, resumed)?;
        config.accumulation.get_or_insert(AccumulationKind::Apart);
        let options = whom.device_options(&config);
        // Where the tensors are to lie.
        let limit = Limits::of(&config, &options.profile()).in_domain(options.profile().tensor_domain());
        refuse_rank(&model, &method, limit)?;
        let seq_len = *config.seq_len.get_or_insert(model.config().max_position_embeddings.min(DEFAULT_SEQ_LEN));
        if seq_len > model.config().max_position_embeddings {
            // The model's own message, before any data is read.
            model.training(&method, BatchShape { batch: 1, seq_len })?;
        }
        // One tokenizer for all rows: it may take more than the run.
        let tokens = open_tokens(&mut config, &model)?;
        let keeping = whom.keeping();
        let rows = RowsOf { config: &config, tokens: tokens.as_ref(), model: model.config(), seq_len, keeping };
        let loader = whom.needs_rows(&config).then(|| rows_at_position(rows, resumed)).transpose()?;
        let evaluation = evaluation_data(rows)?;
        let reading_bytes = if tokens.is_some() { tokenizer_reading_bytes(&config.model)? } else { 0 };
        let samples = match whom {
            SetUpFor::Profile => None,
            SetUpFor::Run(..) | SetUpFor::Plan(_) => SampleTexts::of(&config, &model, tokens)?,
        };
        let of_length = BatchShape { batch: config.batch_size, seq_len };
        let shape = loader.as_ref().map_or(of_length, |loader| shape_of(&config, loader, seq_len));
        for shape in evaluation.iter().map(|data| data.shape).chain([shape]) {
            refuse_tokens(&config, &model, shape, limit)?;
        }
        let no_rows = BTreeMap::new();
        let lengths = loader.as_ref().map_or(&no_rows, DataLoader::sequence_lengths);
        let buckets = buckets(lengths, shape.batch, shape.seq_len);
        let batches = buckets.iter().map(|bucket| Batch::bytes_of(shape.batch, bucket.seq_len)).sum::<usize>();
        let rows = loader.as_ref().map_or(0, DataLoader::bytes);
        let buffers = Buffers {
            data_bytes: rows + batches + evaluation.as_ref().map_or(0, EvaluationData::bytes),
            reading_bytes,
            // Taken for as much as reading it takes, which is more than what is left.
            sampling_bytes: samples.as_ref().map_or(0, |samples| reading_bytes + samples.bytes()),
            measuring_bytes: 0,
            traced_micro_batches: whom.traced_micro_batches(&config),
            adapter_is_read: resumed.is_some() || config.init_adapter.is_some() || begins_with_both(&method),
        };
        let (limits, prices) = (Limits::of(&config, &options.profile()), given_prices(&config)?);
        let spill = spill_prices(&config, prices.as_ref())?;
        let file_reads = match config.device_map {
            Some(_) => file_reads(&config, &model, &model.training(&method, shape)?.graph)?,
            None => None,
        };
        Ok(SetUp {
            config,
            model,
            method,
            shape,
            loader,
            evaluation,
            samples,
            buckets,
            buffers,
            options,
            limits,
            prices,
            spill,
            file_reads,
            world: whom.world(),
            links: whom.links()?,
        })
    }

    /// What plans are made of.
    pub(crate) fn setting(&self) -> Setting<'_> {
        Setting { config: &self.config, model: &self.model, method: &self.method, shape: self.shape, world: self.world }
    }

    /// The device with prices as given, from the cache, or nominal ones, and those of copies.
    pub(crate) fn profile(&self) -> DeviceProfile {
        let profile = match &self.prices {
            Some(prices) => DeviceProfile { prices: prices.clone(), ..self.options.profile() },
            None => {
                cached_profile(&self.options, self.config.number_format()).unwrap_or_else(|| self.options.profile())
            }
        };
        self.with_copies(profile)
    }

    /// A profile with the prices of copies and of what joins the ranks.
    pub(crate) fn with_copies(&self, profile: DeviceProfile) -> DeviceProfile {
        let profile = with_spill(profile, self.spill);
        DeviceProfile { prices: Prices { file_reads: self.file_reads, links: self.links, ..profile.prices }, ..profile }
    }

    /// What is planned beside the longest micro-step and the update.
    pub(crate) fn other_graphs(&self) -> Result<OtherGraphs, TrainError> {
        let short = &self.buckets[..self.buckets.len() - 1];
        let shorter = short.iter().map(|bucket| shorter(self.setting(), bucket.seq_len));
        let loss = |data: &EvaluationData| -> Result<_, TrainError> {
            Ok(self.model.evaluation(Some(&self.method), data.shape)?.graph)
        };
        let sampled = |samples: &SampleTexts| self.model.generation(Some(&self.method), samples.shape);
        let generation = self.samples.as_ref().map(sampled).transpose()?;
        Ok(OtherGraphs {
            shorter: shorter.collect::<Result<_, TrainError>>()?,
            evaluation: self.evaluation.as_ref().map(loss).transpose()?,
            generation: generation.into_iter().flat_map(|graphs| [graphs.prefill, graphs.decode]).collect(),
        })
    }
}

/// Whether both matrices of new adapters are written before the first step, and not the first alone.
fn begins_with_both(method: &Method) -> bool {
    method.adapter().is_some_and(|lora| lora.start.takes_from_base())
}

/// The method for a model. An adapter that the run starts or goes on from decides rank, alpha and targets of the settings.
fn method_of_model(config: &mut TrainConfig, model: &Model, resumed: Option<&Resumed>) -> Result<Method, TrainError> {
    let method = method(config, model.added_rows(), &|adapter| match &config.preset {
        None => Ok(model.adapter_settings(resumed.map_or(adapter, |resumed| &resumed.save.path))?.config),
        Some(_) => {
            let (model, preset) = (SettingName("model"), SettingName("preset"));
            let problem = format!("an adapter belongs to a model folder: give {model} DIR in place of {preset}");
            Err(TrainError::BadFlag { key: "init-adapter", problem })
        }
    })?;
    if let Some(lora) = method.adapter() {
        (config.rank, config.alpha, config.targets) =
            (lora.rank, Some(f64::from(lora.alpha)), lora.targets.to_string());
        if config.init_adapter.is_some() {
            config.adapter = AdapterOptions::from_lora(lora);
        } else {
            // What a folder of PEFT may name in vain, a user did not mean.
            model.check_adapter_settings(lora)?;
        }
    }
    Ok(method)
}

/// The method, with the settings of the adapter that the run starts or goes on from.
///
/// The rows of `added` tokens are trained where the settings say nothing else of embedding and head.
fn method(
    config: &TrainConfig,
    added: Option<TokenIndices>,
    settings_of: &dyn Fn(&Path) -> Result<LoraConfig, TrainError>,
) -> Result<Method, TrainError> {
    if config.method == MethodKind::Full {
        if let Some(key) = config.adapter.given() {
            let problem = format!("is of adapters, and full fine-tuning has none; use {} lora", SettingName("method"));
            return Err(TrainError::BadFlag { key, problem });
        }
        return match config.init_adapter {
            None => Ok(Method::Full),
            Some(_) => {
                let method = SettingName("method");
                let problem = format!("needs {method} lora; merge the adapter into the base to train all of it");
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
    let plain = LoraConfig { rank: config.rank, alpha, dropout, targets, ..LoraConfig::default() };
    let lora = config.adapter.of_lora(plain)?;
    let names_rows = |name: &String| ["embed", "wte", "lm_head", "head"].iter().any(|part| name.contains(part));
    let are_trained = lora.trained_tokens.is_some()
        || lora.modules_to_save.iter().any(names_rows)
        || (lora.targets != Targets::AllLinear && names_rows(&config.targets));
    let trained_tokens = if are_trained { lora.trained_tokens.clone() } else { added };
    Ok(with(LoraConfig { trained_tokens, ..lora }))
}

/// The rows to train on, at the position of the save that the run goes on from.
fn rows_at_position(rows: RowsOf<'_>, resumed: Option<&Resumed>) -> Result<DataLoader, TrainError> {
    let mut loader = training_data(rows)?;
    let Some(resumed) = resumed else { return Ok(loader) };
    let position = &resumed.data.sampler;
    let restored = loader.restore(position);
    if restored.is_err() && loader.dataset().was_kept() {
        // They are not what the save was made with, whatever they say of themselves.
        loader = training_data(RowsOf { keeping: Keeping::Scanned, ..rows })?;
        loader.restore(position)?;
    } else {
        restored?;
    }
    Ok(loader)
}

/// The rows to train on; random ones of a preset if the settings name none.
fn training_data(rows: RowsOf<'_>) -> Result<DataLoader, TrainError> {
    let RowsOf { config, model, seq_len, .. } = rows;
    let order = if config.no_shuffle { Order::InOrder } else { Order::Shuffled { seed: config.seed } };
    let TrainConfig { batch_size, grad_accum, packing, .. } = *config;
    let options = LoaderOptions { batch_size, grad_accum, packing, order };
    if config.data.is_empty() {
        return Ok(DataLoader::new(random_rows(config.seed, model.vocab_size, seq_len)?, options)?);
    }
    Ok(DataLoader::new(rows.load(&config.data, ROWS_FILE)?, options)?)
}

/// The shape of a micro-batch: as long as the longest row needs, `seq_len` at most.
fn shape_of(config: &TrainConfig, loader: &DataLoader, seq_len: usize) -> BatchShape {
    let longest = loader.longest_sequence().next_multiple_of(SEQ_LEN_MULTIPLE);
    BatchShape { batch: config.batch_size, seq_len: seq_len.min(longest) }
}

/// The held-out rows, if the settings name any: as the data of training are, but in file order.
fn evaluation_data(rows: RowsOf<'_>) -> Result<Option<EvaluationData>, TrainError> {
    let RowsOf { config, seq_len, .. } = rows;
    if config.eval_data.is_empty() {
        return Ok(None);
    }
    let TrainConfig { batch_size, packing, .. } = *config;
    let options = LoaderOptions { batch_size, grad_accum: 1, packing, order: Order::InOrder };
    let loader = DataLoader::new(rows.load(&config.eval_data, EVAL_ROWS_FILE)?, options)?;
    let seq_len = seq_len.min(loader.longest_sequence().next_multiple_of(SEQ_LEN_MULTIPLE));
    Ok(Some(EvaluationData { loader, shape: BatchShape { batch: batch_size, seq_len } }))
}

/// The tokenizer of the model's folder, if rows or texts are read and it has one. Where its chat template asks for the day, that is
/// part of the settings from then on.
fn open_tokens(config: &mut TrainConfig, model: &Model) -> Result<Option<ModelTokens>, TrainError> {
    // A preset has no folder, and so no tokenizer: its rows are token ids.
    let are_texts = !config.data.is_empty() || !config.eval_data.is_empty() || !config.sample.is_empty();
    if config.preset.is_some() || !are_texts {
        return Ok(None);
    }
    let eos = model.config().eos_token_ids.first().copied();
    let tokens = ModelTokens::open_with(&config.model, model.tokenizer_json(), eos)?;
    let (template, kwargs) = (config.chat_template.as_deref(), config.chat_template_kwargs.as_deref());
    let tokens = tokens.map(|tokens| tokens.with_chat(template, kwargs)).transpose()?;
    Ok(tokens.map(|tokens| match tokens.asks_for_the_day() {
        true => tokens.on_day(*config.chat_date.get_or_insert_with(today)),
        false => tokens,
    }))
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
        builder.push(&Sample { ids, labels, terminated: true, complete: true, beyond: 0 })?;
    }
    Ok(builder.finish()?)
}

impl EvaluationData {
    fn bytes(&self) -> usize {
        self.loader.bytes() + Batch::bytes_of(self.shape.batch, self.shape.seq_len)
    }
}
