//! The reference model.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tenure::backend::Store;
use tenure::backend::memory::{Data, MemoryStore};
use tenure::lease::ElectionName;
use tenure::time::BootClock;

use crate::fault::Way;
use crate::faulty::Faulty;
use crate::fixture::{Backup, Fixture, Half};

pub struct Memory {
    store: Arc<MemoryStore>,
}

impl Memory {
    fn change(&self, election: &ElectionName, change: impl FnOnce(&mut Data)) {
        let mut data = self.store.data(election);
        change(&mut data);
        self.store.set_data(election, data);
    }
}

#[async_trait]
impl Fixture for Memory {
    async fn start() -> Self {
        let store = Arc::new(MemoryStore::new(Arc::new(BootClock)));
        Self { store }
    }

    async fn store(&self, _call_timeout: Duration) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn faulty_store(&self, call_timeout: Duration) -> (Arc<dyn Store>, Arc<dyn Way>) {
        Faulty::around(self.store(call_timeout).await)
    }

    async fn restart(&self, election: &ElectionName, keep_data: bool) {
        self.change(election, |data| {
            if !keep_data {
                *data = Data::default();
            }
            data.server = format!("started-{:x}", fastrand::u64(..));
        });
    }

    async fn wipe(&self, election: &ElectionName) {
        self.change(election, |data| {
            let server = std::mem::take(&mut data.server);
            *data = Data {
                server,
                ..Data::default()
            };
        });
    }

    async fn back_up(&self, election: &ElectionName) -> Backup {
        Box::new(self.store.data(election))
    }

    async fn restore(&self, election: &ElectionName, backup: &Backup) {
        let data = backup.downcast_ref::<Data>().unwrap();
        self.store.set_data(election, data.clone());
    }

    async fn lose(&self, election: &ElectionName, half: Half) -> bool {
        self.change(election, |data| match half {
            Half::Leader => data.register.leader = None,
            Half::State => data.register.state = None,
        });
        true
    }
}
