//! The texts of 08 §3, §7 and §8, and what any text does.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn greeting(text: &str) -> Option<String> {
    Range::parse(text).map(|range| written(&Greeting::from(range)))
}

#[test]
fn the_handshake() {
    for text in [
        r#"{"min":1,"max":1}"#,
        r#"{"max":7,"min":1}"#,
        r#"{"min":0,"max":255,"more":[]}"#,
        " {\"min\" : 1, \"max\" : 1}\n",
    ] {
        assert_eq!(greeting(text).unwrap(), r#"{"version":1}"#, "{text}");
    }
    for (text, range) in [
        (r#"{"min":0,"max":0}"#, "<invalid: zero>"),
        (r#"{"min":2,"max":2}"#, "<unknown: 2>"),
        (r#"{"min":2,"max":3}"#, "<unknown: 2> to <unknown: 3>"),
        (r#"{"min":200,"max":255}"#, "<unknown: 200> to <unknown: 255>"),
    ] {
        let error =
            format!("Received protocol version range {range} which does not overlap with v1.0");
        assert_eq!(greeting(text).unwrap(), json!({"error": error}).to_string(), "{text}");
    }
    for text in [
        "",
        "nope",
        "[]",
        "[1,1]",
        "1",
        "null",
        "{}",
        r#"{"min":1}"#,
        r#"{"max":1}"#,
        r#"{"min":3,"max":1}"#,
        r#"{"min":1,"max":256}"#,
        r#"{"min":-1,"max":1}"#,
        r#"{"min":1.0,"max":1}"#,
        r#"{"min":"1","max":1}"#,
        r#"{"min":1,"max":1} x"#,
    ] {
        assert_eq!(greeting(text), None, "{text}");
    }
}

fn message(id: u64, kind: Kind) -> Message {
    Message { id, kind }
}

#[test]
fn every_message() {
    let upscale = Kind::UpscaleNotification { memory: 8 << 30 };
    for (text, expected) in [
        (
            r#"{"type":"UpscaleNotification","content":{"granted":{"cpu":2.0,"mem":8589934592}},"id":4}"#,
            message(4, upscale),
        ),
        (
            r#"{"id":6,"more":1,"content":{"x":[],"target":{"mem":3221225472,"cpu":1,"y":0}},"type":"DownscaleRequest"}"#,
            message(6, Kind::DownscaleRequest { memory: 3 << 30 }),
        ),
        (r#"{"type":"HealthCheck","content":{},"id":2}"#, message(2, Kind::HealthCheck)),
        (
            r#"{"type":"HealthCheck","content":{"a":1},"id":18446744073709551615}"#,
            message(u64::MAX, Kind::HealthCheck),
        ),
        (
            r#"{"type":"InvalidMessage","content":{"error":"unknown field"},"id":5}"#,
            message(5, Kind::InvalidMessage { error: "unknown field".to_owned() }),
        ),
        (
            r#"{"type":"InternalError","content":{"error":""},"id":0}"#,
            message(0, Kind::InternalError { error: String::new() }),
        ),
    ] {
        assert_eq!(Message::parse(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_cannot_be_read_says_why_and_keeps_its_id() {
    let mem = r#"member "content.granted.mem" is missing or is not a non-negative integer"#;
    let content = r#"member "content" is missing or is not an object"#;
    for (text, id, error) in [
        ("hello", 0, "the message is not JSON (line 1, column 1)"),
        ("", 0, "the message is not JSON (line 1, column 0)"),
        ("[]", 0, "the message is not a JSON object"),
        (r#"{"content":{},"id":8}"#, 8, r#"member "type" is missing or is not a string"#),
        (r#"{"type":"Resize","content":{},"id":8}"#, 8, r#"unknown type "Resize""#),
        (r#"{"type":"HealthCheck","id":8}"#, 8, content),
        (r#"{"type":"HealthCheck","content":null,"id":8}"#, 8, content),
        (
            r#"{"type":"HealthCheck","content":{}}"#,
            0,
            r#"member "id" is missing or is not a non-negative integer"#,
        ),
        (
            r#"{"type":"HealthCheck","content":{},"id":-2}"#,
            0,
            r#"member "id" is missing or is not a non-negative integer"#,
        ),
        (
            r#"{"type":"UpscaleNotification","content":{"granted":{"cpu":1,"mem":1.5e9}},"id":4}"#,
            4,
            mem,
        ),
        (
            r#"{"type":"UpscaleNotification","content":{"granted":{"cpu":1,"mem":1500000000.0}},"id":4}"#,
            4,
            mem,
        ),
        (
            r#"{"type":"UpscaleNotification","content":{"granted":{"cpu":"1","mem":1}},"id":4}"#,
            4,
            r#"member "content.granted.cpu" is missing or is not a number"#,
        ),
        (
            r#"{"type":"DownscaleRequest","content":{"granted":{"cpu":1,"mem":1}},"id":4}"#,
            4,
            r#"member "content.target" is missing or is not an object"#,
        ),
    ] {
        let error = error.to_owned();
        assert_eq!(Message::parse(text), Err(Unreadable { id, error, answered: true }), "{text}");
    }
}

/// Or two programs that do not understand each other would complain without an end.
#[test]
fn a_complaint_that_cannot_be_read_gets_no_answer() {
    for kind in ["InvalidMessage", "InternalError"] {
        for text in [json!({"type": kind, "id": 3}), json!({"type": kind, "content": {}, "id": 3})]
        {
            let unreadable = Message::parse(&text.to_string()).unwrap_err();
            assert!(!unreadable.answered && unreadable.id == 3, "{text}");
        }
    }
}

#[test]
fn answers_are_flat_with_the_type_first_and_the_id_last() {
    let (ok, status, error) = (true, "s".to_owned(), "e".to_owned());
    for (answer, expected) in [
        (Answer::UpscaleRequest { id: 3 }, r#"{"type":"UpscaleRequest","id":3}"#),
        (Answer::UpscaleConfirmation { id: 4 }, r#"{"type":"UpscaleConfirmation","id":4}"#),
        (
            Answer::DownscaleResult { ok, status, id: 6 },
            r#"{"type":"DownscaleResult","Ok":true,"Status":"s","id":6}"#,
        ),
        (Answer::HealthCheck { id: 2 }, r#"{"type":"HealthCheck","id":2}"#),
        (
            Answer::InvalidMessage { error: error.clone(), id: 0 },
            r#"{"type":"InvalidMessage","error":"e","id":0}"#,
        ),
        (
            Answer::InternalError { error, id: 14 },
            r#"{"type":"InternalError","error":"e","id":14}"#,
        ),
    ] {
        assert_eq!(written(&answer), expected);
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        any::<u64>().prop_map(|memory| Kind::UpscaleNotification { memory }),
        any::<u64>().prop_map(|memory| Kind::DownscaleRequest { memory }),
        Just(Kind::HealthCheck),
        "\\PC{0,40}".prop_map(|error| Kind::InvalidMessage { error }),
        "\\PC{0,40}".prop_map(|error| Kind::InternalError { error }),
    ]
}

/// A message as an agent writes it, with unknown members.
fn text_of(message: &Message, cpu: f64) -> String {
    let (kind, content) = match &message.kind {
        Kind::UpscaleNotification { memory } => {
            ("UpscaleNotification", json!({"granted": {"cpu": cpu, "mem": memory, "gpu": 1}}))
        }
        Kind::DownscaleRequest { memory } => {
            ("DownscaleRequest", json!({"target": {"mem": memory, "cpu": cpu}, "x": null}))
        }
        Kind::HealthCheck => ("HealthCheck", json!({})),
        Kind::InvalidMessage { error } => ("InvalidMessage", json!({ "error": error })),
        Kind::InternalError { error } => ("InternalError", json!({ "error": error })),
    };
    json!({"id": message.id, "content": content, "x": [1], "type": kind}).to_string()
}

proptest! {
    #[test]
    fn what_is_written_is_read(id: u64, kind in kinds(), cpu in 0.0..1000.0_f64) {
        let message = Message { id, kind };
        prop_assert_eq!(Message::parse(&text_of(&message, cpu)), Ok(message));
    }

    #[test]
    fn any_text_has_an_answer(text in "\\PC*") {
        let _ = Range::parse(&text).map(Greeting::from);
        if let Err(unreadable) = Message::parse(&text) {
            prop_assert!(unreadable.error.len() < 300);
        }
    }

    /// A message with something changed in it: never a panic, and never a long error.
    #[test]
    fn damaged_messages_have_an_answer(
        kind in kinds(), at in 0..200_usize, with in "\\PC{0,3}", cut in 0..3_usize,
    ) {
        let text: Vec<char> = text_of(&Message { id: 1, kind }, 1.0).chars().collect();
        let at = at.min(text.len());
        let rest = text.iter().skip(at + cut);
        let text: String = text[..at].iter().copied().chain(with.chars()).chain(rest.copied()).collect();
        if let Err(unreadable) = Message::parse(&text) {
            prop_assert!(unreadable.error.len() < 300, "{}", unreadable.error);
        }
    }

    #[test]
    fn every_range_is_answered(min: u8, max: u8) {
        let range = Range::parse(&json!({"min": min, "max": max}).to_string());
        prop_assert_eq!(range.is_some(), min <= max);
        if let Some(range) = range {
            let overlaps = (min..=max).contains(&1);
            prop_assert_eq!(Greeting::from(range) == Greeting::Version(1), overlaps);
        }
    }
}
