//! Memory is taken once, by batch and by row group, and never image by image.
//!
//! All in one test, since the allocations of the whole process are counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use patchstream_datasets::sources::FolderSource;
use patchstream_datasets::{ConvertOptions, Cursor, Dataset, LastBatch, Schedule, Share, Shuffle, convert};
use patchstream_pipeline::decode::Decoder;
use patchstream_pipeline::geometry::{PixelBox, Size};
use patchstream_pipeline::resize::{Resizer, needed_pixels};
use patchstream_pipeline::transform::View;
use patchstream_pipeline::{DecodeMode, Examiner, PatchGrid, PatchStream, PipelineConfig};

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

fn photo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/photos").join(name).with_extension("jpg")
}

#[test]
fn no_image_allocates_in_steady_state() {
    decoding_and_resizing_allocate_nothing();
    a_stream_allocates_no_more_for_more_or_larger_images();
}

/// 4:2:0, 4:4:4 and grayscale, and a progressive one, which libjpeg-turbo decodes with memory of its own.
fn decoding_and_resizing_allocate_nothing() {
    let names = ["space/astronaut", "space/moon", "animals/chelsea", "objects/coffee", "space/rocket"];
    let files = names.map(|name| fs_err::read(photo(name)).unwrap());
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
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for inset in 0..20 {
        round(inset);
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}

/// A batch and a row group allocate, but no image does: neither more images in them nor larger ones make a difference.
fn a_stream_allocates_no_more_for_more_or_larger_images() {
    let few = stream_allocations("objects/coins", 300);
    let many = stream_allocations("objects/coins", 1500);
    let large = stream_allocations("textures/grass", 300);
    // Counted: 1563, 1664 to 1764, 1563. A row group, one more of which may be read ahead, makes about 125, and vectors double
    // more often for more rows; one allocation an image would be 3,600 more.
    assert!(many.abs_diff(few) < 400 && large.abs_diff(few) < 400, "{few} for few, {many} for many, {large} for large");
}

/// Allocations of the whole process during three epochs of ten batches, from two row groups.
fn stream_allocations(name: &str, images: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    fs_err::create_dir(&photos).unwrap();
    let bytes = fs_err::copy(photo(name), photos.join("0.jpg")).unwrap();
    for number in 1..images {
        fs_err::hard_link(photos.join("0.jpg"), photos.join(format!("{number}.jpg"))).unwrap();
    }
    let row_group_bytes = NonZeroU64::new(bytes * images / 2).unwrap();
    let options = ConvertOptions { row_group_bytes, ..ConvertOptions::default() };
    let shards = folder.path().join("shards");
    convert(&FolderSource::open(&photos).unwrap(), &shards, &options, &Examiner::default(), &|_| ()).unwrap();
    let dataset = Arc::new(Dataset::open(shards.to_str().unwrap()).unwrap());
    assert_eq!(dataset.manifest().row_groups().len(), 2);
    let batch_rows = images as usize / 10;
    let schedule = Schedule {
        seed: 0,
        shuffle: Shuffle::Window(NonZeroUsize::MIN),
        batch_size: NonZeroUsize::new(batch_rows).unwrap(),
        share: Share { rank: 0, world: NonZeroUsize::MIN },
        last_batch: LastBatch::Drop,
        start: Cursor { epoch: 0, batch: 0 },
        end_epoch: None,
    };
    let config = PipelineConfig {
        workers: NonZeroUsize::new(2).unwrap(),
        // Room for one row group beyond the one in use, so that as many are read while counting as are used.
        read_ahead_bytes: NonZeroUsize::new(row_group_bytes.get() as usize * 3 / 2).unwrap(),
        ..PipelineConfig::for_grid(PatchGrid::new(32, 32, 8).unwrap())
    };
    let mut stream = PatchStream::start(dataset, schedule, &config).unwrap();
    let mut epoch = || stream.by_ref().take(10).for_each(|batch| assert_eq!(batch.unwrap().rows(), batch_rows));
    epoch();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..3 {
        epoch();
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}
