//! The fields of `global/pg_control` that tell whether a data directory was stopped cleanly.
//!
//! The beginning of the file has had the same layout since long before version 14: system
//! identifier (8 bytes), control version (4), catalog version (4), state (4), padding (4), time
//! (8), checkpoint LSN (8), its redo LSN (8), its timeline (4), all in the machine's byte order. A
//! checksum of all fields (CRC-32C) follows the last one, whose place depends on the version.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Length of the fields up to and including the timeline of the checkpoint.
const HEAD: usize = 52;
/// State "in production" of a server that runs or was killed.
const IN_PRODUCTION: u32 = 6;
/// Where the state is.
const STATE: std::ops::Range<usize> = 16..20;
/// Where the checksum may be: behind the fields that all versions have, in the first sector.
const CHECKSUM: std::ops::Range<usize> = HEAD..508;

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
    /// Timeline of the WAL that this record is in.
    pub wal_timeline: u32,
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
        let [_, _, _, _, _, _, _, _, _, _, _, _, tail @ ..] = tail;
        let [c0, c1, c2, c3, c4, c5, c6, c7, _, _, _, _, _, _, _, _, timeline @ ..] = tail;
        let state = match u32::from_ne_bytes([d0, d1, d2, d3]) {
            1 => ClusterState::ShutDown,
            2 => ClusterState::ShutDownInRecovery,
            other => ClusterState::Other(other),
        };
        Self {
            system_identifier: u64::from_ne_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            state,
            checkpoint_lsn: u64::from_ne_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
            wal_timeline: u32::from_ne_bytes(timeline),
        }
    }
}

/// Changes the content of a control file so that the server replays the WAL behind the checkpoint,
/// as after a crash. Returns `false`, and changes nothing, if no checksum is found.
pub(crate) fn require_replay(content: &mut [u8]) -> bool {
    let found = CHECKSUM.step_by(4).find(|at| {
        let fields = content.get(..*at);
        let sum = content.get(*at..at + 4);
        fields.zip(sum).is_some_and(|(fields, sum)| crc32c(fields).to_ne_bytes() == *sum)
    });
    let Some(at) = found else { return false };
    if let Some(state) = content.get_mut(STATE) {
        state.copy_from_slice(&IN_PRODUCTION.to_ne_bytes());
    }
    let sum = content.get(..at).map(crc32c);
    if let Some((place, sum)) = content.get_mut(at..at + 4).zip(sum) {
        place.copy_from_slice(&sum.to_ne_bytes());
    }
    true
}

/// CRC-32C, bit by bit: it is used for a few hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    })
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
        bytes[48..52].copy_from_slice(&1_u32.to_ne_bytes());
        let sum = crc32c(&bytes[..288]).to_ne_bytes();
        bytes[288..292].copy_from_slice(&sum);
        bytes
    }

    #[test]
    fn replay_is_required_with_a_right_checksum() {
        // The value of the standard for the digits 1 to 9.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        let mut content = sample(1, 0x1_2345_6789);
        assert!(require_replay(&mut content));
        assert_eq!(content, sample(IN_PRODUCTION, 0x1_2345_6789));
        content[100] ^= 1;
        let damaged = content.clone();
        assert!(!require_replay(&mut content) && content == damaged);
        assert!(!require_replay(&mut [0; 20]));
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
            assert_eq!((control.system_identifier, control.wal_timeline), (77, 1));
        }
        std::fs::write(&path, [0; HEAD - 1]).unwrap();
        assert!(ControlFile::read(dir.path()).is_err());
    }
}
