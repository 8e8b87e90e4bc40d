//! Entropy decoding of one block (T.81 F.2.2).

use super::bits::{Bits, Window};
use super::huffman::{ADVANCE_END, ADVANCE_LONG, HuffmanTable};
use super::markers::ZIGZAG;
use super::refusal::Damage;

/// Coefficients of a block in natural order. Behind the 64 of them is a place that catches what a decoder writes while it
/// runs over the end; the array is as long as any `u8` can point, so that the loop needs no check of its own.
#[derive(Debug, Clone)]
#[repr(align(32))]
pub(super) struct Block(pub(super) [i16; 256]);

impl Block {
    pub(super) const fn new() -> Block {
        Block([0; 256])
    }

    /// The coefficients alone.
    pub(super) fn coefficients(&self) -> &[i16; 64] {
        self.0.first_chunk().expect("a block holds 64 coefficients")
    }

    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.0[..64].fill(0);
    }
}

/// [`ZIGZAG`], continued by a place outside the block for every index that [`HuffmanTable`] can lead to.
static PLACES: [u8; 256] = {
    let mut places = [64; 256];
    let mut index = 0;
    while index < 64 {
        places[index] = ZIGZAG[index];
        index += 1;
    }
    places
};

/// The tables of one component.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockTables<'a> {
    pub(super) dc: &'a HuffmanTable,
    pub(super) ac: &'a HuffmanTable,
}

/// The data of a segment with what is around it, and where the segment ends in them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) data: &'a [u8],
    pub(super) end: usize,
}

/// Begins a block: adds the difference of its DC coefficient to the prediction. It takes up to 27 bits.
#[inline(always)]
pub(super) fn decode_dc(window: &mut Window, table: &HuffmanTable, prediction: &mut i32) -> Result<(), Damage> {
    let mut entry = table.look_up(window.peek());
    if entry.advance() == ADVANCE_LONG {
        entry = table.look_up_long(window.peek());
    }
    let difference = entry.value(window.peek());
    window.consume(entry.bits());
    *prediction = prediction.wrapping_add(i32::from(difference));
    // Only bits that are no code say that there is something to move on to.
    if entry.advance() == 0 { Ok(()) } else { Err(Damage::Block) }
}

/// Decodes up to two AC coefficients, from `index` on, and gives the index of the last one.
///
/// Code and value take at most 26 bits, so one window serves two of them. The block ends when the index reaches 63 or
/// goes beyond; [`finish_block`] says how.
#[inline(always)]
pub(super) fn decode_two(window: &mut Window, table: &HuffmanTable, mut index: usize, block: &mut Block) -> usize {
    for _ in 0..2 {
        let mut entry = table.look_up(window.peek());
        // What is no coefficient goes to a place that nobody reads.
        block.0[usize::from(PLACES[(index + entry.advance()) & 255])] = entry.value(window.peek());
        window.consume(entry.bits());
        index += entry.advance();
        if index >= 63 {
            if index < ADVANCE_LONG {
                break;
            }
            entry = table.look_up_long(window.peek());
            index = index + entry.advance() - ADVANCE_LONG;
            block.0[usize::from(PLACES[index & 255])] = entry.value(window.peek());
            window.consume(entry.bits());
            if index >= 63 {
                break;
            }
        }
    }
    index
}

/// Begins a block of a stream that is read alone.
#[inline(always)]
fn begin_block(bits: &mut Bits, source: Source<'_>, table: &HuffmanTable, prediction: &mut i32) -> Result<(), Damage> {
    if bits.position() > source.end * 8 {
        return Err(Damage::Truncated);
    }
    bits.refill(source.data);
    decode_dc(&mut bits.window, table, prediction)
}

/// Decodes a block into `block`, which must be clear, and gives the zigzag index of its last coefficient.
#[inline(always)]
pub(super) fn decode_block(
    stream: &mut Bits,
    source: Source<'_>,
    tables: BlockTables<'_>,
    prediction: &mut i32,
    block: &mut Block,
) -> Result<usize, Damage> {
    // A copy stays in registers throughout the block.
    let mut bits = *stream;
    begin_block(&mut bits, source, tables.dc, prediction)?;
    block.0[0] = *prediction as i16;
    let mut index = 0;
    while index < 63 {
        bits.refill(source.data);
        index = decode_two(&mut bits.window, tables.ac, index, block);
    }
    *stream = bits;
    finish_block(index)
}

/// Passes over a block: only the prediction of the DC coefficient is kept.
#[inline(always)]
pub(super) fn skip_block(
    stream: &mut Bits,
    source: Source<'_>,
    tables: BlockTables<'_>,
    prediction: &mut i32,
) -> Result<usize, Damage> {
    let mut bits = *stream;
    begin_block(&mut bits, source, tables.dc, prediction)?;
    let mut index = 0;
    'block: loop {
        bits.refill(source.data);
        for _ in 0..2 {
            let run = tables.ac.look_up_run(bits.window.peek());
            let next = index + run.advance();
            if next < 63 {
                bits.window.consume(run.bits());
                index = next;
                continue;
            }
            if (ADVANCE_END..ADVANCE_END + 63).contains(&next) {
                bits.window.consume(run.bits());
                index = next;
                break 'block;
            }
            // The run may have read on into the next block, or there was none: one code after the other.
            let mut entry = tables.ac.look_up(bits.window.peek());
            if entry.advance() == ADVANCE_LONG {
                entry = tables.ac.look_up_long(bits.window.peek());
            }
            bits.window.consume(entry.bits());
            index += entry.advance();
            if index >= 63 {
                break 'block;
            }
            break;
        }
    }
    *stream = bits;
    finish_block(index)
}

/// Where the block ended: with its last coefficient, by an end-of-block code, or not as blocks do.
#[inline(always)]
pub(super) fn finish_block(index: usize) -> Result<usize, Damage> {
    match index {
        63 => Ok(63),
        ADVANCE_END.. => Ok(index - ADVANCE_END),
        _ => Err(Damage::Block),
    }
}
