//! What an agent sends to the VM monitor (08 §3, §7): no text panics, and each has one answer of one
//! line, with the id of the message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

// The parser is pure, so the target needs no other part of the program.
#[allow(dead_code)]
#[path = "../../src/vm_monitor/protocol.rs"]
mod protocol;

use protocol::{Answer, Greeting, Message, Range, Unreadable, written};

fuzz_target!(|text: &str| {
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
});

fn one_line(text: &str) -> Value {
    assert!(!text.contains('\n') && text.len() < 4096, "{text}");
    serde_json::from_str(text).expect("an answer is JSON")
}
