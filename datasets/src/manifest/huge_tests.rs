//! A data set of a billion images, which is planned by its manifest alone.

use std::io::BufWriter;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::*;
use crate::dataset::Dataset;
use crate::plan::{EpochPlan, Shuffle};

/// Tells the test below where the manifest lies.
const FOLDER: &str = "PATCHSTREAM_TEST_HUGE";
const ROWS: u64 = 1_000_000_000;
/// As many JPEGs of 130 KB as fit into a row group of 16 MiB, and row groups as fit into a shard of 256 MiB.
const GROUP_ROWS: u32 = 128;
const SHARD_GROUPS: u64 = 16;

fn write_manifest(folder: &Path) {
    let mut file: Arc<str> = Arc::from("");
    let entries = (0..ROWS / u64::from(GROUP_ROWS)).map(|group| {
        if group % SHARD_GROUPS == 0 {
            file = format!("train-{:05}.parquet", group / SHARD_GROUPS).into();
        }
        RowGroupEntry {
            file: file.clone(),
            offset: 4 + (group % SHARD_GROUPS) * (16 << 20),
            length: (16 << 20) - group % 1000,
            rows: GROUP_ROWS,
            image_bytes: 16_000_000,
            xxh3: group.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            first_sample_id: 0,
            row_group: 0,
        }
    });
    let manifest = Manifest::new(entries.collect(), Vec::new(), serde_json::Value::Null, None).unwrap();
    let file = fs_err::File::create(folder.join(MANIFEST_FILE)).unwrap();
    manifest.write(BufWriter::new(file)).unwrap();
}

/// The most memory that this process ever had, in bytes.
fn resident_bytes_max() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes * 1024
}

#[test]
#[ignore = "half of the test below, which runs it in a process of its own to see how much memory it takes"]
#[expect(clippy::print_stdout, reason = "the other half reads it")]
fn plan_in_this_process() {
    let dataset = Dataset::open(&std::env::var(FOLDER).unwrap()).unwrap();
    let plan = EpochPlan::new(dataset.manifest(), 7, 0, Shuffle::Window(NonZeroUsize::new(64).unwrap()));
    assert_eq!(plan.rows(), ROWS);
    for position in [0, ROWS / 3, ROWS - 1] {
        let window = plan.window(plan.window_of(position));
        assert!(window.row_at(position).1 < GROUP_ROWS);
    }
    let used = resident_bytes_max();
    assert!(used < 1 << 30, "planning took {} MiB", used >> 20);
    println!("planned {ROWS} rows within {} MiB", used >> 20);
}

#[test]
fn a_billion_rows_are_planned_within_a_gibibyte() {
    let folder = tempfile::tempdir().unwrap();
    write_manifest(folder.path());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "manifest::huge_tests::plan_in_this_process", "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("planned 1000000000 rows"), "{said}{errors}");
}
