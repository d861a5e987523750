//! The `tenure` binary: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    tenure::cli::main(std::env::args_os()).into()
}
