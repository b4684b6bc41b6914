//! Python's two ways to format texts: `'%s of %d' % (a, b)` and `'{} of {n:>4}'.format(a, n=b)`. Invariant: a width or
//! precision is paid for before it is filled.

use crate::ast::Name;
use crate::error::{Error, Result};
use crate::indexing::item;
use crate::meter::Meter;
use crate::number::Number;
use crate::show;
use crate::value::{SeqKind, Str, TextBuilder, Value};

/// The longest field, and most digits behind a point: more than any text needs.
const MAX_WIDTH: usize = 100_000;
const MAX_PRECISION: usize = 350;

/// How one field is written.
#[derive(Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

fn bad(what: impl Into<String>) -> Error {
    Error::operation(what)
}

/// `format % arguments`.
pub(crate) fn percent(format: &Str, arguments: &Value, meter: &mut Meter) -> Result<Value> {
    let single = std::slice::from_ref(arguments);
    let list = match arguments {
        Value::Seq(seq) if seq.kind == SeqKind::Tuple => &seq.items[..],
        _ => single,
    };
    let mut next = 0;
    let mut out = TextBuilder::default();
    let text = format.as_str();
    meter.text(text.len())?;
    let mut at = 0;
    while let Some(found) = text[at..].find('%') {
        push_part(&mut out, format, at, at + found);
        at += found + 1;
        let mut spec = Spec::default();
        let mut named = None;
        if text[at..].starts_with('(') {
            let close = text[at..].find(')').ok_or_else(|| bad("incomplete format key"))?;
            named = Some(&text[at + 1..at + close]);
            at += close + 1;
        }
        at += percent_flags(&text[at..], &mut spec)?;
        let kind = text[at..].chars().next().ok_or_else(|| bad("incomplete format"))?;
        at += kind.len_utf8();
        if kind == '%' {
            out.push_str("%");
            continue;
        }
        let value = match named {
            Some(name) => arguments.get(name).ok_or_else(|| bad("a key of the format is missing"))?,
            None => list.get(next).ok_or_else(|| bad("not enough arguments for format string"))?,
        };
        next += usize::from(named.is_none());
        percent_field(&mut out, value, spec, kind, meter)?;
    }
    push_part(&mut out, format, at, text.len());
    if next < list.len() && !matches!(arguments, Value::Dict(_)) {
        return Err(bad("not all arguments converted during string formatting"));
    }
    Ok(Value::Str(out.finish()))
}

fn push_part(out: &mut TextBuilder, text: &Str, from: usize, to: usize) {
    if from < to {
        out.push(&text.part(from, to));
    }
}

/// Flags, width and precision; how many bytes they take.
fn percent_flags(text: &str, spec: &mut Spec) -> Result<usize> {
    let mut rest = text;
    while let Some(flag) = rest.chars().next().filter(|flag| "#0- +".contains(*flag)) {
        match flag {
            '#' => spec.alternate = true,
            '0' => spec.zero = true,
            '-' => spec.align = Some('<'),
            ' ' => spec.sign = spec.sign.or(Some(' ')),
            _ => spec.sign = Some('+'),
        }
        rest = &rest[1..];
    }
    spec.width = take_number(&mut rest, MAX_WIDTH)?.unwrap_or(0);
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        spec.precision = Some(take_number(&mut rest, MAX_WIDTH)?.unwrap_or(0));
    }
    rest = rest.trim_start_matches(['h', 'l', 'L']);
    Ok(text.len() - rest.len())
}

fn take_number(rest: &mut &str, most: usize) -> Result<Option<usize>> {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    if digits.is_empty() {
        return Ok(None);
    }
    let number: Option<usize> = digits.parse().ok().filter(|number| *number <= most);
    number.map(Some).ok_or_else(|| bad(format!("a format has a number above {most}")))
}

fn percent_field(out: &mut TextBuilder, value: &Value, mut spec: Spec, kind: char, meter: &mut Meter) -> Result<()> {
    let number = |value: &Value| match value.number() {
        Some(number) => Ok(number),
        None => Err(bad(format!("%{kind} format: a number is required, not {}", value.type_name()))),
    };
    match kind {
        's' | 'r' | 'a' => {
            let text = if kind == 's' { show::text(value, meter)? } else { show::repr(value, meter)? };
            spec.zero = false;
            spec.align = spec.align.or(Some('>'));
            write_text(out, &text, &spec, meter)
        }
        'c' => {
            let text = match value {
                Value::Int(code) => u32::try_from(*code).ok().and_then(char::from_u32).map(String::from),
                value => value.as_str().filter(|text| text.chars().count() == 1).map(str::to_string),
            };
            let text = text.ok_or_else(|| bad("%c requires int or char"))?;
            write_text(out, &Str::new(text, None), &spec, meter)
        }
        'd' | 'i' | 'u' => {
            let whole = match number(value)? {
                Number::Int(value) => value,
                Number::Float(value) => value.trunc() as i128,
            };
            spec.kind = Some('d');
            write_number(out, Number::Int(whole), &spec, meter)
        }
        'x' | 'X' | 'o' => {
            spec.kind = Some(kind);
            write_number(out, number(value)?, &spec, meter)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            spec.kind = Some(kind);
            write_number(out, Number::Float(number(value)?.float()), &spec, meter)
        }
        other => Err(bad(format!("unsupported format character {other:?}"))),
    }
}

