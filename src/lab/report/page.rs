//! The report as one page: the chart, what it shows as tables, nothing from elsewhere.

use std::fmt::Write as _;

use super::chart::{chart, pattern};
use super::history::History;
use super::text::{escaped, name, seconds};
use super::{Report, Row};

const TEMPLATE: &str = include_str!("page.html");

/// The page of a lab that has ended.
pub(super) fn page(report: &Report, history: &History) -> String {
    let span = |ms: u64| {
        let span = std::time::Duration::from_millis(ms);
        humantime::format_duration(span).to_string()
    };
    let setup = format!(
        "{} nodes on {}, lease {}, renewed every {}",
        report.nodes,
        report.backend,
        span(report.ttl_ms),
        span(report.renew_every_ms)
    );
    let parts = [
        (
            "verdict",
            if report.ok { "holds" } else { "broken" }.to_owned(),
        ),
        ("conclusion", escaped(report.conclusion().trim())),
        ("setup", escaped(&setup)),
        ("chart", chart(history)),
        ("legend", legend(history)),
        ("results", results(&report.faults)),
        ("tenures", tenures(history)),
        ("faults", faults(history)),
    ];
    // One pass over the template: what is filled in is never looked at again.
    let mut page = String::new();
    for piece in TEMPLATE.split("{{") {
        let (key, rest) = piece.split_once("}}").unwrap_or(("", piece));
        let part = parts.iter().find(|(name, _)| *name == key);
        page += part.map_or("", |(_, text)| text);
        page += rest;
    }
    page
}

/// Only what this chart has.
fn legend(history: &History) -> String {
    let mut legend = sign("<rect class=\"lead\" width=\"28\" height=\"16\"/>", "leads");
    let patterns = [
        ("gone", "stopped or killed"),
        ("paused", "paused (SIGSTOP)"),
        ("cut", "cut off"),
    ];
    for (id, word) in patterns {
        if history.marks.iter().any(|it| pattern(it.fault) == id) {
            let fill =
                format!("<rect class=\"away\" width=\"28\" height=\"16\" fill=\"url(#{id})\"/>");
            legend += &sign(&fill, word);
        }
    }
    if !history.refusals.is_empty() {
        let cross = "<path class=\"cross\" d=\"M9 3L19 13M9 13L19 3\"/>";
        legend += &sign(cross, "a stale write, refused");
    }
    if !history.marks.is_empty() {
        let line = "<line class=\"when\" x1=\"14\" x2=\"14\" y1=\"0\" y2=\"16\"/>";
        legend += &sign(line, "a fault");
    }
    legend
}

fn sign(drawing: &str, word: &str) -> String {
    format!(
        "<li><svg width=\"28\" height=\"16\" aria-hidden=\"true\">{drawing}</svg> {word}</li>\n"
    )
}

/// The table that the lab prints.
fn results(rows: &[Row]) -> String {
    let head = [
        "fault",
        "leaderless",
        "of TTL",
        "epoch",
        "counter",
        "lost",
        "doubled",
        "refused",
    ];
    let cells = rows.iter().map(|row| {
        vec![
            format!("{} {}", row.fault, row.old_leader),
            format!("{:.1} ms", row.leaderless_ms),
            format!("{:.2}x", row.share_of_ttl),
            format!("{} > {}", row.epoch_before, row.epoch_after),
            format!("{} > {}", row.counter_before, row.counter_after),
            row.lost.to_string(),
            row.doubled.to_string(),
            row.refused.to_string(),
        ]
    });
    table("Results", &head, cells)
}

fn tenures(history: &History) -> String {
    let head = ["tenure", "node", "from", "to", "epoch"];
    let cells = history.tenures.iter().enumerate().map(|(index, it)| {
        vec![
            (index + 1).to_string(),
            name(it.node),
            seconds(it.from),
            seconds(it.until),
            it.epoch.to_string(),
        ]
    });
    table("Who led when", &head, cells)
}

