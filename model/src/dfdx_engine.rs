//! The engine on dfdx's tape: the same model on every backend.

use crate::backend::{Backend, Done, Failure, Index};
use crate::config::MaeConfig;
use crate::engine::{AdamW, Engine, NamedTensor, PatchInput, PixelScale, Pixels, Prediction, StatePart, UpdateReport};
use crate::error::ModelError;
use crate::graph::{Graph, Value};
use crate::input;
use crate::kernels::adamw::Rates;
use crate::mae::{Batch, Mae, Weights};
use crate::memory::{Buffer, Pool};
use crate::parameters::Parameter;
use crate::profile::{OperationTime, Pass, Profile, Timer};
use crate::state;

/// A masked autoencoder on dfdx. On the CPU, its work runs on the rayon pool that calls it.
pub(crate) struct DfdxEngine<B: Backend> {
    config: MaeConfig,
    scale: PixelScale,
    pool: Pool<B>,
    /// In the parameter table's order.
    tensors: Vec<OwnedTensor<B>>,
    /// Of trained tensors, in the table's order.
    gradients: Option<Vec<Buffer<B>>>,
    updates: u64,
    profile: Option<Profile>,
}

/// A tensor and, if it is trained, its moments.
struct OwnedTensor<B: Backend> {
    parameter: Parameter,
    value: Value<B>,
    first: Buffer<B>,
    second: Buffer<B>,
}

impl<B: Backend> OwnedTensor<B> {
    fn new(pool: &Pool<B>, parameter: Parameter, values: &[f32]) -> Done<B, OwnedTensor<B>> {
        let mut data = pool.alloc(parameter.len())?;
        pool.backend().write(values, &mut data)?;
        let moments = || {
            let mut moments = pool.alloc(if parameter.trained { parameter.len() } else { 0 })?;
            pool.backend().fill_zero(&mut moments)?;
            Ok(moments)
        };
        let (first, second) = (moments()?, moments()?);
        Ok(OwnedTensor { value: Value::new(data)?, parameter, first, second })
    }

    fn write(&mut self, backend: &B, part: StatePart, values: &[f32]) -> Done<B> {
        let into = match part {
            StatePart::Weights => self.value.get_mut(),
            StatePart::FirstMoments => &mut *self.first,
            StatePart::SecondMoments => &mut *self.second,
        };
        backend.write(values, into)
    }

    fn read(&self, backend: &B, part: StatePart) -> Done<B, Vec<f32>> {
        match part {
            StatePart::Weights => backend.read(&self.value),
            StatePart::FirstMoments => backend.read(&self.first),
            StatePart::SecondMoments => backend.read(&self.second),
        }
    }
}

impl<B: Backend> Weights<B> for Vec<OwnedTensor<B>> {
    fn get(&self, name: &str) -> Value<B> {
        let found = self.iter().find(|tensor| tensor.parameter.name == name);
        found.unwrap_or_else(|| panic!("the parameter table has no {name}")).value.clone()
    }
}

impl<B: Backend> DfdxEngine<B> {
    /// A model on a device with fresh weights.
    pub(crate) fn on(backend: B, config: MaeConfig, scale: PixelScale, seed: u64) -> Result<Self, ModelError> {
        config.validate()?;
        scale.validate()?;
        let pool = Pool::new(backend);
        let mut tensors = Vec::new();
        for parameter in config.parameters() {
            let values = parameter.initialise(&config, seed);
            let tensor = OwnedTensor::new(&pool, parameter, &values);
            tensors.push(tensor.map_err(|error| {
                failure::<B>(&error, || ModelError::StateTooLarge {
                    state_bytes: config.state_bytes(),
                    device_bytes: pool.backend().memory_bytes(),
                })
            })?);
        }
        Ok(DfdxEngine { config, scale, pool, tensors, gradients: None, updates: 0, profile: None })
    }

    fn trained(&self) -> impl Iterator<Item = &OwnedTensor<B>> {
        self.tensors.iter().filter(|tensor| tensor.parameter.trained)
    }

    /// An error of a pass over `rows` images of which `visible` patches are shown.
    fn failed(&self, error: &Failure<B>, rows: usize, visible: usize) -> ModelError {
        failure::<B>(error, || ModelError::BatchTooLarge {
            rows,
            device_bytes: self.pool.backend().memory_bytes(),
            rows_that_fit: self
                .pool
                .backend()
                .memory_bytes()
                .map(|bytes| self.config.rows_that_fit(bytes, visible).min(rows.saturating_sub(1))),
        })
    }

