//! `/metrics`: what the elections count and what their snapshots mean now, as
//! Prometheus reads it. Leadership is computed at the scrape like everywhere else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
    prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Shared;
use super::status::lease_until;
use crate::backend::PeerCount;
use crate::cluster::LogStatus;
use crate::machine::Snapshot;
use crate::sidecar::{Election, Metrics};
use crate::time::{Moment, UnixMs};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// GET HEAD OPTIONS `/metrics`
#[utoipa::path(
    method(get, head, options),
    path = "/metrics",
    description = "The metrics of all elections: text format 0.0.4, or OpenMetrics where the \
                   header Accept prefers it. Leadership is computed at the scrape.",
    responses((status = 200, description = "the metrics", content(
        (String = "text/plain"),
        (String = "application/openmetrics-text"),
    )))
)]
pub async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let mut registry = Registry::with_prefix("tenure");
    registry.register_collector(Box::new(Scrape(shared)));
    let mut body = String::new();
    let open = prefers_openmetrics(&headers);
    let encoded = if open {
        text::encode(&mut body, &registry)
    } else {
        prometheus_text::encode(&mut body, &registry)
    };
    if let Err(error) = encoded {
        // Writing to a String does not fail.
        tracing::error!(%error, "the metrics cannot be written");
    }
    let kind = if open {
        OPENMETRICS
    } else {
        prometheus_text::CONTENT_TYPE
    };
    ([(CONTENT_TYPE, kind)], body).into_response()
}

/// Whether `Accept` gives OpenMetrics a weight, and the plain text no higher one.
fn prefers_openmetrics(headers: &HeaderMap) -> bool {
    let (mut open, mut plain): (f32, f32) = (0.0, 0.0);
    let lines = headers.get_all(ACCEPT).iter();
    for range in lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
    {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let weight: f32 = weight.map_or(1.0, |text| text.parse().unwrap_or(0.0));
        match kind.as_str() {
            "application/openmetrics-text" => open = weight.max(open),
            "text/plain" | "text/*" | "*/*" => plain = weight.max(plain),
            _ => {}
        }
    }
    open > 0.0 && open >= plain
}

/// One reading of every election.
struct Scrape(Shared);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

/// An election as it is at the scrape.
struct Seen<'a> {
    election: &'a Election,
    snapshot: Arc<Snapshot>,
    now: Moment,
    wall: UnixMs,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let see = |election| Seen::of(election);
        let mut families = Families {
            seen: self.0.elections.iter().map(see).collect(),
            encoder,
        };
        families.of_leadership()?;
        families.of_the_loop()?;
        families.of_the_store()?;
        families.of_the_app(&self.0)?;
        families.of_the_build()
    }
}

impl<'a> Seen<'a> {
    fn of(election: &'a Election) -> Self {
        let (snapshot, now) = election.now();
        Self {
            election,
            snapshot,
            now,
            wall: election.clock().wall(),
        }
    }

    fn leads(&self) -> bool {
        self.snapshot.is_leader(self.now)
    }

    fn metrics(&self) -> &Metrics {
        self.election.metrics()
    }

    #[allow(clippy::cast_precision_loss)]
    fn clock_step(&self) -> f64 {
        self.election.store_clock_step_ms() as f64 / 1000.0
    }

    fn last_success(&self) -> f64 {
        let success = self.snapshot.store.last_success;
        let at = success.map(|at| self.wall.before(self.now.since(at)));
        at.map_or(0.0, |at| Duration::from_millis(at.0).as_secs_f64())
    }
}

/// Writes one family after the other, each with a series of every election.
struct Families<'a, 'e> {
    seen: Vec<Seen<'a>>,
    encoder: DescriptorEncoder<'e>,
}

