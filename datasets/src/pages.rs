//! What Parquet files say about themselves, checked before the Parquet library believes it.
//!
//! Its headers are structs in Thrift's compact protocol. The library passes over lists of unknown fields element by element,
//! even where an element has no bytes or the file has ended, and makes room for as many dictionary values as a header says:
//! so three thousand bytes can keep it busy for minutes, or make it take gigabytes. Here every header is walked through once,
//! within bounds, and only then given on.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::ratio::unpacked_bytes_max;

/// Old writers put whole values into the statistics of a page, which may be images.
const HEADER_BYTES_MAX: u64 = 64 << 20;
/// Headers of pages have lists in nothing but unknown fields.
const HEADER_ELEMENTS_MAX: u64 = 1 << 16;
/// What the library itself goes down to.
const DEPTH_MAX: u32 = 64;

/// Bytes of a Parquet file, in which the headers of pages are checked when the Parquet library reads them.
pub(crate) struct CheckedPages<C> {
    pub(crate) chunks: C,
    /// A page may be so many bytes larger than its length tells: what is known of the values, however well they compress.
    pub(crate) known_bytes: u64,
}

impl<C: Length> Length for CheckedPages<C> {
    fn len(&self) -> u64 {
        self.chunks.len()
    }
}

impl<C: ChunkReader> ChunkReader for CheckedPages<C> {
    type T = CheckedHeader<C::T>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let unchecked = Some(self.chunks.get_read(start)?);
        Ok(CheckedHeader { unchecked, known_bytes: self.known_bytes, header: Cursor::default() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.chunks.get_bytes(start, length)
    }
}

/// Gives out the header of a page, and nothing behind it.
pub(crate) struct CheckedHeader<R> {
    /// What the header is taken from when it is first asked for; some that are opened are never read.
    unchecked: Option<R>,
    known_bytes: u64,
    header: Cursor<Vec<u8>>,
}

impl<R: Read> Read for CheckedHeader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(unchecked) = self.unchecked.take() {
            self.header = Cursor::new(page_header(unchecked, self.known_bytes)?);
        }
        self.header.read(into)
    }
}

/// The metadata of a Parquet file, of which these are the last bytes.
///
/// # Errors
///
/// The reason why there is none that could be read.
pub(crate) fn checked_metadata(tail: &[u8]) -> Result<&[u8], String> {
    let Some((rest, b"PAR1")) = tail.split_last_chunk() else {
        return Err("the file does not end like a Parquet file".to_owned());
    };
    let Some((rest, length)) = rest.split_last_chunk() else {
        return Err("the footer is cut off".to_owned());
    };
    let length = u32::from_le_bytes(*length) as usize;
    let Some(start) = rest.len().checked_sub(length) else {
        return Err(format!("expected {length} bytes of metadata at its end, got {}", rest.len()));
    };
    let metadata = &rest[start..];
    // An element has a byte at least, so there can be no more of them than bytes.
    let mut walk = Walk { from: metadata, passed: None, bytes_left: length as u64, elements_left: length as u64 };
    walk.skip_value(STRUCT, DEPTH_MAX).map_err(|error| error.to_string())?;
    Ok(metadata)
}

/// Reads the header of a page, and checks what it says about sizes.
fn page_header(from: impl Read, known_bytes: u64) -> io::Result<Vec<u8>> {
    let mut walk =
        Walk { from, passed: Some(Vec::new()), bytes_left: HEADER_BYTES_MAX, elements_left: HEADER_ELEMENTS_MAX };
    // As parquet.thrift numbers them: uncompressed and compressed size, and how many values a dictionary has. The library reads
    // what has a known number without a look at its type.
    let (mut unpacked, mut packed, mut values) = (0, 0, 0);
    walk.each_field(DEPTH_MAX, &mut |walk, field, kind| match (field, kind) {
        (2, I32) => walk.integer_into(&mut unpacked),
        (3, I32) => walk.integer_into(&mut packed),
        (5..=8, STRUCT) => walk.each_field(DEPTH_MAX - 1, &mut |walk, inner, kind| match (field, inner, kind) {
            (7, 1, I32) => walk.integer_into(&mut values),
            (5, 1..=4, kind) | (7, 1..=2, kind) | (8, 1..=6, kind) if kind != I32 => mistyped(inner, kind),
            _ => walk.skip_value(kind, DEPTH_MAX - 2),
        }),
        (5..=8, _) => mistyped(field, kind),
        (1..=4, kind) if kind != I32 => mistyped(field, kind),
        _ => walk.skip_value(kind, DEPTH_MAX - 1),
    })?;
    let bytes_max = unpacked_bytes_max(u64::try_from(packed).unwrap_or(0)).saturating_add(known_bytes);
    if !u64::try_from(unpacked).is_ok_and(|unpacked| unpacked <= bytes_max) {
        return refused(format!(
            "a page of {packed} bytes says that it unpacks to {unpacked}, expected up to {bytes_max}"
        ));
    }
    if !(0..=unpacked).contains(&values) {
        return refused(format!("a dictionary page says that its {unpacked} bytes are {values} values"));
    }
    Ok(walk.passed.unwrap_or_default())
}

