//! The devices that a model can be on.

use crate::config::MaeConfig;
use crate::cpu::CpuBackend;
use crate::dfdx_engine::DfdxEngine;
use crate::engine::{Engine, PixelScale};
use crate::error::ModelError;
use std::fmt;
use std::str::FromStr;

/// Where a model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The rayon pool that calls the engine.
    #[default]
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

/// How exactly float32 matrices are multiplied. Everything else is computed, and kept, in float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatmulPrecision {
    /// As they are.
    #[default]
    Float32,
    /// Factors are rounded to 10 bits of mantissa, for the tensor cores of CUDA devices; sums are float32.
    Tf32,
}

impl fmt::Display for MatmulPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MatmulPrecision::Float32 => "float32",
            MatmulPrecision::Tf32 => "tf32",
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Device, ModelError> {
        let unknown = || ModelError::UnknownDevice { name: name.to_owned() };
        match name.split_once(':') {
            None if name == "cpu" => Ok(Device::Cpu),
            None if name == "cuda" => Ok(Device::Cuda(0)),
            Some(("cuda", number)) => number.parse().map(Device::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl Device {
    /// A model on this device with fresh weights: the same `seed` gives the same ones everywhere.
    ///
    /// # Errors
    /// A configuration or scale that does not pass its checks, a device that is not there or has no such precision, or no
    /// memory.
    pub fn open(
        self,
        precision: MatmulPrecision,
        config: MaeConfig,
        scale: PixelScale,
        seed: u64,
    ) -> Result<Box<dyn Engine>, ModelError> {
        match self {
            Device::Cpu if precision == MatmulPrecision::Tf32 => Err(ModelError::Tf32OnCpu),
            Device::Cpu => Ok(Box::new(DfdxEngine::on(CpuBackend::default(), config, scale, seed)?)),
            #[cfg(feature = "cuda")]
            Device::Cuda(number) => {
                let backend = crate::cuda::CudaBackend::open(number, precision)?;
                Ok(Box::new(DfdxEngine::on(backend, config, scale, seed)?))
            }
            #[cfg(not(feature = "cuda"))]
            Device::Cuda(_) => Err(ModelError::BuiltWithoutCuda),
        }
    }
}

/// How fast memory of the host is copied to a device.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Bandwidth {
    /// Of memory as programs have it.
    pub pageable_bytes_per_s: f64,
    /// Of memory that the system never moves.
    pub page_locked_bytes_per_s: f64,
}

#[cfg(not(feature = "cuda"))]
impl Device {
    /// What the device calls itself; nothing of the CPU.
    ///
    /// # Errors
    /// The device is not there.
    pub fn name(self) -> Result<Option<String>, ModelError> {
        if self == Device::Cpu { Ok(None) } else { Err(ModelError::BuiltWithoutCuda) }
    }

    /// Measures copies to the device; nothing of the CPU.
    ///
    /// # Errors
    /// The device is not there, or failed.
    pub fn bandwidth(self) -> Result<Option<Bandwidth>, ModelError> {
        if self == Device::Cpu { Ok(None) } else { Err(ModelError::BuiltWithoutCuda) }
    }
}

#[cfg(feature = "cuda")]
impl Device {
    /// What the device calls itself; nothing of the CPU.
    ///
    /// # Errors
    /// The device is not there.
    pub fn name(self) -> Result<Option<String>, ModelError> {
        match self {
            Device::Cpu => Ok(None),
            Device::Cuda(number) => crate::cuda::CudaBackend::open(number, MatmulPrecision::Float32)?.name().map(Some),
        }
    }

    /// Measures copies to the device; nothing of the CPU.
    ///
    /// # Errors
    /// The device is not there, or failed.
    pub fn bandwidth(self) -> Result<Option<Bandwidth>, ModelError> {
        match self {
            Device::Cpu => Ok(None),
            Device::Cuda(number) => {
                crate::cuda::CudaBackend::open(number, MatmulPrecision::Float32)?.bandwidth().map(Some)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for (name, device) in [("cpu", Device::Cpu), ("cuda", Device::Cuda(0)), ("cuda:3", Device::Cuda(3))] {
            assert_eq!(name.parse(), Ok(device));
        }
        assert_eq!(Device::Cuda(3).to_string(), "cuda:3");
        for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0"] {
            assert_eq!(name.parse::<Device>(), Err(ModelError::UnknownDevice { name: name.to_owned() }));
        }
    }
}
