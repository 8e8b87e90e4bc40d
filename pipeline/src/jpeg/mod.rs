//! A JPEG decoder for one purpose: a resized crop, fast.
//!
//! [`Decoder::decode`] takes a crop out of a baseline JPEG and resizes it to RGB of the target size. It takes what most
//! photographs are (ITU T.81 sequential Huffman coding, 8 bits, one scan, grayscale or YCbCr in 4:4:4, 4:2:2 or 4:2:0) and
//! refuses everything else, and everything that it cannot prove to be well-formed, so that the caller gives it to a complete
//! decoder. It never decodes more than the crop needs:
//!
//! | stage | module | T.81 |
//! |---|---|---|
//! | header segments, checked | `markers` | annex B |
//! | which blocks and restart segments the crop needs | `region` | A.1, A.2 |
//! | finding those segments, removing stuffed bytes | `segments` | B.1.1.5, F.1.2.3 |
//! | Huffman tables as look-ups | `huffman` | annex C, F.2.2 |
//! | bits; coefficients of a block; blocks of the scan | `bits`, `entropy`, `scan` | F.2, E.2 |
//! | several restart segments at a time | `lanes` | |
//! | dequantisation and inverse DCT into planes | `idct` | A.3.3, A.3.4 |
//! | resizing each plane, and RGB | `weights`, `resize` | |
//!
//! Coefficients are exact, and the inverse DCT is the "slow integer" one of libjpeg. Planes are resized before the change of
//! colour space, with weights that include libjpeg's enlarging of chroma; so the result differs from decoding everything
//! and resizing RGB only by rounding, and where colours leave the RGB cube and are clamped.
//!
//! The inner loops exist portable and for AVX2 (`kernels`, `avx2`), chosen when a decoder is made; both give the same bytes.

#![allow(
    clippy::inline_always,
    reason = "the loops over symbols must be compiled into one function for each instruction set"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
mod bits;
mod entropy;
mod huffman;
mod idct;
mod kernels;
mod lanes;
mod markers;
mod refusal;
mod region;
mod resize;
mod scan;
mod segments;
#[cfg(test)]
mod tests;
mod weights;

use std::num::NonZeroU32;

pub use refusal::{Damage, NotForUs, Refusal};

use entropy::BlockTables;
use huffman::{Class, HuffmanTable};
use kernels::{Kernels, Portable};
use markers::Header;
use region::Region;
use resize::{Plane, Resizer};
use scan::{PlaneSink, Scan};
use segments::Segments;

/// A part of an image in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Number of columns.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
}

/// Height and width of the picture wanted, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetSize {
    /// Number of rows.
    pub height: NonZeroU32,
    /// Number of columns.
    pub width: NonZeroU32,
}

/// Which instructions a decoder may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// The best that the processor has.
    Detected,
    /// What every processor has.
    Portable,
}

/// Width and height of a JPEG in pixels, when [`Decoder::decode`] would take its header.
///
/// # Errors
/// [`Refusal::NotForUs`] for all that belongs to a complete decoder.
pub fn image_size(bytes: &[u8]) -> Result<(u32, u32), Refusal> {
    let header = markers::read_header(bytes)?;
    Ok((header.width_px, header.height_px))
}

/// Decodes crops; one for each worker. It keeps all its memory, so that in the long run an image allocates nothing.
#[derive(Debug)]
pub struct Decoder {
    instructions: Dispatch,
    tables: [[HuffmanTable; 2]; 3],
    segments: Segments,
    planes: [Plane; 3],
    resizer: Resizer,
}

#[derive(Debug, Clone, Copy)]
enum Dispatch {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(Instructions::Detected)
    }
}

impl Decoder {
    /// A decoder without any memory yet.
    pub fn new(instructions: Instructions) -> Decoder {
        let tables = || [HuffmanTable::new(Class::Dc), HuffmanTable::new(Class::Ac)];
        Decoder {
            instructions: Dispatch::new(instructions),
            tables: [tables(), tables(), tables()],
            segments: Segments::default(),
            planes: Default::default(),
            resizer: Resizer::default(),
        }
    }

