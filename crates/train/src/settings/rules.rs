//! What is refused of settings, and the defaults that are derived.
//!
//! Invariant: a value that came through [`TrainConfig::resolved`] has every rule of this file checked and every derived
//! default filled in, and is what `config.toml` in the run folder holds.

use crate::settings::device_map::DeviceMap;
use crate::settings::device_name::DeviceName;
use crate::settings::kinds::{MethodKind, QuantKind};
use crate::settings::max_memory::MaxMemory;
use crate::{TrainConfig, TrainError};
use remat_formats::SettingName;

/// More epochs than this are a slip.
const MOST_EPOCHS: f64 = 1e6;

impl TrainConfig {
    /// The settings with every rule checked and derived defaults filled in. Paths stay as given: an adapter names its
    /// base model by this path.
    ///
    /// # Errors
    /// The first key that is missing or out of range.
    pub fn resolved(self) -> Result<Self, TrainError> {
        self.check_writable()?;
        self.check_presence()?;
        if !self.device.runs() {
            let problem = format!("{} is there to be planned for: give cpu or cuda, or ask remat plan", self.device);
            return Err(TrainError::BadFlag { key: "device", problem });
        }
        self.resolved_to_plan()
    }

    /// As [`resolved`](Self::resolved), for a plan: data and a folder to write are not asked for, and a preset does in
    /// place of a model folder.
    ///
    /// # Errors
    /// The first key that is missing or out of range.
    pub fn resolved_to_plan(mut self) -> Result<Self, TrainError> {
        self.check_writable()?;
        if self.model.as_os_str().is_empty() && self.preset.is_none() {
            return Err(TrainError::Unset { examples: &[("model", "DIR"), ("preset", "NAME")] });
        }
        if let (false, Some(name)) = (self.model.as_os_str().is_empty(), &self.preset) {
            let (key, model) = (SettingName("model"), self.model.display());
            let problem = format!("{name} and {key} {model} are two models; give one of them");
            return Err(TrainError::BadFlag { key: "preset", problem });
        }
        self.check_ranges()?;
        match (self.method, self.quant) {
            (MethodKind::Qlora, quant) => self.quant = Some(quant.unwrap_or(QuantKind::Nf4)),
            (MethodKind::Lora | MethodKind::Full, None) => {}
            (MethodKind::Lora | MethodKind::Full, Some(_)) => {
                let (method, quant) = (SettingName("method"), SettingName("quant"));
                let problem = format!("needs {method} qlora, which quantises the base; add it, or leave {quant} out");
                return Err(TrainError::BadFlag { key: "quant", problem });
            }
        }
        self.alpha.get_or_insert(2.0 * self.rank as f64);
        self.lr.get_or_insert(match self.method {
            MethodKind::Lora | MethodKind::Qlora => 2e-4,
            MethodKind::Full => 2e-5,
        });
        if self.steps.is_none() {
            self.epochs.get_or_insert(1.0);
        }
        Ok(self)
    }

    /// Refuses a device that is not there, or memory of one that has none.
    fn check_device(&self) -> Result<(), TrainError> {
        if self.device == DeviceName::Cpu && self.device_memory.is_some() {
            let problem = format!("is of a card, and the CPU has none; use {}", SettingName("memory"));
            return Err(TrainError::BadFlag { key: "device-memory", problem });
        }
        let on_disk = [
            ("offload", self.offload.is_some()),
            ("device-map", self.device_map.is_some()),
            ("max-memory", self.max_memory.is_some_and(|limits| limits.disk.is_some())),
        ];
        if let Some((key, _)) = on_disk.into_iter().find(|(_, given)| *given && self.device != DeviceName::Cpu) {
            let device = SettingName("device");
            let problem = format!(
                "is of weights and values on a disk, which a card does not read; leave it out, or use {device} cpu"
            );
            return Err(TrainError::BadFlag { key, problem });
        }
        self.device.options(None, self.isa, None).map(|_| ())
    }

    /// Refuses paths and counts that a TOML file cannot hold, or not give back.
    pub(crate) fn check_writable(&self) -> Result<(), TrainError> {
        self.check_paths()?;
        // Every field is asked, those that are added later, too.
        let fields = serde_json::to_value(self).ok();
        let counts = fields.as_ref().and_then(|fields| fields.as_object()).into_iter().flatten();
        let mut counts = counts.filter_map(|(key, value)| Some((key, value.as_u64()?)));
        match counts.find(|(_, count)| i64::try_from(*count).is_err()) {
            Some((key, count)) => Err(TrainError::TooLarge { key: key.clone(), value: count }),
            None => Ok(()),
        }
    }

    fn check_paths(&self) -> Result<(), TrainError> {
        let single =
            [("model", Some(&self.model)), ("out", Some(&self.out)), ("init-adapter", self.init_adapter.as_ref())];
        let map = if let Some(DeviceMap::File(path)) = &self.device_map { Some(path) } else { None };
        let others =
            [("offload", self.offload.as_ref()), ("tensorboard", self.tensorboard.as_ref()), ("device-map", map)];
        let single = single.into_iter().chain(others);
        let paths = single.filter_map(|(key, path)| Some((key, path?)));
        let lists = [("data", &self.data), ("eval-data", &self.eval_data)];
        let listed = lists.into_iter().flat_map(|(key, paths)| paths.iter().map(move |path| (key, path)));
        match paths.chain(listed).find(|(_, path)| path.to_str().is_none()) {
            Some((key, path)) => {
                let value = path.to_string_lossy().into_owned();
                Err(TrainError::OutOfRange { key, value, rule: "a path in UTF-8; rename it or use a link" })
            }
            None => Ok(()),
        }
    }

