//! Settings as text, each with where it came from: flag > environment > file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::Problem;
use super::setting::{SETTINGS, Setting};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// The file.
    File(PathBuf),
}

/// A setting's text and its source.
#[derive(Clone, Debug)]
pub struct Given {
    /// Which setting.
    pub setting: &'static Setting,
    /// Its values, one unless the setting repeats.
    pub values: Vec<String>,
    /// Where from.
    pub source: Source,
}

impl Given {
    /// What the user wrote before the value, for messages about a part of it.
    #[must_use]
    pub fn place(&self) -> String {
        let name = self.setting.name;
        match &self.source {
            Source::Flag => format!("--{name}"),
            Source::Environment => self.setting.variable(),
            Source::File(path) => format!("{name} in {}", path.display()),
        }
    }
}

/// A value as the user wrote it, for messages; a password in it is hidden.
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = printable(&without_password(&self.values.join(",")));
        let name = self.setting.name;
        match &self.source {
            Source::Flag => write!(f, "--{name} {value}"),
            Source::Environment => write!(f, "{}={value}", self.setting.variable()),
            Source::File(path) => write!(f, "{name} = \"{value}\" in {}", path.display()),
        }
    }
}

/// A message stays one line whatever is in a value.
fn printable(text: &str) -> String {
    let escape = |letter: char| {
        let escaped = letter.is_control().then(|| letter.escape_debug());
        let plain = escaped.is_none().then_some(letter);
        escaped.into_iter().flatten().chain(plain)
    };
    text.chars().flat_map(escape).collect()
}

/// `scheme://user:password@host` with the password left out; of a text that is no
/// URL, what would be the password in one. The query is left out as well: there is none
/// in an address of a store, but other programs take a password there.
#[must_use]
pub fn without_password(text: &str) -> String {
    let (start, end) = password_at(text).unwrap_or((0, 0));
    let (before, after) = (text.get(..start), text.get(end..));
    let (before, after) = (before.unwrap_or(""), after.unwrap_or(""));
    let hidden = if end > 0 { "***" } else { "" };
    match after.split_once('?') {
        Some((after, query)) if text.contains("://") || query.contains('=') => {
            format!("{before}{hidden}{after}?***")
        }
        _ => format!("{before}{hidden}{after}"),
    }
}

/// Whether a URL carries a password.
#[must_use]
pub fn has_password(text: &str) -> bool {
    password_at(text).is_some()
}

/// Where the password begins and ends. It may hold any character: the host begins
/// after the last @.
fn password_at(text: &str) -> Option<(usize, usize)> {
    let login = text.find("://").map_or(0, |at| at + 3);
    let end = text.rfind('@')?;
    let colon = text.get(login..end)?.find(':')?;
    Some((login + colon + 1, end))
}

/// All settings that were given.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    given: BTreeMap<&'static str, Given>,
    /// What stands after `--`.
    pub command: Vec<OsString>,
}

impl Raw {
    /// Gathers flags, environment and file; unreadable ones become problems.
    #[must_use]
    pub fn gather(matches: &ArgMatches, problems: &mut Vec<Problem>) -> Self {
        let mut raw = Self::default();
        let file = matches.get_one::<OsString>("config").map(PathBuf::from);
        let flag = matches.value_source("config") == Some(ValueSource::CommandLine);
        match file {
            Some(path) if !path.as_os_str().is_empty() => raw.add_file(&path, problems),
            Some(_) if flag => {
                problems.push(Problem::new("--config \"\": name a file, or leave it out"));
            }
            // `TENURE_CONFIG=` counts as not set, like every other variable.
            _ => {}
        }
        // The lab's node has no such argument.
        if let Ok(Some(command)) = matches.try_get_many::<OsString>("command") {
            raw.command = command.cloned().collect();
        }
        for setting in SETTINGS {
            raw.add_argument(matches, setting, problems);
        }
        raw
    }

