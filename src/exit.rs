//! What the process tells its parent: exit codes, after sysexits.h where it has a
//! word for it, data on stdout, and refusals on stderr.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use crate::config::Problem;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or stopped by the first SIGTERM.
    Ok,
    /// The answer is no: not leader, token invalid, lab failed.
    Failure,
    /// Unknown flags or commands.
    Usage,
    /// EX_UNAVAILABLE: the sidecar or its store does not answer.
    Unavailable,
    /// EX_TEMPFAIL: leadership was not had within `--wait`.
    NotLeader,
    /// EX_CONFIG: a bad value.
    Configuration,
    /// The code of the app that was run.
    App(u8),
    /// A second signal of this number cut the graceful stop short.
    Signal(u8),
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Unavailable => 69,
            Self::NotLeader => 75,
            Self::Configuration => 78,
            Self::App(code) => code,
            Self::Signal(number) => 128 + number,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Writes a line to stderr. Where nothing can be written there, the exit code has to say
/// it alone: `eprintln!` would panic, and a panic has a code of its own.
pub fn tell(line: impl Display) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Tells every problem at once.
pub fn refuse(problems: &[Problem]) -> Exit {
    let count = problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    tell(format_args!(
        "tenure: {count} {noun} in the configuration; nothing was started"
    ));
    for problem in problems {
        tell(format_args!("  - {problem}"));
    }
    Exit::Configuration
}

/// Writes data to stdout; a reader that has gone away (`| head`) is no error.
pub fn print_bytes(bytes: &[u8]) -> Exit {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Exit::Ok,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            tell(format_args!("tenure: cannot write to stdout: {error}"));
            Exit::Failure
        }
    }
}
