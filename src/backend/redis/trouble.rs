//! What a failure means: for the request that met it, and for the connection.
//!
//! A request that Redis answered with one of its own errors was refused whole: the
//! scripts read and check everything first, and Redis refuses their first write or
//! none. Only a user whose rights cover some of a script's commands is refused in the
//! middle: then a lease was not granted, for it is written last, and may have been
//! released. Without an answer nothing is known.

use redis::{ErrorKind, RedisError};

use super::acl;
use crate::lease::StoreError;

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// What the caller is told.
    pub error: StoreError,
    /// The connection cannot be used any more, or leads to a server that is no
    /// longer the right one.
    pub cut: bool,
    /// Where a cluster sends the request instead.
    pub turn: Option<Turn>,
}

/// What a node of a cluster says instead of an answer. It has applied nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The slot is another node's; where, as the node says it.
    Moved(String),
    /// The keys, or those that are missing here, may be at that node already.
    Ask(String),
    /// Some keys are here and some there.
    TryAgain,
    /// The node serves nobody: it misses others, or a slot has no master.
    Down,
}

/// Judges the failure of a request that had been sent.
pub(super) fn judge(error: &RedisError, address: &str) -> Trouble {
    if let Some(code) = server_code(error) {
        return refused(code, error.detail().unwrap_or(""), address);
    }
    let what = if error.is_timeout() {
        format!("{address} did not answer in time")
    } else if error.kind() == ErrorKind::Parse {
        format!("{address} answered what is not the Redis protocol")
    } else {
        format!("the connection to {address} broke: {error}")
    };
    Trouble {
        error: StoreError::Indeterminate(what),
        cut: true,
        turn: None,
    }
}

/// The code of an error that the server itself sent.
fn server_code(error: &RedisError) -> Option<&str> {
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => error.code(),
        _ => None,
    }
}

/// Judges an error that Redis answered: `-CODE detail`.
pub(super) fn refused(code: &str, detail: &str, address: &str) -> Trouble {
    let (code, detail) = wrapped(code, detail).unwrap_or((code, detail));
    let turn = match code {
        "MOVED" => Some(Turn::Moved(detail.to_owned())),
        "ASK" => Some(Turn::Ask(detail.to_owned())),
        "TRYAGAIN" => Some(Turn::TryAgain),
        "CLUSTERDOWN" => Some(Turn::Down),
        _ => None,
    };
    let (error, cut) = match code {
        "CORRUPT" => (StoreError::Corrupt(detail.to_owned()), false),
        "EXHAUSTED" => (StoreError::Rejected(detail.to_owned()), false),
        "LOADING" | "MASTERDOWN" | "READONLY" | "BUSY" | "NOREPLICAS" | "TRYAGAIN" => {
            passing(code, address)
        }
        "OOM" | "MISCONF" => (StoreError::Rejected(full(code, address)), false),
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => {
            let cut = matches!(code, "NOAUTH" | "WRONGPASS");
            (StoreError::Rejected(login(code, detail, address)), cut)
        }
        "MOVED" | "ASK" => (
            StoreError::Misconfigured(format!(
                "{address} is part of a Redis Cluster: write redis+cluster:// instead of redis://"
            )),
            true,
        ),
        "CLUSTERDOWN" => (
            StoreError::Unavailable(format!(
                "{address} serves nobody ({detail}): its Redis Cluster misses masters; wait for \
                 the failover, or bring them back (CLUSTER INFO)"
            )),
            false,
        ),
        "CROSSSLOT" => (
            StoreError::Misconfigured(format!(
                "{address} takes the keys of one election for keys of several slots, though they \
                 have one hash tag: what stands between does not speak Redis Cluster; give the \
                 address of a node itself"
            )),
            false,
        ),
        "ERR" => plain(detail, address),
        _ => (unknown(code, detail, address), false),
    };
    Trouble { error, cut, turn }
}

/// Redis before 7 wraps what refused a command of a script: `-ERR Error running script (call
/// to f_…): @user_script: 7: -READONLY You can't write …`.
fn wrapped<'a>(code: &str, detail: &'a str) -> Option<(&'a str, &'a str)> {
    let of_script = detail.starts_with("Error running script") && code == "ERR";
    let (_, refusal) = detail.split_once(": -").filter(|_| of_script)?;
    let (code, detail) = refusal.split_once(' ')?;
    let is_code = code.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_code && code != "ERR").then_some((code, detail))
}

/// Refusals that end by themselves. Where the server is no longer the writable one,
/// the connection is given up, so that the name is resolved again.
fn passing(code: &str, address: &str) -> (StoreError, bool) {
    let (what, cut) = match code {
        "LOADING" => (
            "is still loading its data from disk: wait until it has",
            true,
        ),
        "MASTERDOWN" => (
            "is a replica that has lost its master: give the address of the master",
            true,
        ),
        "READONLY" => (
            "has become a read-only replica: give an address that leads to the master",
            true,
        ),
        "BUSY" => (
            "is busy with somebody's long script: wait, or end it with SCRIPT KILL",
            false,
        ),
        "NOREPLICAS" => (
            "has fewer replicas than its min-replicas-to-write asks for: bring them back",
            false,
        ),
        _ => (
            "is moving the keys to another node: asked again soon",
            false,
        ),
    };
    let error = StoreError::Unavailable(format!("{address} {what}"));
    (error, cut)
}

