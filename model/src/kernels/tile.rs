//! Tiles of a matrix product: a few rows of A times a panel of B, summed up in registers.

use super::gemm::{DEPTH_PER_BLOCK, Matrix, Start};

/// A few rows of A over a block of its columns; rows beyond A's last repeat it.
struct Strip<'a, const MR: usize> {
    data: &'a [f32],
    /// Where each row's block starts. Row i, column p lies at `rows[i] + p * column_stride`, inside `data`.
    rows: [usize; MR],
    column_stride: usize,
    /// Columns of the block.
    depth: usize,
}

impl<'a, const MR: usize> Strip<'a, MR> {
    fn new(a: Matrix<'a>, row: usize, column: usize, depth: usize) -> Strip<'a, MR> {
        let origin = column * a.column_stride;
        let rows = std::array::from_fn(|i| (row + i).min(a.rows - 1) * a.row_stride + origin);
        assert!(rows[MR - 1] + (depth - 1) * a.column_stride < a.data.len(), "A has the rows and columns it promises");
        Strip { data: a.data, rows, column_stride: a.column_stride, depth }
    }
}

/// Some rows of C, and what they start from.
pub(super) struct Output<'a> {
    pub(super) c: &'a mut [f32],
    pub(super) c_stride: usize,
    pub(super) columns: usize,
    pub(super) start: Start<'a>,
}

impl Output<'_> {
    /// Adds a row of sums to what C starts from at `at`, in column `column`.
    fn store(&mut self, sums: &[f32], at: usize, column: usize) {
        let c = &mut self.c[at..at + sums.len()];
        for (i, (c, &sum)) in c.iter_mut().zip(sums).enumerate() {
            *c = match self.start {
                Start::Zero => sum,
                Start::Accumulate => *c + sum,
                Start::Bias(bias) => sum + bias[column + i],
                Start::BiasAndResidual(bias, residual) => residual[at + i] + (sum + bias[column + i]),
            };
        }
    }
}

/// Where a tile lies in C.
struct Place {
    row: usize,
    rows: usize,
    column: usize,
    width: usize,
}

/// Computes every tile of C, each from a strip of A and a panel of B.
fn tiles<const MR: usize, const NR: usize>(
    a: Matrix<'_>,
    packed: &[[f32; NR]],
    mut output: Output<'_>,
    tile: impl Fn(&Strip<'_, MR>, &[[f32; NR]], &Place, &mut Output<'_>),
) {
    let panels = output.columns.div_ceil(NR);
    for (block, packed) in packed.chunks(DEPTH_PER_BLOCK * panels).enumerate() {
        let depth = packed.len() / panels;
        if block > 0 {
            output.start = Start::Accumulate;
        }
        for (panel, packed) in packed.chunks_exact(depth).enumerate() {
            let column = panel * NR;
            for row in (0..a.rows).step_by(MR) {
                let strip = Strip::new(a, row, block * DEPTH_PER_BLOCK, depth);
                let (rows, width) = (MR.min(a.rows - row), NR.min(output.columns - column));
                tile(&strip, packed, &Place { row, rows, column, width }, &mut output);
            }
        }
    }
}

/// For CPUs without the instructions of [`x86`].
pub(super) fn tiles_portable(a: Matrix<'_>, packed: &[[f32; 8]], output: Output<'_>) {
    tiles(a, packed, output, |strip: &Strip<'_, 4>, panel, place, output| {
        let mut sums = [[0.0; 8]; 4];
        for (p, b) in panel.iter().enumerate() {
            for (sums, row) in sums.iter_mut().zip(strip.rows) {
                let a = strip.data[row + p * strip.column_stride];
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
        }
        for (i, sums) in sums.iter().enumerate().take(place.rows) {
            output.store(&sums[..place.width], (place.row + i) * output.c_stride + place.column, place.column);
        }
    });
}