fn refused<T>(reason: String) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, reason))
}

fn mistyped(field: i16, kind: u8) -> io::Result<()> {
    refused(format!("field {field} of a header is of the wrong type {kind}"))
}

// Types of the compact protocol; where a field is a boolean, its type is its value.
const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// What is done with a field, of which number and type are given.
type OnField<'a, R> = &'a mut dyn FnMut(&mut Walk<R>, i16, u8) -> io::Result<()>;

/// Goes through values of Thrift's compact protocol, as the Parquet library would.
struct Walk<R> {
    from: R,
    /// The bytes gone through, where they are wanted.
    passed: Option<Vec<u8>>,
    bytes_left: u64,
    elements_left: u64,
}

impl<R: Read> Walk<R> {
    /// Goes through a struct. `on_field` goes through the value of each field.
    fn each_field(&mut self, depth: u32, on_field: OnField<'_, R>) -> io::Result<()> {
        if depth == 0 {
            return refused(format!("a header is nested more than {DEPTH_MAX} deep"));
        }
        let mut field = 0_i16;
        loop {
            let head = self.byte()?;
            let (step, kind) = (i16::from(head >> 4), head & 0xf);
            if kind == STOP {
                return Ok(());
            }
            field = if step == 0 { self.integer()? } else { field.saturating_add(step) };
            on_field(self, field, kind)?;
        }
    }

