//! What is known of the keys of rows: which format a row has by its keys, which keys mean nothing for training, and which
//! mean something that no objective here takes. Invariant: a key that is in no table is refused, never passed over.
//!
//! A new format is a line in `FORMATS`; a key that is harmless or refused is a word here. Look next at `row`.

use super::kind::RowKind;

/// A format: its kind and the keys it cannot do without.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) kind: RowKind,
    pub(crate) required: &'static [&'static str],
}

const fn format(kind: RowKind, required: &'static [&'static str]) -> Format {
    Format { kind, required }
}

/// The more specific formats first: a row that also carries the text it was tokenised from is a tokens row. A task and
/// its answer go by many names; the task's is the first of the two.
pub(crate) static FORMATS: [Format; 24] = [
    format(RowKind::Tokens, &["input_ids"]),
    format(RowKind::Messages, &["messages"]),
    format(RowKind::Conversations, &["conversations"]),
    format(RowKind::Conversations, &["conversation"]),
    format(RowKind::PromptCompletion, &["prompt", "completion"]),
    format(RowKind::Instruction, &["instruction", "output"]),
    format(RowKind::Instruction, &["instruction", "response"]),
    format(RowKind::Instruction, &["instruction", "answer"]),
    format(RowKind::Instruction, &["instruction", "completion"]),
    format(RowKind::Instruction, &["question", "answer"]),
    format(RowKind::Instruction, &["question", "response"]),
    format(RowKind::Instruction, &["question", "output"]),
    format(RowKind::Instruction, &["query", "response"]),
    format(RowKind::Instruction, &["query", "answer"]),
    format(RowKind::Instruction, &["query", "output"]),
    format(RowKind::Instruction, &["prompt", "response"]),
    format(RowKind::Instruction, &["prompt", "answer"]),
    format(RowKind::Instruction, &["prompt", "output"]),
    format(RowKind::Instruction, &["input", "output"]),
    format(RowKind::Instruction, &["input", "response"]),
    format(RowKind::Instruction, &["user", "assistant"]),
    format(RowKind::Instruction, &["human", "assistant"]),
    format(RowKind::Text, &["text"]),
    format(RowKind::Text, &["content"]),
];

/// Keys that some formats take beside those they cannot do without.
const OPTIONAL: [&str; 11] = [
    "labels",
    "completion_mask",
    "assistant_masks",
    "loss_mask",
    "attention_mask",
    "context",
    "system",
    "system_prompt",
    "history",
    "tools",
    "chat_template_kwargs",
];

/// Keys of rows that say where a row comes from or how it is filed.
const HARMLESS: &[&str] = &[
    "",
    "__index_level_0__",
    "_id",
    "added",
    "annotator",
    "author",
    "categories",
    "category",
    "char_count",
    "comment",
    "conversation_hash",
    "conversation_id",
    "copyright",
    "count",
    "country",
    "created",
    "created_at",
    "data_source",
    "dataset",
    "dataset_name",
    "date",
    "difficulty",
    "doc_id",
    "document_id",
    "domain",
    "dump",
    "example_id",
    "extra",
    "file",
    "file_name",
    "file_path",
    "filename",
    "generated_by",
    "generator",
    "guid",
    "hash",
    "hashed_ip",
    "header",
    "id",
    "idx",
    "index",
    "info",
    "keywords",
    "kind",
    "lang",
    "language",
    "language_score",
    "languages",
    "length",
    "licence",
    "license",
    "link",
    "md5",
    "message_id",
    "meta",
    "meta_data",
    "metadata",
    "model",
    "model_name",
    "n_tokens",
    "name",
    "notes",
    "num_tokens",
    "num_turns",
    "openai_moderation",
    "origin",
    "parallel_tool_calls",
    "path",
    "prompt_id",
    "question_id",
    "redacted",
    "repo",
    "repo_name",
    "repository",
    "row_id",
    "sample_id",
    "seed",
    "session_id",
    "sha",
    "sha1",
    "sha256",
    "snippet",
    "source",
    "source_id",
    "sources",
    "special_tokens_mask",
    "split",
    "state",
    "subdomain",
    "subject",
    "subset",
    "tag",
    "tags",
    "task",
    "task_id",
    "task_name",
    "task_type",
    "temperature",
    "thread_id",
    "time",
    "timestamp",
    "title",
    "token_count",
    "token_type_ids",
    "topic",
    "topics",
    "toxic",
    "turn",
    "type",
    "uid",
    "unnamed: 0",
    "updated_at",
    "uri",
    "url",
    "uuid",
    "version",
    "warc_date",
    "year",
];

