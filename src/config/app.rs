//! What stands after `--`: the app that runs only while this node leads.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::process::Signal;

use super::{Problem, Reader, Source, duration};

/// Settings that mean nothing without a command.
const OF_THE_APP: [&str; 3] = ["restart", "stop-signal", "crash-loop"];

/// The app, and what follows when it ends.
#[derive(Clone, Debug)]
pub struct App {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// What follows when it ends by itself.
    pub restart: Restart,
    /// What asks it to stop.
    pub stop_signal: StopSignal,
    /// When it is given up for longer.
    pub crash_loop: CrashLoop,
}

impl App {
    /// The program, as the user named it.
    #[must_use]
    pub fn program(&self) -> &OsStr {
        self.command
            .first()
            .map_or(OsStr::new(""), OsString::as_os_str)
    }
}

/// What follows when the app ends by itself. Leadership is handed over in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// The sidecar ends with the app's code.
    Never,
    /// A code of 0 ends the sidecar with 0; otherwise it campaigns again.
    OnFailure,
    /// It campaigns again.
    Always,
}

impl Restart {
    /// As `--restart` takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        }
    }
}

impl FromStr for Restart {
    type Err = Problem;
    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "never" => Ok(Self::Never),
            "on-failure" => Ok(Self::OnFailure),
            "always" => Ok(Self::Always),
            _ => Err(Problem::new("it is never, on-failure or always")),
        }
    }
}

/// A signal that the app can be sent, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSignal {
    name: &'static str,
    /// The signal.
    pub signal: Signal,
}

impl StopSignal {
    /// The usual one.
    pub const TERM: Self = Self::new("TERM", Signal::TERM);
    /// Passed on to the app.
    pub const HUP: Self = Self::new("HUP", Signal::HUP);
    /// Passed on to the app.
    pub const USR1: Self = Self::new("USR1", Signal::USR1);
    /// Passed on to the app.
    pub const USR2: Self = Self::new("USR2", Signal::USR2);
    /// All that make sense.
    const ALL: [Self; 9] = [
        Self::TERM,
        Self::HUP,
        Self::USR1,
        Self::USR2,
        Self::new("INT", Signal::INT),
        Self::new("QUIT", Signal::QUIT),
        Self::new("WINCH", Signal::WINCH),
        Self::new("ABRT", Signal::ABORT),
        Self::new("KILL", Signal::KILL),
    ];

    const fn new(name: &'static str, signal: Signal) -> Self {
        Self { name, signal }
    }

    /// Its name, without SIG.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.name
    }
}

impl FromStr for StopSignal {
    type Err = Problem;
    fn from_str(text: &str) -> Result<Self, Problem> {
        let upper = text.to_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let found = Self::ALL.into_iter().find(|it| it.name == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(|it| it.name).join(", ");
            Problem::new(format!(
                "it is no signal that stops an app; give one of {names}"
            ))
        })
    }
}

/// So many ends within such a time, and this node stays out for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashLoop {
    /// So many ends.
    pub ends: u32,
    /// Within that time.
    pub within: Duration,
}

impl CrashLoop {
    /// Five within a minute.
    pub const DEFAULT: Self = Self {
        ends: 5,
        within: Duration::from_secs(60),
    };
}

impl fmt::Display for CrashLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = humantime::format_duration(self.within);
        write!(f, "{} in {within}", self.ends)
    }
}

impl FromStr for CrashLoop {
    type Err = Problem;
    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = || Problem::new("write it as \"5 in 1m\": so many ends in that time");
        let (ends, within) = text.split_once(" in ").ok_or_else(wrong)?;
        let ends = ends.trim().parse().map_err(|_| wrong())?;
        let within = duration(within.trim())?;
        if ends == 0 || within < Duration::from_secs(1) {
            return Err(Problem::new("it is at least 1 end in at least 1s"));
        }
        Ok(Self { ends, within })
    }
}

