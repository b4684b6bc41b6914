//! What has to be the same on all ranks before the first step, and what each rank takes of a host that it shares.
//!
//! Invariant: whatever decides a byte of the result is compared; ranks that differ refuse to train, and name what differs.

use crate::ranks::host_share::{check_on_ranks, shared};
use crate::run::prepare::Prepared;
use crate::settings::isa::Isa;
use crate::{Checks, TrainConfig, TrainError};
use clap::ValueEnum;
use remat_comm::{Engine, gather_all};
use remat_formats::SettingName;
use remat_step::device::Level;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Settings that may differ, since no byte of the result depends on them.
const FREE: [&str; 8] = ["threads", "memory", "device-memory", "max-memory", "device-map", "offload", "prices", "isa"];

/// Settles what the ranks of a run share: settings that are the same, the lowest instruction set of all, and for each rank
/// its part of the host's threads and memory, where the settings do not say.
///
/// # Errors
/// A setting that another rank was given otherwise.
pub(crate) fn agree(mut config: TrainConfig, checks: Checks, engine: &dyn Engine) -> Result<TrainConfig, TrainError> {
    check_on_ranks(&config)?;
    let level = config.device_options().level;
    let levels = gather_all(engine, level.name().as_bytes())?;
    let lowest = Level::ALL.into_iter().find(|level| levels.iter().any(|other| other == level.name().as_bytes()));
    if let Some(lowest) = lowest.filter(|&lowest| lowest != level) {
        config.isa = Isa::value_variants().iter().copied().find(|&isa| Level::from(isa) == lowest);
    }
    same_settings(&config, checks, engine)?;
    let hosts = gather_all(engine, engine.host().as_bytes())?;
    let here = hosts.iter().filter(|host| *host == engine.host().as_bytes()).count();
    Ok(shared(config, here))
}

fn same_settings(config: &TrainConfig, checks: Checks, engine: &dyn Engine) -> Result<(), TrainError> {
    let mut table = config.to_table();
    FREE.iter().for_each(|key| drop(table.remove(*key)));
    let keys = TrainConfig::keys();
    let value = |key: &String| table.get(key).map_or_else(|| "unset".to_string(), |value| value.to_string());
    let mut mine: Vec<(String, String)> = keys.iter().map(|key| (SettingName(key).to_string(), value(key))).collect();
    let every = checks.compare_ranks_every.to_string();
    mine.push((SettingName("compare-ranks-every").to_string(), every));
    compare(&mine, engine)
}

/// Compares what was read and what is to be computed.
///
/// # Errors
/// What differs on another rank.
pub(crate) fn compare_prepared(prepared: &Prepared, engine: &dyn Engine) -> Result<(), TrainError> {
    let position = serde_json::to_string(&prepared.loader.state()).unwrap_or_default();
    let resumed = prepared.resumed.as_ref().map_or(0, |resumed| resumed.save.step);
    let mine = [
        ("the settings after the model and rows were read", settings_of(&prepared.config)),
        ("the data", position),
        ("the save to go on from", format!("update {resumed}")),
        ("what ranks do together", hash(&prepared.agreed_text())),
    ];
    compare(&mine.map(|(what, value)| (what.to_string(), value)), engine)
}

fn settings_of(config: &TrainConfig) -> String {
    let mut table = config.to_table();
    FREE.iter().for_each(|key| drop(table.remove(*key)));
    hash(&table.to_string())
}

/// The same program has the same hash everywhere.
fn hash(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Refuses values, by what they are of, that differ from those of rank 0. Every rank sees all, so that all refuse.
fn compare(mine: &[(String, String)], engine: &dyn Engine) -> Result<(), TrainError> {
    let text = serde_json::to_vec(mine).expect("texts have a JSON form");
    let all = gather_all(engine, &text)?;
    let read = |bytes: &Vec<u8>| serde_json::from_slice::<Vec<(String, String)>>(bytes).unwrap_or_default();
    let first = read(&all[0]);
    for (rank, other) in all.iter().enumerate().skip(1) {
        let other = read(other);
        if first.len() != other.len() {
            let (what, first, other) = ("remat".to_string(), "one version".to_string(), "another".to_string());
            return Err(TrainError::RanksDiffer { what, rank, first, other });
        }
        if let Some(((what, first), (_, other))) = first.iter().zip(&other).find(|(first, other)| first != other) {
            let (what, first, other) = (what.clone(), first.clone(), other.clone());
            return Err(TrainError::RanksDiffer { what, rank, first, other });
        }
    }
    Ok(())
}
