//! Not being a candidate, for as long as anybody has a reason.

use tokio::sync::watch;

/// The reasons that stand, each as often as it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Abstentions(Vec<&'static str>);

impl Abstentions {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn reasons(&self) -> Vec<&'static str> {
        self.0.clone()
    }
}

/// A reason not to be a candidate; it stands until this is dropped.
#[derive(Debug)]
pub struct Abstention {
    all: watch::Sender<Abstentions>,
    why: &'static str,
}

impl Abstention {
    pub(super) fn begin(all: &watch::Sender<Abstentions>, why: &'static str) -> Self {
        all.send_modify(|abstentions| abstentions.0.push(why));
        Self {
            all: all.clone(),
            why,
        }
    }
}

impl Drop for Abstention {
    fn drop(&mut self) {
        self.all.send_modify(|abstentions| {
            if let Some(at) = abstentions.0.iter().position(|why| *why == self.why) {
                abstentions.0.swap_remove(at);
            }
        });
    }
}
