//! Weights under the names of other libraries, and weights of theirs under ours.
//!
//! Ours are those of the published MAE checkpoints. timm's `VisionTransformer` has the same without a decoder; Hugging
//! Face's `ViTMAEForPreTraining` names everything otherwise and keeps queries, keys and values apart.

pub(crate) mod import;

use patchstream_model::{MaeConfig, NamedTensor, Target};
use serde_json::{Value, json};

/// Parts of a name of ours and what Hugging Face calls them, longest first.
const HUGGING_FACE: [(&str, &str); 11] = [
    ("patch_embed.proj.", "vit.embeddings.patch_embeddings.projection."),
    ("cls_token", "vit.embeddings.cls_token"),
    ("decoder_pos_embed", "decoder.decoder_pos_embed"),
    ("pos_embed", "vit.embeddings.position_embeddings"),
    ("mask_token", "decoder.mask_token"),
    ("decoder_blocks.", "decoder.decoder_layers."),
    ("blocks.", "vit.encoder.layer."),
    ("decoder_embed.", "decoder.decoder_embed."),
    ("decoder_norm.", "decoder.decoder_norm."),
    ("decoder_pred.", "decoder.decoder_pred."),
    ("norm.", "vit.layernorm."),
];
/// The same inside a block.
const HUGGING_FACE_BLOCK: [(&str, &str); 5] = [
    ("norm1.", "layernorm_before."),
    ("norm2.", "layernorm_after."),
    ("attn.proj.", "attention.output.dense."),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
];
/// Where the three thirds of `attn.qkv.` go.
const HUGGING_FACE_QKV: [&str; 3] =
    ["attention.attention.query.", "attention.attention.key.", "attention.attention.value."];

/// The encoder alone, as timm's `VisionTransformer` has it.
pub(crate) fn to_timm(tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    tensors.into_iter().filter(|tensor| !is_decoder(&tensor.name)).collect()
}

/// Whether a tensor of ours belongs to the decoder.
pub(crate) fn is_decoder(name: &str) -> bool {
    name.starts_with("decoder") || name == "mask_token"
}

/// All tensors as Hugging Face's `ViTMAEForPreTraining` has them.
pub(crate) fn to_hugging_face(tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    let mut out = Vec::new();
    for tensor in tensors {
        let name = hugging_face_name(&tensor.name);
        let Some((prefix, kind)) = name.split_once("attn.qkv.") else {
            out.push(NamedTensor { name, ..tensor });
            continue;
        };
        let mut shape = tensor.shape.clone();
        shape[0] /= 3;
        for (part, data) in HUGGING_FACE_QKV.iter().zip(tensor.data.chunks_exact(tensor.data.len() / 3)) {
            out.push(NamedTensor { name: format!("{prefix}{part}{kind}"), shape: shape.clone(), data: data.to_vec() });
        }
    }
    out
}

/// `attn.qkv.` stays, since it becomes three.
fn hugging_face_name(name: &str) -> String {
    let rename = |table: &[(&str, &str)], name: &str| {
        let found = table.iter().find_map(|(ours, theirs)| Some(format!("{theirs}{}", name.strip_prefix(ours)?)));
        found.unwrap_or_else(|| name.to_owned())
    };
    match name.split_once("blocks.").and_then(|(part, rest)| Some((part, rest.split_once('.')?))) {
        Some((part, (number, rest))) => {
            format!(
                "{}{number}.{}",
                rename(&HUGGING_FACE, &format!("{part}blocks.")),
                rename(&HUGGING_FACE_BLOCK, rest)
            )
        }
        None => rename(&HUGGING_FACE, name),
    }
}

/// `config.json` for `timm`: the arguments of `VisionTransformer`.
pub(crate) fn timm_config(model: &MaeConfig) -> Value {
    json!({
        "architecture": "VisionTransformer",
        "model_args": {
            "img_size": [model.image_height_px, model.image_width_px],
            "patch_size": model.patch_px,
            "in_chans": model.channels,
            "num_classes": 0,
            "global_pool": "",
            "embed_dim": model.encoder.width,
            "depth": model.encoder.depth,
            "num_heads": model.encoder.heads,
            "mlp_ratio": model.mlp_ratio,
        },
        "num_features": model.encoder.width,
    })
}

/// `config.json` for `transformers`. Its position tables are for square images alone.
pub(crate) fn hugging_face_config(model: &MaeConfig) -> Value {
    json!({
        "architectures": ["ViTMAEForPreTraining"],
        "model_type": "vit_mae",
        "image_size": model.image_height_px,
        "patch_size": model.patch_px,
        "num_channels": model.channels,
        "hidden_size": model.encoder.width,
        "num_hidden_layers": model.encoder.depth,
        "num_attention_heads": model.encoder.heads,
        "intermediate_size": model.hidden_width(&model.encoder),
        "decoder_hidden_size": model.decoder.width,
        "decoder_num_hidden_layers": model.decoder.depth,
        "decoder_num_attention_heads": model.decoder.heads,
        "decoder_intermediate_size": model.hidden_width(&model.decoder),
        "norm_pix_loss": model.target == Target::NormalizedPatches,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "qkv_bias": true,
    })
}
