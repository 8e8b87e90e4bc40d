//! Values that are separated by commas or tabs, with quotes as in RFC 4180.

use std::io::{self, BufRead, Read};

/// Records are no longer than this, so that what is no list cannot fill the memory.
pub(super) const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Reads records, each of one line or, where line ends stand in quotes, of several.
pub(super) struct Records<R> {
    reader: R,
    separator: char,
    /// Lines that have been read.
    lines: u64,
    text: String,
}

impl<R: BufRead> Records<R> {
    pub(super) fn new(reader: R, separator: char) -> Records<R> {
        Records { reader, separator, lines: 0, text: String::new() }
    }

    /// The number of the line that the next record begins at, from 1 on.
    pub(super) fn line(&self) -> u64 {
        self.lines + 1
    }

    /// The values of the next record; nothing at the end. Empty lines are passed over.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<String>>> {
        self.text.clear();
        loop {
            if read_line(&mut self.reader, &mut self.text)? == 0 {
                // A quote that nobody closes ends with the file.
                return Ok((!self.text.is_empty()).then(|| values(&self.text, self.separator)));
            }
            let is_open = self.text.bytes().filter(|&byte| byte == b'"').count() % 2 == 1;
            if is_open {
                continue;
            }
            let lines = self.text.bytes().filter(|&byte| byte == b'\n').count() as u64;
            if self.text.trim_end_matches(['\n', '\r']).is_empty() {
                self.lines += lines;
                self.text.clear();
                continue;
            }
            let record = values(&self.text, self.separator);
            self.lines += lines;
            return Ok(Some(record));
        }
    }
}

/// Appends a line, unless the text becomes longer than a record may be.
pub(super) fn read_line(reader: &mut impl BufRead, text: &mut String) -> io::Result<usize> {
    let left = (RECORD_BYTES_MAX + 1).saturating_sub(text.len() as u64);
    let read = reader.take(left).read_line(text)?;
    if text.len() as u64 > RECORD_BYTES_MAX {
        return Err(io::Error::other(format!("a record has more than {RECORD_BYTES_MAX} bytes")));
    }
    Ok(read)
}

fn values(record: &str, separator: char) -> Vec<String> {
    let record = record.strip_suffix('\n').unwrap_or(record);
    let record = record.strip_suffix('\r').unwrap_or(record);
    let (mut values, mut value, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = record.chars().peekable();
    while let Some(character) = rest.next() {
        if character == '"' && quoted && rest.peek() == Some(&'"') {
            rest.next();
            value.push('"');
        } else if character == '"' && (quoted || value.is_empty()) {
            quoted = !quoted;
        } else if character == separator && !quoted {
            values.push(std::mem::take(&mut value));
        } else {
            value.push(character);
        }
    }
    values.push(value);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_separators_lines_and_quotes() {
        let text = "a,b\r\n\n\"x, y\",\"two\nlines\"\n\"say \"\"hi\"\"\",5\" wide\",\n,";
        let mut records = Records::new(text.as_bytes(), ',');
        let mut read = Vec::new();
        loop {
            let line = records.line();
            let Some(record) = records.next().unwrap() else { break };
            read.push((line, record.join("|")));
        }
        let expected = [(1, "a|b"), (2, "x, y|two\nlines"), (5, "say \"hi\"|5\" wide\"|"), (6, "|")];
        assert_eq!(read, expected.map(|(line, values)| (line, values.to_owned())));
        let endless = vec![b'"'; 3 << 20];
        assert!(Records::new(&endless[..], ',').next().unwrap_err().to_string().contains("more than 1048576 bytes"));
    }
}
