//! CUDA as a backend: dfdx's device, memory and tape, our kernels, and cuBLAS for matrix products.
//!
//! - [`loader`]: the driver and cuBLAS, loaded while running, so that a program that was built with CUDA starts without it.
//! - [`context`]: opening a device, launching kernels, scratch memory.
//! - [`products`]: matrix products and attention.
//! - [`backend`]: every other operation.
//! - [`streams`]: events, a stream beside the device's, page-locked memory.
//! - [`upload`]: batches that are brought to the device while it computes.
//! - [`verdict`]: what a step came to, decided on the device and told later.
//! - [`facts`]: the device's name, and how fast it is fed.
//!
//! All work but the upload of batches goes to one stream, in order, and the host waits for none of it in a step; memory that an
//! operation gives back may be handed out before the device is done with it, because whoever gets it comes later on that stream.
//!
//! Of dfdx's own CUDA operations none is used: GELU's backward pass is wrong there, reshape and concat compile CUDA code
//! while running, against headers of the machine that built the program, and the others cannot write where they are told.

mod backend;
mod context;
mod facts;
mod loader;
mod products;
mod streams;
mod upload;
mod verdict;

pub(crate) use context::CudaBackend;
