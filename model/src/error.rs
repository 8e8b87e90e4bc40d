//! What can go wrong, each with the numbers that it is about.

use std::fmt;

/// Every error of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// A size that must be at least one is zero.
    #[error("{what} is 0, expected at least 1")]
    Zero {
        /// The configuration's name of the size.
        what: &'static str,
    },
    /// The image does not divide into whole patches.
    #[error("{axis} of {image_px} px is not a multiple of the patch of {patch_px} px")]
    ImageNotMultipleOfPatch {
        /// `image_height_px` or `image_width_px`.
        axis: &'static str,
        /// The image along that axis.
        image_px: usize,
        /// The patch's side.
        patch_px: usize,
    },
    /// A transformer's width does not divide as its heads or its positions need.
    #[error("{part} width {width} is not divisible by {divisor} ({reason})")]
    WidthNotDivisible {
        /// `encoder` or `decoder`.
        part: &'static str,
        /// The width given.
        width: usize,
        /// What it must be a multiple of.
        divisor: usize,
        /// Why.
        reason: &'static str,
    },
    /// The hidden layer of the MLP would be empty, or its size is not a number.
    #[error("mlp_ratio {ratio} gives the {part} no hidden layer between 1 and {max} wide")]
    MlpRatio {
        /// `encoder` or `decoder`.
        part: &'static str,
        /// The ratio given.
        ratio: f64,
        /// The widest hidden layer accepted.
        max: usize,
    },
    /// A size beyond what the formats or memory can take.
    #[error("{what} is {got}, expected at most {max}")]
    TooLarge {
        /// The configuration's name of the size.
        what: &'static str,
        /// The size given.
        got: usize,
        /// The largest size accepted.
        max: usize,
    },
    /// Normalised targets divide by one less than the values of a patch, so one value is too few.
    #[error("a patch of one value has no variance, expected at least 2 values for normalised targets")]
    PatchWithoutVariance,
    /// No preset has this name.
    #[error("unknown model {name:?}")]
    UnknownPreset {
        /// The name given.
        name: String,
    },
    /// The pixel scale is not finite, or divides by zero.
    #[error("pixel {what} of channel {channel} is {got}, expected {expected}")]
    PixelScale {
        /// `mean` or `std`.
        what: &'static str,
        /// Which channel.
        channel: usize,
        /// The value given.
        got: f64,
        /// What would do.
        expected: &'static str,
    },
    /// Bytes are RGB, and this model's patches are not.
    #[error("bytes carry 3 channels, the model has {channels}")]
    BytesNeedRgb {
        /// The model's channels.
        channels: usize,
    },
    /// A part of the batch is not as long as rows and patches say.
    #[error("{what} has {got} values, expected {expected}")]
    InputLength {
        /// Which part of the batch.
        what: &'static str,
        /// Values it should have.
        expected: usize,
        /// Values it has.
        got: usize,
    },
    /// Each image needs a visible patch to encode and a masked one to predict.
    #[error(
        "{rows} images with {visible} visible and {masked} masked indices, expected equally many a row, at least 1 each"
    )]
    InputShape {
        /// Images in the batch.
        rows: usize,
        /// Visible indices in the batch.
        visible: usize,
        /// Masked indices in the batch.
        masked: usize,
    },
    /// Visible and masked indices of an image do not name each patch once.
    #[error("patch index {index} of image {row} is {problem} (the grid has {patches} patches)")]
    PatchIndex {
        /// The image's place in the batch.
        row: usize,
        /// The index.
        index: usize,
        /// `out of range` or `there twice`.
        problem: &'static str,
        /// Patches of the grid.
        patches: usize,
    },
    /// An update or a look at gradients before anything was accumulated.
    #[error("no gradient has been accumulated since the last update")]
    NoGradient,
    /// A report was asked for, and every update has been reported.
    #[error("no update is waiting to be reported")]
    NothingToReport,
    /// A state that does not fit the model; lists every tensor that is wrong.
    #[error("the state does not fit the model: {}", list(.mismatches))]
    State {
        /// All that is wrong, in the table's order, unknown tensors last.
        mismatches: Vec<Mismatch>,
    },
    /// Weights, gradients and moments do not fit the device's memory.
    #[error("the model's state of {} does not fit{}", mebibytes(*.state_bytes), of_device(*.device_bytes))]
    StateTooLarge {
        /// Of weights, gradients and both moments.
        state_bytes: u64,
        /// All memory of the device, where it has a limit of its own.
        device_bytes: Option<u64>,
    },
    /// A batch needs more memory than is left.
    #[error("a batch of {rows} images does not fit{}", of_device(*.device_bytes))]
    BatchTooLarge {
        /// Images computed at once.
        rows: usize,
        /// All memory of the device, where it has a limit of its own.
        device_bytes: Option<u64>,
        /// How many would fit, about.
        rows_that_fit: Option<usize>,
    },
    /// No device has this name.
    #[error("unknown device {name:?}")]
    UnknownDevice {
        /// The name given.
        name: String,
    },
    /// The CPU has no TF32.
    #[error("the CPU multiplies matrices in float32, got a precision of tf32")]
    Tf32OnCpu,
    /// This program was built without CUDA.
    #[error("this program was built without CUDA")]
    BuiltWithoutCuda,
    /// There is no usable CUDA.
    #[error("CUDA cannot be used: {problem}, expected {expected}")]
    Cuda {
        /// What is wrong.
        problem: String,
        /// What is needed.
        expected: String,
    },
    /// A golden case that cannot be read.
    #[error("the golden case cannot be used: {reason}")]
    Golden {
        /// What is wrong with it.
        reason: String,
    },
    /// The device could not run.
    #[error("the device failed: {reason}")]
    Device {
        /// What the device said.
        reason: String,
    },
}