fn faults(history: &History) -> String {
    let head = ["number", "fault", "node", "from", "to"];
    let cells = history.marks.iter().enumerate().map(|(index, it)| {
        vec![
            (index + 1).to_string(),
            it.fault.to_string(),
            name(it.node),
            seconds(it.from),
            seconds(it.until),
        ]
    });
    table("Faults", &head, cells)
}

/// Each cell carries its column's name, for windows too narrow for columns.
fn table(caption: &str, head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = format!("<table><caption>{caption}</caption>\n<thead><tr>");
    for column in head {
        let _ = write!(table, "<th scope=\"col\">{column}</th>");
    }
    table += "</tr></thead>\n<tbody>\n";
    for row in rows {
        table += "<tr>";
        for (column, cell) in head.iter().zip(row) {
            let _ = write!(table, "<td data-of=\"{column}\">{}</td>", escaped(&cell));
        }
        table += "</tr>\n";
    }
    table + "</tbody></table>\n"
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::lab::judge::Verdict;
    use crate::lab::options::Fault;
    use crate::lab::report::history::{Mark, Tenure};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn example() -> (Report, History) {
        let row = Row {
            round: 1,
            fault: "pause".to_owned(),
            old_leader: "node-2".to_owned(),
            new_leader: "node-1".to_owned(),
            leaderless_ms: 2700.25,
            share_of_ttl: 0.9,
            after_lease_end_ms: Some(12.0),
            epoch_before: 41,
            epoch_after: 42,
            counter_before: 5,
            counter_after: 9,
            refused: 1,
            stale_answers: 0,
            lost: 0,
            doubled: 0,
        };
        let report = Report {
            ok: true,
            backend: "redis://<b onclick='x()'>&\"{{chart}}".to_owned(),
            nodes: 2,
            ttl_ms: 3000,
            renew_every_ms: 1000,
            faults: vec![row],
            counter: 9,
            verdict: Verdict::default(),
        };
        let tenure = |node, epoch, from, until| Tenure {
            node,
            epoch,
            from: ms(from),
            until: ms(until),
        };
        let history = History {
            nodes: 2,
            length: ms(12_000),
            tenures: vec![tenure(1, 41, 400, 1500), tenure(0, 42, 4200, 12_000)],
            counts: vec![(ms(500), 1), (ms(1400), 5), (ms(4300), 6), (ms(11_000), 9)],
            refusals: vec![(1, ms(7600))],
            marks: vec![Mark {
                fault: Fault::Pause,
                node: 1,
                hit: vec![1],
                from: ms(1500),
                until: ms(7500),
            }],
        };
        (report, history)
    }

    /// `UPDATE_GOLDEN=1 cargo test --lib golden` writes it anew; read the difference,
    /// and look at the page, before you commit it.
    #[test]
    fn the_page_is_the_golden_one() {
        let (report, history) = example();
        let made = report.page(&history);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lab/report/golden.html");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert!(made == golden, "it differs from {}", path.display());
    }

    #[test]
    fn what_is_filled_in_is_text() {
        let (report, history) = example();
        let page = report.page(&history);
        let shown = "&lt;b onclick=&#39;x()&#39;&gt;&amp;&quot;{{chart}}";
        assert!(page.contains(shown), "{page}");
        assert!(!page.contains("<b ") && !page.contains("<script"), "{page}");
        assert_eq!(page.matches("class=\"chart\"").count(), 1);
    }

    #[test]
    fn a_broken_promise_is_said_on_top() {
        let (mut report, history) = example();
        report.ok = false;
        report.verdict.doubled = 2;
        let page = report.page(&history);
        assert!(
            page.contains("class=\"broken\">BROKEN: lost 0, doubled 2"),
            "{page}"
        );
    }

    #[test]
    fn of_nothing_there_is_a_page_too() {
        let (mut report, _) = example();
        report.faults.clear();
        let page = report.page(&History::new(3, &[], &[]));
        assert_eq!(page.matches("class=\"lane\"").count(), 3);
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }
}
