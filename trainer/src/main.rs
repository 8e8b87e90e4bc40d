//! The `patchstream` program.
//!
//! `cli` says what can be typed, `commands` does it, one file a command; `settings` is the configuration of a run and
//! `training` the loop. Results go to standard output, progress, log and errors to standard error. The exit code is 0
//! for success, 1 for the user's error, 2 for ours.

mod cli;
mod commands;
mod contact_sheet;
mod evaluation;
mod exchange;
mod logging;
mod picture;
mod printable;
mod report;
mod settings;
mod synthetic;
mod tensors;
mod training;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // A closed output leaves nobody to tell.
            let _ = message.print();
            return if message.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS };
        }
    };
    // A panic is a defect of ours; it has printed itself by then.
    std::panic::catch_unwind(|| run(cli)).unwrap_or(ExitCode::from(2))
}

fn run(cli: Cli) -> ExitCode {
    let outcome = logging::start(&cli.output).and_then(|_guard| match cli.command {
        Command::Convert(arguments) => commands::convert::run(&arguments, cli.output.quiet),
        Command::Merge(arguments) => commands::merge::run(&arguments, cli.output.quiet),
        Command::Inspect(arguments) => commands::inspect::run(&arguments, cli.output.quiet),
        Command::Pretrain(arguments) => commands::pretrain::run(&arguments, cli.output.quiet),
        Command::Reconstruct(arguments) => commands::reconstruct::run(&arguments),
        Command::Probe(arguments) => commands::probe::run(&arguments),
        Command::Knn(arguments) => commands::knn::run(&arguments),
        Command::Features(arguments) => commands::features::run(&arguments),
        Command::Export(arguments) => commands::export::run(&arguments),
        Command::Verify(arguments) => commands::verify::run(&arguments),
        Command::Bench(arguments) => commands::bench::run(&arguments),
        Command::BenchStep(arguments) => commands::bench_step::run(&arguments),
        Command::Selfcheck(arguments) => commands::selfcheck::run(&arguments),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::failure(&error),
    }
}
