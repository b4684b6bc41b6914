//! The verb `doctor`: what this machine offers, and its measured prices.
//!
//! Invariant: the page goes to stdout, as text or as one JSON object (schema 1; keys are only ever added).

use crate::exit::exit_code;
use crate::ranks;
use crate::terminal;
use crate::units::{bytes, counted};
use remat_comm::{Engine, Link, LinkProbe, gather_all, measure_links};
use remat_plan::{OpClass, Prices, SpillPrices};
use remat_step::DeviceOptions;
use remat_step::device::{Card, cuda_cards, measure_spill};
use remat_train::{
    Isa, Machine, Measuring, Precision, PriceCorrection, PriceHistory, PriceSource, TrainError, available_bytes, build,
    device_options, group_limit_bytes, measured_profile, price_file, price_history,
};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat doctor
  remat doctor --measure --threads 4
  mpirun -n 2 remat doctor     # what joins the ranks, too
  remat doctor --offload /mnt/nvme --json > server.json; remat plan --prices server.json --preset llama-3.1-8b

Prices are what each kind of operation costs in time. They are measured once, kept in a cache, and used by plan and train;
different threads or another version are measured anew. A run whose steps take a tenth more or less than prices say
corrects them. What --json prints can be given to plan, train and profile, on
another machine too, by --prices.";

/// How long a rank may be without a sign of life.
const RANK_TIMEOUT: Duration = Duration::from_secs(10);

/// Flags of `remat doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Measure prices anew, whatever the cache holds
    #[arg(long)]
    measure: bool,

    /// Threads [default: all]
    #[arg(long, value_name = "N", value_parser = crate::settings::threads)]
    threads: Option<usize>,

    /// Instruction set to measure [default: the strongest this machine has]
    #[arg(long, value_enum)]
    isa: Option<Isa>,

    /// Number format to show prices of [default: both]
    #[arg(long, value_enum)]
    precision: Option<Precision>,

    /// Measure what copies to and from this folder cost, as --offload of plan and train does
    #[arg(long, value_name = "DIR")]
    offload: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found.
struct Found {
    machine: Machine,
    options: DeviceOptions,
    measured: Vec<Measured>,
    copies: Option<(PathBuf, SpillPrices)>,
    links: Vec<NamedLink>,
}

/// Prices of one number format.
struct Measured {
    precision: Precision,
    prices: Prices,
    source: PriceSource,
    /// Where they are kept.
    history: Option<PriceHistory>,
}

/// Looks and returns the exit code. Of several ranks, all measure what joins them, and rank 0 says what it found.
pub(crate) fn run(arguments: &DoctorArgs) -> u8 {
    match joined().and_then(|links| if links.speaks { look(arguments, links.all) } else { Ok(None) }) {
        Ok(None) => 0,
        Ok(Some(found)) => {
            let page = match arguments.json {
                true => format!("{}\n", object(&found)),
                false => page(&found),
            };
            // A reader that went away is no failure.
            drop(write!(std::io::stdout(), "{page}"));
            0
        }
        Err(error) => {
            terminal::error(&error.to_string());
            exit_code(error.kind())
        }
    }
}

/// Links between ranks, and whether this is the rank that says so; none of a process alone.
struct Links {
    all: Vec<NamedLink>,
    speaks: bool,
}

/// What joins two ranks, by the names of their hosts.
struct NamedLink {
    hosts: [String; 2],
    link: Link,
}

/// Measures what joins the ranks, if this process is one of several.
fn joined() -> Result<Links, TrainError> {
    let Some(engine) = ranks::join(RANK_TIMEOUT)? else { return Ok(Links { all: Vec::new(), speaks: true }) };
    let links = measure_links(&engine, LinkProbe::THOROUGH)?;
    let hosts: Vec<String> = gather_all(&engine, engine.host().as_bytes())?
        .iter()
        .map(|host| String::from_utf8_lossy(host).into_owned())
        .collect();
    let named = |link: Link| NamedLink { hosts: [link.from, link.to].map(|rank| hosts[rank].clone()), link };
    Ok(Links { all: links.into_iter().map(named).collect(), speaks: engine.rank() == 0 })
}

