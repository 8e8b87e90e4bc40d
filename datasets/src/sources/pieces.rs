//! A text in pieces that end where a record ends, so that a list of any length takes a bounded amount of memory.

use std::io::{self, BufRead, Read};

/// Records are no longer than this, so that what is no list cannot fill the memory.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// Gives a text out in pieces of whole records, each of one line or, where line ends may stand in quotes, of several.
pub(super) struct Pieces<R> {
    reader: R,
    /// Whether quotes hide line ends, as in RFC 4180.
    quotes: bool,
    text: Vec<u8>,
    /// Bytes of the text that have been given out.
    given: usize,
    /// Lines that have been given out.
    lines: u64,
}

/// How many records a piece shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    One,
    Many,
}

/// Some records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a [u8],
    /// The number of their first line, from 1 on.
    pub(super) line: u64,
}

impl<R: BufRead> Pieces<R> {
    pub(super) fn new(reader: R, quotes: bool) -> Pieces<R> {
        Pieces { reader, quotes, text: Vec::new(), given: 0, lines: 0 }
    }

    /// The next piece; nothing at the end.
    pub(super) fn next(&mut self, take: Take) -> io::Result<Option<Piece<'_>>> {
        self.text.drain(..self.given);
        self.given = end_of_records(&self.text, self.quotes, take);
        while self.given == 0 {
            if self.text.len() > RECORD_BYTES_MAX {
                return Err(io::Error::other(format!("a record has more than {RECORD_BYTES_MAX} bytes")));
            }
            if self.reader.by_ref().take(RECORD_BYTES_MAX as u64).read_to_end(&mut self.text)? == 0 {
                // The last line may have no end, and a quote that nobody closes ends with the file.
                self.given = self.text.len();
                break;
            }
            self.given = end_of_records(&self.text, self.quotes, take);
        }
        let piece = Piece { text: &self.text[..self.given], line: self.lines + 1 };
        self.lines += piece.text.split(|&byte| byte == b'\n').count() as u64 - 1;
        Ok((!piece.text.is_empty()).then_some(piece))
    }
}

/// Where the first or the last whole record of a text ends; 0 if none does.
fn end_of_records(text: &[u8], quotes: bool, take: Take) -> usize {
    let (mut end, mut is_quoted) = (0, false);
    for (at, &byte) in text.iter().enumerate() {
        if byte == b'"' && quotes {
            is_quoted = !is_quoted;
        } else if byte == b'\n' && !is_quoted {
            end = at + 1;
            if take == Take::One {
                break;
            }
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &[u8], quotes: bool, take: Take) -> Vec<(u64, String)> {
        let mut pieces = Pieces::new(text, quotes);
        let mut all = Vec::new();
        while let Some(piece) = pieces.next(take).unwrap() {
            all.push((piece.line, String::from_utf8(piece.text.to_vec()).unwrap()));
        }
        all
    }

    #[test]
    fn records_are_never_cut() {
        let text = b"a,b\n\"x\n\",y\nlast";
        let whole = [(1, "a,b\n\"x\n\",y\n".to_owned()), (4, "last".to_owned())];
        assert_eq!(pieces(text, true, Take::Many), whole);
        let single = [(1, "a,b\n"), (2, "\"x\n\",y\n"), (4, "last")];
        assert_eq!(pieces(text, true, Take::One), single.map(|(line, text)| (line, text.to_owned())));
        assert_eq!(pieces(text, false, Take::One).len(), 4);
        let long = b"0123456789abcde\n".repeat(300_000);
        let pieces = pieces(&long, true, Take::Many);
        assert!(pieces.len() > 3 && pieces.iter().all(|(_, text)| text.len() <= 2 << 20));
        assert_eq!(pieces.into_iter().map(|(_, text)| text).collect::<String>().as_bytes(), long);
    }

    #[test]
    fn what_never_ends_is_an_error() {
        let endless = vec![b'"'; 3 << 20];
        let error = Pieces::new(&endless[..], true).next(Take::Many).unwrap_err();
        assert!(error.to_string().contains("more than 1048576 bytes"));
    }
}
