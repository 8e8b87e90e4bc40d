//! Reading compressed files, within bounds.

use std::io::{self, Read};

use super::blob::{Blob, BlobReader};
use crate::error::DatasetError;
use crate::ratio::unpacked_bytes_max;

/// Back references reach at most 2 to this power of bytes, which is what is kept in memory; the limit of `zstd` itself.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the first bytes tell, whatever the file is called.
    pub(super) fn of(blob: &Blob) -> Result<Compression, DatasetError> {
        Ok(match *blob.start(4)? {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
            _ => Compression::None,
        })
    }
}

/// The error about a file out of which more comes.
pub(super) fn unpacks_too_far(blob: &Blob) -> DatasetError {
    let (packed, max) = (blob.bytes(), unpacked_bytes_max(blob.bytes()));
    blob.damaged(format!("its {packed} bytes unpack to more than {max} bytes"))
}

/// What is packed in a file, from the beginning.
pub(super) struct Unpacked {
    blob: Blob,
    inner: Decoder,
    left_bytes: u64,
}

enum Decoder {
    None(BlobReader),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BlobReader>>),
    Zstd(Box<zstd::Decoder<'static, BlobReader>>),
}

impl Unpacked {
    pub(super) fn open(blob: &Blob, compression: Compression) -> Result<Unpacked, DatasetError> {
        let reader = blob.reader();
        let inner = match compression {
            Compression::None => Decoder::None(reader),
            Compression::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(reader))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(reader).map_err(|error| blob.failure_of_reader(error))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| blob.failure_of_reader(error))?;
                Decoder::Zstd(Box::new(decoder))
            }
        };
        Ok(Unpacked { blob: blob.clone(), inner, left_bytes: unpacked_bytes_max(blob.bytes()) })
    }

    #[cfg(test)]
    pub(super) fn with_bytes_max(mut self, bytes_max: u64) -> Self {
        self.left_bytes = bytes_max;
        self
    }
}

impl Read for Unpacked {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.inner {
            Decoder::None(reader) => reader.read(into),
            Decoder::Gzip(decoder) => decoder.read(into),
            Decoder::Zstd(decoder) => decoder.read(into),
        }?;
        match self.left_bytes.checked_sub(read as u64) {
            Some(left) => self.left_bytes = left,
            None => return Err(io::Error::other(unpacks_too_far(&self.blob))),
        }
        Ok(read)
    }
}

/// Reads forward, and passes over what is not wanted as cheaply as can be.
pub(super) trait Forward: Read {
    /// False if it ends before.
    fn skip(&mut self, bytes: u64) -> io::Result<bool>;
}

impl Forward for BlobReader {
    fn skip(&mut self, bytes: u64) -> io::Result<bool> {
        Ok(BlobReader::skip(self, bytes))
    }
}

impl Forward for Unpacked {
    fn skip(&mut self, bytes: u64) -> io::Result<bool> {
        Ok(io::copy(&mut self.take(bytes), &mut io::sink())? == bytes)
    }
}
