//! Values on dfdx's tape.
//!
//! dfdx keeps a tensor's storage to itself: from outside it can only be copied. A storage that was allocated from the
//! device is another matter, and so is the gradient that a tape holds. So a [`Value`] is a storage of dfdx's device (and
//! of its allocation cache), shared as dfdx shares one, beside an empty dfdx tensor whose identity is the key of its
//! gradient. Tape, gradients and memory are dfdx's; operations read and write them in place.
//!
//! In a tape's gradients, an empty storage stands for a gradient that nobody has written yet. Whoever writes first sets
//! it, whoever comes later adds to it, and an operation takes the gradient of its output away for good.

use crate::error::ModelError;
use crate::kernels::Write;
use dfdx::prelude::{Backward, Cache, Cpu, CpuError, Gradients, OwnedTape, Rank0, SplitTape, Storage, Tape, Tensor};
use dfdx::prelude::{PutTape, TensorFrom, Trace, ZerosTensor};
use std::ops::Deref;
use std::sync::Arc;

/// Memory of dfdx's device; it goes back to the device's cache when dropped.
pub(crate) type Buffer = <Cpu as Storage<f32>>::Vec;
/// Gradients of a pass, by value.
pub(crate) type Grads = Gradients<f32, Cpu>;
/// Names a value on the tape.
pub(crate) type Key = Tensor<(usize,), f32, Cpu>;

impl From<CpuError> for ModelError {
    fn from(error: CpuError) -> ModelError {
        ModelError::Device { reason: error.to_string() }
    }
}

/// Values that operations read and tapes remember; the shape is known to those who use it.
#[derive(Clone)]
pub(crate) struct Value {
    data: Arc<Buffer>,
    key: Key,
}

impl Deref for Value {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data
    }
}

impl Value {
    /// Names `data` on tapes.
    pub(crate) fn new(device: &Cpu, data: Buffer) -> Result<Value, CpuError> {
        Ok(Value { data: Arc::new(data), key: device.try_zeros_like(&(0,))? })
    }

    /// The values, for writing. Copies them if a pass still shares them, which no caller of this crate leaves so.
    pub(crate) fn make_mut(&mut self) -> &mut [f32] {
        Arc::make_mut(&mut self.data).as_mut_slice()
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Memory for a gradient of this value, to be written whole and given away.
    pub(crate) fn alloc_gradient(&self) -> Result<Buffer, CpuError> {
        self.key.device().try_alloc_len(self.len())
    }

    /// Takes this value's gradient out to write it: what there is to add to, or fresh memory to set.
    pub(crate) fn gradient_slot(&self, grads: &mut Grads) -> Result<(Buffer, Write), CpuError> {
        let gradient = take(grads, &self.key)?;
        if gradient.is_empty() {
            return Ok((self.alloc_gradient()?, Write::Set));
        }
        Ok((gradient, Write::Add))
    }

    /// Puts back what [`Value::gradient_slot`] gave.
    pub(crate) fn put_gradient(&self, grads: &mut Grads, gradient: Buffer) -> Result<(), CpuError> {
        *grads.get_or_alloc_mut(&self.key)? = gradient;
        Ok(())
    }

    /// Gives a whole gradient away to this value, by a move where it has none yet.
    pub(crate) fn give_gradient(&self, grads: &mut Grads, gradient: Buffer) -> Result<(), CpuError> {
        let held = grads.get_or_alloc_mut(&self.key)?;
        if held.is_empty() {
            *held = gradient;
        } else {
            crate::kernels::columns::add(held, &gradient);
        }
        Ok(())
    }
}

/// Takes a gradient out of a tape's gradients; empty where there is none.
pub(crate) fn take(grads: &mut Grads, key: &Key) -> Result<Buffer, CpuError> {
    let empty = key.device().try_alloc_len(0)?;
    Ok(std::mem::replace(grads.get_or_alloc_mut(key)?, empty))
}

/// A device with its allocation cache turned on.
pub(crate) fn device() -> Result<Cpu, CpuError> {
    let device = Cpu::default();
    device.try_enable_cache()?;
    Ok(device)
}

/// A forward pass, recorded for a backward pass or not. Its operations are in [`crate::operations`].
pub(crate) struct Graph {
    device: Cpu,
    tape: Option<OwnedTape<f32, Cpu>>,
}

impl Graph {
    /// A pass of which nothing is kept.
    pub(crate) fn forward_only(device: &Cpu) -> Graph {
        Graph { device: device.clone(), tape: None }
    }

    /// A pass whose backward pass adds to the `gradients` of those `parameters`; an empty gradient starts from nothing.
    pub(crate) fn recording(device: &Cpu, parameters: &[&Value], gradients: Vec<Buffer>) -> Result<Graph, CpuError> {
        let mut grads = Gradients::leaky();
        for (parameter, gradient) in parameters.iter().zip(gradients) {
            parameter.put_gradient(&mut grads, gradient)?;
        }
        let anchor: Key = device.try_zeros_like(&(0,))?;
        let (_, tape) = anchor.traced(grads).split_tape();
        Ok(Graph { device: device.clone(), tape: Some(tape) })
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.tape.is_some()
    }

    /// Memory for an operation's output.
    pub(crate) fn alloc(&self, len: usize) -> Result<Buffer, CpuError> {
        self.device.try_alloc_len(len)
    }

    pub(crate) fn value(&self, data: Buffer) -> Result<Value, CpuError> {
        Value::new(&self.device, data)
    }

    /// Adds a backward operation, if this pass records any.
    pub(crate) fn record(&mut self, operation: impl 'static + FnOnce(&mut Grads) -> Result<(), CpuError>) {
        if let Some(tape) = &mut self.tape {
            tape.add_backward_op(operation);
        }
    }

    /// Runs the recorded operations backwards and gives back the gradients of `parameters`, in their order.
    pub(crate) fn backward(self, parameters: &[&Value]) -> Result<Vec<Buffer>, CpuError> {
        // The operation that computed the loss recorded its own derivative; dfdx wants a scalar to start from.
        let end: Tensor<Rank0, f32, Cpu> = self.device.try_tensor(0.0)?;
        let mut grads = match self.tape {
            Some(tape) => end.put_tape(tape).try_backward()?,
            None => Gradients::leaky(),
        };
        parameters.iter().map(|parameter| take(&mut grads, parameter.key())).collect()
    }
}
