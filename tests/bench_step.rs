//! `patchstream bench-step`: the report holds together, and what is asked for is what is measured.

use crate::support::Sandbox;

/// A model small enough to be measured in a moment.
const SMALL: [&str; 8] = [
    "--set",
    "model.encoder.depth=1",
    "--set",
    "model.decoder.depth=1",
    "--set",
    "model.image_height_px=16",
    "--set",
    "model.image_width_px=16",
];

fn measure(further: &[&str]) -> serde_json::Value {
    let arguments = ["bench-step", "--batch", "4", "--threads", "1", "--steps", "2", "--json"];
    Sandbox::new().succeed_json(&[&arguments[..], &SMALL, further].concat())
}

#[test]
fn the_report_holds_together() {
    let report = measure(&[]);
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("no number {key}:\n{report:#}"));
    assert_eq!((number("batch"), number("threads"), number("steps")), (4.0, 1.0, 2.0));
    assert_eq!((number("visible_patches"), number("patches")), (4.0, 16.0));
    assert!(number("ms_min") <= number("ms_per_step") && number("ms_per_step") <= number("ms_max"));
    let rate = number("gflop_per_step") / number("ms_per_step") * 1e3;
    assert!((number("gflops_per_s") / rate - 1.0).abs() < 1e-6);

    let operations = report["operations"].as_array().expect("a list");
    let of = |name: &str| {
        let found = operations.iter().find(|operation| operation["operation"] == name);
        found.unwrap_or_else(|| panic!("no {name}:\n{report:#}"))
    };
    // One block on either side: two linear layers in each, those between encoder and decoder, and the predictions.
    assert_eq!(of("linear")["calls_per_step"], 6.0);
    assert_eq!(of("linear + residual")["calls_per_step"], 4.0);
    assert_eq!(of("attention")["calls_per_step"], 2.0);
    assert!(of("GELU")["backward_ms"].as_f64().expect("a number") > 0.0);
    let shares: f64 = operations.iter().map(|operation| operation["share"].as_f64().expect("a number")).sum();
    assert!((shares - 1.0).abs() < 1e-6);
}

#[test]
fn mask_tokens_in_the_encoder_are_counted_and_computed() {
    let (without, with) = (measure(&[]), measure(&["--set", "model.encoder_input=with_mask_tokens"]));
    assert_eq!(with["encoder_input"], "with_mask_tokens");
    let gflop = |report: &serde_json::Value| report["gflop_per_step"].as_f64().expect("a number");
    assert!(gflop(&with) > 1.5 * gflop(&without));
    let moves = |report: &serde_json::Value, name: &str| {
        let operations = report["operations"].as_array().expect("a list");
        operations.iter().any(|operation| operation["operation"] == name)
    };
    assert!(moves(&with, "add positions") && !moves(&without, "add positions"));
}

#[test]
fn a_key_that_a_step_does_not_depend_on_is_refused() {
    for pair in ["data.workers=2", "train.epochs=3", "train.lr=1"] {
        let refused = Sandbox::new().fail(&["bench-step", "--set", pair]);
        let expected = format!(
            "error: --set {pair}: a step on random pixels depends on no such key\nhint: keys of the section model"
        );
        assert!(refused.starts_with(&expected), "{refused}");
    }
}
