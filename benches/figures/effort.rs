//! How long figures may take.

use std::time::Duration;

#[derive(Clone, Copy)]
pub struct Effort {
    /// A few rounds, to see that everything works; the numbers mean little.
    pub quick: bool,
}

impl Effort {
    pub fn rounds(self, whole: u32) -> u32 {
        if self.quick {
            whole.div_ceil(10)
        } else {
            whole
        }
    }

    pub fn span(self, whole: Duration) -> Duration {
        if self.quick { whole / 6 } else { whole }
    }

    /// Waits for any time up to `most`, so that rounds begin at any phase.
    pub fn linger(self, most: Duration) {
        std::thread::sleep(most.mul_f64(fastrand::f64()));
    }
}
