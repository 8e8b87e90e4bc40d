//! Compiles the kernels of the CUDA backend to PTX, which the program carries. Does nothing without the feature `cuda`; with
//! `cuda-check`, it stands an empty file in, so that everything type-checks without a CUDA toolkit.

#![allow(
    clippy::disallowed_methods,
    reason = "a crate for the text of errors is not worth building for a build script"
)]

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The oldest devices that the kernels run on; the driver compiles them for newer ones.
const ARCHITECTURE: &str = "compute_80";
const KERNELS: &str = "src/cuda/kernels.cu";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed={KERNELS}");
    let out: PathBuf = env::var_os("OUT_DIR").expect("cargo names a folder").into();
    let ptx = out.join("kernels.ptx");
    if env::var_os("CARGO_FEATURE_CUDA_CHECK").is_some() {
        std::fs::write(&ptx, "").expect("the folder can be written to");
        println!("cargo::rustc-env=PATCHSTREAM_CUDA_VERSION=13.0");
        return;
    }
    let compiled = Command::new("nvcc")
        .args(["--ptx", "--gpu-architecture", ARCHITECTURE, "--output-file"])
        .arg(&ptx)
        .arg(KERNELS)
        .status();
    let success = compiled.as_ref().is_ok_and(std::process::ExitStatus::success);
    assert!(
        success,
        "nvcc could not compile {KERNELS} ({compiled:?}); the README says how to get a CUDA toolkit in one command"
    );
    println!("cargo::rustc-env=PATCHSTREAM_CUDA_VERSION={}", nvcc_version());
}

/// As in "Cuda compilation tools, release 13.0, V13.0.88".
fn nvcc_version() -> String {
    let output = Command::new("nvcc").arg("--version").output().expect("nvcc has just run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split("release ").nth(1).and_then(|rest| rest.split(',').next());
    version.expect("nvcc tells its release").trim().to_owned()
}
