//! Reading bits: the next ones of a segment, topmost first, in one 64-bit register.
//!
//! There are two ways to keep a place. [`Bits`] keeps the register itself, so that what follows waits for as little as
//! possible, which matters where one stream is read alone. Where several are read in turn, waiting costs nothing, but work
//! and registers do: then a place is a number of bits, and a [`Window`] is loaded anew for every two symbols.

/// Bytes that must be readable behind the last byte of a segment.
///
/// A block of 64 coefficients takes at most 64 * 26 bits = 208 bytes, and a window reads up to 8 bytes ahead. Readers
/// compare their place with the end of the segment between blocks, so with this many bytes no look-ahead inside a block leaves the slice.
pub(super) const PADDING_BYTES: usize = 256;

/// The next bits of a stream, topmost first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    buffer: u64,
    /// How many of them there are, but for a multiple of 64; those below may be anything.
    count: u32,
}

impl Window {
    /// The 57 bits, or more, behind the first `position` bits of the data.
    #[inline(always)]
    pub(super) fn at(data: &[u8], position: usize) -> Window {
        Window { buffer: load(data, position >> 3) << (position & 7), count: 0 }
    }

    /// The bits, topmost first.
    #[inline(always)]
    pub(super) fn peek(&self) -> u64 {
        self.buffer
    }

    /// Drops the low six bits of `bits` many bits, which must be there.
    #[inline(always)]
    pub(super) fn consume(&mut self, bits: u32) {
        self.buffer = self.buffer.wrapping_shl(bits);
        self.count = self.count.wrapping_sub(bits);
    }

    /// How many bits were dropped since [`Window::at`], fewer than 64.
    #[inline(always)]
    pub(super) fn consumed(&self) -> usize {
        (self.count.wrapping_neg() % 64) as usize
    }
}

/// A place in entropy-coded data from which the stuffed bytes have been removed, for one stream alone.
///
/// The data are handed to each call. They must go on for [`PADDING_BYTES`] behind the end of any segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits {
    /// Next byte of the data to be put into the window.
    next: usize,
    /// Those below the bits of the stream may repeat what `next` points at.
    pub(super) window: Window,
}

impl Bits {
    /// The first bit of the byte at `start`.
    pub(super) fn new(start: usize) -> Bits {
        Bits { next: start, window: Window { buffer: 0, count: 0 } }
    }

    /// Fills the window to at least 56 bits.
    #[inline(always)]
    pub(super) fn refill(&mut self, data: &[u8]) {
        let count = self.window.count % 64;
        self.window.buffer |= load(data, self.next) >> count;
        self.next += ((63 - count) >> 3) as usize;
        self.window.count = count | 0b11_1000;
    }

    /// How many bits of the data lie before this place.
    #[inline(always)]
    pub(super) fn position(&self) -> usize {
        self.next * 8 - (self.window.count % 64) as usize
    }
}

/// Eight bytes of the data; with the padding there, they are always found.
#[inline(always)]
fn load(data: &[u8], start: usize) -> u64 {
    let bytes = data.get(start..start + 8).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
