//! The table that figures are printed in, a line each as soon as it is known.

use std::time::Duration;

/// Values of one figure, in its unit.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn one(value: f64) -> Self {
        Self(vec![value])
    }

    /// Adds a span, in milliseconds.
    pub fn add(&mut self, span: Duration) {
        self.push(span.as_secs_f64() * 1000.0);
    }

    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The value that this share of the others does not exceed; NaN of nothing.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)]
        let index = (share * last as f64).ceil() as usize;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// One figure.
pub struct Row<'a> {
    pub what: &'a str,
    pub store: &'a str,
    pub unit: &'a str,
    pub sample: &'a Sample,
    /// What it cannot be below, or is compared with, measured in the same run.
    pub floor: Option<(&'a str, f64)>,
    /// The median is to be no more than this.
    pub target: Option<f64>,
}

pub fn heading() {
    println!(
        "{:44} {:6} {:>6} {:>9} {:>9} {:>9} {:>5}  {:>18} {:>7}  target",
        "figure", "store", "n", "median", "p90", "max", "", "floor", "ratio"
    );
}

impl Row<'_> {
    pub fn print(&self) {
        let (floor, ratio) = match self.floor {
            Some((name, floor)) if floor > 0.0 => (
                format!("{name} {}", short(floor)),
                format!("{:.1}x", self.sample.median() / floor),
            ),
            Some((name, floor)) => (format!("{name} {}", short(floor)), String::new()),
            None => (String::new(), String::new()),
        };
        let target = self.target.map_or_else(String::new, |target| {
            let met = self.sample.median() <= target;
            format!("<= {target} {}", if met { "met" } else { "MISSED" })
        });
        println!(
            "{:44} {:6} {:>6} {:>9} {:>9} {:>9} {:5}  {floor:>18} {ratio:>7}  {target}",
            self.what,
            self.store,
            self.sample.0.len(),
            short(self.sample.median()),
            short(self.sample.quantile(0.9)),
            short(self.sample.quantile(1.0)),
            self.unit,
        );
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
