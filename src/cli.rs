//! The command line: flags in, exit codes out.

mod args;
mod ask;
mod checkpoint;
mod cluster;
mod watch;

use std::ffi::OsString;
use std::io::Write as _;

use args::node;
use clap::error::{ContextKind, ContextValue, ErrorKind};

pub use args::command;

use crate::child;
use crate::config::{Config, Raw};
use crate::exit::{Exit, print_bytes, refuse, tell};
use crate::lab::{self, NODE_COMMAND, Options};
use crate::process;

/// Runs the command line that `arguments` spell, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(code) = behind_the_app(&arguments) {
        return Exit::App(code);
    }
    let matches = match command().subcommand(node()).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are no errors; they go to stdout with 0.
            let _ = error.print();
            return refused(&error);
        }
    };
    match matches.subcommand() {
        Some(("run", matches)) => match configured(matches) {
            Ok(config) => process::run(&config, None),
            Err(exit) => exit,
        },
        Some(("config", matches)) => match matches.subcommand() {
            Some(("check", matches)) => check(matches),
            _ => Exit::Usage,
        },
        Some(("lab", matches)) => lab::run(&Options::new(matches)),
        Some((NODE_COMMAND, matches)) => match configured(matches) {
            Ok(config) => process::run(&config, Some(lab::worker::start)),
            Err(exit) => exit,
        },
        Some(("completions", matches)) => completions(matches),
        Some(("man", _)) => man(),
        Some((verb, matches)) => ask::ask(verb, matches),
        None => Exit::Usage,
    }
}

/// Flags and commands that are not known are 2, a bad value of a known one is 78.
fn refused(error: &clap::Error) -> Exit {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    match error.kind() {
        ErrorKind::InvalidUtf8 | ErrorKind::ValueValidation => Exit::Configuration,
        // A flag without its value comes with an empty one.
        ErrorKind::InvalidValue
            if !text(ContextKind::InvalidValue).is_empty()
                || !text(ContextKind::InvalidArg).starts_with('-') =>
        {
            Exit::Configuration
        }
        _ if error.use_stderr() => Exit::Usage,
        _ => Exit::Ok,
    }
}

/// The processes between the sidecar and the app. They come before the grammar is built:
/// each start of the app waits for them.
fn behind_the_app(arguments: &[OsString]) -> Option<u8> {
    let [_, command, rest @ ..] = arguments else {
        return None;
    };
    match command.to_str()? {
        child::GUARD_COMMAND => Some(child::guard(rest)),
        child::EXEC_COMMAND => Some(child::exec(rest)),
        _ => None,
    }
}

/// The configuration that these arguments mean, or every problem on stderr.
fn configured(matches: &clap::ArgMatches) -> Result<Config, Exit> {
    let mut problems = Vec::new();
    let raw = Raw::gather(matches, &mut problems);
    Config::new(&raw, problems).map_err(|problems| refuse(&problems))
}

fn check(matches: &clap::ArgMatches) -> Exit {
    let json = matches.get_flag("json");
    match configured(matches) {
        Ok(config) => {
            let effective = process::effective(&config, json);
            print_bytes(effective.as_bytes())
        }
        Err(exit) => exit,
    }
}

fn completions(matches: &clap::ArgMatches) -> Exit {
    let Some(shell) = matches.get_one::<clap_complete::Shell>("shell") else {
        return Exit::Usage;
    };
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut command(), "tenure", &mut script);
    print_bytes(&script)
}

fn man() -> Exit {
    let mut page = Vec::new();
    match man_page(&mut page) {
        Ok(()) => print_bytes(&page),
        Err(error) => {
            tell(format_args!("tenure: the man page cannot be made: {error}"));
            Exit::Failure
        }
    }
}

/// One page with the options of every command: a page each would have to be
/// installed each.
fn man_page(page: &mut Vec<u8>) -> std::io::Result<()> {
    let mut command = command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(page)?;
    options_of(&command, page)
}

fn options_of(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    for command in command.get_subcommands() {
        let name = command.get_bin_name().unwrap_or(command.get_name());
        let about = command.get_about().map(ToString::to_string);
        writeln!(page, ".SH \"{}\"", name.to_uppercase())?;
        writeln!(page, "{}", about.unwrap_or_default())?;
        let mut options = Vec::new();
        clap_mangen::Man::new(command.clone()).render_options_section(&mut options)?;
        let options = String::from_utf8_lossy(&options).replace(".SH OPTIONS\n", "");
        page.extend_from_slice(options.as_bytes());
        options_of(command, page)?;
    }
    Ok(())
}
