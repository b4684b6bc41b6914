//! The arena over the time of a micro-step, as an SVG picture: one rectangle per buffer, from its first to its last step,
//! at the bytes where it lies. Hovering over one names it.
//!
//! Invariant: rectangles do not overlap unless an op works in place, as the checker has proved of the plan.

use super::text::seconds;
use crate::units::bytes;
use remat_ir::Phase;
use remat_plan::Action;
use remat_train::RunPlan;
use std::fmt::Write;

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 90.0;
const TOP: f64 = 70.0;
const TICKS: usize = 5;

/// What a rectangle is, with its colour.
const KINDS: [(&str, &str); 5] = [
    ("kept for backward", "#3b6fb6"),
    ("forward, transient", "#a9bfd9"),
    ("recomputed", "#e08a2e"),
    ("backward", "#8db580"),
    ("workspace", "#9c6aa8"),
];

/// The picture.
pub(super) fn svg(plan: &RunPlan) -> String {
    let (full_width, full_height) = (LEFT + WIDTH + 30.0, TOP + HEIGHT + 60.0);
    let mut page = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {full_width} {full_height}\" font-family=\"sans-serif\" \
         font-size=\"13\"><rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    // Writing to a string cannot fail.
    let title = escaped(&format!(
        "{} · {} × {} tokens · checkpointing {} · arena {}",
        plan.model,
        plan.shape.batch,
        plan.shape.seq_len,
        plan.config.checkpointing,
        bytes(plan.micro.arena_bytes as u64)
    ));
    let _ = writeln!(page, "<text x=\"{LEFT}\" y=\"26\" font-size=\"17\">{title}</text>");
    for (index, (name, colour)) in KINDS.iter().enumerate() {
        let x = LEFT + 190.0 * index as f64;
        let _ = writeln!(
            page,
            "<rect x=\"{x}\" y=\"40\" width=\"14\" height=\"14\" fill=\"{colour}\"/><text x=\"{}\" y=\"52\">{name}</text>",
            x + 20.0
        );
    }
    let times = times(plan);
    page.push_str(&rectangles(plan, &times));
    page.push_str(&axes(plan, &times));
    page.push_str("</svg>\n");
    page
}

/// Predicted seconds from the start to the beginning of every step, and to the end.
fn times(plan: &RunPlan) -> Vec<f64> {
    let graph = &plan.micro.graph;
    let mut now = 0.0;
    let mut times = vec![0.0];
    for step in &plan.micro.steps {
        if let Action::Compute(op) = step.action {
            now += plan.profile.prices.seconds(graph, graph.node(op));
        }
        times.push(now);
    }
    times
}

fn rectangles(plan: &RunPlan, times: &[f64]) -> String {
    let micro = &plan.micro;
    let kept: std::collections::HashSet<String> = micro.saved_residuals().into_iter().map(|r| r.name).collect();
    let end = times.last().copied().unwrap_or(0.0).max(f64::MIN_POSITIVE);
    let arena = micro.arena_bytes.max(1) as f64;
    let mut page = String::new();
    let mut rectangle = |first: usize, last: usize, slot: remat_plan::Slot, kind: usize, name: &str| {
        let (x, width) = (LEFT + WIDTH * times[first] / end, WIDTH * (times[last + 1] - times[first]) / end);
        let height = HEIGHT * slot.bytes as f64 / arena;
        let y = TOP + HEIGHT - HEIGHT * slot.end() as f64 / arena;
        let (label, size) = (escaped(name), bytes(slot.bytes as u64));
        let _ = writeln!(
            page,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{:.2}\" height=\"{:.2}\" fill=\"{}\" stroke=\"#ffffff\" \
             stroke-width=\"0.3\"><title>{label}: {size} at {}</title></rect>",
            width.max(0.4),
            height.max(0.3),
            KINDS[kind].1,
            slot.offset
        );
    };
    for buffer in &micro.buffers {
        let value = micro.graph.value(buffer.value);
        let node = value.producer.map(|(op, _)| micro.graph.node(op));
        let kind = match node {
            Some(node) if node.recompute_of.is_some() => 2,
            _ if kept.contains(&value.name) => 0,
            Some(node) if node.phase == Phase::Backward => 3,
            _ => 1,
        };
        rectangle(buffer.first.index(), buffer.last.index(), buffer.slot, kind, &value.name);
    }
    for (at, step) in micro.steps.iter().enumerate() {
        if let (Some(slot), Action::Compute(op)) = (step.workspace, step.action) {
            rectangle(at, at, slot, 4, &format!("workspace of {}", micro.graph.node(op).name));
        }
    }
    page
}

fn axes(plan: &RunPlan, times: &[f64]) -> String {
    let (bottom, right) = (TOP + HEIGHT, LEFT + WIDTH);
    let mut page = format!("<path d=\"M{LEFT} {TOP} V{bottom} H{right}\" fill=\"none\" stroke=\"#444444\"/>\n");
    for tick in 0..=TICKS {
        let part = tick as f64 / TICKS as f64;
        let (x, y) = (LEFT + WIDTH * part, bottom - HEIGHT * part);
        let time = seconds(times.last().copied().unwrap_or(0.0) * part);
        let size = bytes((plan.micro.arena_bytes as f64 * part) as u64);
        let _ = writeln!(
            page,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{time}</text><text x=\"{}\" y=\"{}\" \
             text-anchor=\"end\">{size}</text>",
            bottom + 20.0,
            LEFT - 8.0,
            y + 4.0
        );
    }
    let _ = writeln!(
        page,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">predicted time of a micro-step</text>",
        LEFT + WIDTH / 2.0,
        bottom + 45.0
    );
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
