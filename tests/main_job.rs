//! The main job, end to end: photographs in, a trained model and its reconstructions out.

use serde_json::Value;

use crate::support::{Sandbox, contents, data, photos};

/// Settings for a model that takes milliseconds a step.
pub(crate) const SMALL: [&str; 16] = [
    "--set",
    "train.batch_size=8",
    "--set",
    "train.log_every=1",
    "--set",
    "model.encoder.depth=1",
    "--set",
    "model.decoder.depth=1",
    "--set",
    "model.encoder.width=48",
    "--set",
    "model.decoder.width=48",
    "--set",
    "train.lr=2e-3",
    "--set",
    "data.shuffle_window=2",
];

pub(crate) fn pretrain<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["pretrain", "--data", "shards", "--out", out, "--quiet"], &SMALL[..], more].concat()
}

#[test]
fn photographs_become_a_model_and_a_picture() {
    let sandbox = Sandbox::new();
    let converted = sandbox.succeed_json(&["convert", &photos(), "shards", "--json", "--quiet"]);
    assert_eq!(converted["rows"], 12);
    assert_eq!(converted["bad"], 0);

    let inspected = sandbox.succeed_json(&["inspect", "shards", "--json"]);
    assert_eq!(inspected["rows"], 12);
    sandbox.succeed(&["inspect", "shards", "--verify", "--quiet"]);

    sandbox.succeed(&pretrain("run", &["--set", "train.steps=60"]));
    let metrics = fs_err::read_to_string(sandbox.path("run/metrics.jsonl")).expect("metrics");
    let lines: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mean = |lines: &[Value]| {
        lines.iter().map(|line| line["loss"].as_f64().expect("a loss")).sum::<f64>() / lines.len() as f64
    };
    assert_eq!(lines.len(), 60);
    for key in ["step", "epoch", "loss", "lr", "images_per_s", "data_wait_share"] {
        assert!(lines.iter().all(|line| line[key].is_number()), "{key} is missing");
    }
    let (first, last) = (mean(&lines[..5]), mean(&lines[55..]));
    assert!(last < 0.9 * first, "the loss should fall: it went from {first} to {last}");

    let report = sandbox.succeed_json(&[
        "reconstruct",
        "--checkpoint",
        "run",
        "--data",
        "shards",
        "--out",
        "picture.png",
        "--images",
        "6",
        "--json",
    ]);
    assert_eq!(report["images"], 6);
    assert_eq!(report["step"], 60);
    let picture = image::open(sandbox.path("picture.png")).expect("a PNG");
    assert!(picture.width() >= 3 * 128 && picture.height() >= 128, "{}x{}", picture.width(), picture.height());
}

#[test]
fn awkward_files_go_all_the_way() {
    let sandbox = Sandbox::new();
    let odd = data("odd").to_string_lossy().into_owned();
    let converted = sandbox.succeed_json(&["convert", &odd, "shards", "--check", "decode", "--json", "--quiet"]);
    assert_eq!((&converted["rows"], &converted["bad"]), (&7.into(), &0.into()), "{converted}");
    sandbox.succeed(&["inspect", "shards", "--verify", "--quiet"]);
    sandbox.succeed(&pretrain("run", &["--set", "train.steps=3", "--set", "train.batch_size=7"]));
    assert_eq!(fs_err::read_to_string(sandbox.path("run/quarantine.jsonl")).unwrap_or_default(), "");
}

#[test]
fn conversion_gives_the_same_bytes_for_any_number_of_workers() {
    let sandbox = Sandbox::new();
    for workers in ["1", "2", "5"] {
        let arguments = ["convert", &photos(), workers, "--workers", workers, "--row-group-mib", "1", "--quiet"];
        sandbox.succeed(&arguments);
    }
    let one = contents(&sandbox.path("1"));
    assert!(one.len() >= 2);
    assert!(one == contents(&sandbox.path("2")) && one == contents(&sandbox.path("5")));
}

#[test]
fn a_corrupt_image_among_good_ones_is_written_down_and_the_run_goes_on() {
    let sandbox = Sandbox::new();
    for (name, bytes) in contents(&data("photos/animals")).into_iter().chain(contents(&data("photos/space"))) {
        sandbox.write(&format!("mixed/{}", name.display()), &bytes);
    }
    let whole = fs_err::read(data("photos/medical/retina.jpg")).expect("a photograph");
    sandbox.write("mixed/truncated.jpg", &whole[..whole.len() / 3]);
    sandbox.write("mixed/rubbish.jpg", b"this is no photograph");

    let converted = sandbox.succeed_json(&["convert", "mixed", "shards", "--json", "--quiet"]);
    assert_eq!((&converted["rows"], &converted["bad"]), (&6.into(), &1.into()), "{converted}");
    let arguments =
        pretrain("run", &["--set", "train.steps=4", "--set", "train.batch_size=5", "--set", "data.max_bad.count=3"]);
    sandbox.succeed(&arguments);
    let ledger = fs_err::read_to_string(sandbox.path("run/quarantine.jsonl")).expect("a ledger");
    assert!(ledger.contains("truncated.jpg"), "{ledger}");

    let strict = sandbox
        .fail(&pretrain("strict", &["--set", "train.batch_size=5", "--set", "data.max_bad={count=0,fraction=0}"]));
    assert!(strict.contains("truncated.jpg") || strict.contains("bad"), "{strict}");

    let decoded = sandbox.succeed_json(&["convert", "mixed", "checked", "--check", "decode", "--json", "--quiet"]);
    assert_eq!((&decoded["rows"], &decoded["bad"]), (&5.into(), &2.into()), "{decoded}");
}

#[test]
fn a_trace_shows_every_stage() {
    let sandbox = Sandbox::with_shards();
    sandbox.succeed(&pretrain("run", &["--set", "train.steps=2", "--trace", "trace.json"]));
    let trace = fs_err::read_to_string(sandbox.path("trace.json")).expect("a trace");
    let events: Value = serde_json::from_str(&trace).expect("whole JSON");
    let names: Vec<&str> =
        events.as_array().expect("a list").iter().filter_map(|event| event["name"].as_str()).collect();
    for stage in ["decode", "resize", "patchify", "mask", "wait_for_data", "step"] {
        assert!(names.contains(&stage), "no span `{stage}`");
    }
}
