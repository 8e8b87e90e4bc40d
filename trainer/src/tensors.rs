//! Named tensors as safetensors files and back.

use half::{bf16, f16};
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

/// The tensors of a file of ours whose names begin with `prefix`, without it.
pub(crate) fn from_safetensors(bytes: &[u8], prefix: &str) -> anyhow::Result<Vec<NamedTensor>> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let Some(name) = name.strip_prefix(prefix) else { continue };
        anyhow::ensure!(view.dtype() == Dtype::F32, "tensor `{name}` holds {:?}, expected F32", view.dtype());
        let data = each(view.data(), f32::from_le_bytes);
        tensors.push(NamedTensor { name: name.to_owned(), shape: view.shape().to_vec(), data });
    }
    Ok(tensors)
}

/// The tensors of anybody's file, as float32 whatever floats they are, and the names of those that are no floats.
pub(crate) fn floats_of_safetensors(bytes: &[u8]) -> anyhow::Result<(Vec<NamedTensor>, Vec<String>)> {
    let file = SafeTensors::deserialize(bytes)?;
    let (mut tensors, mut others) = (Vec::new(), Vec::new());
    for (name, view) in file.iter() {
        let name = name.to_owned();
        match floats(&view) {
            Some(data) => tensors.push(NamedTensor { name, shape: view.shape().to_vec(), data }),
            None => others.push(name),
        }
    }
    Ok((tensors, others))
}

fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| value(*bytes)).collect()
}

fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F16 => each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Dtype::F64 => each(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_floats_become_float32() {
        let values = [1.5f32, -0.25, 0.0, 1024.0];
        let files = [
            (Dtype::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()),
            (Dtype::F16, values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()),
            (Dtype::BF16, values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect()),
            (Dtype::F64, values.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect()),
        ];
        let counter = 7i64.to_le_bytes();
        for (dtype, bytes) in &files {
            let weights = TensorView::new(*dtype, vec![2, 2], bytes).expect("four values");
            let counter = TensorView::new(Dtype::I64, vec![1], &counter).expect("one value");
            let file = safetensors::serialize([("weights", weights), ("counter", counter)], None).expect("a file");
            let (tensors, others) = floats_of_safetensors(&file).expect("a file");
            let expected = NamedTensor { name: "weights".to_owned(), shape: vec![2, 2], data: values.to_vec() };
            assert_eq!((tensors, others), (vec![expected], vec!["counter".to_owned()]), "{dtype:?}");
            assert_eq!(from_safetensors(&file, "w").is_ok(), *dtype == Dtype::F32);
            assert_eq!(
                from_safetensors(&file, "c").expect_err("a counter").to_string(),
                "tensor `ounter` holds I64, expected F32"
            );
        }
    }
}
