//! Classes that come as text: numbers stay numbers, names are numbered in their order.

use std::collections::HashMap;

/// Gathers the classes of images while they are listed.
#[derive(Debug, Default)]
pub(super) struct LabelTable {
    by_text: HashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

/// The place of a class in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LabelIndex(u32);

impl LabelIndex {
    /// Of images without a class.
    pub(super) const NONE: LabelIndex = LabelIndex(u32::MAX);
}

/// Classes as they are written: numbers, and their names where they have any.
#[derive(Debug, Default)]
pub(super) struct Labels {
    values: Vec<i64>,
    names: Vec<String>,
}

impl LabelTable {
    /// The class that is written like this; blank is none.
    pub(super) fn index(&mut self, text: &str) -> LabelIndex {
        let text = text.trim();
        if text.is_empty() {
            return LabelIndex::NONE;
        }
        if let Some(&index) = self.by_text.get(text) {
            return LabelIndex(index);
        }
        let index = self.texts.len() as u32;
        self.by_text.insert(text.into(), index);
        self.texts.push(text.into());
        LabelIndex(index)
    }

    /// If all classes are numbers, they are the labels. Else they are names, numbered in their order.
    pub(super) fn finish(self) -> Labels {
        let numbers: Option<Vec<i64>> = self.texts.iter().map(|text| text.parse().ok()).collect();
        if let Some(values) = numbers {
            return Labels { values, names: Vec::new() };
        }
        self.finish_as_names()
    }

    /// All classes are names, numbered in their order.
    pub(super) fn finish_as_names(self) -> Labels {
        let mut order: Vec<u32> = (0..self.texts.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| self.texts[a as usize].cmp(&self.texts[b as usize]));
        let mut values = vec![0; order.len()];
        for (value, &index) in order.iter().enumerate() {
            values[index as usize] = value as i64;
        }
        let names = order.iter().map(|&index| self.texts[index as usize].to_string()).collect();
        Labels { values, names }
    }

    /// The classes are numbers, and these are their names.
    pub(super) fn finish_with_names(self, names: Vec<String>) -> Labels {
        let mut labels = self.finish();
        labels.names = names;
        labels
    }
}

impl Labels {
    pub(super) fn value(&self, index: LabelIndex) -> Option<i64> {
        self.values.get(index.0 as usize).copied()
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_names_are_sorted() {
        let values = |texts: &[&str]| {
            let mut table = LabelTable::default();
            let indices: Vec<LabelIndex> = texts.iter().map(|text| table.index(text)).collect();
            let labels = table.finish();
            let values: Vec<Option<i64>> = indices.iter().map(|&index| labels.value(index)).collect();
            (values, labels.names().to_vec())
        };
        assert_eq!(values(&["7", "-1", " 7\n", ""]), (vec![Some(7), Some(-1), Some(7), None], vec![]));
        let names = ["10", "ant", "bee"].map(str::to_owned).to_vec();
        assert_eq!(values(&["bee", "ant", "10", "bee"]), (vec![Some(2), Some(1), Some(0), Some(2)], names));
    }
}
