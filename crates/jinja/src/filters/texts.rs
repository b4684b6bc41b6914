//! Filters of texts and numbers. Invariant: a text that is cut keeps what is known of who says it; one that is made anew is
//! said as a whole by whoever said the old one.

use crate::args::{Args, count, int as whole};
use crate::error::{Error, Result};
use crate::format::percent;
use crate::interp::Interp;
use crate::methods;
use crate::number::Number;
use crate::show::{self, missing};
use crate::value::{Str, TextBuilder, Value};

/// `str()` of what is filtered, paid for as a text to be made of it.
fn soft(interp: &mut Interp<'_>, value: &Value) -> Result<Str> {
    let text = show::text(value, &mut interp.meter)?;
    interp.meter.text(text.as_str().len())?;
    Ok(text)
}

fn method(interp: &mut Interp<'_>, value: &Value, name: &str, args: Args) -> Result<Value> {
    let text = Value::Str(soft(interp, value)?);
    methods::call(interp, &text, &name.into(), args)
}

pub(super) fn lower(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    method(interp, &value, "lower", args)
}

pub(super) fn upper(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    method(interp, &value, "upper", args)
}

pub(super) fn capitalize(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    method(interp, &value, "capitalize", args)
}

pub(super) fn center(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [width] = args.bind("center", ["width"])?;
    let width = width.unwrap_or(Value::Int(80));
    method(interp, &value, "center", Args { positional: vec![width], named: Vec::new() })
}

pub(super) fn string(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("string")?;
    show::text(&value, &mut interp.meter).map(Value::Str)
}

pub(super) fn trim(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [chars] = args.bind("trim", ["chars"])?;
    let text = soft(interp, &value)?;
    methods::strip(&text, "strip", chars.as_ref())
}

/// Words as Jinja finds them: a capital, then small letters.
pub(super) fn title(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("title")?;
    let text = soft(interp, &value)?;
    let mut titled = String::new();
    let mut begins = true;
    for c in text.as_str().chars() {
        match begins {
            true => titled.extend(c.to_uppercase()),
            false => titled.extend(c.to_lowercase()),
        }
        begins = methods::is_space(c) || "-({[<".contains(c);
    }
    Ok(Value::Str(text.remade(titled)))
}

pub(super) fn replace(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [old, new, most] = args.bind("replace", ["old", "new", "count"])?;
    let (Some(old), Some(new)) = (old, new) else {
        return Err(Error::operation("replace needs what to replace and what by"));
    };
    let text = show::text(&value, &mut interp.meter)?;
    let (old, new) = (soft(interp, &old)?, soft(interp, &new)?);
    let most = match most {
        None | Some(Value::None) => -1,
        Some(most) => whole("replace", &most)?,
    };
    methods::replace(&text, old.as_str(), &new, most, &mut interp.meter).map(Value::Str)
}

/// `indent(width=4, first=False, blank=False)`.
pub(super) fn indent(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [width, first, blank] = args.bind("indent", ["width", "first", "blank"])?;
    let is = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
    let (first, blank) = (is(first), is(blank));
    let text = show::text(&value, &mut interp.meter)?;
    let indention = match width {
        Some(Value::Str(text)) => text.as_str().to_string(),
        width => {
            let width = width.map_or(Ok(4), |width| count("indent", &width))?;
            interp.meter.text(width)?;
            " ".repeat(width)
        }
    };
    // One more newline, so that an empty last line is a line.
    let mut whole = TextBuilder::default();
    whole.push(&text);
    whole.push_str("\n");
    let lines = methods::lines(&whole.finish(), false, &mut interp.meter)?;
    let mut out = TextBuilder::default();
    for (index, line) in lines.items().unwrap_or_default().iter().enumerate() {
        let Value::Str(line) = line else { continue };
        interp.meter.text(line.as_str().len() + indention.len() + 1)?;
        out.push_str(if index > 0 { "\n" } else { "" });
        let indented = if index == 0 { first } else { blank || !line.as_str().is_empty() };
        out.push_str(if indented { &indention } else { "" });
        out.push(line);
    }
    Ok(Value::Str(out.finish()))
}

pub(super) fn format(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let format = soft(interp, &value)?;
    if !args.named.is_empty() && !args.positional.is_empty() {
        return Err(Error::operation("can't handle positional and keyword arguments at the same time"));
    }
    let arguments = match args.named.is_empty() {
        true => Value::tuple(args.positional)?,
        false => Value::dict(args.named.into_iter().map(|(name, value)| (name.to_string(), value)))?,
    };
    percent(&format, &arguments, &mut interp.meter)
}