    /// Runs a pass, its errors told with what the batch would have needed.
    fn run<T>(
        &self,
        input: &PatchInput<'_>,
        pass: impl FnOnce(&Self, Batch<B>) -> Done<B, T>,
    ) -> Result<T, ModelError> {
        input::check(&self.config, input)?;
        let visible = input.visible_index.len() / input.rows;
        let result = self.load(input).and_then(|batch| pass(self, batch));
        result.map_err(|error| self.failed(&error, input.rows, visible))
    }

    fn load(&self, input: &PatchInput<'_>) -> Done<B, Batch<B>> {
        let backend = self.pool.backend();
        let index = Index {
            images: input.rows,
            visible_patches: input.visible_index.len() / input.rows,
            masked_patches: input.masked_index.len() / input.rows,
            visible: backend.indices(input.visible_index)?,
            masked: backend.indices(input.masked_index)?,
        };
        Ok(Batch { visible: self.upload(input.visible)?, masked: self.upload(input.masked)?, index })
    }

    /// Times what belongs to no pass of the graph.
    fn time(&self, operation: &'static str) -> Option<Timer> {
        Some(self.profile.as_ref()?.time(self.pool.backend(), operation, Pass::Forward, 0))
    }

    fn forward_only(&self) -> Graph<B> {
        Graph::forward_only(&self.pool).profiled(self.profile.clone())
    }

    /// Pixels as the model sees them.
    fn upload(&self, pixels: Pixels<'_>) -> Done<B, Value<B>> {
        let _timer = self.time("normalise pixels");
        let mut values = self.pool.alloc(pixels.len())?;
        self.pool.backend().normalise(pixels, &self.scale, &mut values)?;
        Value::new(values)
    }

    /// Loss and gradients of a batch, on top of `gradients`.
    fn pass(&self, batch: &Batch<B>, gradients: Vec<Buffer<B>>, weight: f32) -> Done<B, (f32, Vec<Buffer<B>>)> {
        let parameters: Vec<&Value<B>> = self.trained().map(|tensor| &tensor.value).collect();
        let graph = Graph::recording(&self.pool, &parameters, gradients)?;
        let mut graph = graph.profiled(self.profile.clone());
        let mae = Mae::new(&self.config, &self.tensors);
        let latent = mae.encode(&mut graph, &batch.visible, &batch.index)?;
        let decoded = mae.decode(&mut graph, &latent, &batch.index)?;
        let loss = mae.loss(&mut graph, &decoded, batch, weight)?;
        let gradients = graph.backward(&parameters)?;
        // By now the device has all of the backward pass before it, and is not kept waiting.
        Ok((self.pool.backend().read_loss(loss)?, gradients))
    }

    /// Latent, decoded tokens and loss, nothing recorded.
    fn forward(&self, graph: &mut Graph<B>, batch: &Batch<B>) -> Done<B, (Value<B>, Value<B>, f32)> {
        let mae = Mae::new(&self.config, &self.tensors);
        let latent = mae.encode(graph, &batch.visible, &batch.index)?;
        let decoded = mae.decode(graph, &latent, &batch.index)?;
        let loss = mae.loss(graph, &decoded, batch, 1.0)?;
        Ok((latent, decoded, self.pool.backend().read_loss(loss)?))
    }

    /// Moves the weights along `gradients`, if they are finite.
    fn descend(&mut self, gradients: &[Buffer<B>], adamw: &AdamW) -> Done<B, f64> {
        let backend = self.pool.backend();
        let gradient_norm = backend.square_sum(gradients.iter().map(|gradient| &**gradient))?.sqrt();
        if !gradient_norm.is_finite() {
            return Ok(gradient_norm);
        }
        let trained = self.tensors.iter_mut().filter(|tensor| tensor.parameter.trained);
        for (tensor, gradient) in trained.zip(gradients) {
            let rates = Rates::new(adamw, self.updates, gradient_norm, tensor.parameter.decays);
            backend.adamw(rates, tensor.value.get_mut(), gradient, &mut tensor.first, &mut tensor.second)?;
        }
        self.updates += 1;
        Ok(gradient_norm)
    }
}

/// An error of the device as the crate's; `no_memory` where that is what is wrong.
fn failure<B: Backend>(error: &Failure<B>, no_memory: impl FnOnce() -> ModelError) -> ModelError {
    B::error(error).unwrap_or_else(no_memory)
}

/// An error where no memory is asked for, so that it is none of memory.
fn device_error<B: Backend>(error: &Failure<B>) -> ModelError {
    failure::<B>(error, || ModelError::Device { reason: error.to_string() })
}

impl<B: Backend> Engine for DfdxEngine<B> {
    fn config(&self) -> &MaeConfig {
        &self.config
    }

