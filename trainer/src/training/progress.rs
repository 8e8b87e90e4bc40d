//! What a person sees while a run goes on: a bar on a terminal, a line now and then elsewhere.

use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::metrics::MetricsLine;

/// Between two lines when standard error is a file.
const LINE_EVERY: Duration = Duration::from_secs(10);

pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines { total_steps: u64, last: Cell<Option<Instant>> },
    Silent,
}

impl Progress {
    pub(crate) fn start(total_steps: u64, step: u64, quiet: bool) -> Self {
        if quiet {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { total_steps, last: Cell::new(None) };
        }
        let bar = ProgressBar::new(total_steps).with_position(step);
        bar.reset_eta();
        // 78 columns with the widest message.
        if let Ok(style) = ProgressStyle::with_template("{bar:16} {pos}/{len} {msg} {eta} left") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self::Bar(bar)
    }

    pub(crate) fn advance(&self, step: u64) {
        if let Self::Bar(bar) = self {
            bar.set_position(step);
        }
    }

    pub(crate) fn show(&self, line: &MetricsLine) {
        let loss = line.loss.map_or_else(|| "all steps skipped".to_owned(), |loss| format!("loss {loss:.4}"));
        let message = format!("{loss} {:.0} img/s wait {:.0}%", line.images_per_s, 100.0 * line.data_wait_share);
        match self {
            Self::Bar(bar) => bar.set_message(message),
            Self::Lines { total_steps, last } => {
                if last.get().is_none_or(|last| last.elapsed() >= LINE_EVERY) || line.step == *total_steps {
                    last.set(Some(Instant::now()));
                    // Nobody may be reading; the run goes on.
                    let _ = writeln!(std::io::stderr(), "step {}/{total_steps} {message}", line.step);
                }
            }
            Self::Silent => {}
        }
    }

    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
