//! The engine on dfdx's tape, on the CPU.

use crate::config::MaeConfig;
use crate::engine::{AdamW, Engine, NamedTensor, PatchInput, PixelScale, Pixels, Prediction, StatePart, UpdateReport};
use crate::error::ModelError;
use crate::graph::{Buffer, Graph, Value, device};
use crate::input;
use crate::kernels::adamw::{self, Rates};
use crate::kernels::pixels;
use crate::mae::{Batch, Mae, Weights};
use crate::operations::Index;
use crate::parameters::Parameter;
use crate::state;
use dfdx::prelude::{Cache, Cpu, CpuError, Storage};

/// A masked autoencoder on dfdx. Its work runs on the rayon pool that calls it.
pub struct DfdxEngine {
    config: MaeConfig,
    scale: PixelScale,
    device: Cpu,
    /// In the parameter table's order.
    tensors: Vec<OwnedTensor>,
    /// Of trained tensors, in the table's order.
    gradients: Option<Vec<Buffer>>,
    updates: u64,
}

/// A tensor and, if it is trained, its moments.
struct OwnedTensor {
    parameter: Parameter,
    value: Value,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl OwnedTensor {
    fn part_mut(&mut self, part: StatePart) -> &mut [f32] {
        match part {
            StatePart::Weights => self.value.make_mut(),
            StatePart::FirstMoments => &mut self.first,
            StatePart::SecondMoments => &mut self.second,
        }
    }

    fn part(&self, part: StatePart) -> &[f32] {
        match part {
            StatePart::Weights => &self.value,
            StatePart::FirstMoments => &self.first,
            StatePart::SecondMoments => &self.second,
        }
    }
}

impl Weights for Vec<OwnedTensor> {
    fn get(&self, name: &str) -> Value {
        let found = self.iter().find(|tensor| tensor.parameter.name == name);
        found.unwrap_or_else(|| panic!("the parameter table has no {name}")).value.clone()
    }
}

impl DfdxEngine {
    /// A model with fresh weights: the same `seed` gives the same ones everywhere.
    ///
    /// # Errors
    /// A configuration or scale that does not pass its checks, or no memory.
    pub fn new(config: MaeConfig, scale: PixelScale, seed: u64) -> Result<DfdxEngine, ModelError> {
        config.validate()?;
        scale.validate()?;
        let device = device()?;
        let mut tensors = Vec::new();
        for parameter in config.parameters() {
            let mut data = device.try_alloc_len(parameter.len())?;
            data.copy_from_slice(&parameter.initialise(&config, seed));
            let moments = if parameter.trained { parameter.len() } else { 0 };
            let (first, second) = (vec![0.0; moments], vec![0.0; moments]);
            tensors.push(OwnedTensor { value: Value::new(&device, data)?, parameter, first, second });
        }
        Ok(DfdxEngine { config, scale, device, tensors, gradients: None, updates: 0 })
    }

    fn trained(&self) -> impl Iterator<Item = &OwnedTensor> {
        self.tensors.iter().filter(|tensor| tensor.parameter.trained)
    }

    fn load(&self, input: &PatchInput<'_>) -> Result<Batch, ModelError> {
        input::check(&self.config, input)?;
        let index =
            Index { images: input.rows, visible: input.visible_index.into(), masked: input.masked_index.into() };
        Ok(Batch { visible: self.upload(input.visible)?, masked: self.upload(input.masked)?, index })
    }

    /// Pixels as the model sees them.
    fn upload(&self, pixels: Pixels<'_>) -> Result<Value, CpuError> {
        let mut values = self.device.try_alloc_len(pixels.len())?;
        pixels::normalise(pixels, &self.scale, &mut values);
        Value::new(&self.device, values)
    }

    /// Loss and gradients of a batch, on top of `gradients`.
    fn pass(&self, batch: &Batch, gradients: Vec<Buffer>, weight: f32) -> Result<(f32, Vec<Buffer>), CpuError> {
        let parameters: Vec<&Value> = self.trained().map(|tensor| &tensor.value).collect();
        let mut graph = Graph::recording(&self.device, &parameters, gradients)?;
        let mae = Mae::new(&self.config, &self.tensors);
        let latent = mae.encode(&mut graph, &batch.visible, &batch.index)?;
        let decoded = mae.decode(&mut graph, &latent, &batch.index)?;
        let loss = mae.loss(&mut graph, &decoded, batch, weight)?;
        Ok((loss, graph.backward(&parameters)?))
    }
}

impl Drop for DfdxEngine {
    fn drop(&mut self) {
        // The device's cache keeps what was freed, and would leak it; without the cache, what is freed later is free.
        // There is nobody to tell of a failure.
        let _ = self.device.try_disable_cache();
    }
}

impl Engine for DfdxEngine {
    fn config(&self) -> &MaeConfig {
        &self.config
    }

