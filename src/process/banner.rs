//! What a sidecar says of itself: at its start, and in `config check`.

use serde_json::json;

use crate::backend::Guarantees;
use crate::config::{Config, LogFormat};
use crate::time::{millis, millis_up};

/// The first output of `tenure run`.
pub struct Banner<'a> {
    pub config: &'a Config,
    pub id: &'a str,
    pub store: &'a str,
    pub guarantees: &'a Guarantees,
    pub api: &'a str,
    pub probes: Option<&'a str>,
}

impl Banner<'_> {
    /// For people, or one JSON line where logs are JSON too.
    pub fn text(&self) -> String {
        let timing = &self.config.timing;
        let worst =
            timing.worst_case_failover(self.guarantees.expiry_step, self.config.largest_delay());
        let elections: Vec<&str> = self
            .config
            .elections
            .iter()
            .map(crate::lease::ElectionName::as_str)
            .collect();
        if self.config.logging.format == LogFormat::Json {
            let line = json!({
                "event": "started",
                "version": env!("CARGO_PKG_VERSION"),
                "elections": elections,
                "id": self.id,
                "backend": self.store,
                "guarantees": self.guarantees,
                "api": self.api,
                "probes": self.probes,
                "ttl_ms": millis(timing.ttl()),
                "renew_every_ms": millis(timing.renew_every()),
                "worst_case_failover_ms": millis(worst),
            });
            return format!("{line}\n");
        }
        format!(
            "tenure {version}\n\
             election    {elections}\n\
             id          {id}\n\
             backend     {store}\n\
             guarantees  {guarantees}\n\
             API         {api}\n\
             {probes}\
             failover    after a crash at most {worst} (ttl {ttl}, renewed every {renew})\n",
            version = env!("CARGO_PKG_VERSION"),
            elections = elections.join(", "),
            id = self.id,
            store = self.store,
            guarantees = self.guarantees,
            api = self.api,
            probes = self
                .probes
                .map_or(String::new(), |url| format!("probes      {url}\n")),
            worst = short(worst),
            ttl = short(timing.ttl()),
            renew = short(timing.renew_every()),
        )
    }
}

fn short(span: std::time::Duration) -> humantime::FormattedDuration {
    humantime::format_duration(std::time::Duration::from_millis(millis_up(span)))
}

/// The effective configuration, secrets hidden, and what it means. The text is a file
/// that `--config` takes.
pub fn effective(config: &Config, json: bool) -> String {
    let timing = &config.timing;
    let step = config.target.expiry_step();
    let worst = timing.worst_case_failover(step, config.largest_delay());
    let elections: Vec<&str> = config
        .elections
        .iter()
        .map(crate::lease::ElectionName::as_str)
        .collect();
    let listeners = &config.listeners;
    let optional = |span: Option<std::time::Duration>| span.map(|span| short(span).to_string());
    let (hook, health) = (config.hook.as_ref(), config.app_health.as_ref());
    #[cfg_attr(not(feature = "wire"), allow(unused_mut))]
    let mut settings = json!({
        "backend": config.target.to_string(),
        "election": elections,
        "id": config.id,
        "url": config.url,
        "ttl": short(timing.ttl()).to_string(),
        "renew-every": short(timing.renew_every()).to_string(),
        "call-timeout": short(timing.call_timeout()).to_string(),
        "drift": timing.drift().to_string(),
        "stop-budget": short(timing.stop_budget()).to_string(),
        "hook": hook.map(|hook| hook.url.to_string()),
        "hook-secret-file": hook.and_then(|hook| hook.secret_file.as_ref()),
        "allow-remote-hook": hook.map(|hook| hook.remote),
        "hook-timeout": optional(hook.map(|hook| hook.timeout)),
        "drain-timeout": short(config.drain_timeout).to_string(),
        "app-health": health.map(|check| check.url.to_string()),
        "app-health-every": optional(health.map(|check| check.every)),
        "app-health-failures": health.map(|check| check.failures),
        "on-unhealthy": health.map(|check| check.on_unhealthy.as_str()),
        "priority": config.priority,
        "listen": listeners.api.to_string(),
        "probe-listen": listeners.probes.as_ref().map(ToString::to_string),
        "probe-status": listeners.probe_status,
        "api-token-file": listeners.token_file,
        "allow-host": listeners.allow_hosts,
        "redis-wait": config.redis_wait,
        "max-event-readers": config.max_event_readers,
        "state-dir": config.state_dir,
        "wait": optional(config.wait),
        "once": config.once,
        "status-every": optional(config.status_every),
        "log-format": config.logging.format.as_str(),
        "log-level": config.logging.level.map_or("off".to_owned(), |level| level.to_string().to_lowercase()),
    });
    #[cfg(feature = "wire")]
    for (name, value) in [
        ("username", json!(config.credentials.username)),
        ("password-file", json!(config.credentials.password)),
        ("ca-file", json!(config.credentials.ca)),
        ("cert-file", json!(config.credentials.cert)),
        ("key-file", json!(config.credentials.key)),
    ] {
        settings[name] = value;
    }
    #[cfg(feature = "peers")]
    if let Some(peers) = &config.peers {
        add_peers(&mut settings, peers);
    }
    if let Some(app) = &config.app {
        settings["restart"] = app.restart.as_str().into();
        settings["stop-signal"] = app.stop_signal.as_str().into();
        settings["crash-loop"] = app.crash_loop.to_string().into();
    }
    let command = config.app.as_ref().map(|app| {
        let words = app.command.iter();
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>()
    });
    if json {
        let all = json!({
            "settings": settings,
            "command": command,
            "worst_case_failover_ms": millis(worst),
        });
        return format!("{all:#}\n");
    }
    let mut lines = String::new();
    for (name, value) in settings.as_object().into_iter().flatten() {
        if !value.is_null() {
            lines += &format!("{name} = {value}\n");
        }
    }
    if let Some(command) = command {
        lines += &format!("# command: {command:?}\n");
    }
    if config.id.is_none() {
        lines += "# id: host:port of the API\n";
    }
    lines += &format!(
        "\n# After a crash of the leader: at most {} without one, with a healthy store.\n\
         # After a graceful stop: a few calls to the store.\n",
        short(worst)
    );
    lines
}

#[cfg(feature = "peers")]
fn add_peers(settings: &mut serde_json::Value, peers: &crate::config::Peers) {
    let members = &peers.members;
    let listed = members.ids().filter_map(|id| {
        let address = members.address(id)?;
        Some(format!("{id}={address}"))
    });
    for (name, value) in [
        ("peer", json!(listed.collect::<Vec<_>>())),
        ("node", json!(members.own())),
        ("peer-listen", json!(peers.listen.to_string())),
        ("witness", json!(peers.witness)),
        ("insecure-peers", json!(peers.insecure)),
        ("heartbeat", json!(short(peers.heartbeat).to_string())),
        ("suspicion", json!(short(peers.suspicion).to_string())),
        (
            "election-timeout",
            json!(short(peers.election_timeout).to_string()),
        ),
        ("bootstrap", json!(peers.bootstrap)),
    ] {
        settings[name] = value;
    }
}
