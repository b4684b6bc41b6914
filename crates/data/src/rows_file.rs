//! The file of a run's rows: what one scan of the data made of them, for a run that goes on and need not scan again.
//!
//! ```text
//! tokens    words, as `dataset` has them
//! index     four words a sample: where its tokens start, how many they are, how many are trained
//! head      JSON: what made them, from which files, counts, a fingerprint of the words
//! end       the head's length and its fingerprint in eight bytes each, MAGIC
//! ```
//!
//! The end is written last, so a file that is cut has none. Invariant: a file is taken only if it was made by the same
//! settings, tokenizer and program from files of the same bytes, is as it was written, and holds nothing that a scan could
//! not have made; everything else is as if it were not there, and the rows are read again. Long rows are written once: while
//! they are read their file has no name, and is gone with the process; [`Dataset::keep`] gives it one.

use crate::dataset::{Dataset, ENTRY_WORDS, SampleStats};
use crate::row::options::DataFile;
use crate::source::sha256_of;
use crate::words::{Fingerprint, Words};
use crate::{DataError, IGNORED_LABEL};
use remat_formats::{name_unnamed, open_file, write_atomic_with};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Changes with the layout.
const MAGIC: &[u8; 8] = b"rmtrows1";
const END_BYTES: u64 = 24;
const MOST_HEAD_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct Head {
    /// What made the rows what they are, beside the bytes of their files.
    settings: String,
    seq_len: usize,
    token_words: u64,
    samples: usize,
    largest: u32,
    /// Of all words.
    fingerprint: u64,
    stats: Vec<SampleStats>,
}

impl Dataset {
    /// The rows that [`Dataset::keep`] left in a file; `None` if they are not those that [`Dataset::load`] would make of
    /// `paths` now. `settings` stands for all that decides, beside the bytes of the files and `seq_len`.
    pub fn kept(path: &Path, settings: &str, paths: &[PathBuf], seq_len: usize, vocab_size: usize) -> Option<Dataset> {
        let (file, bytes) = open_file(path).ok()?;
        let file = Arc::new(file);
        let head = read_head(&file, bytes)?;
        let sources: Vec<PathBuf> = paths.iter().map(|given| DataFile::parse(given).path).collect();
        let same_files = head.stats.len() == sources.len()
            && head.stats.iter().zip(&sources).all(|(stats, source)| {
                stats.path == *source && stats.file.sha256.is_some() && sha256_of(source) == stats.file.sha256
            });
        if head.settings != settings || head.seq_len != seq_len || !same_files || head.largest as usize >= vocab_size {
            return None;
        }
        let tokens = Words::of_file(&file, 0, head.token_words, path).ok()?;
        let index = Words::of_file(&file, head.token_words, head.samples as u64 * ENTRY_WORDS, path).ok()?;
        let Head { samples: len, largest, fingerprint, stats, .. } = head;
        let dataset = Dataset {
            seq_len,
            tokens,
            index,
            len,
            largest,
            folder: path.to_path_buf(),
            stats,
            settings: None,
            was_kept: true,
        };
        let whole = dataset.words_fingerprint().ok()? == fingerprint && dataset.could_be_scanned().ok()?;
        whole.then_some(dataset)
    }

    /// Makes the rows ready to be kept: what is long is whole on the disk then, without a name, so that a disk which is
    /// full shows while nothing is lost. For `settings` see [`Dataset::kept`].
    ///
    /// # Errors
    /// What the system refuses.
    pub fn to_be_kept(mut self, settings: String) -> Result<Dataset, DataError> {
        if let Some(file) = self.tokens.file().cloned() {
            let not_written = |source| DataError::NotWritten { path: self.folder.clone(), source };
            (&*file).seek(SeekFrom::Start(4 * self.tokens.len())).map_err(not_written)?;
            let mut sink = BufWriter::new(&*file);
            self.write_rest(&mut sink, &settings)?;
            sink.flush().map_err(not_written)?;
            drop(sink);
            self.index = Words::of_file(&file, self.tokens.len(), self.index.len(), &self.folder)?;
        }
        Ok(Dataset { settings: Some(settings), ..self })
    }

