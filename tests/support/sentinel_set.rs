//! A real Redis Sentinel set: one master, two replicas, three sentinels.
//!
//! Needs `mod redis_server` at the root of the test.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::time::{Duration, Instant};

use crate::redis_server::{Raw, RedisServer, Reply};

/// The name under which the sentinels know the master.
pub const NAME: &str = "mymaster";
const BOUND: Duration = Duration::from_secs(40);

/// How a set is made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub replicas: usize,
    /// `min-replicas-to-write`; 0 is Redis's default.
    pub min_replicas: usize,
    /// `min-replicas-max-lag`, in seconds.
    pub max_lag: u64,
    /// When a sentinel takes a silent server for dead.
    pub down_after: Duration,
    /// Every write is on disk before it is answered.
    pub durable: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            replicas: 2,
            min_replicas: 0,
            max_lag: 10,
            down_after: Duration::from_secs(1),
            durable: false,
        }
    }
}

pub struct SentinelSet {
    /// The first one is the master at the start.
    pub servers: Vec<RedisServer>,
    pub sentinels: Vec<RedisServer>,
    shape: Shape,
}

/// Waits for what must come; panics with `what` where it does not.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + BOUND;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One field of an INFO.
pub fn info(server: &RedisServer, section: &str, field: &str) -> Option<String> {
    let mut raw = Raw::connect(server.port()).ok()?;
    let Ok(Reply::Text(text)) = raw.try_command(&["INFO", section]) else {
        return None;
    };
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{field}:")));
    Some(line?.split_once(':')?.1.trim().to_owned())
}

impl SentinelSet {
    pub fn start() -> Self {
        Self::of(Shape::default())
    }

    pub fn of(shape: Shape) -> Self {
        let master = RedisServer::start_with(&text(&arguments(shape, None)));
        let mut servers = vec![master];
        for _ in 0..shape.replicas {
            let arguments = arguments(shape, Some(servers[0].port()));
            servers.push(RedisServer::start_with(&text(&arguments)));
        }
        for replica in &servers[1..] {
            caught_up(replica);
        }
        heard(&servers[0], shape.replicas);
        let conf = conf(servers[0].port(), shape.down_after);
        let sentinels = (0..3).map(|_| RedisServer::start_sentinel(&conf)).collect();
        let set = Self {
            servers,
            sentinels,
            shape,
        };
        // They look for each other every 2 s: hurried only for as long as it takes.
        set.hurry(true);
        set.wait_ready();
        set.hurry(false);
        set
    }

    /// `redis+sentinel://…`
    pub fn url(&self) -> String {
        let ports: Vec<u16> = self.sentinels.iter().map(RedisServer::port).collect();
        url_of(&ports)
    }

    /// Makes the sentinels exchange what they know every 100 ms, or as they do by
    /// default.
    pub fn hurry(&self, hurry: bool) {
        let (publish, info) = if hurry {
            ("100", "200")
        } else {
            ("2000", "10000")
        };
        for sentinel in &self.sentinels {
            let words = [
                "SENTINEL",
                "DEBUG",
                "PUBLISH-PERIOD",
                publish,
                "INFO-PERIOD",
                info,
            ];
            sentinel.command(&words);
        }
    }

    /// Every sentinel knows the others and every replica, and finds nobody down.
    pub fn wait_ready(&self) {
        for sentinel in &self.sentinels {
            wait_for("a sentinel that knows all", || {
                let known = fields(&sentinel.command(&["SENTINEL", "MASTER", NAME]));
                let is =
                    |name: &str, value: &str| known.iter().any(|(n, v)| n == name && v == value);
                let replicas = self.shape.replicas.to_string();
                (is("num-slaves", &replicas)
                    && is("num-other-sentinels", "2")
                    && is("flags", "master"))
                .then_some(())
            });
        }
    }

    /// The server at that port.
    pub fn at(&self, port: u16) -> usize {
        let at = self.servers.iter().position(|server| server.port() == port);
        at.unwrap()
    }

    /// Whom that sentinel names as the master.
    pub fn master_by(&self, sentinel: usize) -> usize {
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
        let told = self.sentinels[sentinel].command(&words);
        self.at(told.list()[1].text().parse().unwrap())
    }

    /// Whom all sentinels that run name as the master.
    pub fn master(&self) -> usize {
        wait_for("sentinels that agree", || {
            let running = (0..3).filter(|at| self.sentinels[*at].runs());
            let mut named: Vec<_> = running.map(|at| self.master_by(at)).collect();
            named.dedup();
            (named.len() == 1).then(|| named[0])
        })
    }

