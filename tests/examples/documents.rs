//! What the documents show is what the tests run.

use std::path::{Path, PathBuf};

use super::process::{Node, finish, tenure};
use super::redis_server::RedisServer;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The blocks between fences of this kind.
fn blocks(text: &str, kinds: &[&str]) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut parts = text.split("```");
    let _before = parts.next();
    while let (Some(block), _after) = (parts.next(), parts.next()) {
        let (kind, code) = block.split_once('\n').unwrap();
        if kinds.contains(&kind) {
            blocks.push(code.to_owned());
        }
    }
    blocks
}

#[test]
fn every_snippet_on_fencing_is_part_of_a_file_that_runs() {
    let text = read("docs/fencing.md");
    let files: Vec<PathBuf> = ["examples", "examples/fencing", "lua"]
        .iter()
        .flat_map(|dir| std::fs::read_dir(root().join(dir)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    let snippets = blocks(&text, &["sh", "sql", "python"]);
    assert!(snippets.len() >= 5, "{snippets:#?}");
    for snippet in snippets {
        let shown = files
            .iter()
            .any(|file| read(file).contains(snippet.trim_end()));
        assert!(shown, "no file has this: {snippet}");
    }
    // And every file that is named is there.
    for named in text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
    {
        assert!(root().join("docs").join(named).exists(), "{named}");
    }
}

#[test]
fn the_readme_is_used_as_it_is_written() {
    let redis = RedisServer::start();
    let text = read("README.md");
    let (_, usage) = text.split_once("## Use it").unwrap();
    let usage = blocks(usage, &["console"]).remove(0);
    let mut commands = usage.lines().filter_map(|line| line.strip_prefix("$ "));
    let start = commands
        .next()
        .unwrap()
        .replace("redis://10.0.0.5:6379", &redis.url());
    let mut words = start.split(' ');
    assert_eq!(words.next(), Some("tenure"));
    let mut command = tenure();
    let node = Node::spawn(command.args(words).args(["--listen", "127.0.0.1:0"]));
    node.until("leads", |status| status["is_leader"] == true);
    let here = format!("localhost:{}", node.api.port());
    let script: Vec<String> = commands
        .map(|line| line.replace("localhost:4040", &here))
        .collect();
    assert!(script.len() >= 3, "{usage}");
    let mut shell = std::process::Command::new("sh");
    finish(shell.args(["-eu", "-c", &script.join("\n")]), b"").ok();
    assert_eq!(node.get("/checkpoint").text(), "42");
}
