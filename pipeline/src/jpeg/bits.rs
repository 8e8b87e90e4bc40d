//! The bit buffer: the next bits of a segment, topmost first, in one 64-bit register.

/// Bytes that must be readable behind the last byte of a segment.
///
/// A block of 64 coefficients takes at most 64 * 26 bits = 208 bytes, and the buffer reads up to 8 bytes ahead. Readers
/// ask [`Bits::is_past`] between blocks, so with this many bytes no look-ahead inside a block leaves the slice.
pub(super) const PADDING_BYTES: usize = 256;

/// A place in entropy-coded data from which the stuffed bytes have been removed.
///
/// The data are handed to each call, so that several places in them can be worked on in turn without each having to hold a
/// pointer of its own. They must go on for [`PADDING_BYTES`] behind the end of any segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits {
    /// Next byte of the data to be put into the buffer.
    position: usize,
    /// The top bits, as many as the low six bits of `count` say, are the next of the stream. Those below may repeat what
    /// `position` points at.
    buffer: u64,
    count: u32,
}

impl Bits {
    /// The first bit of the byte at `position`.
    pub(super) fn new(position: usize) -> Bits {
        Bits { position, buffer: 0, count: 0 }
    }

    /// Fills the buffer to at least 56 bits.
    #[inline(always)]
    pub(super) fn refill(&mut self, data: &[u8]) {
        // A slice of exactly eight bytes is one load; with the padding there, it is always found.
        let bytes = data.get(self.position..self.position + 8).and_then(<[u8]>::first_chunk);
        let next = bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let count = self.count % 64;
        self.buffer |= next >> count;
        self.position += ((63 - count) >> 3) as usize;
        self.count = count | 0b11_1000;
    }

    /// The next bits, topmost first; 56 of them are valid after a refill.
    #[inline(always)]
    pub(super) fn peek(&self) -> u64 {
        self.buffer
    }

    /// Drops the low six bits of `bits` many bits, which must be in the buffer.
    #[inline(always)]
    pub(super) fn consume(&mut self, bits: u32) {
        self.buffer = self.buffer.wrapping_shl(bits);
        self.count = self.count.wrapping_sub(bits);
    }

    /// Whether more bits were consumed than there are up to `end`, in bytes.
    #[inline(always)]
    pub(super) fn is_past(&self, end: usize) -> bool {
        self.position * 8 > end * 8 + (self.count % 64) as usize
    }

    /// Whether everything up to `end` was consumed but for less than a byte of ones (T.81 F.1.2.3).
    pub(super) fn is_at(&mut self, end: usize, data: &[u8]) -> bool {
        self.refill(data);
        let consumed = self.position * 8 - self.count as usize;
        let left = (end * 8).wrapping_sub(consumed);
        left < 8 && (left == 0 || self.buffer >> (64 - left) == (1 << left) - 1)
    }
}
