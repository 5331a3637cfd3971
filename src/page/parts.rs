//! The parts of the page, from top to bottom. A part with nothing to say is left out.

use maud::{Markup, Render, html};

use super::status::{error_of, tone, words};
use super::text::{moment, moment_text, shown, shown_to};
use crate::duration::spoken;
use crate::errors::help;
use crate::node::{Details, StatusDocument};
use crate::state::ComputeStatus;

/// Longest error of a peer in bytes.
const SHORT: usize = 600;

/// A part with a heading.
pub(super) fn section(title: impl Render, content: &Markup) -> Markup {
    html! { section { h2 { (title) } (content) } }
}

/// Since when the status is what it is.
pub(super) fn since(details: &Details) -> Markup {
    html! { "for " (spoken(details.since_ms)) ", since " (moment(details.since)) }
}

/// Whether clients can be sent here.
pub(super) fn readiness(details: &Details) -> Markup {
    html! {
        @match &details.unready_reason {
            None => p.badge.good { "ready" },
            Some(reason) => p.badge.idle { "not ready: " (shown(reason)) },
        }
    }
}

/// The present failure, or the last one.
pub(super) fn failure(status: &StatusDocument) -> Markup {
    let Some(error) = error_of(status) else { return html! {} };
    let last = status.extra.as_ref().and_then(|extra| extra.last_failure.as_ref());
    let phase = last.and_then(|failure| failure.phase);
    let help = help(phase.unwrap_or_default());
    let is_present = status.error.is_some();
    html! {
        section class=(if is_present { "alert" } else { "past" }) {
            h2 {
                @if is_present { "Failed" } @else { "The last failure, which is over" }
                @if let Some(phase) = phase { " in " code { (phase) } }
                @if let Some(last) = last { " " small { (moment(last.at)) } }
            }
            pre { (shown(error)) }
            p { (help.advice) }
            p.dim { "More: " code { (help.page) } }
        }
    }
}

/// What is being done now, and with which peer.
pub(super) fn now(details: &Details) -> Markup {
    let extra = details.status.extra.as_ref();
    let phases = extra.map(|extra| extra.phases.as_slice()).unwrap_or_default();
    let bytes = extra.and_then(|extra| extra.basebackup_bytes);
    if phases.is_empty() && details.tries.is_empty() {
        return html! {};
    }
    section(
        "In progress",
        &html! {
            p {
                @for (at, phase) in phases.iter().enumerate() {
                    @if at > 0 { ", " }
                    code { (phase) }
                }
                @if let Some(bytes) = bytes { " · " (bytes) " bytes of the basebackup so far" }
            }
            @if !details.tries.is_empty() {
                table {
                    thead { tr {
                        th scope="col" { "Peer" } th scope="col" { "Try" } th scope="col" { "Last error" }
                    } }
                    tbody {
                        @for one in &details.tries {
                            tr {
                                td { (one.kind) " " (shown_to(&one.peer, SHORT)) }
                                td.name {
                                    (one.attempt)
                                    @if let Some(of) = one.of { " of " (of) }
                                    @match one.next_ms {
                                        Some(next) => { ", failed, next in " (spoken(next)) }
                                        None => { ", for " (spoken(one.since_ms)) }
                                    }
                                }
                                td { @if let Some(error) = &one.last_error { (shown_to(error, SHORT)) } }
                            }
                        }
                    }
                }
            }
        },
    )
}

fn fact(name: &str, value: impl Render) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// What does not change, or seldom.
pub(super) fn facts(details: &Details) -> Markup {
    let status = &details.status;
    let operation = status.extra.as_ref().and_then(|extra| extra.applied_operation.as_deref());
    html! {
        dl {
            div.wide { dt { "Tenant" } dd { (id(status.tenant)) } }
            div.wide { dt { "Timeline" } dd { (id(status.timeline)) } }
            @if let Some(mode) = details.mode { (fact("Mode", mode)) }
            (fact("PostgreSQL", details.postgres_version))
            @if let Some(port) = details.postgres_port { (fact("Port", port)) }
            (fact("Process runs for", spoken(details.uptime_ms)))
            (fact("Start began", moment(status.start_time)))
            @if let Some(at) = status.last_active { (fact("Last active", moment(at))) }
            @if let Some(at) = &details.certificate_ends {
                (fact("Certificate ends", moment_text(at)))
            }
            @if let Some(operation) = operation {
                div.wide { dt { "Applied operation" } dd { code { (shown_to(operation, SHORT)) } } }
            }
        }
    }
}

