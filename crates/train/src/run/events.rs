//! The curves of a run as TensorBoard reads them: an event file beside `metrics.jsonl`, which it is made of.
//!
//! A record is `u64 length · masked CRC-32C of the length · data · masked CRC-32C of the data`, little-endian; its data is a
//! protobuf `Event { 1: wall_time double, 2: step int64, 3: file_version string, 5: Summary { 1: repeated Value { 1: tag,
//! 2: simple_value float } } }`. Invariant: the file follows from the log's lines and the time it was begun: a resumed run
//! writes it again up to where it goes on, so that no update is in it twice.

use crate::StepMetrics;

const VERSION: &str = "brain.Event:2";

/// Makes records.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Seconds since 1970 of the newest event.
    pub(crate) time: f64,
    event: Vec<u8>,
    value: Vec<u8>,
}

impl Events {
    /// Of a run that begins at a time, in seconds since 1970.
    pub(crate) fn beginning_at(time: f64) -> Self {
        Events { time, ..Events::default() }
    }

    /// The record that begins a file.
    pub(crate) fn head(&mut self, records: &mut Vec<u8>) {
        self.event.clear();
        double(&mut self.event, 1, self.time);
        bytes(&mut self.event, 3, VERSION.as_bytes());
        record(records, &self.event);
    }

    /// The record of an update, under the names that transformers gives its curves.
    pub(crate) fn update(&mut self, metrics: &StepMetrics, records: &mut Vec<u8>) {
        self.time += metrics.step_seconds;
        let curves = [
            ("train/loss", Some(metrics.loss)),
            ("eval/loss", metrics.val_loss),
            ("train/learning_rate", Some(metrics.lr)),
            ("train/grad_norm", Some(metrics.grad_norm)),
            ("train/epoch", Some(metrics.epoch)),
            ("train/tokens_per_second", Some(metrics.tokens_per_s)),
            ("memory/peak_bytes", Some(metrics.peak_bytes as f64)),
        ];
        self.event.clear();
        double(&mut self.event, 1, self.time);
        varint(&mut self.event, 2 << 3);
        varint(&mut self.event, metrics.step);
        let mut summary = Vec::with_capacity(256);
        for (tag, number) in curves {
            let Some(number) = number else { continue };
            self.value.clear();
            bytes(&mut self.value, 1, tag.as_bytes());
            self.value.push((2 << 3) | 5);
            self.value.extend_from_slice(&(number as f32).to_le_bytes());
            bytes(&mut summary, 1, &self.value);
        }
        bytes(&mut self.event, 5, &summary);
        record(records, &self.event);
    }
}

fn double(to: &mut Vec<u8>, field: u8, number: f64) {
    to.push((field << 3) | 1);
    to.extend_from_slice(&number.to_le_bytes());
}

fn bytes(to: &mut Vec<u8>, field: u8, content: &[u8]) {
    to.push((field << 3) | 2);
    varint(to, content.len() as u64);
    to.extend_from_slice(content);
}

fn varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn record(to: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    to.extend_from_slice(&length);
    to.extend_from_slice(&masked_crc(&length).to_le_bytes());
    to.extend_from_slice(data);
    to.extend_from_slice(&masked_crc(data).to_le_bytes());
}

/// The checksum as the format has it: of a checksum that stands inside the data another one would be the same.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli, 1993), reflected, bit by bit: a record has a few hundred bytes.
fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !data.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::file_names::EVENTS_FILE;
    use std::collections::BTreeMap;
    use std::path::Path;

    #[test]
    fn checksums_are_those_of_the_literature() {
        // RFC 3720, appendix B.4, and the check value of the polynomial.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tensorboard");

    /// The updates of the fixture; the second was evaluated.
    fn updates() -> Vec<StepMetrics> {
        let update = |step: u64| StepMetrics {
            step,
            epoch: step as f64 / 200.0,
            loss: 1.25 / step as f64,
            val_loss: (step == 2).then_some(2.5),
            lr: 1e-3 * step as f64,
            grad_norm: 0.5,
            tokens: 64,
            tokens_per_s: 8.0,
            step_seconds: 8.0,
            peak_bytes: step << 20,
            planned_peak_bytes: 1 << 30,
        };
        [1, 2, 300].map(update).into()
    }

    /// The file was read by TensorBoard (`fixtures/events.py`), which passes over records with a wrong checksum.
    #[test]
    fn an_event_file_is_the_one_that_tensorboard_read() {
        let (mut events, mut records) = (Events::beginning_at(1e9), Vec::new());
        events.head(&mut records);
        updates().iter().for_each(|update| events.update(update, &mut records));
        let path = Path::new(FIXTURE).join(EVENTS_FILE);
        if std::env::var_os("REMAT_UPDATE").is_some() {
            std::fs::write(&path, &records).expect("written");
        }
        assert!(std::fs::read(&path).expect("the fixture") == records, "run fixtures/events.py after a change");

        let text = std::fs::read_to_string(Path::new(FIXTURE).join("read.json")).expect("the fixture");
        let found: BTreeMap<String, Vec<(u64, f64, f64)>> = serde_json::from_str(&text).expect("JSON");
        let curve = |of: &dyn Fn(&StepMetrics) -> Option<f64>| -> Vec<(u64, f64, f64)> {
            let times = (1..).map(|update| 1e9 + 8.0 * f64::from(update));
            let points = updates().into_iter().zip(times);
            points.filter_map(|(update, time)| Some((update.step, time, f64::from(of(&update)? as f32)))).collect()
        };
        let expected = [
            ("train/loss", curve(&|update| Some(update.loss))),
            ("eval/loss", curve(&|update| update.val_loss)),
            ("train/learning_rate", curve(&|update| Some(update.lr))),
            ("train/grad_norm", curve(&|update| Some(update.grad_norm))),
            ("train/epoch", curve(&|update| Some(update.epoch))),
            ("train/tokens_per_second", curve(&|update| Some(update.tokens_per_s))),
            ("memory/peak_bytes", curve(&|update| Some(update.peak_bytes as f64))),
        ];
        let expected: BTreeMap<String, _> = expected.map(|(tag, points)| (tag.to_string(), points)).into();
        assert_eq!(found, expected);
    }
}
