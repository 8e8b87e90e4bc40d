//! Conversions that are killed, split, shared among machines or stored in another form.

use std::time::{Duration, Instant};

use crate::support::{Sandbox, contents, photos};

/// The photographs many times over, each with another end, so that there is something to do.
fn many_photos(sandbox: &Sandbox, copies: u32) -> String {
    for (path, mut bytes) in contents(photos().as_ref()).into_iter().filter(|(path, _)| path.extension().is_some()) {
        for copy in 0..copies {
            // What follows the end of an image changes nothing of it.
            bytes.extend(copy.to_le_bytes());
            sandbox.write(&format!("many/{}-{copy}.jpg", path.with_extension("").display()), &bytes);
        }
    }
    "many".to_owned()
}

/// Killed at six moments spread over its run, and resumed each time: the bytes are those of an undisturbed conversion.
#[test]
fn killed_conversions_are_resumed_to_the_same_bytes() {
    let sandbox = Sandbox::new();
    let source = many_photos(&sandbox, 10);
    let options = ["--encode", "jpeg", "--max-side", "300", "--row-group-mib", "1", "--shard-mib", "1"];
    let more = ["--split", "val=0.2", "--pixel-stats", "10", "--quiet", "--resume", "--tile-index"];
    let arguments = |out| [&["convert", &*source, out], &options[..], &more[..]].concat();
    let started = Instant::now();
    sandbox.succeed(&arguments("straight"));
    let whole = started.elapsed();
    let mut kills = 0;
    for moment in 1..=6 {
        let mut child = sandbox.command(&arguments("killed")).spawn().expect("the program starts");
        std::thread::sleep(whole * moment / 14);
        kills += u32::from(child.try_wait().expect("a child").is_none());
        child.kill().expect("a child process");
        child.wait().expect("a child process");
    }
    assert!(kills >= 2, "the machine is too fast for this test: only {kills} kills hit");
    sandbox.succeed(&arguments("killed"));
    assert!(contents(&sandbox.path("straight")) == contents(&sandbox.path("killed")));
}

#[test]
fn an_interrupted_conversion_is_explained() {
    let sandbox = Sandbox::new();
    let source = many_photos(&sandbox, 10);
    let arguments =
        ["convert", &source, "out", "--encode", "jpeg", "--shard-mib", "1", "--row-group-mib", "1", "--quiet"];
    let mut child = sandbox.command(&arguments).spawn().expect("the program starts");
    let started = Instant::now();
    while !sandbox.path(".out.patchstream-partial/units/00000.json").exists() {
        assert!(started.elapsed() < Duration::from_mins(1), "no shard was finished");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("a child process");
    child.wait().expect("a child process");
    insta::assert_snapshot!("interrupted", sandbox.fail(&arguments));
    let other = [&arguments[..], &["--seed", "4", "--resume"]].concat();
    insta::assert_snapshot!("interrupted_and_different", sandbox.fail(&other));
    let done = sandbox.succeed_json(&[&arguments[..], &["--resume", "--json"]].concat());
    assert_eq!(done["rows"], 120);
}

#[test]
fn parts_are_merged_to_what_one_machine_makes() {
    let sandbox = Sandbox::new();
    let source = many_photos(&sandbox, 4);
    let convert = |out: &str, more: &[&str]| {
        let options = ["--row-group-mib", "1", "--shard-mib", "1", "--tile-index", "--quiet"];
        sandbox.succeed(&[&["convert", &source, out], &options[..], more].concat())
    };
    convert("one", &[]);
    convert("a", &["--part", "1/2"]);
    let text = convert("b", &["--part", "2/2"]);
    assert!(text.contains("b: part 2/2,"), "{text}");
    sandbox.succeed(&["merge", "b", "a", "--out", "merged", "--quiet"]);
    assert!(contents(&sandbox.path("one")) == contents(&sandbox.path("merged")));
    sandbox.succeed(&["inspect", "merged", "--verify", "--quiet"]);
    insta::assert_snapshot!("part_missing", sandbox.fail(&["merge", "a", "--out", "half"]));
}

#[test]
fn splits_are_data_sets_of_their_own() {
    let sandbox = Sandbox::new();
    let source = many_photos(&sandbox, 4);
    let report =
        sandbox.succeed_json(&["convert", &source, "shards", "--split", "val=0.25", "--dedupe", "--json", "--quiet"]);
    let rows = |name: &str| sandbox.succeed_json(&["inspect", name, "--json"])["rows"].as_u64().expect("a number");
    assert_eq!(rows("shards/train") + rows("shards/val"), 48);
    assert_eq!(report["splits"]["val"], rows("shards/val"));
    insta::assert_snapshot!("a_split_data_set_as_one", sandbox.fail(&["inspect", "shards"]));
}

#[test]
fn raw_images_go_through_the_pipeline() {
    let sandbox = Sandbox::new();
    let raw = ["convert", &photos(), "raw", "--encode", "raw", "--max-side", "128", "--zstd", "3", "--quiet"];
    sandbox.succeed(&raw);
    sandbox.succeed(&["inspect", "raw", "--verify", "--quiet"]);
    let summary = sandbox.succeed_json(&["inspect", "raw", "--json"]);
    assert_eq!((&summary["formats"]["pnm"], &summary["width_px"]["max"]), (&12.into(), &128.into()));
    let report = sandbox.succeed_json(&["bench", "--data", "raw", "--workers", "1", "--epochs", "1", "--json"]);
    assert!(report["images_per_s"].as_f64().expect("a rate") > 0.0);
}

#[test]
fn a_contact_sheet_shows_the_samples() {
    let sandbox = Sandbox::with_shards();
    let arguments = ["inspect", "shards", "--contact-sheet", "sheet.png", "--pixel-stats", "12"];
    let text = sandbox.succeed(&arguments);
    assert!(text.contains("sheet      12 samples in sheet.png") && text.contains("(of 12 images)"), "{text}");
    let sheet = image::open(sandbox.path("sheet.png")).expect("a PNG").into_rgb8();
    assert_eq!(sheet.dimensions(), (8 * 138 + 10, 2 * 158 + 10));
    let colours: std::collections::HashSet<_> = sheet.pixels().collect();
    assert!(colours.len() > 10_000, "{} colours are too few for photographs", colours.len());
}

/// An option that would have no effect is an error, not a silent hope.
#[test]
fn options_without_effect_are_refused() {
    let sandbox = Sandbox::new();
    let mut said = String::new();
    let cases: [&[&str]; 8] = [
        &["--max-side", "100"],
        &["--quality", "80"],
        &["--encode", "jpeg", "--zstd", "3"],
        &["--encode", "raw"],
        &["--encode", "raw", "--max-side", "100", "--quality", "80"],
        &["--encode", "raw", "--max-side", "100", "--tile-index"],
        &["--split", "val"],
        &["--part", "3/2"],
    ];
    for case in cases {
        let photos = photos();
        let arguments = [&["convert", &photos, "shards"], case].concat();
        said += &format!("$ patchstream convert {}\n{}\n", case.join(" "), sandbox.fail(&arguments));
        assert!(!sandbox.path("shards").exists(), "{case:?} left a folder");
    }
    insta::assert_snapshot!("conversion_options", said);
}
