//! What the program says of itself, at 80 columns.

use crate::support::Sandbox;

#[track_caller]
fn check(name: &str, arguments: &[&str]) {
    let text = Sandbox::new().succeed(arguments);
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "wider than a page: {line}");
    }
    insta::assert_snapshot!(name, text);
}

#[test]
fn help() {
    check("help", &["--help"]);
    check("help_convert", &["convert", "--help"]);
    check("help_inspect", &["inspect", "--help"]);
    check("help_pretrain", &["pretrain", "--help"]);
    check("help_reconstruct", &["reconstruct", "--help"]);
    check("help_bench", &["bench", "--help"]);
}
