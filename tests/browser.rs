//! The status page in a real browser, in front of real sidecars.
#![cfg(feature = "file")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/http.rs"]
mod http;
#[path = "support/process.rs"]
mod process;

use browser::Browser;
use process::{Node, file_url};
use rustix::process::Signal;
use serde_json::json;

/// The flags of a node with this id.
fn node<'a>(ttl: &'a str, id: &'a str, url: &'a str) -> [&'a str; 6] {
    ["--ttl", ttl, "--id", id, "--url", url]
}

#[tokio::test]
async fn a_followers_page_shows_the_new_leader_without_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let store = file_url(dir.path());
    let first = Node::leading(&store, &node("3s", "first", "http://10.0.0.7:8080"));
    let second = Node::following(&store, &node("3s", "second", "http://10.0.0.8:8080"));
    let third = Node::following(&store, &node("3s", "third", "http://10.0.0.9:8080"));
    let page = Browser::open(&second.url(), 1000).await;
    page.reads("#role", "Following first").await;
    page.reads("#leader a", "http://10.0.0.7:8080").await;
    page.reads("#link", "live").await;
    assert_eq!(
        page.eval("return document.querySelector('#stepdown').hidden")
            .await,
        true
    );
    page.eval("window.sameDocument = true").await;

    first.signal(Signal::KILL);
    page.until("!document.querySelector('#leader').innerText.includes('first') && /second|third/.test(document.querySelector('#leader').innerText)").await;
    let leads = second.until("knows the leader", |status| {
        status["leader"]["id"] == "second" || status["leader"]["id"] == "third"
    });
    let leader = leads["leader"]["id"].as_str().unwrap();
    page.reads("#leader", leader).await;
    let (role, story) = match leader {
        "second" => ("Leading", "Took the lead"),
        _ => ("Following third", "Following third"),
    };
    page.reads("#role", role).await;
    page.reads("#history li:first-child", story).await;
    assert_eq!(
        page.eval("return window.sameDocument").await,
        true,
        "it was reloaded"
    );
    assert_eq!(page.complaints().await, Vec::<String>::new());
    drop(third);
}

