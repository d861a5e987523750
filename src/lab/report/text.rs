//! Words and numbers of the page.

use std::time::Duration;

pub(super) use crate::lab::fleet::name;

/// A time of the chart, to the millisecond.
pub(super) fn seconds(moment: Duration) -> String {
    format!("{:.3} s", moment.as_secs_f64())
}

/// Text that says nothing to an HTML parser, in an element or in a quoted attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
