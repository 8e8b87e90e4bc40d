//! What `bench` reports: numbers that hang together, and a page that a real browser shows whole.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Sandbox, photos};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected a number, got {value}"))
}

#[test]
fn stages_add_up_and_the_limit_is_named() {
    let sandbox = Sandbox::with_shards();
    let arguments = ["bench", "--data", "shards", "--workers", "2", "--epochs", "4", "--target", "20", "--json"];
    let report = sandbox.succeed_json(&arguments);
    assert_eq!((&report["workers"], &report["images"], &report["epochs"]), (&2.into(), &12.into(), &4.into()));
    let rates = report["epoch_images_per_s"].as_array().expect("rates");
    assert_eq!(rates.len(), 4);
    let median = number(&report["images_per_s"]);
    assert!(number(&report["images_per_s_min"]) <= median && median <= number(&report["images_per_s_max"]));

    let stages = report["stages"].as_array().expect("stages");
    let names: Vec<&str> = stages.iter().filter_map(|stage| stage["name"].as_str()).collect();
    assert_eq!(
        names,
        ["fetch", "dispatch", "decode", "resize", "mask", "patchify", "assemble", "hand over", "consume"]
    );
    let sum: f64 = stages.iter().map(|stage| number(&stage["cpu_us_per_image"])).sum();
    let total = number(&report["cpu_us_per_image"]);
    // Nothing is counted twice; a thread that is in mid-image when the clock stops counts nowhere.
    assert!(sum > 0.7 * total && sum < 1.3 * total, "{sum} of {total}");

    let limit = &report["limit"];
    assert!(limit["stage"].is_string() && limit["why"].as_str().is_some_and(|why| why.contains('%')), "{limit}");
    assert!(limit["what_helps"].as_str().is_some_and(|help| !help.is_empty()), "{limit}");
    let by_cores = report["prediction"]["by_cores"].as_array().expect("predictions");
    let cores: Vec<u64> = by_cores.iter().filter_map(|prediction| prediction["cores"].as_u64()).collect();
    assert_eq!(cores, [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64]);
    let here = number(&report["prediction"]["here_images_per_s"]);
    assert!((number(&report["prediction"]["here_error"]) - (here / median - 1.0)).abs() < 1e-9);
    assert!(number(&report["target"]["cores"]) >= 1.0);

    let table = sandbox.succeed(&["bench", "--data", "shards", "--workers", "1", "--epochs", "1", "--target", "20"]);
    for words in
        ["images/s with 1 workers", "Limited by ", "What would help: ", "were predicted here: ", "20 images/s need"]
    {
        assert!(table.contains(words), "no `{words}` in\n{table}");
    }
}

#[test]
fn ranks_take_their_parts_of_an_epoch() {
    let sandbox = Sandbox::with_shards();
    let images = |rank: &str| {
        let arguments = ["bench", "--data", "shards", "--workers", "1", "--epochs", "1", "--batch-size", "5", "--json"];
        let report = sandbox.succeed_json(&[&arguments[..], &["--rank", rank, "--world", "3"]].concat());
        report["images"].as_u64().expect("a count")
    };
    // Batches of 5, 5 and 2 images: 1 + 1 + 0, 2 + 2 + 1 and 2 + 2 + 1.
    assert_eq!(["0", "1", "2"].map(images), [2, 5, 5]);
    let refused = sandbox.fail(&["bench", "--data", "shards", "--rank", "3", "--world", "3"]);
    assert!(refused.contains("expected a rank below 3, got 3"), "{refused}");
}

#[test]
fn folders_tars_and_parquet_are_measured_as_they_are() {
    let sandbox = Sandbox::with_shards();
    let tar =
        Command::new("tar").args(["-cf", "photos.tar", "-C", &photos(), "."]).current_dir(sandbox.path("")).status();
    assert!(tar.expect("tar runs").success());
    let photos = photos();
    for data in [&*photos, "photos.tar", "shards/train-00000.parquet"] {
        // In a single epoch of so few images, what was read ahead may be all that is needed.
        let report = sandbox.succeed_json(&["bench", "--data", data, "--workers", "2", "--epochs", "20", "--json"]);
        assert_eq!(report["images"], 12, "{data}");
        assert!(number(&report["images_per_s"]) > 0.0);
        assert!(number(&report["bytes_read_per_image"]) > 10_000.0, "{data}");
    }
    let refused = sandbox.fail(&["bench", "--data", "nowhere"]);
    assert!(refused.contains("nowhere") && refused.contains("exist"), "{refused}");
}

#[test]
fn slow_and_failing_reads_show_as_what_limits() {
    let sandbox = Sandbox::with_shards();
    let arguments = ["bench", "--data", "shards", "--workers", "2", "--epochs", "2", "--json", "--quiet"];
    // One attempt in ten fails; the pipeline is nothing but waiting for the others.
    let report = sandbox.succeed_json(&[&arguments[..], &["--faults", "slow=150ms,fail@0.1"]].concat());
    assert_eq!(report["limit"]["stage"], "read", "{}", report["limit"]);
    let read = &report["queues"][0];
    assert!(read["name"] == "read" && number(&read["empty"]) > 0.5, "{read}");
    let refused = sandbox.fail(&["bench", "--data", "shards", "--faults", "slow=often"]);
    assert!(refused.contains("expected a time such as 200ms"), "{refused}");
}

