//! `/` for browsers: the headers that keep the page to itself, and who gets it.

use super::Alone;
use super::http::request;

#[test]
fn browsers_get_a_page_that_runs_nothing_but_its_own() {
    let alone = Alone::new(&["--election", "orders,mail.v2"]);
    let api = alone.node.api;
    let accepts = [
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "text/html, application/json",
        "*/*",
    ];
    let mut nonces = Vec::new();
    for accept in accepts {
        let reply = request(api, "GET", "/", &[("Accept", accept)], b"");
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("vary"), Some("accept"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        let policy = reply.header("content-security-policy").unwrap();
        for rule in [
            "default-src 'none'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.split("; ").any(|part| part == rule), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let nonce = policy.split("script-src 'nonce-").nth(1).unwrap();
        let nonce = nonce.split('\'').next().unwrap().to_owned();
        let page = reply.text();
        assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
        assert_eq!(page.matches("<script").count(), 1);
        assert!(page.contains("content=\"orders,mail.v2\"") && !page.contains("{{"));
        for outside in [
            "src=",
            "@import",
            "url(",
            "innerHTML",
            "insertAdjacent",
            "eval(",
        ] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(!nonces.contains(&nonce), "a nonce twice");
        nonces.push(nonce);
    }
    let head = request(api, "HEAD", "/", &[], b"");
    assert_eq!(head.status, 200);
    assert!(head.header("content-security-policy").is_some());
    for method in ["POST", "DELETE", "OPTIONS"] {
        request(api, method, "/", &[], b"").problem(405, "method-not-allowed");
    }
}

#[test]
fn programs_get_json() {
    let alone = Alone::new(&[]);
    for accept in [
        "application/json",
        "application/json, */*",
        "Application/JSON;q=0.9",
    ] {
        let reply = request(alone.node.api, "GET", "/", &[("Accept", accept)], b"");
        assert!(reply.json()["name"].is_string(), "{accept}");
        assert_eq!(reply.header("vary"), Some("accept"));
    }
}