    /// Leaves rows that are to be kept in a file for [`Dataset::kept`], durably and at once or not at all. Does nothing with
    /// others, such as those that were in it.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn keep(&self, path: &Path) -> Result<(), DataError> {
        let Some(settings) = &self.settings else { return Ok(()) };
        if let Some(file) = self.tokens.file()
            && name_unnamed(file, path)?
        {
            return Ok(());
        }
        write_atomic_with(path, |file| {
            self.tokens.write_to(file)?;
            self.write_rest(file, settings)
        })
    }

    fn write_rest(&self, sink: &mut dyn Write, settings: &str) -> Result<(), DataError> {
        let head = Head {
            settings: settings.to_string(),
            seq_len: self.seq_len,
            token_words: self.tokens.len(),
            samples: self.len,
            largest: self.largest,
            fingerprint: self.words_fingerprint()?,
            stats: self.stats.clone(),
        };
        let head = serde_json::to_vec(&head).expect("numbers and texts are JSON");
        self.index.write_to(sink)?;
        let (length, fingerprint) = (head.len() as u64, of_bytes(&head));
        let parts = [&head, &length.to_le_bytes()[..], &fingerprint.to_le_bytes(), MAGIC];
        let written = parts.into_iter().try_for_each(|part| sink.write_all(part));
        written.map_err(|source| DataError::NotWritten { path: self.folder.clone(), source })
    }

    fn words_fingerprint(&self) -> Result<u64, DataError> {
        let mut fingerprint = Fingerprint::new();
        for words in [&self.tokens, &self.index] {
            words.each_part(&mut |part| {
                part.iter().for_each(|&word| fingerprint.mix(word));
                Ok(())
            })?;
        }
        Ok(fingerprint.0)
    }

    /// Whether the samples stand one behind the other with counts that are true, and nothing else is there.
    fn could_be_scanned(&self) -> Result<bool, DataError> {
        let (mut end, mut all_tokens, mut all_trained) = (0, 0, 0);
        for id in self.sample_ids() {
            let entry = self.entry(id)?;
            let mut trained = 0;
            self.each_token(entry, &mut |position, _, label| {
                trained += usize::from(position > 0 && label != IGNORED_LABEL);
            })?;
            if entry.start() != end || entry.trained != trained {
                return Ok(false);
            }
            end = entry.end().expect("`entry` checks it");
            (all_tokens, all_trained) = (all_tokens + entry.tokens, all_trained + trained);
        }
        let total = |part: fn(&SampleStats) -> usize| self.stats.iter().map(part).fold(0, usize::saturating_add);
        let counts = [total(|file| file.kept), total(|file| file.tokens), total(|file| file.trained_tokens)];
        Ok(end == self.tokens.len() && counts == [self.len, all_tokens, all_trained] && self.len > 0)
    }
}

/// The head, if the file is as long as it says.
fn read_head(file: &File, bytes: u64) -> Option<Head> {
    let end_at = bytes.checked_sub(END_BYTES)?;
    let mut end = [0; END_BYTES as usize];
    file.read_exact_at(&mut end, end_at).ok()?;
    let number = |at: usize| u64::from_le_bytes(end[at..at + 8].try_into().expect("eight bytes"));
    let (length, fingerprint) = (number(0), number(8));
    if end[16..] != MAGIC[..] || length > MOST_HEAD_BYTES {
        return None;
    }
    let head_at = end_at.checked_sub(length)?;
    let mut text = vec![0; length as usize];
    file.read_exact_at(&mut text, head_at).ok()?;
    let head: Head = serde_json::from_slice(&text).ok().filter(|_| of_bytes(&text) == fingerprint)?;
    let words = (head.samples as u64).checked_mul(ENTRY_WORDS)?.checked_add(head.token_words)?;
    let is_counted = u32::try_from(head.samples).is_ok() && words.checked_mul(4)? == head_at;
    is_counted.then_some(head)
}

