//! A run holds its steps to the prices that they were predicted by, and corrects those where they are wrong.
//!
//! Method: of ten early updates the first micro-batch and the update are timed step by step; moments in which the machine did
//! something else, as a probe after them tells, do not count. Where the ten took a tenth more or less than predicted, the
//! median over them of each class of ops corrects the price of the class, in the cache that the next plan reads. A class that
//! the run has too little of is corrected by what all took together if the classes that it has agree in that. Where forty
//! updates have no ten quiet ones, the ten quickest say what other programs cannot explain: that steps take less than
//! predicted, or several times as much. Invariants: the run itself computes the same; what is timed takes memory once, which
//! the account counts; prices that somebody else has changed meanwhile stay.

use crate::Precision;
use crate::prices::price_cache::PriceCorrection;
use crate::prices::price_file::{cached, price_file};
use crate::record::time::seconds_since_1970;
use remat_plan::{Action, OpClass, Prices};
use remat_step::device::speed_probe;
use remat_step::{DeviceOptions, LoadedStep, StepTrace};

/// Updates that count.
const SAMPLES: usize = 10;

/// Updates that are timed at most: on a machine that is never quiet, no more.
const MOST_TIMED: usize = 40;

/// What a prediction may be off by.
const TOLERANCE: f64 = 0.1;

/// What other programs may make of a step: half of each processor is theirs, and memory and caches are shared, too.
const MOST_BY_OTHERS: f64 = 3.0;

/// A class with less than this part of a step says nothing of its own.
const LEAST_SHARE: f64 = 0.01;

/// Classes agree if they differ from what all took together by no more than this.
const AGREEMENT: f64 = 0.2;

/// Classes of ops.
const CLASSES: usize = OpClass::ALL.len();

/// Seconds by class.
type ByClass = [f64; CLASSES];

/// One timed update: what was predicted of its steps, and what they took.
#[derive(Debug, Clone, Copy)]
struct Sample {
    predicted: ByClass,
    measured: ByClass,
    /// Whether nothing else ran.
    is_quiet: bool,
}

impl Sample {
    /// How many times as long as predicted all of it took.
    fn ratio(&self) -> f64 {
        ratio(self.measured.iter().sum(), self.predicted.iter().sum())
    }
}

/// Times some updates of a run.
pub(crate) struct PaceWatch {
    /// The prices that the run was planned with, until there is nothing more to find out: those of the cache as the run began.
    prices: Option<Prices>,
    options: DeviceOptions,
    precision: Precision,
    trace: Option<StepTrace>,
    /// All that were timed.
    samples: Vec<Sample>,
    /// The fastest probe of this machine.
    fastest: f64,
}

impl PaceWatch {
    /// Of a run that was planned with `prices`; it watches only if these are the cache's.
    pub(crate) fn new(options: DeviceOptions, precision: Precision, prices: Option<&Prices>) -> Self {
        let cached = prices.and_then(|prices| Some((prices, cached(&options, precision)?)));
        let own = cached.filter(|(prices, cached)| prices.rates == cached.prices.rates);
        PaceWatch {
            fastest: own.as_ref().map_or(0.0, |(_, cached)| cached.history.rounds_per_second),
            prices: own.map(|(_, cached)| cached.prices),
            options,
            precision,
            trace: None,
            samples: Vec::new(),
        }
    }

    /// Whether the next update is timed; `made` were made by this process. The first one touches fresh pages.
    pub(crate) fn is_due(&self, made: u64) -> bool {
        self.prices.is_some() && made > 0
    }

    /// Times what runs from now on.
    pub(crate) fn begin(&mut self, step: &mut LoadedStep) {
        let trace = self.trace.take().unwrap_or_else(|| {
            let (steps, longest) = step.steps_of_update(1);
            StepTrace::new(steps, longest)
        });
        step.begin_trace(trace);
    }

    /// Until now.
    pub(crate) fn pause(&mut self, step: &mut LoadedStep) {
        self.trace = step.end_trace();
    }

