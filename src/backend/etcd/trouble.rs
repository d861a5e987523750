//! What a failure means: for the request that met it, and for the connection.
//!
//! What etcd refuses before it proposes a request to the cluster was surely not
//! applied; those refusals are listed by name. Whatever else goes wrong leaves doubt.

use std::error::Error as _;

use tonic::{Code, Status};

use super::connection::Ended;
use crate::lease::StoreError;

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// What the caller is told.
    pub error: StoreError,
    /// The connection is of no more use.
    pub cut: bool,
    /// Another member may do better.
    pub elsewhere: bool,
    /// The request never left.
    pub unsent: bool,
}

impl Trouble {
    /// The connection went, or the member did.
    pub(super) fn broken(error: StoreError) -> Self {
        Self {
            error,
            cut: true,
            elsewhere: true,
            unsent: false,
        }
    }

    /// A refusal that every member would give.
    pub(super) fn refused(error: StoreError) -> Self {
        Self {
            error,
            cut: false,
            elsewhere: false,
            unsent: false,
        }
    }

    /// A refusal by this member as it is now.
    fn passing(error: StoreError) -> Self {
        Self {
            error,
            cut: false,
            elsewhere: true,
            unsent: false,
        }
    }
}

/// Judges the failure of a request to the member at `address`.
pub(super) fn judge(status: &Status, address: &str) -> Trouble {
    // A status that was made up here, from a failure underneath, carries that failure.
    if causes(status).any(|cause| cause.is::<Ended>()) {
        let text = format!("the connection to {address} has ended");
        return Trouble {
            unsent: true,
            ..Trouble::broken(StoreError::Unavailable(text))
        };
    }
    if status.source().is_some() {
        return Trouble::broken(StoreError::Indeterminate(format!(
            "the connection to {address} broke: {}",
            root_of(status)
        )));
    }
    login(status, address)
        .or_else(|| condition(status, address))
        .unwrap_or_else(|| unforeseen(status, address))
}

/// Whether the lease that a request named does not exist.
pub(super) fn is_lease_gone(status: &Status) -> bool {
    said(status, "requested lease not found")
}

/// etcd's own words, which outlast its codes.
fn said(status: &Status, words: &str) -> bool {
    status.message().contains(words)
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(status.source(), |&cause| cause.source())
}

/// The innermost cause: the outer ones say "transport error".
fn root_of(status: &Status) -> String {
    causes(status)
        .last()
        .map_or_else(|| status.message().to_owned(), ToString::to_string)
}

/// Refusals for who asks.
fn login(status: &Status, address: &str) -> Option<Trouble> {
    let rejected = |what: String| Some(Trouble::refused(StoreError::Rejected(what)));
    if said(status, "user name is empty") || said(status, "user name not found") {
        return rejected(format!(
            "{address} wants a user and a password: give --username and --password-file, or \
             write them into the address"
        ));
    }
    if said(status, "invalid user ID or password") {
        return rejected(format!(
            "{address} refuses the user or the password: check them (etcdctl user get NAME)"
        ));
    }
    if said(status, "authentication is not enabled") {
        return rejected(format!(
            "{address} knows no users, for its authentication is off: leave user and password \
             out, or switch it on (etcdctl auth enable)"
        ));
    }
    if said(status, "permission denied") {
        return rejected(format!(
            "the etcd user lacks a right at {address}: grant its role the keys of Tenure \
             (etcdctl role grant-permission ROLE --prefix=true readwrite tenure/)"
        ));
    }
    if said(status, "invalid auth token") || said(status, "revision of auth store is old") {
        // Nothing was done in its name: a fresh connection logs in anew.
        return Some(Trouble {
            unsent: true,
            ..Trouble::broken(StoreError::Unavailable(format!(
                "the login at {address} has run out"
            )))
        });
    }
    None
}

