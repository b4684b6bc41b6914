//! Saving a step as it stands, and going on from there exactly: one file of safetensors.
//!
//! It holds every parameter, gradient summed so far, moment and buffer; frozen weights of a graph of one's own (those of a
//! pretrained model are in its folder); and in the header's metadata the counters, the random key and the optimizer.
//! Invariants: the file appears when it is whole; what does not fit is refused by name before anything is written to the
//! device, so that such a file leaves the step as it was.

use crate::Error;
use crate::step::Step;
use remat_formats::{SafetensorsFile, TensorSpec, write_safetensors_from};
use remat_ir::{SourceRole, Storage, Value};
use remat_plan::{SourceId, SourceWriter};
use std::collections::BTreeMap;
use std::path::Path;

/// Says what the file is; the number goes up when what it holds changes its meaning.
const FORMAT: (&str, &str) = ("remat_step_state", "1");

impl Step {
    /// Writes all that the step goes on with to a file, which appears when it is whole and replaces one of its name. Inputs are
    /// not among it: write them before the next run, as after any other.
    ///
    /// # Errors
    /// A file that cannot be written: one that was there stays as it was.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let (device, sources) = (self.device(), self.saved_sources()?);
        let specs: Vec<TensorSpec<'_>> = sources
            .iter()
            .map(|(name, &source)| {
                let ty = device.source_type(source);
                TensorSpec { name, dtype: ty.dtype, shape: &ty.shape }
            })
            .collect();
        let ids: Vec<SourceId> = sources.values().copied().collect();
        let (updates, key) = (self.updates_made.to_string(), self.key.map(|word| word.to_string()).join(" "));
        let metadata =
            [FORMAT, ("updates", updates.as_str()), ("random_key", key.as_str()), ("optimizer", self.optimizer_name())];
        let mut buffer = Vec::new();
        write_safetensors_from(path.as_ref(), &specs, &metadata, &mut |index, sink| {
            device.read_pieces(ids[index], &mut buffer, &mut |piece| Ok::<(), Error>(sink(piece)?))
        })
    }

    /// Goes on from what [`Step::save`] wrote: runs and updates from now on are, bit for bit, those that the saved step would
    /// have made. Policy, threads and learning rates may differ; the graph and the optimizer may not.
    ///
    /// # Errors
    /// A file that is no saved step, or one of another graph or optimizer: the message names what differs, and the step stays
    /// as it was. A disk that fails while a file that fits is read: load it again, for the step has a part of it.
    pub fn load_state(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let file = SafetensorsFile::open(path)?;
        let (updates, key) = self.checked(&file)?;
        let sources = self.saved_sources()?;
        for (name, &source) in &sources {
            let mut writer = SourceWriter::new(self.device_mut(), source);
            file.read_chunks(name, &mut |piece| {
                writer.push(piece);
                Ok(())
            })?;
            writer.finish()?;
        }
        (self.updates_made, self.key) = (updates, key);
        Ok(())
    }

    /// The counters of a file that fits this step.
    fn checked(&self, file: &SafetensorsFile) -> Result<(u32, [u32; 4]), Error> {
        let refuse = |problem: String| Error::SavedState { path: file.path().to_path_buf(), problem };
        let entry = |key: &str| file.metadata().get(key).map(String::as_str);
        match entry(FORMAT.0) {
            Some(version) if version == FORMAT.1 => {}
            Some(version) => return Err(refuse(format!("is of version {version}, and {} is read here", FORMAT.1))),
            None => return Err(refuse("is no saved step: give a file that Step::save wrote".to_string())),
        }
        let optimizer = entry("optimizer").unwrap_or("none");
        if optimizer != self.optimizer_name() {
            let problem =
                format!("was saved with the optimizer {optimizer}, and this step has {}", self.optimizer_name());
            return Err(refuse(problem));
        }
        let device = self.device();
        let sources = self.saved_sources()?;
        for (name, &source) in &sources {
            let ty = device.source_type(source);
            let Some(info) = file.tensor_info(name) else {
                return Err(refuse(format!("has no \"{name}\", which this step has as {ty}: it is of another graph")));
            };
            if info.dtype != Some(ty.dtype) || info.shape != ty.shape {
                let stored =
                    info.dtype.map_or("of a type unknown here".to_string(), |dtype| format!("{dtype}{}", info.shape));
                return Err(refuse(format!("\"{name}\" is {stored} there and {ty} here: it is of another graph")));
            }
        }
        if let Some(name) = file.names().find(|name| !sources.contains_key(*name)) {
            return Err(refuse(format!("has \"{name}\", which this step has not: it is of another graph")));
        }
        let counted = || {
            let words: Vec<u32> = entry("random_key")?.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
            Some((entry("updates")?.parse().ok()?, words.try_into().ok()?))
        };
        counted().ok_or_else(|| refuse("does not say how many updates were made: it is damaged".to_string()))
    }

    fn optimizer_name(&self) -> &'static str {
        self.recipe().options.optimizer.as_ref().map_or("none", |optimizer| optimizer.name())
    }

    /// Everything that outlives a run, by name.
    fn saved_sources(&self) -> Result<BTreeMap<String, SourceId>, Error> {
        let own_weights = self.recipe().weights_are_own;
        let kept = |value: &Value| match value.storage {
            Storage::State => value.role != Some(SourceRole::KvCache),
            Storage::Weight => own_weights,
            Storage::Input | Storage::Arena => false,
        };
        let values = self.plans().flat_map(|plan| &*plan.graph.values);
        let sources = values.filter(|value| value.producer.is_none() && kept(value));
        sources.map(|value| Ok((value.name.clone(), self.device().known(value.storage, &value.name)?))).collect()
    }
}
