//! The timeline as inline SVG. Places along the time are percentages, so that it fits
//! any window while its text keeps its size. What a colour says, a pattern or a word
//! says, too.

use std::fmt::Write as _;
use std::time::Duration;

use super::history::{History, Mark, Tenure};
use super::text::{name, seconds};
use crate::lab::options::Fault;

/// Heights, in CSS pixels.
const FAULTS: usize = FAULT_ROWS * FAULT_ROW + 8;
const FAULT_ROW: usize = 23;
const LANE: usize = 58;
const COUNTER: usize = 130;
const AXIS: usize = 30;
/// Faults that follow each other closely take turns in so many rows.
const FAULT_ROWS: usize = 3;
/// So close, in percent, that their words would touch on a phone.
const CLOSE: f64 = 22.0;
/// More points than a screen has columns show nothing more.
const POINTS: usize = 2000;
/// At most so many steps of the axis.
const TICKS: u64 = 6;

/// The whole picture.
pub(super) fn chart(history: &History) -> String {
    let lanes_end = FAULTS + LANE * history.nodes;
    let height = lanes_end + COUNTER + AXIS;
    // Room for the numbers of many faults; the page lets a wide chart scroll.
    let width = history.marks.len() * 40;
    let mut svg = format!(
        "<svg class=\"chart\" width=\"100%\" height=\"{height}\" style=\"min-width:{width}px\" \
         role=\"group\" aria-label=\"Timeline\" xmlns=\"http://www.w3.org/2000/svg\">\n{PATTERNS}"
    );
    // The lines first: what they cross stays readable.
    faults(&mut svg, history, lanes_end + COUNTER);
    for node in 0..history.nodes {
        lane(&mut svg, history, node, FAULTS + LANE * node);
    }
    counter(&mut svg, history, lanes_end);
    axis(&mut svg, history, lanes_end + COUNTER);
    svg + "</svg>\n"
}

const PATTERNS: &str = "<defs>\
    <pattern id=\"gone\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" \
     patternTransform=\"rotate(45)\"><path class=\"thread\" d=\"M0 0V8\"/></pattern>\
    <pattern id=\"paused\" width=\"8\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
     <path class=\"thread\" d=\"M0 3H8\"/></pattern>\
    <pattern id=\"cut\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">\
     <circle class=\"dot\" cx=\"4\" cy=\"4\" r=\"1.6\"/></pattern>\
    </defs>\n";

/// Which pattern stands for it, and the word beside it in the legend.
pub(super) fn pattern(fault: Fault) -> &'static str {
    match fault {
        Fault::Stop | Fault::Kill => "gone",
        Fault::Pause => "paused",
        Fault::Cut | Fault::Partition => "cut",
    }
}

fn lane(svg: &mut String, history: &History, node: usize, top: usize) {
    let tenures = history.tenures.iter().enumerate();
    let own: Vec<(usize, &Tenure)> = tenures.filter(|(_, it)| it.node == node).collect();
    let times = own.len();
    let _ = writeln!(
        svg,
        "<g class=\"lane\" role=\"img\" aria-label=\"{who}: led {times} times\">\
         <text x=\"0\" y=\"{y}\">{who}</text>\
         <rect class=\"track\" x=\"0\" y=\"{bar}\" width=\"100%\" height=\"26\"/>",
        who = name(node),
        y = top + 16,
        bar = top + 22,
    );
    for mark in history.marks.iter().filter(|mark| mark.hit.contains(&node)) {
        let _ = writeln!(
            svg,
            "<rect class=\"away\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"26\" \
             fill=\"url(#{})\"/>",
            at(history, mark.from),
            top + 22,
            at(history, mark.until.saturating_sub(mark.from)),
            pattern(mark.fault),
        );
    }
    for (index, tenure) in own {
        bar(svg, history, index + 1, tenure, top + 22);
    }
    for (_, moment) in history.refusals.iter().filter(|(it, _)| *it == node) {
        let _ = writeln!(
            svg,
            "<svg class=\"refusal\" x=\"{}\" y=\"{}\" width=\"1\" height=\"14\">\
             <title>a stale write refused at {}</title><path d=\"M-5 2L5 12M-5 12L5 2\"/></svg>",
            at(history, *moment),
            top + 28,
            seconds(*moment),
        );
    }
    svg.push_str("</g>\n");
}

fn bar(svg: &mut String, history: &History, number: usize, tenure: &Tenure, top: usize) {
    let _ = writeln!(
        svg,
        "<svg class=\"led\" x=\"{}\" y=\"{top}\" width=\"{}\" height=\"26\">\
         <title>{} leads from {} to {}, epoch {}</title>\
         <rect width=\"100%\" height=\"26\"/><text x=\"5\" y=\"18\">{number}</text></svg>",
        at(history, tenure.from),
        at(history, tenure.until.saturating_sub(tenure.from)),
        name(tenure.node),
        seconds(tenure.from),
        seconds(tenure.until),
        tenure.epoch,
    );
}

fn faults(svg: &mut String, history: &History, bottom: usize) {
    let mut row = 0;
    let mut before: Option<f64> = None;
    for (index, mark) in history.marks.iter().enumerate() {
        let here = share(history, mark.from);
        let close = before.is_some_and(|before| here - before < CLOSE);
        row = if close { (row + 1) % FAULT_ROWS } else { 0 };
        before = Some(here);
        fault(
            svg,
            history,
            (index + 1, mark),
            12 + row * FAULT_ROW,
            bottom,
        );
    }
}

