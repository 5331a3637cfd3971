//! Parses the text of a JSON document into its wire type.
//!
//! Every document goes through [`parse`]: the error names the path of the offending member. Unknown
//! members are accepted (02 R2) and reported by path, so that a typing error in a hand-written spec
//! is visible; those whose name begins with `//` are comments. No error repeats a value (`discreet`). Errors of common kinds say what to look at.

use std::fmt;

use serde::de::DeserializeOwned;
use thiserror::Error;

use super::discreet::Discreet;
use super::not_json;
use super::similar::known_member_like;
use crate::telemetry::shown::{LONGEST, shown};

/// At most this many unknown members are remembered.
const MOST_UNKNOWN: usize = 1000;

/// Why a document cannot be read. The text says everything once, so there is no source.
#[derive(Debug, Error)]
#[error("{}{error}{}", PathPrefix(path), Hint(hint))]
pub struct DocumentError {
    /// Path of the offending member, empty for the document itself.
    path: String,
    error: serde_json::Error,
    /// A sentence for the reader.
    hint: Option<String>,
}

impl DocumentError {
    /// Whether the text is not JSON; otherwise its shape is wrong.
    pub fn is_syntax(&self) -> bool {
        self.error.is_syntax() || self.error.is_eof()
    }

    /// Path of the offending member, empty for the document itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn new(text: &[u8], path: &str, error: serde_json::Error, unknown: &[String]) -> Self {
        let is_syntax = error.is_syntax() || error.is_eof();
        // In the middle of a member that has no name yet the path ends with a question mark.
        let path = path.split('.').filter(|part| !part.is_empty() && *part != "?");
        let path = path.collect::<Vec<_>>().join(".");
        let hint = if is_syntax {
            not_json::explain(text, error.line(), error.column()).map(str::to_owned)
        } else {
            // A list would be taken for the members of a document in their order.
            let list = path.is_empty().then(|| not_json::not_an_object(text)).flatten();
            list.map(str::to_owned)
                .or_else(|| kind_of_document(&path, unknown))
                .or_else(|| similar_member(&path, unknown))
        };
        Self { path, error, hint }
    }
}

/// The other kind of document, recognized by its unknown members.
fn kind_of_document(path: &str, unknown: &[String]) -> Option<String> {
    let has = |name: &str| path.is_empty() && unknown.iter().any(|member| member == name);
    if has("cluster") && has("format_version") {
        let text = "this looks like a bare spec, without the configuration around it: such a file \
                    is given with --spec (-S); in a configuration it is the member `spec`";
        return Some(text.to_owned());
    }
    if has("spec") || has("compute_ctl_config") {
        let text = "this looks like a whole configuration, not like a bare spec: give the file with \
                    --config (-c)";
        return Some(text.to_owned());
    }
    None
}

/// An unknown member beside the offending place that may be a typing error.
fn similar_member(path: &str, unknown: &[String]) -> Option<String> {
    let names = unknown.iter().filter_map(|member| {
        let (parent, name) = member.rsplit_once('.').unwrap_or(("", member));
        (parent == path).then_some(name)
    });
    let hint = |name: &str| Some(format!("`{name}` is not known, {}", did_you_mean(name)?));
    names.filter_map(hint).next()
}

/// The question after an unknown member that is like a known one.
pub(crate) fn did_you_mean(name: &str) -> Option<String> {
    known_member_like(name).map(|known| format!("did you mean `{known}`?"))
}

struct Hint<'a>(&'a Option<String>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

struct PathPrefix<'a>(&'a str);

impl fmt::Display for PathPrefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

/// A document and the paths of its unknown members.
#[derive(Debug)]
pub struct Parsed<T> {
    /// The document.
    pub value: T,
    /// Paths such as `spec.cluster.roles[0].colour`, in order of appearance. Their number and
    /// length are limited, so that they cannot take more memory than the document.
    pub unknown_members: Vec<String>,
}

/// Parses exactly one JSON value.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<Parsed<T>, DocumentError> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let mut unknown_members = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let value = {
        let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
        let mut unknown = |path: serde_ignored::Path<'_>| {
            // A comment: JSON has no other.
            let is_comment =
                matches!(&path, serde_ignored::Path::Map { key, .. } if key.starts_with("//"));
            let path = readable(&path);
            if !is_comment && !is_known_but_unread(&path) && unknown_members.len() < MOST_UNKNOWN {
                unknown_members.push(shown(&path).to_string());
            }
        };
        <T as serde::Deserialize>::deserialize(Discreet(serde_ignored::Deserializer::new(
            tracked,
            &mut unknown,
        )))
    };
    let value = value.map_err(|error| {
        DocumentError::new(text, &track.path().to_string(), error, &unknown_members)
    })?;
    json.end().map_err(|error| DocumentError::new(text, "", error, &[]))?;
    Ok(Parsed { value, unknown_members })
}

/// A path in the notation of the error texts: `spec.cluster.roles[0].colour`.
fn readable(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", readable(parent)),
        Path::Map { parent, key } => match readable(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => readable(parent),
    }
}

/// Members that the control plane is known to send, or that are output-only (02 R2, R10).
fn is_known_but_unread(path: &str) -> bool {
    let last = path.rsplit('.').next().unwrap_or_default();
    let parent = path.strip_suffix(last).unwrap_or_default();
    match last {
        "timestamp" => parent.is_empty() || parent == "spec.",
        "restrict_conn" | "invalid" => parent.contains("databases["),
        _ => false,
    }
}

/// Logs, in one line, the members that were not understood. Names come from outside: they have been
/// escaped and cut, and the line names only as many as fit into the limit for foreign text.
pub fn log_unknown_members(document: &str, unknown_members: &[String]) {
    let mut bytes = 0;
    let told: Vec<&str> = unknown_members
        .iter()
        .map(String::as_str)
        .take_while(|name| {
            let is_first = bytes == 0;
            bytes += name.len() + 2;
            is_first || bytes <= LONGEST
        })
        .collect();
    if told.is_empty() {
        return;
    }
    let more = match unknown_members.len().saturating_sub(told.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let members = told.join(", ");
    tracing::warn!("{document} has members that this version does not know: {members}{more}");
}

#[cfg(test)]
mod tests;
