//! The grammar of the command line. Values stay text here: what is wrong with them
//! is told by `config`, all together, with exit code 78.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, value_parser};

use super::ask::DEFAULT_API;
use crate::config::{CONFIG_VARIABLE, SETTINGS, Setting, variable};
use crate::lab::NODE_COMMAND;

/// The whole command line.
#[must_use]
pub fn command() -> Command {
    Command::new("tenure")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Leader election beside any app, on the store you already have")
        .long_about(
            "Runs next to an app, keeps a lease in a store, tells the app over localhost HTTP \
             whether it leads, and hands it a fencing token that makes a stale leader's writes \
             bounce.",
        )
        .after_help("First steps: `tenure lab` shows a failover; `tenure run` starts a sidecar.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(
            run("run")
                .about("Run the sidecar; with a command, that runs only while this node leads")
                .arg(app()),
        )
        .subcommand(
            Command::new("config")
                .about("Look at the configuration")
                .subcommand_required(true)
                .subcommand(
                    run("check")
                        .about("Print the effective configuration and what it means; 78 if wrong")
                        .arg(app())
                        .arg(json()),
                ),
        )
        .subcommands(asking())
        .subcommand(lab())
        .subcommand(
            Command::new("completions")
                .about("Print a completion script")
                .arg(
                    Arg::new("shell")
                        .required(true)
                        .value_name("SHELL")
                        .value_parser(value_parser!(clap_complete::Shell)),
                ),
        )
        .subcommand(Command::new("man").about("Print the man page"))
}

/// What the lab starts: no command for people, so in no help, completion or manual.
pub(super) fn node() -> Command {
    run(NODE_COMMAND)
        .about("A sidecar with the lab's worker")
        .hide(true)
}

/// A command that takes every setting, and a file of them.
fn run(name: &'static str) -> Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env(CONFIG_VARIABLE)
        .value_parser(value_parser!(OsString))
        .help(
            "A TOML file of these settings; a flag wins over the environment, that over the file",
        );
    Command::new(name)
        .args(SETTINGS.iter().map(argument))
        .arg(file)
}

/// The app: everything after `--`, as it is.
fn app() -> Arg {
    Arg::new("command")
        .last(true)
        .num_args(1..)
        .value_name("COMMAND")
        .value_parser(value_parser!(OsString))
        .help(
            "Started when this node begins to lead, stopped before another can; it finds \
             TENURE_FENCE_TOKEN, TENURE_API, TENURE_ELECTION and TENURE_ID in its environment",
        )
}

fn argument(setting: &Setting) -> Arg {
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .env(setting.variable())
        .help(setting.help)
        .allow_hyphen_values(true)
        .hide_env_values(true)
        // Any bytes: what is no UTF-8 is told with the other problems.
        .value_parser(value_parser!(OsString));
    if setting.is_switch() {
        return arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL");
    }
    let arg = arg.value_name(setting.value);
    if setting.repeats {
        arg.action(ArgAction::Append)
    } else {
        arg
    }
}

fn json() -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print JSON")
}