impl Families<'_, '_> {
    fn of_leadership(&mut self) -> fmt::Result {
        self.gauge("is_leader", "1 while this node leads", |seen| {
            u64::from(seen.leads())
        })?;
        let help = "1 while this node knows of a leader, itself or another";
        self.gauge("has_leader", help, |seen| {
            u64::from(seen.leads() || seen.snapshot.leader.is_some())
        })?;
        self.gauge("term", "The highest epoch seen", |seen| {
            seen.snapshot.term.map_or(0, |term| term.get())
        })?;
        let help = "What is left of the lease: of the own leadership, or of the leader's by the \
                    store's last answer";
        self.gauge("lease_remaining_seconds", help, |seen| {
            let until = lease_until(&seen.snapshot, seen.now);
            until.map_or(0.0, |until| until.since(seen.now).as_secs_f64())
        })?;
        let help = "For how long this node has led";
        self.counter("leadership_seconds", help, |seen| {
            seen.metrics().leadership(seen.now).as_secs_f64()
        })?;
        let help = "For how long this node knew of nobody that leads";
        self.counter("leaderless_seconds", help, |seen| {
            seen.metrics().leaderless(seen.now).as_secs_f64()
        })
    }

    fn of_the_loop(&mut self) -> fmt::Result {
        let help = "Events of the election, by the state afterwards";
        self.counters("transitions", help, ["to", "reason"], Metrics::transitions)?;
        let help = "Renewals of the lease; unknown: no certain answer in time";
        self.counters("renewals", help, ["result"], Metrics::renewals)?;
        let help = "How long renewals took, whatever their result";
        let name = "renewal_duration_seconds";
        let mut family = family(&mut self.encoder, name, help, MetricType::Histogram)?;
        for seen in &self.seen {
            let took = seen.metrics().renewal_seconds();
            let buckets = took.buckets();
            let count = buckets.iter().map(|(_, count)| count).sum();
            family
                .encode_family(&[election(seen)])?
                .encode_histogram::<NoLabelSet>(took.sum(), count, &buckets, None)?;
        }
        Ok(())
    }

    fn of_the_store(&mut self) -> fmt::Result {
        self.gauge("backend_up", "1 while the store answers", |seen| {
            u64::from(seen.snapshot.store.connected)
        })?;
        let help = "When the store last answered; 0: never";
        let name = "backend_last_success_timestamp_seconds";
        self.gauge(name, help, |seen| seen.last_success())?;
        let help = "By how much the store's clock has moved further than this machine's since \
                    the start";
        self.gauge("clock_step_seconds", help, |seen| seen.clock_step())?;
        let help = "The other members of the cluster; this node is not among them";
        self.of_peers("peers_total", help, |peers| peers.total)?;
        let help = "The other members that this node's connection stands to";
        self.of_peers("peers_connected", help, |peers| peers.connected)?;
        let help = "1 while a majority of the members is there, as far as this node can tell";
        self.of_peers("has_quorum", help, |peers| peers.has_quorum.into())?;
        self.of_the_log()?;
        let help = "Validations of fencing tokens";
        self.counters("fence_checks", help, ["result"], Metrics::fence_checks)?;
        let help = "Writes of the checkpoint; unknown: may have been applied";
        self.counters(
            "checkpoint_writes",
            help,
            ["result"],
            Metrics::checkpoint_writes,
        )
    }

    /// No family at all where the store is no cluster of sidecars.
    fn of_peers(
        &mut self,
        name: &'static str,
        help: &str,
        count: impl Fn(PeerCount) -> usize,
    ) -> fmt::Result {
        if self.seen.iter().all(|seen| seen.election.peers().is_none()) {
            return Ok(());
        }
        self.gauge(name, help, |seen| {
            seen.election.peers().map_or(0, |peers| count(peers) as u64)
        })
    }

