//! What can be wrong with a user's data. Invariant: each message says where (file and line), what was found, and
//! what to do about it. The tests in `tests/data/messages.rs` hold every message to its exact words.

use crate::row::kind::RowKind;
use remat_formats::{SettingName, Spelled};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where a row stands: a file and a line counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowPlace {
    /// The file, as the user named it.
    pub path: PathBuf,
    /// The line the row starts on, counted from 1.
    pub line: u64,
}

impl RowPlace {
    /// A line of a file.
    pub fn new(path: &Path, line: u64) -> Self {
        RowPlace { path: path.to_path_buf(), line }
    }
}

impl fmt::Display for RowPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// The formats a row may have, for messages.
pub(crate) const ACCEPTED: &str = concat!(
    r#"{"messages"}, {"conversations"}, {"instruction", "input" (optional), "output"}, "#,
    r#"{"prompt", "completion"}, {"text"} or {"input_ids", "labels" (optional)}"#
);

/// Every error of this crate.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages are the documentation of the variants and their fields.
pub enum DataError {
    #[error("{}: cannot be read: {source}; check the path and its permissions", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error(
        "{}: the tokens of the rows cannot be written there: {source}; make room, or choose another place with {out_name}",
        path.display(), out_name = SettingName("out"))]
    NotWritten { path: PathBuf, source: std::io::Error },

    #[error("{}: is damaged: {reason}; write or copy it again", path.display())]
    Damaged { path: PathBuf, reason: String },

    #[error("{}: is no file but a device or a socket; copy what it gives into a file", path.display())]
    NotAFile { path: PathBuf },

    #[error("{}: is a pipe that gives parquet, which is read here and there; copy it into a file", path.display())]
    NeedsFile { path: PathBuf },

    #[error("{}: was changed while it was read; run again when nothing writes to it", path.display())]
    Changed { path: PathBuf },

    #[error("{}: is a folder; name the files in it, each with its own {data_name}", path.display(), data_name = SettingName("data"))]
    IsFolder { path: PathBuf },

    #[error("{}: holds several splits; name the one to train on, as in {data_name} {}/train", path.display(), path.display(), data_name = SettingName("data"))]
    Splits { path: PathBuf },

    #[error("{}: is named like a file of {name} and is none; give it the ending of what it holds", path.display())]
    NotOfItsKind { path: PathBuf, name: &'static str },

    #[error("{}: is a text of more than {limit_bytes} bytes; split it into several files", path.display())]
    TextTooLong { path: PathBuf, limit_bytes: usize },

    #[error("{place}: a cell that begins with a quote here never ends; close it, or double the quotes within it")]
    OpenQuote { place: RowPlace },

    #[error("{place}: text behind the closing quote of a cell; double the quotes within a cell that is in quotes")]
    TextBehindQuote { place: RowPlace },

    #[error(
        "{place}: this row has {cells} cells, but the first line names {names} columns; put cells in quotes that hold \
             the delimiter or a line end"
    )]
    CellCount { place: RowPlace, cells: usize, names: usize },

    #[error("no data file was given; name at least one with {data_name} FILE.jsonl", data_name = SettingName("data"))]
    NoFiles,

    #[error("{}: holds no rows; it needs one JSON object per line: {ACCEPTED}", path.display())]
    NoRows { path: PathBuf },

    #[error(
        "{place}: this row is longer than {limit_bytes} bytes; split it into shorter rows, one JSON object per line"
    )]
    RowTooLong { place: RowPlace, limit_bytes: usize },

    #[error("{place}: byte {column} of this line is not UTF-8; save the file as UTF-8 text")]
    NotUtf8 { place: RowPlace, column: usize },

    #[error("{place}:{column}: not JSON: {reason}, near `{excerpt}`; every row must be one complete JSON object")]
    NotJson { place: RowPlace, column: usize, reason: String, excerpt: String },

    #[error("{place}:{column}: not a JSON array of rows: {reason}; write [{{…}}, {{…}}], or one JSON object per line")]
    NotJsonArray { place: RowPlace, column: usize, reason: String },

    #[error("{place}: this row is {found}, not a JSON object; accepted: {ACCEPTED}")]
    NotAnObject { place: RowPlace, found: &'static str },

    #[error("{place}: no known format has the keys {keys}; accepted: {ACCEPTED}")]
    UnknownKeys { place: RowPlace, keys: String },

    #[error("{place}: key `{key}` of format {kind} is missing, this row has the keys {keys}; accepted: {ACCEPTED}")]
    MissingKey { place: RowPlace, key: &'static str, kind: RowKind, keys: String },

    #[error(
        "{place}: this row is {found}, but the file's first row is {expected}; keep one format per file and give each \
         file its own {data_name}", data_name = SettingName("data"))]
    OtherKind { place: RowPlace, found: RowKind, expected: RowKind },

    #[error("{place}: `{key}` is {found}, but must be {expected}")]
    WrongType { place: RowPlace, key: String, expected: String, found: String },

    #[error("{place}: `{key}` must be {expected}", expected = Spelled(expected))]
    BadMessage { place: RowPlace, key: String, expected: String },

    #[error("{place}: key `{key}` is there twice; keys are told apart by more than case and blanks around them")]
    DuplicateKey { place: RowPlace, key: String },

    #[error("{place}: `{key}` {why}", why = Spelled(why))]
    RefusedKey { place: RowPlace, key: String, why: &'static str },

    #[error(
        "{place}: {keys} beside {kind}: it is not known what this says ({found}), and to pass over it may change what is \
         learnt; map it with {columns_name}, or say that it means nothing here: {ignore_columns_name} {names}", columns_name = SettingName("columns"), ignore_columns_name = SettingName("ignore-columns"))]
    UnknownBeside { place: RowPlace, keys: String, names: String, found: String, kind: RowKind },

    #[error("{columns_name} names {columns}, which no row of the data has; give the columns' names as the files have them", columns_name = SettingName("columns"))]
    NoSuchColumns { columns: String },

    #[error(
        "{place}: {bad} of {rows} rows are bad, more than the {percent:.0} % that {bad_rows_name} drop may leave out; this is \
         the first: {reason}", bad_rows_name = SettingName("bad-rows"))]
    TooManyBad { place: RowPlace, bad: usize, rows: usize, percent: f64, reason: String },

    #[error(
        "{place}: `labels` has {labels} entries, but `input_ids` has {ids}; give one label per token, unshifted, with \
         -100 for tokens that are not trained on"
    )]
    LabelCount { place: RowPlace, ids: usize, labels: usize },

    #[error(
        "{place}: `input_ids[{index}]` is {id}, but this model's token ids are 0 to {last}; tokenise the data with the \
         tokenizer of this model"
    )]
    TokenOutOfVocabulary { place: RowPlace, index: usize, id: i64, last: usize },

    #[error(
        "{place}: `labels[{index}]` is {label}, but a label is a token id of this model, 0 to {last}, or -100 for a \
         token that is not trained on"
    )]
    LabelOutOfVocabulary { place: RowPlace, index: usize, label: i64, last: usize },

    #[error(
        "{place}: the tokenizer gives the id {id}, but this model's token ids are 0 to {last}; use the tokenizer.json \
         that belongs to this model"
    )]
    TokenizerOutOfVocabulary { place: RowPlace, id: u32, last: usize },

    #[error(
        "{place}: a row of format {kind} needs the model's tokenizer, and there is none; put tokenizer.json into the \
         model folder, or give {{\"input_ids\"}} rows"
    )]
    NoTokenizer { place: RowPlace, kind: RowKind },

    #[error("{place}: the tokenizer refused `{key}`: {reason}; check tokenizer.json in the model folder")]
    Tokenizer { place: RowPlace, key: &'static str, reason: String },

    #[error("{place}: a row of format {kind} needs the model's chat template: {reason}")]
    NoChatTemplate { place: RowPlace, kind: RowKind, reason: String },

    #[error(
        "{place}: the model's chat template cannot render this conversation: {reason}; check the order of its roles, \
         or the template in the model folder"
    )]
    Rendering { place: RowPlace, reason: String },

    #[error(
        "{place}: `{key}`: the model's chat template never reads `{word}`, so it would be passed over in silence; leave it \
         out of the row, or use a template that reads it"
    )]
    NotInTemplate { place: RowPlace, key: String, word: String },

    #[error(
        "{place}: a message holds tool calls, which the model's chat template never reads: the turn would be learnt without \
         them; use a model or a template that calls tools, or drop such rows"
    )]
    CallsNotInTemplate { place: RowPlace },

    #[error(
        "{place}: `{key}` has a place only in a conversation, and the model has no chat template; put the \
         chat_template.jinja of the model's instruction-tuned version into the folder"
    )]
    NeedsChatTemplate { place: RowPlace, key: &'static str },

    #[error("{chat_template_kwargs_name} {problem}", chat_template_kwargs_name = SettingName("chat-template-kwargs"))]
    TemplateVariables { problem: String },

    #[error(transparent)]
    Formats(#[from] remat_formats::FormatsError),

    #[error("{seq_len_name} {seq_len} leaves no token to predict; it must be at least 2", seq_len_name = SettingName("seq-len"))]
    SeqLen { seq_len: usize },

    #[error("{name} is 0; it must be at least 1", name = SettingName(key))]
    Zero { key: &'static str },

    #[error(
        "none of the {rows} rows has a token to train on within the first {seq_len} tokens ({truncated} rows were \
         cut there); raise {seq_len_name}, or check that completions are not empty and that labels are not all -100", seq_len_name = SettingName("seq-len"))]
    NothingToTrain { rows: usize, truncated: usize, seq_len: usize },

    #[error("the data has more than {limit} rows; split it over several runs")]
    TooManyRows { limit: usize },

    #[error("the saved data position does not fit: {reason}; resume with the data and data options of the saved run")]
    Position { reason: String },
}

