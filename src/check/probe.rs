//! `--probe`: whether a start could reach the pageserver and the safekeepers.

use std::time::{Duration, Instant};

use futures_util::future;

use super::report::Report;
use crate::errors::one_line;
use crate::spec::ParsedSpec;
use crate::storage::PageserverTarget;
use crate::storage::connection::PageserverConnection;
use crate::storage::safekeepers::{SyncCheck, SyncCheckRequest, ask_each};
use crate::storage::sync_verdict::{Verdict, verdict};

/// Limit for one safekeeper or pageserver. Longer than at a start, so that a slow server differs
/// from a missing one.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// Connects to each server and logs in, and adds a line for each. `limit` applies to each server. A
/// failure that would make the start fail becomes a problem.
pub(super) async fn probe(spec: &ParsedSpec, limit: Duration, report: &mut Report) {
    let (pageservers, safekeepers) =
        future::join(pageservers(spec, limit), safekeepers(spec, limit)).await;
    for Findings { lines, problem } in [pageservers, safekeepers] {
        lines.iter().for_each(|line| report.line(line));
        if let Some(problem) = problem {
            report.problem(problem);
        }
    }
}

#[derive(Default)]
struct Findings {
    lines: Vec<String>,
    problem: Option<String>,
}

/// Probes the pageservers of shard 0; a start needs one of them.
async fn pageservers(spec: &ParsedSpec, limit: Duration) -> Findings {
    let target = match PageserverTarget::from_spec(spec) {
        Ok(target) => target,
        Err(error) => {
            let problem = Some(format!("pageserver: {}", one_line(&error)));
            return Findings { problem, ..Findings::default() };
        }
    };
    let tries =
        (0..target.pageservers()).map(|n| PageserverConnection::open_for(&target, n, limit));
    let results = future::join_all(tries).await;
    let mut findings = Findings::default();
    for result in &results {
        findings.lines.push(match result {
            Ok(connection) => format!(
                "pageserver {}: {} after {:.1} ms",
                connection.peer(),
                if connection.is_logged_in() { "logged in" } else { "connected (gRPC)" },
                connection.connect_time().as_secs_f64() * 1e3
            ),
            Err(error) => format!("pageserver: {}", one_line(error)),
        });
    }
    if results.iter().all(Result::is_err) {
        findings.problem = Some("no pageserver of shard 0 can be used".to_owned());
    }
    findings
}

/// Probes all safekeepers; a primary needs a quorum of them.
async fn safekeepers(spec: &ParsedSpec, limit: Duration) -> Findings {
    let mut findings = Findings::default();
    if !spec.is_primary() {
        findings.lines.push("safekeepers: not asked, only a primary needs them".to_owned());
        return findings;
    }
    if !spec.odd_safekeepers.is_empty() {
        let line = "safekeepers: not asked, because not all of them are of the form host:port";
        findings.lines.push(line.to_owned());
        return findings;
    }
    let request = SyncCheckRequest {
        safekeepers: &spec.safekeepers,
        tenant_id: spec.tenant_id,
        timeline_id: spec.timeline_id,
        token: spec.storage_token(),
    };
    let began = Instant::now();
    let reports = ask_each(request, limit).await;
    for report in &reports {
        let answer = report.answer.as_ref().map(ToString::to_string).unwrap_or_default();
        findings.lines.push(format!("safekeeper {}: {answer}", report.address));
    }
    let took = began.elapsed().as_secs_f64() * 1e3;
    let answers = reports.iter().filter_map(|report| report.answer.as_ref());
    match verdict(reports.len(), answers) {
        Verdict::InSync(lsn) => {
            findings.lines.push(format!("safekeepers: in sync at {lsn}, after {took:.1} ms"));
        }
        Verdict::Differ | Verdict::Unknown => findings
            .lines
            .push("safekeepers: not in sync, a start would sync them first".to_owned()),
        Verdict::NoQuorum | Verdict::Undecided => {
            findings.problem = Some(SyncCheck::NoQuorum(reports).to_string());
        }
    }
    findings
}