/// The fault's number and its word, and a line through all lanes.
fn fault(
    svg: &mut String,
    history: &History,
    (number, mark): (usize, &Mark),
    middle: usize,
    bottom: usize,
) {
    // Near the end of the chart the word stands before its number.
    let (anchor, aside) = if share(history, mark.from) > 80.0 {
        ("end", -14)
    } else {
        ("start", 14)
    };
    let _ = writeln!(
        svg,
        "<g class=\"fault\" role=\"img\" aria-label=\"fault {number}: {what} {who} at {when}\">\
         <title>{number}: {what} {who} at {when}</title>\
         <line x1=\"{x}\" x2=\"{x}\" y1=\"{middle}\" y2=\"{bottom}\"/>\
         <circle cx=\"{x}\" cy=\"{middle}\" r=\"10\"/>\
         <text class=\"number\" x=\"{x}\" y=\"{line}\" text-anchor=\"middle\">{number}</text>\
         <text x=\"{x}\" dx=\"{aside}\" y=\"{line}\" text-anchor=\"{anchor}\">{what}</text></g>",
        what = mark.fault,
        who = name(mark.node),
        when = seconds(mark.from),
        x = at(history, mark.from),
        line = middle + 4,
    );
}

/// A line that steps at each acknowledged write. It is drawn as reported, so that a
/// counter that went back is seen to.
fn counter(svg: &mut String, history: &History, top: usize) {
    let highest = history.counts.iter().map(|(_, value)| *value).max();
    let highest = highest.unwrap_or(0);
    let _ = writeln!(
        svg,
        "<g class=\"counter\" role=\"img\" aria-label=\"The counter, from 0 to {highest}\">\
         <text x=\"0\" y=\"{}\">counter, up to {highest}</text>\
         <svg x=\"0\" y=\"{}\" width=\"100%\" height=\"{}\" viewBox=\"0 0 1000 100\" \
         preserveAspectRatio=\"none\"><path d=\"{}\"/></svg></g>",
        top + 16,
        top + 24,
        COUNTER - 28,
        steps(history, highest),
    );
}

fn steps(history: &History, highest: u64) -> String {
    let mut path = "M0 99".to_owned();
    let every = history.counts.len().div_ceil(POINTS).max(1);
    let last = history.counts.len().saturating_sub(1);
    for (index, (moment, value)) in history.counts.iter().enumerate() {
        // A counter that goes back is never left out.
        let falls = index > 0 && history.counts[index - 1].1 >= *value;
        if index % every == 0 || index == last || falls {
            let x = share(history, *moment) * 10.0;
            #[allow(clippy::cast_precision_loss)]
            let y = 99.0 - 98.0 * (*value as f64) / (highest.max(1) as f64);
            let _ = write!(path, "H{x:.1}V{y:.1}");
        }
    }
    path + "H1000"
}

fn axis(svg: &mut String, history: &History, top: usize) {
    let step = tick(history.length);
    svg.push_str("<g class=\"axis\" aria-hidden=\"true\">");
    let _ = write!(
        svg,
        "<line x1=\"0\" x2=\"100%\" y1=\"{top}\" y2=\"{top}\"/>"
    );
    let mut moment = Duration::ZERO;
    while moment <= history.length {
        let anchor = match share(history, moment) {
            share if share < 4.0 => "start",
            share if share > 96.0 => "end",
            _ => "middle",
        };
        let x = at(history, moment);
        let _ = write!(
            svg,
            "<line x1=\"{x}\" x2=\"{x}\" y1=\"{top}\" y2=\"{}\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{} s</text>",
            top + 5,
            top + 20,
            moment.as_secs(),
        );
        moment += step;
    }
    svg.push_str("</g>\n");
}

/// A round number of seconds.
fn tick(length: Duration) -> Duration {
    let mut unit = 1;
    loop {
        for factor in [1, 2, 5] {
            let step = unit * factor;
            if length.as_secs() / step <= TICKS {
                return Duration::from_secs(step);
            }
        }
        unit *= 10;
    }
}

/// A moment as a share of the whole, in percent.
fn share(history: &History, moment: Duration) -> f64 {
    let whole = history.length.as_secs_f64();
    if whole > 0.0 {
        (100.0 * moment.as_secs_f64() / whole).min(100.0)
    } else {
        0.0
    }
}

fn at(history: &History, moment: Duration) -> String {
    format!("{:.3}%", share(history, moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_keeps_to_few_round_steps() {
        for (length, step) in [(0, 1), (5, 1), (12, 2), (29, 5), (61, 10), (5000, 1000)] {
            let step = Duration::from_secs(step);
            assert_eq!(tick(Duration::from_secs(length)), step, "{length}");
        }
    }

    #[test]
    fn of_many_writes_the_line_keeps_the_falls() {
        let mut counts: Vec<(Duration, u64)> = (0..10_000)
            .map(|number| (Duration::from_millis(number), number + 1))
            .collect();
        counts[5001].1 = 7;
        let history = History {
            length: Duration::from_secs(10),
            counts,
            ..History::default()
        };
        let path = steps(&history, 10_000);
        assert!(path.len() < 60_000, "{}", path.len());
        assert!(path.contains("V98.9"), "the fall to 7 is not drawn");
    }
}
