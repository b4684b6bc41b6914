//! Every behaviour of the list and the tests that hold it, wherever in the workspace they are.
//!
//! Invariant: a row names tests that exist and are run as such, and every test of this folder that is named after a line is
//! in the table: a behaviour cannot lose its test unnoticed.

use std::path::Path;

/// A line of the list, in short; the file of its tests from `crates/`; their names.
type Row = (&'static str, &'static str, &'static [&'static str]);

const OWN: &str = "remat/tests/semantics";

#[rustfmt::skip]
const LINES: &[Row] = &[
    ("A1 same bits with every policy", OWN, &["a1_loss_and_parameter_gradients_are_bit_identical_under_every_policy", "a1_input_gradients_are_bit_identical_under_every_policy", "a1_threads_change_no_bit"]),
    ("A1 of whole models", "testkit/tests/bit_identity.rs", &["training_is_byte_equal_under_every_policy_and_thread_count"]),
    ("A2 each op once, once more only as planned", OWN, &["a2_each_forward_op_runs_once_and_once_more_only_if_recomputed_and_never_in_the_last_segment"]),
    ("A3 frozen inputs; nothing trainable", OWN, &["a3_frozen_embeddings_may_feed_the_first_region", "a3_nothing_trainable_is_an_error_before_the_run", "a3_a_parameter_that_the_loss_does_not_reach_is_named_before_the_run"]),
    ("A4 any number of values", OWN, &["a4_regions_take_and_return_any_number_of_values"]),
    ("A5 a subset of gradients", OWN, &["a5_gradients_of_a_subset_prune_the_rest_of_backward"]),
    ("A6 live bytes fall", OWN, &["a6_live_bytes_fall_from_block_to_block_of_backward"]),
    ("A7 stored once; both gradients", OWN, &["a7_a_value_kept_and_returned_is_stored_once", "a7_a_parameter_used_inside_and_outside_a_region_accumulates_both_gradients"]),
    ("A8 inference", OWN, &["a8_without_gradients_a_region_costs_and_keeps_nothing"]),
    ("A9 a strictly lower peak", OWN, &["a9_the_peak_is_strictly_lower_on_chains_of_two_or_more_blocks"]),
    ("A10 errors leave the session usable", OWN, &["a10_a_region_that_fails_to_build_leaves_the_graph_usable", "a10_a_failing_step_leaves_the_session_usable"]),
    ("B11 dropout replays", OWN, &["b11_dropout_replays_exactly", "b11_dropout_differs_from_run_to_run_and_from_layer_to_layer"]),
    ("B12 mixed precision replays", OWN, &["b12_bf16_replays_with_the_same_roundings"]),
    ("C13 validation", OWN, &["c13_a_custom_op_that_claims_to_be_deterministic_and_is_not_is_caught_and_named", "c13_what_is_declared_not_deterministic_is_kept_and_never_run_again", "c13_validation_passes_on_sound_steps_and_changes_nothing", "c13_poison_changes_no_bit_of_a_sound_step"]),
    ("C13 of the binary", "cli/tests/train/checks.rs", &["validation_and_poison_find_nothing_and_change_no_bit"]),
    ("C13 --explain, --timeline", "cli/tests/plan.rs", &["explain_timeline_and_diff_show_the_plan"]),
    ("D early stop", OWN, &["d_recomputation_ends_with_the_last_value_that_backward_needs", "d_nothing_is_recomputed_where_nothing_is_needed"]),
    ("D of whole models", "testkit/tests/work.rs", &["full_checkpointing_repeats_only_what_backward_reads"]),
    ("E nesting", OWN, &["e_nested_regions_are_bit_identical_under_every_policy", "e_an_op_in_nested_regions_is_recomputed_once_per_level_and_the_last_block_never", "e_a_region_around_all_blocks_changes_no_plan", "e_levels_hold_what_one_child_needs_at_a_time", "e_segments_of_every_n_regions_span_nested_ones", "e_a_region_may_be_inside_a_scope_and_a_scope_inside_a_region"]),
    ("F accumulation", OWN, &["f_micro_batches_sum_to_the_same_bits_with_and_without_checkpointing", "f_the_normaliser_is_the_total_of_rows_that_take_part_over_all_micro_batches", "f_gradients_add_up_until_they_are_zeroed"]),
    ("G predicates and lists", OWN, &["g_a_predicate_sees_op_name_layer_bytes_and_flops", "g_a_list_of_names_keeps_those_and_a_list_of_ops_keeps_those", "g_every_decision_gives_the_same_bits", "g_a_must_beats_a_prefer_and_what_no_rule_names_follows_otherwise"]),
    ("G two products, counted", OWN, &["g_two_products_are_counted_exactly_under_save_all_recompute_all_and_save_the_products"]),
    ("G several results; contradictions", OWN, &["g_results_of_one_op_are_decided_one_by_one", "g_contradictory_musts_are_an_error_that_names_the_value", "g_what_cannot_be_recomputed_is_an_error_that_names_it", "g_a_rule_that_matches_nothing_is_an_error"]),
    ("G offload offloads", OWN, &["g_offload_really_offloads_memory_falls_and_gradients_are_identical", "g_offload_by_name_moves_exactly_those_and_recomputes_as_the_policy_says", "g_a_must_offload_that_cannot_be_is_an_error_that_names_the_value", "g_a_folder_is_measured_where_no_price_is_given_and_impossible_prices_are_refused"]),
    ("G offload of whole models", "testkit/tests/offload.rs", &["what_is_offloaded_comes_back_with_every_bit_below_what_boundaries_alone_need"]),
    ("G JAX's names", OWN, &["g_names_known_from_jax_say_what_they_say_there"]),
    ("H transparency", OWN, &["h_switching_changes_no_parameter_name_no_loss_and_no_saved_file", "h_a_region_names_its_parameters_as_a_scope_does", "h_regions_are_chosen_by_a_predicate_on_layer_names", "h_enabling_twice_is_enabling_once_and_disabling_restores_the_plan_exactly", "h_a_running_step_switches_its_policy_and_goes_on_with_the_same_bits", "h_the_memory_footprint_is_what_transformers_says_and_does_not_change"]),
    ("I every budget; the smallest", OWN, &["i_every_budget_from_the_smallest_up_is_kept_and_gives_the_same_bits", "i_below_the_smallest_budget_the_error_states_it_and_what_would_lower_it", "i_auto_fits_an_arena_or_says_the_smallest", "i_without_regions_everything_is_kept_and_a_smaller_budget_is_refused", "i_below_the_smallest_budget_offload_gives_a_plan_that_meets_it"]),
    ("I the longest batch is planned and run first", "cli/tests/train/lengths.rs", &["plan_and_train_have_a_plan_for_each_length_in_one_arena", "a_run_over_lengths_resumes_exactly_and_stays_within_its_plan"]),
    ("I measured peaks", "cli/tests/train/memory.rs", &["measured_is_within_planned_and_the_rest_is_small", "a_memory_limit_is_kept_by_recomputing_and_changes_no_number", "a_memory_limit_that_nothing_meets_is_refused"]),
    ("I time never rises with the budget", OWN, &["i_planned_time_never_rises_when_the_budget_rises"]),
    ("I against brute force", "compiler/tests/budgets.rs", &["small_graphs_are_solved_optimally", "on_chains_the_gap_is_zero"]),
    ("J introspection", OWN, &["j_saved_residuals_list_every_kept_value_with_type_bytes_layer_and_reader", "j_the_planned_peak_is_the_sum_of_what_is_allocated"]),
    ("K profile", "cli/tests/profile.rs", &["policies_side_by_side_with_a_verdict_and_a_record"]),
];

