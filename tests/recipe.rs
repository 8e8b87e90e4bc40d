//! The recipe of a run: what options do, and what a run leaves behind of it.

use serde_json::Value;

use crate::main_job::pretrain;
use crate::support::Sandbox;

fn lines(sandbox: &Sandbox, file: &str) -> Vec<Value> {
    let text = fs_err::read_to_string(sandbox.path(file)).expect("lines of JSON");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn losses(sandbox: &Sandbox, run: &str) -> Vec<f64> {
    let lines = lines(sandbox, &format!("{run}/metrics.jsonl"));
    lines.iter().map(|line| line["loss"].as_f64().expect("a loss")).collect()
}

/// A rate at which the weights overflow within a few steps.
const DIVERGING: [&str; 6] = ["--set", "train.lr=1e30", "--set", "train.steps=8", "--set", "checkpoint.every_steps=1"];

#[test]
fn a_number_that_is_not_finite_stops_the_run() {
    let sandbox = Sandbox::with_shards();
    let error = sandbox.fail(&pretrain("run", &DIVERGING));
    for part in ["training diverged at step", "rate ", "samples ", "last good checkpoint: run/checkpoints/step-0000000"]
    {
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    }
    let report = lines(&sandbox, "run/nonfinite.jsonl");
    assert_eq!((report.len(), report[0]["sample_ids"].as_array().expect("ids").len()), (1, 8));
    // The same step comes again, and is skipped now.
    let resumed = ["pretrain", "--out", "run", "--resume", "--quiet", "--on-nonfinite", "skip"];
    assert!(sandbox.succeed(&resumed).contains("skipped; saved"));
}

#[test]
fn steps_that_are_not_finite_can_be_skipped_and_are_counted() {
    let sandbox = Sandbox::with_shards();
    let text = sandbox.succeed(&pretrain("run", &[&DIVERGING[..], &["--on-nonfinite", "skip"]].concat()));
    let skipped = lines(&sandbox, "run/nonfinite.jsonl").len();
    assert!(skipped > 0 && text.contains(&format!(", {skipped} skipped")), "{text}");
    let metrics = lines(&sandbox, "run/metrics.jsonl");
    assert_eq!(metrics.len(), 8);
    assert_eq!(metrics[7]["skipped"], skipped);
    assert_eq!(metrics.iter().filter(|line| line["loss"].is_null()).count(), skipped);
}

#[test]
fn a_batch_in_parts_is_the_same_batch() {
    let sandbox = Sandbox::with_shards();
    let length = ["--set", "train.steps=6"];
    sandbox.succeed(&pretrain("whole", &length));
    // Eight images in three parts are parts of two and three.
    sandbox.succeed(&pretrain("parts", &[&length[..], &["--set", "train.accumulation=3"]].concat()));
    for (whole, parts) in losses(&sandbox, "whole").into_iter().zip(losses(&sandbox, "parts")) {
        assert!((whole - parts).abs() < 1e-4 * whole, "{whole} {parts}");
    }
}

#[test]
fn clipping_slows_learning_and_leaves_the_norm_in_the_metrics() {
    let sandbox = Sandbox::with_shards();
    let length = ["--set", "train.steps=2", "--set", "train.warmup_epochs=0"];
    sandbox.succeed(&pretrain("free", &length));
    sandbox.succeed(&pretrain("clipped", &[&length[..], &["--set", "train.clip_norm=1e-9"]].concat()));
    let (free, clipped) = (losses(&sandbox, "free"), losses(&sandbox, "clipped"));
    assert!((free[0] - clipped[0]).abs() < 1e-12, "the first loss comes before the first update");
    assert!((free[1] - clipped[1]).abs() > 1e-6, "{free:?} {clipped:?}");
    let norm = lines(&sandbox, "clipped/metrics.jsonl")[0]["gradient_norm"].as_f64().expect("a norm");
    assert!(norm > 1e-3, "{norm} is after clipping");
}

#[test]
fn held_out_evaluation_changes_nothing_of_the_training() {
    let sandbox = Sandbox::with_shards();
    let length = ["--set", "train.steps=5"];
    let evaluate = ["evaluate.data=shards", "evaluate.every_steps=2", "evaluate.images=7", "evaluate.pictures=2"];
    let evaluate: Vec<&str> = evaluate.iter().flat_map(|setting| ["--set", *setting]).collect();
    sandbox.succeed(&pretrain("plain", &length));
    sandbox.succeed(&pretrain("evaluated", &[&length[..], &evaluate].concat()));
    assert_eq!(losses(&sandbox, "plain"), losses(&sandbox, "evaluated"));
    let evaluations = lines(&sandbox, "evaluated/evaluation.jsonl");
    let steps: Vec<&Value> = evaluations.iter().map(|line| &line["step"]).collect();
    assert_eq!(steps, [2, 4, 5]);
    assert!(evaluations.iter().all(|line| line["images"] == 7 && line["loss"].as_f64().is_some_and(|loss| loss > 0.0)));
}

#[test]
fn a_dry_run_tells_the_cost_and_writes_nothing() {
    let sandbox = Sandbox::with_shards();
    let text = sandbox.succeed(&pretrain("run", &["--set", "train.steps=40", "--dry-run"]));
    for part in ["[train]", "steps = 40", "M parameters", "GFLOP", "of activations an image", "40 steps take about"] {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
    assert!(!sandbox.path("run").exists());
}

#[test]
fn weights_of_another_model_are_refused_one_by_one() {
    let sandbox = Sandbox::with_shards();
    sandbox.succeed(&pretrain("run", &["--set", "train.steps=1"]));
    let init = "run/checkpoints/step-00000001/weights.safetensors";
    let wider = ["--init", init, "--set", "model.encoder.width=96", "--set", "model.encoder.depth=2"];
    let error = sandbox.fail(&pretrain("other", &wider));
    for part in [
        "patch_embed.proj.bias is [48], expected [96]",
        "blocks.0.attn.qkv.weight is [144, 48], expected [288, 96]",
        "blocks.1.norm1.weight is missing, expected [96]",
    ] {
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    }
    assert!(!sandbox.path("other").exists());
    sandbox.write("rubbish.safetensors", b"rubbish");
    let error = sandbox.fail(&pretrain("other", &["--init", "rubbish.safetensors"]));
    assert!(error.contains("rubbish.safetensors cannot be read"), "{error}");
}

#[test]
fn exports_stand_beside_their_configuration() {
    let sandbox = Sandbox::with_shards();
    sandbox.succeed(&pretrain("run", &["--set", "train.steps=1", "--set", "model.image_width_px=64"]));
    let export = |to: &'static str| ["export", "--checkpoint", "run", "--to", to, "--out", to];
    sandbox.succeed(&export("timm"));
    let config = fs_err::read_to_string(sandbox.path("timm/config.json")).expect("a configuration");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["model_args"]["img_size"], serde_json::json!([32, 64]));
    assert!(sandbox.fail(&export("timm")).contains("`timm` already exists"));
    assert!(sandbox.fail(&export("huggingface")).contains("takes square images"));
    assert!(!sandbox.path("huggingface").exists());
}
