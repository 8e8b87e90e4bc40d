//! How much may come out of what is compressed, so that a small file cannot fill the memory.

/// Images hardly compress, so what unpacks to more than this many times its size, beyond some leeway, is made to harm.
const RATIO_MAX: u64 = 64;
/// Small files may unpack to this much, whatever their size: sixty thousand images of MNIST in zeros are 47 MB.
const LEEWAY_BYTES: u64 = 64 << 20;

/// How many bytes may come out of a compressed file, or out of a page of one.
pub(crate) fn unpacked_bytes_max(packed_bytes: u64) -> u64 {
    packed_bytes.saturating_mul(RATIO_MAX).saturating_add(LEEWAY_BYTES)
}