/// `int(default=0, base=10)`.
pub(super) fn int(_: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [default, base] = args.bind("int", ["default", "base"])?;
    let base = base.map_or(Ok(10), |base| whole("int", &base))?;
    let default = default.unwrap_or(Value::Int(0));
    let of_float = |number: f64| match number.is_finite() && number.abs() < 1e38 {
        true => Value::Int(number.trunc() as i128),
        false => default.clone(),
    };
    Ok(match &value {
        Value::Undefined(_) => return Err(missing(&value)),
        Value::Str(text) => match parse_int(text.as_str(), base) {
            Some(number) => Value::Int(number),
            None => parse_float(text.as_str()).map_or_else(|| default.clone(), of_float),
        },
        value => match value.number() {
            Some(Number::Int(number)) => Value::Int(number),
            Some(Number::Float(number)) => of_float(number),
            None => default.clone(),
        },
    })
}

/// Python's `int(text, base)`: white space around, a sign, `_` between digits, and a prefix of the base.
fn parse_int(text: &str, base: i128) -> Option<i128> {
    let text = text.trim_matches(methods::is_space);
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let prefixes = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)];
    let prefixed = prefixes.iter().find(|(prefix, of)| (base == *of || base == 0) && digits.starts_with(prefix));
    let (digits, base) = match prefixed {
        Some((prefix, base)) => (&digits[prefix.len()..], *base),
        None => (digits, if base == 0 { 10 } else { base }),
    };
    let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base))?;
    let apart = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    if apart || !digits.starts_with(|c: char| c.is_digit(base)) {
        return None;
    }
    let number = i128::from_str_radix(&digits.replace('_', ""), base).ok()?;
    Some(if negative { -number } else { number })
}

fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(methods::is_space);
    let apart = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    if apart { None } else { text.replace('_', "").parse().ok() }
}

pub(super) fn float(_: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [default] = args.bind("float", ["default"])?;
    let number = match &value {
        Value::Undefined(_) => return Err(missing(&value)),
        Value::Str(text) => parse_float(text.as_str()),
        value => value.number().map(Number::float),
    };
    Ok(number.map_or_else(|| default.unwrap_or(Value::Float(0.0)), Value::Float))
}

pub(super) fn abs(_: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("abs")?;
    match value.number() {
        Some(Number::Int(number)) => Ok(Value::Int(number.checked_abs().unwrap_or(i128::MAX))),
        Some(Number::Float(number)) => Ok(Value::Float(number.abs())),
        None if value.is_undefined() => Err(missing(&value)),
        None => Err(Error::operation(format!("abs of a {}", value.type_name()))),
    }
}

/// `round(precision=0, method='common')`.
pub(super) fn round(_: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [precision, method] = args.bind("round", ["precision", "method"])?;
    let precision = precision.map_or(Ok(0), |precision| whole("round", &precision))?;
    let Some(precision) = i32::try_from(precision).ok().filter(|precision| (-300..=300).contains(precision)) else {
        return Err(Error::operation("round takes a precision from -300 to 300"));
    };
    let number = match value.number() {
        Some(number) => number,
        None if value.is_undefined() => return Err(missing(&value)),
        None => return Err(Error::operation(format!("round of a {}", value.type_name()))),
    };
    let scale = 10f64.powi(precision);
    match method.as_ref().and_then(Value::as_str).unwrap_or("common") {
        "common" => match number {
            Number::Int(_) if precision >= 0 => Ok(value),
            Number::Float(float) if precision >= 0 => {
                // Rust rounds the digits of a float half to even, exactly, as Python does.
                let text = std::format!("{float:.*}", precision as usize);
                Ok(Value::Float(text.parse().unwrap_or(float)))
            }
            number => {
                let rounded = (number.float() * scale).round_ties_even() / scale;
                Ok(if matches!(number, Number::Int(_)) { Value::Int(rounded as i128) } else { Value::Float(rounded) })
            }
        },
        "ceil" => Ok(Value::Float((number.float() * scale).ceil() / scale)),
        "floor" => Ok(Value::Float((number.float() * scale).floor() / scale)),
        _ => Err(Error::operation("method must be common, ceil or floor")),
    }
}

pub(super) fn escape(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("escape")?;
    let text = soft(interp, &value)?;
    interp.meter.text(text.as_str().len().saturating_mul(5))?;
    let mut escaped = String::new();
    for c in text.as_str().chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    Ok(Value::Str(text.remade(escaped)))
}

