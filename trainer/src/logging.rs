//! Log lines on standard error, and a trace file when asked for.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::OutputArgs;

/// Sets up logging for the process. The trace file is complete once the guard is dropped.
pub(crate) fn start(output: &OutputArgs) -> anyhow::Result<Option<FlushGuard>> {
    let level = match (output.quiet, output.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("PATCHSTREAM_LOG")
        .from_env()
        .context("PATCHSTREAM_LOG is not a log filter, such as `info` or `patchstream_pipeline=debug`")?;
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .with_filter(filter);

    let Some(path) = &output.trace else {
        tracing_subscriber::registry().with(log).init();
        return Ok(None);
    };
    let file = fs_err::File::create(path)?;
    let (trace, guard) = ChromeLayerBuilder::new().writer(file).include_args(true).build();
    let ours = EnvFilter::new(
        "off,patchstream=trace,patchstream_datasets=trace,patchstream_pipeline=trace,patchstream_model=trace",
    );
    tracing_subscriber::registry().with(log).with(trace.with_filter(ours)).init();
    Ok(Some(guard))
}
