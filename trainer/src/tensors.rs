//! Named tensors as safetensors files and back.

use patchstream_model::NamedTensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// Tensors as a safetensors file, each group under a prefix.
pub(crate) fn to_safetensors(groups: &[(&str, Vec<NamedTensor>)]) -> anyhow::Result<Vec<u8>> {
    let mut views = Vec::new();
    let bytes: Vec<(String, &[usize], Vec<u8>)> = groups
        .iter()
        .flat_map(|(prefix, tensors)| tensors.iter().map(move |tensor| (prefix, tensor)))
        .map(|(prefix, tensor)| {
            let bytes = tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect();
            (format!("{prefix}{}", tensor.name), tensor.shape.as_slice(), bytes)
        })
        .collect();
    for (name, shape, bytes) in &bytes {
        views.push((name.as_str(), TensorView::new(Dtype::F32, shape.to_vec(), bytes)?));
    }
    Ok(safetensors::serialize(views, None)?)
}

/// The tensors of a safetensors file whose names begin with `prefix`, without it.
pub(crate) fn from_safetensors(bytes: &[u8], prefix: &str) -> anyhow::Result<Vec<NamedTensor>> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let Some(name) = name.strip_prefix(prefix) else { continue };
        anyhow::ensure!(view.dtype() == Dtype::F32, "tensor `{name}` holds {:?}, expected F32", view.dtype());
        let data = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        tensors.push(NamedTensor { name: name.to_owned(), shape: view.shape().to_vec(), data });
    }
    Ok(tensors)
}
