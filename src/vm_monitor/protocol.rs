//! Messages of the agent and answers to them (08 §3, §7). Pure: text in, values out.
//!
//! Invariant: no text panics or loops, whatever a peer sends, and no error repeats much of it.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// The only version of the protocol that this program speaks, called v1.0.
const VERSION: u8 = 1;

/// Longest part of a foreign text in an error, in characters.
const SHOWN: usize = 40;

/// The versions that an agent speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    min: u8,
    max: u8,
}

impl Range {
    /// Reads the first message of an agent; none if it is not a range.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let Ok(Value::Object(members)) = serde_json::from_str(text) else { return None };
        let version = |name| u8::try_from(members.get(name)?.as_u64()?).ok();
        let (min, max) = (version("min")?, version("max")?);
        (min <= max).then_some(Self { min, max })
    }

    /// The highest version that both sides speak, or none.
    pub(crate) const fn highest_common(self) -> Option<u8> {
        if self.min <= VERSION && VERSION <= self.max { Some(VERSION) } else { None }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", Shown(self.min))
        } else {
            write!(f, "{} to {}", Shown(self.min), Shown(self.max))
        }
    }
}

/// A version as the texts of the protocol show it.
struct Shown(u8);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("<invalid: zero>"),
            VERSION => f.write_str("v1.0"),
            other => write!(f, "<unknown: {other}>"),
        }
    }
}

/// The answer to the first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Greeting {
    /// The version that both use from now on.
    Version(u8),
    /// There is none; the connection ends.
    Error(String),
}

impl From<Range> for Greeting {
    fn from(range: Range) -> Self {
        match range.highest_common() {
            Some(version) => Self::Version(version),
            None => Self::Error(format!(
                "Received protocol version range {range} which does not overlap with {}",
                Shown(VERSION)
            )),
        }
    }
}

/// A message of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Chosen by the agent; the answer has the same.
    pub(crate) id: u64,
    pub(crate) kind: Kind,
}

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The virtual machine has this many bytes of memory now.
    UpscaleNotification { memory: u64 },
    /// May the virtual machine shrink to this many bytes of memory?
    DownscaleRequest { memory: u64 },
    /// Is the monitor there?
    HealthCheck,
    /// The agent could not read one of our messages.
    InvalidMessage { error: String },
    /// The agent could not do what one of our messages asks for.
    InternalError { error: String },
}

/// A message that is not one of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// Of the message, or 0 if it has none.
    pub(crate) id: u64,
    pub(crate) error: String,
    /// Whether the agent gets an answer. A complaint that cannot be read gets none: two programs
    /// that do not understand each other's complaints would never end.
    pub(crate) answered: bool,
}

impl Message {
    /// Reads a message after the handshake.
    pub(crate) fn parse(text: &str) -> Result<Self, Unreadable> {
        let unreadable = |id, error| Unreadable { id, error, answered: true };
        let members: Map<String, Value> = match serde_json::from_str(text) {
            Ok(Value::Object(members)) => members,
            Ok(_) => return Err(unreadable(0, "the message is not a JSON object".to_owned())),
            Err(error) => {
                // The position only: the text of the error may repeat the message.
                let (line, column) = (error.line(), error.column());
                let error = format!("the message is not JSON (line {line}, column {column})");
                return Err(unreadable(0, error));
            }
        };
        let id = members.get("id").and_then(Value::as_u64);
        let kind = members.get("type").and_then(Value::as_str);
        match (kind_of(kind, &members), id) {
            (Ok(kind), Some(id)) => Ok(Self { id, kind }),
            (kind_or_error, id) => {
                let no_id = "member \"id\" is missing or is not a non-negative integer";
                let error = kind_or_error.err().unwrap_or_else(|| no_id.to_owned());
                let answered = !matches!(kind, Some("InvalidMessage" | "InternalError"));
                Err(Unreadable { id: id.unwrap_or(0), error, answered })
            }
        }
    }
}

fn kind_of(kind: Option<&str>, members: &Map<String, Value>) -> Result<Kind, String> {
    let kind = kind.ok_or("member \"type\" is missing or is not a string")?;
    let content = members.get("content").and_then(Value::as_object);
    let content = content.ok_or("member \"content\" is missing or is not an object");
    Ok(match kind {
        "UpscaleNotification" => Kind::UpscaleNotification { memory: memory(content?, "granted")? },
        "DownscaleRequest" => Kind::DownscaleRequest { memory: memory(content?, "target")? },
        "HealthCheck" => {
            content?;
            Kind::HealthCheck
        }
        "InvalidMessage" => Kind::InvalidMessage { error: error(content?)? },
        "InternalError" => Kind::InternalError { error: error(content?)? },
        other => return Err(format!("unknown type {:?}", shortened(other))),
    })
}

/// The memory of the resources in this member. Its number of processors must be there, and is not
/// used.
fn memory(content: &Map<String, Value>, name: &str) -> Result<u64, String> {
    let resources = content.get(name).and_then(Value::as_object);
    let resources = resources
        .ok_or_else(|| format!("member \"content.{name}\" is missing or is not an object"))?;
    if !resources.get("cpu").is_some_and(Value::is_number) {
        return Err(format!("member \"content.{name}.cpu\" is missing or is not a number"));
    }
    resources.get("mem").and_then(Value::as_u64).ok_or_else(|| {
        format!("member \"content.{name}.mem\" is missing or is not a non-negative integer")
    })
}

fn error(content: &Map<String, Value>) -> Result<String, String> {
    let error = content.get("error").and_then(Value::as_str);
    error
        .map(shortened)
        .ok_or_else(|| "member \"content.error\" is missing or is not a string".to_owned())
}

/// The begin of a foreign text. `{:?}` around it escapes what could break a line of the log.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A message to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type")]
pub(crate) enum Answer {
    /// Postgres needs more memory. Not an answer: the id is our own.
    UpscaleRequest { id: u64 },
    /// The new memory is in use.
    UpscaleConfirmation { id: u64 },
    /// Whether the machine may shrink, and why.
    DownscaleResult {
        #[serde(rename = "Ok")]
        ok: bool,
        #[serde(rename = "Status")]
        status: String,
        id: u64,
    },
    /// The monitor is there.
    HealthCheck { id: u64 },
    /// The message could not be read.
    InvalidMessage { error: String, id: u64 },
    /// The message was read, but its work failed.
    InternalError { error: String, id: u64 },
}

/// A message as it is sent: JSON in one line.
pub(crate) fn written(message: &impl Serialize) -> String {
    // These types have string keys only, so this never fails.
    serde_json::to_string(message).unwrap_or_default()
}

#[cfg(test)]
mod tests;
