//! What happens, as it happens, on stderr.

use std::io::{IsTerminal as _, Write as _};

use super::Options;
use crate::exit::tell;
use crate::time::{BootClock, Clock as _, Moment};

/// The live view: a line for each event, and on a terminal one that moves.
#[derive(Clone)]
pub(super) struct Show {
    began: Moment,
    quiet: bool,
    moving: bool,
}

impl Show {
    pub fn new(options: &Options) -> Self {
        Self {
            began: BootClock.now(),
            quiet: options.json,
            moving: !options.json && std::io::stderr().is_terminal(),
        }
    }

    /// Whether a moving line is wanted.
    pub fn moves(&self) -> bool {
        self.moving
    }

    /// One event, kept.
    pub fn line(&self, text: &str) {
        if !self.quiet {
            let seconds = BootClock.now().since(self.began).as_secs_f64();
            let clear = if self.moving { "\r\x1b[K" } else { "" };
            tell(format_args!("{clear}{seconds:7.2}s  {text}"));
        }
    }

    /// The moving line, overwritten by whatever comes next.
    pub fn moving(&self, text: &str) {
        if self.moving {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
        }
    }

    /// Takes the moving line away.
    pub fn end(&self) {
        self.moving("");
    }
}