    fn accumulate(&mut self, input: &PatchInput<'_>, weight: f32) -> Result<f32, ModelError> {
        let batch = self.load(input)?;
        let gradients = self.gradients.take().unwrap_or_default();
        let (loss, gradients) = self.pass(&batch, gradients, weight)?;
        self.gradients = Some(gradients);
        Ok(loss)
    }

    fn update(&mut self, adamw: &AdamW) -> Result<UpdateReport, ModelError> {
        let gradients = self.gradients.take().ok_or(ModelError::NoGradient)?;
        let gradient_norm = gradients.iter().map(|gradient| adamw::square_sum(gradient)).sum::<f64>().sqrt();
        if !gradient_norm.is_finite() {
            return Ok(UpdateReport { gradient_norm });
        }
        let trained = self.tensors.iter_mut().filter(|tensor| tensor.parameter.trained);
        for (tensor, gradient) in trained.zip(&gradients) {
            let rates = Rates::new(adamw, self.updates, gradient_norm, tensor.parameter.decays);
            adamw::update(rates, tensor.value.make_mut(), gradient, &mut tensor.first, &mut tensor.second);
        }
        self.updates += 1;
        Ok(UpdateReport { gradient_norm })
    }

    fn discard(&mut self) {
        self.gradients = None;
    }

    fn evaluate(&mut self, input: &PatchInput<'_>) -> Result<f32, ModelError> {
        let batch = self.load(input)?;
        let mut graph = Graph::forward_only(&self.device);
        let mae = Mae::new(&self.config, &self.tensors);
        let latent = mae.encode(&mut graph, &batch.visible, &batch.index)?;
        let decoded = mae.decode(&mut graph, &latent, &batch.index)?;
        Ok(mae.loss(&mut graph, &decoded, &batch, 1.0)?)
    }

    fn predict(&mut self, input: &PatchInput<'_>) -> Result<Prediction, ModelError> {
        let batch = self.load(input)?;
        let mut graph = Graph::forward_only(&self.device);
        let mae = Mae::new(&self.config, &self.tensors);
        let latent = mae.encode(&mut graph, &batch.visible, &batch.index)?;
        let decoded = mae.decode(&mut graph, &latent, &batch.index)?;
        let loss = mae.loss(&mut graph, &decoded, &batch, 1.0)?;
        let predicted = mae.predict(&mut graph, &decoded)?; // (B, 1 + L, P)
        let (tokens, values) = (1 + self.config.patches(), self.config.patch_values());
        let patches = predicted.chunks_exact(tokens * values).flat_map(|image| &image[values..]).copied().collect();
        Ok(Prediction { latent: latent.to_vec(), patches, loss })
    }

    fn encode(&mut self, rows: usize, pixels: Pixels<'_>) -> Result<Vec<f32>, ModelError> {
        let patches = self.config.patches();
        input::check_whole(&self.config, rows, pixels)?;
        let index = (0..rows).flat_map(|_| 0..patches).map(|patch| patch as u16).collect();
        let index = Index { images: rows, visible: index, masked: [].into() };
        let mut graph = Graph::forward_only(&self.device);
        let mae = Mae::new(&self.config, &self.tensors);
        Ok(mae.encode(&mut graph, &self.upload(pixels)?, &index)?.to_vec())
    }

    fn gradients(&self) -> Result<Vec<NamedTensor>, ModelError> {
        let gradients = self.gradients.as_ref().ok_or(ModelError::NoGradient)?;
        let named = self.trained().zip(gradients);
        Ok(named.map(|(tensor, values)| state::to_checkpoint(&self.config, &tensor.parameter, values)).collect())
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }

    fn export(&self, part: StatePart) -> Vec<NamedTensor> {
        let tensors = self.tensors.iter().filter(|tensor| state::belongs(part, &tensor.parameter));
        tensors.map(|tensor| state::to_checkpoint(&self.config, &tensor.parameter, tensor.part(part))).collect()
    }

    fn import(&mut self, part: StatePart, tensors: &[NamedTensor]) -> Result<(), ModelError> {
        let table: Vec<Parameter> = self.tensors.iter().map(|tensor| tensor.parameter.clone()).collect();
        let matched = state::match_table(&table, part, tensors)?;
        let own = self.tensors.iter_mut().filter(|tensor| state::belongs(part, &tensor.parameter));
        for (own, tensor) in own.zip(matched) {
            own.part_mut(part).copy_from_slice(&state::from_checkpoint(&self.config, tensor));
        }
        self.gradients = None;
        Ok(())
    }
}
