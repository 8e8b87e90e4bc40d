//! Entropy decoding of one block (T.81 F.2.2).

use super::bits::BitReader;
use super::huffman::{ADVANCE_END, HuffmanTable};
use super::markers::ZIGZAG;
use super::refusal::Damage;

/// Coefficients of a block in natural order. Behind the 64 of them is a place that catches what a decoder writes while it
/// runs over the end, so that the loop needs no check of its own.
#[derive(Debug, Clone)]
#[repr(align(32))]
pub(super) struct Block(pub(super) [i16; 128]);

impl Block {
    pub(super) const fn new() -> Block {
        Block([0; 128])
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

/// Decodes the difference of the DC coefficient and adds it to the prediction.
#[inline(always)]
fn decode_dc(reader: &mut BitReader<'_>, table: &HuffmanTable, prediction: &mut i32) -> bool {
    reader.refill();
    let mut entry = table.look_up(reader.peek());
    if entry.is_long() {
        entry = table.look_up_long(reader.peek());
    }
    let difference = entry.value(reader.peek());
    reader.consume(entry.bits());
    *prediction = prediction.wrapping_add(difference);
    entry.advance() == 0
}

/// Decodes a block into `block`, which must be clear, and gives the zigzag index of its last coefficient.
#[inline(always)]
pub(super) fn decode_block(
    stream: &mut BitReader<'_>,
    tables: BlockTables<'_>,
    prediction: &mut i32,
    block: &mut Block,
) -> Result<usize, Damage> {
    // A copy stays in registers throughout the block.
    let mut reader = *stream;
    if reader.is_past_end() {
        return Err(Damage::Truncated);
    }
    if !decode_dc(&mut reader, tables.dc, prediction) {
        return Err(Damage::Block);
    }
    block.0[0] = *prediction as i16;
    let mut index = 0;
    // Code and value of an AC coefficient take at most 26 bits, so one refill serves two of them.
    'block: loop {
        reader.refill();
        for _ in 0..2 {
            let mut entry = tables.ac.look_up(reader.peek());
            if entry.is_long() {
                entry = tables.ac.look_up_long(reader.peek());
            }
            index += entry.advance();
            block.0[usize::from(PLACES[index & 255] & 127)] = entry.value(reader.peek()) as i16;
            reader.consume(entry.bits());
            if index >= 63 {
                break 'block;
            }
        }
    }
    *stream = reader;
    finish_block(index)
}

/// Passes over a block: only the prediction of the DC coefficient is kept.
#[inline(always)]
pub(super) fn skip_block(
    stream: &mut BitReader<'_>,
    tables: BlockTables<'_>,
    prediction: &mut i32,
) -> Result<usize, Damage> {
    // A copy stays in registers throughout the block.
    let mut reader = *stream;
    if reader.is_past_end() {
        return Err(Damage::Truncated);
    }
    if !decode_dc(&mut reader, tables.dc, prediction) {
        return Err(Damage::Block);
    }
    let mut index = 0;
    'block: loop {
        reader.refill();
        for _ in 0..2 {
            let mut entry = tables.ac.look_up(reader.peek());
            if entry.is_long() {
                entry = tables.ac.look_up_long(reader.peek());
            }
            index += entry.advance();
            reader.consume(entry.bits());
            if index >= 63 {
                break 'block;
            }
        }
    }
    *stream = reader;
    finish_block(index)
}

/// Where the block ended: with its last coefficient, by an end-of-block code, or not as blocks do.
#[inline(always)]
fn finish_block(index: usize) -> Result<usize, Damage> {
    match index {
        63 => Ok(63),
        ADVANCE_END.. => Ok(index - ADVANCE_END),
        _ => Err(Damage::Block),
    }
}
