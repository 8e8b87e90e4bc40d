//! Matrix products: C = A B, started from zero, from C itself, or from a bias with or without a residual.
//!
//! B is packed into panels as wide as a few vector registers; A is read where it lies, by broadcasts, so either way of
//! storing it costs nothing. A tile of C stays in registers over a stretch of the inner dimension. Each element of C is
//! one chain of multiply-adds in a fixed order, whatever tile or thread computes it.

use super::pack::{pack, pack_panel};
use super::simd::{InstructionSet, instruction_set};
use super::tile::{self, Output};
use rayon::prelude::*;
use std::cell::RefCell;

/// Stretch of the inner dimension for which a panel of B stays in the nearest cache.
pub(super) const DEPTH_PER_BLOCK: usize = 256;
/// Rows of C that a task computes.
const ROWS_PER_TASK: usize = 64;

/// A matrix inside a slice: element (i, j) lies at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// The rows of `data`, one after another.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Matrix<'a> {
        Matrix::strided(data, rows, columns, columns)
    }

    /// Rows that start `row_stride` values apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Matrix<'a> {
        assert!(rows > 0 && columns > 0 && data.len() >= (rows - 1) * row_stride + columns, "a matrix fits its slice");
        Matrix { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// `rows` rows from `row` on.
    fn rows_from(self, row: usize, rows: usize) -> Matrix<'a> {
        Matrix { data: &self.data[row * self.row_stride..], rows, ..self }
    }

    /// `columns` columns from `column` on.
    fn columns_from(self, column: usize, columns: usize) -> Matrix<'a> {
        self.transposed().rows_from(column, columns).transposed()
    }

    /// The same values, read the other way round.
    pub(crate) fn transposed(self) -> Matrix<'a> {
        let Matrix { data, rows, columns, row_stride, column_stride } = self;
        Matrix { data, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Nothing.
    Zero,
    /// What is in C.
    Accumulate,
    /// A row for every row of C.
    Bias(&'a [f32]),
    /// A row for every row of C, and a matrix laid out as C.
    BiasAndResidual(&'a [f32], &'a [f32]),
}

impl<'a> Start<'a> {
    /// The part for rows from `row` on of a C of `columns` columns.
    fn at_row(self, row: usize, columns: usize) -> Start<'a> {
        match self {
            Start::BiasAndResidual(bias, residual) => Start::BiasAndResidual(bias, &residual[row * columns..]),
            other => other,
        }
    }
}

/// C = start + A B over the rayon pool. C is (rows of A, columns of B), its rows one after another.
pub(crate) fn multiply(a: Matrix<'_>, b: Matrix<'_>, start: Start<'_>, c: &mut [f32]) {
    multiply_by(instruction_set(), a, b, start, c);
}

fn multiply_by(set: InstructionSet, a: Matrix<'_>, b: Matrix<'_>, start: Start<'_>, c: &mut [f32]) {
    assert!(a.columns == b.rows && c.len() == a.rows * b.columns, "the sizes of A, B and C agree");
    match set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => multiply_parallel::<32>(a, b, start, c, tile::x86::tiles_avx512),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => multiply_parallel::<16>(a, b, start, c, tile::x86::tiles_avx2),
        InstructionSet::Portable => multiply_parallel::<8>(a, b, start, c, tile::tiles_portable),
    }
}

/// C = start + A B on the calling thread. Rows of C start `c_stride` values apart; a residual's too.
pub(crate) fn multiply_local(a: Matrix<'_>, b: Matrix<'_>, start: Start<'_>, c: &mut [f32], c_stride: usize) {
    assert!(a.columns == b.rows && c_stride >= b.columns, "the sizes of A, B and C agree");
    assert!(c.len() >= (a.rows - 1) * c_stride + b.columns, "C fits the product");
    let c = Output { c, c_stride, columns: b.columns, start };
    match instruction_set() {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => with_packed::<32>(b, |packed| {
            pack(b, packed);
            tile::x86::tiles_avx512(a, packed, c);
        }),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => with_packed::<16>(b, |packed| {
            pack(b, packed);
            tile::x86::tiles_avx2(a, packed, c);
        }),
        InstructionSet::Portable => with_packed::<8>(b, |packed| {
            pack(b, packed);
            tile::tiles_portable(a, packed, c);
        }),
    }
}

fn multiply_parallel<const NR: usize>(
    a: Matrix<'_>,
    b: Matrix<'_>,
    start: Start<'_>,
    c: &mut [f32],
    tiles: impl Fn(Matrix<'_>, &[[f32; NR]], Output<'_>) + Sync,
) {
    // Where C is small and the inner dimension long, as of the gradient of weights, B is packed block by block, and each
    // block used while it is in the cache. Elsewhere C would have to be read and written for every block.
    let depth_at_once = if a.rows < b.rows { DEPTH_PER_BLOCK } else { b.rows };
    let mut start = start;
    for from in (0..b.rows).step_by(depth_at_once) {
        let depth = depth_at_once.min(b.rows - from);
        multiply_depth(a.columns_from(from, depth), b.rows_from(from, depth), start, c, &tiles);
        start = Start::Accumulate;
    }
}

