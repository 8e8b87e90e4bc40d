//! Huffman tables as look-ups (T.81 annex C, F.2.2).
//!
//! One look-up of the next [`LOOKUP_BITS`] bits gives everything that a code says, and all that is left to do for the
//! value behind it is a shift and a subtraction (see [`Entry::value`]). An entry depends on a code and a sign alone, so a
//! table is filled by runs of equal entries, which costs next to nothing, and no branch has to guess whether code and value
//! fit into the look-up together.

use super::markers::HuffmanSpec;
use super::refusal::{NotForUs, Refusal};

/// Bits of one look-up. Codes that do not fit, together with the sign of their value, are rare and take the slow path.
pub(super) const LOOKUP_BITS: u32 = 11;

/// How far entries of no coefficient move on from an index below 64; the ranges of what results do not overlap.
pub(super) const ADVANCE_END: usize = 128;
pub(super) const ADVANCE_LONG: usize = 192;
const ADVANCE_INVALID: usize = 64;

/// Longest value of an AC coefficient and of a DC difference in bits (T.81 tables F.1, F.2).
const AC_SIZE_MAX: u8 = 10;
const DC_SIZE_MAX: u8 = 11;

/// What a code says. From the lowest bits up: 8 bits, how many bits code and value have together; 8 bits, how many
/// coefficients to move on; 16 bits, what to subtract from code and value, read as one number, to get the coefficient.
///
/// Shifts take the low six bits of their count, so that the first field needs no mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u32);

impl Entry {
    /// Stands for all codes that a look-up does not resolve. It uses up no bits.
    const LONG: Entry = Entry((ADVANCE_LONG as u32) << 8);
    const INVALID: Entry = Entry((ADVANCE_INVALID as u32) << 8 | 1);

    /// For `code` of `code_bits`, followed by a value of `value_bits` that begins with a one or not (T.81 F.2.2.1).
    ///
    /// A value that begins with a one stands for itself, any other for itself less 2^bits - 1. All is modulo 2^16, since
    /// the coefficient fits into 16 bits though code and value together may not.
    fn new(code: u32, code_bits: u32, value_bits: u32, begins_with_one: bool, advance: usize) -> Entry {
        let offset = (code << value_bits) + if begins_with_one { 0 } else { (1 << value_bits) - 1 };
        Entry((offset & 0xFFFF) << 16 | (advance as u32) << 8 | (code_bits + value_bits))
    }

    /// Code and value together in bits; only the low six bits count.
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    /// Coefficients to move on.
    #[inline(always)]
    pub(super) fn advance(self) -> usize {
        usize::from((self.0 >> 8) as u8)
    }

    /// The coefficient, or the difference of one, of which code and value are at the top of `buffer`.
    #[inline(always)]
    pub(super) fn value(self, buffer: u64) -> i16 {
        (buffer.wrapping_shr(self.0.wrapping_neg()) as u32).wrapping_sub(self.0 >> 16) as i16
    }
}

/// Several codes in a row: how many bits they take with their values, and how many coefficients they move on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run(u16);

impl Run {
    /// Not even one code could be told.
    const NONE: Run = Run((ADVANCE_LONG as u16) << 8);

    /// Two runs are read between refills, so one may take half of what a refill guarantees.
    const BITS_MAX: u32 = 28;

    fn new(start: u32, lookup: &[Entry; 1 << LOOKUP_BITS], code_bits: &[u8; 1 << LOOKUP_BITS]) -> Run {
        let (mut bits, mut advance) = (0, 0);
        while bits < LOOKUP_BITS && advance < 64 {
            let at = (start << bits) as usize % (1 << LOOKUP_BITS);
            let entry = lookup[at];
            let is_known = bits + u32::from(code_bits[at]) <= LOOKUP_BITS;
            if !is_known || bits + (entry.bits() & 63) > Run::BITS_MAX {
                break;
            }
            bits += entry.bits() & 63;
            advance += entry.advance();
        }
        if bits == 0 { Run::NONE } else { Run((advance as u16) << 8 | bits as u16) }
    }

