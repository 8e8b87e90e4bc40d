//! The driver and cuBLAS, loaded while running.
//!
//! cudarc 0.9 calls their functions as if the program were linked with them, which would keep it from starting where they
//! are not installed. So the functions are defined here, under their own names, and the linker finds these first: each looks
//! its counterpart up in the library and passes its arguments on. Where there is none, it returns an error, which nobody
//! sees who has asked [`load`] first.

use crate::error::ModelError;
use cudarc::cublas::sys as cublas;
use cudarc::driver::sys as driver;
use libloading::Library;
use std::ffi::{c_char, c_int, c_uchar, c_uint, c_void};
use std::path::PathBuf;
use std::sync::OnceLock;

type Loaded = OnceLock<Result<Library, String>>;

static DRIVER: Loaded = OnceLock::new();
static CUBLAS: Loaded = OnceLock::new();

/// Loads both.
pub(super) fn load() -> Result<(), ModelError> {
    for (library, what) in [
        (driver_library(), "an NVIDIA driver, whose library lies where the system looks for libraries"),
        (
            cublas_library(),
            "cuBLAS of CUDA 13, where the system looks for libraries, in LD_LIBRARY_PATH or in CUDA_PATH",
        ),
    ] {
        if let Err(problem) = library {
            return Err(ModelError::Cuda { problem: problem.clone(), expected: what.to_owned() });
        }
    }
    Ok(())
}

fn driver_library() -> &'static Result<Library, String> {
    // Where Kubernetes and WSL have it, which the system is not always told.
    DRIVER.get_or_init(|| open("libcuda.so.1", ["/usr/local/nvidia/lib64", "/usr/lib/wsl/lib"].map(PathBuf::from)))
}

fn cublas_library() -> &'static Result<Library, String> {
    CUBLAS.get_or_init(|| {
        let homes = std::env::var_os("CUDA_PATH").into_iter().chain(["/usr/local/cuda".into()]).map(PathBuf::from);
        open("libcublas.so.13", homes.flat_map(|home| [home.join("lib64"), home.join("lib")]))
    })
}

/// The library where the system finds it, or else in the first of the folders; of none, why the system did not find it.
fn open(name: &str, folders: impl IntoIterator<Item = PathBuf>) -> Result<Library, String> {
    let mut first_problem = None;
    let paths = folders.into_iter().map(|folder| folder.join(name));
    for path in std::iter::once(name.into()).chain(paths) {
        // SAFETY: these are NVIDIA's libraries, whose initialisers do nothing that depends on this program.
        match unsafe { Library::new(path) } {
            Ok(library) => return Ok(library),
            Err(error) => first_problem = first_problem.or(Some(error.to_string())),
        }
    }
    Err(format!("a library is missing ({})", first_problem.unwrap_or_default()))
}

const NOTHING_DONE: driver::CUresult = driver::CUresult::CUDA_SUCCESS;

/// Gives nothing to whoever asks for no bytes.
fn is_empty(pointer: *mut driver::CUdeviceptr, bytes: usize) -> bool {
    if bytes == 0 {
        // SAFETY: the caller of an allocating function of the driver gives a place for its result.
        unsafe { pointer.write(0) };
    }
    bytes == 0
}

/// `fn name(arguments) or VALUE if CONDITION;` returns the value without asking the library where the condition holds.
macro_rules! forward {
    (
        $library:ident, $result:ty, $missing:expr;
        $(fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(or $value:path, if $condition:expr)?;)*
    ) => {
        $(
            // SAFETY: no other function of the program has this name: it is the library's, which is not linked.
            #[unsafe(no_mangle)]
            #[allow(non_snake_case, clippy::too_many_arguments, reason = "the library's names and arguments")]
            unsafe extern "C" fn $name($($argument: $type),*) -> $result {
                type Function = unsafe extern "C" fn($($type),*) -> $result;
                static FUNCTION: OnceLock<Option<Function>> = OnceLock::new();
                $(if $condition {
                    return $value;
                })?
                let found = FUNCTION.get_or_init(|| {
                    let library = $library().as_ref().ok()?;
                    // SAFETY: the function has the type that NVIDIA's header declares, and libraries stay loaded.
                    unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }.ok().map(|symbol| *symbol)
                });
                match found {
                    // SAFETY: the caller keeps what the library asks for.
                    Some(function) => unsafe { function($($argument),*) },
                    None => $missing,
                }
            }
        )*
    };
}

