//! File formats: the same rows from every file that other libraries wrote (`fixtures/tables`), and files that are broken.

use crate::{BYTES, VOCABULARY, files};
use remat_data::{BadRows, Dataset, Encoder, FileRows, Row, RowKind, RowOptions, read_rows};
use std::io::Write;
use std::path::{Path, PathBuf};

fn table(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tables").join(name)
}

fn read(path: &Path) -> Result<(FileRows, Vec<(u64, Row)>), String> {
    let mut rows = Vec::new();
    let mut keep = |line, row| {
        rows.push((line, row));
        Ok(())
    };
    let found = read_rows(path, &RowOptions::default(), &mut keep).map_err(|error| error.to_string())?;
    Ok((found, rows))
}

/// What `read` gives for a pipe of this name into which these bytes are written.
fn from_a_pipe(name: &str, bytes: &[u8]) -> Result<(FileRows, Vec<(u64, Row)>), String> {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join(name);
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::thread::scope(|scope| {
        // A few bytes first, as writers do. A reader that refuses what it sees goes away before all is written.
        scope.spawn(|| {
            let mut pipe = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
            bytes.chunks(5).try_for_each(|part| pipe.write_all(part)).unwrap_or(());
        });
        read(&pipe).map_err(|error| error.replace(&format!("{}/", folder.path().display()), ""))
    })
}

/// Reads a file of these bytes, and has `meanwhile` done to it when its first row is there.
fn read_while(name: &str, bytes: &[u8], meanwhile: fn(&Path)) -> (String, Result<FileRows, String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let before = remat_formats::sha256_file(&path).unwrap();
    let mut first = true;
    let mut sink = |_, _| {
        if std::mem::take(&mut first) {
            meanwhile(&path);
        }
        Ok(())
    };
    let read = read_rows(&path, &RowOptions::default(), &mut sink);
    (before, read.map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), "")))
}

/// What is wrong with bytes in a file of this name.
fn refused(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read(&path).expect_err(name).replace(&format!("{}/", folder.path().display()), "")
}

fn rows_of(name: &str, bytes: &[u8]) -> Vec<(u64, Row)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read(&path).unwrap_or_else(|error| panic!("{name}: {error}")).1
}

#[test]
fn every_format_gives_the_same_rows() {
    let (found, expected) = read(&table("questions.jsonl")).unwrap();
    assert_eq!((found.kind, expected.len()), (Some(RowKind::Instruction), 3));
    assert_eq!(found.ignored.iter().collect::<Vec<_>>(), ["source"]);
    let hash = remat_formats::sha256_file(&table("questions.jsonl")).unwrap();
    assert_eq!(found.sha256, Some(hash));
    for (name, lines) in [
        ("questions.json", [2, 7, 12]),
        ("questions.jsonl.gz", [1, 2, 3]),
        ("questions.jsonl.zst", [1, 2, 3]),
        ("questions.csv", [2, 3, 5]),
        ("questions.tsv", [2, 3, 5]),
        ("questions.none.parquet", [1, 2, 3]),
        ("questions.snappy.parquet", [1, 2, 3]),
        ("questions.gzip.parquet", [1, 2, 3]),
        ("questions.zstd.parquet", [1, 2, 3]),
        ("saved/questions", [1, 2, 3]),
    ] {
        let (found, rows) = read(&table(name)).unwrap();
        assert_eq!(rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(), lines, "{name}");
        assert!(rows.iter().map(|(_, row)| row).eq(expected.iter().map(|(_, row)| row)), "{name}: {rows:?}");
        assert!(found.ignored.contains("source"), "{name}");
        let hash = remat_formats::sha256_file(&table(name));
        assert!(found.sha256.is_some_and(|found| hash.map_or(found.contains('+'), |hash| hash == found)), "{name}");
    }
}