#[tokio::test]
async fn the_button_asks_first_and_then_steps_down() {
    let dir = tempfile::tempdir().unwrap();
    let store = file_url(dir.path());
    let first = Node::leading(&store, &node("30s", "first", "http://10.0.0.7:8080"));
    let _second = Node::following(&store, &node("30s", "second", "http://10.0.0.8:8080"));
    let page = Browser::open(&first.url(), 1000).await;
    page.reads("#role", "Leading").await;
    let epoch = first.token();
    page.reads("#detail", &epoch.to_string()).await;

    page.click("#stepdown").await;
    page.reads("#ask", "first stops leading default").await;
    let focus = page.eval("return document.activeElement.id").await;
    assert_eq!(focus, "cancel", "Enter must not step down");
    page.click("#cancel").await;
    page.until("!document.querySelector('#ask').open").await;
    assert_eq!(first.token(), epoch, "it stepped down unasked");

    page.click("#stepdown").await;
    page.click("#confirm").await;
    page.reads("#told", &format!("epoch {epoch} is given back"))
        .await;
    page.reads("#role", "Following second").await;
    page.reads("#leader a", "http://10.0.0.8:8080").await;
    page.reads("#history", "Gave the lead back").await;
    assert_eq!(first.status()["is_leader"], false);
    first.err.until("the reason", |line| {
        line.contains("asked on the status page")
    });
    assert_eq!(page.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_a_node_calls_itself_is_text() {
    let dir = tempfile::tempdir().unwrap();
    let store = file_url(dir.path());
    let evil = r#"<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>"#;
    let leader = Node::leading(
        &store,
        &node("30s", evil, "javascript://h/%0Awindow.hacked=3"),
    );
    let follower = Node::following(&store, &node("30s", "plain", "https://10.0.0.8"));
    for (shown, role) in [(&follower, "Following"), (&leader, "Leading")] {
        let page = Browser::open(&shown.url(), 1000).await;
        page.reads("#role", role).await;
        page.reads("#leader", evil).await;
        page.reads("#leader", "javascript://h/%0Awindow.hacked=3")
            .await;
        page.reads("#history", "epoch").await;
        if role == "Leading" {
            page.click("#stepdown").await;
            page.reads("#ask", evil).await;
        }
        let made = "return document.querySelectorAll('img, #leader a, main script').length";
        assert_eq!(page.eval(made).await, 0);
        assert_eq!(page.eval("return window.hacked ?? null").await, json!(null));
        assert_eq!(page.complaints().await, Vec::<String>::new());
        // Were the page ever to forget itself, its policy would not.
        let slip = "const s = document.createElement('div'); \
                    try { s.innerHTML = '<b>x</b>'; return 'taken'; } catch { return 'refused'; }";
        assert_eq!(page.eval(slip).await, "refused");
    }
}

#[tokio::test]
async fn the_page_outlives_a_restart_of_the_sidecar() {
    let dir = tempfile::tempdir().unwrap();
    let store = file_url(dir.path());
    let mut node = Node::leading(&store, &["--ttl", "2s", "--id", "first"]);
    let listen = node.api.to_string();
    let page = Browser::open(&node.url(), 1000).await;
    page.reads("#role", "Leading").await;
    let count = "window.heard = 0; window.stream = source; \
                 source.addEventListener('leadership.releasing', () => window.heard++)";
    page.eval(count).await;

    node.signal(Signal::KILL);
    node.exit();
    page.reads("#role", "No answer").await;
    page.reads("#link", "no connection").await;
    assert_eq!(
        page.eval("return document.querySelector('#stepdown').hidden")
            .await,
        true
    );

    let node = Node::leading(
        &store,
        &["--ttl", "2s", "--id", "first", "--listen", &listen],
    );
    page.reads("#role", "Leading").await;
    page.reads("#detail", &node.token().to_string()).await;
    page.reads("#link", "live").await;
    page.until("stream.readyState === EventSource.OPEN").await;
    node.post("/leadership/stepdown", r#"{"cooldown_ms":0}"#);
    page.until("heard === 1 && stream === source").await;
    page.reads("#history", "Gave the lead back").await;
}

#[tokio::test]
async fn elections_are_chosen_and_nothing_is_cut_off_on_a_phone() {
    let dir = tempfile::tempdir().unwrap();
    let long = "a-node-with-a-very-long-name.".repeat(6);
    let flags = [
        "--ttl",
        "30s",
        "--id",
        &long,
        "--election",
        "orders,mail.v2",
    ];
    let node = Node::leading(&file_url(dir.path()), &flags);
    for width in [390, 1000] {
        let page = Browser::open(&node.url(), width).await;
        page.reads("#role", "Leading").await;
        let sideways = "return document.documentElement.scrollWidth > innerWidth";
        assert_eq!(page.eval(sideways).await, false, "{width}");
        page.eval(
            "const all = document.querySelector('#elections'); all.value = 'mail.v2'; \
             all.dispatchEvent(new Event('change'))",
        )
        .await;
        page.until("known && known.status.election === 'mail.v2'")
            .await;
        page.click("#stepdown").await;
        page.reads("#ask", "stops leading mail.v2").await;
        assert_eq!(page.eval(sideways).await, false, "{width}");
        page.click("#confirm").await;
        page.reads("#told", "Stepped down").await;
        page.reads("#history", "Gave the lead back").await;
        assert_eq!(node.get("/leader").status, 200, "of the other election");
        let path = "/elections/mail.v2/leader";
        while node.get(path).status != 200 {}
    }
}

#[tokio::test]
async fn the_report_of_a_lab_shows_every_lane_on_a_phone_and_on_a_desk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lab.html");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tenure"))
        .args(["lab", "--ttl", "1s", "--fault", "stop,pause", "--report"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    for width in [390, 1000] {
        let page = Browser::open(&file_url(&path), width).await;
        page.reads("#verdict", "no gap, no double").await;
        page.reads("#results", "pause").await;
        let sideways = "return document.documentElement.scrollWidth > innerWidth";
        assert_eq!(page.eval(sideways).await, false, "{width}");
        // A lane is seen by its name and by its bars, inside of the window.
        let lanes = "return [...document.querySelectorAll('.lane')].map(lane => { \
            const name = lane.querySelector('text').getBoundingClientRect(); \
            const bar = lane.querySelector('.track').getBoundingClientRect(); \
            return name.height > 8 && bar.width > 200 && bar.height > 10 \
                && bar.left >= 0 && bar.right <= innerWidth; })";
        assert_eq!(page.eval(lanes).await, json!([true, true, true]), "{width}");
        let bars = "return [...document.querySelectorAll('.led rect')] \
            .filter(bar => bar.getBoundingClientRect().width > 1).length";
        assert!(page.eval(bars).await.as_u64().unwrap() >= 3, "{width}");
        let faults = "return [...document.querySelectorAll('.fault .number')] \
            .filter(it => it.getBoundingClientRect().width > 2).length";
        assert_eq!(page.eval(faults).await, 2, "{width}");
        // What paused leaders do is hatched, not only coloured.
        let hatched = "return !!document.querySelector('.lane [fill=\"url(#paused)\"]')";
        assert_eq!(page.eval(hatched).await, true);
        assert_eq!(page.complaints().await, Vec::<String>::new());
    }
}
