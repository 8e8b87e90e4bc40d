//! Plain loops compiled for several instruction sets, the best of which the running CPU picks, and the elementary
//! functions that such loops need.

/// Compiles a function for AVX-512, AVX2 and whatever the target has, and picks one at run time. The body sees the
/// constant `FMA`: whether [`mul_add`] is one instruction.
macro_rules! multiversion {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        $visibility fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "the arguments of the function around it")]
            fn body<const FMA: bool>($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,fma")]
                #[allow(clippy::too_many_arguments, reason = "the arguments of the function around it")]
                fn avx512($($argument: $type),*) $(-> $result)? {
                    body::<true>($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "the arguments of the function around it")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    body::<true>($($argument),*)
                }
                match $crate::kernels::simd::instruction_set() {
                    // SAFETY: instruction_set() found every feature that avx512 is compiled for.
                    $crate::kernels::simd::InstructionSet::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: instruction_set() found every feature that avx2 is compiled for.
                    $crate::kernels::simd::InstructionSet::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::kernels::simd::InstructionSet::Portable => {}
                }
            }
            body::<false>($($argument),*)
        }
    };
}
pub(crate) use multiversion;

/// What the running CPU can do, as far as kernels are compiled for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl InstructionSet {
    /// Whether the running CPU has it; the standard library remembers what it detected.
    pub(crate) fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        use std::arch::is_x86_feature_detected as has;
        match self {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => {
                has!("avx512f") && has!("avx512dq") && has!("avx512bw") && has!("avx512vl") && has!("fma")
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => has!("avx2") && has!("fma"),
            InstructionSet::Portable => true,
        }
    }
}

/// The best instruction set of the running CPU.
pub(crate) fn instruction_set() -> InstructionSet {
    #[cfg(target_arch = "x86_64")]
    for set in [InstructionSet::Avx512, InstructionSet::Avx2] {
        if set.is_available() {
            return set;
        }
    }
    InstructionSet::Portable
}

/// a * b + c. Without the instruction, the fused form would call a function of the C library for each value.
#[inline(always)]
pub(crate) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Partial sums of a row, wide enough for every instruction set, so that all of them add in the same order.
pub(crate) const LANES: usize = 16;

/// Sums `term(i)` for i below `count` in [`LANES`] interleaved sums.
#[inline(always)]
pub(crate) fn sum(count: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = count - count % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += term(start + lane);
        }
    }
    let mut total = 0.0;
    for i in whole..count {
        total += term(i);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    total + lanes[0]
}

/// e^x to about one unit in the last place for x in -87..88, clamped outside; NaN stays NaN. Reduces to a power of two
/// and a polynomial, without branches, so that loops over it vectorise.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding this rounds to an integer and leaves it in the low bits of the significand.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first short enough for its product with the exponent to be exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = mul_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<FMA>(n, -LN_2_LOW, mul_add::<FMA>(n, -LN_2_HIGH, x));
    // Taylor's series to the seventh power: |r| is at most ln 2 / 2, which leaves an error below 1e-8.
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = mul_add::<FMA>(p, r, coefficient);
    }
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(127);
    p * f32::from_bits((exponent as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_and_keeps_nan() {
        for i in -8700..8800 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x).exp();
            for got in [exp::<true>(x), exp::<false>(x)] {
                assert!((f64::from(got) - exact).abs() < 3e-7 * exact, "exp({x}) = {got}, expected {exact}");
            }
        }
        assert!(exp::<true>(f32::NAN).is_nan());
        assert!(exp::<false>(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn sum_takes_every_term_once() {
        for count in [0, 1, 15, 16, 17, 100] {
            assert!((sum(count, |i| i as f32) - (0..count).sum::<usize>() as f32).abs() < 1e-3);
        }
    }
}
