//! What a device is called, and how fast it is fed.

use super::context::{CudaBackend, Scratch, failed};
use super::streams::PageLocked;
use crate::device::Bandwidth;
use crate::error::ModelError;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::ffi::{CStr, c_char};
use std::time::Instant;

/// Bytes of a copy that is measured: a batch of 256 images of 224 x 224 pixels.
const COPY_BYTES: usize = 256 * 224 * 224 * 3;
/// Copies that are measured, after one that is not.
const COPIES: usize = 10;

impl CudaBackend {
    /// What the driver calls the device.
    pub(crate) fn name(&self) -> Result<String, ModelError> {
        let mut name: [c_char; 256] = [0; 256];
        // SAFETY: the driver writes at most as many bytes as the array has, the last of them zero.
        unsafe { sys::cuDeviceGetName(name.as_mut_ptr(), 256, *self.driver.cu_device()) }
            .result()
            .map_err(|error| failed("asking for the device's name", &error))?;
        // SAFETY: as above.
        Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// Times copies of a batch to the device.
    pub(crate) fn bandwidth(&self) -> Result<Bandwidth, ModelError> {
        let measured = || -> Result<Bandwidth, dfdx::prelude::CudaError> {
            let pageable_bytes_per_s = self.copies(&vec![1u8; COPY_BYTES])?;
            let locked = PageLocked::new(&self.driver, COPY_BYTES)?;
            Ok(Bandwidth { pageable_bytes_per_s, page_locked_bytes_per_s: self.copies(locked.bytes())? })
        };
        measured().map_err(|error| failed("copying to the device", &error))
    }

    fn copies(&self, bytes: &[u8]) -> Result<f64, dfdx::prelude::CudaError> {
        let to = self.scratch(Scratch::Bytes, bytes.len())?;
        self.driver.bind_to_thread()?;
        let copy = || -> Result<(), DriverError> {
            // SAFETY: the scratch memory is as long.
            unsafe { result::memcpy_htod_sync(to, bytes) }?;
            self.driver.synchronize()
        };
        copy()?;
        let started = Instant::now();
        for _ in 0..COPIES {
            copy()?;
        }
        Ok((COPIES * bytes.len()) as f64 / started.elapsed().as_secs_f64())
    }
}
