//! Weights to start from: a safetensors file under published MAE names, timm's or Hugging Face's, of any floats.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use patchstream_model::{Engine, NamedTensor, StatePart};

use super::{is_decoder, to_hugging_face};
use crate::report::UserError;
use crate::tensors::floats_of_safetensors;

/// What was taken from a file.
pub(crate) struct Imported {
    pub(crate) taken: usize,
    /// Whether the file had no decoder, which then starts afresh.
    pub(crate) fresh_decoder: bool,
    /// Position tables that were made anew because the file's are for another grid.
    pub(crate) new_positions: Vec<String>,
    /// Tensors of the file that this model does not have, such as a classifier.
    pub(crate) unused: Vec<String>,
}

/// Replaces the weights of `engine` by those of a file.
///
/// The encoder must be there whole. A decoder may be missing whole, and position tables of another size are left as
/// they are, since they follow from the grid. Every other shape must be right; all that are not are listed.
pub(crate) fn import(path: &Path, engine: &mut dyn Engine) -> anyhow::Result<Imported> {
    let bytes = fs_err::read(path)?;
    let (file, others) = floats_of_safetensors(&bytes).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut theirs: BTreeMap<String, NamedTensor> =
        file.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let own = engine.export(StatePart::Weights)?;
    let hugging_face = theirs.keys().any(|name| name.starts_with("vit."));
    let fresh_decoder = !theirs.keys().any(|name| name.starts_with("decoder"));
    let (mut wrong, mut new_positions, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    let mut taken = 0;
    for tensor in own {
        if fresh_decoder && is_decoder(&tensor.name) {
            weights.push(tensor);
            continue;
        }
        let found = if hugging_face { joined(&tensor, &mut theirs) } else { theirs.remove(&tensor.name) };
        let is_position = tensor.name.ends_with("pos_embed");
        match found {
            Some(found) if found.shape == tensor.shape => {
                taken += 1;
                weights.push(NamedTensor { name: tensor.name, ..found });
            }
            Some(_) | None if is_position => {
                new_positions.push(tensor.name.clone());
                weights.push(tensor);
            }
            Some(found) => wrong.push(format!("{} is {:?}, expected {:?}", tensor.name, found.shape, tensor.shape)),
            None if others.contains(&tensor.name) => {
                wrong.push(format!("{} holds no floating-point numbers", tensor.name));
            }
            None => wrong.push(format!("{} is missing, expected {:?}", tensor.name, tensor.shape)),
        }
    }
    if !wrong.is_empty() {
        return Err(UserError::new(format!("`{}` does not fit the model: {}", path.display(), wrong.join("; ")))
            .hint("choose the --model or the model.* sizes that the weights were made with")
            .into());
    }
    engine.import(StatePart::Weights, &weights)?;
    Ok(Imported { taken, fresh_decoder, new_positions, unused: theirs.into_keys().chain(others).collect() })
}

/// One tensor of ours out of those that Hugging Face has in its place.
fn joined(ours: &NamedTensor, theirs: &mut BTreeMap<String, NamedTensor>) -> Option<NamedTensor> {
    let empty = NamedTensor { name: ours.name.clone(), shape: vec![3], data: vec![0.0; 3] };
    let parts: Vec<String> = to_hugging_face(vec![empty]).into_iter().map(|part| part.name).collect();
    let mut found = parts.iter().map(|name| theirs.remove(name)).collect::<Option<Vec<_>>>()?;
    let mut whole = found.remove(0);
    for part in found {
        // Parts that do not go together are given back as they are, and found to be of the wrong shape.
        let [rows, rest @ ..] = part.shape.as_slice() else { return Some(part) };
        match whole.shape.as_mut_slice() {
            [sum, columns @ ..] if *columns == *rest => *sum += rows,
            _ => return Some(part),
        }
        whole.data.extend(part.data);
    }
    Some(whole)
}