impl Reader<'_> {
    /// The app and what is said about it; `None` where there is no command.
    pub(super) fn app(&mut self, elections: usize) -> Option<App> {
        let restart = self.read("restart", str::parse);
        let stop_signal = self.read("stop-signal", str::parse);
        let crash_loop = self.read("crash-loop", str::parse);
        let command = self.raw.command.clone();
        if command.is_empty() {
            self.refuse_without_command();
            return None;
        }
        let app = App {
            command,
            restart: restart.unwrap_or(Restart::OnFailure),
            stop_signal: stop_signal.unwrap_or(StopSignal::TERM),
            crash_loop: crash_loop.unwrap_or(CrashLoop::DEFAULT),
        };
        if let Err(problem) = find(app.program(), std::env::var_os("PATH").as_deref()) {
            self.problems.push(problem);
        }
        if elections > 1 {
            self.problems.push(Problem::new(format!(
                "{elections} elections with one command: it runs while this node leads one \
                 election; give one --election, or start a sidecar for each"
            )));
        }
        Some(app)
    }

    /// Only flags: a file or an environment may serve several sidecars.
    fn refuse_without_command(&mut self) {
        let given = OF_THE_APP.iter().filter_map(|name| self.raw.get(name));
        for given in given.filter(|given| given.source == Source::Flag) {
            self.problems.push(Problem::new(format!(
                "{given}: there is no command that it could be about; give one after --"
            )));
        }
    }
}

/// Where the program is, by the rules of execvp(3). What is found here may yet be gone
/// when the app is started: then starting it fails.
fn find(program: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, Problem> {
    let shown = program.to_string_lossy();
    let named = Path::new(program);
    if program.is_empty() {
        return Err(Problem::new(
            "-- \"\": the command is empty; name a program",
        ));
    }
    if shown.contains('/') {
        return runnable(named)
            .map(|()| named.to_owned())
            .map_err(|why| Problem::new(format!("-- {shown}: {why}")));
    }
    let mut refused = None;
    for dir in std::env::split_paths(path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"))) {
        let candidate = dir.join(named);
        match runnable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(why) if candidate.exists() => refused = Some((candidate, why)),
            Err(_) => {}
        }
    }
    Err(Problem::new(match refused {
        Some((candidate, why)) => format!("-- {shown}: {}: {why}", candidate.display()),
        None => format!("-- {shown}: no such program in PATH; give its path, or mend PATH"),
    }))
}

fn runnable(path: &Path) -> Result<(), String> {
    let found = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    })?;
    if !found.is_file() {
        return Err("it is no file".to_owned());
    }
    if access(path, Access::EXEC_OK).is_err() {
        return Err("it may not be executed; chmod +x it".to_owned());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_execvp_does() {
        let path = Some(OsStr::new("/nonexistent:/usr/bin:/bin"));
        assert!(find(OsStr::new("sh"), path).unwrap().ends_with("sh"));
        assert!(find(OsStr::new("/bin/sh"), None).is_ok());
        for (program, word) in [
            ("no-such-program", "PATH"),
            ("/bin", "no file"),
            ("/etc/passwd", "chmod"),
            ("./no-such-program", "no such file"),
            ("", "empty"),
        ] {
            let problem = find(OsStr::new(program), path).unwrap_err().to_string();
            assert!(problem.contains(word), "{problem}");
        }
    }

    #[test]
    fn signals_have_names_and_crash_loops_a_form() {
        let signal = |text: &str| text.parse::<StopSignal>().map(|it| it.signal);
        assert_eq!(signal("SIGINT"), Ok(Signal::INT));
        assert_eq!(signal("usr2"), Ok(Signal::USR2));
        assert!(signal("15").is_err());
        let parsed: CrashLoop = "3 in 10s".parse().unwrap();
        assert_eq!(parsed.to_string(), "3 in 10s");
        for bad in [
            "",
            "3",
            "0 in 1m",
            "3 in",
            "3 in 0s",
            "x in 1m",
            "3 in 500ms",
        ] {
            assert!(bad.parse::<CrashLoop>().is_err(), "{bad}");
        }
    }
}
