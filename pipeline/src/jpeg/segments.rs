//! Restart segments: finding them, and removing the bytes that were stuffed behind 0xFF (T.81 B.1.1.5, F.1.2.3).

use std::ops::Range;

use super::bits::PADDING_BYTES;
use super::markers::{EOI, RST0};
use super::refusal::{Damage, NotForUs, Refusal};

/// The entropy-coded data that a decode needs, without stuffed bytes, segment after segment.
///
/// Behind the last segment there are always [`PADDING_BYTES`] readable bytes.
#[derive(Debug, Default)]
pub(super) struct Segments {
    data: Vec<u8>,
    /// Number of each segment in the scan, and where it ends in `data`; it begins where the one before ends.
    ends: Vec<(u32, usize)>,
}

/// What followed a run of entropy-coded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// A marker, and the offset behind it.
    Marker(u8, usize),
    /// The file ended.
    Cut,
}

impl Segments {
    /// The segments in order: (number in the scan, where its bytes lie in [`Segments::data`]).
    #[inline(always)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Range<usize>)> {
        let mut start = 0;
        self.ends.iter().map(move |&(number, end)| (number, std::mem::replace(&mut start, end)..end))
    }

    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of all segments.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// Collects the segments for which `is_wanted`, up to `last` of `count`, from the scan that begins at `offset`.
    ///
    /// With the offsets of all segments in `index`, nothing is read of those that are not wanted; otherwise all markers up
    /// to `last` are found and checked. Offsets that do not lead behind the right restart marker count as damage.
    pub(super) fn collect(
        &mut self,
        bytes: &[u8],
        mut offset: usize,
        index: Option<&[u32]>,
        last: u32,
        count: u32,
        is_wanted: impl Fn(u32) -> bool,
    ) -> Result<(), Refusal> {
        self.begin(bytes.len() - offset);
        let mut end = 0;
        let mut next = 0;
        for number in 0..=last {
            let is_wanted = is_wanted(number);
            if let Some(index) = index {
                if !is_wanted {
                    continue;
                }
                if number != next {
                    offset = jump(bytes, offset, index, number)?;
                }
                next = number + 1;
            }
            let (length, stop) = unstuff(bytes, offset, &mut self.data[end..]);
            if is_wanted {
                end += length;
                self.ends.push((number, end));
            }
            offset = check_stop(stop, number, count)?;
        }
        self.finish(end);
        Ok(())
    }

    /// Makes room for everything that `length` stuffed bytes can become.
    fn begin(&mut self, length: usize) {
        self.ends.clear();
        if self.data.len() < length + PADDING_BYTES {
            self.data.resize(length + PADDING_BYTES, 0);
        }
    }

    /// Behind the data come zeros, so that a truncated segment decodes to the same whatever was decoded before.
    fn finish(&mut self, end: usize) {
        self.data[end..end + PADDING_BYTES].fill(0);
    }
}

/// Where the segment `number` begins by the index: ahead of `offset`, behind the restart marker that ends its forerunner.
fn jump(bytes: &[u8], offset: usize, index: &[u32], number: u32) -> Result<usize, Refusal> {
    let target = index.get(number as usize).ok_or(Damage::Restart)?;
    let target = usize::try_from(*target).map_err(|_| Damage::Restart)?;
    let marker = [0xFF, RST0 + (number.wrapping_sub(1) & 7) as u8];
    if target < offset + 2 || bytes.get(target - 2..target) != Some(&marker) {
        return Err(Damage::Restart.into());
    }
    Ok(target)
}

/// Whether the segment `number` of `count` was followed by what should follow it; gives the offset behind that.
fn check_stop(stop: Stop, number: u32, count: u32) -> Result<usize, Refusal> {
    let is_last = number + 1 == count;
    match stop {
        Stop::Marker(EOI, offset) if is_last => Ok(offset),
        Stop::Cut | Stop::Marker(EOI, _) => Err(Damage::Truncated.into()),
        Stop::Marker(marker, offset) if !is_last && marker == RST0 + (number & 7) as u8 => Ok(offset),
        Stop::Marker(RST0..=0xD7, _) => Err(Damage::Restart.into()),
        Stop::Marker(0xFF, _) => Err(NotForUs::ScanMarkers("fill bytes").into()),
        // Another scan, tables before it, or DNL.
        Stop::Marker(..) => Err(NotForUs::Scans.into()),
    }
}

/// Copies entropy-coded bytes from `offset` on to `out`, until a marker. Gives how many there were, and the marker.
///
/// `out` has room for 8 bytes more than there are bytes behind `offset`.
fn unstuff(bytes: &[u8], mut offset: usize, out: &mut [u8]) -> (usize, Stop) {
    let mut length = 0;
    loop {
        // Most pieces of this length hold no 0xFF; looking for one is then all that there is to wait for.
        while let Some(chunk) = bytes.get(offset..).and_then(<[u8]>::first_chunk::<32>) {
            if chunk.iter().copied().fold(0, u8::max) == 0xFF {
                break;
            }
            out[length..length + 32].copy_from_slice(chunk);
            length += 32;
            offset += 32;
        }
        // Eight bytes at a time; the copy may go beyond a 0xFF, and what follows then overwrites it.
        while let Some(chunk) = bytes.get(offset..).and_then(<[u8]>::first_chunk::<8>) {
            out[length..length + 8].copy_from_slice(chunk);
            let marks = mark_0xff(u64::from_le_bytes(*chunk));
            let plain = (marks.trailing_zeros() / 8) as usize;
            length += plain;
            offset += plain;
            if marks != 0 {
                break;
            }
        }
        match *bytes.get(offset..).unwrap_or_default() {
            [0xFF, 0x00, ..] => {
                out[length] = 0xFF;
                length += 1;
                offset += 2;
            }
            [0xFF, marker, ..] => return (length, Stop::Marker(marker, offset + 2)),
            [] | [0xFF] => return (length, Stop::Cut),
            [byte, ..] => {
                out[length] = byte;
                length += 1;
                offset += 1;
            }
        }
    }
}

/// The top bit of every byte that is 0xFF.
#[inline(always)]
fn mark_0xff(bytes: u64) -> u64 {
    const TOP: u64 = 0x8080_8080_8080_8080;
    const REST: u64 = !TOP;
    const ONE: u64 = 0x0101_0101_0101_0101;
    // The low seven bits carry into the top one only if they are all ones, and never beyond.
    bytes & TOP & ((bytes & REST) + ONE)
}
