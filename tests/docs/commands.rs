//! Commands that a page shows can be typed: the binary knows the subcommand and each
//! flag, the Makefile each target, the repository each path.

use std::path::Path;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::{named, pages, read, root};

/// The lines to type in a page: what follows the prompt in a console, each line of sh,
/// and what stands as code in the text.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut kind: Option<String> = None;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match (event, &kind) {
            (Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(of))), _) => {
                kind = Some(of.into_string());
            }
            (Event::End(TagEnd::CodeBlock), _) => kind = None,
            (Event::Text(block), Some(kind)) => {
                let block = block.replace("\\\n", " ");
                let typed = block.lines().filter_map(|line| match kind.as_str() {
                    "console" => line.strip_prefix("$ "),
                    "sh" => Some(line),
                    _ => None,
                });
                lines.extend(typed.map(str::to_owned));
            }
            (Event::Code(code), None)
                if ["tenure ", "make "].iter().any(|it| code.starts_with(it)) =>
            {
                lines.push(code.into_string());
            }
            _ => {}
        }
    }
    lines
}

/// The commands of a line, as words. A line that opens a quote and does not close it is
/// part of a script, and none.
fn commands(line: &str) -> Vec<Vec<String>> {
    let words = shlex::split(line).unwrap_or_default();
    let ends = |word: &String| ["&&", "||", "|", ";", "&"].contains(&word.as_str());
    let commands = words.split(ends).filter(|it| !it.is_empty());
    commands.map(<[String]>::to_vec).collect()
}

/// What is wrong with a command, if anything.
fn wrong(words: &[String]) -> Option<String> {
    match words[0].as_str() {
        // A word left out.
        _ if words.iter().any(|word| word.contains('…')) => None,
        "tenure" => {
            let parsed = tenure::cli::command().try_get_matches_from(words);
            let error = parsed.err().filter(clap::Error::use_stderr)?;
            Some(error.to_string())
        }
        "make" => {
            let mut targets = words[1..].iter().filter(|word| !word.contains('='));
            let unknown = targets.find(|target| !is_target(target))?;
            Some(format!("make has no target {unknown}"))
        }
        // Its words with a slash are keys.
        "etcdctl" => return None,
        _ => None,
    }
    .or_else(|| {
        let path = words
            .iter()
            .find(|it| is_path(it) && !root().join(it).exists())?;
        Some(format!("{path} is not there"))
    })
}

fn is_target(name: &str) -> bool {
    let makefile = read(&root().join("Makefile"));
    makefile.lines().any(|line| {
        let rule = line.split_once(':').map(|(target, _)| target);
        rule == Some(name)
    })
}

/// Whether a word names a file of the repository: relative, and of plain letters, as
/// neither a URL nor `./worker` is.
fn is_path(word: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    word.contains('/')
        && word.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && word.chars().all(plain)
        && !Path::new(word).is_absolute()
}

#[test]
fn every_command_that_a_page_shows_can_be_typed() {
    let (mut typed, mut complaints) = (Vec::new(), Vec::new());
    for page in pages() {
        for line in lines(&read(&page)) {
            for words in commands(&line) {
                let complaint = wrong(&words);
                complaints.extend(complaint.map(|it| format!("{}: {line}: {it}", named(&page))));
                typed.push(words[0].clone());
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
    let times = |name: &str| typed.iter().filter(|it| *it == name).count();
    let (ours, make) = (times("tenure"), times("make"));
    assert!(ours >= 8 && make >= 4, "only {ours} and {make} were found");
}

#[test]
fn what_cannot_be_typed_is_found() {
    for line in [
        "tenure run --no-such-flag",
        "true && tenure elect",
        "tenure lab --reports x.html",
        "make lunch",
        "make test lunch",
        "docker compose -f compose/none.yml up",
    ] {
        let found = commands(line).iter().any(|words| wrong(words).is_some());
        assert!(found, "{line}");
    }
    let fine = "FOO=1 tenure-like 'Content-Type: a/b' http://h/x ./worker # docs/none.md";
    assert!(commands(fine).iter().all(|words| wrong(words).is_none()));
    let page = "```console\n$ tenure run \\\n    --elect x\nmake none\n```\n`make it`\n";
    assert_eq!(lines(page), ["tenure run      --elect x", "make it"]);
}
