//! Which instructions the processor has, and vector loads and stores that check their bounds.

/// Which instructions a decoder or a resizer may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// The best that the processor has.
    Detected,
    /// What every processor has.
    Portable,
}

/// Proof that the processor has AVX2 and BMI: there is no other way to one than [`Avx2::detect`].
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    pub(crate) fn detect() -> Option<Avx2> {
        let is_there = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt");
        is_there.then_some(Avx2(()))
    }
}

/// Loads and stores, the only code beside the proofs above that needs `unsafe`; all other intrinsics are safe in functions
/// that are compiled for the instruction set.
#[cfg(target_arch = "x86_64")]
pub(crate) mod memory {
    #![allow(clippy::wildcard_imports, reason = "the names of intrinsics carry their prefix")]

    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn load_8(values: &[i16]) -> __m128i {
        // SAFETY: the slice holds the eight values; unaligned loads are allowed.
        unsafe { _mm_loadu_si128(values[..8].as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn load_16(values: &[i16]) -> __m256i {
        // SAFETY: the slice holds the sixteen values; unaligned loads are allowed.
        unsafe { _mm256_loadu_si256(values[..16].as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn load_16_bytes(bytes: &[u8]) -> __m128i {
        // SAFETY: the slice holds the sixteen bytes; unaligned loads are allowed.
        unsafe { _mm_loadu_si128(bytes[..16].as_ptr().cast()) }
    }

    /// Asks for the bytes to be brought into the cache meanwhile.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn prefetch(bytes: &[u8]) {
        for line in bytes.chunks(64) {
            _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn load_places(places: &[i8; 16]) -> __m128i {
        // SAFETY: the array holds sixteen bytes; unaligned loads are allowed.
        unsafe { _mm_loadu_si128(places.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn store_16(target: &mut [i16], values: __m256i) {
        // SAFETY: the slice holds the sixteen values; unaligned stores are allowed.
        unsafe { _mm256_storeu_si256(target[..16].as_mut_ptr().cast(), values) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(crate) fn store_16_bytes(target: &mut [u8], bytes: __m128i) {
        // SAFETY: the slice holds the sixteen bytes; unaligned stores are allowed.
        unsafe { _mm_storeu_si128(target[..16].as_mut_ptr().cast(), bytes) }
    }
}