    /// Codes and values together in bits; only the low six bits count.
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        u32::from(self.0)
    }

    /// Coefficients to move on. The run ends with the end of a block, if it has one.
    #[inline(always)]
    pub(super) fn advance(self) -> usize {
        usize::from(self.0 >> 8)
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
    /// How many bits of each look-up are its code; more than there are where none fits.
    code_bits: Box<[u8; 1 << LOOKUP_BITS]>,
    /// See [`HuffmanTable::look_up_run`]; made when first wanted.
    runs: Option<Box<[Run; 1 << LOOKUP_BITS]>>,
    are_runs_ready: bool,
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
            code_bits: Box::new([u8::MAX; 1 << LOOKUP_BITS]),
            runs: None,
            are_runs_ready: false,
            limits: [0; 17],
            first_index: [0; 17],
            class,
            counts: [0; 16],
            symbols: Vec::with_capacity(256),
        }
    }

    /// Makes this the table of `spec`, unless it is already.
    pub(super) fn rebuild(&mut self, spec: &HuffmanSpec<'_>) -> Result<(), Refusal> {
        if self.counts == *spec.counts && self.symbols == spec.symbols && !self.symbols.is_empty() {
            return Ok(());
        }
        // A failure half-way must not leave something that looks like a finished table.
        self.symbols.clear();
        if spec.symbols.is_empty() || spec.symbols.iter().any(|&symbol| !self.is_valid_symbol(symbol)) {
            return Err(NotForUs::Header("huffman table with values that no 8-bit image has").into());
        }
        self.are_runs_ready = false;
        if let Some(runs) = &mut self.runs {
            runs.fill(Run::NONE);
        }
        self.lookup.fill(Entry::LONG);
        self.code_bits.fill(u8::MAX);
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
                self.fill(code, length, symbol);
                code += 1;
            }
            index += count;
            self.limits[length as usize] = code << (16 - length);
            code <<= 1;
        }
        self.counts = *spec.counts;
        self.symbols.extend_from_slice(spec.symbols);
        Ok(())
    }

    /// What the code at the top of `buffer` says.
    #[inline(always)]
    pub(super) fn look_up(&self, buffer: u64) -> Entry {
        self.lookup[(buffer >> (64 - LOOKUP_BITS)) as usize]
    }

    /// The same where that gave no more than [`ADVANCE_LONG`] (T.81 F.2.2.3): for a longer code, or no code at all.
    #[cold]
    #[inline(never)]
    pub(super) fn look_up_long(&self, buffer: u64) -> Entry {
        let bits = (buffer >> 48) as u32;
        for length in LOOKUP_BITS..=16 {
            if bits < self.limits[length as usize] {
                let code = bits >> (16 - length);
                let index = code as i32 + self.first_index[length as usize];
                let Some(&symbol) = self.symbols.get(index as usize) else { break };
                let sign = buffer << length >> 63;
                return self.entry(code, length, symbol, sign == 1);
            }
        }
        Entry::INVALID
    }

    /// As many codes, with their values, as can be told from the next bits.
    #[inline(always)]
    pub(super) fn look_up_run(&self, buffer: u64) -> Run {
        // Without runs, every code takes the way of those that are too long.
        self.runs.as_ref().map_or(Run::NONE, |runs| runs[(buffer >> (64 - LOOKUP_BITS)) as usize])
    }

    /// Gets the table ready for [`HuffmanTable::look_up_run`].
    pub(super) fn prepare_runs(&mut self) {
        if std::mem::replace(&mut self.are_runs_ready, true) {
            return;
        }
        let (lookup, code_bits) = (&self.lookup, &self.code_bits);
        let runs = self.runs.get_or_insert_with(|| Box::new([Run::NONE; 1 << LOOKUP_BITS]));
        for (bits, run) in runs.iter_mut().enumerate() {
            *run = Run::new(bits as u32, lookup, code_bits);
        }
    }

    /// Enters a code, with either sign of its value, if it fits.
    fn fill(&mut self, code: u32, length: u32, symbol: u8) {
        let bits = length + u32::from(symbol & 15 > 0);
        if bits > LOOKUP_BITS {
            return;
        }
        let span = 1 << (LOOKUP_BITS - bits);
        let low = (code << (LOOKUP_BITS - length)) as usize;
        self.code_bits[low..low + (1 << (LOOKUP_BITS - length))].fill(length as u8);
        if symbol & 15 > 0 {
            let (negative, positive) =
                (self.entry(code, length, symbol, false), self.entry(code, length, symbol, true));
            self.lookup[low..low + span].fill(negative);
            self.lookup[low + span..low + 2 * span].fill(positive);
        } else {
            let entry = self.entry(code, length, symbol, false);
            self.lookup[low..low + span].fill(entry);
        }
    }

    fn is_valid_symbol(&self, symbol: u8) -> bool {
        match self.class {
            Class::Dc => symbol <= DC_SIZE_MAX,
            Class::Ac => symbol & 15 <= AC_SIZE_MAX && (symbol & 15 > 0 || symbol == 0x00 || symbol == 0xF0),
        }
    }

    fn entry(&self, code: u32, length: u32, symbol: u8, begins_with_one: bool) -> Entry {
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        let advance = match self.class {
            Class::Dc => 0,
            Class::Ac if symbol == 0 => ADVANCE_END,
            Class::Ac => run + 1,
        };
        Entry::new(code, length, size, begins_with_one, advance)
    }
}