    /// The one that all sentinels name once it is another than `old`.
    pub fn wait_switched(&self, old: usize) -> usize {
        wait_for("another master", || {
            let master = self.master();
            (master != old).then_some(master)
        })
    }

    /// A planned failover; returns when it is ordered.
    pub fn order_failover(&self) {
        wait_for("a failover that is taken on", || {
            let answer = self.sentinels[0].command(&["SENTINEL", "FAILOVER", NAME]);
            (answer == Reply::Text("OK".to_owned())).then_some(())
        });
    }

    /// Waits until the others are replicas of the present master: an old master, which
    /// the Sentinels would else leave alone for 8 s.
    pub fn wait_whole(&self) {
        self.hurry(true);
        let replicas = self.shape.replicas.to_string();
        wait_for("a master with all its replicas", || {
            let connected = info(
                &self.servers[self.master()],
                "replication",
                "connected_slaves",
            );
            (connected.as_ref() == Some(&replicas)).then_some(())
        });
        self.hurry(false);
        self.wait_ready();
    }

    /// Ends all servers as by `kill -9` and starts them again, the present master as
    /// the master; `meanwhile` works on their directories.
    pub fn restart_all(&mut self, meanwhile: impl FnOnce(&mut [RedisServer], usize)) {
        let master = self.master();
        for server in &mut self.servers {
            server.kill();
        }
        meanwhile(&mut self.servers, master);
        let port = self.servers[master].port();
        for at in (0..self.servers.len()).filter(|at| *at != master) {
            self.servers[at].rearm(&text(&arguments(self.shape, Some(port))));
        }
        self.servers[master].rearm(&text(&arguments(self.shape, None)));
        self.servers[master].start_again();
        for at in (0..self.servers.len()).filter(|at| *at != master) {
            self.servers[at].start_again();
        }
        for at in (0..self.servers.len()).filter(|at| *at != master) {
            caught_up(&self.servers[at]);
        }
    }
}

/// Waits until a replica has its master's data.
pub fn caught_up(replica: &RedisServer) {
    wait_for("a replica in step", || {
        let up = info(replica, "replication", "master_link_status")? == "up";
        up.then_some(())
    });
}

/// Waits until a master hears of so many replicas what they have: right after their
/// first copy it counts none of them.
pub fn heard(master: &RedisServer, replicas: usize) {
    let replicas = i64::try_from(replicas).unwrap();
    wait_for("replicas that acknowledge", || {
        let mut raw = master.raw();
        // Replicated like a write, and no write.
        raw.command(&["PUBLISH", "probe", "x"]);
        let heard = raw.command(&["WAIT", &replicas.to_string(), "1000"]);
        (heard == Reply::Number(replicas)).then_some(())
    });
}

pub fn url_of(sentinels: &[u16]) -> String {
    let places: Vec<_> = sentinels
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    format!("redis+sentinel://{}/{NAME}", places.join(","))
}

fn conf(master: u16, down_after: Duration) -> String {
    format!(
        "sentinel monitor {NAME} 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds {NAME} {}\n\
         sentinel failover-timeout {NAME} 4000\n\
         sentinel parallel-syncs {NAME} 2\n",
        down_after.as_millis()
    )
}

fn arguments(shape: Shape, master: Option<u16>) -> Vec<String> {
    let durable = if shape.durable { "yes" } else { "no" };
    let min = shape.min_replicas.to_string();
    let lag = shape.max_lag.to_string();
    let mut all: Vec<String> = [
        "--save",
        "",
        "--appendonly",
        durable,
        "--appendfsync",
        "always",
        "--repl-diskless-sync-delay",
        "0",
        "--min-replicas-to-write",
        &min,
        "--min-replicas-max-lag",
        &lag,
    ]
    .map(str::to_owned)
    .to_vec();
    if let Some(port) = master {
        all.extend([
            "--replicaof".to_owned(),
            "127.0.0.1".to_owned(),
            port.to_string(),
        ]);
    }
    all
}

fn text(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// The pairs of a flat list.
fn fields(reply: &Reply) -> Vec<(String, String)> {
    let Reply::List(list) = reply else {
        return Vec::new();
    };
    list.chunks(2)
        .map(|pair| (pair[0].text().to_owned(), pair[1].text().to_owned()))
        .collect()
}
