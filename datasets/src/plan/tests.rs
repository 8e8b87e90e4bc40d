use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::manifest::RowGroupEntry;

/// A manifest of row groups with these numbers of rows.
pub(super) fn manifest(rows: &[u32]) -> Manifest {
    let entries = rows.iter().enumerate().map(|(group, &rows)| RowGroupEntry {
        file: Arc::from("a"),
        offset: 4 + 4000 * group as u64,
        length: 4000,
        rows,
        image_bytes: 0,
        xxh3: 0,
        first_sample_id: 0,
        row_group: 0,
    });
    Manifest::new(entries.collect(), Vec::new(), serde_json::Value::Null, None).unwrap()
}

pub(super) fn window(groups: usize) -> Shuffle {
    NonZeroUsize::new(groups).map_or(Shuffle::Sequential, Shuffle::Window)
}

fn schedule(batch_size: usize, rank: usize, world: usize, last_batch: LastBatch) -> Schedule {
    Schedule {
        seed: 1,
        shuffle: Shuffle::Sequential,
        batch_size: NonZeroUsize::new(batch_size).unwrap(),
        share: Share { rank, world: NonZeroUsize::new(world).unwrap() },
        last_batch,
        start: Cursor::default(),
        end_epoch: None,
    }
}

/// The epoch's order as sample ids.
fn order(manifest: &Manifest, seed: u64, epoch: u64, shuffle: Shuffle) -> Vec<u64> {
    let plan = EpochPlan::new(manifest, seed, epoch, shuffle);
    let mut ids = Vec::new();
    for window in 0..plan.windows() {
        let order = plan.window(window);
        for position in order.positions.clone() {
            assert_eq!(plan.window_of(position), window);
            let (group, row) = order.row_at(position);
            ids.push(manifest.row_groups()[group].first_sample_id + u64::from(row));
        }
    }
    ids
}

fn taken(batches: &Batches, from: u64) -> Vec<batches::Taken> {
    let mut places = Vec::new();
    let mut position = from;
    while let Some(place) = batches.next_from(position) {
        position = place.position + 1;
        places.push(place);
    }
    places
}

#[test]
fn sequential_is_manifest_order() {
    assert_eq!(order(&manifest(&[3, 1, 2]), 9, 4, Shuffle::Sequential), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn order_is_fixed_for_ever() {
    // Resuming a run with a newer program must go on in the same order.
    assert_eq!(order(&manifest(&[3, 1, 2, 2]), 7, 1, window(2)), [2, 1, 5, 0, 4, 7, 3, 6]);
}

#[test]
fn schedules_that_deliver_nothing_are_refused() {
    let check = |schedule: Schedule, message: &str| {
        let error = Batches::new(10, &schedule).unwrap_err();
        assert!(error.to_string().contains(message) && error.hint().is_some(), "{error}");
    };
    check(schedule(11, 0, 1, LastBatch::Drop), "fewer than one global batch of 11");
    check(schedule(4, 2, 2, LastBatch::Drop), "expected a rank below 2, got 2");
    check(schedule(2, 0, 3, LastBatch::Drop), "does not reach for 3 ranks");
    let start = Cursor { epoch: 0, batch: 4 };
    check(Schedule { start, ..schedule(4, 0, 1, LastBatch::Keep) }, "expected to start at most at batch 3, got 4");
}

proptest! {
    #[test]
    fn every_epoch_is_a_permutation(
        rows in prop::collection::vec(1_u32..40, 1..30), seed: u64, epoch in 0_u64..5, groups in 0_usize..40,
    ) {
        let manifest = manifest(&rows);
        let ids = order(&manifest, seed, epoch, window(groups));
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..manifest.rows()).collect::<Vec<_>>());
        prop_assert_eq!(&ids, &order(&manifest, seed, epoch, window(groups)));
        if groups > 0 && manifest.rows() > 40 {
            prop_assert_ne!(&ids, &order(&manifest, seed, epoch + 1, window(groups)));
        }
    }

    #[test]
    fn a_window_holds_whole_row_groups(rows in prop::collection::vec(1_u32..40, 1..30), groups in 1_usize..40) {
        let manifest = manifest(&rows);
        let plan = EpochPlan::new(&manifest, 3, 0, window(groups));
        prop_assert_eq!(plan.windows(), rows.len().div_ceil(groups));
        for window in 0..plan.windows() {
            let order = plan.window(window);
            let count: u64 = order.groups.iter().map(|&group| u64::from(rows[group as usize])).sum();
            prop_assert_eq!(order.positions.end - order.positions.start, count);
            prop_assert_eq!(&order.groups[..], &plan.group_order()[window * groups..][..order.groups.len()]);
        }
    }

    #[test]
    fn ranks_share_every_batch_whatever_their_number(
        rows in 1_u64..200, batch_size in 8_usize..40, world in 1_usize..8, keep: bool,
    ) {
        let last_batch = if keep { LastBatch::Keep } else { LastBatch::Drop };
        prop_assume!(keep || rows >= batch_size as u64);
        let mut all = Vec::new();
        for rank in 0..world {
            let places = taken(&Batches::new(rows, &schedule(batch_size, rank, world, last_batch)).unwrap(), 0);
            for (at, place) in places.iter().enumerate() {
                prop_assert!(place.place < place.rows_in_batch);
                prop_assert_eq!(place.position, place.batch * batch_size as u64 + place.global_place);
                let first_of_batch = at == 0 || places[at - 1].batch != place.batch;
                prop_assert_eq!(place.place == 0, first_of_batch);
            }
            all.extend(places.into_iter().map(|place| place.position));
        }
        all.sort_unstable();
        let end = if keep { rows } else { rows / batch_size as u64 * batch_size as u64 };
        prop_assert_eq!(all, (0..end).collect::<Vec<_>>());
    }

    #[test]
    fn starting_at_a_batch_is_skipping_to_it(rows in 20_u64..200, batch_size in 3_usize..20, batch in 0_u64..10, rank in 0_usize..3) {
        let batches = Batches::new(rows, &schedule(batch_size, rank, 3, LastBatch::Keep)).unwrap();
        let all = taken(&batches, 0);
        let expected: Vec<_> = all.into_iter().filter(|place| place.batch >= batch).collect();
        prop_assert_eq!(taken(&batches, batches.first_position(batch)), expected);
    }
}
