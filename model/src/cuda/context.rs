//! A CUDA device that is open: checks that it can be used, kernels, and scratch memory.

use super::loader;
use super::verdict;
use crate::backend::Raw;
use crate::device::MatmulPrecision;
use crate::error::ModelError;
use cudarc::cublas::CudaBlas;
use cudarc::cublas::sys::{cublasMath_t, cublasSetMathMode};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute, CUdeviceptr, CUfunction, CUmodule};
use cudarc::driver::{CudaDevice, CudaSlice, DevicePtr as _};
use dfdx::prelude::{Cuda, CudaError, Storage};
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, PoisonError};

/// Compiled from `kernels.cu` when this crate was built.
const KERNELS_PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
/// Of the compiler that made them, as 13.0; an older driver cannot read what it writes.
const CUDA_VERSION: &str = env!("PATCHSTREAM_CUDA_VERSION");
/// What `build.rs` compiles for.
const CAPABILITY_MIN: (i32, i32) = (8, 0);
/// Threads of a block of every kernel.
const BLOCK: u64 = 256;

/// dfdx's CUDA device with our kernels.
#[derive(Clone)]
pub(crate) struct CudaBackend(Arc<Context>);

impl std::ops::Deref for CudaBackend {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.0
    }
}

pub(crate) struct Context {
    pub(super) dfdx: Cuda,
    pub(super) driver: Arc<CudaDevice>,
    pub(super) blas: CudaBlas,
    module: CUmodule,
    pub(super) memory_bytes: u64,
    /// Memory of kernels that need some between two launches; each only grows.
    scratch: [Mutex<Option<CudaSlice<u8>>>; Scratch::COUNT],
    /// Memory of verdicts that were dropped.
    pub(super) verdicts: Mutex<Vec<verdict::Memory>>,
}

// SAFETY: what is not Send or Sync of it are handles of the driver: the module, the stream that dfdx's device holds. Every
// thread may use them that has bound the device, which cudarc and `function` do before each use.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// What scratch memory is for. Two that are used at once are two.
#[derive(Clone, Copy)]
pub(super) enum Scratch {
    Probabilities,
    ScoreGradients,
    HeadPointers,
    Partial,
    FurtherPartial,
    Picked,
    Doubles,
    Bytes,
}

impl Scratch {
    const COUNT: usize = 8;
}

/// An argument of a kernel as its bits: an address, an integer, or a float. A kernel reads as many of the low bytes as its
/// parameter has.
#[derive(Clone, Copy)]
pub(super) struct Argument(u64);