fn full(code: &str, address: &str) -> String {
    if code == "OOM" {
        return format!(
            "{address} has used up its memory: raise maxmemory or remove data that is not needed"
        );
    }
    format!(
        "{address} takes no writes because it could not save to disk: look for the cause in its \
         log (a full disk, a directory it may not write)"
    )
}

fn login(code: &str, detail: &str, address: &str) -> String {
    match code {
        "NOAUTH" => format!(
            "{address} wants a password: name a file that holds it with --password-file, or write \
             redis://user:password@host into the environment, as TENURE_BACKEND"
        ),
        "WRONGPASS" => format!(
            "{address} refuses the user or the password: check them, and that the user is on"
        ),
        "DENIED" => format!(
            "{address} is in protected mode and talks only to its own machine: set a password \
             there (requirepass), or a bind address"
        ),
        _ => no_right(detail, address),
    }
}

fn no_right(detail: &str, address: &str) -> String {
    format!(
        "the Redis user lacks rights at {address} ({detail}). Grant them: {}",
        acl::any_line()
    )
}

/// `-ERR` has no finer code; only its words tell.
fn plain(detail: &str, address: &str) -> (StoreError, bool) {
    let rejected = |what: String| (StoreError::Rejected(what), true);
    if detail.starts_with("max number of clients") {
        let what = format!("{address} has no connection left: raise its maxclients");
        return (StoreError::Unavailable(what), true);
    }
    if detail.contains("executing the script can't") {
        return (StoreError::Rejected(no_right(detail, address)), false);
    }
    if detail.contains("DB index is out of range") {
        return rejected(format!(
            "{address} has no such database: choose one below its \"databases\" setting"
        ));
    }
    (unknown("ERR", detail, address), false)
}

/// An error that nobody foresaw may have come from the middle of something.
fn unknown(code: &str, detail: &str, address: &str) -> StoreError {
    StoreError::Indeterminate(format!(
        "{address} answered an error that Tenure does not know: {code} {detail}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unforeseen_refusal_leaves_doubt() {
        for (code, detail) in [
            ("OOM", "command not allowed"),
            ("READONLY", "You can't write against a read only replica."),
            ("LOADING", "Redis is loading the dataset in memory"),
            ("MISCONF", "Redis is configured to save RDB snapshots"),
            ("NOAUTH", "Authentication required."),
            ("NOPERM", "this user has no permissions"),
            ("NOREPLICAS", "Not enough good replicas to write."),
            ("BUSY", "Redis is busy running a script."),
            ("CORRUPT", "tenure:{a}:leader"),
        ] {
            let trouble = refused(code, detail, "redis://db:1");
            assert!(!trouble.error.may_have_happened(), "{code}: {trouble:?}");
        }
        assert!(
            refused("WHATEVER", "", "redis://db:1")
                .error
                .may_have_happened()
        );
    }

    #[test]
    fn what_an_older_redis_wraps_is_told_as_what_it_is() {
        let of = |inner: &str| {
            let detail = format!("Error running script (call to f_ab): @user_script: 195: {inner}");
            refused("ERR", &detail, "a")
        };
        let demoted = of("-READONLY You can't write against a read only replica.");
        assert!(demoted.cut && !demoted.error.may_have_happened());
        let full = of("-OOM command not allowed when used memory > 'maxmemory'.");
        assert!(full.error.to_string().contains("maxmemory"), "{full:?}");
        for unforeseen in ["attempt to index a nil value", "-WHATEVER it is"] {
            assert!(of(unforeseen).error.may_have_happened(), "{unforeseen}");
        }
    }

    #[test]
    fn a_demoted_server_loses_the_connection() {
        assert!(refused("READONLY", "", "a").cut);
        assert!(refused("LOADING", "", "a").cut);
        assert!(!refused("OOM", "", "a").cut);
        assert!(!refused("CORRUPT", "", "a").cut);
    }

    #[test]
    fn a_cluster_turns_requests_away_whole() {
        for (code, turn) in [
            ("MOVED", Turn::Moved("7 a:1".to_owned())),
            ("ASK", Turn::Ask("7 a:1".to_owned())),
            ("TRYAGAIN", Turn::TryAgain),
            ("CLUSTERDOWN", Turn::Down),
        ] {
            let trouble = refused(code, "7 a:1", "redis://db:1");
            assert!(!trouble.error.may_have_happened(), "{trouble:?}");
            assert_eq!(trouble.turn, Some(turn));
        }
        let wrong = refused("MOVED", "7 a:1", "redis://db:1").error.to_string();
        assert!(wrong.contains("redis+cluster://"), "{wrong}");
    }
}