/// Refusals for the state that the cluster, or this member, is in.
fn condition(status: &Status, address: &str) -> Option<Trouble> {
    let refused = |what: String| Some(Trouble::refused(StoreError::Rejected(what)));
    let passing = |what: String| Some(Trouble::passing(StoreError::Unavailable(what)));
    if said(status, "no leader") || said(status, "raft proposal dropped") {
        return passing(format!(
            "{address} sees no leader of its etcd cluster: most of the members are away, or an \
             election among them is under way"
        ));
    }
    if said(status, "database space exceeded") {
        return refused(format!(
            "{address} takes no writes, for its database is full (alarm NOSPACE): compact and \
             defragment it, then etcdctl alarm disarm; or raise --quota-backend-bytes"
        ));
    }
    if said(status, "corrupt cluster") || said(status, "alarm corrupt") {
        return refused(format!(
            "{address} has found that its members' data differ (alarm CORRUPT): restore the \
             member that is wrong, see etcdctl alarm list"
        ));
    }
    if said(status, "request is too large")
        || status.code() == Code::ResourceExhausted && said(status, "larger than max")
    {
        return refused(format!(
            "the request is larger than {address} takes: raise its --max-request-bytes, or store \
             less"
        ));
    }
    if said(status, "too many requests") {
        return passing(format!(
            "{address} has more to do than it can: it asks to wait"
        ));
    }
    if said(status, "rpc not supported for learner") {
        return passing(format!(
            "{address} is a learner of its etcd cluster and answers nobody yet: give the address \
             of a voting member"
        ));
    }
    None
}

/// Whether the cluster took the request is not known.
fn unforeseen(status: &Status, address: &str) -> Trouble {
    let text = status.message();
    if status.code() == Code::Unimplemented {
        return Trouble::refused(StoreError::Misconfigured(format!(
            "{address} speaks gRPC and is no etcd for clients ({text}): check host and port (an \
             etcd listens for clients on 2379 by default)"
        )));
    }
    let error = StoreError::Indeterminate(format!("{address} answered: {text}"));
    match status.code() {
        // Its leader changed, or the member is going down.
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Trouble {
            error,
            cut: said(status, "stopped"),
            elsewhere: true,
            unsent: false,
        },
        _ => Trouble::refused(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: Code, message: &str) -> Trouble {
        judge(&Status::new(code, message), "etcd://a:1")
    }

    #[test]
    fn refusals_are_sure_and_say_what_to_do() {
        for (code, message, advice) in [
            (
                Code::InvalidArgument,
                "etcdserver: user name is empty",
                "--username",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                "user get",
            ),
            (
                Code::FailedPrecondition,
                "etcdserver: authentication is not enabled",
                "auth enable",
            ),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                "grant-permission",
            ),
            (
                Code::Unauthenticated,
                "etcdserver: invalid auth token",
                "run out",
            ),
            (Code::Unavailable, "etcdserver: no leader", "no leader"),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                "alarm disarm",
            ),
            (Code::DataLoss, "etcdserver: corrupt cluster", "CORRUPT"),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                "--max-request-bytes",
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: too many requests",
                "wait",
            ),
            (
                Code::Unimplemented,
                "unknown service etcdserverpb.KV",
                "2379",
            ),
        ] {
            let trouble = told(code, message);
            let text = trouble.error.to_string();
            assert!(!trouble.error.may_have_happened(), "{message}: {text}");
            assert!(
                text.contains(advice) && text.contains("etcd://a:1"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_may_have_been_proposed_leaves_doubt() {
        for message in [
            "etcdserver: request timed out",
            "etcdserver: request timed out, possibly due to previous leader failure",
            "etcdserver: leader changed",
            "etcdserver: server stopped",
            "whatever",
        ] {
            let trouble = told(Code::Unavailable, message);
            assert!(trouble.error.may_have_happened(), "{message}: {trouble:?}");
            assert!(trouble.elsewhere);
        }
        assert!(told(Code::Unknown, "whatever").error.may_have_happened());
    }

    #[test]
    fn a_login_that_ran_out_is_made_again() {
        assert!(told(Code::Unauthenticated, "etcdserver: invalid auth token").cut);
        assert!(!told(Code::PermissionDenied, "etcdserver: permission denied").elsewhere);
    }

    #[test]
    fn a_lease_that_is_gone_is_told_apart() {
        let gone = Status::new(Code::NotFound, "etcdserver: requested lease not found");
        assert!(is_lease_gone(&gone));
        assert!(!is_lease_gone(&Status::new(Code::NotFound, "whatever")));
    }
}