forward! {
    driver_library, driver::CUresult, driver::CUresult::CUDA_ERROR_NOT_FOUND;
    fn cuInit(flags: c_uint);
    fn cuDriverGetVersion(version: *mut c_int);
    fn cuDeviceGet(device: *mut driver::CUdevice, ordinal: c_int);
    fn cuDeviceGetCount(count: *mut c_int);
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: driver::CUdevice_attribute, device: driver::CUdevice);
    fn cuDevicePrimaryCtxRetain(context: *mut driver::CUcontext, device: driver::CUdevice);
    fn cuDevicePrimaryCtxRelease_v2(device: driver::CUdevice);
    fn cuCtxSetCurrent(context: driver::CUcontext);
    fn cuCtxGetCurrent(context: *mut driver::CUcontext);
    fn cuGetErrorName(error: driver::CUresult, name: *mut *const c_char);
    fn cuGetErrorString(error: driver::CUresult, text: *mut *const c_char);
    fn cuModuleLoadData(module: *mut driver::CUmodule, image: *const c_void);
    fn cuModuleUnload(module: driver::CUmodule);
    fn cuModuleGetFunction(function: *mut driver::CUfunction, module: driver::CUmodule, name: *const c_char);
    fn cuLaunchKernel(
        function: driver::CUfunction,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: driver::CUstream,
        arguments: *mut *mut c_void,
        extra: *mut *mut c_void,
    );
    fn cuDeviceGetName(name: *mut c_char, bytes: c_int, device: driver::CUdevice);
    fn cuMemHostAlloc(pointer: *mut *mut c_void, bytes: usize, flags: c_uint);
    fn cuMemFreeHost(pointer: *mut c_void);
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    // dfdx allocates, clears and frees empty memory, and so do the names of our values: a thousand calls a step.
    fn cuMemAlloc_v2(pointer: *mut driver::CUdeviceptr, bytes: usize) or NOTHING_DONE, if is_empty(pointer, bytes);
    fn cuMemAllocAsync(
        pointer: *mut driver::CUdeviceptr,
        bytes: usize,
        stream: driver::CUstream,
    ) or NOTHING_DONE, if is_empty(pointer, bytes);
    fn cuMemFree_v2(pointer: driver::CUdeviceptr) or NOTHING_DONE, if pointer == 0;
    fn cuMemFreeAsync(pointer: driver::CUdeviceptr, stream: driver::CUstream) or NOTHING_DONE, if pointer == 0;
    fn cuMemsetD8_v2(pointer: driver::CUdeviceptr, value: c_uchar, count: usize) or NOTHING_DONE, if count == 0;
    fn cuMemsetD8Async(
        pointer: driver::CUdeviceptr,
        value: c_uchar,
        count: usize,
        stream: driver::CUstream,
    ) or NOTHING_DONE, if count == 0;
    fn cuMemcpyHtoD_v2(to: driver::CUdeviceptr, from: *const c_void, bytes: usize);
    fn cuMemcpyHtoDAsync_v2(
        to: driver::CUdeviceptr,
        from: *const c_void,
        bytes: usize,
        stream: driver::CUstream,
    ) or NOTHING_DONE, if bytes == 0;
    fn cuMemcpyDtoH_v2(to: *mut c_void, from: driver::CUdeviceptr, bytes: usize);
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: driver::CUdeviceptr, bytes: usize, stream: driver::CUstream);
    fn cuMemcpyDtoD_v2(to: driver::CUdeviceptr, from: driver::CUdeviceptr, bytes: usize);
    fn cuMemcpyDtoDAsync_v2(
        to: driver::CUdeviceptr,
        from: driver::CUdeviceptr,
        bytes: usize,
        stream: driver::CUstream,
    );
    fn cuStreamCreate(stream: *mut driver::CUstream, flags: c_uint);
    fn cuStreamDestroy_v2(stream: driver::CUstream);
    fn cuStreamSynchronize(stream: driver::CUstream);
    fn cuStreamWaitEvent(stream: driver::CUstream, event: driver::CUevent, flags: c_uint);
    fn cuEventCreate(event: *mut driver::CUevent, flags: c_uint);
    fn cuEventRecord(event: driver::CUevent, stream: driver::CUstream);
    fn cuEventSynchronize(event: driver::CUevent);
    fn cuEventDestroy_v2(event: driver::CUevent);
}

forward! {
    cublas_library, cublas::cublasStatus_t, cublas::cublasStatus_t::CUBLAS_STATUS_NOT_INITIALIZED;
    fn cublasCreate_v2(handle: *mut cublas::cublasHandle_t);
    fn cublasDestroy_v2(handle: cublas::cublasHandle_t);
    fn cublasSetStream_v2(handle: cublas::cublasHandle_t, stream: cublas::cudaStream_t);
    fn cublasSetMathMode(handle: cublas::cublasHandle_t, mode: cublas::cublasMath_t);
    fn cublasSgemm_v2(
        handle: cublas::cublasHandle_t,
        operation_a: cublas::cublasOperation_t,
        operation_b: cublas::cublasOperation_t,
        m: c_int,
        n: c_int,
        k: c_int,
        alpha: *const f32,
        a: *const f32,
        ld_a: c_int,
        b: *const f32,
        ld_b: c_int,
        beta: *const f32,
        c: *mut f32,
        ld_c: c_int,
    );
    fn cublasSgemmBatched(
        handle: cublas::cublasHandle_t,
        operation_a: cublas::cublasOperation_t,
        operation_b: cublas::cublasOperation_t,
        m: c_int,
        n: c_int,
        k: c_int,
        alpha: *const f32,
        a: *const *const f32,
        ld_a: c_int,
        b: *const *const f32,
        ld_b: c_int,
        beta: *const f32,
        c: *const *mut f32,
        ld_c: c_int,
        batch: c_int,
    );
}