    /// Takes the timed update into account. What there is to say, once.
    pub(crate) fn end(&mut self, step: &mut LoadedStep) -> Option<String> {
        let (prices, mut trace) = (self.prices.as_ref()?, step.end_trace()?);
        let mut sample = sample(&trace, step, prices);
        trace.clear();
        self.trace = Some(trace);
        let probe = speed_probe(self.options.threads)?;
        self.fastest = self.fastest.max(probe.rounds_per_second);
        sample.is_quiet = probe.is_quiet(self.fastest);
        self.samples.push(sample);
        let quiet = self.samples.iter().filter(|sample| sample.is_quiet).count();
        if quiet < SAMPLES && self.samples.len() < MOST_TIMED {
            return None;
        }
        let planned_with = self.prices.take()?;
        self.trace = None;
        let found = verdict(std::mem::take(&mut self.samples))?;
        self.correct(&planned_with, found)
    }

    /// Corrects the cache's prices, if they are still those of the run.
    fn correct(&self, planned_with: &Prices, correction: PriceCorrection) -> Option<String> {
        let path = price_file(&self.options, self.precision)?;
        let note = note(&correction);
        cached(&self.options, self.precision)?.corrected(planned_with, correction)?.write(&path).then_some(note)
    }
}

fn sample(trace: &StepTrace, step: &LoadedStep, prices: &Prices) -> Sample {
    let mut sample = Sample { predicted: [0.0; CLASSES], measured: [0.0; CLASSES], is_quiet: false };
    for ran in trace.ran() {
        let plan = step.device().plan(ran.program);
        let step = &plan.steps[ran.step.index()];
        // What waits for a disk says nothing of a kernel.
        let Action::Compute(op) = step.action else { continue };
        if plan.is_streaming(step) {
            continue;
        }
        let node = plan.graph.node(op);
        let class = OpClass::of(&plan.graph, node) as usize;
        sample.predicted[class] += prices.seconds(&plan.graph, node);
        sample.measured[class] += ran.seconds;
    }
    sample
}

/// What the timed updates say of the prices: the quiet ones, or, for want of them, the quickest as far as no other program
/// can be why.
fn verdict(timed: Vec<Sample>) -> Option<PriceCorrection> {
    let (quiet, mut others): (Vec<Sample>, Vec<Sample>) = timed.into_iter().partition(|sample| sample.is_quiet);
    if quiet.len() >= SAMPLES {
        return correction(&quiet);
    }
    others.extend(quiet);
    others.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    others.truncate(SAMPLES);
    let whole = median(others.iter().map(Sample::ratio).collect());
    (!(1.0..=MOST_BY_OTHERS).contains(&whole)).then(|| correction(&others)).flatten()
}

/// What the samples say of the prices; nothing if these were right.
fn correction(samples: &[Sample]) -> Option<PriceCorrection> {
    let whole = median(samples.iter().map(Sample::ratio).collect());
    if (whole - 1.0).abs() <= TOLERANCE {
        return None;
    }
    let predicted_seconds = median(samples.iter().map(|sample| sample.predicted.iter().sum()).collect());
    let measured_seconds = median(samples.iter().map(|sample| sample.measured.iter().sum()).collect());
    let own = |class: usize| {
        let share = median(samples.iter().map(|sample| sample.measured[class]).collect()) / measured_seconds;
        let ratios = samples.iter().map(|sample| ratio(sample.measured[class], sample.predicted[class]));
        (share >= LEAST_SHARE).then(|| median(ratios.collect()))
    };
    let own: Vec<Option<f64>> = (0..CLASSES).map(own).collect();
    let agree = own.iter().flatten().all(|factor| (factor / whole - 1.0).abs() <= AGREEMENT);
    let factor = |own: &Option<f64>| own.or(agree.then_some(whole));
    let named = OpClass::ALL.iter().zip(&own);
    let factors = named.filter_map(|(class, own)| Some((class.name().to_string(), factor(own)?))).collect();
    Some(PriceCorrection { at: seconds_since_1970(), predicted_seconds, measured_seconds, factors })
}

