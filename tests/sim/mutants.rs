//! Bugs planted in the simulation's shell or store, never in the product, so that
//! the oracle and the mix of faults are tested themselves.

/// One planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The lease counts from the reply instead of from before the send.
    DeadlineFromReply,
    /// A release frees the lease, whoever holds it.
    ReleaseWithoutOwner,
    /// The fence compares epochs as text: "10" < "9".
    EpochsAsText,
    /// A follower takes the lease when *its* wall clock passes the store's stamp.
    TrustsRemoteClock,
    /// The newest epoch expires together with the lease.
    EpochExpires,
    /// A renewal of an expired lease creates it anew.
    RenewResurrects,
    /// The same session is granted its epoch again though it is dead to it.
    AcquireIgnoresFloor,
    /// A store that went back grants at once.
    NoHold,
    /// The hold binds only those who remember.
    HoldForgotten,
    /// Another server than the one that granted grants at once.
    NoQuarantine,
    /// A checkpoint write with another session's epoch is applied.
    WriteWithoutSession,
    /// A checkpoint write is applied over a revision it does not know.
    WriteWithoutRevision,
    /// Drift is not taken from the lease.
    DriftIgnored,
    /// "Leader" is a stored word, not a function of the present moment.
    StatusStored,
    /// "Drained" is said while the app still works.
    DrainedTooEarly,
    /// A late "drained" of an earlier tenure counts for the present one.
    DrainedOfAnyEpoch,
    /// Who is no candidate campaigns all the same.
    CandidacyIgnored,
    /// The app is not stopped at the end of the lease.
    NoGuard,
    /// The store never lets a lease expire.
    LeaseNeverExpires,
    /// A hold never ends.
    HoldNeverEnds,
    /// The shell sleeps through half of the machine's alarms.
    AlarmsLost,
}

impl Mutant {
    pub const ALL: [Self; 21] = [
        Self::DeadlineFromReply,
        Self::ReleaseWithoutOwner,
        Self::EpochsAsText,
        Self::TrustsRemoteClock,
        Self::EpochExpires,
        Self::RenewResurrects,
        Self::AcquireIgnoresFloor,
        Self::NoHold,
        Self::HoldForgotten,
        Self::NoQuarantine,
        Self::WriteWithoutSession,
        Self::WriteWithoutRevision,
        Self::DriftIgnored,
        Self::StatusStored,
        Self::DrainedTooEarly,
        Self::DrainedOfAnyEpoch,
        Self::CandidacyIgnored,
        Self::NoGuard,
        Self::LeaseNeverExpires,
        Self::HoldNeverEnds,
        Self::AlarmsLost,
    ];

    /// Within how many histories it must be caught.
    pub fn seeds(self) -> u64 {
        400
    }

    /// What the violation must be about; another one would be an accident.
    pub fn caught_by(self) -> &'static [&'static str] {
        match self {
            Self::EpochsAsText => &["fence"],
            Self::CandidacyIgnored => &["candidate"],
            Self::EpochExpires => &["epoch", "write"],
            Self::RenewResurrects => &["lives again"],
            Self::AcquireIgnoresFloor => &["twice", "floor"],
            Self::WriteWithoutSession => &["session"],
            Self::WriteWithoutRevision => &["write"],
            Self::LeaseNeverExpires => &["liveness", "lives again"],
            Self::HoldNeverEnds | Self::AlarmsLost => &["liveness"],
            Self::DrainedTooEarly | Self::DrainedOfAnyEpoch | Self::NoGuard => &["app"],
            _ => &["exclusion"],
        }
    }
}