/// One way in which a tensor of a state differs from the parameter table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// The table has it, the state does not.
    Missing {
        /// The tensor's name.
        name: String,
    },
    /// The state has it, the table does not.
    Unknown {
        /// The tensor's name.
        name: String,
    },
    /// The state has it twice.
    Repeated {
        /// The tensor's name.
        name: String,
    },
    /// Both have it, in different shapes, or its values are not as many as its shape says.
    Shape {
        /// The tensor's name.
        name: String,
        /// The table's shape.
        expected: Vec<usize>,
        /// The state's shape.
        got: Vec<usize>,
        /// Values that came with it.
        values: usize,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Missing { name } => write!(f, "{name} is missing"),
            Mismatch::Unknown { name } => write!(f, "{name} is unknown"),
            Mismatch::Repeated { name } => write!(f, "{name} is there twice"),
            Mismatch::Shape { name, expected, got, values } => {
                write!(f, "{name} is {got:?} with {values} values, expected {expected:?}")
            }
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn of_device(bytes: Option<u64>) -> String {
    bytes.map(|bytes| format!(" the device's {}", mebibytes(bytes))).unwrap_or_default()
}

fn list(mismatches: &[Mismatch]) -> String {
    mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl ModelError {
    /// What the user may do about it; `None` where the message says it all.
    pub fn hint(&self) -> Option<String> {
        match self {
            ModelError::ImageNotMultipleOfPatch { image_px, patch_px, .. } => {
                let below = image_px / patch_px * patch_px;
                let above = below + patch_px;
                Some(if below == 0 { format!("try {above} px") } else { format!("try {below} or {above} px") })
            }
            ModelError::WidthNotDivisible { divisor, width, .. } => {
                Some(format!("the next width that works is {}", width.next_multiple_of(*divisor)))
            }
            ModelError::UnknownPreset { .. } => {
                Some(format!("models are {}", crate::config::Preset::names().join(", ")))
            }
            ModelError::BytesNeedRgb { .. } => Some("give normalised floats, or set channels to 3".to_owned()),
            ModelError::State { .. } => Some("use the configuration that the state was saved with".to_owned()),
            ModelError::StateTooLarge { .. } => Some("take a smaller model".to_owned()),
            ModelError::BatchTooLarge { rows_that_fit: Some(fit @ 1..), .. } => {
                Some(format!("about {fit} images fit; compute the batch in parts with train.accumulation"))
            }
            ModelError::BatchTooLarge { .. } => {
                Some("a smaller batch needs less memory, or compute it in parts with train.accumulation".to_owned())
            }
            ModelError::UnknownDevice { .. } => Some("devices are cpu, cuda:0, cuda:1 and so on".to_owned()),
            ModelError::Tf32OnCpu => Some("TF32 is for CUDA devices: add --device cuda:0, or leave it out".to_owned()),
            ModelError::BuiltWithoutCuda => {
                Some("build it as the README says under \"On CUDA\", or use --device cpu".to_owned())
            }
            ModelError::Cuda { .. } => Some("--device cpu needs none of it".to_owned()),
            _ => None,
        }
    }
}
