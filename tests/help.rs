//! What the program says of itself, at 80 columns.

use crate::support::Sandbox;

#[track_caller]
fn check(name: &str, arguments: &[&str]) {
    let text = Sandbox::new().succeed(arguments);
    // clap breaks every line but that of the usage.
    for line in text.lines().filter(|line| !line.starts_with("Usage:")) {
        assert!(line.chars().count() <= 80, "wider than a terminal: {line}");
    }
    insta::assert_snapshot!(name, text);
}

#[test]
fn help() {
    check("help", &["--help"]);
    check("help_convert", &["convert", "--help"]);
    check("help_merge", &["merge", "--help"]);
    check("help_inspect", &["inspect", "--help"]);
    check("help_pretrain", &["pretrain", "--help"]);
    check("help_reconstruct", &["reconstruct", "--help"]);
    check("help_probe", &["probe", "--help"]);
    check("help_knn", &["knn", "--help"]);
    check("help_features", &["features", "--help"]);
    check("help_export", &["export", "--help"]);
    check("help_verify", &["verify", "--help"]);
    check("help_bench", &["bench", "--help"]);
    check("help_bench_step", &["bench-step", "--help"]);
    check("help_selfcheck", &["selfcheck", "--help"]);
}
