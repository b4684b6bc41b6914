//! Files of rows, in every format: the first byte names it.

use crate::fixtures;
use remat_data::{BadRows, RowOptions, read_rows};

const NAMES: &[&str] = &[
    "rows.jsonl",
    "rows.json",
    "rows.csv",
    "rows.tsv",
    "rows.parquet",
    "rows.txt",
    "rows.jsonl.gz",
    "rows.jsonl.zst",
    "rows.arrow",
];
const SEEDS: &[(usize, &str)] = &[
    (0, "tables/questions.jsonl"),
    (0, "tiny/data.jsonl"),
    (0, "tiny/text.jsonl"),
    (1, "tables/questions.json"),
    (2, "tables/questions.csv"),
    (3, "tables/questions.tsv"),
    (4, "tables/questions.none.parquet"),
    (4, "tables/questions.gzip.parquet"),
    (4, "tables/questions.snappy.parquet"),
    (4, "tables/questions.zstd.parquet"),
    (4, "tables/chats.parquet"),
    (4, "tables/tokens.parquet"),
    (6, "tables/questions.jsonl.gz"),
    (7, "tables/questions.jsonl.zst"),
];
/// Rows by which what is unpacked is far more than any seed.
const MOST_ROWS: u64 = 100_000;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    SEEDS.iter().map(|&(format, name)| fixtures::chosen(format, &fixtures::bytes(name))).collect()
}

pub(crate) fn examine(input: &[u8]) {
    let Some((name, bytes)) = fixtures::choose(input, NAMES) else { return };
    let folder = fixtures::folder(&[(name, bytes)]);
    for bad_rows in [BadRows::Stop, BadRows::Drop { most: 1.0 }] {
        let options = RowOptions { bad_rows, folder: Some(folder.path().to_path_buf()), ..RowOptions::default() };
        let mut rows = 0;
        let read = read_rows(&folder.path().join(name), &options, &mut |_, _| {
            rows += 1;
            Ok(())
        });
        assert!(rows < MOST_ROWS, "{rows} rows of {} bytes", bytes.len());
        if let Err(error) = read {
            crate::refusal::refused(&error);
        }
    }
}
