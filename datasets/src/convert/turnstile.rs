//! Lets readers run ahead of the writer, in order and no further than so many images and bytes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Admits tickets 0, 1, 2 … in this order, while the images on their way stay below a bound.
///
/// Because of the order, the image that the writer waits for is always on its way, so the bound cannot block it. An image
/// larger than the bound is admitted when nothing else is on its way.
pub(super) struct Turnstile {
    state: Mutex<State>,
    changed: Condvar,
    bytes_max: u64,
    images_max: u64,
}

#[derive(Default)]
struct State {
    next_ticket: u64,
    images: u64,
    bytes: u64,
    closed: bool,
}

impl Turnstile {
    pub(super) fn new(images_max: u64, bytes_max: u64) -> Turnstile {
        Turnstile { state: Mutex::default(), changed: Condvar::new(), bytes_max, images_max }
    }

    /// Waits until it is the ticket's turn and there is room; false when the turnstile was closed.
    pub(super) fn admit(&self, ticket: u64, bytes: u64) -> bool {
        let mut state = self.lock();
        loop {
            if state.closed {
                return false;
            }
            let fits = state.images < self.images_max && state.bytes.saturating_add(bytes) <= self.bytes_max;
            if state.next_ticket == ticket && (fits || state.images == 0) {
                state.next_ticket += 1;
                state.images += 1;
                state.bytes += bytes;
                drop(state);
                self.changed.notify_all();
                return true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes an admitted image off the account.
    pub(super) fn release(&self, bytes: u64) {
        let mut state = self.lock();
        state.images -= 1;
        state.bytes -= bytes;
        drop(state);
        self.changed.notify_all();
    }

    /// Sends everybody home who waits now or later.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn admits_in_order_and_within_the_bound() {
        let turnstile = Turnstile::new(10, 100);
        let (sender, admitted) = mpsc::channel();
        thread::scope(|scope| {
            for (ticket, bytes) in [(2, 10), (1, 500), (0, 60)] {
                let (sender, turnstile) = (sender.clone(), &turnstile);
                scope.spawn(move || sender.send((ticket, turnstile.admit(ticket, bytes))).unwrap());
            }
            assert_eq!(admitted.recv().unwrap(), (0, true));
            // Ticket 1 is larger than the bound and waits for ticket 0 to leave; ticket 2 would fit but is not first.
            assert!(admitted.recv_timeout(Duration::from_millis(30)).is_err());
            turnstile.release(60);
            assert_eq!(admitted.recv().unwrap(), (1, true));
            assert!(admitted.recv_timeout(Duration::from_millis(30)).is_err());
            turnstile.close();
            assert_eq!(admitted.recv().unwrap(), (2, false));
        });
    }
}