/// Only what fits in one line of 80 characters, which `pprint` leaves as it is.
pub(super) fn pprint(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("pprint")?;
    let text = show::repr(&value, &mut interp.meter)?;
    match text.as_str().chars().count() < 80 {
        true => Ok(Value::Str(text)),
        false => Err(Error::operation("pprint of what takes more than a line is not supported")),
    }
}

pub(super) fn striptags(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("striptags")?;
    let text = soft(interp, &value)?;
    let mut kept = String::new();
    let mut rest = text.as_str();
    while let Some((before, tag)) = rest.split_once('<') {
        kept.push_str(before);
        match tag.split_once('>') {
            Some((tag, _)) if tag.starts_with("!--") => {
                let end = rest.find("-->").map_or(rest.len(), |end| end + 3);
                rest = &rest[end..];
            }
            Some((_, after)) => rest = after,
            None => {
                kept.push('<');
                rest = tag;
            }
        }
    }
    kept.push_str(rest);
    let words: Vec<&str> = kept.split(methods::is_space).filter(|word| !word.is_empty()).collect();
    Ok(Value::Str(text.remade(words.join(" "))))
}

/// `truncate(length=255, killwords=False, end='...', leeway=5)`.
pub(super) fn truncate(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [length, killwords, end, leeway] = args.bind("truncate", ["length", "killwords", "end", "leeway"])?;
    let length = length.map_or(Ok(255), |length| count("truncate", &length))?;
    let leeway = leeway.map_or(Ok(5), |leeway| count("truncate", &leeway))?;
    let end = end.unwrap_or_else(|| Value::text("..."));
    let text = soft(interp, &value)?;
    let Value::Str(end) = &end else { return Err(Error::operation("truncate: the end is a text")) };
    let chars = text.as_str().chars().count();
    let end_chars = end.as_str().chars().count();
    if length < end_chars {
        return Err(Error::operation(std::format!("expected length >= {end_chars}, got {length}")));
    }
    if chars <= length.saturating_add(leeway) {
        return Ok(Value::Str(text));
    }
    let cut = text.as_str().char_indices().nth(length - end_chars).map_or(0, |(at, _)| at);
    let cut = match killwords.is_some_and(|killwords| killwords.is_true()) {
        true => cut,
        false => text.as_str()[..cut].rfind(' ').unwrap_or(cut),
    };
    let mut out = TextBuilder::default();
    out.push(&text.part(0, cut));
    out.push(end);
    Ok(Value::Str(out.finish()))
}

pub(super) fn urlencode(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("urlencode")?;
    if matches!(value, Value::Seq(_) | Value::Dict(_)) {
        return Err(Error::operation("urlencode of a list or dictionary is not supported"));
    }
    let text = soft(interp, &value)?;
    interp.meter.text(text.as_str().len().saturating_mul(3))?;
    let mut out = String::new();
    for byte in text.as_str().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' | b'/' => out.push(byte as char),
            byte => out.push_str(&std::format!("%{byte:02X}")),
        }
    }
    Ok(Value::Str(text.remade(out)))
}

pub(super) fn wordcount(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("wordcount")?;
    let text = soft(interp, &value)?;
    let words = text.as_str().split(|c: char| !c.is_alphanumeric() && c != '_');
    Ok(Value::Int(words.filter(|word| !word.is_empty()).count() as i128))
}

/// Lines of whole words; only without words that are longer than a line.
pub(super) fn wordwrap(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [width] = args.bind("wordwrap", ["width"])?;
    let width = width.map_or(Ok(79), |width| count("wordwrap", &width))?;
    let text = soft(interp, &value)?;
    let lines = methods::lines(&text, false, &mut interp.meter)?;
    let mut out: Vec<String> = Vec::new();
    for line in lines.items().unwrap_or_default() {
        let mut current = String::new();
        for word in line.as_str().unwrap_or_default().split(' ').filter(|word| !word.is_empty()) {
            if word.chars().count() > width {
                return Err(Error::operation("wordwrap of words longer than a line is not supported"));
            }
            if !current.is_empty() && current.chars().count() + 1 + word.chars().count() > width {
                out.push(std::mem::take(&mut current));
            }
            current.push_str(if current.is_empty() { "" } else { " " });
            current.push_str(word);
        }
        out.push(current);
    }
    Ok(Value::Str(text.remade(out.join("\n"))))
}
