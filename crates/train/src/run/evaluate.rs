//! Evaluation: the mean negative log-likelihood of a file's trained tokens under a model, and its perplexity.
//!
//! Invariants: each sample is counted once; the loss is the sum over all tokens divided once by their number, as in
//! training, so that it does not depend on the batch size; no dropout.

use crate::generate::forward;
use crate::plan::buckets::SEQ_LEN_MULTIPLE;
use crate::plan::setup::DEFAULT_SEQ_LEN;
use crate::run::batched_step::tokens;
use crate::{TrainError, TrainedTurns, today};
use remat_data::{
    Batch, DataLoader, Dataset, Day, Encoder, LoaderOptions, ModelTokens, Order, RowOptions, SampleStats, UpdateBatch,
};
use remat_model::{BatchShape, Metrics, Model, NEXT_TOKEN};
use remat_step::{DeviceOptions, LoadedForward, LoadedStep, StepPlans};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What to evaluate on, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationRequest {
    /// Files of rows.
    pub data: Vec<PathBuf>,
    /// How rows are read.
    pub rows: RowOptions,
    /// Longest sequence in tokens; longer rows are cut.
    pub seq_len: Option<usize>,
    /// Which turns of a conversation count.
    pub train_on: TrainedTurns,
    /// The day that a chat template which asks sees as today's; today if not given.
    pub chat_date: Option<Day>,
    /// A chat template in place of the model's own.
    pub chat_template: Option<PathBuf>,
    /// Variables for the chat template, a JSON object.
    pub chat_template_kwargs: Option<String>,
    /// Rows at a time.
    pub batch_size: usize,
    /// Threads and instruction level.
    pub options: DeviceOptions,
}

/// What evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationReport {
    /// Mean negative log-likelihood per trained token, in nats.
    pub loss: f64,
    /// Its exponential.
    pub perplexity: f64,
    /// Trained tokens, which the loss is the mean of.
    pub tokens: usize,
    /// Samples they are in.
    pub samples: usize,
    /// What was read, cut and left out, file by file.
    pub data: Vec<SampleStats>,
    /// Time of the passes, without loading.
    pub seconds: f64,
}

/// Evaluates a model, with a PEFT adapter if one is given.
///
/// # Errors
/// Bad rows or settings, files that are missing or do not fit each other, too little memory, a loss that is no number.
pub fn evaluate(
    model: &Model,
    adapter: Option<&Path>,
    request: &EvaluationRequest,
) -> Result<EvaluationReport, TrainError> {
    let EvaluationRequest { data, batch_size, .. } = request;
    let method = forward::method(model, adapter)?;
    let limit = request.seq_len.unwrap_or(model.config().max_position_embeddings.min(DEFAULT_SEQ_LEN));
    // Refuses a batch or sequence that cannot be before any data is read.
    model.evaluation(method.as_ref(), BatchShape { batch: *batch_size, seq_len: limit })?;
    let eos = model.config().eos_token_ids.first().copied();
    let tokens = ModelTokens::open_with(model.folder(), model.tokenizer_json(), eos)?;
    let (template, kwargs) = (request.chat_template.as_deref(), request.chat_template_kwargs.as_deref());
    let tokens = tokens.map(|tokens| tokens.with_chat(template, kwargs)).transpose()?;
    let tokens = tokens.map(|tokens| tokens.on_day(request.chat_date.unwrap_or_else(today)));
    let encoder = Encoder::for_model(tokens.as_ref(), model.config().vocab_size);
    let encoder = encoder.with_train_on(request.train_on.into());
    let dataset = Dataset::load(data, &request.rows, &encoder, limit)?;
    let options = LoaderOptions { batch_size: *batch_size, grad_accum: 1, packing: false, order: Order::InOrder };
    let loader = DataLoader::new(dataset, options)?;
    let seq_len = limit.min(loader.longest_sequence().next_multiple_of(SEQ_LEN_MULTIPLE));
    let shape = BatchShape { batch: *batch_size, seq_len };

    let graph = model.evaluation(method.as_ref(), shape)?.graph;
    let plan = LoadedForward::plan(graph.clone(), &request.options.profile())?;
    forward::check(model, std::slice::from_ref(&plan), request.options)?;
    let plans = StepPlans { evaluation: Some(plan), ..StepPlans::none() };
    let mut loaded = plans.load(request.options.open(), "loss", "")?;
    forward::fill(model, adapter, &graph, loaded.device_mut())?;

    let started = Instant::now();
    let samples = loader.sequences().len();
    let data = loader.dataset().stats().to_vec();
    let mut rows = EvaluationRows::new(loader, shape);
    let never = AtomicBool::new(false);
    let Metrics { loss, perplexity } = rows.metrics(&mut loaded, &never)?.expect("nobody interrupts it");
    if !loss.is_finite() {
        return Err(TrainError::LossNotFinite { loss });
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(EvaluationReport { loss, perplexity, tokens: rows.tokens, samples, data, seconds })
}

/// Rows to evaluate on, again and again, in file order.
pub(crate) struct EvaluationRows {
    loader: DataLoader,
    update: UpdateBatch,
    batch: Batch,
    /// Trained tokens of one pass, known after it.
    tokens: usize,
}

impl EvaluationRows {
    /// In batches of `shape`, which all rows fit. The loader is in order, without accumulation.
    pub(crate) fn new(loader: DataLoader, shape: BatchShape) -> Self {
        let (update, batch) = (loader.update_buffer(), Batch::new(shape.batch, shape.seq_len));
        EvaluationRows { loader, update, batch, tokens: 0 }
    }

    /// The rows.
    pub(crate) fn dataset(&self) -> &Dataset {
        self.loader.dataset()
    }

    /// What is told of one pass over all rows; `None` if it was interrupted.
    pub(crate) fn metrics(
        &mut self,
        step: &mut LoadedStep,
        interrupt: &AtomicBool,
    ) -> Result<Option<Metrics>, TrainError> {
        let (mut sum, mut trained) = (0.0, 0);
        for _ in 0..self.loader.updates_per_epoch() {
            if interrupt.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.loader.next_update(&mut self.update)?;
            self.loader.fill(&self.update, 0, &mut self.batch)?;
            sum += f64::from(step.evaluate(tokens(&self.batch))?);
            trained += self.update.trained;
        }
        self.tokens = trained;
        // The next pass is the same pass: an epoch later, in the same order.
        Ok(Some(NEXT_TOKEN.metrics(sum, trained)))
    }
}
