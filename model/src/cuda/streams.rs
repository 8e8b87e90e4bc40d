//! Work beside the device's stream: events, a stream for copies, and page-locked memory, which copies read and write while
//! the program goes on.

use cudarc::driver::CudaDevice;
use cudarc::driver::result::{self, DriverError, stream::StreamKind};
use cudarc::driver::sys::{self, CUdeviceptr, CUevent, CUevent_flags, CUevent_wait_flags, CUresult, CUstream};
use std::ffi::c_void;
use std::sync::Arc;

/// A place in a stream, for other streams and the host to wait for. Of an event that was never recorded nobody waits.
pub(super) struct Event {
    event: CUevent,
    driver: Arc<CudaDevice>,
}

/// A stream that runs beside the device's.
pub(super) struct Stream {
    stream: CUstream,
    driver: Arc<CudaDevice>,
}

// SAFETY: events and streams are handles, which every thread may use that has bound the device; each method does.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}
// SAFETY: as above.
unsafe impl Send for Stream {}

impl Event {
    pub(super) fn new(driver: &Arc<CudaDevice>) -> Result<Event, DriverError> {
        driver.bind_to_thread()?;
        // The host sleeps while it waits: the processor has images to decode.
        let flags = CUevent_flags::CU_EVENT_DISABLE_TIMING as u32 | CUevent_flags::CU_EVENT_BLOCKING_SYNC as u32;
        let mut event: CUevent = std::ptr::null_mut();
        // SAFETY: the driver writes one handle.
        unsafe { sys::cuEventCreate(&raw mut event, flags) }.result()?;
        Ok(Event { event, driver: Arc::clone(driver) })
    }

    /// Moves the event behind all that the device's stream was asked for.
    pub(super) fn record(&self) -> Result<(), DriverError> {
        self.driver.bind_to_thread()?;
        // SAFETY: both handles are alive.
        unsafe { result::event::record(self.event, *self.driver.cu_stream()) }
    }

    /// Lets nothing that the device's stream is asked for from now on start before the event.
    pub(super) fn hold_back_device(&self) -> Result<(), DriverError> {
        self.driver.bind_to_thread()?;
        // SAFETY: both handles are alive.
        unsafe {
            let flags = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            result::stream::wait_event(*self.driver.cu_stream(), self.event, flags)
        }
    }

    /// Waits for the event here.
    pub(super) fn wait(&self) -> Result<(), DriverError> {
        self.driver.bind_to_thread()?;
        // SAFETY: the handle is alive.
        unsafe { sys::cuEventSynchronize(self.event) }.result()
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // There is nobody to tell of a failure.
        let _ = self.driver.bind_to_thread();
        // SAFETY: the handle is alive and used no more; the driver keeps what streams still wait for.
        let _ = unsafe { result::event::destroy(self.event) };
    }
}

impl Stream {
    pub(super) fn new(driver: &Arc<CudaDevice>) -> Result<Stream, DriverError> {
        driver.bind_to_thread()?;
        // Of another kind, it would wait for the device's stream and the device's stream for it.
        let stream = result::stream::create(StreamKind::NonBlocking)?;
        Ok(Stream { stream, driver: Arc::clone(driver) })
    }

    /// Copies page-locked memory to the device, not before the device's stream has come to `after`, and moves `copied` behind
    /// the copy.
    ///
    /// # Safety
    /// `to` is memory for as many bytes. Until the host has waited for `copied`, nobody writes `from`; until the device's
    /// stream has, nobody reads or frees `to`.
    pub(super) unsafe fn upload(
        &self,
        from: &[u8],
        to: CUdeviceptr,
        after: &Event,
        copied: &Event,
    ) -> Result<(), DriverError> {
        self.driver.bind_to_thread()?;
        // SAFETY: the handles are alive, and the caller sees to the memory.
        unsafe {
            result::stream::wait_event(self.stream, after.event, CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT)?;
            result::memcpy_htod_async(to, from, self.stream)?;
            result::event::record(copied.event, self.stream)
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // There is nobody to tell of a failure.
        let _ = self.driver.bind_to_thread();
        // SAFETY: the handle is alive and used no more; the driver finishes what it was asked for.
        let _ = unsafe { result::stream::destroy(self.stream) };
    }
}

/// Memory of the host that is never moved, which a device copies without help.
pub(super) struct PageLocked {
    pointer: *mut u8,
    bytes: usize,
    driver: Arc<CudaDevice>,
}

// SAFETY: it is memory like any other, and freed with the device bound.
unsafe impl Send for PageLocked {}
// SAFETY: as above; it is written through `&mut` alone, or by the device, whose users wait for it.
unsafe impl Sync for PageLocked {}

impl PageLocked {
    /// Memory filled with ones.
    pub(super) fn new(driver: &Arc<CudaDevice>, bytes: usize) -> Result<PageLocked, DriverError> {
        driver.bind_to_thread()?;
        let mut pointer: *mut c_void = std::ptr::null_mut();
        // SAFETY: the driver writes one pointer.
        let allocated = unsafe { sys::cuMemHostAlloc(&raw mut pointer, bytes.max(1), 0) }.result();
        // The driver says the same of the device's memory, of which there may be plenty.
        allocated.map_err(|_| DriverError(CUresult::CUDA_ERROR_OPERATING_SYSTEM))?;
        // SAFETY: the memory is as long, and nobody else's.
        unsafe { pointer.cast::<u8>().write_bytes(1, bytes) };
        Ok(PageLocked { pointer: pointer.cast(), bytes, driver: Arc::clone(driver) })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is as long, was written when it was allocated, and lives as long as this.
        unsafe { std::slice::from_raw_parts(self.pointer, self.bytes) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.bytes) }
    }
}

impl Drop for PageLocked {
    fn drop(&mut self) {
        // There is nobody to tell of a failure.
        let _ = self.driver.bind_to_thread();
        // SAFETY: the memory came from the driver, and nothing refers to it any more.
        let _ = unsafe { sys::cuMemFreeHost(self.pointer.cast()) };
    }
}
