//! Methods that cut, search, replace and fill texts. Invariant: a part of a text keeps what is known of who says it.

use super::letters::is_space;
use crate::args::{Args, count, int};
use crate::error::{Error, Result};
use crate::indexing::slice;
use crate::meter::Meter;
use crate::show::missing;
use crate::value::{SeqKind, Str, TextBuilder, Value};

/// The text that an argument must be.
pub(super) fn string<'a>(what: &str, value: Option<&'a Value>) -> Result<&'a Str> {
    match value {
        Some(Value::Str(text)) => Ok(text),
        Some(other) if other.is_undefined() => Err(missing(other)),
        Some(other) => Err(Error::operation(format!("{what} needs a text, not {}", other.type_name()))),
        None => Err(Error::operation(format!("{what} needs a text"))),
    }
}

pub(crate) fn strip(text: &Str, name: &str, chars: Option<&Value>) -> Result<Value> {
    let chars = match chars {
        None | Some(Value::None) => None,
        chars => Some(string(name, chars)?.as_str()),
    };
    let stripped = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let all = text.as_str();
    let start = if name == "rstrip" { 0 } else { all.len() - all.trim_start_matches(stripped).len() };
    let end = if name == "lstrip" { all.len() } else { start + all[start..].trim_end_matches(stripped).len() };
    Ok(Value::Str(text.part(start, end)))
}

pub(super) fn split(
    text: &Str,
    from_right: bool,
    separator: Option<&Value>,
    most: Option<&Value>,
    meter: &mut Meter,
) -> Result<Value> {
    let most = most.map_or(Ok(-1), |most| int("split", most))?;
    let most = if most < 0 { usize::MAX } else { most as usize };
    let all = text.as_str();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    match separator {
        None | Some(Value::None) => {
            let mut rest = (0, all.len());
            loop {
                meter.list(2)?;
                // White space is cut off on the side that words are taken from, on the other only by a last word.
                match from_right {
                    true => rest.1 = rest.0 + all[rest.0..rest.1].trim_end_matches(is_space).len(),
                    false => rest.0 = rest.1 - all[rest.0..rest.1].trim_start_matches(is_space).len(),
                }
                let within = &all[rest.0..rest.1];
                if within.is_empty() {
                    break;
                }
                let found = if from_right { within.rfind(is_space) } else { within.find(is_space) };
                let Some(at) = found.filter(|_| ranges.len() < most) else {
                    ranges.push(rest);
                    break;
                };
                if from_right {
                    let after = at + within[at..].chars().next().map_or(0, char::len_utf8);
                    ranges.push((rest.0 + after, rest.1));
                    rest.1 = rest.0 + at;
                } else {
                    ranges.push((rest.0, rest.0 + at));
                    rest.0 += at;
                }
            }
        }
        separator => {
            let separator = string("split", separator)?.as_str();
            if separator.is_empty() {
                return Err(Error::operation("empty separator"));
            }
            let mut rest = (0, all.len());
            loop {
                meter.list(2)?;
                let within = &all[rest.0..rest.1];
                let found = if from_right { within.rfind(separator) } else { within.find(separator) };
                let Some(at) = found.filter(|_| ranges.len() < most) else {
                    ranges.push(rest);
                    break;
                };
                if from_right {
                    ranges.push((rest.0 + at + separator.len(), rest.1));
                    rest.1 = rest.0 + at;
                } else {
                    ranges.push((rest.0, rest.0 + at));
                    rest.0 += at + separator.len();
                }
            }
        }
    }
    if from_right {
        ranges.reverse();
    }
    Value::list(ranges.into_iter().map(|(start, end)| Value::Str(text.part(start, end))).collect())
}

/// Python's line ends.
pub(super) fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// `str.splitlines`.
pub(crate) fn lines(text: &Str, keep: bool, meter: &mut Meter) -> Result<Value> {
    let all = text.as_str();
    let mut lines = Vec::new();
    let mut at = 0;
    while at < all.len() {
        meter.list(2)?;
        let end = all[at..].find(is_line_end).map_or(all.len(), |end| at + end);
        let ending = match &all[end..] {
            rest if rest.starts_with("\r\n") => 2,
            rest => rest.chars().next().map_or(0, char::len_utf8),
        };
        lines.push(Value::Str(text.part(at, if keep { end + ending } else { end })));
        at = end + ending;
    }
    Value::list(lines)
}

