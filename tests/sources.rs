//! The same photographs from sources of several kinds.

use std::path::Path;

use crate::support::{Sandbox, contents, photos};

/// Rows, classes and image bytes of a data set that is whole.
fn summary(sandbox: &Sandbox, shards: &str) -> (u64, u64, u64) {
    sandbox.succeed(&["inspect", shards, "--verify", "--quiet"]);
    let summary = sandbox.succeed_json(&["inspect", shards, "--json"]);
    let classes = summary["classes"].as_array().expect("classes").len() as u64;
    (summary["rows"].as_u64().expect("rows"), classes, summary["image_bytes"].as_u64().expect("bytes"))
}

#[test]
fn shards_and_lists_give_the_same_photographs() {
    let sandbox = Sandbox::with_shards();
    let expected = summary(&sandbox, "shards");
    assert_eq!((expected.0, expected.1), (12, 5));

    sandbox.succeed(&["convert", "shards", "again", "--order", "sorted", "--quiet"]);
    assert_eq!(summary(&sandbox, "again"), expected);

    let mut list = "where\twhat\n".to_owned();
    for class in ["animals", "medical", "objects", "space", "textures"] {
        for entry in fs_err::read_dir(Path::new(&photos()).join(class)).expect("a folder") {
            list += &format!("{}\t{class}\n", entry.expect("an entry").path().display());
        }
    }
    list += "gone.jpg\tspace\n";
    sandbox.write("list.tsv", list.as_bytes());
    let columns = ["--image-column", "where", "--label-column", "what"];
    sandbox.succeed(&[&["convert", "list.tsv", "listed", "--quiet"][..], &columns].concat());
    assert_eq!(summary(&sandbox, "listed"), expected);
    let ledger = fs_err::read_to_string(sandbox.path("listed/quarantine.jsonl")).expect("a ledger");
    assert!(ledger.contains("gone.jpg") && ledger.contains("the file does not exist"), "{ledger}");
}

#[test]
fn urls_of_files_are_the_paths_that_they_name() {
    let sandbox = Sandbox::new();
    let url = |name: &str| format!("file://{}", sandbox.path(name).display()).replace(' ', "%20");
    let source = format!("file://{}", photos());
    sandbox.succeed(&["convert", &photos(), "plain"]);
    sandbox.succeed(&["convert", &source, &url("my shards")]);
    assert!(contents(&sandbox.path("my shards")) == contents(&sandbox.path("plain")));
    assert!(sandbox.succeed(&["convert", &photos(), "my shards"]).contains("nothing to do"));
    sandbox.succeed(&["inspect", &url("my shards"), "--verify"]);
    sandbox.succeed(&["convert", &source, &url("my part"), "--part", "1/1"]);
    sandbox.succeed(&["merge", &url("my part"), "--out", &url("my whole")]);
    assert!(contents(&sandbox.path("my whole")) == contents(&sandbox.path("plain")));

    let lines = format!("path,label\n{source}/space/moon.jpg,a\nfile://host/moon.jpg,b\n");
    sandbox.write("list.csv", lines.as_bytes());
    sandbox.succeed(&["convert", &url("list.csv"), "listed"]);
    assert_eq!(summary(&sandbox, "listed").0, 1);
    for arguments in
        [["convert", "file://photos", "x"], ["convert", &source, "file://x"], ["inspect", "file://x", "--json"]]
    {
        assert!(sandbox.fail(&arguments).contains("begins with `file:///`"), "{arguments:?}");
    }
    assert!(!sandbox.path("file:").exists());
}

#[test]
fn options_that_do_not_belong_to_a_source() {
    let sandbox = Sandbox::with_shards();
    let mut said = String::new();
    sandbox.write("set.tar", b"this is no archive");
    for case in [
        &["shards", "--format", "tar"][..],
        &["set.tar"],
        &["set-{0..}.tar"],
        &["shards", "--from-split", "val"],
        &["shards", "--label-column", "class"],
        &["PHOTOS", "--label-column", "class"],
    ] {
        let folder = photos();
        let arguments: Vec<&str> = case.iter().map(|word| if *word == "PHOTOS" { &folder } else { *word }).collect();
        let errors = sandbox.fail(&[&["convert"], &arguments[..], &["out"]].concat());
        said += &format!("$ patchstream convert {}\n{errors}\n", case.join(" "));
    }
    insta::assert_snapshot!("source_options", said);
}
