//! Matrix products by cuBLAS, and attention made of them.
//!
//! cuBLAS takes matrices column by column. Read that way, a matrix whose rows lie one after another is its own transpose, so
//! C = A B is computed as Cᵀ = Bᵀ Aᵀ: the factors change places, and nothing is moved.

use super::context::{Argument, Context, CudaBackend, Scratch, address};
use crate::backend::{Factor, Raw, Start};
use crate::kernels::attention::Shape;
use cudarc::cublas::result::{self as cublas, CublasError};
use cudarc::cublas::sys::{self, cublasOperation_t as Operation};
use cudarc::driver::sys::CUdeviceptr;
use dfdx::prelude::CudaError;

/// Most bytes of scores that are held at once; more images are computed in turn.
const SCORE_BYTES_MAX: usize = 512 << 20;

/// One matrix of each head of each image.
#[derive(Clone, Copy)]
struct Heads {
    /// On the device: where each begins.
    pointers: CUdeviceptr,
    /// Values from one row to the next.
    row_stride: usize,
    transposed: bool,
}

impl Heads {
    fn transposed(self) -> Heads {
        Heads { transposed: !self.transposed, ..self }
    }
}

fn operation(transposed: bool) -> Operation {
    if transposed { Operation::CUBLAS_OP_T } else { Operation::CUBLAS_OP_N }
}

/// A size as cuBLAS takes it.
fn size(size: usize) -> Result<i32, CudaError> {
    i32::try_from(size).map_err(|_| CublasError(sys::cublasStatus_t::CUBLAS_STATUS_INVALID_VALUE).into())
}

impl Context {
    pub(super) fn product(
        &self,
        a: &Factor<'_, CudaBackend>,
        b: &Factor<'_, CudaBackend>,
        start: &Start<'_, CudaBackend>,
        c: &mut Raw<CudaBackend>,
    ) -> Result<(), CudaError> {
        let turned = |rows, columns, transposed| if transposed { (columns, rows) } else { (rows, columns) };
        let (rows, depth) = turned(a.rows, a.columns, a.transposed);
        let (b_rows, columns) = turned(b.rows, b.columns, b.transposed);
        assert!(
            depth == b_rows && rows * columns <= cudarc::driver::DeviceSlice::len(c),
            "the sizes of A, B and C agree"
        );
        let beta: f32 = match *start {
            Start::Zero => 0.0,
            Start::Accumulate => 1.0,
            Start::Bias(bias) => {
                let arguments: [Argument; 4] =
                    [address(c).into(), address(bias).into(), (columns as u32).into(), (rows * columns).into()];
                self.each("fill_bias", rows * columns, &arguments)?;
                1.0
            }
            Start::BiasAndResidual(bias, residual) => {
                let arguments: [Argument; 5] = [
                    address(c).into(),
                    address(bias).into(),
                    address(residual).into(),
                    (columns as u32).into(),
                    (rows * columns).into(),
                ];
                self.each("fill_bias_and_residual", rows * columns, &arguments)?;
                1.0
            }
        };
        let alpha = 1.0f32;
        let (m, n, k) = (size(columns)?, size(rows)?, size(depth)?);
        let (ld_a, ld_b) = (size(a.columns)?, size(b.columns)?);
        self.driver.bind_to_thread()?;
        // SAFETY: the pointers are to memory of the sizes given, checked above.
        unsafe {
            cublas::sgemm(
                *self.blas.handle(),
                operation(b.transposed),
                operation(a.transposed),
                m,
                n,
                k,
                &raw const alpha,
                address(b.data) as *const f32,
                ld_b,
                address(a.data) as *const f32,
                ld_a,
                &raw const beta,
                address(c) as *mut f32,
                m,
            )
        }?;
        Ok(())
    }

