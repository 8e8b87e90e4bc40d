//! The members of a tar archive: ustar, with the long names and sizes of GNU tar and of pax (POSIX.1-2001).

use std::io::{self, Read};

use super::unpack::Forward;

const BLOCK_BYTES: u64 = 512;
/// Longer names and longer sets of pax records are refused.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// Longer names cannot be those of files.
const NAME_BYTES_MAX: usize = 4096;

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) kind: MemberKind,
    pub(super) bytes: u64,
    /// Where its content begins in the archive.
    pub(super) offset: u64,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    /// A symbolic or hard link.
    Link,
    /// A folder, a device, or a file with holes.
    Other,
}

/// Why an archive cannot be read on: it is damaged, or the reader failed.
#[derive(Debug)]
pub(super) enum TarError {
    Damaged(String),
    Reader(io::Error),
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        Self::Reader(error)
    }
}

/// Goes through the members of an archive. Whoever takes a member reads or skips its content before taking the next.
pub(super) struct Members<R> {
    reader: R,
    /// In the archive.
    position: u64,
    /// Where the next header begins.
    next_header: u64,
}

/// What the records before a header say about the member.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    bytes: Option<u64>,
}

impl<R: Forward> Members<R> {
    pub(super) fn new(reader: R) -> Members<R> {
        Members { reader, position: 0, next_header: 0 }
    }

    /// Reads the content of the member that was taken last; false if the archive ends before.
    pub(super) fn read_content(
        &mut self,
        member: &Member,
        read: impl FnOnce(&mut dyn Read, u64) -> io::Result<bool>,
    ) -> Result<(), TarError> {
        if !read(&mut self.reader, member.bytes)? {
            return Err(truncated(member));
        }
        self.position += member.bytes;
        Ok(())
    }

    /// Passes over what is left of the last member, and reads the next header.
    pub(super) fn next(&mut self) -> Result<Option<Member>, TarError> {
        let mut extension = Extension::default();
        loop {
            if !self.reader.skip(self.next_header - self.position)? {
                return Err(TarError::Damaged(format!("it ends before byte {}", self.next_header)));
            }
            self.position = self.next_header;
            let Some(block) = self.block()? else { return Ok(None) };
            if block.iter().all(|&byte| byte == 0) {
                return Ok(None);
            }
            let at = self.next_header;
            let damaged = |what: &str| TarError::Damaged(format!("the header at byte {at} {what}"));
            if !has_right_sum(&block) {
                return Err(damaged("is none: its checksum is wrong"));
            }
            let mut bytes = number(&block[124..136]).ok_or_else(|| damaged("declares no size"))?;
            let kind = block[156];
            if !matches!(kind, b'L' | b'K' | b'x' | b'g') {
                bytes = extension.bytes.unwrap_or(bytes);
            }
            let offset = at + BLOCK_BYTES;
            let padded = bytes.checked_next_multiple_of(BLOCK_BYTES);
            self.position = offset;
            self.next_header = padded
                .and_then(|padded| offset.checked_add(padded))
                .ok_or_else(|| damaged("declares a size too large"))?;
            match kind {
                b'L' | b'x' => extension.add(kind, &self.small_content(bytes)?).ok_or_else(|| damaged("is invalid"))?,
                // The target of a long link, and records for the whole archive: neither says where content lies.
                b'K' | b'g' => {}
                _ => {
                    let name = extension.name.take().unwrap_or_else(|| name(&block));
                    if name.len() > NAME_BYTES_MAX {
                        return Err(damaged("has a name that is too long"));
                    }
                    let name = String::from_utf8_lossy(&name).into_owned();
                    let kind = match kind {
                        b'0' | 0 | b'7' if !name.ends_with('/') => MemberKind::File,
                        b'1' | b'2' => MemberKind::Link,
                        _ => MemberKind::Other,
                    };
                    // Links have no content, whatever their header says.
                    if kind == MemberKind::Link {
                        (bytes, self.next_header) = (0, offset);
                    }
                    return Ok(Some(Member { name, kind, bytes, offset }));
                }
            }
        }
    }

    /// Passes over the content of the member that was taken last, and makes sure that it is there.
    pub(super) fn skip_content(&mut self, member: &Member) -> Result<(), TarError> {
        if !self.reader.skip(member.bytes)? {
            return Err(truncated(member));
        }
        self.position += member.bytes;
        Ok(())
    }

    /// The next block; nothing at the end, where some writers leave out the two empty blocks.
    fn block(&mut self) -> Result<Option<[u8; 512]>, TarError> {
        let mut block = [0; BLOCK_BYTES as usize];
        let mut filled = 0;
        while filled < block.len() {
            match self.reader.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Damaged(format!("it ends inside the header at byte {}", self.position))),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(block))
    }

    fn small_content(&mut self, bytes: u64) -> Result<Vec<u8>, TarError> {
        if bytes > EXTENSION_BYTES_MAX {
            let reason = format!("the name before byte {} has {bytes} bytes", self.next_header);
            return Err(TarError::Damaged(reason));
        }
        let mut content = Vec::new();
        let read = (&mut self.reader).take(bytes).read_to_end(&mut content)?;
        self.position += read as u64;
        if (read as u64) < bytes {
            return Err(TarError::Damaged(format!("it ends before byte {}", self.next_header)));
        }
        Ok(content)
    }
}

fn truncated(member: &Member) -> TarError {
    let Member { name, bytes, offset, .. } = member;
    TarError::Damaged(format!("it ends inside `{name}`, which should have {bytes} bytes from byte {offset} on"))
}

impl Extension {
    /// Nothing if the records are not as they should be.
    fn add(&mut self, kind: u8, content: &[u8]) -> Option<()> {
        if kind == b'L' {
            self.name = Some(until_zero(content).to_vec());
            return Some(());
        }
        // Each record is its own length in decimal, a space, `key=value` and a line feed.
        let mut rest = content;
        while !rest.is_empty() {
            let space = rest.iter().position(|&byte| byte == b' ')?;
            let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
            let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&byte| byte == b'=')?;
            let value = &record[equals + 1..];
            match &record[..equals] {
                b"path" => self.name = Some(value.to_vec()),
                b"size" => self.bytes = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                _ => {}
            }
            rest = &rest[length..];
        }
        Some(())
    }
}

fn has_right_sum(block: &[u8; 512]) -> bool {
    let sum = |byte: fn(u8) -> i64| -> i64 {
        let all = block.iter().enumerate();
        all.map(|(at, &value)| byte(if (148..156).contains(&at) { b' ' } else { value })).sum()
    };
    let stored = number(&block[148..156]).and_then(|stored| i64::try_from(stored).ok());
    // Some old writers sum signed bytes.
    stored.is_some_and(|stored| stored == sum(i64::from) || stored == sum(|byte| i64::from(byte as i8)))
}

/// A number in octal digits, or in the bytes themselves where it is too large for digits.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] == 0x80 {
        let (high, low) = field[1..].split_at(field.len() - 1 - 8.min(field.len() - 1));
        let low = low.iter().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
        return high.iter().all(|&byte| byte == 0).then_some(low);
    }
    let text = std::str::from_utf8(until_zero(field)).ok()?.trim();
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

fn name(block: &[u8; 512]) -> Vec<u8> {
    let name = until_zero(&block[..100]);
    let prefix = if &block[257..262] == b"ustar" && block[262] == 0 { until_zero(&block[345..500]) } else { b"" };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

fn until_zero(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or(field)
}