fn multiply_depth<const NR: usize>(
    a: Matrix<'_>,
    b: Matrix<'_>,
    start: Start<'_>,
    c: &mut [f32],
    tiles: &(impl Fn(Matrix<'_>, &[[f32; NR]], Output<'_>) + Sync),
) {
    let columns = b.columns;
    with_packed(b, |packed| {
        let panels = columns.div_ceil(NR);
        packed.par_chunks_mut(DEPTH_PER_BLOCK * panels).enumerate().for_each(|(block, packed)| {
            let depth = packed.len() / panels;
            packed.par_chunks_exact_mut(depth).enumerate().for_each(|(panel, packed)| {
                pack_panel(b, block * DEPTH_PER_BLOCK, panel * NR, packed);
            });
        });
        let packed = &*packed;
        c.par_chunks_mut(ROWS_PER_TASK * columns).enumerate().for_each(|(task, c)| {
            let (row, rows) = (task * ROWS_PER_TASK, c.len() / columns);
            tiles(
                a.rows_from(row, rows),
                packed,
                Output { c, c_stride: columns, columns, start: start.at_row(row, columns) },
            );
        });
    });
}

/// Lends scratch for B, which a thread keeps from call to call: by blocks of the inner dimension, each by panels of NR
/// columns, the last padded with zeros.
fn with_packed<const NR: usize>(b: Matrix<'_>, run: impl FnOnce(&mut [[f32; NR]])) {
    thread_local! {
        static PACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    // Taken out of its cell: while this thread waits for others, rayon may hand it another product.
    let mut packed = PACKED.take();
    let values = b.rows * b.columns.next_multiple_of(NR);
    if packed.len() < values {
        packed.resize(values, 0.0);
    }
    run(packed[..values].as_chunks_mut().0);
    PACKED.replace(packed);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{in_pools, values};
    use super::*;

    /// All that this CPU has.
    fn instruction_sets() -> Vec<InstructionSet> {
        let mut sets = vec![InstructionSet::Portable];
        #[cfg(target_arch = "x86_64")]
        sets.extend([InstructionSet::Avx2, InstructionSet::Avx512].into_iter().filter(|&set| set.is_available()));
        sets
    }

    fn check(rows: usize, depth: usize, columns: usize) {
        let (a, b) = (values(rows * depth, 1), values(depth * columns, 2));
        let (bias, residual) = (values(columns, 3), values(rows * columns, 4));
        let a_transposed: Vec<f32> = (0..rows * depth).map(|at| a[at % rows * depth + at / rows]).collect();
        let b_transposed: Vec<f32> = (0..depth * columns).map(|at| b[at % depth * columns + at / depth]).collect();
        let exact: Vec<f64> = (0..rows * columns)
            .map(|at| {
                let term = |p: usize| f64::from(a[at / columns * depth + p]) * f64::from(b[p * columns + at % columns]);
                (0..depth).map(term).sum::<f64>()
            })
            .collect();
        let plain_a = Matrix::new(&a, rows, depth);
        let plain_b = Matrix::new(&b, depth, columns);
        for a in [plain_a, Matrix::new(&a_transposed, depth, rows).transposed()] {
            for b in [plain_b, Matrix::new(&b_transposed, columns, depth).transposed()] {
                for set in instruction_sets() {
                    let c = in_pools(|| {
                        let mut c = vec![f32::NAN; rows * columns];
                        multiply_by(set, a, b, Start::BiasAndResidual(&bias, &residual), &mut c);
                        multiply_by(set, a, b, Start::Accumulate, &mut c);
                        c
                    });
                    for (at, &got) in c.iter().enumerate() {
                        let expected = 2.0 * exact[at] + f64::from(bias[at % columns]) + f64::from(residual[at]);
                        assert!((f64::from(got) - expected).abs() < 1e-4, "{set:?} {rows}x{depth}x{columns} at {at}");
                    }
                }
                let mut local = residual.clone();
                multiply_local(a, b, Start::Bias(&bias), &mut local, columns);
                multiply_local(a, b, Start::Accumulate, &mut local, columns);
                for (at, &got) in local.iter().enumerate() {
                    let expected = 2.0 * exact[at] + f64::from(bias[at % columns]);
                    assert!((f64::from(got) - expected).abs() < 1e-4, "{rows}x{depth}x{columns} at {at}, one thread");
                }
            }
        }
    }

    #[test]
    fn products_of_all_shapes_match_and_do_not_depend_on_threads() {
        for (rows, depth, columns) in [(1, 1, 1), (7, 5, 3), (64, 256, 32), (130, 300, 70), (9, 513, 97)] {
            check(rows, depth, columns);
        }
    }
}