#[test]
fn parquet_has_lists_of_structs() {
    let (_, chats) = read(&table("chats.parquet")).unwrap();
    let lines = b"{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\", \"name\": \"x\"}]}\n\
        {\"messages\": [{\"role\": \"user\", \"content\": \"c\"}, {\"role\": \"assistant\", \"content\": \"d\"}]}";
    let (_, saved) = read(&table("saved/chats")).unwrap();
    assert_eq!(format!("{saved:?}"), format!("{chats:?}"), "and so has a folder of `datasets`");
    // The entries of a parquet message are in its schema's order, and the nulls of a struct are not there.
    assert_eq!(format!("{chats:?}"), format!("{:?}", rows_of("a.jsonl", lines)));
    let (_, tokens) = read(&table("tokens.parquet")).unwrap();
    let row = |input_ids: &[i64], labels: &[i64]| Row::Tokens {
        input_ids: input_ids.to_vec(),
        labels: Some(labels.to_vec()),
    };
    assert_eq!(tokens, [(1, row(&[5, 6, 7], &[-100, 6, 7])), (2, row(&[8, 9], &[-100, 9]))]);
}

#[test]
fn the_bytes_of_a_file_say_more_than_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in
        [("questions.zstd.parquet", "train-0"), ("questions.jsonl.gz", "rows.jsonl"), ("questions.jsonl.zst", "b")]
    {
        let path = folder.path().join(to);
        std::fs::copy(table(from), &path).unwrap();
        assert_eq!(read(&path).unwrap().1.len(), 3, "{from}");
    }
    assert_eq!(rows_of("rows", b"{\"text\": \"a\"}").len(), 1);
    assert_eq!(rows_of("ROWS.CSV", b"Text\na\n").len(), 1);
    let error = refused("a.parquet", b"{\"text\": \"a\"}");
    assert_eq!(error, "a.parquet: is named like a file of parquet and is none; give it the ending of what it holds");
}

#[test]
fn damaged_files_are_told() {
    // A byte changed anywhere in parquet is rows or an error, never a panic.
    let whole = std::fs::read(table("chats.parquet")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        let _ = read(&path);
    }
    for name in ["questions.jsonl.gz", "questions.jsonl.zst", "questions.zstd.parquet", "questions.none.parquet"] {
        let whole = std::fs::read(table(name)).unwrap();
        for cut in [6, 20, whole.len() / 2, whole.len() - 1] {
            let error = refused(name, &whole[..cut]);
            assert!(error.starts_with(&format!("{name}: is damaged: ")), "{name} cut to {cut}: {error}");
        }
    }
}

