//! Batches for the engine: a thread takes them from the pipeline and starts to bring each to the device while steps before it
//! are computed. One batch is ready, the thread has hold of it until it is taken.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use patchstream_datasets::Stopper;
use patchstream_model::{Engine, PatchInput, Uploaded, UploadedRows, Uploader};
use patchstream_pipeline::{PatchBatch, PatchStream, PipelineSnapshot, Probe};

use super::patch_input;

/// The consumer's end of the thread. Dropping it ends the pipeline; what was not taken has not been used.
pub(crate) struct Feed {
    /// Nothing while the feed is being dropped.
    batches: Option<Receiver<anyhow::Result<Fed>>>,
    stopper: Option<Stopper>,
    probe: Probe,
    thread: Option<JoinHandle<()>>,
}

/// A batch, and itself on the device where the engine wants it there. It should live no longer than it takes to ask for its
/// step: the device has room for one more.
pub(crate) struct Fed {
    pub(crate) batch: PatchBatch,
    uploaded: Option<Uploaded>,
}

impl Fed {
    pub(crate) fn input(&self) -> PatchInput<'_> {
        let uploaded = self.uploaded.as_ref().map(|batch| UploadedRows { batch, first: 0 });
        PatchInput { uploaded, ..patch_input(&self.batch) }
    }
}

impl Feed {
    /// Starts to take batches for this engine.
    pub(crate) fn start(stream: PatchStream, engine: &dyn Engine) -> anyhow::Result<Self> {
        let mut uploader = engine.uploader()?;
        let (stopper, probe) = (stream.stopper(), stream.probe());
        // Without room: whatever is in it would be one batch more in memory.
        let (send, batches) = sync_channel(0);
        let run = move || {
            for outcome in stream {
                let fed = outcome.map_err(anyhow::Error::from).and_then(|batch| upload(uploader.as_deref_mut(), batch));
                let failed = fed.is_err();
                // Nobody takes it where the run has ended.
                if send.send(fed).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(run).context("starting a thread")?;
        Ok(Self { batches: Some(batches), stopper, probe, thread: Some(thread) })
    }

    /// The next batch of the plan, which must not be at its end.
    pub(crate) fn next(&mut self) -> anyhow::Result<Fed> {
        self.batches.as_ref().and_then(|batches| batches.recv().ok()).context("the pipeline ended early")?
    }

    /// What the pipeline has done so far.
    pub(crate) fn snapshot(&self) -> PipelineSnapshot {
        self.probe.snapshot()
    }
}

fn upload(uploader: Option<&mut (dyn Uploader + 'static)>, batch: PatchBatch) -> anyhow::Result<Fed> {
    let uploaded = uploader.map(|uploader| uploader.upload(&patch_input(&batch))).transpose()?;
    Ok(Fed { batch, uploaded })
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.batches = None;
        // The thread may wait for a read that takes long.
        if let Some(stopper) = &self.stopper {
            stopper.stop();
        }
        if let Some(thread) = self.thread.take() {
            // A panic there has been told as the pipeline's early end.
            let _ = thread.join();
        }
    }
}
