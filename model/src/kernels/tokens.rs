//! Moving tokens: class token and positions in front of the encoder, un-shuffling in front of the decoder, picking the
//! masked patches behind it.

use super::Write;
use super::columns::{add_partial, add_slice};
use rayon::prelude::*;

/// Class token and positions: out (B, 1 + V, D) = class token + position 0, then `patches` (B, V, D) + their positions.
/// `positions` is (1 + L, D), `index` (B, V).
pub(crate) fn embed(patches: &[f32], class_token: &[f32], positions: &[f32], index: &[u16], out: &mut [f32]) {
    let width = class_token.len();
    let images = (out.len() - patches.len()) / width;
    let visible = index.len() / images;
    let images = out.par_chunks_exact_mut((1 + visible) * width).zip(patches.par_chunks_exact(visible * width));
    images.zip(index.par_chunks_exact(visible)).for_each(|((out, patches), index)| {
        let (class, out) = out.split_at_mut(width);
        add_rows_of(class, class_token, &positions[..width]);
        let rows = out.chunks_exact_mut(width).zip(patches.chunks_exact(width)).zip(index);
        for ((out, patch), &index) in rows {
            add_rows_of(out, patch, position(positions, width, index));
        }
    });
}

/// From the gradient of [`embed`]'s output, (B, 1 + V, D): that of the patches, overwritten, and of the class token.
pub(crate) fn embed_backward(d_out: &[f32], d_patches: &mut [f32], (d_class_token, write): (&mut [f32], Write)) {
    let width = d_class_token.len();
    let images = (d_out.len() - d_patches.len()) / width;
    let tokens = d_out.len() / width / images;
    let rows = d_patches.par_chunks_exact_mut((tokens - 1) * width).zip(d_out.par_chunks_exact(tokens * width));
    rows.for_each(|(d_patches, d_out)| d_patches.copy_from_slice(&d_out[width..]));
    let class_rows: Vec<f32> = d_out.chunks_exact(tokens * width).flat_map(|image| &image[..width]).copied().collect();
    add_partial(&class_rows, d_class_token, write);
}

/// Where the tokens of the decoder come from.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    /// (B, V)
    pub(crate) visible: &'a [u16],
    /// (B, M)
    pub(crate) masked: &'a [u16],
    /// B
    pub(crate) images: usize,
}

impl<'a> Places<'a> {
    fn of_image(&self) -> impl IndexedParallelIterator<Item = (&'a [u16], &'a [u16])> + use<'a> {
        let (visible, masked) = (self.visible.len() / self.images, self.masked.len() / self.images);
        self.visible.par_chunks_exact(visible).zip(self.masked.par_chunks_exact(masked))
    }

    /// 1 + V
    fn encoded(&self) -> usize {
        1 + self.visible.len() / self.images
    }

    /// 1 + L
    fn all(&self) -> usize {
        self.encoded() + self.masked.len() / self.images
    }
}

/// Un-shuffles: out (B, 1 + L, D) has the class token first, then each patch at its place, the encoder's tokens `x`
/// (B, 1 + V, D) where visible and the mask token elsewhere; positions (1 + L, D) are added to all.
pub(crate) fn unshuffle(places: Places<'_>, x: &[f32], mask_token: &[f32], positions: &[f32], out: &mut [f32]) {
    let width = mask_token.len();
    let images = out.par_chunks_exact_mut(places.all() * width).zip(x.par_chunks_exact(places.encoded() * width));
    images.zip(places.of_image()).for_each(|((out, x), (visible, masked))| {
        add_rows_of(&mut out[..width], &x[..width], &positions[..width]);
        for (&index, x) in visible.iter().zip(x[width..].chunks_exact(width)) {
            add_rows_of(row_mut(out, width, index), x, position(positions, width, index));
        }
        for &index in masked {
            add_rows_of(row_mut(out, width, index), mask_token, position(positions, width, index));
        }
    });
}

/// From the gradient of [`unshuffle`]'s output, (B, 1 + L, D): that of `x`, overwritten, and of the mask token.
pub(crate) fn unshuffle_backward(
    places: Places<'_>,
    d_out: &[f32],
    dx: &mut [f32],
    (d_mask_token, write): (&mut [f32], Write),
) {
    let width = d_mask_token.len();
    let mut sums = vec![0.0; places.images * width];
    let images = dx.par_chunks_exact_mut(places.encoded() * width).zip(d_out.par_chunks_exact(places.all() * width));
    let images = images.zip(sums.par_chunks_exact_mut(width)).zip(places.of_image());
    images.for_each(|(((dx, d_out), sums), (visible, masked))| {
        let (class, dx) = dx.split_at_mut(width);
        class.copy_from_slice(&d_out[..width]);
        for (&index, dx) in visible.iter().zip(dx.chunks_exact_mut(width)) {
            dx.copy_from_slice(position(d_out, width, index));
        }
        for &index in masked {
            add_slice(sums, position(d_out, width, index));
        }
    });
    add_partial(&sums, d_mask_token, write);
}

/// out (B, N, D) = `x` + `positions` (N, D).
pub(crate) fn add_positions(x: &[f32], positions: &[f32], out: &mut [f32]) {
    let images = out.par_chunks_exact_mut(positions.len()).zip(x.par_chunks_exact(positions.len()));
    images.for_each(|(out, x)| add_rows_of(out, x, positions));
}

/// Picks patches: out (B, M, D) from `x` (B, 1 + L, D), whose first token is no patch, by `index` (B, M).
pub(crate) fn pick(x: &[f32], index: &[u16], images: usize, out: &mut [f32]) {
    let (tokens, picked) = (x.len() / images, index.len() / images);
    let width = out.len() / index.len();
    let images = out.par_chunks_exact_mut(picked * width).zip(x.par_chunks_exact(tokens));
    images.zip(index.par_chunks_exact(picked)).for_each(|((out, x), index)| {
        for (out, &index) in out.chunks_exact_mut(width).zip(index) {
            out.copy_from_slice(position(x, width, index));
        }
    });
}

/// From the gradient of [`pick`]'s output, that of `x`, overwritten: zero where nothing was picked.
pub(crate) fn pick_backward(d_out: &[f32], index: &[u16], images: usize, dx: &mut [f32]) {
    let (tokens, picked) = (dx.len() / images, index.len() / images);
    let width = d_out.len() / index.len();
    let images = dx.par_chunks_exact_mut(tokens).zip(d_out.par_chunks_exact(picked * width));
    images.zip(index.par_chunks_exact(picked)).for_each(|((dx, d_out), index)| {
        dx.fill(0.0);
        for (d_out, &index) in d_out.chunks_exact(width).zip(index) {
            row_mut(dx, width, index).copy_from_slice(d_out);
        }
    });
}

/// A patch's row in a table that starts with the class token's.
fn position(rows: &[f32], width: usize, index: u16) -> &[f32] {
    &rows[(1 + usize::from(index)) * width..][..width]
}

fn row_mut(rows: &mut [f32], width: usize, index: u16) -> &mut [f32] {
    &mut rows[(1 + usize::from(index)) * width..][..width]
}

fn add_rows_of(out: &mut [f32], a: &[f32], b: &[f32]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = a + b;
    }
}
