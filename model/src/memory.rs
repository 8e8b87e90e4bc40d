//! Memory of a device that goes round: what is dropped is kept, by length, and handed out again as it is. dfdx's own cache
//! does the same, but overwrites all memory with zeros each time.

use crate::backend::{Backend, Done, Raw};
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Hands out memory of one device.
pub(crate) struct Pool<B: Backend> {
    backend: B,
    shelf: Arc<Mutex<Shelf<B>>>,
}

struct Shelf<B: Backend> {
    free: HashMap<usize, Vec<Raw<B>>>,
    bytes: u64,
    bytes_max: u64,
}

impl<B: Backend> Clone for Pool<B> {
    fn clone(&self) -> Self {
        Pool { backend: self.backend.clone(), shelf: Arc::clone(&self.shelf) }
    }
}

impl<B: Backend> Pool<B> {
    pub(crate) fn new(backend: B) -> Pool<B> {
        let shelf = Shelf { free: HashMap::new(), bytes: 0, bytes_max: 0 };
        Pool { backend, shelf: Arc::new(Mutex::new(shelf)) }
    }

    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    /// Memory for `len` values, of which nothing is known. Where the device has none left, what is kept is given back to it
    /// first.
    pub(crate) fn alloc(&self, len: usize) -> Done<B, Buffer<B>> {
        let kept = self.shelf().free.get_mut(&len).and_then(Vec::pop);
        let raw = match kept {
            Some(raw) => raw,
            None => self.fresh(len)?,
        };
        Ok(self.adopt(raw))
    }

    /// Memory that came from this pool, or is empty.
    pub(crate) fn adopt(&self, raw: Raw<B>) -> Buffer<B> {
        Buffer { raw: Some(raw), pool: self.clone() }
    }

    /// The most bytes that were ever taken of the device at once.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.shelf().bytes_max
    }

    fn fresh(&self, len: usize) -> Done<B, Raw<B>> {
        let raw = self.backend.alloc(len).or_else(|error| {
            // Kept memory of other lengths may be all that is in the way.
            let mut shelf = self.shelf();
            if shelf.free.is_empty() {
                return Err(error);
            }
            let kept: usize = shelf.free.drain().map(|(len, raws)| len * raws.len()).sum();
            shelf.bytes -= bytes(kept);
            drop(shelf);
            // A device that frees in the order of its work has the memory only when it has come that far.
            self.backend.wait()?;
            self.backend.alloc(len)
        })?;
        let mut shelf = self.shelf();
        shelf.bytes += bytes(len);
        shelf.bytes_max = shelf.bytes_max.max(shelf.bytes);
        Ok(raw)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<B>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(values: usize) -> u64 {
    (values * size_of::<f32>()) as u64
}

/// Memory that goes back to its pool when it is dropped.
pub(crate) struct Buffer<B: Backend> {
    /// There until dropped.
    raw: Option<Raw<B>>,
    pool: Pool<B>,
}

impl<B: Backend> Buffer<B> {
    pub(crate) fn pool(&self) -> &Pool<B> {
        &self.pool
    }

    pub(crate) fn backend(&self) -> &B {
        &self.pool.backend
    }

    pub(crate) fn values(&self) -> usize {
        self.pool.backend.values(self)
    }

    /// The memory itself; the pool gets it back by [`Pool::adopt`].
    pub(crate) fn into_raw(mut self) -> Raw<B> {
        self.raw.take().expect("memory is there until it is dropped")
    }
}

impl<B: Backend> Deref for Buffer<B> {
    type Target = Raw<B>;

    fn deref(&self) -> &Raw<B> {
        self.raw.as_ref().expect("memory is there until it is dropped")
    }
}

impl<B: Backend> DerefMut for Buffer<B> {
    fn deref_mut(&mut self) -> &mut Raw<B> {
        self.raw.as_mut().expect("memory is there until it is dropped")
    }
}

impl<B: Backend> Drop for Buffer<B> {
    fn drop(&mut self) {
        if let Some(raw) = self.raw.take() {
            let len = self.pool.backend.values(&raw);
            if len > 0 {
                self.pool.shelf().free.entry(len).or_default().push(raw);
            }
        }
    }
}
