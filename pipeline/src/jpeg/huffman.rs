//! Huffman tables as look-ups (T.81 annex C, F.2.2).
//!
//! One look-up of the next [`LOOKUP_BITS`] bits gives everything that a code says: how long it is, how many further bits
//! hold the value, and how far to move on in the block. The value itself is taken from the bit buffer by arithmetic
//! without a branch (see [`Entry::value`]), so that an entry depends on its code alone: a table is filled by runs of equal
//! entries, which costs next to nothing, and no branch has to guess whether code and value fit into the look-up together.

use super::markers::HuffmanSpec;
use super::refusal::{NotForUs, Refusal};

/// Bits of one look-up. Codes longer than this are rare, and take the slow path.
pub(super) const LOOKUP_BITS: u32 = 11;

/// Coefficients to move on at the end of a block: beyond anything that runs of zeros can reach.
pub(super) const ADVANCE_END: usize = 128;

/// Coefficients to move on at bits that are no code: beyond the block, yet short of [`ADVANCE_END`].
const ADVANCE_INVALID: u32 = 64;

/// Longest value of an AC coefficient and of a DC difference in bits (T.81 tables F.1, F.2).
const AC_SIZE_MAX: u8 = 10;
const DC_SIZE_MAX: u8 = 11;

/// What a code says. From the lowest byte up: code and value together in bits; the code in bits; 63 - value in bits;
/// coefficients to move on. Shifts take the low six bits of their count, so that no field needs a mask of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u32);

impl Entry {
    /// Stands for all codes that are longer than a look-up.
    const LONG: Entry = Entry(0);

    const fn new(code_bits: u32, value_bits: u32, advance: u32) -> Entry {
        Entry((code_bits + value_bits) | code_bits << 8 | (63 - value_bits) << 16 | advance << 24)
    }

    #[inline(always)]
    pub(super) fn is_long(self) -> bool {
        self == Entry::LONG
    }

    /// Code and value together, in bits.
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    /// Coefficients to move on.
    #[inline(always)]
    pub(super) fn advance(self) -> usize {
        (self.0 >> 24) as usize
    }

    /// The value behind the code at the top of `buffer`, extended by its sign (T.81 F.2.2.1, figure F.12).
    ///
    /// A value that begins with a one stands for itself. One that begins with a zero stands for the negative of its
    /// complement, so both are a magnitude and a sign.
    #[inline(always)]
    pub(super) fn value(self, buffer: u64) -> i32 {
        let value = buffer.wrapping_shl(self.0 >> 8);
        let negative = !(value as i64 >> 63);
        // Two shifts, because an empty value would need a single one by 64.
        let magnitude = ((value ^ negative as u64) >> 1).wrapping_shr(self.0 >> 16) as i64;
        ((magnitude ^ negative) - negative) as i32
    }
}

/// Which coefficients a table codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Dc,
    Ac,
}

/// A table ready for decoding. It remembers what it was made from, since most files carry the same few tables.
#[derive(Debug, Clone)]
pub(super) struct HuffmanTable {
    lookup: Box<[Entry; 1 << LOOKUP_BITS]>,
    /// For each length, the first 16 bits (of what follows in the stream) that are beyond all codes of it; ascending.
    limits: [u32; 17],
    /// For each length, what to add to a code of it to get the index of its symbol.
    first_index: [i32; 17],
    class: Class,
    counts: [u8; 16],
    symbols: Vec<u8>,
}

impl HuffmanTable {
    /// A table without codes, to be filled by [`HuffmanTable::rebuild`].
    pub(super) fn new(class: Class) -> HuffmanTable {
        HuffmanTable {
            lookup: Box::new([Entry::LONG; 1 << LOOKUP_BITS]),
            limits: [0; 17],
            first_index: [0; 17],
            class,
            counts: [0; 16],
            symbols: Vec::with_capacity(256),
        }
    }

    /// Makes this the table of `spec`; true when it was another one before.
    pub(super) fn rebuild(&mut self, spec: &HuffmanSpec<'_>) -> Result<bool, Refusal> {
        if self.counts == *spec.counts && self.symbols == spec.symbols && !self.symbols.is_empty() {
            return Ok(false);
        }
        // A failure half-way must not leave something that looks like a finished table.
        self.symbols.clear();
        if spec.symbols.is_empty() || spec.symbols.iter().any(|&symbol| !self.is_valid_symbol(symbol)) {
            return Err(NotForUs::Header("huffman table with values that no 8-bit image has").into());
        }
        self.lookup.fill(Entry::LONG);
        let mut code = 0_u32;
        let mut index = 0_usize;
        for length in 1..=16_u32 {
            let count = usize::from(spec.counts[length as usize - 1]);
            self.first_index[length as usize] = index as i32 - code as i32;
            for &symbol in &spec.symbols[index..index + count] {
                // No code consists of ones alone (T.81 C.2), and none may be the beginning of another.
                if code + 1 >= 1 << length {
                    return Err(NotForUs::Header("huffman table with too many codes").into());
                }
                if length <= LOOKUP_BITS {
                    let low = (code << (LOOKUP_BITS - length)) as usize;
                    let entry = self.entry(length, symbol);
                    self.lookup[low..low + (1 << (LOOKUP_BITS - length))].fill(entry);
                }
                code += 1;
            }
            index += count;
            self.limits[length as usize] = code << (16 - length);
            code <<= 1;
        }
        self.counts = *spec.counts;
        self.symbols.extend_from_slice(spec.symbols);
        Ok(true)
    }

    /// What the code at the top of `buffer` says.
    #[inline(always)]
    pub(super) fn look_up(&self, buffer: u64) -> Entry {
        self.lookup[(buffer >> (64 - LOOKUP_BITS)) as usize]
    }

    /// The same for a code that is longer than a look-up (T.81 F.2.2.3), or for bits that are no code at all.
    #[cold]
    #[inline(never)]
    pub(super) fn look_up_long(&self, buffer: u64) -> Entry {
        let bits = (buffer >> 48) as u32;
        for length in LOOKUP_BITS + 1..=16 {
            if bits < self.limits[length as usize] {
                let code = (bits >> (16 - length)) as i32;
                let index = (code + self.first_index[length as usize]) as usize;
                return self
                    .symbols
                    .get(index)
                    .map_or(Entry::new(1, 0, ADVANCE_INVALID), |&symbol| self.entry(length, symbol));
            }
        }
        Entry::new(1, 0, ADVANCE_INVALID)
    }

    fn is_valid_symbol(&self, symbol: u8) -> bool {
        match self.class {
            Class::Dc => symbol <= DC_SIZE_MAX,
            Class::Ac => symbol & 15 <= AC_SIZE_MAX && (symbol & 15 > 0 || symbol == 0x00 || symbol == 0xF0),
        }
    }

    fn entry(&self, code_bits: u32, symbol: u8) -> Entry {
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        match self.class {
            Class::Dc => Entry::new(code_bits, size, 0),
            Class::Ac if symbol == 0 => Entry::new(code_bits, 0, ADVANCE_END as u32),
            Class::Ac => Entry::new(code_bits, size, run + 1),
        }
    }
}
