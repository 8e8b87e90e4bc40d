//! CUDA as a backend: dfdx's device, memory and tape, our kernels, and cuBLAS for matrix products.
//!
//! - [`loader`]: the driver and cuBLAS, loaded while running, so that a program that was built with CUDA starts without it.
//! - [`context`]: opening a device, launching kernels, scratch memory.
//! - [`products`]: matrix products and attention.
//! - [`backend`]: every other operation.
//! - [`facts`]: the device's name, and how fast it is fed.
//!
//! All work goes to one stream, in order; memory that an operation gives back may be handed out before the device is done
//! with it, because whoever gets it comes later on that stream.
//!
//! Of dfdx's own CUDA operations none is used: GELU's backward pass is wrong there, reshape and concat compile CUDA code
//! while running, against headers of the machine that built the program, and the others cannot write where they are told.

mod backend;
mod context;
mod facts;
mod loader;
mod products;

pub(crate) use context::CudaBackend;