/// How many times as long; 1 where nothing was predicted or took any time.
fn ratio(measured: f64, predicted: f64) -> f64 {
    if measured > 0.0 && predicted > 0.0 { measured / predicted } else { 1.0 }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn note(correction: &PriceCorrection) -> String {
    let PriceCorrection { predicted_seconds, measured_seconds, .. } = correction;
    format!(
        "a micro-batch and update take {measured_seconds:.3} s where the prices of this machine said \
         {predicted_seconds:.3} s: prices are corrected, and the next plan uses them (remat doctor shows them)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: usize = OpClass::Head as usize;
    const ATTENTION: usize = OpClass::Attention as usize;
    const ADD: usize = OpClass::Add as usize;

    /// Ten updates that were predicted to take 3 s of attention, 1 s of the head and a thousandth of additions.
    fn samples(attention: f64, head: f64) -> Vec<Sample> {
        let of = |number: usize| {
            let mut sample = Sample { predicted: [0.0; CLASSES], measured: [0.0; CLASSES], is_quiet: true };
            let (mut predict, noise) = (sample.predicted, 1.0 + 0.01 * (number as f64 - 4.5));
            (predict[ATTENTION], predict[HEAD], predict[ADD]) = (3.0, 1.0, 0.001);
            sample.predicted = predict;
            sample.measured[ATTENTION] = noise * attention;
            sample.measured[HEAD] = noise * head;
            sample.measured[ADD] = 0.001;
            sample
        };
        (0..SAMPLES).map(of).collect()
    }

    #[test]
    fn prices_that_are_right_stay() {
        assert_eq!(correction(&samples(3.1, 1.1)), None);
        assert_eq!(correction(&samples(2.9, 0.8)), None);
    }

    #[test]
    fn a_class_that_is_wrong_is_corrected_alone() {
        let found = correction(&samples(3.0, 2.0)).expect("a quarter more");
        let factor = |class: OpClass| found.factors.get(class.name()).copied();
        assert!((factor(OpClass::Head).expect("seen") - 2.0).abs() < 0.02);
        assert!((factor(OpClass::Attention).expect("seen") - 1.0).abs() < 0.02);
        assert_eq!(factor(OpClass::Add), None, "too little of it");
        assert_eq!(factor(OpClass::Swiglu), None, "not seen");
    }

    #[test]
    fn where_all_took_half_the_time_all_classes_are_corrected() {
        let found = correction(&samples(1.5, 0.5)).expect("half");
        assert_eq!(found.factors.len(), CLASSES);
        assert!(found.factors.values().all(|factor| (factor - 0.5).abs() < 0.01), "{:?}", found.factors);
        assert!((found.predicted_seconds - 4.001).abs() < 1e-9 && (found.measured_seconds - 2.0).abs() < 0.05);
    }

    /// Forty updates on a machine that was never quiet: each takes up to three times as long as by itself.
    fn busy(attention: f64, head: f64) -> Vec<Sample> {
        let slowed = |(index, sample): (usize, Sample)| {
            let slower = 1.2 + (index % 4) as f64 * 0.6;
            Sample { measured: sample.measured.map(|seconds| seconds * slower), is_quiet: false, ..sample }
        };
        (0..4).flat_map(|_| samples(attention, head)).enumerate().map(slowed).collect()
    }

    #[test]
    fn a_busy_machine_tells_what_other_programs_cannot_explain() {
        assert_eq!(verdict(busy(3.0, 1.0)), None, "right prices");
        assert_eq!(verdict(busy(6.0, 2.0)), None, "the half of it may be theirs");
        let cheap = verdict(busy(30.0, 10.0)).expect("ten times as long");
        assert!(cheap.factors.values().all(|&factor| (10.0..15.0).contains(&factor)), "{:?}", cheap.factors);
        let dear = verdict(busy(0.3, 0.1)).expect("a tenth of it");
        assert!(dear.factors.values().all(|&factor| (0.1..0.15).contains(&factor)), "{:?}", dear.factors);
        // Ten quiet ones are enough, whatever the others were.
        let mut mixed = busy(30.0, 10.0);
        mixed.extend(samples(3.0, 1.0));
        assert_eq!(verdict(mixed), None);
    }
}
