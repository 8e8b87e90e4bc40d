//! Speed of the pipeline alone, in JSON, on a folder of images that becomes shards beforehand:
//! `throughput FOLDER [WORKERS] [exact|fast] [EPOCHS]`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use patchstream_datasets::{ConvertOptions, Cursor, Dataset, LastBatch, Schedule, Share, Shuffle, convert, sources};
use patchstream_pipeline::{DecodeMode, Examiner, PatchGrid, PatchStream, PipelineConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize| arguments.get(index).map(String::as_str);
    let folder = argument(0).ok_or("expected a folder of images")?;
    let workers: NonZeroUsize = argument(1).unwrap_or("2").parse()?;
    let decode = if argument(2) == Some("fast") { DecodeMode::Fast } else { DecodeMode::Exact };
    let epochs: u64 = argument(3).unwrap_or("100").parse()?;

    let source = sources::open(folder, &sources::SourceOptions::default())?;
    let directory = tempfile::tempdir()?;
    let shards = directory.path().join("shards");
    convert(source.as_ref(), &shards, &ConvertOptions::default(), &Examiner::default(), &|_| ())?;
    let dataset = Arc::new(Dataset::open(&shards.to_string_lossy())?);

    let schedule = Schedule {
        seed: 0,
        shuffle: Shuffle::Window(NonZeroUsize::MIN.saturating_add(7)),
        batch_size: NonZeroUsize::MIN.saturating_add(63),
        share: Share { rank: 0, world: NonZeroUsize::MIN },
        last_batch: LastBatch::Keep,
        start: Cursor { epoch: 0, batch: 0 },
        end_epoch: Some(epochs),
    };
    let config = PipelineConfig { workers, decode, ..PipelineConfig::for_grid(PatchGrid::new(224, 224, 16)?) };
    let begin = Instant::now();
    let mut stream = PatchStream::start(dataset, schedule, &config)?;
    let mut images = 0;
    for batch in stream.by_ref() {
        images += batch?.rows();
    }
    let snapshot = stream.snapshot();
    let report = serde_json::json!({
        "images_per_s": images as f64 / begin.elapsed().as_secs_f64(),
        "cpu_us_per_image": snapshot.worker_cpu_ns as f64 / 1e3 / images as f64,
        "snapshot": snapshot,
    });
    std::io::Write::write_all(&mut std::io::stdout(), format!("{report:#}\n").as_bytes())?;
    Ok(())
}
