//! Threads that read files ahead of the writer, and hand them over in order.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::look::Looked;
use super::turnstile::Turnstile;
use crate::error::DatasetError;

/// Bytes of images that are read ahead of the writer, unless a single image is larger.
const AHEAD_BYTES: u64 = 64 << 20;
/// Images that are read ahead of the writer.
const AHEAD_IMAGES: u64 = 4096;

type Message = (u64, Result<Looked, DatasetError>);

/// Reads and looks at the images 0..`count` on `workers` threads, and calls `take` for each in order on this thread.
///
/// Memory: `AHEAD_BYTES`, or one image if that is larger. The first error in order ends it all; the threads are joined
/// before this returns.
pub(super) fn read_in_order(
    count: u64,
    workers: NonZeroUsize,
    bytes_in_flight: impl Fn(u64) -> u64 + Sync,
    look: impl Fn(u64) -> Result<Looked, DatasetError> + Sync,
    take: impl FnMut(u64, Looked) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let turnstile = Turnstile::new(AHEAD_IMAGES, AHEAD_BYTES);
    let next_ticket = AtomicU64::new(0);
    let workers = workers.get().min(usize::try_from(count).unwrap_or(usize::MAX)).max(1);
    thread::scope(|scope| {
        // The channel is short, because the turnstile is what bounds; the taker sorts what comes out of it.
        let (sender, receiver) = bounded::<Message>(workers);
        // However this closure is left, the workers shall not wait for a taker that is gone.
        let _closes = CloseOnDrop(&turnstile);
        for worker in 0..workers {
            let (sender, turnstile, next_ticket) = (sender.clone(), &turnstile, &next_ticket);
            let (bytes_in_flight, look) = (&bytes_in_flight, &look);
            let work = move || {
                while let Some(ticket) = take_ticket(next_ticket, count) {
                    if !serve(ticket, turnstile, &sender, bytes_in_flight, look) {
                        break;
                    }
                }
            };
            thread::Builder::new().name(format!("patchstream-read-{worker}")).spawn_scoped(scope, work)?;
        }
        drop(sender);
        take_in_order(count, &receiver, &turnstile, &bytes_in_flight, take)
    })
}

fn take_ticket(next_ticket: &AtomicU64, count: u64) -> Option<u64> {
    let ticket = next_ticket.fetch_add(1, Ordering::Relaxed);
    (ticket < count).then_some(ticket)
}

/// False when there is nobody left to read for.
fn serve(
    ticket: u64,
    turnstile: &Turnstile,
    sender: &Sender<Message>,
    bytes_in_flight: &impl Fn(u64) -> u64,
    look: &impl Fn(u64) -> Result<Looked, DatasetError>,
) -> bool {
    turnstile.admit(ticket, bytes_in_flight(ticket)) && sender.send((ticket, look(ticket))).is_ok()
}

fn take_in_order(
    count: u64,
    receiver: &Receiver<Message>,
    turnstile: &Turnstile,
    bytes_in_flight: impl Fn(u64) -> u64,
    mut take: impl FnMut(u64, Looked) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let mut early = BTreeMap::new();
    for ticket in 0..count {
        let looked = loop {
            if let Some(looked) = early.remove(&ticket) {
                break looked;
            }
            let (arrived, looked) = receiver.recv().map_err(|_| DatasetError::Internal { what: "a reader" })?;
            early.insert(arrived, looked);
        };
        take(ticket, looked?)?;
        // Only now, so that no further large image arrives while the taker writes out the row group before this one.
        turnstile.release(bytes_in_flight(ticket));
    }
    Ok(())
}

struct CloseOnDrop<'a>(&'a Turnstile);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
