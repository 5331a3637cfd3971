//! Texts from outside on the page: cut, with invisible characters made visible, and kept apart from
//! the text around them.

use chrono::{DateTime, SecondsFormat, Utc};
use maud::{Markup, Render, html};

use crate::telemetry::shown::{shown_to as cut, visible};

/// Longest text in bytes; an error with its causes has a few hundred.
const LONGEST: usize = 4096;
/// Longest line of the log in bytes.
pub(super) const LINE: usize = 600;

/// A text that is not ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Foreign<'a> {
    text: &'a str,
    longest: usize,
}

/// A text of usual length.
pub(super) const fn shown(text: &str) -> Foreign<'_> {
    shown_to(text, LONGEST)
}

/// A short text for places that hold no elements.
pub(super) fn plain(text: &str) -> String {
    visible(&cut(text, 64).to_string()).into_owned()
}

/// A text, cut at a number of bytes.
pub(super) const fn shown_to(text: &str, longest: usize) -> Foreign<'_> {
    Foreign { text, longest }
}

impl Render for Foreign<'_> {
    fn render(&self) -> Markup {
        let Self { text, longest } = *self;
        // Line ends are kept: `Shown` would escape them.
        let cut_at = text.get(..text.floor_char_boundary(longest)).unwrap_or(text);
        let rest = (cut_at.len() < text.len()).then(|| format!("… ({} bytes)", text.len()));
        html! { bdi { (visible(cut_at)) @if let Some(rest) = rest { (rest) } } }
    }
}

/// A point in time, to the second.
pub(super) fn moment(at: DateTime<Utc>) -> Markup {
    let exact = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    html! { time datetime=(exact) { (at.format("%Y-%m-%d %H:%M:%S")) " UTC" } }
}

/// A point in time of which the text is at hand.
pub(super) fn moment_text(at: &str) -> Markup {
    let text = cut(at, 64).to_string();
    html! { time datetime=(text) { (text.replace('T', " ").replace('Z', " UTC")) } }
}
