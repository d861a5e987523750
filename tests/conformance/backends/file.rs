//! A directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tenure::backend::Store;
use tenure::backend::file::FileStore;
use tenure::lease::ElectionName;
use tenure::time::BootClock;

use crate::fault::Way;
use crate::faulty::Faulty;
use crate::fixture::{Backup, Fixture, Half};

pub struct File {
    directory: TempDir,
    /// Beside it, so that what is put there comes by a rename.
    aside: TempDir,
}

impl File {
    fn record_of(&self, election: &ElectionName) -> PathBuf {
        self.directory.path().join(format!("{election}.d"))
    }

    /// Waits until nothing is left to tidy up: an operator puts no copy in the place of a
    /// folder that is being worked in.
    async fn settled(&self, election: &ElectionName) {
        for _ in 0..1000 {
            let names = std::fs::read_dir(self.record_of(election)).unwrap();
            let names: Vec<String> = names
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            let head = names.iter().find(|name| name.starts_with("head."));
            let named = |name: &String| {
                let version = name.strip_suffix(".json");
                version.is_none_or(|version| head.is_some_and(|head| head.contains(version)))
            };
            if names.iter().all(named) {
                return;
            }
            tenure::time::pause(Duration::from_millis(2)).await;
        }
        panic!("{election} is never tidied up");
    }

    fn unused(&self) -> PathBuf {
        self.aside.path().join(format!("{:x}", fastrand::u64(..)))
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[async_trait]
impl Fixture for File {
    async fn start() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            aside: TempDir::new().unwrap(),
        }
    }

    async fn store(&self, _call_timeout: Duration) -> Arc<dyn Store> {
        let store = FileStore::open(self.directory.path(), Arc::new(BootClock));
        Arc::new(store.unwrap())
    }

    async fn faulty_store(&self, call_timeout: Duration) -> (Arc<dyn Store>, Arc<dyn Way>) {
        Faulty::around(self.store(call_timeout).await)
    }

    /// There is no server; a killed process leaves the files as they are.
    async fn restart(&self, election: &ElectionName, keep_data: bool) {
        if !keep_data {
            self.wipe(election).await;
        }
    }

    async fn wipe(&self, election: &ElectionName) {
        std::fs::rename(self.record_of(election), self.unused()).unwrap();
    }

    async fn back_up(&self, election: &ElectionName) -> Backup {
        let backup = self.unused();
        copy(&self.record_of(election), &backup);
        Box::new(backup)
    }

    async fn restore(&self, election: &ElectionName, backup: &Backup) {
        self.settled(election).await;
        let fresh = self.unused();
        copy(backup.downcast_ref::<PathBuf>().unwrap(), &fresh);
        self.wipe(election).await;
        std::fs::rename(fresh, self.record_of(election)).unwrap();
    }

    async fn lose(&self, _election: &ElectionName, _half: Half) -> bool {
        false
    }
}
