//! Other loaders on the same images: `benchmarks/peers.py` knows each of them, and runs as a program of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fs_err as fs;
use patchstream_datasets::Dataset;
use serde::{Deserialize, Serialize};

use crate::cli::BenchArgs;
use crate::commands::human_bytes;

/// The script, so that the program is complete without the repository.
const SCRIPT: &str = include_str!("../../../../benchmarks/peers.py");
/// The script's names of the peers, and the environment in which each is looked for.
const PEERS: [(&str, &str); 10] = [
    ("torchvision-io", "v_torch"),
    ("torchvision-pillow", "v_torch"),
    ("ffcv-jpg", "v_ffcv"),
    ("ffcv-raw", "v_ffcv"),
    ("dali", "v_dali"),
    ("tfdata", "v_tf"),
    ("spdl", "v_spdl"),
    ("webdataset", "v_wds"),
    ("mosaicml", "v_mds"),
    ("litdata", "v_lit"),
];
/// The script's exit code where the peer cannot be imported.
const NOT_INSTALLED: i32 = 3;
/// A peer that takes longer is ended.
const DEADLINE: Duration = Duration::from_mins(30);

/// What became of a peer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub(super) enum PeerResult {
    Measured { name: String, images_per_s: f64, cpu_us_per_image: f64, note: String },
    Failed { name: String, reason: String },
    Missing { name: String },
}

/// What the script prints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    name: String,
    images_per_s: f64,
    cpu_us_per_image: f64,
    note: String,
}

/// Runs all peers on the images of the data set, one after the other.
pub(super) fn peers(
    dataset: &Dataset,
    home: &Path,
    arguments: &BenchArgs,
    workers: usize,
) -> anyhow::Result<Vec<PeerResult>> {
    let folder = std::env::temp_dir().join(format!("patchstream-peers-{}", std::process::id()));
    let _remove = RemoveOnDrop(folder.clone());
    fs::create_dir(&folder)?;
    let images = folder.join("images");
    let bytes = unpack(dataset, &images)?;
    tracing::info!("unpacked {} of images to {} for other loaders", human_bytes(bytes), images.display());
    let script = folder.join("peers.py");
    fs::write(&script, SCRIPT)?;

    let mut results = Vec::new();
    for (peer, environment) in PEERS {
        let own = home.join(environment).join("bin/python");
        // Without a home whatever is installed for everybody is tried.
        let python = if home.as_os_str().is_empty() { PathBuf::from("python3") } else { own };
        if python.is_absolute() && !python.exists() {
            results.push(PeerResult::Missing { name: peer.to_owned() });
            continue;
        }
        tracing::info!("running {peer}");
        let temporary = folder.join(peer);
        fs::create_dir(&temporary)?;
        let mut command = Command::new(python);
        command.arg(&script).arg(peer).arg("--images").arg(&images).arg("--temporary").arg(&temporary);
        command.args(["--workers", &workers.to_string(), "--epochs", &arguments.epochs.to_string()]);
        command.args(["--batch-size", &arguments.batch_size.to_string()]);
        command.args(["--image-px", &arguments.image_px.to_string()]);
        results.push(run(peer, command, &temporary)?);
        fs::remove_dir_all(&temporary)?;
    }
    Ok(results)
}

struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        // What is left in a temporary folder is the system's to remove.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes every image to a folder of its class, as the peers want them; gives the bytes written.
fn unpack(dataset: &Dataset, images: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for group in 0..dataset.manifest().row_groups().len() {
        let group = dataset.read_group(group)?;
        for row in (0..group.rows()).filter_map(|row| group.row(row)) {
            let class = images.join(format!("{:05}", row.label().unwrap_or(0)));
            let extension = Path::new(row.path()).extension().and_then(|extension| extension.to_str()).unwrap_or("jpg");
            fs::create_dir_all(&class)?;
            fs::write(class.join(format!("{:09}.{extension}", row.sample_id())), row.bytes())?;
            row.check()?;
            bytes += row.bytes().len() as u64;
        }
    }
    Ok(bytes)
}

fn run(peer: &str, mut command: Command, temporary: &Path) -> anyhow::Result<PeerResult> {
    let name = peer.to_owned();
    let (out, errors) = (temporary.join("out.json"), temporary.join("errors.txt"));
    command.stdin(Stdio::null());
    command.stdout(fs::File::create(&out)?.into_file()).stderr(fs::File::create(&errors)?.into_file());
    let Ok(child) = command.spawn() else { return Ok(PeerResult::Missing { name }) };
    let Some(status) = wait(child)? else {
        return Ok(PeerResult::Failed { name, reason: format!("not done after {DEADLINE:?}") });
    };
    if status.code() == Some(NOT_INSTALLED) {
        return Ok(PeerResult::Missing { name });
    }
    let text = fs::read_to_string(&out)?;
    if let (true, Some(Ok(measured))) = (status.success(), text.lines().last().map(serde_json::from_str::<Measured>)) {
        let Measured { name, images_per_s, cpu_us_per_image, note } = measured;
        return Ok(PeerResult::Measured { name, images_per_s, cpu_us_per_image, note });
    }
    let errors = String::from_utf8_lossy(&fs::read(&errors)?).into_owned();
    let reason = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no result").to_owned();
    Ok(PeerResult::Failed { name, reason })
}

/// Waits for a peer; nothing when it had to be ended.
fn wait(mut child: Child) -> anyhow::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > DEADLINE {
            child.kill().context("ending a peer that takes too long")?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
