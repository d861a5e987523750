//! At no moment of true time do two members say that they lead, or have their apps at work.

use tenure::lease::Epoch;

use super::Verdict;
use crate::clock::TrueNs;

/// Until when each member says it, unless it renews; a paused one says it, too.
pub struct Exclusion {
    until: Vec<Option<(Epoch, TrueNs)>>,
}

impl Exclusion {
    pub fn new(members: usize) -> Self {
        Self {
            until: vec![None; members],
        }
    }

    pub fn leads(&mut self, member: usize, epoch: Epoch, now: TrueNs, until: TrueNs) -> Verdict {
        if until <= now {
            return Ok(());
        }
        for (other, claim) in self.until.iter().enumerate() {
            if let Some((theirs, end)) = claim
                && other != member
                && *end > now
            {
                let over = (*end - now) as f64 / 1e6;
                return Err(format!(
                    "exclusion: member {member} leads under {epoch} while {other} does under \
                     {theirs} for another {over:.3} ms"
                ));
            }
        }
        self.until[member] = Some((epoch, until));
        Ok(())
    }

    pub fn stops(&mut self, member: usize) {
        self.until[member] = None;
    }

    /// It says so no more, but its app works on for a while.
    pub fn drains(&mut self, member: usize, until: TrueNs) {
        if let Some((_, end)) = &mut self.until[member] {
            *end = until.min(*end);
        }
    }

    pub fn leader(&self, now: TrueNs) -> Option<usize> {
        let leads = |claim: &Option<(Epoch, TrueNs)>| claim.is_some_and(|(_, end)| end > now);
        self.until.iter().position(leads)
    }
}
