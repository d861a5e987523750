//! Golden transcripts of the election machine: what it does, moment by moment, in a
//! form that a person can read. `UPDATE_GOLDEN=1 cargo test --test machine_golden`
//! writes them anew; read the difference before you commit it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use tenure::lease::{
    Acquired, Drift, Epoch, Hint, HoldReason, Holder, Observed, Profile, Released, Renewed,
    SessionId, StoreError, Timing,
};
use tenure::machine::{Action, AppHealth, CallId, Input, Machine, Percent, Settings};
use tenure::time::{Moment, UnixMs};

/// A lease of a second, renewed every 300 ms, calls of at most 150 ms: of 1000 ms
/// granted, 978.198 count.
struct Transcript {
    name: &'static str,
    machine: Machine,
    now: Moment,
    text: String,
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn holder(number: u64, node: &str) -> Holder {
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

fn won(number: u64) -> Result<Acquired, StoreError> {
    Ok(Acquired::Won {
        epoch: epoch(number),
        left: ms(1000),
    })
}

fn held(number: u64, left: u64) -> Result<Acquired, StoreError> {
    Ok(Acquired::Held {
        holder: holder(number, "other"),
        left: ms(left),
    })
}

fn kept() -> Result<Renewed, StoreError> {
    Ok(Renewed::Kept { left: ms(1000) })
}

fn uncertain() -> StoreError {
    StoreError::Indeterminate("no answer".into())
}

fn down() -> StoreError {
    StoreError::Unavailable("connection refused".into())
}

fn show(moment: Moment) -> String {
    let text = format!("{:.3}", moment.as_nanos() as f64 / 1e6);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn show_input(input: &Input) -> String {
    match input {
        Input::Wake => "wake".into(),
        Input::Acquired(call, Ok(Acquired::Won { epoch, left })) => {
            format!("acquire #{}: won epoch {epoch}, {left:?} left", call.0)
        }
        Input::Acquired(call, Ok(Acquired::Held { holder, left })) => {
            let (epoch, node) = (holder.epoch, &holder.profile.node);
            format!(
                "acquire #{}: held by {node}, epoch {epoch}, {left:?} left",
                call.0
            )
        }
        Input::Acquired(call, Ok(Acquired::Hold { retry_in, why })) => {
            format!("acquire #{}: hold, {retry_in:?} left: {why}", call.0)
        }
        Input::Acquired(call, Err(error)) => format!("acquire #{}: {error}", call.0),
        Input::Renewed(call, Ok(Renewed::Kept { left })) => {
            format!("renew #{}: kept, {left:?} left", call.0)
        }
        Input::Renewed(call, Ok(Renewed::Lost(None))) => {
            format!("renew #{}: lost, nobody holds it", call.0)
        }
        Input::Renewed(call, Ok(Renewed::Lost(Some(holder)))) => {
            format!("renew #{}: lost to epoch {}", call.0, holder.epoch)
        }
        Input::Renewed(call, Err(error)) => format!("renew #{}: {error}", call.0),
        Input::Released(call, Ok(answer)) => format!("release #{}: {answer:?}", call.0),
        Input::Released(call, Err(error)) => format!("release #{}: {error}", call.0),
        Input::Hint(Hint::Present(observed)) => match &observed.holder {
            Some((holder, _)) => format!("hint: at present held, epoch {}", holder.epoch),
            None => "hint: at present free".into(),
        },
        Input::Hint(Hint::Began(epoch)) => format!("hint: epoch {epoch} began"),
        Input::Hint(Hint::Ended { epoch, prefer }) => match prefer {
            Some(node) => format!("hint: epoch {epoch} ended, {node} first"),
            None => format!("hint: epoch {epoch} ended"),
        },
        Input::Hint(Hint::Gap) => "hint: gap".into(),
        Input::Observed(call, Ok(observed)) => match &observed.holder {
            Some((holder, left)) => {
                let epoch = holder.epoch;
                format!("observe #{}: held, epoch {epoch}, {left:?} left", call.0)
            }
            None => format!("observe #{}: free", call.0),
        },
        Input::Observed(call, Err(error)) => format!("observe #{}: {error}", call.0),
        Input::Drained(epoch) => format!("drained, epoch {epoch}"),
        Input::AppEnded { epoch, cooldown } => {
            format!("the app of epoch {epoch} ends by itself; last for {cooldown:?}")
        }
        Input::Health(health) if health.healthy => {
            format!("the app is well, score {}", health.score.get())
        }
        Input::Health(_) => "the app is not well".into(),
        Input::Candidacy(true) => "is a candidate".into(),
        Input::Candidacy(false) => "is no candidate".into(),
        Input::StepDown { cooldown, to } => match to {
            Some(node) => format!("step down for {cooldown:?}, to {node}"),
            None => format!("step down for {cooldown:?}"),
        },
        Input::Stop => "stop".into(),
    }
}

fn show_action(action: &Action) -> String {
    match action {
        Action::Acquire {
            call,
            floor,
            incumbent,
            hold,
        } => {
            let floor = floor.map_or("none".to_owned(), |floor| floor.to_string());
            let incumbent = if *incumbent { ", as incumbent" } else { "" };
            format!(
                "acquire #{}, floor {floor}, hold {hold:?}{incumbent}",
                call.0
            )
        }
        Action::Observe { call } => format!("observe #{}", call.0),
        Action::Renew { call, epoch } => format!("renew #{}, epoch {epoch}", call.0),
        Action::Release {
            call,
            epoch,
            prefer,
        } => {
            let prefer = prefer.as_ref();
            let prefer = prefer.map_or(String::new(), |node| format!(", {node} first"));
            format!("release #{}, epoch {epoch}{prefer}", call.0)
        }
        Action::Drain => "drain the app".into(),
        Action::Announce(event) => {
            let (kind, why) = (event.kind.as_str(), event.reason.as_str());
            let (from, to, at) = (event.from, event.to, show(event.at));
            let epoch = event
                .epoch
                .map_or(String::new(), |epoch| format!(", epoch {epoch}"));
            format!("announce {kind} ({why}){epoch}: {from} to {to} at {at}")
        }
        Action::WarnSameId(_) => "warn: another session bears this node's id".into(),
        Action::Finished => "finished".into(),
    }
}

impl Transcript {
    fn new(name: &'static str, drains: bool, floor: Option<u64>, about: &str) -> Self {
        Self::of(name, drains, floor, (Percent::FULL, None), about)
    }

    /// A node of that priority, with an app about which nothing is known yet where
    /// somebody looks how it is.
    fn of(
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

    fn step(&mut self, at: u64, input: Input) -> &mut Self {
        self.step_at(Moment::from_millis(at), input)
    }

    fn step_at(&mut self, now: Moment, input: Input) -> &mut Self {
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
    fn after(&mut self, millis: u64, input: Input) -> &mut Self {
        self.step_at(self.now + ms(millis), input)
    }

    /// Steps when the machine asked for it.
    fn wake(&mut self) -> &mut Self {
        let due = self
            .machine
            .wake_at()
            .expect("the machine wants to be woken");
        self.step_at(due, Input::Wake)
    }

    fn check(&self) {
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

const fn call(number: u64) -> CallId {
    CallId(number)
}

#[test]
fn win_and_renew() {
    let mut t = Transcript::new(
        "win_and_renew",
        false,
        None,
        "A free lease is won and renewed.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .wake()
        .step(310, Input::Renewed(call(2), kept()))
        .wake()
        .step(605, Input::Renewed(call(3), kept()))
        .check();
}

#[test]
fn lost_reply_then_same_grant() {
    let mut t = Transcript::new(
        "lost_reply",
        false,
        Some(5),
        "The answer to an acquire is lost; asking again finds the same grant, and its time\n\
         # counts from the second send.",
    );
    t.step(0, Input::Wake)
        .step(150, Input::Acquired(call(1), Err(uncertain())))
        .wake()
        .step(210, Input::Acquired(call(2), won(7)))
        .check();
}

#[test]
fn grant_arrives_too_late() {
    let mut t = Transcript::new(
        "late_grant",
        false,
        None,
        "A grant is processed when its lease is over: it is dead, given back, and in the floor.",
    );
    t.step(0, Input::Wake)
        .step(979, Input::Acquired(call(1), won(7)))
        .step(985, Input::Released(call(2), Ok(Released::NotHeld)))
        .wake()
        .step(1050, Input::Acquired(call(3), won(8)))
        .check();
}

#[test]
fn follower_takes_over_at_expiry() {
    let mut t = Transcript::new(
        "follower",
        false,
        None,
        "A follower sleeps for the time the store told, tries, and goes on naming the old\n\
         # leader meanwhile.",
    );
    t.step(0, Input::Wake)
        .step(5, Input::Acquired(call(1), held(7, 900)))
        .wake()
        .step(910, Input::Acquired(call(2), held(7, 700)))
        .wake()
        .step(1620, Input::Acquired(call(3), won(8)))
        .check();
    let mut t = Transcript::new(
        "follower_unanswered",
        false,
        None,
        "A follower's try is not answered: it names the old leader for one call timeout only.",
    );
    t.step(0, Input::Wake)
        .step(5, Input::Acquired(call(1), held(7, 900)))
        .wake()
        .wake()
        .step(1056, Input::Acquired(call(2), Err(uncertain())))
        .wake()
        .check();
}

#[test]
fn hint_of_release_wakes() {
    let mut t = Transcript::new(
        "hint",
        false,
        None,
        "The hint of a release wakes a follower at once; one that comes while an older\n\
         # answer is under way makes it ask again.",
    );
    t.step(0, Input::Wake)
        .step(5, Input::Acquired(call(1), held(7, 900)))
        .step(
            100,
            Input::Hint(Hint::Ended {
                epoch: epoch(7),
                prefer: None,
            }),
        )
        .step(
            101,
            Input::Hint(Hint::Ended {
                epoch: epoch(7),
                prefer: None,
            }),
        )
        .step(102, Input::Acquired(call(2), held(7, 800)))
        .step(104, Input::Acquired(call(3), held(8, 1000)))
        .step(105, Input::Hint(Hint::Began(epoch(8))))
        .step(106, Input::Hint(Hint::Gap))
        .step(108, Input::Acquired(call(4), held(8, 996)))
        .step(
            110,
            Input::Hint(Hint::Present(Observed {
                epoch: Some(epoch(8)),
                holder: None,
            })),
        )
        .check();
}

#[test]
fn another_is_preferred() {
    let mut t = Transcript::new(
        "prefer",
        false,
        None,
        "The leader names its successor: this node, another one, waits for two call timeouts.",
    );
    t.step(0, Input::Wake)
        .step(5, Input::Acquired(call(1), held(7, 900)))
        .step(
            100,
            Input::Hint(Hint::Ended {
                epoch: epoch(7),
                prefer: Some("third".parse().unwrap()),
            }),
        )
        .wake()
        .check();
}

#[test]
fn step_down_with_drain() {
    let mut t = Transcript::new(
        "step_down",
        true,
        None,
        "Stepping down: not leader at once, renewed while the app drains, released after it,\n\
         # and the successor goes first.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(
            100,
            Input::StepDown {
                cooldown: ms(5000),
                to: Some("third".parse().unwrap()),
            },
        )
        .wake()
        .step(310, Input::Renewed(call(2), kept()))
        .step(400, Input::Drained(epoch(7)))
        .step(405, Input::Released(call(3), Err(down())))
        .wake()
        .step(450, Input::Released(call(4), Ok(Released::Released)))
        // Its own grant, told late: the successor still goes first.
        .step(451, Input::Hint(Hint::Began(epoch(7))))
        .wake()
        .check();
}

#[test]
fn release_stays_unresolved() {
    let mut t = Transcript::new(
        "release_failed",
        false,
        None,
        "Three releases without an answer: the lease is left to run out.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(
            20,
            Input::StepDown {
                cooldown: ms(0),
                to: None,
            },
        )
        .step(170, Input::Released(call(2), Err(uncertain())))
        .wake()
        .step(360, Input::Released(call(3), Err(uncertain())))
        .wake()
        .step(560, Input::Released(call(4), Err(uncertain())))
        .wake()
        .check();
}

#[test]
fn stop_while_acquiring() {
    let mut t = Transcript::new(
        "stop_acquiring",
        true,
        None,
        "Asked to end while an acquire is under way: its grant is given back, never led under.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Stop)
        .step(20, Input::Acquired(call(1), won(7)))
        .step(30, Input::Wake)
        .check();
}

#[test]
fn stop_while_draining_and_twice() {
    let mut t = Transcript::new(
        "stop_draining",
        true,
        None,
        "Asked to end while it steps down, and once more: one drain, one release, one end.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(
            100,
            Input::StepDown {
                cooldown: ms(1000),
                to: None,
            },
        )
        .step(110, Input::Stop)
        .step(120, Input::Stop)
        .step(200, Input::Drained(epoch(7)))
        .step(210, Input::Stop)
        .step(220, Input::Released(call(2), Ok(Released::Released)))
        .step(230, Input::Stop)
        .check();
}

#[test]
fn app_ends_by_itself() {
    let mut t = Transcript::new(
        "app_ended",
        true,
        None,
        "The app ends by itself: not leader at once, released when all of it is gone. A late\n\
         # word of it does nothing to the next tenure, nor does its end.",
    );
    let ended = |number| Input::AppEnded {
        epoch: epoch(number),
        cooldown: ms(1000),
    };
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(100, ended(7))
        .step(103, Input::Drained(epoch(7)))
        .step(105, Input::Released(call(2), Ok(Released::Released)))
        .wake()
        .step(410, Input::Acquired(call(3), won(8)))
        .step(420, ended(7))
        .step(430, Input::Drained(epoch(7)))
        .step(500, ended(8))
        .step(510, Input::Drained(epoch(7)))
        .step(520, Input::Drained(epoch(8)))
        .check();
}

#[test]
fn app_does_not_stop() {
    let mut t = Transcript::new(
        "drains_for_ever",
        true,
        None,
        "An app that does not stop keeps the lease for the drain of 2 s, then it runs out.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(
            250,
            Input::StepDown {
                cooldown: ms(1000),
                to: None,
            },
        );
    for number in 2..=8 {
        t.wake().after(10, Input::Renewed(call(number), kept()));
    }
    t.wake().wake().check();
}

#[test]
fn cooldown() {
    let mut t = Transcript::new(
        "cooldown",
        false,
        None,
        "In its cooldown a node looks who was granted the lease and does not ask for it: the\n\
         # look may reach the store when that lease is released already, and others wait for\n\
         # it. It asks two calls after it saw the lease free.",
    );
    let free = || {
        Ok(Observed {
            epoch: Some(epoch(8)),
            holder: None,
        })
    };
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .step(
            250,
            Input::StepDown {
                cooldown: ms(60_000),
                to: None,
            },
        )
        .step(255, Input::Released(call(2), Ok(Released::Released)))
        .step(400, Input::Hint(Hint::Began(epoch(8))))
        .step(405, Input::Observed(call(3), free()))
        .wake()
        .step(710, Input::Acquired(call(4), won(9)))
        .check();
}

#[test]
fn no_candidate() {
    let mut t = Transcript::new(
        "no_candidate",
        false,
        None,
        "No candidate: it only looks who leads, gives back what it had asked for before, and\n\
         # campaigns when it is one again.",
    );
    let observed = |holder: Option<Holder>| {
        Ok(Observed {
            epoch: Some(epoch(7)),
            holder: holder.map(|holder| (holder, ms(900))),
        })
    };
    t.step(0, Input::Wake)
        .step(5, Input::Candidacy(false))
        .step(10, Input::Acquired(call(1), won(6)))
        .step(12, Input::Released(call(2), Ok(Released::Released)))
        .wake()
        .step(
            60,
            Input::Observed(call(3), observed(Some(holder(7, "other")))),
        )
        .step(
            100,
            Input::Hint(Hint::Ended {
                epoch: epoch(7),
                prefer: None,
            }),
        )
        .step(105, Input::Observed(call(4), observed(None)))
        .step(110, Input::Hint(Hint::Began(epoch(8))))
        .step(115, Input::Observed(call(5), Err(uncertain())))
        .wake()
        .step(180, Input::Observed(call(6), observed(None)))
        .step(200, Input::Candidacy(true))
        .check();
}

#[test]
fn priority() {
    let mut t = Transcript::of(
        "priority",
        false,
        None,
        (Percent::new(60).unwrap(), None),
        "A priority of 60: it looks while another leads and before it knows of a free lease,\n\
         # and asks for a free one 40 % of a call later, 60 ms. A duplicate look does not\n\
         # begin the wait anew.",
    );
    let observed = |holder: Option<Holder>| {
        Ok(Observed {
            epoch: Some(epoch(7)),
            holder: holder.map(|holder| (holder, ms(300))),
        })
    };
    t.step(0, Input::Wake)
        .step(
            5,
            Input::Observed(call(1), observed(Some(holder(7, "other")))),
        )
        .wake()
        .step(310, Input::Observed(call(2), observed(None)))
        .step(320, Input::Hint(Hint::Gap))
        .step(330, Input::Observed(call(3), observed(None)))
        .wake()
        .step(375, Input::Acquired(call(4), Err(uncertain())))
        .wake()
        .after(5, Input::Acquired(call(5), won(8)))
        .after(
            20,
            Input::StepDown {
                cooldown: ms(0),
                to: None,
            },
        )
        .after(5, Input::Released(call(6), Ok(Released::Released)))
        .wake()
        .check();
}

#[test]
fn health() {
    let mut t = Transcript::of(
        "health",
        false,
        None,
        (Percent::FULL, Some(AppHealth::UNFIT)),
        "An app of which nothing is known: it only looks. Well with a score of 80, it asks 20 %\n\
         # of a call after it knows the lease to be free, 30 ms. Unhealthy, it steps down and\n\
         # gives back what it is granted all the same; a score that moves a little is no event.",
    );
    let fit = |score| Input::Health(AppHealth::fit(Percent::new(score).unwrap()));
    let free = Ok(Observed {
        epoch: None,
        holder: None,
    });
    t.step(0, Input::Wake)
        .step(5, Input::Observed(call(1), free))
        .step(100, fit(80))
        .wake()
        .step(135, Input::Acquired(call(2), won(1)))
        .step(200, fit(75))
        .step(210, fit(40))
        .step(300, Input::Health(AppHealth::UNFIT))
        .step(305, Input::Released(call(3), Ok(Released::Released)))
        .step(310, Input::Health(AppHealth::UNFIT))
        .step(400, fit(100))
        .wake()
        .after(5, Input::Health(AppHealth::UNFIT))
        .after(5, Input::Acquired(call(4), won(2)))
        .check();
}

#[test]
fn renewal_lost_then_incumbent() {
    let mut t = Transcript::new(
        "incumbent",
        false,
        None,
        "The store forgot a lease that stands: its holder asks again as the incumbent, under\n\
         # a new epoch. Later, another holds it: no incumbent then.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .wake()
        .step(310, Input::Renewed(call(2), Ok(Renewed::Lost(None))))
        .step(320, Input::Acquired(call(3), won(8)))
        .wake()
        .step(
            620,
            Input::Renewed(call(4), Ok(Renewed::Lost(Some(holder(9, "other"))))),
        )
        .check();
}

#[test]
fn indeterminate_renewals_until_expiry() {
    let mut t = Transcript::new(
        "indeterminate",
        true,
        None,
        "No renewal is answered for sure: nothing is prolonged, nothing ended before its\n\
         # time; at leads_until the app is drained, and no campaign before ends_at.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .wake()
        .step(450, Input::Renewed(call(2), Err(uncertain())))
        .wake()
        .step(650, Input::Renewed(call(3), Err(uncertain())))
        .wake()
        .wake()
        .step(800, Input::Renewed(call(4), kept()))
        .wake()
        .step(990, Input::Acquired(call(5), won(8)))
        .check();
}

#[test]
fn hold() {
    let mut t = Transcript::new(
        "hold",
        false,
        Some(9),
        "The store contradicts this node's memory and holds: the node waits it out.",
    );
    let hold = Acquired::Hold {
        retry_in: ms(1012),
        why: HoldReason::StoreWentBack,
    };
    t.step(0, Input::Wake)
        .step(5, Input::Acquired(call(1), Ok(hold)))
        .step(
            20,
            Input::Hint(Hint::Present(Observed {
                epoch: Some(epoch(9)),
                holder: None,
            })),
        )
        .wake()
        .step(1025, Input::Acquired(call(2), won(10)))
        .check();
}

#[test]
fn store_trouble_backs_off() {
    let mut t = Transcript::new(
        "store_trouble",
        false,
        None,
        "The store refuses connections: the pauses double up to a renewal's interval; told once.",
    );
    t.step(0, Input::Wake);
    for number in 1..=6 {
        t.after(1, Input::Acquired(call(number), Err(down())))
            .wake();
    }
    t.after(1, Input::Acquired(call(7), held(7, 900))).check();
}

#[test]
fn pause_beyond_the_lease_then_late_kept() {
    let mut t = Transcript::new(
        "pause",
        false,
        None,
        "The process was stopped for 5 s with a renewal under way; its answer is found first.",
    );
    t.step(0, Input::Wake)
        .step(10, Input::Acquired(call(1), won(7)))
        .wake()
        .step(5300, Input::Renewed(call(2), kept()))
        .step(5310, Input::Acquired(call(3), held(8, 500)))
        .check();
}

#[test]
fn the_same_id_twice() {
    let mut t = Transcript::new(
        "same_id",
        false,
        None,
        "Another session holds the lease under this node's id: said once.",
    );
    let twin = || {
        Ok(Acquired::Held {
            holder: holder(7, "self"),
            left: ms(500),
        })
    };
    t.step(0, Input::Wake)
        .step(5, Input::Acquired(call(1), twin()))
        .wake()
        .step(510, Input::Acquired(call(2), twin()))
        .check();
}