fn of_bytes(bytes: &[u8]) -> u64 {
    let mut fingerprint = Fingerprint::new();
    bytes.iter().for_each(|&byte| fingerprint.mix(u32::from(byte)));
    fingerprint.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatasetBuilder, Encoder, RowOptions, Sample};
    use std::fs;

    const VOCABULARY: usize = 50;

    /// A file of rows of token ids, some with labels of their own.
    fn rows(folder: &Path, count: usize) -> PathBuf {
        let row = |index: usize| match index % 3 {
            0 => format!("{{\"input_ids\": [{}, 2, 3, 4]}}\n", index % VOCABULARY),
            1 => format!("{{\"input_ids\": [{}, 2, 3], \"labels\": [-100, -100, 3]}}\n", index % VOCABULARY),
            _ => format!("{{\"input_ids\": [{}, 2, 3], \"labels\": [-100, 7, -100]}}\n", index % VOCABULARY),
        };
        let path = folder.join("rows.jsonl");
        fs::write(&path, (0..count).map(row).collect::<String>()).expect("written");
        path
    }

    fn load(path: &Path) -> Dataset {
        let data = Dataset::load(&[path.to_path_buf()], &RowOptions::default(), &Encoder::new(None, VOCABULARY), 8);
        data.expect("rows").to_be_kept("settings".to_string()).expect("short")
    }

    fn kept(at: &Path, data: &Path) -> Option<Dataset> {
        Dataset::kept(at, "settings", &[data.to_path_buf()], 8, VOCABULARY)
    }

    fn samples(data: &Dataset) -> Vec<Sample> {
        data.sample_ids().map(|id| data.sample(id).expect("read")).collect()
    }

    #[test]
    fn what_is_kept_is_what_was_scanned() {
        let folder = tempfile::tempdir().expect("folder");
        let (at, path) = (folder.path().join("kept"), rows(folder.path(), 100));
        assert!(kept(&at, &path).is_none(), "there is no file yet");
        let scanned = load(&path);
        scanned.keep(&at).expect("written");
        let again = kept(&at, &path).expect("it is theirs");
        assert_eq!((samples(&again), again.stats()), (samples(&scanned), scanned.stats()));
        let before = fs::read(&at).expect("kept");
        again.keep(&at).expect("nothing to do");
        load(&path).keep(&at).expect("replaced");
        assert!(fs::read(&at).expect("kept") == before, "the same rows are kept in the same bytes");
    }

    #[test]
    fn rows_of_other_settings_or_files_are_not_taken() {
        let folder = tempfile::tempdir().expect("folder");
        let (at, path) = (folder.path().join("kept"), rows(folder.path(), 100));
        load(&path).keep(&at).expect("written");
        let open = |settings, given: &str, seq_len, vocabulary| {
            Dataset::kept(&at, settings, &[PathBuf::from(given)], seq_len, vocabulary).is_some()
        };
        let given = path.to_str().expect("UTF-8");
        assert!(open("settings", given, 8, VOCABULARY));
        assert!(!open("other", given, 8, VOCABULARY) && !open("settings", given, 9, VOCABULARY));
        assert!(!open("settings", given, 8, VOCABULARY - 1), "49 is no token of that model");
        let copy = folder.path().join("copy.jsonl");
        fs::copy(&path, &copy).expect("copied");
        assert!(!open("settings", copy.to_str().expect("UTF-8"), 8, VOCABULARY), "the record names another file");
        let text = fs::read_to_string(&path).expect("rows");
        fs::write(&path, text.replacen("[0, 2", "[1, 2", 1)).expect("changed");
        assert!(!open("settings", given, 8, VOCABULARY), "the file has other bytes");
    }

    /// Every byte and every length: no panic, and no row but those that were kept.
    #[test]
    fn damaged_files_are_not_taken() {
        let folder = tempfile::tempdir().expect("folder");
        let (at, path) = (folder.path().join("kept"), rows(folder.path(), 3));
        load(&path).keep(&at).expect("written");
        let whole = fs::read(&at).expect("kept");
        for length in 0..whole.len() {
            fs::write(&at, &whole[..length]).expect("cut");
            assert!(kept(&at, &path).is_none(), "cut to {length}");
        }
        for byte in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[byte] ^= 1 << (byte % 8);
            fs::write(&at, &bytes).expect("changed");
            assert!(kept(&at, &path).is_none(), "byte {byte}");
        }
        fs::write(&at, [&whole[..], b"\0"].concat()).expect("longer");
        assert!(kept(&at, &path).is_none());
    }

    /// Words that no scan gives, under fingerprints that fit.
    #[test]
    fn forged_words_are_not_taken() {
        let folder = tempfile::tempdir().expect("folder");
        let (at, path) = (folder.path().join("kept"), rows(folder.path(), 4));
        let scanned = load(&path);
        let list = |words: &Words| {
            let mut all = vec![0; words.len() as usize];
            words.read(0, &mut all).expect("short");
            all
        };
        let (tokens, index) = (list(&scanned.tokens), list(&scanned.index));
        let forge = |tokens: &[u32], index: &[u32]| {
            let words = |words: &[u32]| {
                let mut list = Words::new(folder.path(), 1 << 10);
                list.push(words.iter().copied()).expect("short");
                list
            };
            Dataset { tokens: words(tokens), index: words(index), ..scanned.clone() }.keep(&at).expect("written");
            kept(&at, &path).is_some()
        };
        assert!(forge(&tokens, &index));
        for word in 0..index.len() {
            for value in [0, 1, 3, 1 << 20, (1 << 31) | 3, u32::MAX] {
                let mut forged = index.clone();
                forged[word] = value;
                assert!(!forge(&tokens, &forged) || forged == index, "word {word} of the index is {value:x}");
            }
        }
        for word in 0..tokens.len() {
            let mut forged = tokens.clone();
            forged[word] = VOCABULARY as u32;
            assert!(!forge(&forged, &index), "token {word} is not in the vocabulary");
        }
    }

    #[test]
    fn long_rows_get_their_name_where_they_lie() {
        let folder = tempfile::tempdir().expect("folder");
        let (at, path) = (folder.path().join("kept"), rows(folder.path(), 1));
        let sample = |index: u32| {
            let ids = vec![index % 50, 2, 3, 4];
            let labels = ids.iter().map(|&id| id as i32).collect();
            Sample { ids, labels, terminated: true, complete: true, beyond: 0 }
        };
        // More than is held in memory of tokens, and of the index.
        for count in [140_000, 100_000] {
            let mut builder = DatasetBuilder::new(8).expect("long").with_folder(folder.path().to_path_buf());
            builder.start_source(&path);
            (0..count).for_each(|index| builder.push(&sample(index)).expect("kept"));
            builder.finish_source(crate::row::FileRows { sha256: sha256_of(&path), ..crate::row::FileRows::default() });
            let data = builder.finish().expect("rows").to_be_kept("settings".to_string()).expect("on disk");
            data.keep(&at).expect("named");
            let again = kept(&at, &path).expect("it is theirs");
            assert_eq!(again.bytes(), data.bytes(), "the account of a run that goes on is that of the run");
            for id in [0, 1, 99, count - 1].map(crate::SampleId) {
                assert_eq!(again.sample(id).expect("read"), sample(id.0));
            }
            let changed = fs::OpenOptions::new().write(true).open(&at).expect("it is a file");
            changed.write_all_at(&[0xff; 16], 0).expect("changed");
            assert!(kept(&at, &path).is_none());
            if data.tokens.file().is_some() {
                let error = again.sample(crate::SampleId(0)).expect_err("changed meanwhile").to_string();
                assert!(error.contains("was changed since it was written"), "{error}");
            }
        }
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 2, "nothing but the rows and the file");
    }
}
