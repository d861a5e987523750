//! An event as a line.

use serde_json::{Value, json};

use super::feed::Event;

/// For programs: one object a line, with the names that hooks use.
pub fn json(event: &Event) -> String {
    let line = json!({"type": event.name, "id": event.id, "data": event.status});
    format!("{line}\n")
}

/// For people who read a log.
pub fn text(event: &Event) -> String {
    let status = &event.status;
    let of = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    };
    let mut line = format!(
        "{}  {:20}  {:13}  epoch {}  leader {}",
        of(&status["time"]),
        printable(&event.name),
        of(&status["state"]),
        of(&status["term"]),
        of(&status["leader"]["id"]),
    );
    if let Some(trouble) = status["backend"]["trouble"].as_str() {
        line += &format!("  {}", printable(trouble));
    }
    line.push('\n');
    line
}

/// A line stays one, and a terminal is told nothing, whatever a node is called.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| {
            if letter.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                letter
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let event = Event {
            name: "leader.changed".to_owned(),
            id: "b:1".to_owned(),
            status: json!({"leader": {"id": "a\n\u{1b}[2Jb"}, "backend": {"trouble": "x\r\ny"}}),
        };
        let text = text(&event);
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'));
        assert_eq!(super::json(&event).matches('\n').count(), 1);
    }
}
