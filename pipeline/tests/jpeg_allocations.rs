//! A JPEG decoder that has seen its largest image allocates nothing any more.
#![allow(clippy::disallowed_methods, reason = "the panic message names the path")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use patchstream_pipeline::jpeg::{CropBox, Decoder, TargetSize, image_size};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn no_image_allocates_in_steady_state() {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/photos");
    let names = ["space/astronaut", "space/hubble_deep_field", "space/moon", "animals/chelsea", "objects/coffee"];
    let files =
        names.map(|name| std::fs::read(photos.join(name).with_extension("jpg")).expect("a readable photograph"));
    let side = NonZeroU32::new(224).expect("not zero");
    let mut out = vec![0; 224 * 224 * 3];
    let mut decoder = Decoder::default();
    let mut round = |inset: u32| {
        for bytes in &files {
            let (width, height) = image_size(bytes).expect("a file for us");
            let crop = CropBox { x: inset, y: 2 * inset, width: width - 3 * inset, height: height - 2 * inset };
            decoder.decode(bytes, crop, TargetSize { height: side, width: side }, None, &mut out).expect("a good file");
        }
    };
    round(0);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for inset in 0..20 {
        round(inset);
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}
