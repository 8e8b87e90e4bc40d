//! Raw pixels as PNG, so that sources without encoded images give images that everything opens.
//!
//! The PNG (W3C recommendation, third edition) is uncompressed: its size depends on width and height alone, which lets row
//! groups be cut before anything is read, and writing it is little more than a copy.

use flate2::Crc;

/// What raw pixels look like in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pixels {
    pub(super) width_px: u32,
    pub(super) height_px: u32,
    pub(super) layout: PixelLayout,
}

/// In which order the values of an image are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PixelLayout {
    /// One value a pixel, row by row.
    Gray,
    /// All reds row by row, then all greens, then all blues.
    PlanarRgb,
}

/// Uncompressed blocks of deflate hold at most so many bytes.
const BLOCK_BYTES_MAX: usize = 0xffff;
/// Signature, header chunk, end chunk, and what a data chunk has around its bytes.
const FRAME_BYTES: u64 = 8 + 25 + 12 + 12;
/// What zlib has around its blocks: two bytes before, the checksum behind.
const ZLIB_BYTES: u64 = 2 + 4;
/// What stands before each uncompressed block.
const BLOCK_HEADER_BYTES: u64 = 5;

impl Pixels {
    fn channels(self) -> u64 {
        match self.layout {
            PixelLayout::Gray => 1,
            PixelLayout::PlanarRgb => 3,
        }
    }

    /// Bytes of an image in the source.
    pub(super) fn raw_bytes(self) -> u64 {
        u64::from(self.width_px) * u64::from(self.height_px) * self.channels()
    }

    /// Bytes of an image as PNG.
    pub(super) fn encoded_bytes(self) -> u64 {
        let filtered = self.raw_bytes() + u64::from(self.height_px);
        FRAME_BYTES + ZLIB_BYTES + filtered + filtered.div_ceil(BLOCK_BYTES_MAX as u64) * BLOCK_HEADER_BYTES
    }

    /// Appends the image as PNG.
    pub(super) fn encode(self, raw: &[u8], into: &mut Vec<u8>) {
        assert_eq!(raw.len() as u64, self.raw_bytes(), "the source is cut into images of this size");
        into.extend_from_slice(b"\x89PNG\r\n\x1a\n");
        let color = if self.layout == PixelLayout::Gray { 0 } else { 2 };
        let [width, height] = [self.width_px, self.height_px].map(u32::to_be_bytes);
        // Eight bits a value, and the only methods of compressing, filtering and interlacing that there are.
        chunk(into, *b"IHDR", |into| into.extend_from_slice(&[&width[..], &height, &[8, color, 0, 0, 0]].concat()));
        let filtered = self.filtered(raw);
        chunk(into, *b"IDAT", |into| zlib_stored(&filtered, into));
        chunk(into, *b"IEND", |_| ());
    }

    /// Rows, each with the number of its filter (none) before it, and values interleaved.
    fn filtered(self, raw: &[u8]) -> Vec<u8> {
        let (width, plane) = (self.width_px as usize, raw.len() / self.channels() as usize);
        let mut filtered = Vec::with_capacity(raw.len() + self.height_px as usize);
        for row in 0..self.height_px as usize {
            filtered.push(0);
            let pixels = row * width..(row + 1) * width;
            match self.layout {
                PixelLayout::Gray => filtered.extend_from_slice(&raw[pixels]),
                PixelLayout::PlanarRgb => {
                    for pixel in pixels {
                        filtered.extend_from_slice(&[raw[pixel], raw[plane + pixel], raw[2 * plane + pixel]]);
                    }
                }
            }
        }
        filtered
    }
}

fn chunk(into: &mut Vec<u8>, kind: [u8; 4], content: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&kind);
    content(into);
    let length = (into.len() - start - 8) as u32;
    into[start..start + 4].copy_from_slice(&length.to_be_bytes());
    let mut crc = Crc::new();
    crc.update(&into[start + 4..]);
    into.extend_from_slice(&crc.sum().to_be_bytes());
}

fn zlib_stored(bytes: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&[0x78, 0x01]);
    let blocks = bytes.len().div_ceil(BLOCK_BYTES_MAX);
    for (number, block) in bytes.chunks(BLOCK_BYTES_MAX).enumerate() {
        let length = block.len() as u16;
        into.push(u8::from(number + 1 == blocks));
        into.extend_from_slice(&length.to_le_bytes());
        into.extend_from_slice(&(!length).to_le_bytes());
        into.extend_from_slice(block);
    }
    into.extend_from_slice(&adler32(bytes).to_be_bytes());
}

/// The checksum of zlib (RFC 1950).
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (mut a, mut b) = (1_u32, 0_u32);
    // So many steps cannot overflow before the remainder is taken.
    for run in bytes.chunks(5552) {
        for &byte in run {
            a += u32::from(byte);
            b += a;
        }
        a %= MODULUS;
        b %= MODULUS;
    }
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a PNG, inflated and without filter numbers, and the checksums looked at on the way.
    fn decoded(png: &[u8], row_bytes: usize) -> Vec<u8> {
        let mut at = 8;
        let mut rows = Vec::new();
        while at < png.len() {
            let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
            let (body, crc) = png[at + 4..at + 12 + length].split_at(4 + length);
            let mut expected = Crc::new();
            expected.update(body);
            assert_eq!(crc, expected.sum().to_be_bytes());
            if &body[..4] == b"IDAT" {
                // Reading to the end checks the Adler-32.
                std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&body[4..]), &mut rows).unwrap();
            }
            at += 12 + length;
        }
        rows.chunks(row_bytes + 1).flat_map(|row| row[1..].to_vec()).collect()
    }

    #[test]
    fn images_come_back_and_sizes_are_known_before() {
        // The last one takes several blocks of deflate.
        for (width_px, height_px, layout) in [
            (28, 28, PixelLayout::Gray),
            (1, 1, PixelLayout::Gray),
            (32, 32, PixelLayout::PlanarRgb),
            (300, 500, PixelLayout::PlanarRgb),
        ] {
            let pixels = Pixels { width_px, height_px, layout };
            let raw: Vec<u8> = (0..pixels.raw_bytes()).map(|at| (at * 7 / 3) as u8).collect();
            let mut png = Vec::new();
            pixels.encode(&raw, &mut png);
            assert_eq!(png.len() as u64, pixels.encoded_bytes());
            assert_eq!(crate::header::image_size(&png), Ok((width_px, height_px)));
            let plane = raw.len() / 3;
            let expected = match layout {
                PixelLayout::Gray => raw,
                PixelLayout::PlanarRgb => (0..raw.len()).map(|at| raw[at % 3 * plane + at / 3]).collect(),
            };
            assert_eq!(decoded(&png, expected.len() / height_px as usize), expected);
        }
    }
}