/// The sources of a file, or of a folder and those in it.
fn sources(place: &str) -> Vec<String> {
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(place)];
    let mut sources = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else {
            sources.push(std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        }
    }
    sources
}

/// Names of the functions of a source that stand right below `#[test]`.
fn tests(source: &str) -> impl Iterator<Item = &str> {
    source.split("#[test]\n").skip(1).filter_map(|rest| rest.strip_prefix("fn ")?.split('(').next())
}

#[test]
fn every_line_of_the_list_has_its_tests() {
    for (line, place, names) in LINES {
        let sources = sources(place);
        let found: Vec<&str> = sources.iter().flat_map(|source| tests(source)).collect();
        for name in *names {
            assert!(found.contains(name), "{line}: no test {name} in crates/{place}");
        }
    }
}

#[test]
fn every_test_named_after_a_line_is_in_the_table() {
    let listed: Vec<&str> = LINES.iter().flat_map(|(_, _, names)| names.iter().copied()).collect();
    for source in sources(OWN) {
        for name in tests(&source) {
            // `a1_…`, `j_…`: a letter of the list, perhaps with a number.
            let (letter, rest) = name.split_at(1);
            let is_named =
                ("a"..="k").contains(&letter) && rest.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('_');
            let article = ["a_custom", "a_missing"].iter().any(|start| name.starts_with(start));
            assert!(!is_named || article || listed.contains(&name), "{name} is in no row");
        }
    }
}

/// The cells of the table of a page, without its heading.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let lines = page.lines().filter(|line| line.starts_with("| "));
    lines.skip(1).map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// What stands between back-ticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn the_page_for_those_who_come_from_elsewhere_names_calls_and_tests_that_exist() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/coming-from.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (own, library) = (sources(OWN), sources("remat/src"));
    let tests: Vec<&str> = own.iter().flat_map(|source| tests(source)).collect();
    let rows = rows(&page);
    assert!(rows.len() > 15, "{} rows", rows.len());
    for row in rows {
        let [what, .., here, held_by] = row[..] else { panic!("too few cells: {row:?}") };
        assert_eq!(row.len(), 7, "{what}");
        assert!(quoted(held_by).next().is_some(), "{what}: held by no test");
        quoted(held_by).for_each(|test| assert!(tests.contains(&test), "{what}: there is no test {test}"));
        for call in quoted(here) {
            let (_, method) = call.split_once("::").unwrap_or_else(|| panic!("{what}: {call} names no method"));
            let declared = [format!("pub fn {method}("), format!("pub fn {method}<")];
            let is_declared = library.iter().any(|source| declared.iter().any(|text| source.contains(text)));
            assert!(is_declared, "{what}: there is no call {call}");
        }
    }
}
