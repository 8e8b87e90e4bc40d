//! How well windows of row groups mix, held against a full shuffle of all rows.
//!
//! `cargo test --release -p patchstream-datasets shuffling_quality -- --ignored --nocapture` prints the table of
//! docs/shuffling.md.

use super::tests::{manifest, window};
use super::*;

/// ImageNet's training set by its row groups: 1,281,167 images of 110 KB, 150 in a row group of 16 MiB, 1,000 classes.
const GROUPS: usize = 8541;
const GROUP_ROWS: u32 = 150;
const CLASSES: u64 = 1000;
const BATCH: usize = 256;

/// What an order of samples that lie class by class looks like.
struct Quality {
    /// Rank correlation of position in the epoch and position in the data set; 1 is no shuffling at all.
    epoch_correlation: f64,
    /// Rank correlation of one sample and the next; 1 is no shuffling at all.
    neighbour_correlation: f64,
    /// How many samples of one class follow each other, on average.
    class_run: f64,
    /// Different classes in a batch, on average.
    classes_in_batch: f64,
}

fn quality(order: &[u64]) -> Quality {
    let rows = order.len() as u64;
    let class = |sample: u64| sample * CLASSES / rows;
    let runs = 1 + order.windows(2).filter(|pair| class(pair[0]) != class(pair[1])).count();
    let batches = order.chunks_exact(BATCH);
    let count = batches.len() as f64;
    let classes: usize = batches
        .map(|batch| {
            let mut classes: Vec<u64> = batch.iter().map(|&sample| class(sample)).collect();
            classes.sort_unstable();
            classes.dedup();
            classes.len()
        })
        .sum();
    Quality {
        epoch_correlation: correlation((0..rows).zip(order.iter().copied()), rows),
        neighbour_correlation: correlation(order.windows(2).map(|pair| (pair[0], pair[1])), rows),
        class_run: rows as f64 / runs as f64,
        classes_in_batch: classes as f64 / count,
    }
}

/// Spearman's, of pairs of ranks below `rows` that are each a permutation, save for a pair at the end.
fn correlation(pairs: impl Iterator<Item = (u64, u64)>, rows: u64) -> f64 {
    let mean = (rows - 1) as f64 / 2.0;
    let variance = ((rows * rows - 1) as f64) / 12.0;
    let product: f64 = pairs.map(|(a, b)| (a as f64 - mean) * (b as f64 - mean)).sum();
    product / rows as f64 / variance
}

/// An epoch's order as sample ids, as training sees it.
fn order(groups: usize, shuffle: Shuffle) -> Vec<u64> {
    let plan = EpochPlan::new(&manifest(&vec![GROUP_ROWS; groups]), 1, 0, shuffle);
    let rows = (0..plan.windows()).flat_map(|number| {
        let window = plan.window(number);
        let rows: Vec<u64> = window
            .positions
            .clone()
            .map(|position| window.row_at(position))
            .map(|(group, row)| group as u64 * u64::from(GROUP_ROWS) + u64::from(row))
            .collect();
        rows
    });
    rows.collect()
}

#[test]
fn windows_mix_better_the_larger_they_are() {
    const GROUPS: usize = 640;
    let of = |groups: usize| quality(&order(GROUPS, window(groups)));
    let sequential = of(0);
    assert!(sequential.neighbour_correlation > 0.99 && sequential.epoch_correlation > 0.99);
    let (mut run, mut classes) = (sequential.class_run, sequential.classes_in_batch);
    for groups in [1, 2, 4, 8, 16, 32, 64] {
        let quality = of(groups);
        assert!(quality.epoch_correlation.abs() < 0.15, "{groups}: {}", quality.epoch_correlation);
        // Of neighbours in a window of W row groups one in W comes from the same one.
        let expected = 1.0 / groups as f64;
        assert!((quality.neighbour_correlation - expected).abs() < 0.1, "{groups}: {}", quality.neighbour_correlation);
        assert!(quality.class_run < run && quality.classes_in_batch > classes, "{groups}");
        (run, classes) = (quality.class_run, quality.classes_in_batch);
    }
    let full = of(GROUPS);
    assert!(full.neighbour_correlation.abs() < 0.02 && full.class_run < 1.01, "a window of all is a full shuffle");
}

#[test]
#[ignore = "prints a table"]
#[expect(clippy::print_stdout, reason = "the table is what this is for")]
fn shuffling_quality() {
    println!("| window | neighbours | epoch | class run | classes in a batch of {BATCH} |\n|---|---|---|---|---|");
    for groups in [0, 1, 2, 4, 8, 16, 32, 64, GROUPS] {
        let name = match groups {
            0 => "no shuffling".to_owned(),
            GROUPS => "full shuffle".to_owned(),
            _ => format!("{groups}, {} MiB", groups * 16),
        };
        let Quality { epoch_correlation, neighbour_correlation, class_run, classes_in_batch } =
            quality(&order(GROUPS, window(groups)));
        println!(
            "| {name} | {neighbour_correlation:.3} | {epoch_correlation:.3} | {class_run:.2} | {classes_in_batch:.1} |"
        );
    }
}
