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
        let row = format!("{list}, row 5");
        let expected = [
            good("a.jpg", Some(1), b"a"),
            good("sub/b, c.jpg", Some(0), b"bc"),
            bad("gone.jpg", None, "the file does not exist"),
            bad("sub", Some(1), "it is not a file"),
            bad(&row, Some(0), "the list has no path there"),
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
fn columns_may_begin_late_and_empty_lines_are_nothing() {
    let (_folder, path) = folder("l.csv", "\u{feff}path,note\r\na.jpg,\"two\nlines\"\r\n\r\n\"sub/b, c.jpg\"\r\n");
    let images_of_list = images(source(&path).as_ref());
    assert_eq!(images_of_list, [good("a.jpg", None, b"a"), good("sub/b, c.jpg", None, b"bc")]);
    // The first class stands behind more objects than are read at once.
    let text = "{\"image\": \"a.jpg\", \"note\": [1, {\"deep\": null}]}\n\n".repeat(50_000)
        + "{\"Label\": true, \"image\": \"a.jpg\"}\n{\"image\": \"a.jpg\", \"Label\": 1.5}";
    let (_folder, path) = folder("l.jsonl", &text);
    let source = source(&path);
    assert_eq!((source.len(), source.class_names()), (50_002, &["1.5".to_owned(), "true".to_owned()][..]));
    assert_eq!([0, 50_000, 50_001].map(|image| source.label(image)), [None, Some(1), Some(0)]);
}

#[test]
fn rubbish_is_an_error_that_names_the_line() {
    let good_object = "{\"image\": \"a.jpg\"}\n";
    let deep = good_object.to_owned() + &"[".repeat(900_000);
    for (list, text, expected) in [
        ("l.jsonl", good_object.to_owned() + "\n{\"image\": \"a.jpg\"\n[[[[", "line 3: "),
        ("l.jsonl", good_object.to_owned() + "7\n", "line 2: "),
        ("l.jsonl", deep, "line 2: "),
        ("l.csv", "path,label\na.jpg,dog\n\na.jpg,dog,4\n".to_owned(), "line 4: "),
        ("l.csv", String::new(), "it has no line"),
        ("l.tsv", "\n\n".to_owned(), "it has no line"),
    ] {
        let (_folder, path) = folder(list, &text);
        let said = refused(&path, &SourceOptions::default());
        assert!(said.contains("is damaged") && said.contains(expected), "{list}: {said}");
    }
    let (_folder, path) = folder("l.csv", "");
    fs_err::write(&path, b"path,label\na.jpg,\xff\xfe\n").unwrap();
    assert!(refused(&path, &SourceOptions::default()).contains("line 2: "));
}
