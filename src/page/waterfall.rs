//! The start as a waterfall: a table with a bar in each row, so that it needs no other text.

use maud::{Markup, html};

use super::parts::section;
use crate::duration::spoken;
use crate::node::Details;
use crate::node::history::StartedPhase;
use crate::state::ComputeStatus;

/// Width of a bar's drawing, in its own units.
const WIDTH: f64 = 1000.0;
/// Least width, so that a short phase is seen.
const LEAST: f64 = 8.0;

/// The phases of the start, if one has begun.
pub(super) fn startup(details: &Details) -> Markup {
    let status = &details.status;
    let Some(extra) = status.extra.as_ref().filter(|extra| !extra.startup.is_empty()) else {
        return html! {};
    };
    let failed = extra.last_failure.as_ref().and_then(|failure| failure.phase);
    let failed = failed.filter(|_| status.status == ComputeStatus::Failed);
    let ended = |phase: &StartedPhase| phase.began_ms + phase.duration_ms.unwrap_or_default();
    let total = extra.startup.iter().map(ended).fold(as_float(details.startup_ms), f64::max);
    let title = html! {
        "Start "
        small {
            @if status.status == ComputeStatus::Init { (spoken(details.startup_ms)) " so far" }
            @else { (spoken(details.startup_ms)) }
        }
    };
    section(
        title,
        &html! {
            table.startup {
                thead { tr {
                    th scope="col" { "Phase" }
                    th.track scope="col" { "Time" }
                    th.number.began scope="col" { "Began" }
                    th.number scope="col" { "Took" }
                } }
                tbody {
                    @for phase in &extra.startup { (row(phase, total, failed)) }
                }
            }
        },
    )
}

fn row(phase: &StartedPhase, total: f64, failed: Option<&str>) -> Markup {
    let took = phase.duration_ms.unwrap_or((total - phase.began_ms).max(0.0));
    let (x, width) = place(phase.began_ms, took, total);
    let class = match phase.duration_ms {
        _ if failed == Some(phase.phase) => "failed",
        None => "open",
        Some(_) => "done",
    };
    let began = format!("{:.1} ms", phase.began_ms);
    html! {
        tr class=(class) {
            td.name { (phase.phase) }
            td.track {
                svg viewBox={ "0 0 " (WIDTH) " 10" } preserveAspectRatio="none" role="img"
                    aria-label={ (phase.phase) " began after " (began) } {
                    title { (phase.phase) " began after " (began) }
                    rect x=(format!("{x:.1}")) y="0" width=(format!("{width:.1}")) height="10" {}
                }
            }
            td.number.began { (began) }
            td.number {
                @match phase.duration_ms {
                    Some(took) => (length(took)),
                    None if class == "failed" => "failed",
                    None => "in progress",
                }
            }
        }
    }
}

/// Left edge and width of a bar, inside of the drawing.
fn place(began: f64, took: f64, total: f64) -> (f64, f64) {
    let scale = if total > 0.0 { WIDTH / total } else { 0.0 };
    let width = (took * scale).clamp(LEAST, WIDTH);
    ((began * scale).clamp(0.0, WIDTH - width), width)
}

/// Milliseconds with a tenth while that matters.
fn length(millis: f64) -> String {
    if millis < 100.0 {
        return format!("{millis:.1} ms");
    }
    // Never negative, and a start takes far less than 2^53 ms.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    let whole = millis.round() as u64;
    spoken(whole)
}

/// Exact up to 2^32 ms, which is 49 days.
fn as_float(millis: u64) -> f64 {
    u32::try_from(millis).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_inside() {
        for (began, took, total) in [
            (0.0, 0.0, 0.0),
            (10.0, 0.0, 10.0),
            (0.0, 10.0, 10.0),
            (3.0, 90.0, 10.0),
            (9.9, 0.1, 10.0),
        ] {
            let (x, width) = place(began, took, total);
            assert!(x >= 0.0 && width >= LEAST && x + width <= WIDTH, "{began} {took} {total}");
        }
        assert_eq!(place(5.0, 2.0, 10.0), (500.0, 200.0));
        assert_eq!((length(3.12), length(1234.4)), ("3.1 ms".to_owned(), "1.2 s".to_owned()));
    }
}
