//! How much memory decoding may take on all threads together.
//!
//! Sizes in pixels are known only when a file has been read, so the turnstile before reading cannot count them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::header::ImageFormat;

/// Decoded pixels of all threads, unless those of a single image are more: that one is then decoded alone.
const DECODED_BYTES_MAX: u64 = 256 << 20;

/// Lets images in that are decoded at one time. Nobody who is in waits for anybody, so everybody gets in at last.
#[derive(Default)]
pub(super) struct DecodeRoom {
    bytes: Mutex<u64>,
    left: Condvar,
}

/// The room that an image takes until this is dropped.
pub(super) struct Place<'a> {
    room: &'a DecodeRoom,
    bytes: u64,
}

impl DecodeRoom {
    /// Waits until there is room for an image of this size.
    pub(super) fn enter(&self, content: &[u8], (width_px, height_px): (u32, u32)) -> Place<'_> {
        let pixels = u64::from(width_px) * u64::from(height_px);
        self.enter_bytes(pixels.saturating_mul(ImageFormat::sniff(content).map_or(0, bytes_a_pixel)))
    }

    fn enter_bytes(&self, bytes: u64) -> Place<'_> {
        let mut taken = self.lock();
        while *taken > 0 && taken.saturating_add(bytes) > DECODED_BYTES_MAX {
            taken = self.left.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += bytes;
        Place { room: self, bytes }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.room.lock() -= self.bytes;
        self.room.left.notify_all();
    }
}

/// RGB, and what decoders put out before: nothing where it comes in rows, else with alpha, and TIFF twice and with 16 bits.
/// `pipeline` refuses images of those formats that would take more than about as much as the largest JPEG.
fn bytes_a_pixel(format: ImageFormat) -> u64 {
    match format {
        ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Pnm => 3,
        ImageFormat::Bmp | ImageFormat::Gif | ImageFormat::Webp => 7,
        ImageFormat::Tiff => 19,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_large_image_is_alone() {
        let room = DecodeRoom::default();
        let (sender, entered) = mpsc::channel();
        thread::scope(|scope| {
            let small = [room.enter_bytes(DECODED_BYTES_MAX / 2), room.enter_bytes(DECODED_BYTES_MAX / 2)];
            scope.spawn(|| {
                let _place = room.enter_bytes(DECODED_BYTES_MAX * 3);
                sender.send(()).unwrap();
            });
            let [first, second] = small;
            drop(first);
            assert!(entered.recv_timeout(Duration::from_millis(30)).is_err());
            drop(second);
            entered.recv().unwrap();
        });
        assert_eq!(*room.lock(), 0);
    }
}
