//! What the fault matrix has beside the steps: the peers of a compute and its children, the faults
//! that meet them, and what each cell promises.
//!
//! `docs/reference/faults.md` is written from this file.

use std::fmt::Write as _;

/// A peer of a compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    ControlPlane,
    Safekeeper,
    Pageserver,
}

impl Peer {
    pub const ALL: [Self; 3] = [Self::ControlPlane, Self::Safekeeper, Self::Pageserver];

    /// As the page names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control plane",
            Self::Safekeeper => "safekeeper",
            Self::Pageserver => "pageserver",
        }
    }

    /// What a start does about it.
    pub const fn start(self, fault: PeerFault) -> &'static str {
        match (self, fault) {
            (Self::Safekeeper, _) => "goes on with the full sync",
            (_, PeerFault::Late) => "goes on",
            _ => "tries again, goes on when the line is repaired",
        }
    }

    /// What a change of the configuration does about it.
    pub const fn change(self, fault: PeerFault) -> &'static str {
        match (self, fault) {
            (Self::ControlPlane, PeerFault::Late) => "`/refresh_configuration`: goes on",
            (Self::ControlPlane, _) => {
                "`/refresh_configuration`: tries again, goes on when the line is repaired"
            }
            (Self::Safekeeper | Self::Pageserver, _) => {
                "`/configure`: goes on, Postgres alone asks it"
            }
        }
    }
}

/// What is wrong with the line to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerFault {
    Stalls,
    Resets,
    Trickles,
    Late,
}

impl PeerFault {
    pub const ALL: [Self; 4] = [Self::Stalls, Self::Resets, Self::Trickles, Self::Late];

    /// As the page names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stalls => "stalls",
            Self::Resets => "resets",
            Self::Trickles => "one byte a second",
            Self::Late => "answers 2 s late",
        }
    }
}

/// The table of the lines to peers.
pub fn peers() -> String {
    let mut text = String::from(
        "| peer | its line | a start | a change of the configuration |\n|---|---|---|---|\n",
    );
    for peer in Peer::ALL {
        for fault in PeerFault::ALL {
            let (name, line) = (peer.name(), fault.name());
            let (start, change) = (peer.start(fault), peer.change(fault));
            writeln!(text, "| {name} | {line} | {start} | {change} |").unwrap();
        }
    }
    text
}

/// A child of the compute, or of Postgres, other than the postmaster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child {
    /// `postgres --sync-safekeepers` of a start.
    SafekeeperSync,
    /// `initdb` of the warm-up of an empty compute.
    WarmupInitdb,
    /// `postgres -C`, which checks the file of a `/configure`.
    ConfigurationCheck,
    /// `pg_dump` of `/database_schema`.
    SchemaDump,
    /// A child of the postmaster.
    ServerProcess,
}

impl Child {
    pub const ALL: [Self; 5] = [
        Self::SafekeeperSync,
        Self::WarmupInitdb,
        Self::ConfigurationCheck,
        Self::SchemaDump,
        Self::ServerProcess,
    ];

    /// As the page names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SafekeeperSync => "`postgres --sync-safekeepers` of a start",
            Self::WarmupInitdb => "`initdb` of the warm-up of an empty compute",
            Self::ConfigurationCheck => "`postgres -C`, which checks the file of a `/configure`",
            Self::SchemaDump => "`pg_dump` of `/database_schema`",
            Self::ServerProcess => "a server process below the postmaster",
        }
    }

    /// What becomes of the work.
    pub const fn answer(self, fault: ChildFault) -> &'static str {
        match (self, fault) {
            (Self::SafekeeperSync, ChildFault::Killed) => "tries again, the start goes on",
            (Self::SafekeeperSync, ChildFault::Stopped) => {
                "waits for 300 s, then the start fails; a signal ends it, with 1"
            }
            (Self::WarmupInitdb, ChildFault::Killed) => "goes on without the warm-up",
            (Self::WarmupInitdb, ChildFault::Stopped) => {
                "goes on without the warm-up after 60 s; a signal ends it, with 1"
            }
            (Self::ConfigurationCheck, ChildFault::Killed) => {
                "goes on, the reload decides about the file"
            }
            (Self::ConfigurationCheck, ChildFault::Stopped) => {
                "goes on after 10 s, the reload decides about the file"
            }
            (Self::SchemaDump, ChildFault::Killed) => "is answered with 500",
            (Self::SchemaDump, ChildFault::Stopped) => {
                "the answer breaks off after 300 s; a signal ends the compute, with 1"
            }
            (Self::ServerProcess, ChildFault::Killed) => "Postgres crashes, ends with 1",
            (Self::ServerProcess, ChildFault::Stopped) => {
                "the postmaster waits for it; a signal ends the compute, with 1"
            }
        }
    }
}

/// What meets a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildFault {
    /// SIGKILL.
    Killed,
    /// SIGSTOP, and it is never continued.
    Stopped,
}

impl ChildFault {
    pub const ALL: [Self; 2] = [Self::Killed, Self::Stopped];

    /// As the page names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Killed => "SIGKILL",
            Self::Stopped => "SIGSTOP",
        }
    }
}

/// The table of the children.
pub fn children() -> String {
    let mut text = String::from("| child | fault | the work |\n|---|---|---|\n");
    for child in Child::ALL {
        for fault in ChildFault::ALL {
            let (name, answer) = (child.name(), child.answer(fault));
            writeln!(text, "| {name} | {} | {answer} |", fault.name()).unwrap();
        }
    }
    text
}
