//! Workers that have seen their largest image allocate nothing any more, from bytes to patches.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use patchstream_pipeline::DecodeMode;
use patchstream_pipeline::decode::Decoder;
use patchstream_pipeline::geometry::{PixelBox, Size};
use patchstream_pipeline::resize::{Resizer, needed_pixels};
use patchstream_pipeline::transform::View;

struct Counting;

thread_local! {
    /// Of this thread alone: the test harness allocates on others as it likes.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
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
    // 4:2:0, 4:4:4 and grayscale, and a progressive one, which libjpeg-turbo decodes with memory of its own.
    let names = ["space/astronaut", "space/moon", "animals/chelsea", "objects/coffee", "space/rocket"];
    let files = names.map(|name| fs_err::read(photos.join(name).with_extension("jpg")).unwrap());
    let size = Size { width: 224, height: 224 };
    let mut out = vec![0; size.rgb_bytes()];
    let (mut decoder, mut resizer) = (Decoder::default(), Resizer::default());
    let mut round = |inset: u32| {
        for (bytes, mode) in files.iter().flat_map(|bytes| [(bytes, DecodeMode::Exact), (bytes, DecodeMode::Fast)]) {
            let header = decoder.header(bytes, true).unwrap();
            let Size { width, height } = header.size;
            let crop = PixelBox { x: inset, y: 2 * inset, width: width - 3 * inset, height: height - 2 * inset };
            let view = View { source: crop.into(), bounds: crop, flip: false };
            let decoded = decoder.region(bytes, &header, needed_pixels(&view, size), None).unwrap();
            resizer.resize(&decoded, &view, size, mode, &mut out);
        }
    };
    round(0);
    let before = ALLOCATIONS.get();
    for inset in 0..20 {
        round(inset);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