    fn accumulate(&mut self, input: &PatchInput<'_>, weight: f32) -> Result<f32, ModelError> {
        input::check(&self.config, input)?;
        let gradients = self.gradients.take().unwrap_or_default();
        let (loss, gradients) = self.run(input, |engine, batch| engine.pass(&batch, gradients, weight))?;
        self.gradients = Some(gradients);
        Ok(loss)
    }

    fn update(&mut self, adamw: &AdamW) -> Result<UpdateReport, ModelError> {
        let _timer = self.time("AdamW");
        let gradients = self.gradients.take().ok_or(ModelError::NoGradient)?;
        let gradient_norm = self.descend(&gradients, adamw).map_err(|error| device_error::<B>(&error))?;
        Ok(UpdateReport { gradient_norm })
    }

    fn discard(&mut self) {
        self.gradients = None;
    }

    fn evaluate(&mut self, input: &PatchInput<'_>) -> Result<f32, ModelError> {
        self.run(input, |engine, batch| Ok(engine.forward(&mut engine.forward_only(), &batch)?.2))
    }

    fn predict(&mut self, input: &PatchInput<'_>) -> Result<Prediction, ModelError> {
        self.run(input, |engine, batch| {
            let mut graph = engine.forward_only();
            let (latent, decoded, loss) = engine.forward(&mut graph, &batch)?;
            let mae = Mae::new(&engine.config, &engine.tensors);
            let predicted = mae.predict(&mut graph, &decoded)?.read()?; // (B, 1 + L, P)
            let (tokens, values) = (1 + engine.config.patches(), engine.config.patch_values());
            let patches = predicted.chunks_exact(tokens * values).flat_map(|image| &image[values..]).copied().collect();
            Ok(Prediction { latent: latent.read()?, patches, loss })
        })
    }

    fn encode(&mut self, rows: usize, pixels: Pixels<'_>) -> Result<Vec<f32>, ModelError> {
        let patches = self.config.patches();
        input::check_whole(&self.config, rows, pixels)?;
        let visible: Vec<u16> = (0..rows).flat_map(|_| 0..patches).map(|patch| patch as u16).collect();
        let run = || {
            let backend = self.pool.backend();
            let (visible, masked) = (backend.indices(&visible)?, backend.indices(&[])?);
            let index = Index { images: rows, visible_patches: patches, masked_patches: 0, visible, masked };
            let mae = Mae::new(&self.config, &self.tensors);
            mae.encode(&mut self.forward_only(), &self.upload(pixels)?, &index)?.read()
        };
        run().map_err(|error| self.failed(&error, rows, patches))
    }

    fn gradients(&self) -> Result<Vec<NamedTensor>, ModelError> {
        let gradients = self.gradients.as_ref().ok_or(ModelError::NoGradient)?;
        let named = self.trained().zip(gradients).map(|(tensor, gradient)| {
            let values = self.pool.backend().read(gradient).map_err(|error| device_error::<B>(&error))?;
            Ok(state::to_checkpoint(&self.config, &tensor.parameter, &values))
        });
        named.collect()
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }

    fn start_profile(&mut self) {
        self.profile = Some(Profile::default());
    }

    fn stop_profile(&mut self) -> Vec<OperationTime> {
        self.profile.take().map(|profile| profile.times()).unwrap_or_default()
    }

    fn memory_bytes_max(&self) -> u64 {
        self.pool.bytes_max()
    }

    fn export(&self, part: StatePart) -> Result<Vec<NamedTensor>, ModelError> {
        let tensors = self.tensors.iter().filter(|tensor| state::belongs(part, &tensor.parameter));
        let named = tensors.map(|tensor| {
            let values = tensor.read(self.pool.backend(), part).map_err(|error| device_error::<B>(&error))?;
            Ok(state::to_checkpoint(&self.config, &tensor.parameter, &values))
        });
        named.collect()
    }

    fn import(&mut self, part: StatePart, tensors: &[NamedTensor]) -> Result<(), ModelError> {
        let table: Vec<Parameter> = self.tensors.iter().map(|tensor| tensor.parameter.clone()).collect();
        let matched = state::match_table(&table, part, tensors)?;
        let own = self.tensors.iter_mut().filter(|tensor| state::belongs(part, &tensor.parameter));
        for (own, tensor) in own.zip(matched) {
            let values = state::from_checkpoint(&self.config, tensor);
            own.write(self.pool.backend(), part, &values).map_err(|error| device_error::<B>(&error))?;
        }
        self.gradients = None;
        Ok(())
    }
}
