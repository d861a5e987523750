//! A machine whose every step is written down.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use tenure::lease::{
    Acquired, Drift, Epoch, Holder, Profile, Renewed, SessionId, StoreError, Timing,
};
use tenure::machine::{AppHealth, CallId, Input, Machine, Percent, Settings};
use tenure::time::{Moment, UnixMs};

use super::shown::{show, show_action, show_input};

/// A lease of a second, renewed every 300 ms, calls of at most 150 ms: of 1000 ms
/// granted, 978.198 count.
pub struct Transcript {
    name: &'static str,
    machine: Machine,
    now: Moment,
    text: String,
}

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

pub fn holder(number: u64, node: &str) -> Holder {
    Holder {
        epoch: epoch(number),
        session: SessionId::from_bits(u128::from(number)),
        profile: Profile {
            node: node.parse().unwrap(),
            url: None,
            metadata: Vec::new(),
        },
        since: UnixMs(0),
        ttl: ms(1000),
    }
}

pub fn won(number: u64) -> Result<Acquired, StoreError> {
    Ok(Acquired::Won {
        epoch: epoch(number),
        left: ms(1000),
    })
}

pub fn held(number: u64, left: u64) -> Result<Acquired, StoreError> {
    Ok(Acquired::Held {
        holder: holder(number, "other"),
        left: ms(left),
    })
}

pub fn kept() -> Result<Renewed, StoreError> {
    Ok(Renewed::Kept { left: ms(1000) })
}

pub fn uncertain() -> StoreError {
    StoreError::Indeterminate("no answer".into())
}

pub fn down() -> StoreError {
    StoreError::Unavailable("connection refused".into())
}

impl Transcript {
    pub fn new(name: &'static str, drains: bool, floor: Option<u64>, about: &str) -> Self {
        Self::of(name, drains, floor, (Percent::FULL, None), about)
    }

    /// A node of that priority, with an app about which nothing is known yet where
    /// somebody looks how it is.
    pub fn of(
        name: &'static str,
        drains: bool,
        floor: Option<u64>,
        (priority, health): (Percent, Option<AppHealth>),
        about: &str,
    ) -> Self {
        let stop = if drains { ms(200) } else { ms(0) };
        let timing = Timing::new(ms(1000), ms(300), ms(150), stop, Drift::ONE_PERCENT).unwrap();
        let settings = Settings {
            node: "self".parse().unwrap(),
            timing,
            drain: drains.then_some(ms(2000)),
            priority,
            health,
            seed: 1,
        };
        let stop = if drains {
            ", 200 ms kept for the app to drain"
        } else {
            ""
        };
        Self {
            name,
            machine: Machine::new(settings, floor.map(epoch)),
            now: Moment::default(),
            text: format!("# {about}\n# ttl 1 s, renewed every 300 ms, calls 150 ms{stop}\n"),
        }
    }

    pub fn step(&mut self, at: u64, input: Input) -> &mut Self {
        self.step_at(Moment::from_millis(at), input)
    }

    pub fn step_at(&mut self, now: Moment, input: Input) -> &mut Self {
        assert!(now >= self.now, "a transcript's time goes on");
        self.now = now;
        let mut actions = Vec::new();
        let label = show_input(&input);
        self.machine.step(now, input, &mut actions);
        let text = &mut self.text;
        writeln!(text, "\n{:>9}  {label}", show(now)).unwrap();
        for action in &actions {
            writeln!(text, "           -> {}", show_action(action)).unwrap();
        }
        let snapshot = self.machine.snapshot();
        write!(text, "           =  {}", snapshot.state()).unwrap();
        if let Some(tenure) = snapshot.tenure {
            let (leads, ends) = (show(tenure.leads_until), show(tenure.ends_at));
            write!(text, ", epoch {}", tenure.epoch).unwrap();
            if leads == ends {
                write!(text, ", leads and holds until {ends}").unwrap();
            } else {
                write!(text, ", leads until {leads}, holds until {ends}").unwrap();
            }
        }
        if let Some(leader) = &snapshot.leader {
            let until = show(leader.named_until);
            write!(text, ", names epoch {} until {until}", leader.holder.epoch).unwrap();
        }
        match self.machine.wake_at() {
            Some(due) => writeln!(text, "; wakes at {}", show(due)).unwrap(),
            None => writeln!(text, "; sleeps").unwrap(),
        }
        self
    }

    /// Steps that long after the last step.
    pub fn after(&mut self, millis: u64, input: Input) -> &mut Self {
        self.step_at(self.now + ms(millis), input)
    }

    /// Steps when the machine asked for it.
    pub fn wake(&mut self) -> &mut Self {
        let due = self
            .machine
            .wake_at()
            .expect("the machine wants to be woken");
        self.step_at(due, Input::Wake)
    }

    pub fn check(&self) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/testdata/machine")
            .join(format!("{}.txt", self.name));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &self.text).unwrap();
            return;
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; UPDATE_GOLDEN=1 makes it", path.display())
        });
        for (number, (now, then)) in self.text.lines().zip(golden.lines()).enumerate() {
            assert_eq!(
                now,
                then,
                "{}:{}; all of it:\n{}",
                path.display(),
                number + 1,
                self.text
            );
        }
        assert_eq!(self.text, golden, "{}", path.display());
    }
}

pub const fn call(number: u64) -> CallId {
    CallId(number)
}
