//! The fields of `global/pg_control` that tell whether a data directory was stopped cleanly.
//!
//! The beginning of the file has had the same layout since long before version 14: system
//! identifier (8 bytes), control version (4), catalog version (4), state (4), padding (4), time
//! (8), checkpoint LSN (8), all in the machine's byte order.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Length of the fields up to and including the checkpoint LSN.
const HEAD: usize = 40;

/// State of the cluster when the file was last written (`DBState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// Stopped cleanly as a primary.
    ShutDown,
    /// Stopped cleanly as a standby.
    ShutDownInRecovery,
    /// Any other state, by number: starting, running, recovering, or not a control file.
    Other(u32),
}

impl ClusterState {
    /// Whether the data directory needs no WAL replay.
    #[must_use]
    pub fn is_clean(self) -> bool {
        matches!(self, Self::ShutDown | Self::ShutDownInRecovery)
    }
}

/// The first fields of a `pg_control` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ControlFile {
    /// Identifies the cluster since its `initdb`.
    pub system_identifier: u64,
    /// Whether the cluster is shut down.
    pub state: ClusterState,
    /// Start of the last checkpoint record.
    pub checkpoint_lsn: u64,
}

impl ControlFile {
    /// Reads `<data_dir>/global/pg_control`.
    ///
    /// # Errors
    /// Errors of the file, and `UnexpectedEof` if it is too short.
    pub(crate) fn read(data_dir: &Path) -> io::Result<Self> {
        Self::from_reader(&mut File::open(data_dir.join("global/pg_control"))?)
    }

    /// Reads the first fields of a control file from any source.
    ///
    /// # Errors
    /// Errors of the reader, and `UnexpectedEof` if it is too short.
    pub(crate) fn from_reader(reader: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; HEAD];
        reader.read_exact(&mut head)?;
        Ok(Self::decode(&head))
    }

    fn decode(head: &[u8; HEAD]) -> Self {
        let [s0, s1, s2, s3, s4, s5, s6, s7, _, _, _, _, _, _, _, _, d0, d1, d2, d3, tail @ ..] =
            *head;
        let [_, _, _, _, _, _, _, _, _, _, _, _, checkpoint @ ..] = tail;
        let state = match u32::from_ne_bytes([d0, d1, d2, d3]) {
            1 => ClusterState::ShutDown,
            2 => ClusterState::ShutDownInRecovery,
            other => ClusterState::Other(other),
        };
        Self {
            system_identifier: u64::from_ne_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            state,
            checkpoint_lsn: u64::from_ne_bytes(checkpoint),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A control file of 8 KiB with this state and checkpoint.
    pub(in crate::dev) fn sample(state: u32, checkpoint_lsn: u64) -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        bytes[0..8].copy_from_slice(&77_u64.to_ne_bytes());
        bytes[8..12].copy_from_slice(&1300_u32.to_ne_bytes());
        bytes[16..20].copy_from_slice(&state.to_ne_bytes());
        bytes[24..32].copy_from_slice(&1_760_000_000_i64.to_ne_bytes());
        bytes[32..40].copy_from_slice(&checkpoint_lsn.to_ne_bytes());
        bytes
    }

    #[test]
    fn fields_and_states() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("global")).unwrap();
        let path = dir.path().join("global/pg_control");
        for (number, clean) in [(0, false), (1, true), (2, true), (5, false), (6, false)] {
            std::fs::write(&path, sample(number, 0x1_2345_6789)).unwrap();
            let control = ControlFile::read(dir.path()).unwrap();
            assert_eq!(control.state.is_clean(), clean, "{number}");
            assert_eq!(control.checkpoint_lsn, 0x1_2345_6789);
            assert_eq!(control.system_identifier, 77);
        }
        std::fs::write(&path, [0; HEAD - 1]).unwrap();
        assert!(ControlFile::read(dir.path()).is_err());
    }
}
