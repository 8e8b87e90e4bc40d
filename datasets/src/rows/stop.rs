//! Ending a stream from outside.

use std::sync::Arc;

use futures::future::{Either, select};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Ends a [`RowStream`](super::RowStream) and its [`Replacer`](super::Replacer)s, from any thread.
///
/// Whoever waits for a row, even for a read that never comes back, gets an error instead.
#[derive(Debug, Clone)]
pub struct Stopper {
    task: AbortHandle,
    stopped: Arc<watch::Sender<bool>>,
}

impl Stopper {
    pub(super) fn new(task: AbortHandle) -> Stopper {
        Stopper { task, stopped: Arc::new(watch::Sender::new(false)) }
    }

    /// Ends the stream; more than once does no harm.
    pub fn stop(&self) {
        self.stop_reading_ahead();
        self.stopped.send_replace(true);
    }

    pub(super) fn stop_reading_ahead(&self) {
        self.task.abort();
    }

    /// What a future gives, or nothing if the stream is stopped before.
    pub(super) async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut receiver = self.stopped.subscribe();
        let stopped = std::pin::pin!(receiver.wait_for(|stopped| *stopped));
        match select(std::pin::pin!(future), stopped).await {
            Either::Left((value, _)) => Some(value),
            Either::Right(_) => None,
        }
    }
}
