//! The end of a step: the device decides whether it counts, and tells later.
//!
//! Nothing of a step waits for its numbers. One kernel puts loss, norm of the gradient and all that the update depends on into
//! memory of the device, which the update reads; a copy brings them to page-locked memory, and an event says when they are
//! there. How many updates counted before, the kernel finds in the verdict on the step before, if that has not been read.

use super::context::{Argument, CudaBackend, Scratch, address};
use super::streams::{Event, PageLocked};
use crate::backend::{Raw, Updates};
use crate::engine::{AdamW, StepReport};
use crate::kernels::adamw::Rates;
use cudarc::driver::{CudaSlice, DevicePtr as _, DeviceSlice as _, result, sys};
use dfdx::prelude::CudaError;
use std::sync::PoisonError;

/// Blocks that sum up the squares of one tensor.
const SQUARE_BLOCKS: usize = 128;

/// `judgement` of kernels.cu.
#[repr(C)]
#[derive(Clone, Copy)]
struct Judgement {
    gradient_norm: f64,
    updates: u64,
    loss: f32,
    step: f32,
    root_correction: f32,
    gradient_scale: f32,
    counts: u32,
    unused: u32,
}

/// Where a judgement is made, and where it is told.
pub(super) struct Memory {
    device: CudaSlice<u8>,
    host: PageLocked,
    told: Event,
}

/// What a step came to, when the device has come that far.
pub(crate) struct Verdict {
    adamw: AdamW,
    /// There until dropped.
    memory: Option<Memory>,
    backend: CudaBackend,
}

impl Verdict {
    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("memory is there until it is dropped")
    }

    fn address(&self) -> sys::CUdeviceptr {
        *self.memory().device.device_ptr()
    }

    /// Waits for what the step came to, and how many updates have counted with it.
    pub(super) fn read(&self) -> Result<(StepReport, u64), CudaError> {
        let memory = self.memory();
        memory.told.wait()?;
        // SAFETY: the memory holds a judgement, which any bytes are.
        let judgement = unsafe { memory.host.bytes().as_ptr().cast::<Judgement>().read_unaligned() };
        let Judgement { loss, gradient_norm, updates, .. } = judgement;
        Ok((StepReport { loss, gradient_norm }, updates))
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        // Whoever gets the memory next comes later on the device's stream.
        self.backend.verdicts.lock().unwrap_or_else(PoisonError::into_inner).extend(self.memory.take());
    }
}

impl CudaBackend {
    fn verdict_memory(&self) -> Result<Memory, CudaError> {
        let kept = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(memory) = kept {
            return Ok(memory);
        }
        let bytes = size_of::<Judgement>();
        // SAFETY: the memory is written before it is read.
        let device = unsafe { self.driver.alloc::<u8>(bytes) }?;
        Ok(Memory { device, host: PageLocked::new(&self.driver, bytes)?, told: Event::new(&self.driver)? })
    }

    /// Where the sum of squares of all these values will be.
    pub(super) fn square_sum(&self, gradients: &[&Raw<CudaBackend>]) -> Result<sys::CUdeviceptr, CudaError> {
        let count = gradients.len() * SQUARE_BLOCKS;
        let sums = self.scratch(Scratch::Doubles, (count + 1) * 8)?;
        for (tensor, gradient) in gradients.iter().enumerate() {
            let own = sums + (8 * tensor * SQUARE_BLOCKS) as u64;
            let arguments: [Argument; 3] = [address(gradient).into(), own.into(), gradient.len().into()];
            self.launch("square_sums", (SQUARE_BLOCKS as u64, 1), (256, 1), &arguments)?;
        }
        self.sum_of_doubles(sums, count)
    }

    /// Judges a step by its loss and the sum of its gradient's squares, both on the device.
    pub(super) fn verdict(
        &self,
        adamw: &AdamW,
        updates: &Updates<'_, CudaBackend>,
        loss: &Raw<CudaBackend>,
        square_sum: sys::CUdeviceptr,
    ) -> Result<Verdict, CudaError> {
        let mut verdict = Verdict { adamw: *adamw, memory: Some(self.verdict_memory()?), backend: self.clone() };
        let (before, updates) = match updates {
            Updates::Known(updates) => (0, *updates),
            Updates::After(verdict) => (verdict.address(), 0),
        };
        let AdamW { lr, beta1, beta2, clip_norm, .. } = *adamw;
        let arguments: [Argument; 9] = [
            address(loss).into(),
            square_sum.into(),
            before.into(),
            updates.into(),
            lr.into(),
            beta1.into(),
            beta2.into(),
            clip_norm.unwrap_or(f64::INFINITY).into(),
            verdict.address().into(),
        ];
        self.each("judge", 1, &arguments)?;
        let stream = *self.driver.cu_stream();
        let memory = verdict.memory.as_mut().expect("it has just been put there");
        let from = *memory.device.device_ptr();
        // SAFETY: a judgement is as long here and there. Nobody reads it here before `told`, or writes it at all; the memory is
        // not freed while the device works.
        unsafe { result::memcpy_dtoh_async(memory.host.bytes_mut(), from, stream) }?;
        memory.told.record()?;
        Ok(verdict)
    }

    pub(super) fn move_weights(
        &self,
        verdict: &Verdict,
        decays: bool,
        weights: &mut Raw<CudaBackend>,
        gradient: &Raw<CudaBackend>,
        first: &mut Raw<CudaBackend>,
        second: &mut Raw<CudaBackend>,
    ) -> Result<(), CudaError> {
        // What depends on the count of updates or on the norm is the verdict's.
        let Rates { beta1, beta2, complement1, complement2, eps, kept, .. } =
            Rates::new(&verdict.adamw, 0, 1.0, decays);
        let arguments: [Argument; 12] = [
            address(weights).into(),
            address(gradient).into(),
            address(first).into(),
            address(second).into(),
            verdict.address().into(),
            beta1.into(),
            beta2.into(),
            complement1.into(),
            complement2.into(),
            eps.into(),
            kept.into(),
            weights.len().into(),
        ];
        self.each("adamw", weights.len(), &arguments)
    }
}