    /// No family at all where the members keep no log.
    fn of_the_log(&mut self) -> fmt::Result {
        let logs = self.seen.iter();
        let logs: Vec<(&Seen<'_>, LogStatus)> = logs
            .filter_map(|seen| seen.election.log().map(|log| (seen, log)))
            .collect();
        if logs.is_empty() {
            return Ok(());
        }
        let help = "The newest term of the log's own leader; no fencing token";
        let mut terms = family(&mut self.encoder, "raft_term", help, MetricType::Gauge)?;
        for (seen, log) in &logs {
            terms
                .encode_family(&[election(seen)])?
                .encode_gauge(&log.term)?;
        }
        let help = "The last entry of this member's log, by how far it is with it";
        let mut indexes = family(&mut self.encoder, "log_index", help, MetricType::Gauge)?;
        for (seen, log) in &logs {
            let kinds = [
                ("last", log.last),
                ("committed", log.committed),
                ("applied", log.applied),
            ];
            for (kind, index) in kinds {
                indexes
                    .encode_family(&[election(seen), ("kind", kind)])?
                    .encode_gauge(&index)?;
            }
        }
        let help = "By how many entries another member lags, on the log's leader; 0 elsewhere";
        let mut lags = family(
            &mut self.encoder,
            "log_lag_entries",
            help,
            MetricType::Gauge,
        )?;
        for (seen, log) in &logs {
            for (peer, lag) in &log.lag_entries {
                lags.encode_family(&[election(seen), ("peer", peer.as_str())])?
                    .encode_gauge(lag)?;
            }
        }
        Ok(())
    }

    fn of_the_app(&mut self, shared: &Shared) -> fmt::Result {
        let help = "Calls of the app's hook";
        self.counters("hook_deliveries", help, ["type", "result"], |metrics| {
            let all = metrics.deliveries().all();
            all.map(|(kind, outcome, count)| ([kind, outcome], count))
                .collect()
        })?;
        let help = "How often the app was started again after it had ended by itself";
        let child = shared.child.as_ref().map(|report| report.status());
        let restarts = child.map_or(0, |child| child.restarts);
        self.counter("child_restarts", help, |_| restarts)
    }

    fn of_the_build(&mut self) -> fmt::Result {
        let help = "This build; always 1";
        let mut family = family(&mut self.encoder, "build_info", help, MetricType::Gauge)?;
        for seen in &self.seen {
            let labels = [election(seen), ("version", env!("CARGO_PKG_VERSION"))];
            family.encode_family(&labels)?.encode_gauge(&1_u64)?;
        }
        Ok(())
    }

    fn gauge<V: EncodeGaugeValue>(
        &mut self,
        name: &'static str,
        help: &str,
        value: impl Fn(&Seen<'_>) -> V,
    ) -> fmt::Result {
        let mut family = family(&mut self.encoder, name, help, MetricType::Gauge)?;
        for seen in &self.seen {
            family
                .encode_family(&[election(seen)])?
                .encode_gauge(&value(seen))?;
        }
        Ok(())
    }

    fn counter<V: EncodeCounterValue>(
        &mut self,
        name: &'static str,
        help: &str,
        value: impl Fn(&Seen<'_>) -> V,
    ) -> fmt::Result {
        let mut family = family(&mut self.encoder, name, help, MetricType::Counter)?;
        for seen in &self.seen {
            family
                .encode_family(&[election(seen)])?
                .encode_counter::<NoLabelSet, _, u64>(&value(seen), None)?;
        }
        Ok(())
    }

    fn counters<const LABELS: usize>(
        &mut self,
        name: &'static str,
        help: &str,
        labels: [&'static str; LABELS],
        counts: impl Fn(&Metrics) -> Vec<([&'static str; LABELS], u64)>,
    ) -> fmt::Result {
        let mut family = family(&mut self.encoder, name, help, MetricType::Counter)?;
        for seen in &self.seen {
            for (values, count) in counts(seen.metrics()) {
                let own = labels.into_iter().zip(values);
                let all: Vec<_> = [election(seen)].into_iter().chain(own).collect();
                family
                    .encode_family(&all)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }
}

/// Begins a family of series.
fn family<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    name: &'static str,
    help: &str,
    kind: MetricType,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, kind)
}

/// The label that every series has.
fn election<'a>(seen: &Seen<'a>) -> (&'static str, &'a str) {
    ("election", seen.election.name().as_str())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_prefer_it() {
        let prefers = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            prefers_openmetrics(&headers)
        };
        // As Prometheus 2 and 3 ask.
        assert!(prefers(
            "application/openmetrics-text;version=1.0.0;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        ));
        assert!(prefers("application/openmetrics-text"));
        assert!(!prefers("application/openmetrics-text;q=0, */*"));
        assert!(!prefers("application/openmetrics-text;q=0.1, text/plain"));
        for plain in ["*/*", "text/plain", "text/html,*/*;q=0.8", ""] {
            assert!(!prefers(plain), "{plain}");
        }
        assert!(!prefers_openmetrics(&HeaderMap::new()));
    }
}
