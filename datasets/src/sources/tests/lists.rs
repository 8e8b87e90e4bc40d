use super::*;

fn folder(list: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir(folder.path().join("sub")).unwrap();
    fs_err::write(folder.path().join("a.jpg"), b"a").unwrap();
    fs_err::write(folder.path().join("sub/b, c.jpg"), b"bc").unwrap();
    let path = folder.path().join(list);
    fs_err::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn lists_in_every_syntax() {
    for (list, text) in [
        ("l.csv", "label,path\ndog,a.jpg\ncat,\"sub/b, c.jpg\"\n,gone.jpg\ndog,sub\ncat,\n"),
        ("l.tsv", "file\tclass\na.jpg\tdog\nsub/b, c.jpg\tcat\ngone.jpg\t\nsub\tdog\n\tcat\n"),
        (
            "l.jsonl",
            "{\"image\": \"a.jpg\", \"label\": \"dog\"}\n{\"label\": \"cat\", \"image\": \"sub/b, c.jpg\"}\n\
             {\"image\": \"gone.jpg\"}\n{\"image\": \"sub\", \"label\": \"dog\"}\n{\"image\": null, \"label\": \"cat\"}\n",
        ),
    ] {
        let (_folder, path) = folder(list, text);
        let source = source(&path);
        let line = if list == "l.jsonl" { "l.jsonl:5".to_owned() } else { format!("{list}:6") };
        let expected = [
            good("a.jpg", Some(1), b"a"),
            good("sub/b, c.jpg", Some(0), b"bc"),
            bad("gone.jpg", None, "the file does not exist"),
            bad("sub", Some(1), "it is not a file"),
            bad(&line, Some(0), "the list has no path there"),
        ];
        assert_eq!(images(source.as_ref()), expected, "{list}");
        assert_eq!(source.class_names(), ["cat", "dog"]);
    }
}

#[test]
fn numbers_are_labels_and_columns_can_be_chosen() {
    let (_folder, path) = folder("l.csv", "where,what\na.jpg,012\n\"sub/b, c.jpg\",-3\n");
    assert!(refused(&path, &SourceOptions::default()).contains("only `where`, `what`"));
    let options = |image: &str, label: &str| SourceOptions {
        image_column: Some(image.to_owned()),
        label_column: Some(label.to_owned()),
        ..SourceOptions::default()
    };
    let source = open(path.to_str().unwrap(), &options("where", "what")).unwrap();
    assert_eq!((source.label(0), source.label(1), source.class_names().len()), (Some(12), Some(-3), 0));
    assert!(refused(&path, &options("where", "why")).contains("has no column `why`"));
}

#[test]
fn rubbish_is_an_error() {
    let (_folder, path) = folder("l.jsonl", "{\"image\": \"a.jpg\"\n[[[[");
    assert!(refused(&path, &SourceOptions::default()).contains("is damaged"));
}
