//! A headless Chromium of the test's own, gone when the test ends, however it ends.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::request;

/// A browser starts slowly on a busy machine.
const BOUND: Duration = Duration::from_secs(40);

/// The driver and its browser.
pub struct Browser {
    driver: Child,
    at: SocketAddr,
    profile: TempDir,
    pub client: Client,
}

impl Browser {
    /// Opens that page in a window of this width.
    pub async fn open(url: &str, width: u32) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver must be installed: apt-get install chromium-driver");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("the driver tells its port").unwrap();
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.trim_end_matches('.').parse::<u16>().unwrap();
            }
        };
        // Read on, so that the driver never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        // From here on a panic ends the driver and the browser, too.
        let guard = Guard(Some((driver, profile)));
        let (_, profile) = guard.0.as_ref().unwrap();
        let arguments = [
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
            format!("--window-size={width},900"),
        ];
        let wanted = json!({
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let Value::Object(wanted) = wanted else {
            unreachable!("it is an object");
        };
        let connect = async {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(wanted);
            builder.connect(&format!("http://127.0.0.1:{port}")).await
        };
        let client = tokio::time::timeout(BOUND, connect).await;
        let client = client.expect("a browser in time").expect("a browser");
        client.goto(url).await.unwrap();
        let (driver, profile) = { guard }.0.take().unwrap();
        Self {
            driver,
            at: SocketAddr::from(([127, 0, 0, 1], port)),
            profile,
            client,
        }
    }

    /// What a script returns.
    pub async fn eval(&self, script: &str) -> Value {
        let done = self.client.execute(script, Vec::new()).await;
        done.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until an expression is true in the page.
    pub async fn until(&self, what: &str) {
        let end = Instant::now() + BOUND;
        while self.eval(&format!("return !!({what})")).await != true {
            let page = self.text("body").await;
            assert!(Instant::now() < end, "never {what}:\n{page}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What a person reads there.
    pub async fn text(&self, selector: &str) -> String {
        let found = self.client.find(Locator::Css(selector)).await;
        found.unwrap().text().await.unwrap()
    }

    /// Waits until a person reads that there.
    pub async fn reads(&self, selector: &str, text: &str) {
        let what = format!(
            "document.querySelector({}).innerText.includes({})",
            json!(selector),
            json!(text)
        );
        self.until(&what).await;
    }

    pub async fn click(&self, selector: &str) {
        let found = self.client.find(Locator::Css(selector)).await;
        found.unwrap().click().await.unwrap();
    }

    /// What the browser has complained of, such as a breach of the page's policy.
    pub async fn complaints(&self) -> Vec<String> {
        let session = self.client.session_id().await.unwrap().unwrap();
        let path = format!("/session/{session}/se/log");
        let kind = [("Content-Type", "application/json")];
        let reply = request(self.at, "POST", &path, &kind, br#"{"type":"browser"}"#);
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        let list = body["value"].as_array().expect("a log");
        list.iter()
            .map(|entry| entry["message"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        end(&mut self.driver, &self.profile);
    }
}

struct Guard(Option<(Child, TempDir)>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((driver, profile)) = &mut self.0 {
            end(driver, profile);
        }
    }
}

/// The driver first, so that it starts nothing more; then whatever was started with
/// this profile, which nobody else has.
fn end(driver: &mut Child, profile: &TempDir) {
    let _ = driver.kill();
    let _ = driver.wait();
    let named = profile.path().to_string_lossy().into_owned();
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let running = processes_of(&named);
        if running.is_empty() {
            return;
        }
        for pid in running {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn processes_of(profile: &str) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that has ended, and waits to be reaped, has no command line.
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(profile) {
            found.extend(Pid::from_raw(pid));
        }
    }
    found
}