fn id(id: Option<impl ToString>) -> Markup {
    html! {
        @match id {
            Some(id) => code { (id.to_string()) },
            None => span.dim { "none" },
        }
    }
}

/// The work that ended last, with what it did to the catalog.
pub(super) fn work(details: &Details) -> Markup {
    let Some(work) = &details.last_work else { return html! {} };
    let report = details.status.extra.as_ref().and_then(|extra| extra.apply_report.as_ref());
    section(
        "Last work",
        &html! {
            p {
                (work.work) " (" (shown(&work.asked_by)) "): "
                strong { (work.outcome) } " after " (spoken(work.duration_ms)) ", "
                (moment(work.ended))
            }
            @match details.pending_restart.as_deref() {
                None => p.dim { "Whether settings wait for a restart of Postgres is not known." },
                Some([]) => {},
                Some(names) => p {
                    strong { "Waits for a restart of Postgres: " }
                    @for (at, name) in names.iter().enumerate() {
                        @if at > 0 { ", " }
                        code { (shown(name)) }
                    }
                },
            }
            @if let Some(report) = report {
                p.dim {
                    "Catalog: " (report.counts.done) " operations done, " (report.counts.failed) " failed"
                    @if report.timed_out > 0 { ", " (report.timed_out) " timed out" }
                    "."
                }
            }
        },
    )
}

/// The changes of the status, newest first.
pub(super) fn changes(details: &Details) -> Markup {
    section(
        "Status changes",
        &html! {
            div.scroll tabindex="0" {
                table {
                    thead { tr {
                        th scope="col" { "When" } th scope="col" { "Status" } th scope="col" { "Reason" }
                    } }
                    tbody {
                        @for change in details.changes.iter().rev() {
                            tr {
                                td.when { (moment(change.at)) }
                                td.name { (label(change.status)) }
                                td { (shown(&change.reason)) }
                            }
                        }
                    }
                }
            }
        },
    )
}

fn label(status: ComputeStatus) -> Markup {
    html! { span class={ "tone " (tone(status)) } { (words(status)) } }
}

/// The LSNs that pageservers keep for a static compute.
pub(super) fn leases(details: &Details) -> Markup {
    if details.leases.is_empty() {
        return html! {};
    }
    section(
        "LSN leases",
        &html! {
            table {
                thead { tr {
                    th scope="col" { "Shard" } th scope="col" { "Pageserver" }
                    th scope="col" { "LSN" } th scope="col" { "Ends" }
                } }
                tbody {
                    @for lease in &details.leases {
                        tr {
                            td { (shown_to(&lease.shard, SHORT)) }
                            td { (shown_to(&lease.pageserver, SHORT)) }
                            td { code { (shown_to(&lease.lsn, SHORT)) } }
                            td.when {
                                @match lease.ends {
                                    Some(ends) => (moment(ends)),
                                    None => strong { "refused" },
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

/// What has kept the compute awake.
pub(super) fn activity(status: &StatusDocument) -> Markup {
    let reasons = status.extra.as_ref().map(|extra| extra.activity.as_slice()).unwrap_or_default();
    if reasons.is_empty() {
        return html! {};
    }
    section(
        "Activity",
        &html! {
            table {
                thead { tr {
                    th scope="col" { "Reason" } th.number scope="col" { "Now" } th scope="col" { "Last" }
                } }
                tbody {
                    @for reason in reasons {
                        tr {
                            td { (reason.reason.replace('_', " ")) }
                            td.number { (reason.count) }
                            td.when { (moment(reason.last)) }
                        }
                    }
                }
            }
        },
    )
}