    /// C = A B for each of `batch` heads; C is (rows, columns), the inner dimension `depth`.
    fn products(
        &self,
        batch: usize,
        (rows, depth, columns): (usize, usize, usize),
        a: Heads,
        b: Heads,
        c: Heads,
    ) -> Result<(), CudaError> {
        let (alpha, beta) = (1.0f32, 0.0f32);
        let (m, n, k, batch) = (size(columns)?, size(rows)?, size(depth)?, size(batch)?);
        let (ld_a, ld_b, ld_c) = (size(a.row_stride)?, size(b.row_stride)?, size(c.row_stride)?);
        self.driver.bind_to_thread()?;
        // SAFETY: the arrays hold `batch` pointers each, to matrices of these sizes and strides.
        unsafe {
            sys::cublasSgemmBatched(
                *self.blas.handle(),
                operation(b.transposed),
                operation(a.transposed),
                m,
                n,
                k,
                &raw const alpha,
                b.pointers as *const *const f32,
                ld_b,
                a.pointers as *const *const f32,
                ld_a,
                &raw const beta,
                c.pointers as *const *mut f32,
                ld_c,
                batch,
            )
        }
        .result()?;
        Ok(())
    }

    pub(super) fn attention_forward(
        &self,
        shape: Shape,
        qkv: &Raw<CudaBackend>,
        out: &Raw<CudaBackend>,
    ) -> Result<(), CudaError> {
        let Shape { tokens, heads, width } = shape;
        let channels = width / heads;
        for images in in_turn(shape, cudarc::driver::DeviceSlice::len(qkv) / (tokens * 3 * width)) {
            let attention = self.heads(shape, images, address(qkv), None)?;
            let out = attention.out(address(out))?;
            attention.probabilities()?;
            let count = attention.count();
            self.products(count, (tokens, tokens, channels), attention.probabilities, attention.parts[2], out)?;
        }
        Ok(())
    }

    pub(super) fn attention_gradient(
        &self,
        shape: Shape,
        qkv: &Raw<CudaBackend>,
        d_out: &Raw<CudaBackend>,
        d_qkv: &Raw<CudaBackend>,
    ) -> Result<(), CudaError> {
        let Shape { tokens, heads, width } = shape;
        let channels = width / heads;
        let scale = 1.0 / (channels as f32).sqrt();
        for images in in_turn(shape, cudarc::driver::DeviceSlice::len(qkv) / (tokens * 3 * width)) {
            let attention = self.heads(shape, images, address(qkv), Some(address(d_qkv)))?;
            let d_out = attention.out(address(d_out))?;
            let (count, p, s) = (attention.count(), attention.probabilities, attention.score_gradients);
            attention.probabilities()?;
            self.products(count, (tokens, channels, tokens), d_out, attention.parts[2].transposed(), s)?;
            let arguments: [Argument; 5] = [
                attention.probabilities_at.into(),
                attention.score_gradients_at.into(),
                scale.into(),
                (tokens as u32).into(),
                (count * tokens).into(),
            ];
            self.each_row("softmax_backward", count * tokens, &arguments)?;
            let inward = (tokens, tokens, channels);
            self.products(count, inward, s, attention.parts[1], attention.d_parts[0])?;
            self.products(count, inward, s.transposed(), attention.parts[0], attention.d_parts[1])?;
            self.products(count, inward, p.transposed(), d_out, attention.d_parts[2])?;
        }
        Ok(())
    }

    /// Finds the matrices of all heads of some images.
    fn heads(
        &self,
        shape: Shape,
        images: Images,
        qkv: CUdeviceptr,
        d_qkv: Option<CUdeviceptr>,
    ) -> Result<HeadsOfImages<'_>, CudaError> {
        let Shape { tokens, heads, width } = shape;
        let (count, scores) = (images.count * heads, tokens * tokens);
        let probabilities_at = self.scratch(Scratch::Probabilities, count * scores * 4)?;
        let score_gradients_at = match d_qkv {
            Some(_) => self.scratch(Scratch::ScoreGradients, count * scores * 4)?,
            None => probabilities_at,
        };
        let pointers = self.scratch(Scratch::HeadPointers, PointerArray::COUNT * count * 8)?;
        let base = HeadsOfImages {
            context: self,
            shape,
            images,
            pointers,
            probabilities_at,
            score_gradients_at,
            probabilities: Heads { pointers: 0, row_stride: tokens, transposed: false },
            score_gradients: Heads { pointers: 0, row_stride: tokens, transposed: false },
            parts: [Heads { pointers: 0, row_stride: 3 * width, transposed: false }; 3],
            d_parts: [Heads { pointers: 0, row_stride: 3 * width, transposed: false }; 3],
        };
        let scores = |array, at| base.find(array, at, (0, heads * tokens * tokens, tokens * tokens), tokens);
        let probabilities = scores(PointerArray::Probabilities, probabilities_at)?;
        let score_gradients = scores(PointerArray::ScoreGradients, score_gradients_at)?;
        let part = |array, at: CUdeviceptr, part: usize| {
            let first = images.first * tokens * 3 * width + part * width;
            base.find(array, at, (first, tokens * 3 * width, width / heads), 3 * width)
        };
        let parts = [
            part(PointerArray::Queries, qkv, 0)?,
            part(PointerArray::Keys, qkv, 1)?,
            part(PointerArray::Values, qkv, 2)?,
        ];
        let d_parts = match d_qkv {
            None => parts,
            Some(at) => [
                part(PointerArray::QueryGradients, at, 0)?,
                part(PointerArray::KeyGradients, at, 1)?,
                part(PointerArray::ValueGradients, at, 2)?,
            ],
        };
        Ok(HeadsOfImages { probabilities, score_gradients, parts, d_parts, ..base })
    }
}