fn look(arguments: &DoctorArgs, links: Vec<NamedLink>) -> Result<Option<Found>, TrainError> {
    let options = device_options(arguments.threads, arguments.isa)?;
    let formats = arguments.precision.map_or(vec![Precision::F32, Precision::Bf16], |precision| vec![precision]);
    let mut measured = Vec::with_capacity(formats.len());
    let when = if arguments.measure { Measuring::Anew } else { Measuring::IfMissing };
    for precision in formats {
        let (profile, source) = measured_profile(&options, precision, when)?;
        let history = price_history(&options, precision);
        measured.push(Measured { precision, prices: profile.prices, source, history });
    }
    let copies = arguments.offload.clone().map(|folder| Ok::<_, TrainError>((measure_spill(&folder)?, folder)));
    let copies = copies.transpose()?.map(|(prices, folder)| (folder, prices));
    let machine = Machine::this(&options.level.to_string(), options.threads);
    Ok(Some(Found { machine, options, measured, copies, links }))
}

fn number_format(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

fn source_word(source: PriceSource) -> &'static str {
    match source {
        PriceSource::Cached => "from the cache",
        PriceSource::Measured => "measured now",
        PriceSource::MeasuredWhileBusy => "measured now, while the machine was busy with something else",
    }
}

/// Seconds since a time, in the largest unit that fits.
fn age(since: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let seconds = now.saturating_sub(since);
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds >= *unit).unwrap_or((1, "second"));
    counted((seconds / unit) as usize, name)
}

/// How prices were come by: their age, how far the passes lay apart, what runs corrected.
fn come_by(history: &PriceHistory) -> Vec<String> {
    let PriceHistory { measured_at, spread, busy, corrections, .. } = history;
    let doubt = match (busy, corrections.is_empty()) {
        (true, true) => "; the machine was busy, so they are measured again when prices decide",
        (true, false) => "; the machine was busy, and a run has corrected them",
        (false, _) => "",
    };
    let spread = spread.map_or("of single runs".to_string(), |spread| format!("spread {:.1} %", 100.0 * spread));
    let mut lines = vec![format!("{} old, {spread}{doubt}", age(*measured_at))];
    lines.extend(corrections.iter().map(|correction| {
        let PriceCorrection { at, predicted_seconds, measured_seconds, factors } = correction;
        let mut most: Vec<(&String, f64)> = factors.iter().map(|(class, &factor)| (class, factor)).collect();
        most.sort_by(|a, b| b.1.ln().abs().total_cmp(&a.1.ln().abs()));
        let most: Vec<String> = most.iter().take(3).map(|(class, factor)| format!("{class} x {factor:.2}")).collect();
        let from_to = format!("{predicted_seconds:.3} s said, {measured_seconds:.3} s taken");
        format!("corrected {} ago by a run: {from_to}; most: {}", age(*at), most.join(", "))
    }));
    lines
}

/// What a class pays for: arithmetic, bytes, what each op takes besides. A rate that never binds is left out.
fn rate(prices: &Prices, class: OpClass) -> String {
    let rate = prices.rate(class);
    let known = |rate: f64| rate < 1e17;
    let mut terms = Vec::new();
    if known(rate.flops_per_second) {
        terms.push(format!("{:.0} GFLOP/s", rate.flops_per_second / 1e9));
    }
    if known(rate.bytes_per_second) {
        terms.push(format!("{:.1} GB/s", rate.bytes_per_second / 1e9));
    }
    if known(rate.inner_per_second) {
        terms.push(format!("{:.1} G/s inside", rate.inner_per_second / 1e9));
    }
    if rate.overhead_seconds > 0.0 {
        terms.push(format!("{:.0} µs", 1e6 * rate.overhead_seconds));
    }
    terms.join(" + ")
}

