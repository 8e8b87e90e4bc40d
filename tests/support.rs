//! A sandbox to run the program in.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// No command of these tests may take longer; a hang is a failure, not a wait.
const DEADLINE: Duration = Duration::from_mins(4);

pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A sandbox with `shards/`, made from the photographs.
    pub(crate) fn with_shards() -> Self {
        let sandbox = Self::new();
        sandbox.succeed(&["convert", &photos(), "shards", "--quiet"]);
        sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().expect("inside the sandbox")).expect("a folder");
        fs_err::write(path, bytes).expect("a file");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchstream"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("PATCHSTREAM_LOG").env("COLUMNS", "80");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command, and fails the test if it does not end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut child = self.command(arguments).spawn().expect("the program starts");
        let started = Instant::now();
        while child.try_wait().expect("a child process").is_none() {
            if started.elapsed() > DEADLINE {
                child.kill().expect("a child process");
                panic!("{arguments:?} did not end within {DEADLINE:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait_with_output().expect("its output")
    }

    /// Standard output of a command that must succeed.
    #[track_caller]
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} failed with {:?}:\n{errors}", output.status);
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[track_caller]
    pub(crate) fn succeed_json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.succeed(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?} printed no JSON ({error}):\n{text}"))
    }

    /// Standard error of a command that must fail as the user's error, with every path of the sandbox cut short.
    #[track_caller]
    pub(crate) fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?} ended with {:?}:\n{errors}", output.status);
        assert!(!errors.contains("panicked"), "{arguments:?} panicked:\n{errors}");
        errors.replace(&photos(), "PHOTOS").replace(&*self.folder.path().to_string_lossy(), "SANDBOX")
    }
}

/// Folder of the photographs.
pub(crate) fn photos() -> String {
    data("photos").to_string_lossy().into_owned()
}

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("tests/data").join(name)
}

/// Every file below a folder with its content, sorted by path.
pub(crate) fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs_err::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("inside").to_owned();
                files.push((name, fs_err::read(&path).expect("a file")));
            }
        }
    }
    files.sort();
    files
}
