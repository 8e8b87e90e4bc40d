//! The stages of one image, in order, as a worker runs them: decode, resize, mask, patchify.
//!
//! Puts out one row of a batch, written where it belongs.

use crate::batch::memory::Slot;
use crate::decode::{DecodeMode, Decoder};
use crate::error::PipelineError;
use crate::geometry::{PatchGrid, Size};
use crate::mask::{Masker, Masking};
use crate::patchify::patchify;
use crate::random::{Purpose, Random, SampleKey};
use crate::resize::{Resizer, needed_pixels};
use crate::stats::{Stage, Stats, Stopwatch};
use crate::transform::Transform;

/// What a sample depends on besides its bytes and key.
#[derive(Debug, Clone)]
pub(crate) struct SampleConfig {
    pub(crate) grid: PatchGrid,
    pub(crate) masking: Masking,
    pub(crate) transform: Transform,
    pub(crate) decode: DecodeMode,
    pub(crate) apply_exif: bool,
}

/// Makes rows of batches from encoded images; one for each worker, with all the memory that it needs.
pub(crate) struct SampleMaker {
    config: SampleConfig,
    decoder: Decoder,
    resizer: Resizer,
    masker: Masker,
    /// The resized picture.
    resized: Vec<u8>,
    /// The resized picture turned upright, where it was not.
    upright: Vec<u8>,
}

impl SampleMaker {
    pub(crate) fn new(config: SampleConfig) -> Self {
        let masker = Masker::new(&config.grid, &config.masking);
        let picture = vec![0; config.grid.size().rgb_bytes()];
        Self {
            config,
            decoder: Decoder::default(),
            resizer: Resizer::default(),
            masker,
            resized: picture.clone(),
            upright: picture,
        }
    }

    /// Writes patches and indices of the image `bytes` into `slot`. `segments` may tell where a JPEG's restart segments
    /// begin.
    ///
    /// # Errors
    /// A bad sample; the slot then holds nothing of use.
    pub(crate) fn make(
        &mut self,
        bytes: &[u8],
        segments: Option<&[u32]>,
        key: SampleKey,
        slot: &mut Slot<'_>,
        stats: &Stats,
    ) -> Result<(), PipelineError> {
        let SampleConfig { grid, transform, decode, apply_exif, .. } = &self.config;
        let mut stopwatch = Stopwatch::start(stats);

        let span = tracing::trace_span!("decode").entered();
        let header = self.decoder.header(bytes, *apply_exif)?;
        let (orientation, upright_size) = (header.orientation, header.orientation.turn(header.size));
        let view = orientation.stored_view(transform.view(upright_size, grid.size(), key), upright_size);
        let size: Size = orientation.turn(grid.size());
        let decoded = self.decoder.region(bytes, &header, needed_pixels(&view, size), segments)?;
        stats.encoded_bytes.add(bytes.len() as u64);
        stats.decoded_px.add(Size { width: decoded.region.width, height: decoded.region.height }.pixels());
        drop(span);
        stopwatch.lap(Stage::Decode);

        let span = tracing::trace_span!("resize").entered();
        self.resizer.resize(&decoded, &view, size, *decode, &mut self.resized);
        let mut pixels = &self.resized;
        if !orientation.is_upright() {
            orientation.apply(&self.resized, size, &mut self.upright);
            pixels = &self.upright;
        }
        drop(span);
        stopwatch.lap(Stage::Resize);

        let span = tracing::trace_span!("mask").entered();
        self.masker.draw(&mut Random::new(key, Purpose::Mask), slot.visible_index, slot.masked_index);
        drop(span);
        stopwatch.lap(Stage::Mask);

        let _span = tracing::trace_span!("patchify").entered();
        patchify(grid, pixels, view.flip, slot.visible_index, slot.visible);
        patchify(grid, pixels, view.flip, slot.masked_index, slot.masked);
        stopwatch.lap(Stage::Patchify);
        Ok(())
    }
}
