//! Embedded storage: what stands in for a Neon cell on one machine.
//!
//! `compute_ctl dev`, the integration tests and the benchmarks start the ordinary pipeline against
//! the servers of this module, so every protocol step is the real one. Nothing in production code
//! depends on it.
//!
//! Reading order: [`servers`] finds a Postgres, [`template`] makes an `initdb` data directory of it,
//! [`archive`] packs that directory as a basebackup, [`pageserver`] and [`safekeeper`] serve it
//! (both on [`wire`] and [`framing`], recording into a [`journal`]), [`spec`] writes the document
//! that points at them, and [`sync_wrapper`] teaches a vanilla server `--sync-safekeepers`.
//!
//! Invariant: everything listens on 127.0.0.1 only, and nothing a client sends can end the process.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod archive;
pub mod command;
mod commands;
pub mod control_file;
pub mod facts;
pub mod faults;
pub mod framing;
pub mod journal;
pub mod pageserver;
mod progress;
pub mod safekeeper;
pub mod servers;
pub mod spec;
pub mod store;
pub mod sync_wrapper;
pub mod template;
pub mod wire;

/// An LSN as `HI/LO`, upper case, no padding (06 §1).
#[must_use]
pub fn format_lsn(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

/// Reads `HI/LO`, each half of at most 32 bits in hex of either case; blanks around it are trimmed
/// (06 §1).
#[must_use]
pub fn parse_lsn(text: &str) -> Option<u64> {
    let half = |digits: &str| {
        // from_str_radix takes a sign, an LSN has none.
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    };
    let (high, low) = text.trim().split_once('/')?;
    Some((u64::from(half(high)?) << 32) | u64::from(half(low)?))
}

/// Locks, also when a holder panicked: the values guarded here are whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lsn_text_round_trips(lsn: u64) {
            let text = format_lsn(lsn);
            prop_assert_eq!(parse_lsn(&text), Some(lsn));
            prop_assert_eq!(parse_lsn(&text.to_lowercase()), Some(lsn));
        }
    }

    #[test]
    fn wrong_lsn_texts_are_refused() {
        for text in ["", "/", "0", "0/", "/0", "0/0/0", "+1/0", "1/100000000", "latest", "g/0"] {
            assert_eq!(parse_lsn(text), None, "{text:?}");
        }
        assert_eq!(parse_lsn(" 0/2A3b4C8 "), Some(0x2A3_B4C8));
    }
}
