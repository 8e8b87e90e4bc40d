//! The stages of one image, in order, as a worker runs them: decode, resize, mask, patchify.
//!
//! Puts out one row of a batch, written where it belongs, or several of an image that is decoded once.

use std::num::NonZeroUsize;

use crate::batch::memory::Rows;
use crate::decode::{DecodeMode, Decoder};
use crate::error::PipelineError;
use crate::geometry::{PatchGrid, PixelBox, Size};
use crate::mask::{Masker, Masking};
use crate::patchify::patchify;
use crate::random::{Purpose, Random, SampleKey};
use crate::resize::{Resizer, needed_pixels};
use crate::stats::{Stage, Stats, Stopwatch};
use crate::transform::{Transform, View};

/// What a sample depends on besides its bytes and key.
#[derive(Debug, Clone)]
pub(crate) struct SampleConfig {
    pub(crate) grid: PatchGrid,
    pub(crate) masking: Masking,
    pub(crate) transform: Transform,
    pub(crate) decode: DecodeMode,
    pub(crate) apply_exif: bool,
    /// Rows that are made of one image.
    pub(crate) repeats: NonZeroUsize,
}

/// Makes rows of batches from encoded images; one for each worker, with all the memory that it needs.
pub(crate) struct SampleMaker {
    config: SampleConfig,
    decoder: Decoder,
    resizer: Resizer,
    masker: Masker,
    /// What each row shows of the picture.
    views: Vec<View>,
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
            views: Vec::new(),
            resized: picture.clone(),
            upright: picture,
        }
    }

    /// Rows that are made of one image.
    pub(crate) fn repeats(&self) -> usize {
        self.config.repeats.get()
    }

    /// Writes patches and indices of the image `bytes` into rows from `first` on, as many as there are repeats. `segments`
    /// may tell where a JPEG's restart segments begin.
    ///
    /// `key` is that of the first one. Each of them shows what it would show if the image were decoded for it alone.
    ///
    /// # Errors
    /// A bad sample; the rows then hold nothing of use.
    pub(crate) fn make(
        &mut self,
        bytes: &[u8],
        segments: Option<&[u32]>,
        key: SampleKey,
        rows: &mut Rows,
        first: usize,
        stats: &Stats,
    ) -> Result<(), PipelineError> {
        let Self { config, decoder, resizer, masker, views, resized, upright } = self;
        let SampleConfig { grid, transform, decode, apply_exif, repeats, .. } = config;
        let mut stopwatch = Stopwatch::start(stats);

        let span = tracing::trace_span!("decode").entered();
        let header = decoder.header(bytes, *apply_exif)?;
        let (orientation, upright_size) = (header.orientation, header.orientation.turn(header.size));
        views.clear();
        views.extend((0..repeats.get() as u64).map(|repeat| {
            let view = transform.view(upright_size, grid.size(), SampleKey { repeat, ..key });
            orientation.stored_view(view, upright_size)
        }));
        let size: Size = orientation.turn(grid.size());
        let needed = views.iter().map(|view| needed_pixels(view, size));
        let wanted = needed.reduce(PixelBox::union).expect("an image has at least one row");
        let decoded = decoder.region(bytes, &header, wanted, segments)?;
        stats.encoded_bytes.add(bytes.len() as u64);
        stats.decoded_px.add(Size { width: decoded.region.width, height: decoded.region.height }.pixels());
        drop(span);
        stopwatch.lap(Stage::Decode);

        for (repeat, view) in views.iter().enumerate() {
            let slot = rows.slot(first + repeat);
            let span = tracing::trace_span!("resize").entered();
            let pixels = if orientation.is_upright() {
                resizer.resize(&decoded, view, size, *decode, resized);
                &*resized
            } else {
                resizer.resize(&decoded, &View { flip: false, ..*view }, size, *decode, resized);
                orientation.followed_by_flip(view.flip).apply(resized, size, upright);
                &*upright
            };
            drop(span);
            stopwatch.lap(Stage::Resize);

            let span = tracing::trace_span!("mask").entered();
            let mut random = Random::new(SampleKey { repeat: repeat as u64, ..key }, Purpose::Mask);
            masker.draw(&mut random, slot.visible_index, slot.masked_index);
            drop(span);
            stopwatch.lap(Stage::Mask);

            let _span = tracing::trace_span!("patchify").entered();
            patchify(grid, pixels, slot.visible_index, slot.visible);
            patchify(grid, pixels, slot.masked_index, slot.masked);
            stopwatch.lap(Stage::Patchify);
        }
        Ok(())
    }
}