impl From<u64> for Argument {
    fn from(value: u64) -> Argument {
        Argument(value)
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Argument {
        Argument(u64::from(value))
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Argument {
        Argument(u64::from(value.to_bits()))
    }
}

impl From<f64> for Argument {
    fn from(value: f64) -> Argument {
        Argument(value.to_bits())
    }
}

impl From<usize> for Argument {
    fn from(value: usize) -> Argument {
        Argument(value as u64)
    }
}

impl CudaBackend {
    /// Opens a device.
    pub(crate) fn open(number: usize, precision: MatmulPrecision) -> Result<CudaBackend, ModelError> {
        check_driver(number)?;
        let dfdx = Cuda::try_build(number, 0).map_err(|error| failed("opening the device", &error))?;
        // dfdx keeps its handle of the driver's device to itself, but memory that it gives out has it.
        let memory = Storage::<f32>::try_alloc_len(&dfdx, 1).map_err(|error| failed("the first memory", &error))?;
        let driver = memory.device();
        let blas = CudaBlas::new(Arc::clone(&driver)).map_err(|error| failed("starting cuBLAS", &error))?;
        let mode = match precision {
            MatmulPrecision::Float32 => cublasMath_t::CUBLAS_DEFAULT_MATH,
            MatmulPrecision::Tf32 => cublasMath_t::CUBLAS_TF32_TENSOR_OP_MATH,
        };
        // SAFETY: the handle is cuBLAS's own, and alive.
        let set = unsafe { cublasSetMathMode(*blas.handle(), mode) }.result();
        set.map_err(|error| failed("setting cuBLAS's precision", &error))?;
        let (_, memory_bytes) = result::mem_get_info().map_err(|error| failed("asking for its memory", &error))?;
        let ptx = CString::new(KERNELS_PTX).expect("PTX is text");
        // SAFETY: the image is text that ends with a zero, and the device is bound to this thread since it was opened.
        let module = unsafe { result::module::load_data(ptx.as_ptr().cast()) }
            .map_err(|error| failed("loading the kernels", &error))?;
        let scratch = std::array::from_fn(|_| Mutex::new(None));
        let memory_bytes = memory_bytes as u64;
        let verdicts = Mutex::default();
        Ok(CudaBackend(Arc::new(Context { dfdx, driver, blas, module, memory_bytes, scratch, verdicts })))
    }
}

/// Checks all that would make dfdx panic, or fail without a reason.
fn check_driver(number: usize) -> Result<(), ModelError> {
    let cuda = |problem: String, expected: String| ModelError::Cuda { problem, expected };
    loader::load()?;
    let driver = format!("a driver for CUDA {CUDA_VERSION} or newer");
    if let Err(error) = result::init() {
        return Err(cuda(format!("the driver does not start ({:?})", error.0), driver));
    }
    let needed = version_number(CUDA_VERSION);
    let mut version = 0;
    // SAFETY: the driver writes one integer.
    let told = unsafe { sys::cuDriverGetVersion(&raw mut version) }.result();
    if told.is_err() || version < needed {
        let (major, minor) = (version / 1000, version % 1000 / 10);
        return Err(cuda(format!("the driver knows CUDA up to {major}.{minor}"), driver));
    }
    let count = result::device::get_count().map_err(|error| failed("counting devices", &error))?;
    if number >= count.max(0) as usize {
        return Err(cuda(format!("there is no device {number}"), format!("less than {count}, the number of devices")));
    }
    let device = result::device::get(number as i32).map_err(|error| failed("finding the device", &error))?;
    let attribute = |attribute| {
        // SAFETY: the device is one that the driver gave.
        unsafe { result::device::get_attribute(device, attribute) }.map_err(|error| failed("asking the device", &error))
    };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    if (major, minor) < CAPABILITY_MIN {
        let (least, then) = CAPABILITY_MIN;
        let problem = format!("device {number} has compute capability {major}.{minor}");
        return Err(cuda(problem, format!("{least}.{then} or newer")));
    }
    Ok(())
}

/// 13.0 as the driver tells it, 13000.
fn version_number(version: &str) -> i32 {
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    major.parse().unwrap_or(0) * 1000 + minor.parse().unwrap_or(0) * 10
}

pub(super) fn failed(doing: &str, error: &impl std::fmt::Debug) -> ModelError {
    ModelError::Device { reason: format!("{doing}: {error:?}") }
}

/// Where memory of the device begins.
pub(super) fn address(raw: &Raw<CudaBackend>) -> CUdeviceptr {
    *raw.device_ptr()
}

impl Context {
    /// Runs a kernel with a thread for each of `threads`.
    pub(super) fn each(&self, kernel: &'static str, threads: usize, arguments: &[Argument]) -> Result<(), CudaError> {
        let blocks = (threads as u64).div_ceil(BLOCK);
        self.launch(kernel, (blocks, 1), (BLOCK as u32, 1), arguments)
    }

    /// Runs a kernel with a warp for each of `rows`.
    pub(super) fn each_row(&self, kernel: &'static str, rows: usize, arguments: &[Argument]) -> Result<(), CudaError> {
        self.each(kernel, 32 * rows, arguments)
    }

    pub(super) fn launch(
        &self,
        kernel: &'static str,
        (blocks, block_rows): (u64, u64),
        (threads, thread_rows): (u32, u32),
        arguments: &[Argument],
    ) -> Result<(), CudaError> {
        if blocks == 0 || block_rows == 0 {
            return Ok(());
        }
        let (Ok(blocks), Ok(block_rows)) = (u32::try_from(blocks), u32::try_from(block_rows)) else {
            return Err(DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE).into());
        };
        let function = self.function(kernel)?;
        let mut bits: Vec<Argument> = arguments.to_vec();
        let mut pointers: Vec<*mut c_void> = bits.iter_mut().map(|bits| (&raw mut bits.0).cast()).collect();
        // SAFETY: each kernel is launched in one place, with the arguments of its declaration, and reads and writes no more
        // than the lengths that it is given; the pointers to the arguments live until the launch has copied them.
        unsafe {
            result::launch_kernel(
                function,
                (blocks, block_rows, 1),
                (threads, thread_rows, 1),
                0,
                *self.driver.cu_stream(),
                &mut pointers,
            )
        }?;
        Ok(())
    }

    fn function(&self, kernel: &'static str) -> Result<CUfunction, CudaError> {
        self.driver.bind_to_thread()?;
        let name = CString::new(kernel).expect("names of kernels are text");
        // SAFETY: the module is loaded for as long as the context lives. The driver looks the name up in a table.
        Ok(unsafe { result::module::get_function(self.module, name) }?)
    }

    /// At least so many bytes of scratch memory, the same for every user of this purpose: what is in it lasts until the
    /// purpose is asked for again.
    pub(super) fn scratch(&self, purpose: Scratch, bytes: usize) -> Result<CUdeviceptr, CudaError> {
        let mut slot = self.scratch[purpose as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_none_or(|held| cudarc::driver::DeviceSlice::len(held) < bytes) {
            // The old memory is freed in the order of the stream, after all that uses it.
            *slot = None;
            // SAFETY: scratch memory is written before it is read.
            *slot = Some(unsafe { self.driver.alloc::<u8>(bytes) }?);
        }
        Ok(slot.as_ref().map_or(0, |held| *held.device_ptr()))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // There is nobody to tell of a failure.
        // Steps may be under way that nobody has asked about.
        let _ = self.driver.bind_to_thread().and_then(|()| self.driver.synchronize());
        // SAFETY: nothing can launch a kernel of it any more.
        let _ = unsafe { result::module::unload(self.module) };
    }
}
