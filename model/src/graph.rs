//! Values on dfdx's tape.
//!
//! dfdx keeps a tensor's storage to itself: from outside it can only be copied. A storage that was allocated from the
//! device is another matter, and so is the gradient that a tape holds. So a [`Value`] is a storage of dfdx's device, shared
//! as dfdx shares one, beside an empty dfdx tensor whose identity is the key of its gradient. Tape, gradients and memory
//! are dfdx's; operations read and write them in place.
//!
//! In a tape's gradients, an empty storage stands for a gradient that nobody has written yet. Whoever writes first sets
//! it, whoever comes later adds to it, and an operation takes the gradient of its output away for good.

use crate::backend::{Backend, Done, Raw};
use crate::kernels::Write;
use crate::memory::{Buffer, Pool};
use crate::profile::{Pass, Profile, Timer};
use dfdx::prelude::ZerosTensor;
use dfdx::prelude::{Backward, Gradients, OwnedTape, PutTape, Rank0, SplitTape, Tape, Tensor, Trace};
use std::ops::Deref;
use std::sync::Arc;

/// Gradients of a pass, by value.
pub(crate) type Grads<B> = Gradients<f32, <B as Backend>::Device>;

/// Names a value on the tape.
pub(crate) struct Key<B: Backend> {
    tensor: Tensor<(usize,), f32, B::Device>,
    pool: Pool<B>,
}

impl<B: Backend> Clone for Key<B> {
    fn clone(&self) -> Self {
        Key { tensor: self.tensor.clone(), pool: self.pool.clone() }
    }
}

// SAFETY: the tensor is empty and never written. Its device, where it is dfdx's CUDA device, holds a stream, which is a
// handle that every thread may use: cudarc binds the device to the calling thread before each use. All else is Send.
unsafe impl<B: Backend> Send for Key<B> {}
// SAFETY: as above.
unsafe impl<B: Backend> Sync for Key<B> {}

impl<B: Backend> Key<B> {
    fn new(pool: &Pool<B>) -> Done<B, Key<B>> {
        Ok(Key { tensor: pool.backend().device().try_zeros_like(&(0,))?, pool: pool.clone() })
    }

    pub(crate) fn backend(&self) -> &B {
        self.pool.backend()
    }

    /// Takes the gradient out of a tape's gradients; empty where there is none.
    pub(crate) fn take(&self, grads: &mut Grads<B>) -> Done<B, Buffer<B>> {
        let empty = self.backend().alloc(0)?;
        Ok(self.pool.adopt(std::mem::replace(grads.get_or_alloc_mut(&self.tensor)?, empty)))
    }

    fn put(&self, grads: &mut Grads<B>, gradient: Buffer<B>) -> Done<B> {
        *grads.get_or_alloc_mut(&self.tensor)? = gradient.into_raw();
        Ok(())
    }
}

/// Values that operations read and tapes remember; the shape is known to those who use it.
pub(crate) struct Value<B: Backend> {
    data: Arc<Buffer<B>>,
    key: Key<B>,
}

impl<B: Backend> Clone for Value<B> {
    fn clone(&self) -> Self {
        Value { data: Arc::clone(&self.data), key: self.key.clone() }
    }
}

impl<B: Backend> Deref for Value<B> {
    type Target = Raw<B>;

    fn deref(&self) -> &Raw<B> {
        &self.data
    }
}

impl<B: Backend> Value<B> {
    /// Names `data` on tapes.
    pub(crate) fn new(data: Buffer<B>) -> Done<B, Value<B>> {
        Ok(Value { key: Key::new(data.pool())?, data: Arc::new(data) })
    }

    /// How many.
    pub(crate) fn values(&self) -> usize {
        self.data.values()
    }

    /// The values, for writing; no pass may share them, and none does when it has ended.
    pub(crate) fn get_mut(&mut self) -> &mut Raw<B> {
        Arc::get_mut(&mut self.data).expect("a pass that has ended shares no values")
    }

    pub(crate) fn read(&self) -> Done<B, Vec<f32>> {
        self.data.backend().read(self)
    }

    pub(crate) fn key(&self) -> &Key<B> {
        &self.key
    }

    /// Memory for a gradient of this value, to be written whole and given away.
    pub(crate) fn alloc_gradient(&self) -> Done<B, Buffer<B>> {
        self.data.pool().alloc(self.values())
    }

    /// Takes this value's gradient out to write it: what there is to add to, or fresh memory to set.
    pub(crate) fn gradient_slot(&self, grads: &mut Grads<B>) -> Done<B, (Buffer<B>, Write)> {
        let gradient = self.key.take(grads)?;
        if gradient.values() == 0 {
            return Ok((self.alloc_gradient()?, Write::Set));
        }
        Ok((gradient, Write::Add))
    }

