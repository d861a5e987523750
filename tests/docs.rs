//! The documents keep what they promise: links lead somewhere, commands can be typed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/links.rs"]
mod links;

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page for people: those on top, those of `docs/`, and the READMEs of examples.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = below(root(), 0);
    pages.extend(below(&root().join("docs"), 9));
    pages.extend(below(&root().join("examples"), 9));
    pages.sort();
    assert!(pages.len() > 12, "{pages:?}");
    pages
}

fn below(dir: &Path, deep: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && deep > 0 {
            found.extend(below(&path, deep - 1));
        } else if path.extension().is_some_and(|it| it == "md") {
            found.push(path);
        }
    }
    found
}

fn read(page: &Path) -> String {
    std::fs::read_to_string(page).unwrap()
}

/// How a page is called in a complaint.
fn named(page: &Path) -> String {
    page.strip_prefix(root()).unwrap().display().to_string()
}