#[test]
fn folders_of_datasets_are_read_or_told() {
    let (_, part) = read(&table("saved/questions/data-00001-of-00002.arrow")).unwrap();
    assert_eq!(part.len(), 1, "a file of such a folder by itself");
    let folder = tempfile::tempdir().unwrap();
    let refused = |files: &[(&str, &str)]| {
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        read(folder.path()).unwrap_err().replace(&folder.path().display().to_string(), "F")
    };
    let state = |name: &str| format!(r#"{{"_data_files": [{{"filename": "{name}"}}]}}"#);
    let error = refused(&[("state.json", &state("../a.arrow"))]);
    assert!(error.starts_with("F/state.json: is damaged: it names \"../a.arrow\""), "{error}");
    let whole = std::fs::read(table("saved/chats/data-00000-of-00001.arrow")).unwrap();
    refused(&[("state.json", &state("a.arrow"))]);
    // Any damage is rows or an error, never a panic.
    for at in 0..whole.len() {
        for byte in [0, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            std::fs::write(folder.path().join("a.arrow"), &bytes).unwrap();
            let _ = read(folder.path());
        }
    }
    std::fs::write(folder.path().join("a.arrow"), &whole[..whole.len() / 2]).unwrap();
    let error = read(folder.path()).unwrap_err();
    assert!(error.contains("a.arrow: is damaged: it ends within a message"), "{error}");
    let error = refused(&[("dataset_dict.json", "{}")]);
    assert_eq!(error, "F: holds several splits; name the one to train on, as in `data` F/train");
}

#[test]
fn a_pipe_gives_what_a_file_gives() {
    let arrow = "saved/questions/data-00000-of-00002.arrow";
    for name in
        ["questions.jsonl", "questions.json", "questions.csv", "questions.jsonl.gz", "questions.jsonl.zst", arrow]
    {
        let (_, file_name) = name.rsplit_once('/').unwrap_or(("", name));
        let piped = from_a_pipe(file_name, &std::fs::read(table(name)).unwrap());
        assert_eq!(piped, read(&table(name)), "{name}");
    }
    assert_eq!(
        from_a_pipe("a", &std::fs::read(table(arrow)).unwrap()),
        read(&table(arrow)),
        "no name says that it is Arrow"
    );
    for name in ["a", "a.jsonl", "a.parquet"] {
        let error = from_a_pipe(name, &std::fs::read(table("questions.none.parquet")).unwrap()).unwrap_err();
        let said = format!("{name}: is a pipe that gives parquet, which is read here and there; copy it into a file");
        assert_eq!(error, said);
    }
    let error = from_a_pipe("a.parquet", b"{\"text\": \"a\"}").unwrap_err();
    assert_eq!(error, "a.parquet: is named like a file of parquet and is none; give it the ending of what it holds");
}

#[test]
fn the_hash_is_that_of_the_bytes_the_rows_came_from() {
    let sha256 = |path: &Path| remat_formats::sha256_file(path).unwrap();
    let parts = [0, 1].map(|part| table(&format!("saved/questions/data-0000{part}-of-00002.arrow")));
    assert_eq!(read(&parts[0]).unwrap().0.sha256, Some(sha256(&parts[0])), "an Arrow file by itself");
    assert_eq!(
        read(&table("saved/questions")).unwrap().0.sha256,
        Some(parts.each_ref().map(|part| sha256(part)).join("+"))
    );
    // Another file in the place of the one that is being read is not what its rows came from.
    let replace = |path: &Path| {
        std::fs::write(path.with_extension("new"), b"PAR1 of something else").unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    };
    for name in ["questions.none.parquet", "saved/questions/data-00000-of-00002.arrow", "questions.jsonl"] {
        let (before, found) = read_while("a", &std::fs::read(table(name)).unwrap(), replace);
        assert_eq!(found.unwrap().sha256, Some(before), "{name}");
    }
    let append = |path: &Path| std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap();
    let parquet = std::fs::read(table("questions.none.parquet")).unwrap();
    let (_, found) = read_while("a.parquet", &parquet, append);
    assert_eq!(found.unwrap_err(), "a.parquet: was changed while it was read; run again when nothing writes to it");
    // Of the same size, but written at another time.
    let touch = |path: &Path| {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    };
    assert!(read_while("a.parquet", &parquet, touch).1.unwrap_err().contains("was changed while it was read"));
    // Arrow is hashed as it is read: with what was there when it was.
    let arrow = std::fs::read(&parts[0]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let longer = folder.path().join("longer");
    std::fs::write(&longer, [&arrow[..], b"x"].concat()).unwrap();
    assert_eq!(read_while("a.arrow", &arrow, append).1.unwrap().sha256, Some(sha256(&longer)));
}

#[test]
fn cells_follow_rfc_4180() {
    let text = |text: &str| Row::Text { text: text.to_string() };
    let csv = b"\xef\xbb\xbfid,text\r\n1,\"a \"\"b\"\", c\r\nd\"\r\n\r\n2,\"\"\"\"\n3, e f \n4,\"\"";
    assert_eq!(
        rows_of("a.csv", csv),
        [(2, text("a \"b\", c\r\nd")), (5, text("\"")), (6, text(" e f ")), (7, text(""))]
    );
    assert_eq!(rows_of("a.tsv", b"text\tid\na, \"b\t1\n"), [(2, text("a, \"b"))], "a quote within a cell is a quote");
    assert_eq!(
        rows_of("a.csv", b"prompt,completion\na,b"),
        [(2, Row::PromptCompletion { prompt: "a".into(), completion: "b".into() })]
    );
    let chat = "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"a\"\"}]\"\n";
    assert!(matches!(rows_of("a.csv", chat.as_bytes())[..], [(2, Row::Conversation(_))]));
    for (bytes, message) in [
        (&b"text\n\"a\n\n"[..], "a.csv:2: a cell that begins with a quote here never ends"),
        (b"text\n\n\"a\"b\n", "a.csv:3: text behind the closing quote of a cell"),
        (b"text,id\na,1\nb\n", "a.csv:3: this row has 1 cells, but the first line names 2 columns"),
        (b"text\n\xff\n", "a.csv:2: byte 1 of this line is not UTF-8"),
        (b"text,text\na,b\n", "a.csv:2: key `text` is there twice"),
        (b"text,votes\na,3\n", "a.csv:2: `votes` beside {\"text\"}"),
        (b"text\n", "a.csv: holds no rows"),
        (b"", "a.csv: holds no rows"),
    ] {
        let error = refused("a.csv", bytes);
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn bad_cells_can_be_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, b"text,id\na,1\nb\n\xff,2\nc,3\n").unwrap();
    let options = RowOptions { bad_rows: BadRows::Drop { most: 0.5 }, ..RowOptions::default() };
    let found = read_rows(&path, &options, &mut |_, _| Ok(())).unwrap();
    assert_eq!(found.bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_text_file_fills_as_many_sequences_as_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.txt", "a.md", "README.markdown"] {
        let path = folder.path().join(name);
        std::fs::write(&path, b"\xef\xbb\xbfabcd\r\nefgh").unwrap();
        let data = Dataset::load(&[path], &RowOptions::default(), &Encoder::new(Some(&BYTES), VOCABULARY), 4).unwrap();
        let ids: Vec<Vec<u32>> = data.sample_ids().map(|id| data.sample(id).unwrap().ids.to_vec()).collect();
        let text: Vec<u32> = "abcd\nefgh".bytes().map(u32::from).collect();
        let whole = [&[crate::BOS][..], &text, &[crate::EOS]].concat();
        assert_eq!(ids.concat(), whole, "{name}: nothing is lost");
        assert_eq!(ids.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 3]);
        let stats = &data.stats()[0];
        assert_eq!((stats.rows, stats.kept, stats.truncated, stats.kind()), (1, 3, 0, Some(RowKind::Document)));
    }
    assert!(refused("a.txt", b" \n").starts_with("a.txt: holds no rows"));
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let error = read(folder.path()).unwrap_err();
    assert!(error.ends_with("is a folder; name the files in it, each with its own `data`"), "{error}");
    let error = read(Path::new("/dev/zero")).unwrap_err();
    assert!(error.starts_with("/dev/zero: is no file but a device or a socket"), "{error}");
    let (_folder, paths) = files(&[b""]);
    let mut file = std::fs::File::create(&paths[0]).unwrap();
    file.write_all(b"\x28\xb5\x2f\xfd").unwrap();
    assert!(read(&paths[0]).is_err());
}

#[test]
fn a_text_that_begins_with_bos_and_one_that_is_cut_are_as_they_were() {
    let encoder = Encoder::new(Some(&BYTES), VOCABULARY);
    let place = remat_data::RowPlace::new(Path::new("f"), 1);
    for text in ["", "a", "ab", "abcdefgh", "abc</s>", "aab"] {
        let row = Row::Text { text: text.to_string() };
        let whole = encoder.encode(&row, &place).unwrap();
        for limit in 2..12 {
            let cut = encoder.clone().with_limit(limit).encode(&row, &place).unwrap();
            assert_eq!(cut.ids, whole.ids[..limit.min(whole.ids.len())], "{text}");
            assert_eq!((cut.ids.len() + cut.beyond, cut.terminated), (whole.ids.len(), true), "{text}");
        }
    }
}
