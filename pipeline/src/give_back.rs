//! Giving memory back to the system.
//!
//! Decoders of C make what they need of many small pieces. The allocator keeps those for the thread that freed them, so after
//! some large images every thread would hold hundreds of megabytes that no other can use.

/// Gives back what is free. It takes some milliseconds.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn give_back_memory() {
    // SAFETY: no precondition; it touches free memory alone, under the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators are left to themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back_memory() {}
