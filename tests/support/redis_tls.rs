//! A Redis that speaks TLS. Needs `redis_server` and `certificates` beside it.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic)]

use super::certificates::{Authority, Files, Signed};
use super::redis_server::RedisServer;

/// A server with a port in the clear, for the test, and one that speaks TLS.
pub struct TlsRedis {
    pub server: RedisServer,
    pub port: u16,
    pub files: Files,
    _home: tempfile::TempDir,
}

impl TlsRedis {
    /// `clients`: `no`, `optional` or `yes`, whether they must show a certificate of
    /// `authority`, which vouches for the server, too.
    pub fn start(authority: &Authority, shown: &Signed, clients: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let files = Files::in_dir(home.path());
        files.trust(&[authority]);
        files.show(shown);
        let path = |path: &std::path::Path| path.display().to_string();
        let (ca, cert, key) = (path(&files.ca), path(&files.cert), path(&files.key));
        let (server, port) = RedisServer::start_on_two(|port| {
            let port = port.to_string();
            let arguments = [
                ["--tls-port", &port],
                ["--tls-ca-cert-file", &ca],
                ["--tls-cert-file", &cert],
                ["--tls-key-file", &key],
                ["--tls-auth-clients", clients],
            ];
            arguments.concat().into_iter().map(str::to_owned).collect()
        });
        Self {
            server,
            port,
            files,
            _home: home,
        }
    }

    pub fn url(&self, host: &str) -> String {
        format!("rediss://{host}:{}", self.port)
    }

    /// Makes the server read its files again, as an operator does after a rotation.
    pub fn reload(&self) {
        for (setting, path) in [
            ("tls-ca-cert-file", &self.files.ca),
            ("tls-cert-file", &self.files.cert),
        ] {
            let path = path.display().to_string();
            let reply = self.server.command(&["CONFIG", "SET", setting, &path]);
            assert_eq!(reply.text(), "OK");
        }
    }
}