    /// Resizes the part `crop` of the JPEG in `bytes` to `target`, antialiased bicubic, and writes it to `out`:
    /// u8 of shape (height, width, 3), RGB.
    ///
    /// `segments` may give the offset in `bytes` of every restart segment of the scan, the first included; then nothing is
    /// read of those that the crop does not touch. Without it the markers are searched for.
    ///
    /// # Errors
    /// [`Refusal::NotForUs`] for all that belongs to a complete decoder, [`Refusal::Damaged`] for broken data in what the
    /// crop needs. Either may leave anything in `out`.
    ///
    /// # Panics
    /// If the length of `out` is not that of `target`.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        crop: CropBox,
        target: TargetSize,
        segments: Option<&[u32]>,
        out: &mut [u8],
    ) -> Result<(), Refusal> {
        let (height, width) = (target.height.get(), target.width.get());
        assert_eq!(out.len() as u64, u64::from(height) * u64::from(width) * 3, "out must be height x width x 3");
        let header = markers::read_header(bytes)?;
        let region = Region::new(&header, crop)?;
        self.prepare(bytes, &header, &region, segments)?;
        match self.instructions {
            Dispatch::Portable => self.decode_planes(Portable, &header, &region, out, width),
            #[cfg(target_arch = "x86_64")]
            Dispatch::Avx2(kernels) => self.decode_planes(kernels, &header, &region, out, width),
        }
    }

    /// Everything between the header and the first block.
    fn prepare(
        &mut self,
        bytes: &[u8],
        header: &Header<'_>,
        region: &Region,
        segments: Option<&[u32]>,
    ) -> Result<(), Refusal> {
        for (component, [dc, ac]) in self.tables.iter_mut().enumerate().take(table_count(header, region)) {
            dc.rebuild(&header.components[component].dc)?;
            ac.rebuild(&header.components[component].ac)?;
        }
        for (plane, component) in self.planes.iter_mut().zip(&region.components).take(region.component_count) {
            plane.prepare(&component.x, &component.y);
        }
        let (last, count) = (region.last_segment(), region.segment_count());
        let is_needed = |segment| region.needs_segment(segment);
        self.segments.collect(bytes, header.scan_offset, segments, last, count, is_needed)?;
        if count == 1 {
            // Only the one long segment of such a file has so many blocks to pass over that this pays.
            for [_, ac] in &mut self.tables[..table_count(header, region)] {
                ac.prepare_runs();
            }
        }
        Ok(())
    }

    fn decode_planes<K: Kernels>(
        &mut self,
        kernels: K,
        header: &Header<'_>,
        region: &Region,
        out: &mut [u8],
        target_width: u32,
    ) -> Result<(), Refusal> {
        let tables = block_tables(&self.tables, table_count(header, region));
        let scan = Scan { region, tables };
        let mut sink = PlaneSink { kernels, region, header, planes: &mut self.planes };
        kernels.decode_scan(&scan, &self.segments, &mut sink)?;
        self.resizer.run(kernels, region, &self.planes, out, target_width);
        Ok(())
    }
}

/// How many components have tables of their own; both of chroma nearly always share theirs, which then fit better into
/// the cache.
fn table_count(header: &Header<'_>, region: &Region) -> usize {
    let [_, cb, cr] = &header.components;
    if region.component_count == 3 && cb.dc == cr.dc && cb.ac == cr.ac { 2 } else { region.component_count }
}

/// The tables of each component, of which there are `count` different ones.
fn block_tables(tables: &[[HuffmanTable; 2]; 3], count: usize) -> [BlockTables<'_>; 3] {
    std::array::from_fn(|component| {
        let [dc, ac] = &tables[component.min(count - 1)];
        BlockTables { dc, ac }
    })
}

impl Dispatch {
    fn new(instructions: Instructions) -> Dispatch {
        match instructions {
            Instructions::Portable => Dispatch::Portable,
            #[cfg(target_arch = "x86_64")]
            Instructions::Detected => avx2::Avx2::detect().map_or(Dispatch::Portable, Dispatch::Avx2),
            #[cfg(not(target_arch = "x86_64"))]
            Instructions::Detected => Dispatch::Portable,
        }
    }
}
