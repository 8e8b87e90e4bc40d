//! Where the time of a step goes, operation by operation.

use crate::backend::Backend;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What one operation took, over all its calls since the profile was started.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationTime {
    /// The operation's name.
    pub operation: &'static str,
    /// Calls of its forward pass, or of all of it where it has but one.
    pub calls: u64,
    /// Time in forward passes.
    pub forward: Duration,
    /// Time in backward passes.
    pub backward: Duration,
    /// Floating-point operations of its matrix products, forward and backward together: two for a multiply-add.
    pub flops: u64,
}

/// Which of an operation's passes a time belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    Forward,
    Backward,
}

/// Times of operations, in the order of their first call; shared by an engine and the passes that it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Profile(Arc<Mutex<Vec<OperationTime>>>);

impl Profile {
    /// Times an operation until the timer is dropped. A device that works behind our back is waited for on either side.
    pub(crate) fn time<B: Backend>(&self, backend: &B, operation: &'static str, pass: Pass, flops: u64) -> Timer {
        // A failure to wait comes back from the next thing that is asked of the device.
        let _ = backend.wait();
        let backend = backend.clone();
        let wait = Box::new(move || drop(backend.wait()));
        Timer { profile: self.clone(), operation, pass, flops, start: Instant::now(), wait }
    }

    pub(crate) fn times(&self) -> Vec<OperationTime> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, operation: &'static str, pass: Pass, flops: u64, time: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = times.iter().position(|known| known.operation == operation).unwrap_or_else(|| {
            let none = Duration::ZERO;
            times.push(OperationTime { operation, calls: 0, forward: none, backward: none, flops: 0 });
            times.len() - 1
        });
        let entry = &mut times[place];
        entry.flops += flops;
        match pass {
            Pass::Forward => {
                entry.calls += 1;
                entry.forward += time;
            }
            Pass::Backward => entry.backward += time,
        }
    }
}

/// Adds the time that it lives to a profile.
pub(crate) struct Timer {
    profile: Profile,
    operation: &'static str,
    pass: Pass,
    flops: u64,
    start: Instant,
    wait: Box<dyn Fn()>,
}

impl Drop for Timer {
    fn drop(&mut self) {
        (self.wait)();
        self.profile.add(self.operation, self.pass, self.flops, self.start.elapsed());
    }
}
