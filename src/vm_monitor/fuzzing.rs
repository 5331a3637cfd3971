//! Properties of the messages of agents (08 §3, §7), for [`crate::fuzzing`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

use serde_json::Value;

use super::protocol::{Answer, Greeting, Message, Range, Unreadable, written};

/// Each text has one answer of one line, with the id of the message.
pub(crate) fn message(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(range) = Range::parse(text) {
        one_line(&written(&Greeting::from(range)));
    }
    let (id, answer) = match Message::parse(text) {
        Ok(Message { id, .. }) => (id, Answer::HealthCheck { id }),
        Err(Unreadable { id, error, .. }) => (id, Answer::InvalidMessage { error, id }),
    };
    let own = serde_json::from_str::<Value>(text).ok();
    let own = own.as_ref().and_then(|message| message.as_object()?.get("id")?.as_u64());
    assert_eq!(id, own.unwrap_or(0));
    assert_eq!(one_line(&written(&answer))["id"], id);
}

fn one_line(text: &str) -> Value {
    assert!(!text.contains('\n') && text.len() < 4096, "{text}");
    serde_json::from_str(text).expect("an answer is JSON")
}