    fn check_presence(&self) -> Result<(), TrainError> {
        let absent = |examples| Err(TrainError::Unset { examples });
        if self.model.as_os_str().is_empty() && self.preset.is_none() {
            return absent(&[("model", "DIR")]);
        }
        // A preset, whose weights are random, may learn random tokens.
        if self.data.is_empty() && self.preset.is_none() {
            return absent(&[("data", "FILE.jsonl")]);
        }
        if self.out.as_os_str().is_empty() {
            return absent(&[("out", "DIR")]);
        }
        Ok(())
    }

    /// Refuses settings of what is not asked for.
    fn check_companions(&self) -> Result<(), TrainError> {
        let (no_rows, no_texts) = (self.eval_data.is_empty(), self.sample.is_empty());
        for (key, is_alone, other, value) in [
            ("eval-every", self.eval_every.is_some() && no_rows, "eval-data", "FILE"),
            ("early-stop", self.early_stop.is_some() && no_rows, "eval-data", "FILE"),
            ("sample-every", self.sample_every.is_some() && no_texts, "sample", "TEXT"),
            ("sample-tokens", self.sample_tokens.is_some() && no_texts, "sample", "TEXT"),
        ] {
            if is_alone {
                let problem = format!("given without {other}: must be both; add {} {value}", SettingName(other));
                return Err(TrainError::BadFlag { key, problem });
            }
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), TrainError> {
        let bad = |key, value: String, rule| Err(TrainError::OutOfRange { key, value, rule });
        let counts: [(&'static str, Option<u64>); 11] = [
            ("rank", Some(self.rank as u64)),
            ("seq-len", self.seq_len.map(|tokens| tokens as u64)),
            ("batch-size", Some(self.batch_size as u64)),
            ("grad-accum", Some(self.grad_accum as u64)),
            ("steps", self.steps),
            ("eval-every", self.eval_every),
            ("early-stop", self.early_stop),
            ("sample-every", self.sample_every),
            ("sample-tokens", self.sample_tokens.map(|tokens| tokens as u64)),
            ("save-every", self.save_every),
            ("save-total-limit", self.save_total_limit.map(|limit| limit as u64)),
        ];
        for (key, count) in counts {
            if count == Some(0) {
                return bad(key, "0".to_string(), "at least 1");
            }
        }
        if let Some(epochs) = self.epochs.filter(|epochs| !(*epochs > 0.0 && *epochs <= MOST_EPOCHS)) {
            return bad("epochs", epochs.to_string(), "above 0 and at most a million");
        }
        if !self.warmup.is_valid() {
            return bad("warmup", self.warmup.to_string(), "a whole number of updates, or a share from 0 to below 1");
        }
        if self.alpha == Some(0.0) {
            return bad("alpha", "0".to_string(), "above 0; with 0 the adapters change nothing and never learn");
        }
        if self.loraplus_lr_ratio == Some(0.0) {
            return bad("loraplus-lr-ratio", "0".to_string(), "above 0; with 0 the adapters' B never learns");
        }
        if self.method == MethodKind::Full && self.loraplus_lr_ratio.is_some() {
            let problem = format!("is of adapters, and full fine-tuning has none; use {} lora", SettingName("method"));
            return Err(TrainError::BadFlag { key: "loraplus-lr-ratio", problem });
        }
        if self.loraplus_lr_ratio.is_none() && self.loraplus_lr_embedding.is_some() {
            let problem = format!("is of LoRA+; add {} 16, or leave it out", SettingName("loraplus-lr-ratio"));
            return Err(TrainError::BadFlag { key: "loraplus-lr-embedding", problem });
        }
        self.check_companions()?;
        if let (Some(_), Some(MaxMemory { host: Some(host), .. })) = (self.memory, self.max_memory) {
            let problem = format!("host={host} and {} are one limit; give one of them", SettingName("memory"));
            return Err(TrainError::BadFlag { key: "max-memory", problem });
        }
        if self.epochs.is_some() && self.steps.is_some() {
            return bad("steps", "given together with epochs".to_string(), "one of the two");
        }
        if let Some(threads) = self.threads.filter(|threads| !(1..=1024).contains(threads)) {
            return bad("threads", threads.to_string(), "1 to 1024");
        }
        self.check_device()?;
        let numbers = [
            ("lr", self.lr.unwrap_or(0.0)),
            ("weight-decay", self.weight_decay),
            ("clip", self.clip),
            ("alpha", self.alpha.unwrap_or(0.0)),
            ("neftune-noise-alpha", self.neftune_noise_alpha.unwrap_or(0.0)),
            ("router-aux-loss-coef", self.router_aux_loss_coef.unwrap_or(0.0)),
            ("loraplus-lr-ratio", self.loraplus_lr_ratio.unwrap_or(0.0)),
            ("loraplus-lr-embedding", self.loraplus_lr_embedding.unwrap_or(0.0)),
        ];
        for (key, number) in numbers {
            // It is computed with in 32 bits.
            if !(number as f32).is_finite() || number < 0.0 {
                return bad(key, number.to_string(), "a finite number of at least 0, below 3.4e38");
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return bad("dropout", self.dropout.to_string(), "at least 0 and below 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
