//! The engine on dfdx's tape: the same model on every backend.

use crate::backend::{Backend, Done, Failure, Patches, Raw, Updates};
use crate::config::MaeConfig;
use crate::engine::{AdamW, Engine, NamedTensor, PatchInput, PixelScale, Pixels, Prediction, StatePart, StepReport};
use crate::error::ModelError;
use crate::graph::{Graph, Value};
use crate::input;
use crate::mae::{Batch, Mae, Weights};
use crate::memory::{Buffer, Pool};
use crate::parameters::Parameter;
use crate::profile::{OperationTime, Pass, Profile, Timer};
use crate::state;
use crate::upload::{Uploaded, Uploader};
use std::collections::VecDeque;

/// A masked autoencoder on dfdx. On the CPU, its work runs on the rayon pool that calls it.
pub(crate) struct DfdxEngine<B: Backend> {
    config: MaeConfig,
    scale: PixelScale,
    pool: Pool<B>,
    /// In the parameter table's order.
    tensors: Vec<OwnedTensor<B>>,
    accumulated: Option<Accumulated<B>>,
    /// Of updates that were not reported yet, oldest first.
    verdicts: VecDeque<B::Verdict>,
    /// Updates that counted, of those reported.
    updates: u64,
    profile: Option<Profile>,
}

/// What batches since the last update came to.
struct Accumulated<B: Backend> {
    /// One value.
    loss: Buffer<B>,
    /// Of trained tensors, in the table's order.
    gradients: Vec<Buffer<B>>,
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
        let verdicts = VecDeque::new();
        Ok(DfdxEngine { config, scale, pool, tensors, accumulated: None, verdicts, updates: 0, profile: None })
    }

    fn trained(&self) -> impl Iterator<Item = &OwnedTensor<B>> {
        self.tensors.iter().filter(|tensor| tensor.parameter.trained)
    }

    fn failed(&self, error: &Failure<B>, rows: usize, visible: usize) -> ModelError {
        batch_failure(self.pool.backend(), &self.config, error, rows, visible)
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
        let index = self.pool.backend().index(input)?;
        let (visible, masked) = (self.pixels(input, Patches::Visible)?, self.pixels(input, Patches::Masked)?);
        Ok(Batch { visible, masked, index })
    }

    /// Times what belongs to no pass of the graph.
    fn time(&self, operation: &'static str) -> Option<Timer> {
        Some(self.profile.as_ref()?.time(self.pool.backend(), operation, Pass::Forward, 0))
    }

    fn forward_only(&self) -> Graph<B> {
        Graph::forward_only(&self.pool).profiled(self.profile.clone())
    }

    /// Pixels as the model sees them.
    fn pixels(&self, input: &PatchInput<'_>, patches: Patches) -> Done<B, Value<B>> {
        let _timer = self.time("normalise pixels");
        let mut values = self.pool.alloc(input.pixels(patches).len())?;
        self.pool.backend().normalise(input, patches, &self.scale, &mut values)?;
        Value::new(values)
    }

    /// A loss to add to.
    fn no_loss(&self) -> Done<B, Buffer<B>> {
        let mut loss = self.pool.alloc(1)?;
        self.pool.backend().fill_zero(&mut loss)?;
        Ok(loss)
    }

    /// Loss and gradients of a batch, on top of what is accumulated.
    fn pass(&self, batch: &Batch<B>, before: Option<Accumulated<B>>, weight: f32) -> Done<B, Accumulated<B>> {
        let (mut loss, gradients) = match before {
            Some(Accumulated { loss, gradients }) => (loss, gradients),
            None => (self.no_loss()?, Vec::new()),
        };
        let parameters: Vec<&Value<B>> = self.trained().map(|tensor| &tensor.value).collect();
        let graph = Graph::recording(&self.pool, &parameters, gradients)?;
        let mut graph = graph.profiled(self.profile.clone());
        self.forward(&mut graph, batch, (&mut loss, weight))?;
        Ok(Accumulated { loss, gradients: graph.backward(&parameters)? })
    }

    /// Latent and decoded tokens; the loss is added to one.
    fn forward(
        &self,
        graph: &mut Graph<B>,
        batch: &Batch<B>,
        loss: (&mut Raw<B>, f32),
    ) -> Done<B, (Value<B>, Value<B>)> {
        let mae = Mae::new(&self.config, &self.tensors);
        let latent = mae.encode(graph, &batch.visible, &batch.index)?;
        let decoded = mae.decode(graph, &latent, &batch.index)?;
        mae.loss(graph, &decoded, batch, loss)?;
        Ok((latent, decoded))
    }

    /// Asks for the weights to be moved along what is accumulated, if it is finite.
    fn descend(&mut self, accumulated: &Accumulated<B>, adamw: &AdamW) -> Done<B, B::Verdict> {
        let backend = self.pool.backend();
        let Accumulated { loss, gradients } = accumulated;
        let updates = self.verdicts.back().map_or(Updates::Known(self.updates), Updates::After);
        let verdict = backend.judge(adamw, &updates, loss, gradients.iter().map(|gradient| &**gradient))?;
        let trained = self.tensors.iter_mut().filter(|tensor| tensor.parameter.trained);
        for (tensor, gradient) in trained.zip(gradients) {
            let (weights, decays) = (tensor.value.get_mut(), tensor.parameter.decays);
            backend.adamw(&verdict, decays, weights, gradient, &mut tensor.first, &mut tensor.second)?;
        }
        Ok(verdict)
    }
}