    /// Puts back what [`Value::gradient_slot`] gave.
    pub(crate) fn put_gradient(&self, grads: &mut Grads<B>, gradient: Buffer<B>) -> Done<B> {
        self.key.put(grads, gradient)
    }

    /// Gives a whole gradient away to this value, by a move where it has none yet.
    pub(crate) fn give_gradient(&self, grads: &mut Grads<B>, gradient: Buffer<B>) -> Done<B> {
        let (mut held, write) = match self.key.take(grads)? {
            held if held.values() == 0 => (gradient, None),
            held => (held, Some(gradient)),
        };
        if let Some(gradient) = write {
            held.backend().clone().add(&mut held, &gradient)?;
        }
        self.key.put(grads, held)
    }
}

/// A forward pass, recorded for a backward pass or not. Its operations are in [`crate::operations`].
pub(crate) struct Graph<B: Backend> {
    pool: Pool<B>,
    tape: Option<OwnedTape<f32, B::Device>>,
    /// What dfdx takes for the scalar to derive; it has no say in anything.
    end: Option<Tensor<Rank0, f32, B::Device>>,
    profile: Option<Profile>,
}

impl<B: Backend> Graph<B> {
    /// A pass of which nothing is kept.
    pub(crate) fn forward_only(pool: &Pool<B>) -> Graph<B> {
        Graph { pool: pool.clone(), tape: None, end: None, profile: None }
    }

    /// A pass whose backward pass adds to the `gradients` of those `parameters`; an empty gradient starts from nothing.
    pub(crate) fn recording(pool: &Pool<B>, parameters: &[&Value<B>], gradients: Vec<Buffer<B>>) -> Done<B, Graph<B>> {
        let mut grads = Gradients::leaky();
        for (parameter, gradient) in parameters.iter().zip(gradients) {
            parameter.put_gradient(&mut grads, gradient)?;
        }
        // The operation that computed the loss records its own derivative, but dfdx wants a scalar to start from, and would
        // set its gradient to one: by a copy from the host, which a device may be made to wait for. Of an empty gradient it
        // copies nothing.
        let end: Tensor<Rank0, f32, B::Device> = pool.backend().device().try_zeros_like(&())?;
        *grads.get_or_alloc_mut(&end)? = pool.backend().alloc(0)?;
        let (end, tape) = end.traced(grads).split_tape();
        Ok(Graph { pool: pool.clone(), tape: Some(tape), end: Some(end), profile: None })
    }

    /// The same pass, its operations timed where there is a profile.
    pub(crate) fn profiled(self, profile: Option<Profile>) -> Graph<B> {
        Graph { profile, ..self }
    }

    pub(crate) fn backend(&self) -> &B {
        self.pool.backend()
    }

    /// Times an operation's forward pass until the timer is dropped.
    pub(crate) fn time(&self, operation: &'static str, flops: u64) -> Option<Timer> {
        Some(self.profile.as_ref()?.time(self.backend(), operation, Pass::Forward, flops))
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.tape.is_some()
    }

    /// Memory for an operation's output.
    pub(crate) fn alloc(&self, len: usize) -> Done<B, Buffer<B>> {
        self.pool.alloc(len)
    }

    /// A constant of zeros.
    pub(crate) fn zeros(&self, len: usize) -> Done<B, Value<B>> {
        let mut zeros = self.alloc(len)?;
        self.backend().fill_zero(&mut zeros)?;
        Value::new(zeros)
    }

    /// Adds the backward pass of an operation, if this pass records any.
    pub(crate) fn record(
        &mut self,
        operation: &'static str,
        flops: u64,
        backward: impl 'static + FnOnce(&B, &mut Grads<B>) -> Done<B>,
    ) {
        let (profile, backend) = (self.profile.clone(), self.backend().clone());
        if let Some(tape) = &mut self.tape {
            tape.add_backward_op(move |grads| {
                let _timer = profile.map(|profile| profile.time(&backend, operation, Pass::Backward, flops));
                backward(&backend, grads)
            });
        }
    }

    /// Runs the recorded operations backwards and gives back the gradients of `parameters`, in their order.
    pub(crate) fn backward(self, parameters: &[&Value<B>]) -> Done<B, Vec<Buffer<B>>> {
        let mut grads = match self.tape.zip(self.end) {
            Some((tape, end)) => end.put_tape(tape).try_backward()?,
            None => Gradients::leaky(),
        };
        parameters.iter().map(|parameter| parameter.key.take(&mut grads)).collect()
    }
}
