//! Evaluation of a frozen encoder: features of a data set, and how well classes can be read from them.

pub(crate) mod features;
pub(crate) mod knn;
pub(crate) mod lbfgs;
pub(crate) mod logistic;

use std::cmp::Ordering;

use serde::Serialize;

/// How often the right class came first, and among the first five.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Accuracy {
    pub(crate) top1: f64,
    pub(crate) top5: f64,
}

impl Accuracy {
    /// Of the places that the right classes took, the first being 0.
    pub(crate) fn of_places(places: &[usize]) -> Self {
        let share =
            |first: usize| places.iter().filter(|place| **place < first).count() as f64 / places.len().max(1) as f64;
        Self { top1: share(1), top5: share(5) }
    }
}

/// The place of class `right` when classes are sorted by score, highest first. Among equal scores, and where the right
/// one is not a number, the right class comes last, so that no accuracy is had for nothing.
pub(crate) fn place_of(right: usize, scores: &[f64]) -> usize {
    let others = scores.iter().enumerate().filter(|(class, _)| *class != right);
    others.filter(|(_, score)| score.partial_cmp(&&scores[right]) != Some(Ordering::Less)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_what_is_not_lower() {
        assert_eq!(place_of(1, &[0.1, 0.9, 0.3]), 0);
        assert_eq!(place_of(0, &[0.1, 0.9, 0.3]), 2);
        assert_eq!(place_of(2, &[0.5, 0.5, 0.5]), 2);
        assert_eq!(place_of(0, &[f64::NAN, 0.0]), 1);
        assert_eq!(Accuracy::of_places(&[0, 0, 4, 7]), Accuracy { top1: 0.5, top5: 0.75 });
    }
}