/// The commands that ask a running sidecar.
fn asking() -> Vec<Command> {
    let sidecar = |name: &'static str, about: &'static str| {
        Command::new(name)
            .about(about)
            .arg(
                Arg::new("api")
                    .long("api")
                    .value_name("URL")
                    .env("TENURE_API")
                    .default_value(DEFAULT_API)
                    .help("The sidecar to ask: http://HOST:PORT or unix:/run/tenure.sock"),
            )
            .arg(
                Arg::new("api-token-file")
                    .long("api-token-file")
                    .value_name("FILE")
                    .env("TENURE_API_TOKEN_FILE")
                    .help("Holds the API's token on its first line, where it asks for one"),
            )
    };
    let ask = |name: &'static str, about: &'static str| {
        sidecar(name, about).arg(
            Arg::new("of")
                .long("election")
                .value_name("NAME")
                .help("Which of its elections (default: the first)"),
        )
    };
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .allow_hyphen_values(true)
            .help(help)
    };
    vec![
        ask("status", "Who leads, under which epoch, for how long").arg(json()),
        ask(
            "watch",
            "Follow the election live: a view on a terminal, else a line an event",
        )
        .arg(json().help("Print a line of JSON an event")),
        ask("stepdown", "Make this node give leadership up")
            .arg(text("reason", "TEXT", "Why, for the log"))
            .arg(text(
                "cooldown",
                "DURATION",
                "How long it campaigns last (default: one TTL)",
            ))
            .arg(text(
                "wait",
                "DURATION",
                "How long to wait for the release (default: 30s)",
            ))
            .arg(text("to", "ID", "Which node may try first"))
            .arg(json()),
        ask(
            "token",
            "Print the fencing token; 1 where this node does not lead",
        )
        .arg(json()),
        ask(
            "validate",
            "Ask the store what a fencing token is worth; 1 unless it is current",
        )
        .arg(
            Arg::new("token")
                .required(true)
                .value_name("TOKEN")
                .allow_negative_numbers(true),
        )
        .arg(json()),
        Command::new("checkpoint")
            .about("Read or write the small state that a new leader resumes from")
            .subcommand_required(true)
            .subcommand(ask("get", "Print the checkpoint").arg(json()))
            .subcommand(
                ask("put", "Write the checkpoint from stdin; the node must lead")
                    .arg(text(
                        "token",
                        "TOKEN",
                        "The fencing token (default: the node's)",
                    ))
                    .arg(text("if-match", "REVISION", "Only over this revision"))
                    .arg(
                        Arg::new("if-none-match")
                            .long("if-none-match")
                            .action(ArgAction::SetTrue)
                            .conflicts_with("if-match")
                            .help("Only where there is none, or it was lost"),
                    )
                    .arg(json()),
            ),
        ask("history", "The last transitions of this node").arg(json()),
        cluster(&sidecar, &text),
        ask("healthcheck", "Exit with 0 while the sidecar is live").after_help(
            "Exit codes: 0 live; 69 not live, or no answer within 5 seconds; 78 a bad --api. \
             --api may name the probes' listener; no token is needed.",
        ),
    ]
}

/// The members of a cluster of sidecars, where the log says who they are.
fn cluster(
    sidecar: &impl Fn(&'static str, &'static str) -> Command,
    text: &impl Fn(&'static str, &'static str, &'static str) -> Arg,
) -> Command {
    let change = |name: &'static str, about: &'static str| {
        sidecar(name, about)
            .arg(
                Arg::new("member")
                    .required(true)
                    .value_name("ID")
                    .help("The member, as --peer names it"),
            )
            .arg(text(
                "wait",
                "DURATION",
                "How long to wait for the change (default: 30s)",
            ))
            .arg(json())
    };
    Command::new("cluster")
        .about("The members of a raft cluster: who they are, and changes of that")
        .long_about(
            "Any member's sidecar can be asked: it passes the question on to the one that leads \
             the log. The members of bully and ring are those of --peer, and stores have none.",
        )
        .subcommand_required(true)
        .subcommand(
            sidecar("status", "Who the members are, and how far their logs are").arg(json()),
        )
        .subcommand(change(
            "add",
            "Let a member vote that is listed and connected",
        ))
        .subcommand(change("remove", "Take a member's vote and seat"))
        .subcommand(change(
            "replace",
            "Give a member's seat to its new disk: the old one was lost",
        ))
}

fn lab() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .env(variable(name))
            .hide_env_values(true)
            .allow_hyphen_values(true)
            .help(help)
    };
    Command::new("lab")
        .about("The counter failover lab: real processes, one counter, faults, a verdict")
        .long_about(
            "Starts real sidecars with a worker each, lets the leader count through the fenced \
             checkpoint, stops, kills, pauses or cuts off the leader, or parts the members, and \
             judges: exit 1 where the counter ever went back, skipped or doubled, two led at \
             once, or an epoch fell.",
        )
        .arg(text(
            "backend",
            "URL",
            "As in `tenure run` (default: file in a temporary directory)",
        ))
        .arg(text("nodes", "N", "How many sidecars, 2 to 9 (default: 3)"))
        .arg(text("ttl", "DURATION", "The lease (default: 3s)"))
        .arg(text(
            "renew-every",
            "DURATION",
            "From one renewal to the next (default: ttl/3)",
        ))
        .arg(text(
            "fault",
            "LIST",
            "Of stop, kill, pause, cut, partition (default: kill,stop,pause)",
        ))
        .arg(text(
            "rounds",
            "N",
            "How often the faults are gone through (default: 1)",
        ))
        .arg(text(
            "report",
            "FILE.html",
            "Draw the timeline as one self-contained page there",
        ))
        .arg(json())
}
