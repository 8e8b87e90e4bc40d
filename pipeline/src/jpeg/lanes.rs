//! Several restart segments decoded in turn, symbol by symbol, in one thread.
//!
//! Decoding a symbol is a chain of a few operations that each wait for the one before (bits, look-up, shift, bits), so a
//! processor that could do four things at once mostly waits. Segments do not depend on each other; taking turns between
//! [`LANES`] of them fills the gaps. More would not fit into the registers.

use std::ops::Range;

use super::bits::Window;
use super::entropy::{Block, decode_dc, decode_two, finish_block};
use super::huffman::HuffmanTable;
use super::refusal::Damage;
use super::scan::{BlockSink, Place, Scan, Walk, finish_segment};

/// Segments in work at a time.
const LANES: usize = 3;

/// What a lane needs from symbol to symbol. It is small and copied, so that it can stay in registers.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    /// How many bits of the data lie before the next of its stream.
    position: usize,
    ac: &'a HuffmanTable,
    /// Zigzag index of the coefficient last decoded.
    index: usize,
}

/// What a lane needs from block to block.
#[derive(Clone, Copy)]
struct Lane {
    walk: Walk,
    /// Where the segment ends.
    end: usize,
    predictions: [i32; 3],
    /// The block in work.
    place: Place,
}

/// All lanes; those in work come first.
struct Lanes<'a> {
    states: [Lane; LANES],
    blocks: [Block; LANES],
    cursors: [Cursor<'a>; LANES],
}

impl Lanes<'_> {
    /// Puts a lane that has no more work behind the others in work, of which there are `count` with it.
    fn retire(&mut self, lane: usize, count: usize) {
        self.states.swap(lane, count - 1);
        self.blocks.swap(lane, count - 1);
        self.cursors.swap(lane, count - 1);
    }
}

/// Decodes the needed blocks of `segments`, given as number in the scan and range of `data`.
#[inline(always)]
pub(super) fn decode_interleaved(
    scan: &Scan<'_>,
    data: &[u8],
    segments: &mut impl Iterator<Item = (u32, Range<usize>)>,
    sink: &mut impl BlockSink,
) -> Result<(), Damage> {
    let idle = Lane { walk: Walk::default(), end: 0, predictions: [0; 3], place: Place::default() };
    let cursor = Cursor { position: 0, ac: scan.tables[0].ac, index: 0 };
    let mut all = Lanes { states: [idle; LANES], blocks: [const { Block::new() }; LANES], cursors: [cursor; LANES] };
    let mut count = 0;
    while count < LANES {
        let Some(first) =
            next_block(scan, data, &mut all.states[count], &mut all.blocks[count], cursor.position, segments)?
        else {
            break;
        };
        all.cursors[count] = first;
        count += 1;
    }
    if count == 3 {
        take_turns::<3>(scan, data, &mut all, segments, sink)?;
        count = 2;
    }
    if count == 2 {
        take_turns::<2>(scan, data, &mut all, segments, sink)?;
        count = 1;
    }
    if count == 1 {
        take_turns::<1>(scan, data, &mut all, segments, sink)?;
    }
    Ok(())
}

/// Works on the first `K` lanes until one of them has no more work, and retires that one.
#[inline(always)]
fn take_turns<'a, const K: usize>(
    scan: &Scan<'a>,
    data: &[u8],
    all: &mut Lanes<'a>,
    segments: &mut impl Iterator<Item = (u32, Range<usize>)>,
    sink: &mut impl BlockSink,
) -> Result<(), Damage> {
    // Three variables and a loop written out: an array indexed by a loop stays in memory, where it costs what taking turns
    // gains.
    let [mut first, mut second, mut third] = all.cursors;
    loop {
        let mut retired = None;
        if !turn(scan, data, 0, &mut first, all, segments, sink)? {
            retired = Some(0);
        } else if K > 1 && !turn(scan, data, 1, &mut second, all, segments, sink)? {
            retired = Some(1);
        } else if K > 2 && !turn(scan, data, 2, &mut third, all, segments, sink)? {
            retired = Some(2);
        }
        if let Some(lane) = retired {
            all.cursors = [first, second, third];
            all.retire(lane, K);
            return Ok(());
        }
    }
}

/// Decodes the next coefficients of a lane, and on to the next block when this one ends. False when there is none.
#[inline(always)]
fn turn<'a>(
    scan: &Scan<'a>,
    data: &[u8],
    lane: usize,
    cursor: &mut Cursor<'a>,
    all: &mut Lanes<'a>,
    segments: &mut impl Iterator<Item = (u32, Range<usize>)>,
    sink: &mut impl BlockSink,
) -> Result<bool, Damage> {
    let mut window = Window::at(data, cursor.position);
    cursor.index = decode_two(&mut window, cursor.ac, cursor.index, &mut all.blocks[lane]);
    cursor.position += window.consumed();
    if cursor.index < 63 {
        return Ok(true);
    }
    let last = finish_block(cursor.index)?;
    let place = all.states[lane].place;
    if place.is_needed {
        sink.put(place, &all.blocks[lane], last);
    }
    let next = next_block(scan, data, &mut all.states[lane], &mut all.blocks[lane], cursor.position, segments)?;
    if let Some(next) = next {
        *cursor = next;
    }
    Ok(next.is_some())
}

/// Begins a lane's next block, in the next segment when this one is done; none when all segments are done.
#[inline(always)]
fn next_block<'a>(
    scan: &Scan<'a>,
    data: &[u8],
    lane: &mut Lane,
    block: &mut Block,
    mut position: usize,
    segments: &mut impl Iterator<Item = (u32, Range<usize>)>,
) -> Result<Option<Cursor<'a>>, Damage> {
    loop {
        if let Some(place) = lane.walk.next(scan.region) {
            lane.place = place;
            let tables = scan.tables[place.component];
            let prediction = &mut lane.predictions[place.component];
            if position > lane.end * 8 {
                return Err(Damage::Truncated);
            }
            let mut window = Window::at(data, position);
            decode_dc(&mut window, tables.dc, prediction)?;
            position += window.consumed();
            block.clear();
            block.0[0] = *prediction as i16;
            return Ok(Some(Cursor { position, ac: tables.ac, index: 0 }));
        }
        finish_segment(&lane.walk, position, lane.end)?;
        let Some((number, bytes)) = segments.next() else { return Ok(None) };
        lane.walk = Walk::new(scan.region, number);
        lane.end = bytes.end;
        lane.predictions = [0; 3];
        position = bytes.start * 8;
    }
}
