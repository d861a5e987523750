//! As the first process of a container it buries those whose parents have died.

use std::process::{Command, Stdio};

use super::process::{Node, send};
use super::scene::{Scene, WORK, parent, until};

use rustix::process::{Signal, geteuid};

/// A process in the namespace of `of` whose parent dies at once; its pid out here. It ends
/// when it is killed.
fn orphan_beside(scene: &Scene, of: u32) -> u32 {
    let done = Command::new("nsenter")
        .args(["-t", &of.to_string(), "-p", "sh", "-c", "(sleep 61.1 &)"])
        .env("SCENE", scene.path())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(done.success());
    // While it becomes a `sleep`, its environment is not to be read.
    let mut found = Vec::new();
    until("it sleeps", || {
        found = scene.processes("sleep 61.1");
        !found.is_empty()
    });
    found[0]
}

#[test]
fn the_first_process_buries_orphans() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root makes a pid namespace");
    }
    for with_app in [true, false] {
        let scene = Scene::new();
        let inner = if with_app {
            scene.command("a", &["--ttl", "15s"], WORK)
        } else {
            scene.bare("a", &["--ttl", "15s"])
        };
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(inner.get_program())
            .args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let node = Node::spawn(&mut command);
        let first = scene.processes("tenure run").into_iter();
        let mut first = first.filter(|pid| parent(*pid) == Some(node.pid()));
        let first = first.next().expect("it runs below unshare");
        let orphan = orphan_beside(&scene, first);
        until("adopted", || parent(orphan) == Some(first));
        send(orphan, Signal::KILL);
        until("buried", || {
            !std::path::Path::new(&format!("/proc/{orphan}")).exists()
        });
        if with_app {
            let app = scene.nth("begin", 0);
            assert!(app.pid > 1);
            // The whole namespace ends with its first process, after the app.
            send(first, Signal::TERM);
            until("all of it is gone", || scene.processes("tenure").is_empty());
        }
    }
}
