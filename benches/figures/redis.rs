//! A redis-server of the figures' own, and a client for a few commands.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

const START_TIME: Duration = Duration::from_secs(20);

/// A server without persistence on a free port. Dropping it kills it.
pub struct Server {
    child: Child,
    pub port: u16,
    _directory: TempDir,
}

impl Server {
    pub fn start() -> anyhow::Result<Self> {
        // Between finding a free port and binding it somebody else may take it.
        for _ in 0..5 {
            if let Some(server) = Self::try_start()? {
                return Ok(server);
            }
        }
        bail!("redis-server does not start; is it installed?")
    }

    fn try_start() -> anyhow::Result<Option<Self>> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let directory = tempfile::tempdir()?;
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run redis-server")?;
        let mut server = Self {
            child,
            port,
            _directory: directory,
        };
        let until = Instant::now() + START_TIME;
        while Instant::now() < until && server.child.try_wait()?.is_none() {
            if let Ok(mut client) = server.client()
                && client.ask(&["PING"]).is_ok_and(|pong| pong == "PONG")
            {
                return Ok(Some(server));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(None)
    }

    pub fn client(&self) -> anyhow::Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_nodelay(true)?;
        Ok(Client(BufReader::new(stream)))
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection, RESP2, for replies that are one string or number.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn ask(&mut self, words: &[&str]) -> anyhow::Result<String> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(request.as_bytes())?;
        let line = self.line()?;
        match line.split_at_checked(1) {
            Some(("+" | ":", value)) => Ok(value.to_owned()),
            Some(("$", length)) => {
                let mut bytes = vec![0; length.parse::<usize>()? + 2];
                self.0.read_exact(&mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
            }
            _ => bail!("Redis answered {line:?} to {words:?}"),
        }
    }

    /// Next line, as `MONITOR` sends them.
    pub fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            bail!("Redis closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }

    pub fn set_patience(&self, limit: Duration) -> anyhow::Result<()> {
        Ok(self.0.get_ref().set_read_timeout(Some(limit))?)
    }

    /// Calls, and microseconds in them, of one command so far.
    pub fn command_stats(&mut self, command: &str) -> anyhow::Result<(f64, f64)> {
        let info = self.ask(&["INFO", "commandstats"])?;
        let prefix = format!("cmdstat_{command}:");
        let line = info.lines().find_map(|line| line.strip_prefix(&prefix));
        let field = |name: &str| {
            let fields = line.unwrap_or_default().split(',');
            fields
                .filter_map(|field| field.split_once('='))
                .find_map(|(key, value)| (key == name).then(|| value.parse().ok())?)
                .unwrap_or(0.0)
        };
        Ok((field("calls"), field("usec")))
    }

    /// Addresses of the clients now connected.
    pub fn clients(&mut self) -> anyhow::Result<Vec<String>> {
        let list = self.ask(&["CLIENT", "LIST"])?;
        let address = |line: &str| {
            let field = line.split(' ').find_map(|word| word.strip_prefix("addr="));
            field.map(str::to_owned)
        };
        Ok(list.lines().filter_map(address).collect())
    }
}
