//! The bit buffer: the next bits of a segment, topmost first, in one 64-bit register.

/// Bytes that must be readable behind the last byte of a segment.
///
/// A block of 64 coefficients takes at most 64 * 26 bits = 208 bytes, and the buffer reads up to 8 bytes ahead. Readers
/// ask [`BitReader::is_past_end`] between blocks, so with this many bytes no look-ahead inside a block leaves the slice.
pub(super) const PADDING_BYTES: usize = 256;

/// Reads a segment of entropy-coded data from which the stuffed bytes have been removed.
#[derive(Debug, Clone, Copy)]
pub(super) struct BitReader<'a> {
    /// The segment from its first byte on, and at least [`PADDING_BYTES`] behind its end.
    data: &'a [u8],
    /// Length of the segment itself.
    end: usize,
    /// Next byte of `data` to be put into the buffer.
    position: usize,
    /// The top `count` bits are the next of the stream. Those below may repeat what `position` points at.
    buffer: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    /// `data` begins with the segment's `end` bytes, and goes on for at least [`PADDING_BYTES`].
    pub(super) fn new(data: &'a [u8], end: usize) -> BitReader<'a> {
        assert!(data.len() >= end + PADDING_BYTES, "a segment needs padding behind it");
        BitReader { data, end, position: 0, buffer: 0, count: 0 }
    }

    /// Fills the buffer to at least 56 bits.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        // A slice of exactly eight bytes is one load; the bounds check is never true and costs nothing measurable.
        let bytes = self.data.get(self.position..self.position + 8).and_then(<[u8]>::first_chunk);
        let next = bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes));
        self.buffer |= next >> self.count;
        self.position += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
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
        self.count = self.count.wrapping_sub(bits & 63);
    }

    /// Whether more bits were consumed than the segment has.
    #[inline(always)]
    pub(super) fn is_past_end(&self) -> bool {
        self.position * 8 > self.end * 8 + self.count as usize
    }

    /// Whether everything was consumed but for less than a byte of ones (T.81 F.1.2.3).
    pub(super) fn is_at_end(&mut self) -> bool {
        self.refill();
        let consumed = self.position * 8 - self.count as usize;
        let left = (self.end * 8).wrapping_sub(consumed);
        left < 8 && (left == 0 || self.buffer >> (64 - left) == (1 << left) - 1)
    }
}