/// `format.format(positional…, named…)`.
pub(crate) fn braces(format: &Str, positional: &[Value], named: &[(Name, Value)], meter: &mut Meter) -> Result<Value> {
    let mut out = TextBuilder::default();
    let text = format.as_str();
    meter.text(text.len())?;
    let mut automatic = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find(['{', '}']) {
        push_part(&mut out, format, at, at + found);
        at += found;
        let rest = &text[at..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            out.push_str(&rest[..1]);
            at += 2;
            continue;
        }
        if rest.starts_with('}') {
            return Err(bad("Single '}' encountered in format string"));
        }
        let close = rest.find('}').ok_or_else(|| bad("expected '}' before end of string"))?;
        let field = &rest[1..close];
        at += close + 1;
        if field.contains('{') {
            return Err(bad("a format within a format is not supported"));
        }
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = name.split_once('!').map_or((name, None), |(name, how)| (name, Some(how)));
        let value = field_value(name, positional, named, &mut automatic, meter)?;
        let spec = parse_spec(spec)?;
        match conversion {
            Some("r") => write_text(&mut out, &show::repr(&value, meter)?, &spec, meter)?,
            Some("s") => write_text(&mut out, &show::text(&value, meter)?, &spec, meter)?,
            Some(_) => return Err(bad("unknown conversion in a format")),
            None => write_value(&mut out, &value, &spec, meter)?,
        }
    }
    push_part(&mut out, format, at, text.len());
    Ok(Value::Str(out.finish()))
}

fn field_value(
    name: &str,
    positional: &[Value],
    named: &[(Name, Value)],
    automatic: &mut usize,
    meter: &mut Meter,
) -> Result<Value> {
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut path) = name.split_at(end);
    let missing = || bad("a field of the format has no argument");
    let mut value = match first.parse::<usize>() {
        Ok(index) => positional.get(index).cloned().ok_or_else(missing)?,
        Err(_) if first.is_empty() => {
            *automatic += 1;
            positional.get(*automatic - 1).cloned().ok_or_else(missing)?
        }
        Err(_) => named.iter().find(|(key, _)| **key == *first).map(|(_, value)| value.clone()).ok_or_else(missing)?,
    };
    while !path.is_empty() {
        let inner = path.strip_prefix('[').ok_or_else(|| bad("a format may only look up [keys]"))?;
        let close = inner.find(']').ok_or_else(|| bad("Missing ']' in format string"))?;
        let key = inner[..close].parse::<i128>().map_or_else(|_| Value::from(&inner[..close]), Value::Int);
        value = item(&value, &key, meter)?.ok_or_else(missing)?;
        path = &inner[close + 1..];
    }
    Ok(value)
}

/// Python's format specification: `[[fill]align][sign][#][0][width][grouping][.precision][type]`.
fn parse_spec(text: &str) -> Result<Spec> {
    let mut spec = Spec::default();
    let mut rest = text;
    let mut chars = rest.chars();
    let (first, second) = (chars.next(), chars.next());
    if let (Some(fill), Some(align @ ('<' | '>' | '^' | '='))) = (first, second) {
        (spec.fill, spec.align) = (Some(fill), Some(align));
        rest = &rest[fill.len_utf8() + 1..];
    } else if let Some(align @ ('<' | '>' | '^' | '=')) = first {
        spec.align = Some(align);
        rest = &rest[1..];
    }
    if let Some(sign) = rest.chars().next().filter(|sign| "+- ".contains(*sign)) {
        spec.sign = Some(sign);
        rest = &rest[1..];
    }
    for (flag, set) in [('#', &mut spec.alternate), ('0', &mut spec.zero)] {
        if let Some(after) = rest.strip_prefix(flag) {
            *set = true;
            rest = after;
        }
    }
    spec.width = take_number(&mut rest, MAX_WIDTH)?.unwrap_or(0);
    if let Some(grouping) = rest.chars().next().filter(|c| ",_".contains(*c)) {
        spec.grouping = Some(grouping);
        rest = &rest[1..];
    }
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        spec.precision =
            Some(take_number(&mut rest, MAX_WIDTH)?.ok_or_else(|| bad("Format specifier missing precision"))?);
    }
    let mut kinds = rest.chars();
    spec.kind = kinds.next();
    match kinds.next() {
        None => Ok(spec),
        Some(_) => Err(bad("Invalid format specifier")),
    }
}

fn write_value(out: &mut TextBuilder, value: &Value, spec: &Spec, meter: &mut Meter) -> Result<()> {
    match value.number() {
        Some(_) if matches!(value, Value::Bool(_)) && spec.kind.is_none() => {
            write_text(out, &show::text(value, meter)?, spec, meter)
        }
        Some(number) => write_number(out, number, spec, meter),
        None if matches!(spec.kind, None | Some('s')) => write_text(out, &show::text(value, meter)?, spec, meter),
        None => Err(bad(format!("Unknown format code for a value of type {}", value.type_name()))),
    }
}