#[test]
fn peers_that_are_not_installed_are_said_to_be() {
    let sandbox = Sandbox::with_shards();
    let arguments = ["bench", "--data", "shards", "--workers", "1", "--epochs", "1", "--compare=nowhere", "--json"];
    let report = sandbox.succeed_json(&arguments);
    let peers = report["peers"].as_array().expect("peers");
    assert_eq!(peers.iter().filter(|peer| peer["outcome"] == "missing").count(), 10, "{peers:?}");
    assert_eq!(peers[10]["name"], "Patchstream, again");
}

/// Finds texts that are cut off or lie upon each other, and whatever is wider than its place.
const LOOK: &str = "<script>
const problems = [];
for (const drawing of document.querySelectorAll('svg')) {
  const frame = drawing.getBoundingClientRect();
  if (frame.width < 300 || frame.height < 60) problems.push('no room for ' + drawing.getAttribute('aria-label'));
  const texts = [...drawing.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
  texts.forEach(([words, box], index) => {
    if (box.width < 1 || box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 2 ||
        box.bottom > frame.bottom + 2) problems.push('cut off: ' + words);
    for (const [others, other] of texts.slice(0, index))
      if (box.left < other.right && other.left < box.right && box.top + 3 < other.bottom && other.top + 3 < box.bottom)
        problems.push('one upon the other: ' + others + ' / ' + words);
  });
}
for (const element of document.querySelectorAll('h1, h2, p, dt, dd, td, th'))
  if (element.scrollWidth > element.clientWidth + 1) problems.push('wider than its place: ' + element.textContent);
if (document.documentElement.scrollWidth > innerWidth) problems.push('wider than the window');
document.body.dataset.drawings = document.querySelectorAll('svg').length;
document.body.dataset.problems = problems.join('; ') || 'none';
</script>";

struct Browser {
    program: PathBuf,
    profile: PathBuf,
}

impl Browser {
    /// The first one that is installed.
    fn find(profile: PathBuf) -> Option<Self> {
        let folders = std::env::var_os("PATH")?;
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let mut programs =
            std::env::split_paths(&folders).flat_map(|folder| names.iter().map(move |name| folder.join(name)));
        Some(Self { program: programs.find(|program| program.exists())?, profile })
    }

    /// What it prints; it is ended when it takes too long.
    fn run(&self, page: &Path, options: &[&str]) -> String {
        let output = Command::new("timeout")
            .arg("100")
            .arg(&self.program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", self.profile.display()))
            .args(options)
            .arg(format!("file://{}", page.display()))
            .output()
            .expect("timeout runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the browser ended with {:?}:\n{errors}", output.status);
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that was skipped must say so")]
fn a_browser_shows_the_page_whole_wide_and_narrow_light_and_dark() {
    let sandbox = Sandbox::with_shards();
    let arguments = ["bench", "--data", "shards", "--workers", "2", "--epochs", "3", "--target", "7000"];
    sandbox.succeed(&[&arguments[..], &["--report", "report.html"]].concat());
    let page = sandbox.path("report.html");
    let text = fs_err::read_to_string(&page).expect("the page");
    for outside in ["<script", "http:", "https:", "url(", "@import", "<link", "<img"] {
        assert!(!text.contains(outside), "the page needs `{outside}`");
    }
    let Some(browser) = Browser::find(sandbox.path("profile")) else {
        eprintln!("skipped: no chromium is installed to look at the page with");
        return;
    };
    let looked_at = sandbox.path("looked_at.html");
    fs_err::write(&looked_at, text.replace("</body>", &format!("{LOOK}</body>"))).expect("a page");
    for width in ["1200", "400"] {
        let shown = browser.run(&looked_at, &["--dump-dom", &format!("--window-size={width},2400")]);
        let body = shown.lines().find(|line| line.starts_with("<body")).unwrap_or_default();
        assert!(body.contains("data-problems=\"none\""), "{width} px wide: {body}");
        assert!(body.contains("data-drawings=\"4\""), "{body}");
    }
    // Paper, and the blue of the bars, as the style sheet has them.
    for (scheme, paper, blue) in [("1", [251, 250, 248], [43, 108, 176]), ("0", [21, 23, 26], [111, 177, 242])] {
        let picture = sandbox.path(&format!("{scheme}.png"));
        let options = [
            format!("--screenshot={}", picture.display()),
            format!("--blink-settings=preferredColorScheme={scheme}"),
            "--window-size=1000,2400".to_owned(),
        ];
        browser.run(&page, &options.each_ref().map(String::as_str));
        let picture = image::open(&picture).expect("a picture").into_rgb8();
        let count = |color: [u8; 3]| picture.pixels().filter(|pixel| pixel.0 == color).count();
        assert_eq!(picture.get_pixel(2, 2).0, paper, "scheme {scheme}");
        assert!(count(blue) > 1000 && count(paper) > 100_000, "scheme {scheme}: {} blue pixels", count(blue));
    }
}