/// Tiles in vector instructions. The compiler does not find them in plain loops: it keeps the sums in memory, at a
/// twentieth of the speed.
#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::super::simd::InstructionSet;
    use super::{Matrix, Output, Place, Start, Strip, tiles};
    use std::arch::x86_64::{
        _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
        _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    macro_rules! tile {
        ($tiles:ident, $tile:ident, $set:expr, $features:literal, $rows:literal, $lanes:literal,
         $zero:ident, $load:ident, $store:ident, $splat:ident, $add:ident, $fma:ident) => {
            /// Panics where the CPU lacks the instructions.
            pub(in super::super) fn $tiles(a: Matrix<'_>, packed: &[[f32; 2 * $lanes]], output: Output<'_>) {
                assert!($set.is_available());
                tiles(a, packed, output, |strip, panel, place, output| {
                    // At the lower and the right edge of C, smaller tiles, so that little is computed in vain.
                    let tile = match (place.rows, place.width <= $lanes) {
                        (1, false) => $tile::<1, 2>,
                        (2, false) => $tile::<2, 2>,
                        (3 | 4, false) => $tile::<4, 2>,
                        (_, false) => $tile::<$rows, 2>,
                        (1, true) => $tile::<1, 1>,
                        (2, true) => $tile::<2, 1>,
                        (3 | 4, true) => $tile::<4, 1>,
                        (_, true) => $tile::<$rows, 1>,
                    };
                    // SAFETY: the CPU has the features of the tile.
                    unsafe { tile(strip, panel, place, output) }
                });
            }

            /// A tile of so many rows and vectors, of which the last may lie beyond C.
            #[target_feature(enable = $features)]
            fn $tile<const ROWS: usize, const VECTORS: usize>(
                strip: &Strip<'_, $rows>,
                panel: &[[f32; 2 * $lanes]],
                place: &Place,
                output: &mut Output<'_>,
            ) {
                let load = |from: &[f32]| {
                    let from = &from[..VECTORS * $lanes];
                    let mut values = [$zero(); VECTORS];
                    for v in 0..VECTORS {
                        // SAFETY: the slice holds so many vectors.
                        values[v] = unsafe { $load(from.as_ptr().add(v * $lanes)) };
                    }
                    values
                };
                let store = |into: &mut [f32], values: [_; VECTORS]| {
                    let into = &mut into[..VECTORS * $lanes];
                    for v in 0..VECTORS {
                        // SAFETY: the slice holds so many vectors.
                        unsafe { $store(into.as_mut_ptr().add(v * $lanes), values[v]) };
                    }
                };
                assert_eq!(panel.len(), strip.depth);
                let mut sums = [[$zero(); VECTORS]; ROWS];
                let mut column = 0;
                for b in panel {
                    let b = load(b);
                    for i in 0..ROWS {
                        // SAFETY: a strip's rows and columns lie inside its data, and the panel is as deep.
                        let a = $splat(unsafe { strip.data.get_unchecked(strip.rows[i] + column) });
                        for v in 0..VECTORS {
                            sums[i][v] = $fma(a, b[v], sums[i][v]);
                        }
                    }
                    column += strip.column_stride;
                }
                let (stride, first) = (output.c_stride, place.row * output.c_stride + place.column);
                if place.rows != ROWS || place.width != VECTORS * $lanes {
                    for (i, sums) in sums.into_iter().enumerate().take(place.rows) {
                        let mut row = [0.0; 2 * $lanes];
                        store(&mut row, sums);
                        output.store(&row[..place.width], first + i * stride, place.column);
                    }
                    return;
                }
                let end = first + (ROWS - 1) * stride + VECTORS * $lanes;
                let add_rows = |sums: &mut [[_; VECTORS]; ROWS], rows: &[f32]| {
                    let rows = &rows[first..end];
                    for i in 0..ROWS {
                        for v in 0..VECTORS {
                            // SAFETY: the last vector of the last row ends with the slice.
                            let value = unsafe { $load(rows.as_ptr().add(i * stride + v * $lanes)) };
                            sums[i][v] = $add(sums[i][v], value);
                        }
                    }
                };
                let add_bias = |sums: &mut [[_; VECTORS]; ROWS], bias: &[f32]| {
                    let bias = load(&bias[place.column..]);
                    for i in 0..ROWS {
                        for v in 0..VECTORS {
                            sums[i][v] = $add(sums[i][v], bias[v]);
                        }
                    }
                };
                match output.start {
                    Start::Zero => {}
                    Start::Accumulate => add_rows(&mut sums, output.c),
                    Start::Bias(bias) => add_bias(&mut sums, bias),
                    Start::BiasAndResidual(bias, residual) => {
                        add_bias(&mut sums, bias);
                        add_rows(&mut sums, residual);
                    }
                }
                let c = &mut output.c[first..end];
                for i in 0..ROWS {
                    for v in 0..VECTORS {
                        // SAFETY: as above.
                        unsafe { $store(c.as_mut_ptr().add(i * stride + v * $lanes), sums[i][v]) };
                    }
                }
            }
        };
    }

    #[target_feature(enable = "avx512f")]
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as the instruction that broadcasts from memory has it")]
    fn splat_avx512(value: &f32) -> std::arch::x86_64::__m512 {
        _mm512_set1_ps(*value)
    }

    tile!(
        tiles_avx512,
        tile_avx512,
        InstructionSet::Avx512,
        "avx512f",
        8,
        16,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        splat_avx512,
        _mm512_add_ps,
        _mm512_fmadd_ps
    );
    tile!(
        tiles_avx2,
        tile_avx2,
        InstructionSet::Avx2,
        "avx2,fma",
        6,
        8,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_broadcast_ss,
        _mm256_add_ps,
        _mm256_fmadd_ps
    );
}