impl DataError {
    /// Whether it is one row that is wrong, so that the file could go on without it.
    pub(crate) fn is_of_one_row(&self) -> bool {
        use DataError::*;
        match self {
            NotUtf8 { .. } | NotJson { .. } | NotAnObject { .. } | UnknownKeys { .. } | MissingKey { .. } => true,
            OtherKind { .. } | WrongType { .. } | BadMessage { .. } | DuplicateKey { .. } | RefusedKey { .. } => true,
            UnknownBeside { .. } | LabelCount { .. } | TokenOutOfVocabulary { .. } | LabelOutOfVocabulary { .. } => {
                true
            }
            TokenizerOutOfVocabulary { .. } | Tokenizer { .. } | Rendering { .. } | NotInTemplate { .. } => true,
            CallsNotInTemplate { .. } | CellCount { .. } => true,
            RowTooLong { .. } | Damaged { .. } | NotAFile { .. } | IsFolder { .. } | Splits { .. } => false,
            NeedsFile { .. } | Changed { .. } => false,
            NotOfItsKind { .. } | TextTooLong { .. } | OpenQuote { .. } | TextBehindQuote { .. } => false,
            Io { .. } | NotWritten { .. } | NoFiles | NoRows { .. } | NotJsonArray { .. } | NoSuchColumns { .. } => {
                false
            }
            TooManyBad { .. } | NoTokenizer { .. } | NoChatTemplate { .. } | NeedsChatTemplate { .. } => false,
            Formats(_) | SeqLen { .. } | Zero { .. } | NothingToTrain { .. } | TooManyRows { .. } => false,
            Position { .. } | TemplateVariables { .. } => false,
        }
    }
}

/// A file that cannot be read, or whose compressed bytes cannot.
pub(crate) fn io_error(path: &Path, source: std::io::Error) -> DataError {
    let path = path.to_path_buf();
    match source.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof | ErrorKind::Other => {
            DataError::Damaged { path, reason: source.to_string() }
        }
        _ => DataError::Io { path, source },
    }
}
