//! `TensorBoard` event files: records of the `TFRecord` format (length, CRC-32C, bytes, CRC-32C), each an `Event` message.
//!
//! The few fields that are needed are put together by hand; there is no well-kept crate for it, and protobuf's own
//! would bring a compiler. Field numbers are those of `tensorflow/core/util/event.proto` and `framework/summary.proto`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Appends events to a file of this process, made when the first one comes.
pub(crate) struct EventFile {
    folder: PathBuf,
    resume_at: u64,
    file: Option<fs_err::File>,
}

/// One value of a step.
pub(crate) enum Summary<'a> {
    Scalar(f32),
    /// A PNG file of this width and height.
    Picture {
        width: u32,
        height: u32,
        png: &'a [u8],
    },
}

impl EventFile {
    /// Events go to `folder`; those of earlier processes after step `resume_at` are to be forgotten.
    pub(crate) fn new(folder: &Path, resume_at: u64) -> Self {
        Self { folder: folder.to_owned(), resume_at, file: None }
    }

    /// Adds one event with all values of a step.
    pub(crate) fn append(&mut self, step: u64, values: &[(&str, Summary<'_>)]) -> anyhow::Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let mut entry = Message::default();
            entry.bytes(1, tag.as_bytes());
            match value {
                Summary::Scalar(value) => entry.float(2, *value),
                Summary::Picture { width, height, png } => {
                    let mut image = Message::default();
                    image.number(1, u64::from(*height));
                    image.number(2, u64::from(*width));
                    image.number(3, 3); // RGB
                    image.bytes(4, png);
                    entry.bytes(4, &image.0);
                }
            }
            summary.bytes(1, &entry.0);
        }
        let mut event = event(step);
        event.bytes(5, &summary.0);
        let file = self.open()?;
        Ok(file.write_all(&record(&event.0))?)
    }

    fn open(&mut self) -> anyhow::Result<&mut fs_err::File> {
        if self.file.is_none() {
            fs_err::create_dir_all(&self.folder)?;
            // TensorBoard reads the files of a folder in the order of their names.
            let stamp = since_epoch().as_millis();
            let path = self.folder.join(format!("events.out.tfevents.{stamp:013}.patchstream.{}", std::process::id()));
            let mut file = fs_err::File::create_new(path)?;
            let mut version = event(0);
            version.bytes(3, b"brain.Event:2");
            file.write_all(&record(&version.0))?;
            if self.resume_at > 0 {
                // SessionLog { status: START } makes TensorBoard drop what it has from this step on.
                let (mut start, mut session) = (event(self.resume_at + 1), Message::default());
                session.number(1, 1);
                start.bytes(7, &session.0);
                file.write_all(&record(&start.0))?;
            }
            self.file = Some(file);
        }
        Ok(self.file.as_mut().expect("it was just opened"))
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// An event with wall time and step.
fn event(step: u64) -> Message {
    let mut event = Message::default();
    event.double(1, since_epoch().as_secs_f64());
    event.number(2, step);
    event
}

/// A protobuf message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u8, wire_type: u8) {
        self.0.push(field << 3 | wire_type);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u8, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn double(&mut self, field: u8, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u8, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u8, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }
}

fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let sums = [&length, message].map(|bytes| masked_crc(bytes).to_le_bytes());
    [&length[..], &sums[0], message, &sums[1]].concat()
}

/// `TFRecord` turns and shifts its checksums, so that one over data with checksums inside stays good.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected, a byte at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the CRC catalogue, and a vector of RFC 3720, B.4.
    #[test]
    fn checksums_are_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn numbers_are_varints() {
        let mut message = Message::default();
        message.number(2, 300);
        assert_eq!(message.0, [0x10, 0xac, 0x02]);
    }
}