/// Keys of messages that say where a message comes from.
const HARMLESS_IN_MESSAGES: &[&str] = &[
    "country",
    "create_time",
    "created",
    "created_at",
    "date",
    "hashed_ip",
    "header",
    "id",
    "idx",
    "index",
    "lang",
    "language",
    "message_id",
    "meta",
    "metadata",
    "model",
    "redacted",
    "source",
    "state",
    "time",
    "timestamp",
    "toxic",
    "turn_identifier",
    "url",
    "uuid",
];

/// Marks of a text's quality: no judgement on an answer where there is none.
const HARMLESS_BESIDE_TEXT: &[&str] = &["int_score", "quality", "rating", "score"];

const PREFERENCE: &str = "belongs to preference or reward training (DPO, KTO, reward models), which no objective here \
     takes: the row would be learnt as if it were good; keep only the answers to be learnt, as {\"prompt\", \
     \"completion\"} or {\"messages\"}";
const JUDGEMENT: &str = "says how good an answer is or which class a text has, as rows of preference training (KTO) or \
     classification do, and no objective here takes that: the row would be learnt as it stands; if that is meant, say so \
     with --ignore-columns";
const MEDIA: &str = "is no text, and the models here read text alone; remove such rows";
const SPEAKS: &str = "has a place only in a conversation; give the row as {\"messages\"}, or map its columns to \
     instruction and output with --columns";

/// Keys that mean something which is refused, and why.
const REFUSED: &[(&str, &str)] = &[
    ("chosen", PREFERENCE),
    ("rejected", PREFERENCE),
    ("chosen_response", PREFERENCE),
    ("rejected_response", PREFERENCE),
    ("preferred_output", PREFERENCE),
    ("non_preferred_output", PREFERENCE),
    ("completions", PREFERENCE),
    ("preference", PREFERENCE),
    ("winner", PREFERENCE),
    ("score_chosen", PREFERENCE),
    ("score_rejected", PREFERENCE),
    ("margin", PREFERENCE),
    ("reward", PREFERENCE),
    ("rewards", PREFERENCE),
    ("kto_tag", PREFERENCE),
    ("label", JUDGEMENT),
    ("score", JUDGEMENT),
    ("rating", JUDGEMENT),
    ("quality", JUDGEMENT),
    ("image", MEDIA),
    ("images", MEDIA),
    ("audio", MEDIA),
    ("audios", MEDIA),
    ("video", MEDIA),
    ("videos", MEDIA),
    ("pixel_values", MEDIA),
    ("functions", "defines tools under another name; say so with --columns tools=functions"),
    ("position_ids", "packs several texts into one row; give one text a row, --packing puts them together"),
    ("seq_lengths", "packs several texts into one row; give one text a row, --packing puts them together"),
    ("system", SPEAKS),
    ("system_prompt", SPEAKS),
    ("history", SPEAKS),
    ("tools", SPEAKS),
    ("chat_template_kwargs", SPEAKS),
];

/// What a key that no format took means for a row of this kind.
pub(crate) enum Meaning {
    Harmless,
    Refused,
    Unknown,
}

pub(crate) fn meaning(key: &str, kind: RowKind) -> Meaning {
    let beside_text = matches!(kind, RowKind::Text | RowKind::Tokens) && HARMLESS_BESIDE_TEXT.contains(&key);
    // A rendering of the row, or what its tokens were made from.
    let rendering = key == "text" && kind != RowKind::Text;
    if beside_text || rendering || HARMLESS.contains(&key) {
        return Meaning::Harmless;
    }
    match refusal(key) {
        Some(_) => Meaning::Refused,
        None => Meaning::Unknown,
    }
}

/// Whether a key in lower case is one of any table.
pub(crate) fn is_known(key: &str) -> bool {
    let harmless = HARMLESS.contains(&key) || HARMLESS_BESIDE_TEXT.contains(&key);
    is_of_a_format(key) || harmless || refusal(key).is_some()
}

/// Whether some format takes a key.
pub(crate) fn is_of_a_format(key: &str) -> bool {
    OPTIONAL.contains(&key) || FORMATS.iter().any(|format| format.required.contains(&key))
}

/// The keys that formats take, each once.
pub(crate) fn of_formats() -> Vec<&'static str> {
    let mut all: Vec<&str> = FORMATS.iter().flat_map(|format| format.required).chain(&OPTIONAL).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Why a key is refused, whatever stands beside it.
pub(crate) fn refusal(key: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(name, _)| *name == key).map(|&(_, why)| why)
}

/// Whether a key makes a row one of preference training, whatever else it has.
pub(crate) fn is_preference(key: &str) -> bool {
    refusal(key) == Some(PREFERENCE)
}

pub(crate) fn is_harmless_in_messages(key: &str) -> bool {
    HARMLESS_IN_MESSAGES.contains(&key)
}
