//! Filters: what stands behind `|`. Jinja2's own, with transformers' `tojson`; left out are those whose result is another
//! every time (`random`) or that make HTML (`urlize`, `xmlattr`). Invariant: as everywhere, paid for first.
//!
//! `values` has those of any value, `texts` those of texts and numbers, `lists` those of lists, `picks` those that choose;
//! `map`, which applies any of them, stands here beside the table.

mod lists;
mod paths;
mod picks;
mod texts;
mod values;

use crate::args::Args;
use crate::builtins::Filter;
use crate::error::{Error, Result};
use crate::interp::Interp;
use crate::value::Value;
use paths::path;

/// Applies a filter to what it is given, with its arguments.
pub(crate) fn apply(filter: Filter, interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    // Chosen first and called then, so that the room on the stack is that of the one filter.
    let function: fn(&mut Interp<'_>, Value, Args) -> Result<Value> = match filter {
        Filter::Abs => texts::abs,
        Filter::Attr => values::attr,
        Filter::Batch => lists::batch,
        Filter::Capitalize => texts::capitalize,
        Filter::Center => texts::center,
        Filter::Default => values::default,
        Filter::Dictsort => lists::dictsort,
        Filter::Escape => texts::escape,
        Filter::First => lists::first,
        Filter::Float => texts::float,
        Filter::Format => texts::format,
        Filter::Groupby => lists::groupby,
        Filter::Indent => texts::indent,
        Filter::Int => texts::int,
        Filter::Items => lists::items,
        Filter::Join => lists::join,
        Filter::Last => lists::last,
        Filter::Length => values::length,
        Filter::List => lists::list,
        Filter::Lower => texts::lower,
        Filter::Map => map,
        Filter::Max => lists::max,
        Filter::Min => lists::min,
        Filter::Pprint => texts::pprint,
        Filter::Reject => picks::reject,
        Filter::Rejectattr => picks::rejectattr,
        Filter::Replace => texts::replace,
        Filter::Reverse => lists::reverse,
        Filter::Round => texts::round,
        Filter::Select => picks::select,
        Filter::Selectattr => picks::selectattr,
        Filter::Slice => lists::slice,
        Filter::Sort => lists::sort,
        Filter::String => texts::string,
        Filter::Striptags => texts::striptags,
        Filter::Sum => lists::sum,
        Filter::Title => texts::title,
        Filter::Tojson => values::tojson,
        Filter::Trim => texts::trim,
        Filter::Truncate => texts::truncate,
        Filter::Unique => lists::unique,
        Filter::Upper => texts::upper,
        Filter::Urlencode => texts::urlencode,
        Filter::Wordcount => texts::wordcount,
        Filter::Wordwrap => texts::wordwrap,
    };
    function(interp, value, args)
}

/// `map('filter', arguments…)` or `map(attribute='name', default=…)`.
fn map(interp: &mut Interp<'_>, value: Value, mut args: Args) -> Result<Value> {
    let items = interp.iterate(&value)?;
    interp.meter.list(items.len())?;
    let mut mapped = Vec::with_capacity(items.len());
    if args.positional.is_empty() {
        let [attribute, default] = args.bind("map", ["attribute", "default"])?;
        if attribute.is_none() {
            return Err(Error::operation("map requires a filter argument"));
        }
        let mut path = path(attribute.as_ref())?;
        path.default = default;
        for item in items.iter() {
            mapped.push(path.of(interp, item)?);
        }
        return interp.generator(mapped);
    }
    let name = args.positional.remove(0);
    let filter = name.as_str().and_then(Filter::named);
    let filter = filter.ok_or_else(|| Error::operation("map: there is no such filter"))?;
    for item in items.iter() {
        let args = args.copy(&mut interp.meter)?;
        mapped.push(interp.deeper(|interp| apply(filter, interp, item.clone(), args))?);
    }
    interp.generator(mapped)
}
