//! What a person gets to read when something is wrong: one error, exit code 1, nothing half-written.

use std::path::Path;
use std::process::Command;

use crate::main_job::pretrain;
use crate::support::{Sandbox, contents, data, photos};

/// Runs a command that must fail and holds what it says against the snapshot of this name.
#[track_caller]
fn check(name: &str, sandbox: &Sandbox, arguments: &[&str]) {
    insta::assert_snapshot!(name, sandbox.fail(arguments));
}

#[test]
fn sources_that_are_no_image_data_set() {
    let sandbox = Sandbox::new();
    check("source_missing", &sandbox, &["convert", "nowhere", "shards"]);
    fs_err::create_dir(sandbox.path("empty")).expect("a folder");
    check("source_empty", &sandbox, &["convert", "empty", "shards"]);
    sandbox.write("texts/README.md", b"hello");
    check("source_without_images", &sandbox, &["convert", "texts", "shards"]);
    sandbox.write("list.csv", b"where\x1b[2J,what\nphoto.jpg,cat\n");
    check("list_without_paths", &sandbox, &["convert", "list.csv", "shards"]);
    sandbox.write("list.csv", b"path,what\nphoto.jpg,cat,dog\n");
    check("list_with_odd_rows", &sandbox, &["convert", "list.csv", "shards"]);
    assert!(!sandbox.path("shards").exists());
}

#[test]
fn an_output_that_is_already_there() {
    let sandbox = Sandbox::with_shards();
    let before = contents(&sandbox.path("shards"));
    check("destination_differs", &sandbox, &["convert", &photos(), "shards", "--seed", "1"]);
    let text = sandbox.succeed(&["convert", &photos(), "shards"]);
    assert!(text.contains("nothing to do"), "{text}");
    assert!(before == contents(&sandbox.path("shards")));
    sandbox.write("letters/dear.txt", b"do not lose me");
    check("destination_exists", &sandbox, &["convert", &photos(), "letters"]);
    check("destination_is_no_data_set", &sandbox, &["convert", &photos(), "letters", "--overwrite"]);
    assert!(sandbox.path("letters/dear.txt").exists());
    sandbox.succeed(&pretrain("run", &["--set", "train.steps=1"]));
    check("run_exists", &sandbox, &pretrain("run", &[]));
}

#[test]
fn a_bad_image_can_stop_a_conversion() {
    let sandbox = Sandbox::new();
    sandbox.write("mixed/good.jpg", &fs_err::read(data("photos/animals/chelsea.jpg")).expect("a photograph"));
    sandbox.write("mixed/rubbish.jpg", b"this is no photograph");
    check("bad_image", &sandbox, &["convert", "mixed", "shards", "--on-bad", "fail"]);
    check("too_many_bad_images", &sandbox, &["convert", "mixed", "shards", "--max-bad", "0"]);
    assert!(!sandbox.path("shards").exists());
}

#[test]
fn data_sets_that_are_damaged() {
    let sandbox = Sandbox::with_shards();
    check("data_missing", &sandbox, &["inspect", "nowhere"]);
    fs_err::create_dir(sandbox.path("empty")).expect("a folder");
    check("data_without_manifest", &sandbox, &["bench", "--data", "empty"]);

    let shard = sandbox.path("shards/train-00000.parquet");
    let whole = fs_err::read(&shard).expect("a shard");
    fs_err::write(&shard, &whole[..whole.len() / 2]).expect("a shard");
    check("shard_truncated", &sandbox, &["bench", "--data", "shards"]);
    check("shard_truncated_in_training", &sandbox, &pretrain("run", &["--set", "train.steps=2"]));

    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs_err::write(&shard, &flipped).expect("a shard");
    check("shard_damaged", &sandbox, &["inspect", "shards", "--verify", "--quiet"]);

    fs_err::remove_file(&shard).expect("a shard");
    check("shard_missing", &sandbox, &["bench", "--data", "shards"]);

    fs_err::write(sandbox.path("shards/manifest.parquet"), b"PAR1 rubbish PAR1").expect("a manifest");
    check("manifest_damaged", &sandbox, &["inspect", "shards"]);
}

/// The pipeline is ahead of the training: its errors may take nothing along of the steps before them.
#[test]
fn an_error_of_the_pipeline_ends_a_run_behind_the_last_good_batch() {
    let sandbox = Sandbox::new();
    let files = contents(Path::new(&photos())).into_iter().filter(|(name, _)| name.extension() == Some("jpg".as_ref()));
    for (name, bytes) in files {
        sandbox.write(&format!("photos/{}", name.display()), &bytes);
        sandbox.write("photos/half.jpg", &bytes[..bytes.len() / 2]);
    }
    sandbox.succeed(&["convert", "photos", "shards", "--quiet"]);
    let settings = ["train.batch_size=2", "train.steps=6", "data.max_bad.count=0", "data.max_bad.fraction=0"];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    let error = sandbox.fail(&pretrain("run", &settings));
    assert!(error.contains("bad samples"), "{error}");
    // In the plan of this seed, the bad image is in the sixth batch.
    let metrics = fs_err::read_to_string(sandbox.path("run/metrics.jsonl")).expect("metrics");
    assert_eq!(metrics.lines().count(), 5, "{metrics}");
}

