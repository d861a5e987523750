//! What a test's own thread logs.
//!
//! Self-contained: include it with `#[path = "support/told.rs"] mod told;`.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure::time::{pause, within};
use tracing::subscriber::DefaultGuard;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps the log of this thread; a runtime of one thread logs there alone.
pub struct Told {
    lines: Lines,
    _default: DefaultGuard,
}

impl Told {
    pub fn begin() -> Self {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        Self {
            lines,
            _default: tracing::subscriber::set_default(subscriber),
        }
    }

    pub fn all(&self) -> String {
        String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap()
    }

    pub fn count(&self, parts: &[&str]) -> usize {
        let all = self.all();
        let fits = |line: &&str| parts.iter().all(|part| line.contains(part));
        all.lines().filter(fits).count()
    }

    /// Until a line holds all of these.
    pub async fn until(&self, parts: &[&str]) {
        let wait = async {
            while self.count(parts) == 0 {
                pause(Duration::from_millis(5)).await;
            }
        };
        let told = within(Duration::from_secs(10), wait).await;
        told.unwrap_or_else(|| panic!("{parts:?} was not told in\n{}", self.all()));
    }
}
