//! The page of a compute: what an operator looks at, in the order in which it is asked for.
//!
//! Pure: from [`Details`] and the end of the log to a document. It needs no script and nothing from
//! another server, and shows nothing that `/status` and the log do not show.
//!
//! **The rule:** every text that is not written here goes through [`text::shown`], because tenants
//! choose names and write to the log. The templates (`maud`) escape HTML in any case.

mod parts;
pub(crate) mod reference;
mod status;
mod style;
mod text;
mod waterfall;

use maud::{DOCTYPE, Markup, html};
use tracing::Level;

use crate::node::Details;
use crate::telemetry::recent::{Line, Source};
use crate::telemetry::shown::continued;
use parts::section;
use status::{tone, words};
pub(crate) use style::content_security_policy;
use text::shown;

/// Seconds between two loads, unless the query says otherwise.
pub(crate) const REFRESH: u16 = 5;

/// What the page is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    /// The state of the compute.
    pub details: &'a Details,
    /// The last lines of the log, oldest first.
    pub log: &'a [Line],
    /// Seconds until the browser loads the page again; 0 for never.
    pub refresh: u16,
}

/// The whole document.
pub(crate) fn render(page: Shown<'_>) -> String {
    let Shown { details, log, refresh } = page;
    let status = details.status.status;
    let id = details.compute_id.as_deref().unwrap_or("compute without an id");
    let title = format!("{} · {}", words(status), text::plain(id));
    let reload = (refresh > 0).then_some(refresh);
    document(
        &title,
        reload,
        &html! {
            header class={ "top " (tone(status)) } {
                p.id { (shown(id)) }
                h1 { span.dot aria-hidden="true" {} (words(status)) }
                p.since { (parts::since(details)) }
                (parts::readiness(details))
            }
            main {
                (parts::failure(&details.status))
                (parts::now(details))
                section.facts aria-label="Facts" { (parts::facts(details)) }
                (waterfall::startup(details))
                (parts::work(details))
                (parts::changes(details))
                (parts::leases(details))
                (parts::activity(&details.status))
                (log_tail(log))
            }
            footer {
                nav aria-label="More" {
                    a href="details" { "JSON" }
                    a href="api" { "API reference" }
                    a href="openapi.json" { "OpenAPI" }
                    @if refresh > 0 {
                        a href="?refresh=0" { "stop reloading" }
                    } @else {
                        a href="." { "reload every " (REFRESH) " s" }
                    }
                }
                p { "compute_ctl " (shown(&details.version)) ", " (text::moment(chrono::Utc::now())) }
            }
        },
    )
}

/// A document with our style.
fn document(title: &str, reload: Option<u16>, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(seconds) = reload {
                    meta http-equiv="refresh" content=(seconds);
                }
                title { (title) }
                style { (style::element()) }
            }
            body { (body) }
        }
    };
    page.into_string()
}

fn log_tail(log: &[Line]) -> Markup {
    html! {
        @if !log.is_empty() {
            (section("Log", &html! {
                div.log tabindex="0" { pre { @for line in log { (entry(line)) "\n" } } }
            }))
        }
    }
}

/// Time, level and text of a line.
fn entry(line: &Line) -> Markup {
    let level = line.level.as_str();
    let class = match line.level {
        Level::ERROR => "bad",
        Level::WARN => "ending",
        _ => "idle",
    };
    html! {
        span.dim { (line.at.format("%H:%M:%S%.3f")) " " }
        span class={ "tone " (class) } { (level) }
        " "
        @if line.source == Source::Postgres { span.dim { "PG: " } }
        (text::shown_to(&continued(&line.message), text::LINE))
    }
}

#[cfg(test)]
mod tests;
