//! The dependency rules of ARCHITECTURE.md, checked against what cargo resolves.

use std::collections::BTreeSet;
use std::process::Command;

/// Names of all packages that a package is built with, itself included.
fn dependencies(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", package])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo tree runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[track_caller]
fn check(package: &str, needs: &[&str], never: &[&str]) {
    let found = dependencies(package);
    for name in needs {
        assert!(found.contains(*name), "{package} should depend on {name}");
    }
    for name in never {
        assert!(!found.contains(*name), "{package} must not depend on {name}");
    }
}

const TENSORS: &str = "dfdx";
const CODECS: [&str; 2] = ["image", "turbojpeg-sys"];

#[test]
fn datasets_knows_no_codec_no_tensors_and_no_other_crate_of_ours() {
    let never = [TENSORS, "clap", "anyhow", "patchstream-pipeline", "patchstream-model", "patchstream-trainer"];
    check("patchstream-datasets", &["arrow", "parquet", "polars", "object_store", "tokio", "zstd"], &never);
    check("patchstream-datasets", &[], &CODECS);
}

#[test]
fn pipeline_knows_datasets_and_codecs_but_no_tensors() {
    let never = [TENSORS, "clap", "anyhow", "patchstream-model", "patchstream-trainer"];
    check("patchstream-pipeline", &["patchstream-datasets", "arrow", "crossbeam"], &never);
    check("patchstream-pipeline", &CODECS, &[]);
}

#[test]
fn model_knows_tensors_alone() {
    let never = ["patchstream-datasets", "patchstream-pipeline", "patchstream-trainer", "arrow", "parquet", "tokio"];
    check("patchstream-model", &[TENSORS], &never);
}

#[test]
fn trainer_joins_them() {
    let needs = ["patchstream-datasets", "patchstream-pipeline", "patchstream-model", "clap", "tracing-subscriber"];
    check("patchstream-trainer", &needs, &[]);
    check("patchstream-trainer", &["safetensors"], &[]);
}
