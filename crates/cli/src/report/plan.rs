//! The report of a plan: `plan --report FILE.html`.

use super::{marks, memory_section, short_name, timeline_section};
use crate::units;
use remat_report::{Page, frontier};
use remat_train::RunPlan;
use std::path::Path;

/// The page. `text` is what `plan` prints, whose first line is the verdict.
pub(crate) fn html(plan: &RunPlan, text: &str) -> String {
    let title = format!("{}: the plan of one training step", short_name(Path::new(&plan.model)));
    let mut page = Page::new(&title, text.lines().next().unwrap_or_default());
    let facts: Vec<(String, String)> = text
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name.to_string(), value.trim().to_string()))
        .collect();
    page.facts(&facts);
    page.section("What memory buys");
    let (plans, chosen) = marks(plan);
    let tiles = if plan.micro.tiles() > 1 { ", which cuts wide values into tiles; the others do not" } else { "" };
    let caption =
        format!("Each point is a plan: the more memory, the less is computed again. The circle is this plan{tiles}.");
    page.charts(&[(&caption, frontier(&plans, Some(&chosen), &[]))]);
    timeline_section(&mut page, plan);
    memory_section(&mut page, &plan.phases(), &[]);
    if !plan.alternatives.is_empty() {
        page.section("Alternatives, cheapest first");
        let rows: Vec<Vec<String>> = plan
            .alternatives
            .iter()
            .map(|alternative| {
                let saves = units::bytes(alternative.saves_bytes as u64);
                vec![alternative.change.clone(), saves, format!("{:+.1} %", alternative.costs_percent)]
            })
            .collect();
        page.table(&["change", "saves", "time per token"].map(str::to_string), &rows);
    }
    page.finish()
}
