//! `--hook` and what belongs to it, and how the app's URLs are written.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

use super::{Problem, Reader, Source, positive, switch};
use crate::hook::{Hook, Secrets};

impl Reader<'_> {
    pub(super) fn hook(&mut self) -> Option<Hook> {
        let url = self.read("hook", plain_http);
        let secret_file = self.read("hook-secret-file", |text| {
            let path = PathBuf::from(text);
            Secrets::read(&path).map_err(Problem::of)?;
            Ok(path)
        });
        let timeout = self.read("hook-timeout", positive);
        let remote = self.read("allow-remote-hook", switch);
        let Some(given) = self.raw.get("hook") else {
            let names = ["hook-secret-file", "hook-timeout", "allow-remote-hook"];
            self.useless(&names, "--hook");
            return None;
        };
        let url = url?;
        if remote != Some(true) && !is_loopback(&url) {
            self.problems.push(Problem::new(format!(
                "{given}: it is not on the loopback, and a hook tells the fencing token to whoever \
                 listens there; call the app on 127.0.0.1, or add --allow-remote-hook"
            )));
        }
        Some(Hook {
            url,
            secret_file,
            remote: remote.unwrap_or(false),
            timeout: timeout.unwrap_or(Duration::from_secs(2)),
        })
    }

    /// A setting that means nothing without another one is a mistake. What is wrong with
    /// its own value is told already, wherever it stands, and is enough.
    pub(super) fn useless(&mut self, names: &[&str], without: &str) {
        let given = names.iter().filter_map(|name| self.raw.get(name));
        // Only flags: a file or an environment may serve several sidecars.
        let flags = given.filter(|given| given.source == Source::Flag);
        for given in flags.filter(|given| !self.wrong.contains(&given.setting.name)) {
            let text = format!("{given}: it means nothing without {without}; add that");
            self.problems.push(Problem::new(text));
        }
    }
}

/// A URL that the app is called at.
pub(super) fn plain_http(text: &str) -> Result<Uri, Problem> {
    let wrong = || Problem::new("it is no URL; write it as http://127.0.0.1:8080/path");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(Problem::new(
                "this version does not speak https to the app; use http on the loopback",
            ));
        }
        _ => return Err(wrong()),
    }
    let authority = uri.authority().ok_or_else(wrong)?;
    if authority.as_str().contains('@') {
        return Err(Problem::new(
            "it carries a login; sign hooks with --hook-secret-file instead",
        ));
    }
    let port = authority
        .port()
        .map_or(String::new(), |port| format!(":{port}"));
    // http://h:99999 parses as well.
    let whole = authority.port_u16().is_some() || port.is_empty();
    let as_written = format!("{}{port}", authority.host()) == authority.as_str();
    if authority.host().is_empty() || !whole || !as_written {
        return Err(wrong());
    }
    Ok(uri)
}

/// By its literal, or as the name that RFC 6761 reserves.
fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let address: Option<IpAddr> = literal.parse().ok();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |ip| {
        ip.is_loopback()
    })
}
