//! Batches on their way to the device. A thread of the caller's copies a batch into page-locked memory, and a stream of its own
//! copies that to the device, while kernels work on the batch before.
//!
//! There are two slots, each of page-locked memory and as much on the device. Four things wait for each other:
//!
//! - the host writes a slot again when its last copy has ended (`copied`, waited for by the host);
//! - the copy starts when kernels have read what was there before (`released`, waited for by the stream of copies);
//! - kernels start when the copy has ended (`copied`, waited for by the device's stream);
//! - a slot is free when everybody has dropped its batch, for which the host waits.

use super::context::CudaBackend;
use super::streams::{Event, PageLocked, Stream};
use crate::engine::{PatchInput, Pixels};
use crate::upload::Uploaded;
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaDevice, CudaSlice, DevicePtr as _, DriverError};
use dfdx::prelude::CudaError;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// One that kernels read, and one that is filled.
const SLOTS: usize = 2;

/// The stream of copies and the slots that are free.
pub(crate) struct CopyLane {
    stream: Stream,
    free: Receiver<Slot>,
    give_back: Sender<Slot>,
}

/// Memory for a batch, here and on the device; it only grows.
struct Slot {
    host: PageLocked,
    device: CudaSlice<u8>,
    /// The last copy has ended.
    copied: Event,
    /// Kernels have read what was copied.
    released: Event,
}

impl Slot {
    fn new(driver: &Arc<CudaDevice>, bytes: usize) -> Result<Slot, DriverError> {
        let (copied, released) = (Event::new(driver)?, Event::new(driver)?);
        let host = PageLocked::new(driver, bytes)?;
        // SAFETY: the memory is written before it is read.
        let device = unsafe { driver.alloc::<u8>(bytes.max(1)) }?;
        // It is there when the device's stream has come to this place.
        released.record()?;
        Ok(Slot { host, device, copied, released })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Memory may not go while it is copied. What kernels read is freed behind them, on their stream.
        let _ = self.copied.wait();
    }
}

/// A batch in a slot: four parts, one behind another.
pub(super) struct Staged {
    /// There until dropped.
    slot: Option<Slot>,
    /// Bytes of an image in each part.
    sizes: [usize; Part::COUNT],
    rows: usize,
    driver: Arc<CudaDevice>,
    give_back: Sender<Slot>,
}

/// Which part. Indices come first, so that they are where numbers of two bytes may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    VisibleIndex,
    MaskedIndex,
    Visible,
    Masked,
}

impl Part {
    const COUNT: usize = 4;
}

impl Staged {
    /// Where the images of a part begin that come at `first` and later.
    pub(super) fn address(&self, part: Part, first: usize) -> CUdeviceptr {
        let before: usize = self.sizes[..part as usize].iter().map(|size| size * self.rows).sum();
        let slot = self.slot.as_ref().expect("a slot is there until its batch is dropped");
        *slot.device.device_ptr() + (before + first * self.sizes[part as usize]) as u64
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            // A device that cannot do this has failed, and says so to whoever asks next.
            let _ = slot.released.record();
            // Without a lane there is nobody to take it, and it is freed.
            let _ = self.give_back.send(slot);
        }
    }
}

impl CopyLane {
    pub(super) fn new(driver: &Arc<CudaDevice>) -> Result<CopyLane, DriverError> {
        let (give_back, free) = channel();
        for _ in 0..SLOTS {
            give_back.send(Slot::new(driver, 0)?).expect("the receiver is at hand");
        }
        Ok(CopyLane { stream: Stream::new(driver)?, free, give_back })
    }
}

impl CudaBackend {
    pub(super) fn stage(&self, lane: &CopyLane, input: &PatchInput<'_>) -> Result<Uploaded, CudaError> {
        let (Pixels::Bytes(visible), Pixels::Bytes(masked)) = (input.visible, input.masked) else {
            // Floats are for comparing with other implementations, not for training.
            return Ok(Uploaded(Arc::new(())));
        };
        let [visible_index, masked_index] = [input.visible_index, input.masked_index].map(|index| 2 * index.len());
        let lengths = [visible_index, masked_index, visible.len(), masked.len()];
        let bytes: usize = lengths.iter().sum();

        let slot = lane.free.recv().expect("the lane holds a sender itself");
        let mut staged = Staged {
            slot: Some(slot),
            sizes: lengths.map(|length| length / input.rows),
            rows: input.rows,
            driver: Arc::clone(&self.driver),
            give_back: lane.give_back.clone(),
        };
        let slot = staged.slot.as_mut().expect("it has just been put there");
        if slot.host.bytes().len() < bytes {
            *slot = Slot::new(&self.driver, bytes)?;
        }
        slot.copied.wait()?;
        let mut to = &mut slot.host.bytes_mut()[..bytes];
        for index in [input.visible_index, input.masked_index] {
            let (here, rest) = to.split_at_mut(2 * index.len());
            for (to, place) in here.chunks_exact_mut(2).zip(index) {
                to.copy_from_slice(&place.to_ne_bytes());
            }
            to = rest;
        }
        let (here, rest) = to.split_at_mut(visible.len());
        here.copy_from_slice(visible);
        rest.copy_from_slice(masked);
        let (from, to) = (&slot.host.bytes()[..bytes], *slot.device.device_ptr());
        // SAFETY: the slot is as long here and there. It is this batch's until that is dropped; whoever gets it then waits for
        // `copied` before writing here, for `released` before writing there, and kernels wait for `copied`.
        unsafe { lane.stream.upload(from, to, &slot.released, &slot.copied) }?;
        Ok(Uploaded(Arc::new(staged)))
    }

    /// A batch that was uploaded to this device, if it was: kernels that are launched from now on find it there.
    pub(super) fn staged(&self, input: &PatchInput<'_>) -> Result<Option<(Arc<Staged>, usize)>, CudaError> {
        let Some(uploaded) = input.uploaded else { return Ok(None) };
        let Ok(staged) = Arc::clone(&uploaded.batch.0).downcast::<Staged>() else { return Ok(None) };
        if !Arc::ptr_eq(&staged.driver, &self.driver) || uploaded.first + input.rows > staged.rows {
            return Ok(None);
        }
        staged.slot.as_ref().map_or(Ok(()), |slot| slot.copied.hold_back_device())?;
        Ok(Some((staged, uploaded.first)))
    }
}
