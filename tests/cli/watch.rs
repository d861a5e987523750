//! `tenure watch`: lines for programs and logs, a view on a terminal.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::LONG;
use super::ports::free_port;
use super::process::{BOUND, Killed, Lines, Node, file_url, finish, run, send, tenure};

/// A watch whose output is no terminal.
struct Watching {
    child: Killed,
    out: Lines,
    err: Lines,
}

fn watching(arguments: &[&str]) -> Watching {
    let mut child = Killed(
        tenure()
            .arg("watch")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let out = Lines::of(child.0.stdout.take().unwrap());
    let err = Lines::of(child.0.stderr.take().unwrap());
    Watching { child, out, err }
}

impl Watching {
    #[track_caller]
    fn exit(&mut self) -> Option<i32> {
        let end = Instant::now() + BOUND;
        while Instant::now() < end {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the watch does not end");
    }
}

#[test]
fn a_line_an_event_and_zero_at_ctrl_c() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [LONG, &["--id", "first", "--election", "orders,mail"]].concat();
    let node = Node::leading(&file_url(dir.path()), &flags);
    for signal in [Signal::INT, Signal::TERM] {
        let mut json = watching(&["--json", "--api", &node.url()]);
        let mut text = watching(&["--api", &node.url()]);
        let mut other = watching(&["--json", "--election", "mail", "--api", &node.url()]);
        text.out.until("the status", |line| line.contains("status"));
        json.out.until("the status", |line| line.contains("status"));
        other
            .out
            .until("the other's status", |line| line.contains("\"mail\""));
        node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
        let acquired = |line: &str| line.contains("leadership.acquired");
        json.out.until("the end of it", acquired);
        text.out.until("the end of it", acquired);

        let lines: Vec<Value> = json
            .out
            .all()
            .iter()
            .map(|line| line.parse().unwrap())
            .collect();
        let types: Vec<&str> = lines
            .iter()
            .map(|line| line["type"].as_str().unwrap())
            .collect();
        let expected = [
            "status",
            "leadership.releasing",
            "leadership.lost",
            "leadership.acquired",
        ];
        assert_eq!(types, expected);
        for line in &lines {
            let (id, data) = (line["id"].as_str().unwrap(), &line["data"]);
            let boot = data["boot_id"].as_str().unwrap();
            assert_eq!(id, format!("{boot}:{}", data["revision"]));
        }
        let told = text.out.all();
        assert_eq!(told.len(), 4, "{told:#?}");
        assert!(told[3].contains("leader first"), "{told:#?}");
        assert!(!told.concat().contains('\u{1b}'), "colours in a pipe");
        assert_eq!(other.out.all().len(), 1, "{:?}", other.out.all());
        for watch in [&mut json, &mut text, &mut other] {
            send(watch.child.0.id(), signal);
            assert_eq!(watch.exit(), Some(0));
            assert_eq!(watch.err.all(), Vec::<String>::new());
        }
    }
}

#[test]
fn a_restart_is_waited_for_and_a_cut_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let flags = ["--ttl", "2s", "--id", "first"];
    let mut node = Node::leading(&url, &flags);
    let listen = node.api.to_string();
    let mut watch = watching(&["--json", "--api", &node.url()]);
    watch
        .out
        .until("the status", |line| line.contains("status"));
    node.signal(Signal::KILL);
    node.exit();
    watch
        .err
        .until("the cut", |line| line.contains("trying again"));
    let node = Node::leading(&url, &[&flags[..], &["--listen", &listen]].concat());
    let boot = node.status()["boot_id"].as_str().unwrap().to_owned();
    watch
        .out
        .until("the new start", |line| line.contains(&boot));
    send(watch.child.0.id(), Signal::INT);
    assert_eq!(watch.exit(), Some(0));
    let complaints = watch.err.all();
    assert!(
        complaints.len() <= 4,
        "each attempt is told: {complaints:#?}"
    );
}

/// A way to a sidecar that can be cut while the sidecar lives.
struct Relay {
    address: SocketAddr,
    shared: Arc<Passing>,
}

