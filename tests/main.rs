//! Whole-program tests: the binary is run as a person runs it, on real photographs.

mod bad_input;
mod bench;
mod bench_step;
mod conversion;
mod crate_graph;
mod evaluation;
mod help;
mod main_job;
mod recipe;
mod resume;
mod selfcheck;
mod sources;
mod support;
