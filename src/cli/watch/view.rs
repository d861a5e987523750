//! What the live view shows, drawn from what is known and the present moment.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Wrap};
use serde_json::Value;

use crate::time::Moment;

/// Everything that is known.
#[derive(Debug, Default)]
pub struct View {
    /// The newest status, and a moment before it was asked for.
    pub status: Option<(Value, Moment)>,
    /// The transitions, newest first.
    pub history: Vec<Value>,
    /// Why there is no connection.
    pub cut: Option<String>,
    /// Whether colours may be used; everything is told by words, too.
    pub colour: bool,
}

impl View {
    /// Takes a status in, unless a newer one of the same start is here already: answers
    /// may overtake one another. Revisions never fall; within one, the later asked counts.
    pub fn learn(&mut self, status: Value, asked_at: Moment) {
        let order = |status: &Value, at: Moment| (status["revision"].as_u64(), at);
        let older = self.status.as_ref().is_some_and(|(known, at)| {
            let same = known["boot_id"] == status["boot_id"];
            same && order(&status, asked_at) < order(known, *at)
        });
        if !older {
            self.status = Some((status, asked_at));
        }
    }

    fn style(&self, colour: Color) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        if self.colour { bold.fg(colour) } else { bold }
    }

    /// Draws it as of `now`.
    pub fn draw(&self, frame: &mut Frame<'_>, now: Moment) {
        let Some((status, asked_at)) = &self.status else {
            let wait = Paragraph::new("asking the sidecar …");
            return frame.render_widget(wait, frame.area());
        };
        let [title, role, lease, facts, history, help] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(2),
            Constraint::Length(3),
            Constraint::Length(4),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let passed = now.since(*asked_at);
        frame.render_widget(self.title(status), title);
        frame.render_widget(self.role(status, passed), role);
        frame.render_widget(self.lease(status, passed, lease.width), lease);
        frame.render_widget(self.facts(status), facts);
        frame.render_widget(self.story(history.height), history);
        frame.render_widget(Paragraph::new("q or Ctrl-C ends the watch"), help);
    }

    fn title(&self, status: &Value) -> Paragraph<'_> {
        let live = match &self.cut {
            None => Span::raw("live"),
            Some(reason) => Span::styled(
                format!("NO CONNECTION, trying again: {reason}"),
                self.style(Color::Red),
            ),
        };
        Paragraph::new(Line::from(vec![
            Span::styled(
                format!("tenure  {}", shown(&status["election"])),
                Style::new().add_modifier(Modifier::BOLD),
            ),
            Span::raw("   "),
            live,
        ]))
    }

    fn role(&self, status: &Value, passed: Duration) -> Paragraph<'_> {
        let id = shown(&status["id"]);
        let leader = shown(&status["leader"]["id"]);
        let (role, colour) = match status["state"].as_str() {
            // What was true when it was told says nothing of now.
            _ if self.cut.is_some() => ("unknown".to_owned(), Color::Red),
            Some("leader") => ("LEADING".to_owned(), Color::Green),
            Some("follower") => (format!("following {leader}"), Color::Blue),
            Some("candidate") => ("no leader known".to_owned(), Color::Yellow),
            Some("stepping_down") => ("stepping down".to_owned(), Color::Magenta),
            Some(other) => (other.to_owned(), Color::Yellow),
            None => ("unknown".to_owned(), Color::Red),
        };
        let detail = match &self.cut {
            None => format!("  {id}, epoch {}", shown(&status["term"])),
            Some(_) => {
                let ago = humantime::format_duration(Duration::from_secs(passed.as_secs()));
                let state = shown(&status["state"]);
                format!("  {id} was last heard of {ago} ago, as {state}")
            }
        };
        let role = Span::styled(role, self.style(colour));
        Paragraph::new(Line::from(vec![role, Span::raw(detail)]))
    }

    /// A line of words, and a bar that is told from its track by its shape.
    fn lease(&self, status: &Value, passed: Duration, width: u16) -> Paragraph<'_> {
        let lease = &status["lease"];
        let ttl = lease["ttl_ms"].as_u64().unwrap_or(1).max(1);
        let left = lease["remaining_ms"]
            .as_u64()
            .map(|told| told.saturating_sub(crate::time::millis(passed)));
        let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
        let words = match left {
            None => "no lease".to_owned(),
            Some(0) => "lease over, waiting for news".to_owned(),
            Some(left) => format!("lease {:.1}s of {:.1}s", seconds(left), seconds(ttl)),
        };
        let width = u64::from(width);
        let full = (left.unwrap_or(0).min(ttl) * width).div_ceil(ttl);
        let cells = |of: &str, count: u64| of.repeat(usize::try_from(count).unwrap_or(0));
        let colour = match status["is_leader"] == true {
            true => Color::Green,
            false => Color::Blue,
        };
        let bar = Line::from(vec![
            Span::styled(cells("█", full), self.style(colour)),
            Span::raw(cells("░", width.saturating_sub(full))),
        ]);
        Paragraph::new(vec![Line::raw(words), bar])
    }

    fn facts(&self, status: &Value) -> Paragraph<'_> {
        let leader = &status["leader"];
        let store = &status["backend"];
        let url = leader["url"].as_str().unwrap_or("");
        let mut lines = vec![
            Line::raw(format!("leader  {} {url}", shown(&leader["id"]))),
            match store["trouble"].as_str() {
                None => Line::raw(format!("store   ok  {}", shown(&store["address"]))),
                Some(trouble) => Line::styled(
                    format!("store   DOWN  {}  {trouble}", shown(&store["address"])),
                    self.style(Color::Red),
                ),
            },
        ];
        if let Some(health) = status["health"].as_object() {
            let good = health.get("healthy") == Some(&Value::Bool(true));
            let (word, colour) = match good {
                true => ("healthy", Color::Green),
                false => ("UNHEALTHY", Color::Red),
            };
            lines.push(Line::styled(format!("app     {word}"), self.style(colour)));
        }
        Paragraph::new(lines)
    }

    fn story(&self, height: u16) -> Paragraph<'_> {
        let fit = usize::from(height.saturating_sub(1));
        let entry = |entry: &Value| {
            let at = entry["at"].as_str().unwrap_or("-");
            let clock = at.get(11..19).unwrap_or(at).to_owned();
            Line::raw(format!(
                "{clock}  {:20}  {} → {}  {}  leader {}",
                shown(&entry["event"]),
                shown(&entry["from"]),
                shown(&entry["to"]),
                shown(&entry["reason"]),
                shown(&entry["leader"]),
            ))
        };
        let lines: Vec<Line<'_>> = self.history.iter().take(fit).map(entry).collect();
        let block = Block::new().title("history, UTC");
        Paragraph::new(lines)
            .wrap(Wrap { trim: false })
            .block(block)
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    fn drawn(view: &View, after: Duration) -> String {
        let Ok(mut terminal) = Terminal::new(TestBackend::new(70, 14));
        let Ok(_) = terminal.draw(|frame| view.draw(frame, Moment::default() + after));
        terminal.backend().to_string()
    }

    fn leader() -> View {
        let mut view = View {
            history: vec![
                json!({"at": "2026-01-01T10:20:30.123Z", "event": "leadership.acquired",
                "from": "candidate", "to": "leader", "reason": "won", "leader": "a"}),
            ],
            ..View::default()
        };
        let status = json!({"election": "orders", "id": "a", "state": "leader", "is_leader": true,
            "term": 42, "boot_id": "b", "revision": 7, "time": "2026-01-01T10:20:31.000Z",
            "leader": {"id": "a", "url": "http://x"}, "backend": {"address": "file:///x"},
            "lease": {"ttl_ms": 15000, "remaining_ms": 9000}});
        view.learn(status, Moment::default());
        view
    }

    #[test]
    fn the_lease_drains_between_answers() {
        let view = leader();
        let first = drawn(&view, Duration::ZERO);
        for word in [
            "orders",
            "LEADING",
            "epoch 42",
            "lease 9.0s of 15.0s",
            "10:20:30",
            "live",
        ] {
            assert!(first.contains(word), "{word}:\n{first}");
        }
        let later = drawn(&view, Duration::from_millis(6500));
        assert!(later.contains("lease 2.5s of 15.0s"), "{later}");
        let full = |text: &str| text.matches('█').count();
        assert!(full(&later) < full(&first), "{first}\n{later}");
        let over = drawn(&view, Duration::from_secs(60));
        assert!(over.contains("lease over"), "{over}");
    }

    #[test]
    fn a_cut_takes_back_what_was_told_and_an_old_answer_changes_nothing() {
        let mut view = leader();
        view.cut = Some("gone".to_owned());
        let cut = drawn(&view, Duration::from_secs(3));
        assert!(!cut.contains("LEADING"), "{cut}");
        assert!(
            cut.contains("NO CONNECTION") && cut.contains("3s ago, as leader"),
            "{cut}"
        );
        let old = json!({"boot_id": "b", "revision": 6});
        view.learn(old, Moment::default());
        assert!(drawn(&view, Duration::ZERO).contains("orders"));
    }

    #[test]
    fn what_a_node_calls_itself_moves_no_cursor() {
        let mut view = leader();
        let status = json!({"election": "orders", "id": "\u{1b}[2J", "state": "follower",
            "leader": {"id": "\u{7}b\u{9b}2J"}, "backend": {"trouble": "x\u{1b}y"},
            "lease": {"ttl_ms": 1}});
        view.learn(status, Moment::default());
        let text = drawn(&view, Duration::ZERO);
        let control = |letter: char| letter.is_control() && letter != '\n';
        assert!(!text.chars().any(control), "{text:?}");
    }
}
