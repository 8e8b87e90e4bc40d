//! k nearest neighbours by cosine similarity, voting as in DINO (arXiv 2104.14294, section 4.1).

use rayon::prelude::*;

use super::{Accuracy, place_of};
use crate::evaluation::features::Labelled;

/// Classifies each test image by its neighbours among the training images: a neighbour of similarity s votes for its
/// class with weight exp(s / temperature).
pub(crate) fn classify(
    train: &Labelled,
    test: &Labelled,
    classes: usize,
    neighbours: usize,
    temperature: f64,
) -> Accuracy {
    let known = unit_rows(train);
    let queries = unit_rows(test);
    let neighbours = neighbours.min(train.rows());
    let places: Vec<usize> = queries
        .par_chunks_exact(test.width)
        .zip(&test.labels)
        .map(|(query, label)| {
            let mut similar: Vec<(f32, usize)> =
                known.chunks_exact(train.width).map(|row| dot(query, row)).zip(0..).collect();
            // Equal similarities go by the order of the samples, so that the result does not depend on the sort.
            let nearer = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            if neighbours < similar.len() {
                similar.select_nth_unstable_by(neighbours, nearer);
                similar.truncate(neighbours);
            }
            similar.sort_unstable_by(nearer);
            let mut votes = vec![0.0; classes];
            for (similarity, row) in similar {
                // Less 1, the highest similarity there is, so that a low temperature cannot overflow.
                votes[train.labels[row]] += ((f64::from(similarity) - 1.0) / temperature).exp();
            }
            place_of(*label, &votes)
        })
        .collect();
    Accuracy::of_places(&places)
}

/// The vectors at length one; a vector of zeros stays.
fn unit_rows(set: &Labelled) -> Vec<f32> {
    let mut values = set.values.clone();
    for row in values.chunks_exact_mut(set.width) {
        let length = dot(row, row).sqrt().max(f32::MIN_POSITIVE);
        for value in row {
            *value /= length;
        }
    }
    values
}

/// In eight sums, which a processor adds up at once.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_parts, a_rest) = a.as_chunks::<8>();
    let (b_parts, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a_parts.iter().zip(b_parts) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rows: &[([f32; 2], usize)]) -> Labelled {
        Labelled {
            width: 2,
            values: rows.iter().flat_map(|(row, _)| *row).collect(),
            labels: rows.iter().map(|(_, label)| *label).collect(),
            class_names: Vec::new(),
        }
    }

    #[test]
    fn near_neighbours_outvote_many_far_ones() {
        let train = set(&[([1.0, 0.01], 0), ([0.0, 3.0], 1), ([0.1, 9.0], 1), ([-0.1, 1.0], 1)]);
        let test = set(&[([5.0, 0.0], 0), ([0.0, 0.2], 1), ([5.0, 0.1], 1)]);
        let accuracy = classify(&train, &test, 2, 4, 0.07);
        assert!((accuracy.top1 - 2.0 / 3.0).abs() < 1e-12 && accuracy.top5 > 0.999, "{accuracy:?}");
        // Without weights the three of class 1 win everywhere.
        assert!((classify(&train, &test, 2, 4, 1e6).top1 - 2.0 / 3.0).abs() < 1e-12);
        assert!(classify(&train, &set(&[([5.0, 0.0], 0)]), 2, 4, 1e6).top1 < 0.5);
        assert!(classify(&train, &set(&[([5.0, 0.0], 0)]), 2, 1, 1e6).top1 > 0.5);
    }
}
