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
    /// Seconds since 1970 of the next event.
    time: f64,
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

    #[test]
    fn checksums_are_those_of_the_literature() {
        // RFC 3720, appendix B.4, and the check value of the polynomial.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn records_are_those_that_tensorboard_reads() {
        let metrics = StepMetrics {
            step: 300,
            epoch: 0.5,
            loss: 1.25,
            val_loss: Some(2.5),
            lr: 1e-3,
            grad_norm: 0.5,
            tokens: 64,
            tokens_per_s: 8.0,
            step_seconds: 8.0,
            peak_bytes: 1 << 20,
            planned_peak_bytes: 1 << 20,
        };
        let (mut events, mut records) = (Events::beginning_at(1e9), Vec::new());
        events.head(&mut records);
        assert_eq!(records.len(), 12 + 9 + 15 + 4);
        assert_eq!(&records[12 + 11..12 + 24], VERSION.as_bytes());
        let head = records.len();
        events.update(&metrics, &mut records);
        let data = &records[head + 12..records.len() - 4];
        assert_eq!(u64::from_le_bytes(records[head..head + 8].try_into().expect("eight")), data.len() as u64);
        // The time, then step 300 as a varint, then the summary.
        assert_eq!(data[..9], [&[9][..], &(1e9_f64 + 8.0).to_le_bytes()].concat());
        assert_eq!(data[9..13], [0x10, 0xac, 0x02, 0x2a]);
        let first = [&[0x0a, 17, 0x0a, 10][..], b"train/loss", &[0x15], &1.25_f32.to_le_bytes()].concat();
        assert!(data.windows(first.len()).any(|window| window == first));
    }
}