    /// What was given for a setting.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Given> {
        self.given.get(name)
    }

    fn add_argument(
        &mut self,
        matches: &ArgMatches,
        setting: &'static Setting,
        problems: &mut Vec<Problem>,
    ) {
        let source = match matches.value_source(setting.name) {
            Some(ValueSource::CommandLine) => Source::Flag,
            Some(ValueSource::EnvVariable) => Source::Environment,
            _ => return,
        };
        let mut values = Vec::new();
        for value in matches.get_raw(setting.name).into_iter().flatten() {
            match value.to_str() {
                Some(text) if setting.repeats => {
                    values.extend(text.split(',').map(|part| part.trim().to_owned()));
                }
                Some(text) => values.push(text.to_owned()),
                None => {
                    let given = Given {
                        setting,
                        values: vec![value.to_string_lossy().into_owned()],
                        source: source.clone(),
                    };
                    problems.push(Problem::new(format!("{given}: it is not UTF-8")));
                }
            }
        }
        // `TENURE_TTL=` in a compose file means that it is not set.
        let unset = source == Source::Environment && values.iter().all(String::is_empty);
        if !values.is_empty() && !unset {
            let given = Given {
                setting,
                values,
                source,
            };
            self.given.insert(setting.name, given);
        }
    }

    fn add_file(&mut self, path: &Path, problems: &mut Vec<Problem>) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let text = format!("--config {}: cannot be read: {error}", path.display());
                return problems.push(Problem::new(text));
            }
        };
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                // Not the error's own text: it quotes the line, which may hold a password.
                let before = error.span().and_then(|span| text.get(..span.start));
                let line = before.unwrap_or_default().matches('\n').count() + 1;
                let reason = error.message();
                let path = path.display();
                let text = format!("--config {path}: is no TOML: {reason} (line {line})");
                return problems.push(Problem::new(text));
            }
        };
        for (key, value) in &table {
            let name = key.replace('_', "-");
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
                let text = format!("{key} in {}: there is no such setting", path.display());
                problems.push(Problem::new(text));
                continue;
            };
            let source = Source::File(path.to_owned());
            let twice = self.get(setting.name).map(|given| &given.source) == Some(&source);
            if twice {
                let text = format!("{key} in {}: it is set twice, with - and _", path.display());
                problems.push(Problem::new(text));
                continue;
            }
            match texts(value, setting) {
                Some(values) => {
                    let given = Given {
                        setting,
                        values,
                        source,
                    };
                    self.given.insert(setting.name, given);
                }
                None => problems.push(Problem::new(format!(
                    "{key} = {} in {}: a {} was expected",
                    shape(value),
                    path.display(),
                    if setting.repeats {
                        "text or list of texts"
                    } else {
                        "single text"
                    }
                ))),
            }
        }
    }
}

/// What stands there, without what is in it: that may be a password.
fn shape(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::Array(_) => "[...]",
        toml::Value::Table(_) => "{...}",
        _ => "a date",
    }
}

fn texts(value: &toml::Value, setting: &Setting) -> Option<Vec<String>> {
    let scalar = |value: &toml::Value| match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    };
    match value {
        toml::Value::Array(list) if setting.repeats => list.iter().map(scalar).collect(),
        single => scalar(single).map(|text| vec![text]),
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_password_is_never_shown() {
        let shown = |text| without_password(text);
        assert_eq!(shown("redis://u:se@cr:et@h:1/0"), "redis://u:***@h:1/0");
        assert_eq!(shown("redis://:secret@h"), "redis://:***@h");
        assert_eq!(shown("redis://u@h"), "redis://u@h");
        assert_eq!(shown("redis://h:6379"), "redis://h:6379");
        assert_eq!(shown("redis"), "redis");
        assert_eq!(shown("redis:u:secret@h"), "redis:***@h");
        assert_eq!(shown("u:secret@h:6379"), "u:***@h:6379");
        assert_eq!(shown("redis://h?password=secret"), "redis://h?***");
        assert_eq!(shown("redis://h?secret"), "redis://h?***");
        assert_eq!(shown("redis://u:se?cret@h/0?a=b"), "redis://u:***@h/0?***");
        assert_eq!(shown("redis?password=secret"), "redis?***");
        assert_eq!(shown("what is it?"), "what is it?");
    }
}