/// Which list of pointers.
#[derive(Clone, Copy)]
enum PointerArray {
    Probabilities,
    ScoreGradients,
    Queries,
    Keys,
    Values,
    QueryGradients,
    KeyGradients,
    ValueGradients,
    Out,
}

impl PointerArray {
    const COUNT: usize = 9;
}

/// Images that are computed at once.
#[derive(Clone, Copy)]
struct Images {
    first: usize,
    count: usize,
}

/// As many images at once as their scores may take memory.
fn in_turn(shape: Shape, images: usize) -> impl Iterator<Item = Images> {
    let at_once = (SCORE_BYTES_MAX / (4 * shape.heads * shape.tokens * shape.tokens)).clamp(1, images.max(1));
    (0..images).step_by(at_once).map(move |first| Images { first, count: at_once.min(images - first) })
}

struct HeadsOfImages<'a> {
    context: &'a Context,
    shape: Shape,
    images: Images,
    pointers: CUdeviceptr,
    probabilities_at: CUdeviceptr,
    score_gradients_at: CUdeviceptr,
    probabilities: Heads,
    score_gradients: Heads,
    /// Queries, keys and values.
    parts: [Heads; 3],
    d_parts: [Heads; 3],
}

impl HeadsOfImages<'_> {
    fn count(&self) -> usize {
        self.images.count * self.shape.heads
    }

    /// Writes down where each head's matrix begins: at `first` values from `at`, and further by strides from image to image
    /// and from head to head.
    fn find(
        &self,
        array: PointerArray,
        at: CUdeviceptr,
        (first, image_stride, head_stride): (usize, usize, usize),
        row_stride: usize,
    ) -> Result<Heads, CudaError> {
        let pointers = self.pointers + (array as usize * self.count() * 8) as u64;
        let arguments: [Argument; 6] = [
            (at + 4 * first as u64).into(),
            pointers.into(),
            (self.shape.heads as u32).into(),
            image_stride.into(),
            head_stride.into(),
            self.count().into(),
        ];
        self.context.each("head_pointers", self.count(), &arguments)?;
        Ok(Heads { pointers, row_stride, transposed: false })
    }

    /// The heads of a matrix (B, N, D).
    fn out(&self, at: CUdeviceptr) -> Result<Heads, CudaError> {
        let Shape { tokens, heads, width } = self.shape;
        let strides = (self.images.first * tokens * width, tokens * width, width / heads);
        self.find(PointerArray::Out, at, strides, width)
    }

    /// softmax(Q Kᵀ / sqrt(D / H)), (N, N) each.
    fn probabilities(&self) -> Result<(), CudaError> {
        let Shape { tokens, heads, width } = self.shape;
        let (context, channels, count) = (self.context, width / heads, self.count());
        let keys = self.parts[1].transposed();
        context.products(count, (tokens, channels, tokens), self.parts[0], keys, self.probabilities)?;
        let scale = 1.0 / (channels as f32).sqrt();
        let arguments: [Argument; 4] =
            [self.probabilities_at.into(), scale.into(), (tokens as u32).into(), (count * tokens).into()];
        context.each_row("softmax", count * tokens, &arguments)
    }
}
