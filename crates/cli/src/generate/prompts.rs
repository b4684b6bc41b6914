//! Where prompts come from: a flag, stdin, or the lines of a file.
//!
//! Invariant: every key of a line is used or handed on to the answer; what is no prompt is refused with its line.

use remat_train::TrainError;
use serde_json::{Map, Value};
use std::io::{IsTerminal, Read};
use std::path::Path;

/// Most text that is read as prompts.
const LIMIT_BYTES: u64 = 64 << 20;

/// What is to be continued.
#[derive(Debug, Clone, Default)]
pub(super) struct Prompt {
    /// Its line in the file, if it is of one.
    pub(super) line: Option<usize>,
    pub(super) text: String,
    /// Role and text of each message, where it is a conversation.
    pub(super) messages: Option<Vec<(String, String)>>,
    /// Keys of the line that say something else.
    pub(super) beside: Map<String, Value>,
}

/// The prompts of `--prompt`, of `--prompts`, or of stdin.
pub(super) fn read(prompt: Option<&str>, file: Option<&Path>) -> Result<Vec<Prompt>, TrainError> {
    if let Some(path) = file {
        let text = remat_formats::read_text_file(path, LIMIT_BYTES);
        let text = text.map_err(|source| TrainError::Io { path: path.to_path_buf(), what: "read", source })?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let prompts: Vec<Prompt> =
            lines.map(|(index, line)| of_line(path, index + 1, line)).collect::<Result<_, _>>()?;
        if prompts.is_empty() {
            return Err(TrainError::BadFlag { key: "prompts", problem: format!("{} holds no line", path.display()) });
        }
        return Ok(prompts);
    }
    let text = match prompt {
        Some(text) if text != "-" => text.to_string(),
        _ => of_stdin()?,
    };
    Ok(vec![Prompt { text, ..Prompt::default() }])
}

/// All of stdin, without the newline that ends it.
fn of_stdin() -> Result<String, TrainError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let example = "--prompt TEXT, --prompts FILE, or a prompt on stdin";
        return Err(TrainError::MissingKey { key: "prompt", example });
    }
    let refuse = |problem: String| TrainError::BadFlag { key: "prompt", problem: format!("stdin: {problem}") };
    let mut text = String::new();
    stdin.lock().take(LIMIT_BYTES + 1).read_to_string(&mut text).map_err(|error| refuse(error.to_string()))?;
    if text.len() as u64 > LIMIT_BYTES {
        return Err(refuse(format!("is longer than {LIMIT_BYTES} bytes")));
    }
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_string())
}

fn of_line(path: &Path, line: usize, text: &str) -> Result<Prompt, TrainError> {
    let refuse = |problem: String| {
        let problem = format!("{}:{line}: {problem}", path.display());
        TrainError::BadFlag { key: "prompts", problem }
    };
    let number = Some(line);
    match serde_json::from_str(text).map_err(|error| refuse(format!("is not JSON: {error}")))? {
        Value::String(text) => Ok(Prompt { line: number, text, ..Prompt::default() }),
        Value::Object(mut object) => {
            let prompt = match (object.remove("prompt"), object.remove("messages")) {
                (Some(Value::String(text)), None) => Prompt { text, ..Prompt::default() },
                (None, Some(Value::Array(messages))) => {
                    let messages = messages.iter().map(message).collect::<Result<_, _>>().map_err(refuse)?;
                    Prompt { messages: Some(messages), ..Prompt::default() }
                }
                _ => {
                    let problem = "needs either \"prompt\", a text, or \"messages\", a list";
                    return Err(refuse(problem.to_string()));
                }
            };
            Ok(Prompt { line: number, beside: object, ..prompt })
        }
        _ => Err(refuse("must be a text or an object".to_string())),
    }
}

/// Role and content of a message that has nothing else.
fn message(message: &Value) -> Result<(String, String), String> {
    let object = message.as_object().ok_or("a message must be an object")?;
    if let Some(key) = object.keys().find(|key| !["role", "content"].contains(&key.as_str())) {
        return Err(format!("a message has {key:?}; only role and content are read here"));
    }
    let text = |key: &str| {
        let text = object.get(key).and_then(Value::as_str).map(str::to_string);
        text.ok_or(format!("a message needs {key:?}, a text"))
    };
    Ok((text("role")?, text("content")?))
}