/// Brings batches to an engine's device.
struct EngineUploader<B: Backend> {
    config: MaeConfig,
    backend: B,
    uploader: B::Uploader,
}

impl<B: Backend> Uploader for EngineUploader<B> {
    fn upload(&mut self, input: &PatchInput<'_>) -> Result<Uploaded, ModelError> {
        input::check(&self.config, input)?;
        let visible = input.visible_index.len() / input.rows;
        let uploaded = self.backend.upload(&mut self.uploader, input);
        uploaded.map_err(|error| batch_failure(&self.backend, &self.config, &error, input.rows, visible))
    }
}

/// An error where memory was asked for by the batch, of `rows` images of which `visible` patches are shown.
fn batch_failure<B: Backend>(
    backend: &B,
    config: &MaeConfig,
    error: &Failure<B>,
    rows: usize,
    visible: usize,
) -> ModelError {
    let device_bytes = backend.memory_bytes();
    let fit = |bytes| config.rows_that_fit(bytes, visible).min(rows.saturating_sub(1));
    failure::<B>(error, || ModelError::BatchTooLarge { rows, device_bytes, rows_that_fit: device_bytes.map(fit) })
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

    fn uploader(&self) -> Result<Option<Box<dyn Uploader>>, ModelError> {
        let uploader = self.pool.backend().uploader().map_err(|error| device_error::<B>(&error))?;
        Ok(uploader.map(|uploader| -> Box<dyn Uploader> {
            Box::new(EngineUploader { config: self.config.clone(), backend: self.pool.backend().clone(), uploader })
        }))
    }

    fn accumulate(&mut self, input: &PatchInput<'_>, weight: f32) -> Result<(), ModelError> {
        input::check(&self.config, input)?;
        let before = self.accumulated.take();
        self.accumulated = Some(self.run(input, |engine, batch| engine.pass(&batch, before, weight))?);
        Ok(())
    }

    fn update(&mut self, adamw: &AdamW) -> Result<(), ModelError> {
        let _timer = self.time("AdamW");
        let accumulated = self.accumulated.take().ok_or(ModelError::NoGradient)?;
        let verdict = self.descend(&accumulated, adamw).map_err(|error| device_error::<B>(&error))?;
        self.verdicts.push_back(verdict);
        Ok(())
    }

    fn report(&mut self) -> Result<StepReport, ModelError> {
        let verdict = self.verdicts.pop_front().ok_or(ModelError::NothingToReport)?;
        let read = self.pool.backend().read_verdict(&verdict).map_err(|error| device_error::<B>(&error))?;
        self.updates = read.1;
        Ok(read.0)
    }

    fn discard(&mut self) {
        self.accumulated = None;
    }

    fn evaluate(&mut self, input: &PatchInput<'_>) -> Result<f32, ModelError> {
        self.run(input, |engine, batch| {
            let mut loss = engine.no_loss()?;
            engine.forward(&mut engine.forward_only(), &batch, (&mut loss, 1.0))?;
            Ok(engine.pool.backend().read(&loss)?[0])
        })
    }

    fn predict(&mut self, input: &PatchInput<'_>) -> Result<Prediction, ModelError> {
        self.run(input, |engine, batch| {
            let mut graph = engine.forward_only();
            let mut loss = engine.no_loss()?;
            let (latent, decoded) = engine.forward(&mut graph, &batch, (&mut loss, 1.0))?;
            let mae = Mae::new(&engine.config, &engine.tensors);
            let predicted = mae.predict(&mut graph, &decoded)?.read()?; // (B, 1 + L, P)
            let (tokens, values) = (1 + engine.config.patches(), engine.config.patch_values());
            let patches = predicted.chunks_exact(tokens * values).flat_map(|image| &image[values..]).copied().collect();
            Ok(Prediction { latent: latent.read()?, patches, loss: engine.pool.backend().read(&loss)?[0] })
        })
    }

    fn encode(&mut self, rows: usize, pixels: Pixels<'_>) -> Result<Vec<f32>, ModelError> {
        let patches = self.config.patches();
        input::check_whole(&self.config, rows, pixels)?;
        let visible: Vec<u16> = (0..rows).flat_map(|_| 0..patches).map(|patch| patch as u16).collect();
        let nothing = Pixels::Bytes(&[]);
        let (visible_index, masked_index) = (&visible[..], &[][..]);
        let input = PatchInput { rows, visible: pixels, visible_index, masked: nothing, masked_index, uploaded: None };
        let run = || {
            let index = self.pool.backend().index(&input)?;
            let mae = Mae::new(&self.config, &self.tensors);
            mae.encode(&mut self.forward_only(), &self.pixels(&input, Patches::Visible)?, &index)?.read()
        };
        run().map_err(|error| self.failed(&error, rows, patches))
    }

    fn gradients(&self) -> Result<Vec<NamedTensor>, ModelError> {
        let accumulated = self.accumulated.as_ref().ok_or(ModelError::NoGradient)?;
        let named = self.trained().zip(&accumulated.gradients).map(|(tensor, gradient)| {
            let values = self.pool.backend().read(gradient).map_err(|error| device_error::<B>(&error))?;
            Ok(state::to_checkpoint(&self.config, &tensor.parameter, &values))
        });
        named.collect()
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn set_updates(&mut self, updates: u64) {
        self.verdicts.clear();
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
        self.accumulated = None;
        Ok(())
    }
}
