//! What a simulated cluster did, and whether it was right.

use std::collections::BTreeMap;
use std::time::Duration;

use tenure::cluster::ClusterStatus;
use tenure::lease::Epoch;

/// What all nodes of one history saw, judged as it comes.
#[derive(Default)]
pub struct Oracle {
    /// Who says that it leads, under which epoch and until when.
    claims: BTreeMap<String, (Epoch, Duration)>,
    /// The newest epoch that anybody led under.
    newest: Option<Epoch>,
    /// The greatest number of which a leader was told that it is stored, and under which epoch.
    stored: (u64, Option<Epoch>),
    /// Who led the log in each of its terms.
    led_the_log: BTreeMap<u64, String>,
    /// How each node last saw the cluster.
    pub seen: BTreeMap<String, ClusterStatus>,
}

impl Oracle {
    /// `node` was granted the lease.
    pub fn leads(&mut self, node: &str, epoch: Epoch, until: Duration) {
        assert!(
            Some(epoch) > self.newest,
            "{node} leads under {epoch} after {:?}",
            self.newest
        );
        self.newest = Some(epoch);
        self.claims.insert(node.to_owned(), (epoch, until));
    }

    /// Its lease was prolonged.
    pub fn renewed(&mut self, node: &str, until: Duration) {
        if let Some((_, ends_at)) = self.claims.get_mut(node) {
            *ends_at = until.max(*ends_at);
        }
    }

    /// It leads no more, or its process is gone.
    pub fn ended(&mut self, node: &str) {
        self.claims.remove(node);
    }

    /// A leader read that number.
    pub fn read(&self, node: &str, number: u64) {
        let (stored, _) = self.stored;
        assert!(
            number >= stored,
            "{node} read {number}, {stored} was stored"
        );
    }

    /// It was told that this number is stored.
    pub fn wrote(&mut self, node: &str, epoch: Epoch, number: u64) {
        let (stored, under) = self.stored;
        assert!(
            number > stored && Some(epoch) >= under,
            "{node} wrote {number} under {epoch} after {stored} under {under:?}"
        );
        self.stored = (number, Some(epoch));
    }

    pub fn stored(&self) -> u64 {
        self.stored.0
    }

    /// `node` sees its cluster so.
    pub fn sees(&mut self, node: &str, status: ClusterStatus) {
        if let Some(leader) = &status.raft_leader {
            let term = status.log.term;
            let first = self.led_the_log.entry(term);
            let first = first.or_insert_with(|| leader.clone());
            assert_eq!(first, leader, "two led the log in term {term}, says {node}");
        }
        self.seen.insert(node.to_owned(), status);
    }

    /// At most one leads at any moment.
    pub fn judge(&self, now: Duration) {
        let leaders = self.claims.iter().filter(|(_, (_, until))| now < *until);
        let leaders: Vec<_> = leaders.collect();
        assert!(leaders.len() <= 1, "at {now:?}: {leaders:?}");
    }

    pub fn leader(&self, now: Duration) -> Option<&str> {
        let leads = |(_, (_, until)): &(&String, &(Epoch, Duration))| now < *until;
        let leader = self.claims.iter().find(leads);
        leader.map(|(node, _)| node.as_str())
    }
}
