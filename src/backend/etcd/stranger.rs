//! Who answers where an etcd was expected and something else broke the connection.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::connection::{Address, dial};
use crate::lease::StoreError;
use crate::time::within;
use crate::wire::broken;

/// etcd answers this in the clear, on the same port as everything else; whatever is no
/// etcd answers it in a way that can be named.
const QUESTION: &[u8] = b"GET /version HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n";
/// Longer than any answer of an etcd.
const LIMIT: usize = 2048;

/// Asks over a connection of its own; `None` where it is an etcd after all, or where
/// nobody can tell.
pub(super) async fn named(target: &Address<'_>, timeout: Duration) -> Option<StoreError> {
    let mut stream = dial(target, timeout).await.ok()?;
    let mut answer = Vec::new();
    let exchange = async {
        stream.write_all(QUESTION).await?;
        let mut part = [0; LIMIT];
        // Whoever speaks no HTTP may say its word and keep the connection open.
        while answer.len() < LIMIT {
            let length = stream.read(&mut part).await?;
            if length == 0 {
                break;
            }
            answer.extend_from_slice(part.get(..length).unwrap_or_default());
            if !answer.starts_with(b"HTTP/") {
                break;
            }
        }
        Ok::<(), io::Error>(())
    };
    let exchanged = within(timeout, exchange).await;
    if let Some(Err(error)) = &exchanged
        && let Some(told) = broken(error, target.name, &target.endpoint.host)
    {
        // Over TLS 1.3 a server judges the client's certificate after the handshake.
        return Some(told);
    }
    let tls = target.loaded.tls.is_some();
    if exchanged.is_some() && answer.is_empty() {
        return Some(wordless(target.name, tls));
    }
    let who = judge(&answer, tls)?;
    Some(StoreError::Misconfigured(format!(
        "{} is no etcd: {who}; check host and port (an etcd listens for clients on 2379 by \
         default)",
        target.name
    )))
}

/// An etcd that speaks TLS only does so to whoever does not.
fn wordless(name: &str, over_tls: bool) -> StoreError {
    let advice = if over_tls {
        "is it an etcd, on its port for clients?"
    } else {
        "does it speak TLS only (write etcds:// then), and is it an etcd?"
    };
    StoreError::Unavailable(format!(
        "{name} closes the connection without a word: {advice}"
    ))
}

fn judge(answer: &[u8], over_tls: bool) -> Option<String> {
    let text = String::from_utf8_lossy(answer);
    let first = text.lines().next().unwrap_or_default().trim_end();
    if text.contains("\"etcdserver\"") || answer.is_empty() {
        return None;
    }
    if matches!(answer.first(), Some(0x15 | 0x16)) || text.contains("to an HTTPS server") {
        return Some("a TLS server answers there; if it is an etcd, write etcds://".to_owned());
    }
    if first.starts_with("HTTP/") || first.starts_with('<') {
        return Some("an HTTP server answers there".to_owned());
    }
    let redis = ["-ERR ", "-NOAUTH ", "-DENIED "];
    if redis.iter().any(|word| first.starts_with(word)) {
        let scheme = if over_tls { "rediss" } else { "redis" };
        return Some(format!("a Redis answers there; write {scheme}:// for it"));
    }
    let shown: String = first.chars().take(40).collect();
    Some(format!("what answers there begins with {shown:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_answers_is_named() {
        let told = |answer: &[u8]| judge(answer, false);
        let etcd = b"HTTP/1.1 200 OK\r\n\r\n{\"etcdserver\":\"3.5.1\",\"etcdcluster\":\"3.5.0\"}";
        assert_eq!(told(etcd), None);
        assert_eq!(told(b""), None);
        for (answer, named) in [
            (b"HTTP/1.1 404 Not Found\r\n".as_slice(), "HTTP server"),
            (b"<!DOCTYPE HTML>\n", "HTTP server"),
            (
                b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
                "etcds://",
            ),
            (b"\x15\x03\x01\x00\x02", "etcds://"),
            (b"-ERR unknown command\r\n", "redis://"),
            (b"-NOAUTH Authentication required.\r\n", "redis://"),
            (b"SSH-2.0-OpenSSH_9\r\n", "SSH-2.0"),
        ] {
            let text = told(answer).unwrap_or_default();
            assert!(text.contains(named), "{named}: {text}");
        }
    }
}
