//! Many who read the checkpoint at once, over the store's one connection.

use super::http::Wire;
use super::process::Node;
use super::redis_server::RedisServer;

/// More answers of 64 KiB than a Redis keeps for one connection (32 MiB for one that has
/// subscribed): were all of them asked for at once, it would drop the connection, and the
/// renewals with it.
const READERS: usize = 700;

#[test]
fn a_crowd_that_reads_the_checkpoint_costs_no_connection() {
    let redis = RedisServer::start();
    let node = Node::leading(&redis.url(), &["--ttl", "30s"]);
    let token = node.token();
    let value = vec![b'x'; 64 * 1024];
    let written = node.put(&[("Fence-Token", &token.to_string())], &value);
    assert_eq!(written.status, 204, "{}", written.text());
    let request = b"GET /checkpoint HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut wires: Vec<_> = (0..READERS).map(|_| Wire::open(node.api)).collect();
    for wire in &mut wires {
        assert!(wire.send(request));
    }
    let answers = wires.into_iter().map(|mut wire| wire.reply(false));
    let read = answers.filter(|reply| {
        let reply = reply.as_ref().expect("an answer");
        // Whoever has waited for too long is told so.
        assert!(matches!(reply.status, 200 | 503), "{reply:?}");
        reply.body == value
    });
    assert!(read.count() > 0, "nobody was served");
    assert_eq!(node.token(), token);
    let told = node.err.all().join("\n");
    assert!(!told.contains("is given up"), "{told}");
}
