//! What the fuzz targets have in common: any bytes, taken for a file of some kind, give images or an error.
//!
//!     python3 fuzz/seeds.py fuzz/corpus
//!     cargo +nightly fuzz run --sanitizer none tar -- -max_total_time=600
//!
//! in `datasets/`. On the way of what is fuzzed the crate has no unsafe code of its own, so the address sanitizer, which is slow
//! to build, would look at that of others alone.

use std::cell::RefCell;
use std::path::PathBuf;

use patchstream_datasets::sources::{SourceOptions, open};

thread_local! {
    static FOLDER: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Panics of other libraries that ours turns into errors are no finding; all others end the process anyway.
pub fn forget_the_hook() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// Opens a file of this name with this content as a source and reads all its images.
pub fn read_source(name: &str, content: &[u8]) {
    let folder = FOLDER.with_borrow_mut(|folder| folder.get_or_insert_with(new_folder).clone());
    let path = folder.join(name);
    std::fs::write(&path, content).expect("temporary files can be written");
    let options = SourceOptions { spool_folder: folder.clone(), ..SourceOptions::default() };
    if let Ok(source) = open(path.to_str().expect("the folder has a plain name"), &options) {
        let mut bytes = Vec::new();
        for image in 0..source.len().min(10_000) {
            bytes.clear();
            if source.read(image, &mut bytes).is_ok() {
                assert_eq!(bytes.len() as u64, source.bytes(image));
            }
            assert!(source.label(image).is_none_or(|label| {
                source.class_names().is_empty() || (0..source.class_names().len() as i64).contains(&label)
            }));
            let _ = source.path(image);
        }
    }
    std::fs::remove_file(path).expect("temporary files can be removed");
}

fn new_folder() -> PathBuf {
    let parent = if PathBuf::from("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let folder = parent.join(format!("patchstream-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
    folder
}
