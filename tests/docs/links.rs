//! Relative links and anchors resolve, as GitHub resolves them.

use std::collections::HashMap;
use std::path::Path;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{named, pages, read};

/// Where the links and pictures of a page lead.
fn links(text: &str) -> Vec<String> {
    let parser = Parser::new_ext(text, Options::ENABLE_TABLES);
    let links = parser.filter_map(|event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            Some(dest_url.into_string())
        }
        _ => None,
    });
    links.collect()
}

/// The anchors that GitHub gives the headings of a page.
fn anchors(text: &str) -> Vec<String> {
    let (mut anchors, mut seen) = (Vec::new(), HashMap::new());
    let mut heading: Option<String> = None;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match (event, &mut heading) {
            (Event::Start(Tag::Heading { .. }), _) => heading = Some(String::new()),
            (Event::Text(text) | Event::Code(text), Some(heading)) => heading.push_str(&text),
            (Event::End(TagEnd::Heading(_)), Some(title)) => {
                let slug = slug(title);
                let times: &mut u32 = seen.entry(slug.clone()).or_default();
                anchors.push(match *times {
                    0 => slug,
                    times => format!("{slug}-{times}"),
                });
                *times += 1;
                heading = None;
            }
            _ => {}
        }
    }
    anchors
}

fn slug(title: &str) -> String {
    let letters = title.to_lowercase();
    let letters = letters.chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        _ => letter.is_alphanumeric().then_some(letter),
    });
    letters.collect()
}

/// What is wrong with a link of this page, if anything.
fn wrong(page: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = match link.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (link, None),
    };
    let target = match path {
        "" => page.to_owned(),
        path => page.parent().unwrap().join(path),
    };
    if path.starts_with('/') || !target.exists() {
        return Some(format!("{}: {link} leads nowhere", named(page)));
    }
    let there = |anchor: &str| anchors(&read(&target)).iter().any(|it| it == anchor);
    let anchor = anchor.filter(|anchor| !there(anchor));
    anchor.map(|anchor| format!("{}: {link}: no heading is #{anchor}", named(page)))
}

#[test]
fn every_relative_link_and_anchor_resolves() {
    let (mut count, mut complaints) = (0, Vec::new());
    for page in pages() {
        for link in links(&read(&page)) {
            count += 1;
            complaints.extend(wrong(&page, &link));
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(count > 40, "only {count} links were found");
}

#[test]
fn what_leads_nowhere_is_found() {
    let page = super::root().join("README.md");
    for link in ["docs/none.md", "docs/api.md#none", "#none", "/docs/api.md"] {
        assert!(wrong(&page, link).is_some(), "{link}");
    }
    assert_eq!(wrong(&page, "#use-it"), None);
    let text = "# A `b` (c), d.e!\n## Twice\n## Twice\n";
    assert_eq!(anchors(text), ["a-b-c-de", "twice", "twice-1"]);
}
