//! The task that reads ahead.

use std::collections::VecDeque;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures::stream::{self, Stream, StreamExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;

use crate::dataset::Reader;
use crate::error::DatasetError;
use crate::fetch::{FetchStats, Room};
use crate::group::EncodedGroup;
use crate::plan::{Batches, EpochPlan, Schedule, WindowOrder};

/// Row groups that are being read at one time.
const CONCURRENT_READS: usize = 4;

/// What the task sends: a window, then the row groups that are wanted of it, in this order, and so on until the end.
#[derive(Debug)]
pub(super) enum Message {
    Window {
        order: WindowOrder,
        /// The position to go on from, which may lie inside the window.
        from: u64,
        /// How many rows this rank takes of each slot; the row groups of those with any follow.
        rows_wanted: Vec<u32>,
    },
    Group {
        slot: u32,
        group: Arc<EncodedGroup>,
        room: Room,
    },
    /// The schedule is done. A channel that closes without it was cut off.
    End,
}

/// Goes through the windows of a schedule.
pub(super) struct Planner {
    reader: Arc<Reader>,
    schedule: Schedule,
    batches: Batches,
    plan: Option<EpochPlan>,
    epoch: u64,
    position: u64,
}

impl Planner {
    pub(super) fn new(reader: Arc<Reader>, schedule: Schedule, batches: Batches) -> Planner {
        let (epoch, position) = (schedule.start.epoch, batches.first_position(schedule.start.batch));
        Planner { reader, schedule, batches, plan: None, epoch, position }
    }

    /// The next window of which this rank takes rows; nothing after the last epoch.
    fn next_window(&mut self) -> Option<(WindowOrder, u64, Vec<u32>)> {
        loop {
            if self.schedule.end_epoch.is_some_and(|end| self.epoch >= end) {
                return None;
            }
            let Some(first) = self.batches.next_from(self.position) else {
                self.epoch = self.epoch.checked_add(1)?;
                self.position = 0;
                self.plan = None;
                continue;
            };
            let plan = self.plan.get_or_insert_with(|| {
                EpochPlan::new(&self.reader.manifest, self.schedule.seed, self.epoch, self.schedule.shuffle)
            });
            let order = plan.window(plan.window_of(first.position));
            let mut rows_wanted = vec![0; order.groups.len()];
            let mut next = Some(first);
            while let Some(place) = next.filter(|place| place.position < order.positions.end) {
                rows_wanted[order.place_at(place.position).slot as usize] += 1;
                next = self.batches.next_from(place.position + 1);
            }
            self.position = order.positions.end;
            return Some((order, first.position, rows_wanted));
        }
    }
}

type Fetching = Pin<Box<dyn Future<Output = Result<Message, DatasetError>> + Send>>;

/// Follows the plan until its end, the first error, or until nobody receives any more.
pub(super) async fn run(
    planner: Planner,
    room_bytes: u64,
    stats: Arc<FetchStats>,
    sender: mpsc::Sender<Result<Message, DatasetError>>,
) {
    // `buffered` keeps the order, and polls the reads that are going on while the next one waits for room.
    let mut messages = Box::pin(fetches(planner, room_bytes, stats).buffered(CONCURRENT_READS));
    while let Some(message) = messages.next().await {
        let failed = message.is_err();
        if sender.send(message).await.is_err() || failed {
            return;
        }
    }
    // Whoever stopped listening knows that this is the end.
    let _ = sender.send(Ok(Message::End)).await;
}

/// The messages in order, as futures, each begun when there is room for what it brings.
fn fetches(planner: Planner, room_bytes: u64, stats: Arc<FetchStats>) -> impl Stream<Item = Fetching> {
    let room_bytes = usize::try_from(room_bytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
    let room = Arc::new(Semaphore::new(room_bytes));
    let (reader, groups) = (planner.reader.clone(), VecDeque::new());
    stream::unfold((Some(planner), groups), move |(planner, mut groups)| {
        let (reader, room, stats) = (reader.clone(), room.clone(), stats.clone());
        async move {
            if let Some((slot, group)) = groups.pop_front() {
                let fetching = fetch_group(reader, slot, group, room, stats).await;
                return Some((fetching, (planner, groups)));
            }
            let mut planner = planner?;
            // Putting a window in order computes for milliseconds.
            let planned = spawn_blocking(move || {
                let window = planner.next_window();
                (planner, window)
            });
            match planned.await {
                Ok((planner, Some((order, from, rows_wanted)))) => {
                    let slots = (0..).zip(&order.groups).zip(&rows_wanted).filter(|&(_, &rows)| rows > 0);
                    groups.extend(slots.map(|((slot, &group), _)| (slot, group as usize)));
                    let message: Fetching = Box::pin(ready(Ok(Message::Window { order, from, rows_wanted })));
                    Some((message, (Some(planner), groups)))
                }
                Ok((_, None)) => None,
                Err(_) => {
                    let error: Fetching = Box::pin(ready(Err(DatasetError::Internal { what: "planning" })));
                    Some((error, (None, groups)))
                }
            }
        }
    })
}

/// Waits for room, and gives back the future that reads a row group.
async fn fetch_group(
    reader: Arc<Reader>,
    slot: u32,
    group: usize,
    room: Arc<Semaphore>,
    stats: Arc<FetchStats>,
) -> Fetching {
    let length = match reader.entry(group) {
        Ok(entry) => entry.length,
        Err(error) => return Box::pin(ready(Err(error))),
    };
    // There is room for the largest window, so for every row group; the manifest caps their lengths.
    let wanted = u32::try_from(length).unwrap_or(u32::MAX);
    let since = Instant::now();
    let Ok(permit) = room.acquire_many_owned(wanted).await else {
        return Box::pin(ready(Err(DatasetError::Internal { what: "the read-ahead" })));
    };
    stats.fetcher_waited(since);
    let room = Room::new(stats.clone(), length, permit);
    Box::pin(async move {
        let fetched = reader.read_group(group).await?;
        stats.arrived(length, fetched.retries);
        Ok(Message::Group { slot, group: Arc::new(fetched.group), room })
    })
}
