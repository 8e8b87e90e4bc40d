//! A checkpoint is judged by its features: Parquet, nearest neighbours, linear probe.

use crate::main_job::pretrain;
use crate::support::Sandbox;

/// Photographs in five classes and a model of three steps: enough that each command has something to say.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_shards();
    sandbox.succeed(&pretrain("run", &["--set", "train.steps=3"]));
    sandbox
}

#[test]
fn a_probe_and_neighbours_tell_the_images_that_they_know() {
    let sandbox = sandbox();
    let sets = ["--checkpoint", "run", "--data", "shards", "--test", "shards", "--json"];
    for pool in ["class", "mean", "both"] {
        // What was fitted is known by heart; a neighbour at no distance outvotes all others.
        let probe = sandbox.succeed_json(&[&["probe", "--l2", "1e-6", "--pool", pool], &sets[..]].concat());
        assert_eq!((&probe["top1"], &probe["train"]["top1"]), (&1.0.into(), &1.0.into()), "{probe}");
        assert_eq!((&probe["classes"], &probe["test_images"]), (&5.into(), &12.into()), "{probe}");
        let knn = [&["knn", "--temperature", "1e-4", "--pool", pool], &sets[..]].concat();
        let knn = sandbox.succeed_json(&knn);
        assert_eq!((&knn["top1"], &knn["top5"]), (&1.0.into(), &1.0.into()), "{knn}");
    }
    let text = sandbox.succeed(&["probe", "--checkpoint", "run", "--data", "shards", "--test", "shards"]);
    assert!(text.contains("top-1") && text.contains("L-BFGS"), "{text}");
}

#[test]
fn features_are_the_same_for_any_batch_and_thread() {
    let sandbox = sandbox();
    let features = |out: &str, batch: &str, threads: &str| {
        let mut arguments = vec!["features", "--checkpoint", "run", "--data", "shards", "--out", out, "--json"];
        arguments.extend(["--batch-size", batch, "--threads", threads]);
        sandbox.succeed_json(&arguments)
    };
    let report = features("one.parquet", "12", "1");
    assert_eq!((&report["images"], &report["width"], &report["left_out"]), (&12.into(), &48.into(), &0.into()));
    assert_eq!(features("other.parquet", "12", "3")["images"], 12);
    let bytes = |name: &str| fs_err::read(sandbox.path(name)).expect("a Parquet file");
    assert!(bytes("one.parquet") == bytes("other.parquet"));
}

#[test]
fn evaluations_that_cannot_be() {
    let sandbox = sandbox();
    sandbox
        .write("flat/a.jpg", &fs_err::read(crate::support::data("photos/animals/chelsea.jpg")).expect("a photograph"));
    sandbox.succeed(&["convert", "flat", "unlabelled", "--quiet"]);
    let sets = ["--checkpoint", "run", "--data", "shards", "--test", "unlabelled"];
    let mut said = String::new();
    for case in [
        [&["knn"], &sets[..]].concat(),
        [&["knn", "--temperature", "0"], &sets[..]].concat(),
        [&["probe", "--l2", "-1"], &sets[..]].concat(),
        vec!["features", "--checkpoint", "run", "--data", "shards", "--out", "nowhere/f.parquet"],
    ] {
        said += &format!("$ patchstream {}\n{}\n", case.join(" "), sandbox.fail(&case));
    }
    insta::assert_snapshot!("evaluations", said);
}
