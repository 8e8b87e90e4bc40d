//! `patchstream selfcheck` on the CPU, and what is said of devices that are not there.

use crate::support::Sandbox;

#[test]
fn the_cpu_is_right_and_measured() {
    let sandbox = Sandbox::with_shards();
    let arguments = ["selfcheck", "--out", "cpu.json", "--data", "shards", "--batch", "2,4", "--steps", "2"];
    let text = sandbox.succeed(&arguments);
    assert!(text.starts_with("device       cpu\ngolden       yes: "), "{text}");
    let report: serde_json::Value =
        serde_json::from_slice(&fs_err::read(sandbox.path("cpu.json")).expect("a file")).expect("JSON");
    assert_eq!((&report["passed"], &report["device"]), (&true.into(), &"cpu".into()));
    // Two targets, each with six numbers of the forward pass, twenty losses, and every tensor twice.
    assert!(report["golden"]["compared"].as_u64().is_some_and(|compared| compared > 150), "{report:#}");
    assert_eq!(report["golden"]["wrong"], serde_json::json!([]));
    assert!(report["golden"]["worst_share"].as_f64().is_some_and(|share| share > 0.0 && share <= 1.0));
    assert_eq!(report["determinism"]["differing"], 0);
    let batches: Vec<&serde_json::Value> =
        report["steps"].as_array().expect("a list").iter().map(|step| &step["batch"]).collect();
    assert_eq!(batches, [2, 4]);
    assert!(report["steps"][1]["ms_per_step"].as_f64().is_some_and(|ms| ms > 0.0));
    assert_eq!(report["feeding"][0]["batch"], 2);
    assert!(report["feeding"][0]["wait_share"].as_f64().is_some_and(|share| (0.0..1.0).contains(&share)));
    assert!(report["host_to_device"].is_null());
}

#[test]
fn what_cannot_be_measured_loses_nothing_that_was() {
    let sandbox = Sandbox::with_shards();
    let shard = sandbox.path("shards/train-00000.parquet");
    let bytes = fs_err::metadata(&shard).expect("a shard").len();
    fs_err::OpenOptions::new().write(true).open(&shard).and_then(|file| file.set_len(bytes / 2)).expect("cut off");
    let arguments = ["selfcheck", "--out", "cpu.json", "--data", "shards", "--batch", "2", "--steps", "1"];
    let error = sandbox.fail(&arguments);
    assert!(error.starts_with("error: not all could be measured on cpu; cpu.json says why"), "{error}");
    let report: serde_json::Value =
        serde_json::from_slice(&fs_err::read(sandbox.path("cpu.json")).expect("a file")).expect("JSON");
    assert_eq!((&report["right"], &report["passed"]), (&true.into(), &false.into()));
    assert!(report["steps"][0]["ms_per_step"].is_number(), "{report:#}");
    assert!(report["feeding"][0]["error"].as_str().is_some_and(|text| text.contains("train-00000")), "{report:#}");
    assert!(sandbox.fail(&["selfcheck", "--out", "cpu.json", "--data", "none"]).contains("none"));
}

#[test]
fn devices_that_are_not_there() {
    let sandbox = Sandbox::new();
    let unknown = sandbox.fail(&["bench-step", "--device", "gpu"]);
    assert!(unknown.contains("unknown device \"gpu\""), "{unknown}");
    insta::assert_snapshot!(sandbox.fail(&["selfcheck", "--out", "none/report.json"]), @"error: folder `none` for the result does not exist");
    insta::assert_snapshot!(sandbox.fail(&["bench-step", "--set", "train.matmul_precision=tf32"]), @r"
    error: the CPU multiplies matrices in float32, got a precision of tf32
    hint: TF32 is for CUDA devices: add --device cuda:0, or leave it out
    ");
    if cfg!(not(feature = "cuda")) {
        insta::assert_snapshot!(sandbox.fail(&["selfcheck", "--device", "cuda:0", "--out", "report.json"]), @r#"
        error: this program was built without CUDA
        hint: build it as the README says under "On CUDA", or use --device cpu
        "#);
    }
}