pub(super) fn affix(text: &Str, name: &str, args: Args, meter: &mut Meter) -> Result<Value> {
    let [affix, start, end] = args.bind(name, ["prefix", "start", "end"])?;
    let bound = |bound: Option<Value>| match bound {
        None | Some(Value::None) => Ok(None),
        Some(bound) => int(name, &bound).map(Some),
    };
    let part = slice(&Value::Str(text.clone()), [bound(start)?, bound(end)?, None], meter)?;
    let all = part.as_str().unwrap_or_default();
    let affixes = match &affix {
        Some(Value::Seq(seq)) if seq.kind == SeqKind::Tuple => &seq.items[..],
        Some(affix) => std::slice::from_ref(affix),
        None => &[],
    };
    for affix in affixes {
        let affix = string(name, Some(affix))?.as_str();
        meter.scan(affix.len())?;
        if if name == "startswith" { all.starts_with(affix) } else { all.ends_with(affix) } {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

/// `str.replace`, for at most so many places; all if below 0.
pub(crate) fn replace(text: &Str, old: &str, new: &Str, most: i128, meter: &mut Meter) -> Result<Str> {
    let all = text.as_str();
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let places = if old.is_empty() { all.chars().count() + 1 } else { all.matches(old).count() }.min(most);
    meter.text(all.len().saturating_add(places.saturating_mul(new.as_str().len())))?;
    if places == 0 {
        return Ok(text.clone());
    }
    let mut replaced = TextBuilder::default();
    let mut from = 0;
    for (at, found) in all.match_indices(old).take(places) {
        replaced.push(&text.part(from, at));
        replaced.push(new);
        from = at + found.len();
    }
    replaced.push(&text.part(from, all.len()));
    Ok(replaced.finish())
}

pub(super) fn find(text: &Str, name: &str, args: Args) -> Result<Value> {
    let [part, start, end] = args.bind(name, ["sub", "start", "end"])?;
    if end.is_some() {
        return Err(Error::operation(format!("{name} with an end is not supported")));
    }
    let part = string(name, part.as_ref())?.as_str();
    let all = text.as_str();
    let from = match start {
        None | Some(Value::None) => 0,
        Some(start) => {
            let start = int(name, &start)?;
            let start = if start < 0 { (start + all.chars().count() as i128).max(0) } else { start };
            all.char_indices().nth(start as usize).map_or(all.len(), |(at, _)| at)
        }
    };
    let rest = &all[from..];
    let place = match name {
        "count" if part.is_empty() => return Ok(Value::Int(rest.chars().count() as i128 + 1)),
        "count" => return Ok(Value::Int(rest.matches(part).count() as i128)),
        "rfind" | "rindex" => rest.rfind(part),
        _ => rest.find(part),
    };
    match place {
        Some(at) => Ok(Value::Int(all[..from + at].chars().count() as i128)),
        None if name.ends_with("index") => Err(Error::operation("substring not found")),
        None => Ok(Value::Int(-1)),
    }
}

pub(super) fn pad(text: &Str, name: &str, args: Args, meter: &mut Meter) -> Result<Value> {
    let [width, fill] = args.bind(name, ["width", "fillchar"])?;
    let width = count(name, &width.unwrap_or(Value::None))?;
    let fill = fill.as_ref().map_or(Ok(" "), |fill| string(name, Some(fill)).map(Str::as_str))?;
    if fill.chars().count() != 1 {
        return Err(Error::operation("The fill character must be exactly one character long"));
    }
    let length = text.as_str().chars().count();
    let missing = width.saturating_sub(length);
    meter.text(text.as_str().len().saturating_add(missing.saturating_mul(fill.len())))?;
    let before = match name {
        "ljust" => 0,
        // CPython puts the odd one on the left if the width is odd.
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let mut padded = TextBuilder::default();
    let sign = usize::from(name == "zfill" && text.as_str().starts_with(['+', '-']));
    padded.push(&text.part(0, sign));
    padded.push_str(&(if name == "zfill" { "0" } else { fill }).repeat(before));
    padded.push(&text.part(sign, text.as_str().len()));
    padded.push_str(&fill.repeat(missing - before));
    Ok(Value::Str(padded.finish()))
}

pub(super) fn expand_tabs(text: &Str, size: usize, meter: &mut Meter) -> Result<Value> {
    let tabs = text.as_str().matches('\t').count();
    meter.text(text.as_str().len().saturating_add(tabs.saturating_mul(size)))?;
    let mut out = String::new();
    let mut column = 0;
    for c in text.as_str().chars() {
        match c {
            '\t' if size > 0 => {
                let spaces = size - column % size;
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\t' => {}
            c => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(Value::Str(text.remade(out)))
}
