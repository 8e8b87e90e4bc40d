//! The parameter table: the one source of names, shapes, initialisation and weight decay.

use crate::config::{MaeConfig, TransformerConfig};

/// How a tensor starts (appendix A.1: xavier uniform for linear layers, zero biases; tokens normal, 0.02).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Uniform within sqrt(6 / (`fan_in` + `fan_out`)) of zero.
    XavierUniform {
        /// Inputs of the layer.
        fan_in: usize,
        /// Outputs of the layer.
        fan_out: usize,
    },
    /// Normal with mean zero.
    Normal {
        /// Its standard deviation.
        deviation: f32,
    },
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// The fixed table of [`sincos_2d`].
    SinCos,
}

/// One tensor of the model, as it is named and shaped in published MAE checkpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name in a checkpoint.
    pub name: String,
    /// Its shape in a checkpoint, row-major.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
    /// Whether `AdamW`'s weight decay applies: to trained tensors of more than one dimension.
    pub decays: bool,
    /// Whether it is trained; the position tables are not.
    pub trained: bool,
}

impl Parameter {
    fn new(name: impl Into<String>, shape: &[usize], init: Init) -> Parameter {
        let trained = init != Init::SinCos;
        Parameter { name: name.into(), shape: shape.to_vec(), init, decays: trained && shape.len() > 1, trained }
    }

    /// Values of the tensor.
    #[allow(clippy::len_without_is_empty, reason = "no tensor of a valid configuration is empty")]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

impl MaeConfig {
    /// Every tensor of the model, in the order in which they are used.
    pub fn parameters(&self) -> Vec<Parameter> {
        let (width, decoder_width) = (self.encoder.width, self.decoder.width);
        let (tokens, patch_values, patch_px) = (1 + self.patches(), self.patch_values(), self.patch_px);
        let token = Init::Normal { deviation: 0.02 };
        let patch_embed = Init::XavierUniform { fan_in: patch_values, fan_out: width };

        let mut table = vec![
            Parameter::new("cls_token", &[1, 1, width], token),
            Parameter::new("pos_embed", &[1, tokens, width], Init::SinCos),
            Parameter::new("patch_embed.proj.weight", &[width, self.channels, patch_px, patch_px], patch_embed),
            Parameter::new("patch_embed.proj.bias", &[width], Init::Zeros),
        ];
        transformer(&mut table, "blocks", &self.encoder, self.hidden_width(&self.encoder));
        norm(&mut table, "norm", width);
        linear(&mut table, "decoder_embed", width, decoder_width);
        table.push(Parameter::new("mask_token", &[1, 1, self.mask_token_width()], token));
        table.push(Parameter::new("decoder_pos_embed", &[1, tokens, decoder_width], Init::SinCos));
        transformer(&mut table, "decoder_blocks", &self.decoder, self.hidden_width(&self.decoder));
        norm(&mut table, "decoder_norm", decoder_width);
        linear(&mut table, "decoder_pred", decoder_width, patch_values);
        table
    }
}

fn transformer(table: &mut Vec<Parameter>, prefix: &str, config: &TransformerConfig, hidden: usize) {
    let width = config.width;
    for block in 0..config.depth {
        let prefix = format!("{prefix}.{block}");
        norm(table, &format!("{prefix}.norm1"), width);
        linear(table, &format!("{prefix}.attn.qkv"), width, 3 * width);
        linear(table, &format!("{prefix}.attn.proj"), width, width);
        norm(table, &format!("{prefix}.norm2"), width);
        linear(table, &format!("{prefix}.mlp.fc1"), width, hidden);
        linear(table, &format!("{prefix}.mlp.fc2"), hidden, width);
    }
}

fn linear(table: &mut Vec<Parameter>, name: &str, fan_in: usize, fan_out: usize) {
    let init = Init::XavierUniform { fan_in, fan_out };
    table.push(Parameter::new(format!("{name}.weight"), &[fan_out, fan_in], init));
    table.push(Parameter::new(format!("{name}.bias"), &[fan_out], Init::Zeros));
}

fn norm(table: &mut Vec<Parameter>, name: &str, width: usize) {
    table.push(Parameter::new(format!("{name}.weight"), &[width], Init::Ones));
    table.push(Parameter::new(format!("{name}.bias"), &[width], Init::Zeros));
}

impl Parameter {
    /// The values that the tensor starts with, of length [`Parameter::len`]. They depend on `seed` and the name alone,
    /// so a deeper model starts with the same first blocks.
    pub fn initialise(&self, config: &MaeConfig, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed, &self.name);
        let mut fill = |value: &mut dyn FnMut(&mut Random) -> f64| {
            (0..self.len()).map(|_| value(&mut random) as f32).collect::<Vec<f32>>()
        };
        match self.init {
            Init::Zeros => vec![0.0; self.len()],
            Init::Ones => vec![1.0; self.len()],
            Init::SinCos => {
                let width = self.shape.last().copied().unwrap_or(0);
                sincos_2d(width, config.grid_rows(), config.grid_columns())
            }
            Init::XavierUniform { fan_in, fan_out } => {
                let bound = (6.0 / (fan_in + fan_out) as f64).sqrt();
                fill(&mut |random| bound * (2.0 * random.uniform() - 1.0))
            }
            Init::Normal { deviation } => fill(&mut |random| f64::from(deviation) * random.normal()),
        }
    }
}

/// Fixed positions of a grid, (1 + rows * columns, width) row-major: zeros for the class token, then for each patch half
/// of the channels encode its column and half its row, each as sines and then cosines of position / 10000^(4i / width).
pub fn sincos_2d(width: usize, rows: usize, columns: usize) -> Vec<f32> {
    let quarter = width / 4;
    let mut table = vec![0.0; (1 + rows * columns) * width];
    for (patch, channels) in table[width..].chunks_exact_mut(width).enumerate() {
        for (axis, position) in [patch % columns, patch / columns].into_iter().enumerate() {
            for i in 0..quarter {
                let angle = position as f64 / 10000f64.powf(i as f64 / quarter as f64);
                channels[2 * axis * quarter + i] = angle.sin() as f32;
                channels[(2 * axis + 1) * quarter + i] = angle.cos() as f32;
            }
        }
    }
    table
}

/// `SplitMix64`, keyed by a seed and a tensor's name.
struct Random(u64);

impl Random {
    fn new(seed: u64, name: &str) -> Random {
        // FNV-1a spreads names; a first draw mixes the seed in.
        let hash =
            name.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let mixed = Random(seed).next();
        Random(mixed ^ hash)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In (0, 1), never an end.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Box and Muller; the second value of a pair is not kept.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
