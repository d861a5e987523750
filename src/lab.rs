//! `tenure lab`: the counter failover lab, with real processes and a verdict.
//!
//! Each node is one process: a sidecar with a worker that counts, through the fenced
//! checkpoint, while its sidecar leads. The lab stops, kills, pauses or cuts off the
//! leader, or parts the nodes, and watches from outside, over the same HTTP API that an app
//! uses.

mod fault;
mod fleet;
mod judge;
mod log;
mod members;
mod network;
mod options;
mod proxy;
mod report;
mod show;
pub(crate) mod worker;

pub(crate) use options::Options;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Problem;
use crate::exit::{Exit, print_bytes, refuse, tell};
use fault::Lab;
use report::{History, Report};
use show::Show;

/// The hidden command that a lab's node is started by.
pub(crate) const NODE_COMMAND: &str = "lab-node";

/// Runs the lab, prints its table, and exits with 1 where a promise was broken.
pub(crate) fn run(options: &Result<Options, Vec<Problem>>) -> Exit {
    let options = match options {
        Ok(options) => options,
        Err(problems) => return refuse(problems),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(interruptible(options)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok((report, history)) => {
            let drawn = draw(options, &report, &history);
            let printed = print_bytes(report.text(options.json).as_bytes());
            if report.holds() && drawn {
                printed
            } else {
                Exit::Failure
            }
        }
        Err(error) => {
            tell(format_args!("tenure lab: {error:#}"));
            // 1 is a verdict, and there is none.
            match error.downcast_ref() {
                Some(Halt::StoreAway(_)) => Exit::Unavailable,
                Some(Halt::Signal(number)) => Exit::Signal(*number),
                None => Exit::Failure,
            }
        }
    }
}

/// Why a lab ends before its verdict through nobody's fault.
#[derive(Debug, thiserror::Error)]
enum Halt {
    #[error("nothing answers at {0}: start the store, or leave --backend away")]
    StoreAway(String),
    #[error("interrupted")]
    Signal(u8),
}

/// A signal drops the nodes, which ends them, and the directory that was made for them.
async fn interruptible(options: &Options) -> anyhow::Result<(Report, History)> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let number = |signal: Signal| u8::try_from(signal.as_raw()).unwrap_or_default();
    tokio::select! {
        outcome = experiment(options) => outcome,
        _ = interrupt.recv() => Err(Halt::Signal(number(Signal::INT)).into()),
        _ = terminate.recv() => Err(Halt::Signal(number(Signal::TERM)).into()),
    }
}

/// Writes the page, where one is asked for; false where that failed.
fn draw(options: &Options, report: &Report, history: &History) -> bool {
    let Some(path) = &options.report else {
        return true;
    };
    let written = std::fs::write(path, report.page(history));
    match &written {
        Ok(()) if options.json => {}
        Ok(()) => tell(format_args!("the timeline is in {}", path.display())),
        Err(error) => tell(format_args!("tenure lab: {}: {error}", path.display())),
    }
    written.is_ok()
}

async fn experiment(options: &Options) -> anyhow::Result<(Report, History)> {
    let show = Show::new(options);
    let mut lab = Lab::start(options, show).await?;
    let mut rows = Vec::new();
    for round in 1..=options.rounds {
        for fault in &options.faults {
            rows.push(lab.inject(round, *fault).await?);
        }
    }
    lab.finish(rows).await
}