    fn skip_value(&mut self, kind: u8, depth: u32) -> io::Result<()> {
        if depth == 0 {
            return refused(format!("a header is nested more than {DEPTH_MAX} deep"));
        }
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.skip_bytes(1),
            I16 | I32 | I64 => self.unsigned().map(drop),
            DOUBLE => self.skip_bytes(8),
            UUID => self.skip_bytes(16),
            BINARY => {
                let length = self.unsigned()?;
                self.skip_bytes(length)
            }
            STRUCT => self.each_field(depth, &mut |walk, _, kind| walk.skip_value(kind, depth - 1)),
            LIST | SET => {
                let head = self.byte()?;
                let length = if head >> 4 == 0xf { self.unsigned()? } else { u64::from(head >> 4) };
                self.skip_elements(length, &[head & 0xf], depth)
            }
            MAP => {
                let length = self.unsigned()?;
                let kinds = if length == 0 { 0 } else { self.byte()? };
                self.skip_elements(length, &[kinds >> 4, kinds & 0xf], depth)
            }
            other => refused(format!("a header has a value of the unknown type {other}")),
        }
    }

    fn skip_elements(&mut self, length: u64, kinds: &[u8], depth: u32) -> io::Result<()> {
        let Some(left) = self.elements_left.checked_sub(length) else {
            return refused(format!("a header has a list of {length} elements, which is too long"));
        };
        self.elements_left = left;
        for _ in 0..length {
            kinds.iter().try_for_each(|&kind| self.skip_value(kind, depth - 1))?;
        }
        Ok(())
    }

    /// A number with its sign in the lowest bit.
    fn integer<T: TryFrom<i64>>(&mut self) -> io::Result<T> {
        let coded = self.unsigned()?;
        let number = (coded >> 1) as i64 ^ -((coded & 1) as i64);
        T::try_from(number).or_else(|_| refused(format!("a header has the number {number}, which is too large")))
    }

    fn integer_into(&mut self, number: &mut i32) -> io::Result<()> {
        *number = self.integer()?;
        Ok(())
    }

    /// Seven bits a byte, the lowest first.
    fn unsigned(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        refused("a header has a number of more than 64 bits".to_owned())
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.take_bytes(1)?;
        self.from.read_exact(&mut byte)?;
        self.passed.iter_mut().for_each(|passed| passed.push(byte[0]));
        Ok(byte[0])
    }

    fn skip_bytes(&mut self, length: u64) -> io::Result<()> {
        self.take_bytes(length)?;
        let mut value = self.from.by_ref().take(length);
        let skipped = match &mut self.passed {
            Some(passed) => value.read_to_end(passed)? as u64,
            None => io::copy(&mut value, &mut io::sink())?,
        };
        if skipped == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn take_bytes(&mut self, length: u64) -> io::Result<()> {
        let Some(left) = self.bytes_left.checked_sub(length) else {
            return refused("a header is longer than it can be".to_owned());
        };
        self.bytes_left = left;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number of 32 bits as the protocol writes it.
    fn number(number: i32) -> Vec<u8> {
        let mut left = u64::from((number << 1 ^ number >> 31) as u32);
        let mut bytes = Vec::new();
        while left > 0x7f {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
        bytes
    }

    /// A header of a dictionary page, and something in a field that nobody knows.
    fn header(unpacked: i32, values: i32, unknown: &[u8]) -> Vec<u8> {
        let packed = 100;
        let sizes = [&[0x15][..], &number(2), &[0x15], &number(unpacked), &[0x15], &number(packed)].concat();
        [&sizes[..], &[0x4c, 0x15], &number(values), &[0x15, 0, STOP], unknown, &[STOP]].concat()
    }

    fn read_header(mut bytes: &[u8]) -> Result<usize, String> {
        let mut read = Vec::new();
        let mut checked = CheckedHeader { unchecked: Some(&mut bytes), known_bytes: 1, header: Cursor::default() };
        checked.read_to_end(&mut read).map_err(|error| error.to_string())
    }

    #[test]
    fn headers_end_where_they_say_and_tell_what_can_be() {
        let length = 0xff_ff_ff_ff_07_u64.to_be_bytes();
        let endless = |kind: u8| [&[0x29, 0xf0 | kind][..], &length[3..]].concat();
        let nested = vec![0x2c; 100];
        let whole = header(800, 100, &[0x28, 3, 1, 2, 3]);
        assert_eq!(read_header(&[&whole[..], &[7; 50]].concat()), Ok(whole.len()));
        for (bytes, expected) in [
            (header(800, 801, &[]), "its 800 bytes are 801 values"),
            (header(800, -1, &[]), "-1 values"),
            (header(-1, 0, &[]), "unpacks to -1"),
            (header(i32::MAX, 0, &[]), "unpacks to 2147483647, expected up to 67115265"),
            (header(800, 100, &endless(TRUE)), "a list of 2147483647 elements"),
            (header(800, 100, &endless(UUID)), "a list of 2147483647 elements"),
            (header(800, 100, &nested), "more than 64 deep"),
            (header(800, 100, &[0x2e]), "unknown type 14"),
            // Again the sizes, as a number of 64 bits, or too large a one.
            (header(800, 100, &[0x06, 4, 2]), "field 2 of a header is of the wrong type 6"),
            (header(800, 100, &[0x05, 4, 0x80, 0x80, 0x80, 0x80, 0x20]), "the number 4294967296"),
            (header(800, 100, &[0x0c, 14, 0x16, 2]), "field 1 of a header is of the wrong type 6"),
            (header(800, 100, &[0x28, 0xff, 0xff, 0xff, 0x7f]), "longer than it can be"),
            (header(800, 100, &[0x28, 9, 1]), "unexpected end of file"),
        ] {
            let said = read_header(&bytes).unwrap_err();
            assert!(said.contains(expected), "expected {expected}, got {said}");
        }
        let footer = |metadata: &[u8]| [metadata, &(metadata.len() as u32).to_le_bytes(), b"PAR1"].concat();
        assert_eq!(checked_metadata(&footer(&whole)), Ok(&whole[..]));
        assert!(checked_metadata(&footer(&header(0, 0, &endless(FALSE)))).unwrap_err().contains("too long"));
        assert!(checked_metadata(&footer(&whole)[5..]).unwrap_err().contains("bytes of metadata at its end, got"));
    }
}