fn write_text(out: &mut TextBuilder, text: &Str, spec: &Spec, meter: &mut Meter) -> Result<()> {
    meter.scan(text.as_str().len())?;
    let end = spec.precision.and_then(|most| text.as_str().char_indices().nth(most));
    let text = text.part(0, end.map_or(text.as_str().len(), |(end, _)| end));
    let missing = spec.width.saturating_sub(text.as_str().chars().count());
    let fill = spec.fill.unwrap_or(if spec.zero { '0' } else { ' ' });
    let before = match spec.align {
        Some('>' | '=') => missing,
        Some('^') => missing / 2,
        _ => 0,
    };
    meter.text(text.as_str().len() + missing.saturating_mul(fill.len_utf8()))?;
    out.text.extend(std::iter::repeat_n(fill, before));
    out.push(&text);
    out.text.extend(std::iter::repeat_n(fill, missing - before));
    Ok(())
}

fn write_number(out: &mut TextBuilder, number: Number, spec: &Spec, meter: &mut Meter) -> Result<()> {
    let (negative, digits) = digits(number, spec)?;
    let sign = match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    };
    let prefix = match spec.kind {
        Some(kind @ ('x' | 'X' | 'o' | 'b')) if spec.alternate => format!("{sign}0{kind}"),
        _ => sign.to_string(),
    };
    let width = prefix.len() + digits.len();
    let missing = spec.width.saturating_sub(width);
    meter.text(width + missing.saturating_mul(4))?;
    let inside = matches!(spec.align, Some('=')) || (spec.zero && spec.align.is_none());
    let fill = spec.fill.unwrap_or(if spec.zero && spec.align != Some('<') { '0' } else { ' ' });
    let before = match spec.align {
        Some('<') => 0,
        Some('^') => missing / 2,
        _ => missing,
    };
    let text = &mut out.text;
    if inside {
        text.push_str(&prefix);
        text.extend(std::iter::repeat_n(fill, missing));
        text.push_str(&digits);
    } else {
        text.extend(std::iter::repeat_n(fill, before));
        text.extend([prefix.as_str(), digits.as_str()]);
        text.extend(std::iter::repeat_n(fill, missing - before));
    }
    Ok(())
}

/// Whether a number is below zero, and its digits.
fn digits(number: Number, spec: &Spec) -> Result<(bool, String)> {
    let kind = spec.kind.unwrap_or(if matches!(number, Number::Int(_)) { 'd' } else { 'r' });
    if let Number::Int(value) = number {
        let size = value.unsigned_abs();
        let text = match kind {
            'd' | 'n' => size.to_string(),
            'x' => format!("{size:x}"),
            'X' => format!("{size:X}"),
            'o' => format!("{size:o}"),
            'b' => format!("{size:b}"),
            'c' => return Err(bad("format code 'c' is not supported")),
            _ => return digits(Number::Float(value as f64), spec),
        };
        return Ok((value < 0, grouped(&text, spec.grouping)));
    }
    let value = number.float();
    if !value.is_finite() {
        let text = if value.is_nan() { "nan" } else { "inf" };
        return Ok((value < 0.0, text.to_string()));
    }
    let precision = spec.precision.unwrap_or(6);
    if precision > MAX_PRECISION {
        return Err(bad(format!("a precision above {MAX_PRECISION}")));
    }
    let size = value.abs();
    let text = match kind {
        'f' | 'F' => format!("{size:.precision$}"),
        'e' | 'E' => show::exponent_form(&format!("{size:.precision$e}")),
        '%' => format!("{:.precision$}%", size * 100.0),
        'g' | 'G' => general(size, precision, spec.alternate),
        'r' if spec.precision.is_some() => general_float(size, precision),
        'r' => show::float(size),
        other => return Err(bad(format!("Unknown format code {other:?} for a float"))),
    };
    let text = if kind.is_ascii_uppercase() { text.to_uppercase() } else { text };
    let (whole, rest) = text.find(['.', 'e', '%']).map_or((&text[..], ""), |at| text.split_at(at));
    Ok((value.is_sign_negative(), format!("{}{rest}", grouped(whole, spec.grouping))))
}

/// C's `%g`: so many significant digits, without zeros at the end.
fn general(size: f64, precision: usize, keep_zeros: bool) -> String {
    let precision = precision.max(1);
    let scientific = format!("{size:.*e}", precision - 1);
    let exponent: i32 = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    let trim = |text: &str| match text.contains('.') && !keep_zeros {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        return show::exponent_form(&format!("{}e{exponent}", trim(digits)));
    }
    trim(&format!("{size:.*}", (precision as i32 - 1 - exponent).max(0) as usize))
}

/// A float with a precision and no type: as `g`, but it looks like a float.
fn general_float(size: f64, precision: usize) -> String {
    let text = general(size, precision, false);
    if text.contains(['.', 'e']) { text } else { format!("{text}.0") }
}

fn grouped(digits: &str, separator: Option<char>) -> String {
    let Some(separator) = separator else { return digits.to_string() };
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}
