//! The rights that a Redis user needs, in the words of `ACL SETUSER`.

use super::target::Topology;

/// What the scripts call, and what calls the scripts.
const ALWAYS: &str = "+eval +evalsha +script|exists +script|load +info +time +type +get +set \
                      +del +pttl +pexpireat +hget +hgetall +hmget +hset +publish +subscribe \
                      +unsubscribe";
const OF_A_CLUSTER: &str = " +spublish +ssubscribe +sunsubscribe +cluster|slots +cluster|info \
                            +asking";

/// The rights that suffice, and none that is not used.
pub(super) fn least(topology: &Topology, database: u32, wait: u8) -> String {
    let mut rights = format!("~tenure:* &tenure:* {ALWAYS}");
    if *topology == Topology::Cluster {
        rights += OF_A_CLUSTER;
    }
    if *topology != Topology::Alone {
        rights += " +config|get";
    }
    if database != 0 {
        rights += " +select";
    }
    if wait > 0 || *topology != Topology::Alone {
        rights += " +wait";
    }
    rights
}

/// What to type at the server. It adds to what the user has, and takes nothing away.
pub(super) fn line(user: &str, rights: &str) -> String {
    format!("ACL SETUSER {user} {rights}")
}

/// The same where it is not known which of them lack.
pub(super) fn any_line() -> String {
    line("USER", &least(&Topology::Cluster, 1, 1))
}
