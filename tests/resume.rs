//! A run that was stopped and continued equals one that never was.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::main_job::pretrain;
use crate::support::{Sandbox, contents};

fn weights(sandbox: &Sandbox, run: &str, step: u64) -> Vec<u8> {
    let folder = sandbox.path(&format!("{run}/checkpoints/step-{step:08}"));
    fs_err::read(folder.join("weights.safetensors")).expect("weights")
}

/// What a run wrote of its steps that does not depend on time.
fn metrics(sandbox: &Sandbox, run: &str) -> Vec<[serde_json::Value; 4]> {
    let metrics = fs_err::read_to_string(sandbox.path(run).join("metrics.jsonl")).expect("metrics");
    let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    metrics.lines().map(|text| ["step", "loss", "gradient_norm", "digest"].map(|key| line(text)[key].take())).collect()
}

/// Starts a run, sends it a signal after a while, and gives back what it said.
fn stop_after(sandbox: &Sandbox, arguments: &[&str], signal: &str, wait: Duration) -> Output {
    let child = sandbox.command(arguments).spawn().expect("the program starts");
    std::thread::sleep(wait);
    let pid = child.id().to_string();
    // A run that is done already cannot be killed, which is as good.
    let _ = Command::new("kill").args([signal, &pid]).stderr(std::process::Stdio::null()).status().expect("kill runs");
    child.wait_with_output().expect("the program ends")
}

/// Checkpoints and log lines at steps that have nothing to do with each other.
const LENGTH: [&str; 8] = [
    "--set",
    "train.steps=200",
    "--set",
    "checkpoint.every_steps=7",
    "--set",
    "train.log_every=10",
    "--set",
    "checkpoint.keep=1",
];

#[test]
fn killing_at_ten_random_moments_changes_no_bit() {
    let sandbox = Sandbox::with_shards();
    let started = Instant::now();
    sandbox.succeed(&pretrain("straight", &LENGTH));
    let whole = started.elapsed();

    // Different in each run of the test, and printed with a failure.
    let mut state = u64::from(std::process::id()) | 1;
    let mut waits = Vec::new();
    for (kill, workers) in (0..10).zip([1, 2, 3, 4, 5].into_iter().cycle()) {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        // Now and then before the first step, mostly during the steps.
        let wait = whole.mul_f64((state >> 40) as f64 / f64::from(1 << 24) * 0.4);
        waits.push(wait);
        let workers = format!("data.workers={workers}");
        let arguments = pretrain("killed", &[&LENGTH[..], &["--resume", "auto", "--set", &workers]].concat());
        let signal = ["-KILL", "-KILL", "-TERM", "-INT"][kill % 4];
        let output = stop_after(&sandbox, &arguments, signal, wait);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!errors.contains("panicked"), "{waits:?}: {errors}");
    }
    sandbox.succeed(&pretrain("killed", &[&LENGTH[..], &["--resume", "auto"]].concat()));
    assert!(weights(&sandbox, "straight", 200) == weights(&sandbox, "killed", 200), "{waits:?}");
    assert_eq!(metrics(&sandbox, "straight"), metrics(&sandbox, "killed"), "{waits:?}");

    let report = sandbox.succeed_json(&["verify", "killed", "--workers", "3", "--json"]);
    assert_eq!((&report["steps"], &report["images"], &report["compared"]), (&200.into(), &1600.into(), &20.into()));
}

/// On a small file system of the test's own; where the kernel lets nobody mount one, the test says so.
#[test]
#[expect(clippy::print_stderr, reason = "a test that was skipped must say so")]
fn a_disk_that_was_full_changes_no_bit() {
    let sandbox = Sandbox::with_shards();
    let length = ["--set", "train.steps=12", "--set", "checkpoint.every_steps=5", "--set", "train.log_every=3"];
    sandbox.succeed(&pretrain("straight", &length));
    let checkpoint = contents(&sandbox.path("straight/checkpoints/step-00000012"));
    let bytes: usize = checkpoint.iter().map(|(_, bytes)| bytes.len()).sum();

    // One checkpoint fits and a second does not, until there is more room.
    fs_err::create_dir(sandbox.path("disk")).expect("a folder");
    let command = pretrain("disk/run", &[&length[..], &["--resume", "auto"]].concat()).join(" ");
    let program = env!("CARGO_BIN_EXE_patchstream");
    let script = format!(
        "mount -t tmpfs -o size={} tmpfs disk && {program} {command}; echo \"exit $?\" >&2; ls disk/run/checkpoints >&2;
         mount -o remount,size=64m disk && {program} {command} && cp -r disk/run resumed",
        bytes * 3 / 2
    );
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(sandbox.path(""))
        .output()
        .expect("unshare runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("unshare:") || errors.contains("mount:") {
        eprintln!("skipped: this kernel lets the test mount nothing");
        return;
    }
    assert!(errors.contains("checkpoint of step 10 could not be written"), "{errors}");
    assert!(errors.contains("exit 1\nstep-00000005\n"), "{errors}");
    assert!(weights(&sandbox, "straight", 12) == weights(&sandbox, "resumed", 12));
    assert_eq!(metrics(&sandbox, "straight"), metrics(&sandbox, "resumed"));
}

#[test]
fn verify_tells_a_run_that_saw_something_else() {
    let sandbox = Sandbox::with_shards();
    sandbox.succeed(&pretrain("run", &["--set", "train.steps=4"]));
    assert!(sandbox.succeed(&["verify", "run"]).contains("4 digests agree"));
    let path = sandbox.path("run/metrics.jsonl");
    let text = fs_err::read_to_string(&path).expect("metrics");
    let line: serde_json::Value = serde_json::from_str(text.lines().nth(2).expect("a third line")).expect("JSON");
    let digest = line["digest"].as_str().expect("a digest");
    fs_err::write(&path, text.replace(digest, "0123456789abcdef")).expect("metrics");
    let error = sandbox.fail(&["verify", "run"]);
    assert!(error.contains("between steps 2 and 3 its batches differ") && error.contains("metrics.jsonl:3"), "{error}");
}

#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let sandbox = Sandbox::with_shards();
    let mut child =
        sandbox.command(&pretrain("run", &["--set", "train.steps=100000", "--set", "checkpoint.every_minutes=1e-4"]));
    let child = child.spawn().expect("the program starts");
    let started = Instant::now();
    while !sandbox.path("run/checkpoints").exists() {
        assert!(started.elapsed() < Duration::from_mins(1), "no checkpoint came");
        std::thread::sleep(Duration::from_millis(2));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    let output = child.wait_with_output().expect("the program ends");
    assert_eq!(output.status.code(), Some(1), "an interrupted run has not succeeded");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("interrupted after step") && errors.contains("--out run --resume"), "{errors}");
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
fn only_the_newest_checkpoints_and_every_third_stay() {
    let sandbox = Sandbox::with_shards();
    let keep = ["checkpoint.every_steps=1", "checkpoint.keep=2", "checkpoint.keep_every_steps=3"];
    let more: Vec<&str> = keep.iter().flat_map(|setting| ["--set", *setting]).collect();
    sandbox.succeed(&pretrain("run", &[&["--set", "train.steps=9"], &more[..]].concat()));
    let mut names: Vec<_> = fs_err::read_dir(sandbox.path("run/checkpoints"))
        .expect("checkpoints")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["step-00000003", "step-00000006", "step-00000008", "step-00000009"]);
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