#[test]
fn configurations_that_cannot_be() {
    let sandbox = Sandbox::with_shards();
    let mut said = String::new();
    let cases: [&[&str]; 12] = [
        &["--set", "train.batchsize=4"],
        &["--set", "trian.batch_size=4"],
        &["--set", "train.batch_size=many"],
        &["--set", "train.batch_size=0"],
        &["--set", "train.batch_size=4096"],
        &["--set", "train.lr=-1"],
        &["--set", "mask.ratio=1.5"],
        &["--set", "mask.kind=blok"],
        &["--set", "model.image_width_px=33"],
        &["--set", "model.encoder.heads=5"],
        &["--set", "train.batch_size"],
        &["--config", "nowhere.toml"],
    ];
    for case in cases {
        let arguments = [&["pretrain", "--data", "shards", "--out", "run"], case].concat();
        said += &format!("$ patchstream pretrain {}\n{}\n", case.join(" "), sandbox.fail(&arguments));
        assert!(!sandbox.path("run").exists(), "{case:?} left a folder");
    }
    insta::assert_snapshot!("configurations", said);
}

#[test]
fn words_that_the_command_line_does_not_know() {
    let sandbox = Sandbox::new();
    check("unknown_command", &sandbox, &["pretrian"]);
    check("unknown_option", &sandbox, &["bench", "--data", "shards", "--worker", "2"]);
    check("unknown_model", &sandbox, &["pretrain", "--data", "shards", "--out", "run", "--model", "vit_gigantic"]);
    check("nothing_to_resume", &sandbox, &["pretrain", "--out", "run", "--resume"]);
    check("no_checkpoint", &sandbox, &["reconstruct", "--checkpoint", "run", "--data", "shards", "--out", "p.png"]);
}

#[test]
fn a_checkpoint_of_another_model() {
    let sandbox = Sandbox::with_shards();
    sandbox.succeed(&pretrain("run", &["--set", "train.steps=1"]));
    check("resume_another_model", &sandbox, &["pretrain", "--out", "run", "--resume", "--model", "vit_tiny"]);
}

#[test]
fn an_output_that_cannot_be_written() {
    let sandbox = Sandbox::with_shards();
    sandbox.write("file", b"not a folder");
    check("convert_below_a_file", &sandbox, &["convert", &photos(), "file/shards"]);
    check("pretrain_below_a_file", &sandbox, &pretrain("file/run", &[]));
    sandbox.succeed(&pretrain("run", &["--set", "train.steps=1"]));
    let picture = ["reconstruct", "--checkpoint", "run", "--data", "shards", "--out", "nowhere/picture.png"];
    check("picture_in_no_folder", &sandbox, &picture);
}

/// A full and a read-only disk, as small file systems of the test's own. Where the kernel lets nobody mount any, the
/// commands cannot be tried, and the test says so.
#[test]
#[expect(clippy::print_stderr, reason = "a test that was skipped must say so")]
fn disks_that_are_full_or_read_only() {
    let sandbox = Sandbox::with_shards();
    fs_err::create_dir(sandbox.path("disk")).expect("a folder");
    let script = |options: &str, command: &str| {
        let program = env!("CARGO_BIN_EXE_patchstream");
        format!(
            "mount -t tmpfs -o {options} tmpfs disk && {{ {program} {command}; echo \"exit $?\" >&2; ls -A disk >&2; }}"
        )
    };
    let try_on = |options: &str, command: &str| {
        let output = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", &script(options, command)])
            .current_dir(sandbox.path(""))
            .output()
            .expect("unshare runs");
        let errors = String::from_utf8_lossy(&output.stderr).replace(&*sandbox.path("").to_string_lossy(), "SANDBOX/");
        (!errors.contains("unshare:") && !errors.contains("mount:")).then_some(errors)
    };
    let Some(full) = try_on("size=512k", &format!("convert {} disk/shards --quiet", photos())) else {
        eprintln!("skipped: this kernel lets the test mount nothing");
        return;
    };
    insta::assert_snapshot!("disk_full", full);
    let small = pretrain("disk/run", &["--set", "train.steps=1"]).join(" ");
    insta::assert_snapshot!("disk_full_for_a_checkpoint", try_on("size=64k", &small).expect("mounted before"));
    let read_only = format!("convert {} disk/shards --quiet", photos());
    insta::assert_snapshot!("disk_read_only", try_on("ro", &read_only).expect("mounted before"));
}
