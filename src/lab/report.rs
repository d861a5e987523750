//! The end of a lab: a table, JSON, or a page with the timeline.

mod chart;
mod history;
mod page;
mod text;

use serde::Serialize;

pub(super) use self::history::{Disturbance, History};
use super::judge::Verdict;

/// One fault and what followed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub round: u32,
    pub fault: String,
    pub old_leader: String,
    pub new_leader: String,
    /// From the fault to the next leader, seen by long-poll.
    pub leaderless_ms: f64,
    pub share_of_ttl: f64,
    /// From the end of the old lease in the store to the next leader.
    pub after_lease_end_ms: Option<f64>,
    pub epoch_before: u64,
    pub epoch_after: u64,
    pub counter_before: u64,
    pub counter_after: u64,
    /// Writes of the old leader that bounced.
    pub refused: u64,
    /// Answers "I lead" of a node that had been paused, while another led.
    pub stale_answers: u64,
    pub lost: u64,
    pub doubled: u64,
}

/// Everything at the end.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub ok: bool,
    pub backend: String,
    pub nodes: usize,
    pub ttl_ms: u64,
    pub renew_every_ms: u64,
    pub faults: Vec<Row>,
    /// The counter's last acknowledged value.
    pub counter: u64,
    pub verdict: Verdict,
}

impl Report {
    pub fn holds(&self) -> bool {
        self.ok
    }

    /// The page of `--report`: one file that needs no other.
    pub fn page(&self, history: &History) -> String {
        page::page(self, history)
    }

    pub fn text(&self, json: bool) -> String {
        if json {
            let body = serde_json::to_string_pretty(self).unwrap_or_default();
            return format!("{body}\n");
        }
        let mut text = format!(
            "\n{:9} {:>10} {:>7} {:>30} {:>13} {:>5} {:>7} {:>7}\n",
            "fault", "leaderless", "of TTL", "epoch", "counter", "lost", "doubled", "refused"
        );
        for row in &self.faults {
            let epochs = format!("{} > {}", row.epoch_before, row.epoch_after);
            let counter = format!("{} > {}", row.counter_before, row.counter_after);
            text += &format!(
                "{:9} {:>7.1} ms {:>6.2}x {epochs:>30} {counter:>13} {:>5} {:>7} {:>7}\n",
                row.fault, row.leaderless_ms, row.share_of_ttl, row.lost, row.doubled, row.refused
            );
        }
        for row in &self.faults {
            if let Some(after) = row.after_lease_end_ms {
                text += &format!(
                    "{}: {} led {after:.1} ms after the lease of {} had ended in the store\n",
                    row.fault, row.new_leader, row.old_leader
                );
            }
        }
        text + &self.conclusion()
    }

    fn conclusion(&self) -> String {
        let Verdict {
            lost,
            doubled,
            skipped,
            two_led,
            epochs_fell,
        } = self.verdict;
        let stale: u64 = self.faults.iter().map(|row| row.stale_answers).sum();
        if self.ok {
            return format!(
                "\nThe counter stands at {}: no gap, no double, never two leaders, epochs rose.\n",
                self.counter
            );
        }
        format!(
            "\nBROKEN: lost {lost}, doubled {doubled}, skipped {skipped}, two led {two_led}, \
             epochs fell {epochs_fell}, stale answers {stale}\n"
        )
    }
}
