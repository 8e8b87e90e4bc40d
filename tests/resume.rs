//! A run that was stopped and continued equals one that never was.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::main_job::pretrain;
use crate::support::{Sandbox, contents};

fn weights(sandbox: &Sandbox, run: &str, step: u64) -> Vec<u8> {
    let folder = sandbox.path(&format!("{run}/checkpoints/step-{step:08}"));
    fs_err::read(folder.join("weights.safetensors")).expect("weights")
}

#[test]
fn stopping_and_going_on_changes_no_bit() {
    let sandbox = Sandbox::with_shards();
    let length = ["--set", "train.steps=300", "--set", "checkpoint.every_steps=7"];
    sandbox.succeed(&pretrain("straight", &length));

    let mut child = sandbox.command(&pretrain("stopped", &length)).spawn().expect("the program starts");
    let started = Instant::now();
    while !sandbox.path("stopped/checkpoints/step-00000014").exists() {
        assert!(started.elapsed() < Duration::from_mins(1), "no checkpoint came");
        std::thread::sleep(Duration::from_millis(2));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let status = child.wait().expect("the program ends");
    assert_eq!(status.code(), Some(1), "an interrupted run has not succeeded");

    let resumed = ["pretrain", "--out", "stopped", "--resume", "--quiet", "--set", "data.workers=5"];
    let text = sandbox.succeed(&resumed);
    assert!(text.contains("resume  step"), "{text}");
    assert!(weights(&sandbox, "straight", 300) == weights(&sandbox, "stopped", 300));
    let losses = |run: &str| {
        let metrics = fs_err::read_to_string(sandbox.path(run).join("metrics.jsonl")).expect("metrics");
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        metrics.lines().map(|text| (line(text)["step"].clone(), line(text)["loss"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(losses("straight"), losses("stopped"));
}

#[test]
fn resuming_a_finished_run_changes_nothing() {
    let sandbox = Sandbox::with_shards();
    sandbox.succeed(&pretrain("run", &["--set", "train.steps=3"]));
    let before = contents(&sandbox.path("run"));
    sandbox.succeed(&["pretrain", "--out", "run", "--resume", "--quiet"]);
    assert!(before == contents(&sandbox.path("run")));
}

#[test]
fn only_the_newest_checkpoints_stay() {
    let sandbox = Sandbox::with_shards();
    let more = ["--set", "train.steps=9", "--set", "checkpoint.every_steps=2", "--set", "checkpoint.keep=2"];
    sandbox.succeed(&pretrain("run", &more));
    let mut names: Vec<_> = fs_err::read_dir(sandbox.path("run/checkpoints"))
        .expect("checkpoints")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["step-00000008", "step-00000009"]);
}

#[test]
fn what_gives_a_run_another_meaning_is_refused() {
    let sandbox = Sandbox::with_shards();
    sandbox.succeed(&pretrain("run", &["--set", "train.steps=2"]));
    let error = sandbox.fail(&["pretrain", "--out", "run", "--resume", "--set", "train.lr=1e-4"]);
    assert!(error.contains("`train.lr` cannot change"), "{error}");
    sandbox.succeed(&["convert", &crate::support::photos(), "other", "--seed", "1", "--quiet"]);
    let error = sandbox.fail(&["pretrain", "--out", "run", "--resume", "--data", "other"]);
    assert!(error.contains("not the data set of this run"), "{error}");
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let sandbox = Sandbox::with_shards();
    sandbox.succeed(&pretrain("run", &["--set", "train.steps=2"]));
    let path = sandbox.path("run/checkpoints/step-00000002/weights.safetensors");
    let mut bytes = fs_err::read(&path).expect("weights");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&path, bytes).expect("weights");
    let error = sandbox.fail(&["reconstruct", "--checkpoint", "run", "--data", "shards", "--out", "p.png"]);
    assert!(error.contains("is damaged: expected XXH3"), "{error}");
    assert!(!sandbox.path("p.png").exists());
}