#[derive(Default)]
struct Passing {
    cut: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Relay {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Passing::default());
        let passing = Arc::clone(&shared);
        // Ends with the test's process; a connection ends with either side.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if passing.cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(server) else {
                    continue;
                };
                for (mut from, mut to) in [(&client, &server), (&server, &client)]
                    .map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap()))
                {
                    passing
                        .streams
                        .lock()
                        .unwrap()
                        .push(from.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { address, shared }
    }

    fn cut(&self, cut: bool) {
        self.shared.cut.store(cut, Ordering::SeqCst);
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn what_happens_while_the_connection_is_cut_is_told_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::leading(&file_url(dir.path()), LONG);
    let relay = Relay::to(node.api);
    let watch = watching(&["--json", "--api", &format!("http://{}", relay.address)]);
    watch
        .out
        .until("the status", |line| line.contains("status"));
    for _ in 0..3 {
        let before = watch.err.all().len();
        relay.cut(true);
        let end = Instant::now() + BOUND;
        while watch.err.all().len() == before {
            assert!(Instant::now() < end, "the cut is not noticed");
            std::thread::sleep(Duration::from_millis(5));
        }
        node.until("leads", |status| status["is_leader"] == true);
        node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
        let status = node.until("leads again", |status| status["is_leader"] == true);
        let id = format!(
            "{}:{}",
            status["boot_id"].as_str().unwrap(),
            status["revision"]
        );
        relay.cut(false);
        watch.out.until("the last event", |line| line.contains(&id));
    }
    let mut revision = None;
    for line in watch.out.all() {
        let line: Value = line.parse().unwrap();
        assert_eq!(
            line["type"] == "status",
            revision.is_none(),
            "it began anew: {line}"
        );
        let now = line["data"]["revision"].as_u64().unwrap();
        assert!(
            revision.is_none_or(|before| before + 1 == now),
            "a gap: {line}"
        );
        revision = Some(now);
    }
}

#[test]
fn nobody_there_is_69_and_a_refusal_is_told() {
    let api = format!("http://127.0.0.1:{}", free_port());
    for more in [&[][..], &["--json"]] {
        let ended = run(&[&["watch", "--api", &api], more].concat());
        assert_eq!(ended.code, Some(69), "{}", ended.err);
        assert!(
            ended.err.contains(&api) && ended.out.is_empty(),
            "{}",
            ended.err
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let flags = [LONG, &["--max-event-readers", "1"]].concat();
    let node = Node::leading(&file_url(dir.path()), &flags);
    let unknown = run(&["watch", "--election", "ghost", "--api", &node.url()]);
    assert_eq!(unknown.code, Some(78), "{}", unknown.err);
    assert!(unknown.err.contains("ghost"), "{}", unknown.err);
    let first = watching(&["--api", &node.url()]);
    first
        .out
        .until("the status", |line| line.contains("status"));
    let second = run(&["watch", "--api", &node.url()]);
    assert_eq!(second.code, Some(69), "{}", second.err);
    assert!(second.err.contains("--max-event-readers"), "{}", second.err);
}

#[test]
fn a_reader_that_goes_away_ends_the_watch() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::leading(&file_url(dir.path()), LONG);
    let mut command = Command::new("sh");
    command
        .args(["-c", "\"$0\" watch | head -n 1"])
        .arg(tenure().get_program())
        .env("TENURE_API", node.url());
    let beside = std::thread::spawn(move || finish(&mut command, b""));
    let end = Instant::now() + BOUND;
    while !beside.is_finished() {
        node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
        assert!(Instant::now() < end);
    }
    let ended = beside.join().unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.text().lines().count(), 1);
    assert_eq!(ended.err, "");
}

/// A terminal multiplexer of the test's own, with one window.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn start(command: &str) -> Self {
        let socket = format!("tenure-test-{}-{}", std::process::id(), fastrand::u32(..));
        let terminal = Self { socket };
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "90",
            "-y",
            "20",
            command,
        ]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]).args(arguments);
        command.env_remove("TMUX");
        finish(&mut command, b"").text()
    }

    /// Waits until the screen fits.
    #[track_caller]
    fn until(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + BOUND;
        loop {
            let screen = self.tmux(&["capture-pane", "-p", "-e"]);
            if fits(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "never {what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .args(["-L", &self.socket, "kill-server"])
            .env_remove("TMUX")
            .stderr(Stdio::null())
            .status();
    }
}

#[test]
fn a_terminal_shows_the_lease_drain_and_is_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let url = file_url(dir.path());
    let mut node = Node::leading(&url, &["--ttl", "20s", "--id", "first"]);
    let listen = node.api.to_string();
    let binary = tenure().get_program().to_string_lossy().into_owned();
    let api = node.url();
    for (key, colour) in [("C-c", true), ("q", false)] {
        let variable = if colour { "" } else { "NO_COLOR=1 " };
        let command = format!(
            "sh -c 'echo before; env {variable}TENURE_API={api} {binary} watch; \
             echo ended with $?; sleep 60'"
        );
        let terminal = Terminal::start(&command);
        let first = terminal.until("leading", |screen| screen.contains("LEADING"));
        assert!(first.contains("live"), "{first}");
        assert_eq!(first.contains("[38;5;2m"), colour, "{first}");
        let left = |screen: &str| -> Option<f64> {
            let (_, rest) = screen.split_once("lease ")?;
            rest.split_once("s of")?.0.parse().ok()
        };
        let told = left(&first).unwrap_or(20.0);
        terminal.until("drains", |screen| {
            left(screen).is_some_and(|now| now < told)
        });
        terminal.until("the history", |screen| {
            screen.contains("leadership.acquired")
        });
        if colour {
            node.signal(Signal::TERM);
            node.exit();
            terminal.until("the cut", |screen| screen.contains("NO CONNECTION"));
            let flags = ["--ttl", "20s", "--id", "second", "--listen", &listen];
            node = Node::start(&url, &flags);
            terminal.until("the new start", |screen| {
                screen.contains("second") && screen.contains("live")
            });
        }
        node.until("leads", |status| status["is_leader"] == true);
        terminal.tmux(&["send-keys", key]);
        let after = terminal.until("the end", |screen| screen.contains("ended with 0"));
        // The view had a screen of its own; what stood here before stands here still.
        assert!(
            after.contains("before") && !after.contains("LEADING"),
            "{after}"
        );
    }
}
