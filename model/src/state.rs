//! Tensors as a checkpoint has them: checked against the parameter table, and put into the order that engines compute
//! in.

use crate::config::MaeConfig;
use crate::engine::{NamedTensor, StatePart};
use crate::error::{Mismatch, ModelError};
use crate::parameters::Parameter;
use std::collections::BTreeMap;

/// The one tensor that engines keep in another order: a checkpoint has [D, c, p, p], patches are (p, p, c).
const PATCH_EMBED: &str = "patch_embed.proj.weight";

/// Whether a part of the state has this tensor.
pub(crate) fn belongs(part: StatePart, parameter: &Parameter) -> bool {
    part == StatePart::Weights || parameter.trained
}

/// A tensor for a checkpoint.
pub(crate) fn to_checkpoint(config: &MaeConfig, parameter: &Parameter, values: &[f32]) -> NamedTensor {
    let data = match parameter.name.as_str() {
        PATCH_EMBED => transpose_patches(values, config.patch_px * config.patch_px, config.channels),
        _ => values.to_vec(),
    };
    NamedTensor { name: parameter.name.clone(), shape: parameter.shape.clone(), data }
}

/// A checkpoint's tensor for an engine.
pub(crate) fn from_checkpoint(config: &MaeConfig, tensor: &NamedTensor) -> Vec<f32> {
    match tensor.name.as_str() {
        PATCH_EMBED => transpose_patches(&tensor.data, config.channels, config.patch_px * config.patch_px),
        _ => tensor.data.clone(),
    }
}

/// (D, rows, columns) to (D, columns, rows).
fn transpose_patches(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let filters = values.chunks_exact(rows * columns);
    filters.flat_map(|filter| (0..rows * columns).map(|at| filter[at % rows * columns + at / rows])).collect()
}

/// The tensors of `part` in the table's order.
///
/// # Errors
/// Everything that is wrong with them at once.
pub(crate) fn match_table<'a>(
    table: &[Parameter],
    part: StatePart,
    tensors: &'a [NamedTensor],
) -> Result<Vec<&'a NamedTensor>, ModelError> {
    let mut mismatches = Vec::new();
    let mut by_name = BTreeMap::new();
    for tensor in tensors {
        if by_name.insert(tensor.name.as_str(), tensor).is_some() {
            mismatches.push(Mismatch::Repeated { name: tensor.name.clone() });
        }
    }
    let mut matched = Vec::new();
    for parameter in table.iter().filter(|parameter| belongs(part, parameter)) {
        match by_name.remove(parameter.name.as_str()) {
            None => mismatches.push(Mismatch::Missing { name: parameter.name.clone() }),
            Some(tensor) if tensor.shape != parameter.shape || tensor.data.len() != parameter.len() => {
                mismatches.push(Mismatch::Shape {
                    name: parameter.name.clone(),
                    expected: parameter.shape.clone(),
                    got: tensor.shape.clone(),
                    values: tensor.data.len(),
                });
            }
            Some(tensor) => matched.push(tensor),
        }
    }
    mismatches.extend(by_name.keys().map(|name| Mismatch::Unknown { name: (*name).to_owned() }));
    if mismatches.is_empty() { Ok(matched) } else { Err(ModelError::State { mismatches }) }
}
