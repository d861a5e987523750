//! `tenure run -- COMMAND`: real sidecars, real apps, real signals. Each app holds an
//! exclusive lock for its whole life, and so does everything that it starts; an app that
//! finds it taken says so, and the test that started it fails.
#![cfg(all(feature = "file", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/http.rs"]
mod http;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/process.rs"]
mod process;
#[path = "support/redis.rs"]
mod redis_server;
#[path = "support/called_app.rs"]
mod web_app;

#[path = "app/beside.rs"]
mod beside;
#[path = "app/codes.rs"]
mod codes;
#[path = "app/crashes.rs"]
mod crashes;
#[path = "app/first_process.rs"]
mod first_process;
#[path = "app/handover.rs"]
mod handover;
#[path = "app/scene.rs"]
mod scene;
#[path = "app/settings.rs"]
mod settings;
#[path = "app/stopping.rs"]
mod stopping;
#[path = "app/trouble.rs"]
mod trouble;
