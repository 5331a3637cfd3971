//! Properties of the reader of Postgres' log, for [`crate::fuzzing`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

use super::log::Joiner;
use crate::fuzzing::{pieces, seeded};

/// Bytes become the same messages in whatever pieces they come, none is lost, and no message is
/// much longer than the cap.
pub(crate) fn log_joiner(data: &[u8]) {
    let (seed, data) = seeded(data);
    let cap = usize::from(seed) + 1;
    let whole = joined(&[data], cap);
    assert_eq!(joined(&pieces(data, 40, seed), cap), whole);
    let bytes: Vec<_> = data.chunks(1).collect();
    assert_eq!(joined(&bytes, cap), whole);
    let text = whole.concat();
    let lines = whole.iter().flat_map(|message| message.split(|b| *b == b'\n'));
    assert!(lines.clone().all(|line| line.iter().all(|b| *b == b'\t' || !b.is_ascii_control())));
    // Each byte that is not a control character is there, in order.
    let plain = |text: &[u8]| -> Vec<u8> {
        text.iter().copied().filter(|b| b.is_ascii_alphanumeric()).collect()
    };
    if !data.iter().any(|b| b.is_ascii_control() && *b != b'\n' || *b == 0xc2) {
        assert_eq!(plain(&text), plain(data));
        assert!(whole.iter().all(|message| message.len() <= cap + 3));
    }
}

fn joined(pieces: &[&[u8]], cap: usize) -> Vec<Vec<u8>> {
    let (mut joiner, mut out) = (Joiner::new(cap), Vec::new());
    for piece in pieces {
        joiner.feed(piece, &mut |message| out.push(message), &mut |_| {});
    }
    joiner.eof(&mut |message| out.push(message), &mut |_| {});
    out
}
