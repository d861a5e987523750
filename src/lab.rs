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

use crate::config::Problem;
use crate::exit::{Exit, print_bytes, refuse};
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
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                outcome = experiment(options) => outcome,
                _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
            }
        }),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok((report, history)) => {
            let drawn = draw(options, &report, &history);
            print_bytes(report.text(options.json).as_bytes());
            if report.holds() && drawn {
                Exit::Ok
            } else {
                Exit::Failure
            }
        }
        Err(error) => {
            anstream::eprintln!("tenure lab: {error:#}");
            Exit::Failure
        }
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
        Ok(()) => anstream::eprintln!("the timeline is in {}", path.display()),
        Err(error) => anstream::eprintln!("tenure lab: {}: {error}", path.display()),
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
