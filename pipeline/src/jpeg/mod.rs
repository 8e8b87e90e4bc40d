//! A JPEG decoder for one purpose: the planes of a crop, fast.
//!
//! [`Decoder::decode`] takes a crop out of a baseline JPEG, as planes of Y, Cb and Cr. It takes what most photographs are
//! (ITU T.81 sequential Huffman coding, 8 bits, one scan, grayscale or YCbCr in 4:4:4, 4:2:2 or 4:2:0) and refuses
//! everything else, and everything that it cannot prove to be well-formed, so that the caller gives it to a complete
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
//!
//! Coefficients are exact, and the inverse DCT is the "slow integer" one of libjpeg, so the planes are those of
//! libjpeg-turbo bit by bit; what becomes of them is the matter of [`resize`](crate::resize).
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
mod planes;
mod refusal;
mod region;
mod scan;
mod segments;
#[cfg(test)]
mod tests;

pub(crate) use planes::Plane;
pub use planes::Planes;
pub use refusal::{Damage, NotForUs, Refusal};

use entropy::BlockTables;
use huffman::{Class, HuffmanTable};
use kernels::{Kernels, Portable};
use markers::{Header, Sampling};
use region::{ComponentRegion, Region};
use scan::{PlaneSink, Scan};
use segments::Segments;

use crate::geometry::{PixelBox, Size};
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx2;
pub use crate::simd::Instructions;

/// Bytes that can be read behind the last sample of a plane, since those who read a row take a vector at a time.
const PLANE_PADDING: usize = 64;

/// Size of a JPEG, when [`Decoder::decode`] would take its header.
///
/// # Errors
/// [`Refusal::NotForUs`] for all that belongs to a complete decoder.
pub fn image_size(bytes: &[u8]) -> Result<Size, Refusal> {
    let header = markers::read_header(bytes)?;
    Ok(Size { width: header.width_px, height: header.height_px })
}

/// Whether this is a file for us in which chroma has a sample for two by two pixels (4:2:0).
pub(crate) fn is_quartered(bytes: &[u8]) -> bool {
    markers::read_header(bytes).is_ok_and(|header| header.sampling == Sampling::HalfBoth)
}

/// Decodes crops; one for each worker. It keeps all its memory, so that in the long run an image allocates nothing.
#[derive(Debug)]
pub struct Decoder {
    instructions: Dispatch,
    tables: [[HuffmanTable; 2]; 3],
    segments: Segments,
    planes: [PlaneBuffer; 3],
    /// Of what was decoded last.
    sampling: Sampling,
}

/// The decoded samples of the blocks of a component that the crop needs.
#[derive(Debug, Default)]
struct PlaneBuffer {
    /// Rows of `stride` samples, eight for each row of blocks, and [`PLANE_PADDING`].
    samples: Vec<u8>,
    stride: usize,
    /// The first sample's place in the component.
    origin: [u32; 2],
    /// Width and height of the whole component in samples.
    size: [u32; 2],
}

#[derive(Debug, Clone, Copy)]
enum Dispatch {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
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
            sampling: Sampling::Gray,
        }
    }

    /// Decodes at least the pixels of `crop`, and what enlarging chroma needs beside them.
    ///
    /// `segments` may give the offset in `bytes` of every restart segment of the scan, the first included; then nothing is
    /// read of those that the crop does not touch. Without it the markers are searched for.
    ///
    /// # Errors
    /// [`Refusal::NotForUs`] for all that belongs to a complete decoder, [`Refusal::Damaged`] for broken data in what the
    /// crop needs. What [`Decoder::planes`] gives is of no use then.
    pub fn decode(&mut self, bytes: &[u8], crop: PixelBox, segments: Option<&[u32]>) -> Result<(), Refusal> {
        let header = markers::read_header(bytes)?;
        let region = Region::new(&header, crop)?;
        self.prepare(bytes, &header, &region, segments)?;
        match self.instructions {
            Dispatch::Portable => self.decode_planes(Portable, &header, &region)?,
            #[cfg(target_arch = "x86_64")]
            Dispatch::Avx2(kernels) => self.decode_planes(kernels, &header, &region)?,
        }
        self.sampling = header.sampling;
        Ok(())
    }

    /// What was decoded last.
    pub fn planes(&self) -> Planes<'_> {
        Planes {
            components: self.planes.each_ref().map(PlaneBuffer::plane),
            count: if self.sampling == Sampling::Gray { 1 } else { 3 },
            is_half_width: matches!(self.sampling, Sampling::HalfWidth | Sampling::HalfBoth),
            is_half_height: self.sampling == Sampling::HalfBoth,
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
            plane.prepare(component);
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

    fn decode_planes<K: Kernels>(&mut self, kernels: K, header: &Header<'_>, region: &Region) -> Result<(), Damage> {
        let tables = block_tables(&self.tables, table_count(header, region));
        let scan = Scan { region, tables };
        let mut sink = PlaneSink { kernels, region, header, planes: &mut self.planes };
        kernels.decode_scan(&scan, &self.segments, &mut sink)
    }
}

impl PlaneBuffer {
    /// Makes room for the blocks of a component, without clearing: every sample gets written.
    fn prepare(&mut self, component: &ComponentRegion) {
        let ComponentRegion { x, y } = component;
        self.stride = x.blocks.len() * 8;
        self.origin = [x.first_sample(), y.first_sample()];
        self.size = [x.samples, y.samples];
        let length = self.stride * y.blocks.len() * 8 + PLANE_PADDING;
        if self.samples.len() < length {
            self.samples.resize(length, 0);
        }
    }

    fn plane(&self) -> Plane<'_> {
        let ([origin_x, origin_y], [width, height]) = (self.origin, self.size);
        Plane { samples: &self.samples, stride: self.stride, origin_x, origin_y, width, height }
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
            Instructions::Detected => Avx2::detect().map_or(Dispatch::Portable, Dispatch::Avx2),
            #[cfg(not(target_arch = "x86_64"))]
            Instructions::Detected => Dispatch::Portable,
        }
    }
}