fn page(found: &Found) -> String {
    let Found { machine, options, measured, copies, links } = found;
    let known = |size: Option<u64>| size.map_or("unknown".to_string(), bytes);
    let (version, commit, build) = build();
    let mut lines = vec![
        format!("remat     {version} ({}, {build} build)", commit.unwrap_or("unknown commit")),
        format!("cpu       {}", machine.cpu.as_deref().unwrap_or("unknown")),
        format!("kernels   {}, {}", options.level, counted(options.threads, "thread")),
        format!("memory    {}, {} available", known(machine.memory_bytes), known(available_bytes())),
    ];
    if let Some(limit) = group_limit_bytes() {
        lines.push(format!("          a control group allows {}", bytes(limit)));
    }
    lines.extend(card_lines());
    for Measured { precision, source, history, .. } in measured {
        let file = price_file(options, *precision);
        let file =
            file.map_or("nowhere: neither XDG_CACHE_HOME nor HOME is set".to_string(), |p| p.display().to_string());
        lines.push(format!("prices    {}, {}; kept in {file}", number_format(*precision), source_word(*source)));
        lines.extend(history.iter().flat_map(come_by).map(|line| format!("          {line}")));
    }
    if let Some((folder, copies)) = copies {
        let rate = |rate: f64| format!("{}/s", bytes(rate as u64));
        let (out, back) = (rate(copies.write_bytes_per_second), rate(copies.read_bytes_per_second));
        lines.push(format!("copies    {} · {out} out, {back} back, measured now", folder.display()));
    }
    lines.extend(links.iter().map(|NamedLink { hosts: [from, to], link }| {
        let (speed, wait) = (8e-9 * link.bytes_per_second, 1e6 * link.seconds);
        let ranks = format!("ranks {} and {}", link.from, link.to);
        format!("link      {ranks}, {from} and {to}: {speed:.2} Gbit/s in each direction, {wait:.0} µs")
    }));
    lines.push(String::new());
    lines.extend(rate_table(measured));
    lines.join("\n") + "\n"
}

/// The CUDA cards, or why there are none.
fn card_lines() -> Vec<String> {
    let cards = match cuda_cards() {
        Ok(cards) if !cards.is_empty() => cards,
        Ok(_) => return vec!["cuda      no card".to_string()],
        Err(error) => return vec![format!("cuda      {error}")],
    };
    let line = |(index, card): (usize, &Card)| {
        let Card { name, capability: [major, minor], memory_bytes, .. } = card;
        format!("cuda:{index:<4} {name}, {}, compute capability {major}.{minor}", bytes(*memory_bytes as u64))
    };
    cards.iter().enumerate().map(line).collect()
}

/// What is known of a card.
fn card_object(card: &Card) -> Value {
    let Card { name, capability: [major, minor], memory_bytes, shared_bytes } = card;
    json!({
        "name": name,
        "compute_capability": format!("{major}.{minor}"),
        "memory_bytes": memory_bytes,
        "shared_bytes_per_block": shared_bytes,
    })
}

/// A line for each class, a column for each precision, as wide as its widest cell.
fn rate_table(measured: &[Measured]) -> Vec<String> {
    let column = |m: &Measured| -> Vec<String> {
        let rates = OpClass::ALL.iter().map(|&class| rate(&m.prices, class));
        std::iter::once(number_format(m.precision).to_string()).chain(rates).collect()
    };
    let names = std::iter::once("kind of operation").chain(OpClass::ALL.iter().map(|class| class.name()));
    let mut table: Vec<String> = names.map(str::to_string).collect();
    for cells in measured.iter().map(column) {
        let width = table.iter().map(|line| line.chars().count()).max().unwrap_or(0) + 2;
        for (line, cell) in table.iter_mut().zip(cells) {
            *line = format!("{line:<width$}{cell}");
        }
    }
    table
}

fn object(found: &Found) -> Value {
    let Found { machine, options, measured, copies, links } = found;
    let link = |NamedLink { hosts, link }: &NamedLink| {
        json!({
            "ranks": [link.from, link.to],
            "hosts": hosts,
            "bytes_per_second": link.bytes_per_second,
            "seconds": link.seconds,
        })
    };
    let (version, commit, build) = build();
    let of = |m: &Measured| {
        let rates: Map<String, Value> =
            OpClass::ALL.iter().map(|&class| (class.name().to_string(), json!(m.prices.rate(class)))).collect();
        json!({
            "precision": number_format(m.precision),
            "source": source_word(m.source),
            "history": m.history,
            "file": price_file(options, m.precision).map(|path| path.display().to_string()),
            "rates": rates,
        })
    };
    json!({
        "schema": 1,
        "remat_version": version,
        "commit": commit,
        "build": build,
        "machine": machine,
        "available_bytes": available_bytes(),
        "group_limit_bytes": group_limit_bytes(),
        "cuda": cuda_cards().unwrap_or_default().iter().map(card_object).collect::<Vec<_>>(),
        "prices": measured.iter().map(of).collect::<Vec<_>>(),
        "offload": copies.as_ref().map(|(_, prices)| prices),
        "links": links.iter().map(link).collect::<Vec<_>>(),
    })
}
