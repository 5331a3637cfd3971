//! The quick check whether the safekeepers are in sync (01 §9.1, 06 §7.1).
//!
//! Runs before the base backup of a primary. [`SyncCheck::InSync`] gives the LSN to start from; any
//! other result requires the full sync with `postgres --sync-safekeepers`, and carries the answer
//! of each safekeeper, so that an operator can see which of them to look at.
//!
//! Each safekeeper has one limit for connecting and answering. All probes live inside the returned
//! future: probes still running when the verdict is clear end with it.

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_postgres::Config;

use super::simple_query;
use super::sync_verdict::{Answer, Verdict, quorum, verdict};
use crate::errors::one_line;
use crate::secret::Secret;
use crate::spec::{Lsn, TenantId, TimelineId};
use crate::telemetry::storage_metrics::{Peer, StorageTries, TryOutcome};

/// The safekeepers to ask, and the timeline in question.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SyncCheckRequest<'a> {
    /// Addresses, `host:port` each.
    pub safekeepers: &'a [String],
    /// Tenant that owns the timeline.
    pub tenant_id: TenantId,
    /// The timeline in question.
    pub timeline_id: TimelineId,
    /// Sent as password when a safekeeper asks for one.
    pub token: Option<&'a Secret<String>>,
}

/// The answer of a safekeeper, if it was waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SafekeeperReport {
    /// `host:port`.
    pub address: String,
    /// Absent when the verdict was clear before its answer came.
    pub answer: Option<Answer>,
}

/// Result of the quick check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SyncCheck {
    /// A quorum agrees; `0/0` when the timeline holds nothing yet.
    InSync(Lsn),
    /// A quorum answered, and a full sync is needed.
    NotInSync(Vec<SafekeeperReport>),
    /// Too few answered. The full sync will wait for more.
    NoQuorum(Vec<SafekeeperReport>),
}

impl fmt::Display for SyncCheck {
    /// `1 of 3 safekeepers answered, 2 are needed: sk-1:6500: connection refused; ...`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reports = match self {
            Self::InSync(lsn) => return write!(f, "safekeepers are in sync at LSN {lsn}"),
            Self::NotInSync(reports) => {
                f.write_str("not synced")?;
                reports
            }
            Self::NoQuorum(reports) => {
                let replied = |report: &&SafekeeperReport| {
                    matches!(report.answer, Some(Answer::Status { .. } | Answer::TimelineUnknown))
                };
                let (total, replies) = (reports.len(), reports.iter().filter(replied).count());
                let needed = quorum(total);
                write!(f, "{replies} of {total} safekeepers answered, {needed} are needed")?;
                reports
            }
        };
        for (at, SafekeeperReport { address, answer }) in reports.iter().enumerate() {
            f.write_str(if at == 0 { ": " } else { "; " })?;
            match answer {
                Some(answer) => write!(f, "{address}: {answer}")?,
                None => write!(f, "{address}: not waited for")?,
            }
        }
        Ok(())
    }
}

/// Asks all safekeepers at once. `limit` covers connecting and answering of each (300 ms in
/// production). When a quorum answers and differs, all are asked a second time. Never fails:
/// problems are part of the result, which is also logged.
pub(crate) async fn check_safekeepers(
    request: SyncCheckRequest<'_>,
    limit: Duration,
    tries: &StorageTries,
) -> SyncCheck {
    tracing::info!("checking if safekeepers are synced");
    let (mut result, mut reports) = ask_all(request, limit).await;
    count(&reports, tries);
    if result == Verdict::Differ {
        let before = latest_commit(&reports);
        tracing::info!("{}; asking once more", SyncCheck::NotInSync(reports));
        (result, reports) = ask_all(request, limit).await;
        count(&reports, tries);
        if let (Verdict::InSync(lsn), Some(before)) = (result, before)
            && lsn < before
        {
            tracing::warn!(
                "the safekeepers agree on LSN {lsn} now, but commit_lsn {before} was among their \
                 answers before"
            );
            result = Verdict::Differ;
        }
    }
    let check = match result {
        Verdict::InSync(lsn) => SyncCheck::InSync(lsn),
        Verdict::Differ | Verdict::Unknown => SyncCheck::NotInSync(reports),
        Verdict::NoQuorum | Verdict::Undecided => SyncCheck::NoQuorum(reports),
    };
    match &check {
        SyncCheck::NoQuorum(_) => tracing::error!("failed sync safekeepers check: {check}"),
        _ => tracing::info!("{check}"),
    }
    check
}

/// Asks all safekeepers at once and waits for every answer, for callers that need each of them.
/// `limit` as in [`check_safekeepers`].
pub(crate) async fn ask_each(
    request: SyncCheckRequest<'_>,
    limit: Duration,
) -> Vec<SafekeeperReport> {
    let asked = request.safekeepers.iter().map(|address| async move {
        let answer = Some(ask(request, address, limit).await);
        SafekeeperReport { address: address.clone(), answer }
    });
    futures_util::future::join_all(asked).await
}

/// What a quorum held once, it holds for good: an LSN before this cannot be the last one.
fn latest_commit(reports: &[SafekeeperReport]) -> Option<Lsn> {
    let commits = reports.iter().filter_map(|report| match report.answer {
        Some(Answer::Status { commit, .. }) => Some(commit),
        _ => None,
    });
    commits.max()
}

/// Counts the answers; one that was not waited for is neither a success nor a failure.
fn count(reports: &[SafekeeperReport], tries: &StorageTries) {
    for answer in reports.iter().filter_map(|report| report.answer.as_ref()) {
        let outcome = match answer {
            Answer::Status { .. } | Answer::TimelineUnknown => TryOutcome::Succeeded,
            Answer::Failed(_) => TryOutcome::Failed,
        };
        tries.count(Peer::Safekeeper, outcome);
    }
}

async fn ask(request: SyncCheckRequest<'_>, address: &str, limit: Duration) -> Answer {
    match tokio::time::timeout(limit, probe(request, address)).await {
        Ok(answer) => answer.unwrap_or_else(Answer::Failed),
        Err(_) => Answer::Failed(format!("no answer within {} ms", limit.as_millis())),
    }
}

async fn ask_all(
    request: SyncCheckRequest<'_>,
    limit: Duration,
) -> (Verdict, Vec<SafekeeperReport>) {
    let total = request.safekeepers.len();
    let mut reports: Vec<SafekeeperReport> = request
        .safekeepers
        .iter()
        .map(|address| SafekeeperReport { address: address.clone(), answer: None })
        .collect();
    let mut probes: FuturesUnordered<_> = request
        .safekeepers
        .iter()
        .enumerate()
        .map(|(at, address)| async move { (at, ask(request, address, limit).await) })
        .collect();

    let mut result = Verdict::Undecided;
    while let Some((at, answer)) = probes.next().await {
        if let Some(report) = reports.get_mut(at) {
            report.answer = Some(answer);
        }
        result = verdict(total, reports.iter().filter_map(|report| report.answer.as_ref()));
        if result != Verdict::Undecided {
            break;
        }
    }
    (result, reports)
}

/// Asks one safekeeper once; the error is a text for the report.
async fn probe(request: SyncCheckRequest<'_>, address: &str) -> Result<Answer, String> {
    let (host, port) = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
        .ok_or("the address is not of the form host:port")?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);

    let mut config = Config::new();
    // One `-c` for both: safekeepers parse the words, tests compare the whole option (06 §7.1).
    let ids = format!("-c timeline_id={} tenant_id={}", request.timeline_id, request.tenant_id);
    config.user("no_user").host(host).port(port).options(ids);
    if let Some(token) = request.token {
        config.password(token.expose());
    }

    let row = simple_query::first_row(&config, "TIMELINE_STATUS").await;
    let Some(row) = row.map_err(|error| one_line(&error))? else {
        return Ok(Answer::TimelineUnknown);
    };
    let lsn = |column: &str| match row.try_get(column) {
        Ok(Some(text)) => {
            text.parse::<Lsn>().map_err(|_| format!("{column} in its answer is not an LSN"))
        }
        _ => Err(format!("{column} is missing in its answer")),
    };
    Ok(Answer::Status { flush: lsn("flush_lsn")?, commit: lsn("commit_lsn")? })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Act, Server, error, table};
    use super::*;
    use crate::telemetry::metrics::Metrics;

    const LIMIT: Duration = Duration::from_secs(5);

    fn at(flush: &str, commit: &str) -> Act {
        Act::Answer(table(&["flush_lsn", "commit_lsn"], &[&[Some(flush), Some(commit)]]))
    }

    async fn ask(acts: Vec<Act>, limit: Duration) -> (SyncCheck, Vec<Server>) {
        let mut servers = Vec::new();
        for act in acts {
            servers.push(Server::start(vec![act]).await);
        }
        let addresses: Vec<String> =
            servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let token = Secret::new("planted-token".to_owned());
        let request = SyncCheckRequest {
            safekeepers: &addresses,
            tenant_id: "51b0c7e2a94d4c06b3f7d1e8a2640f9c".parse().unwrap(),
            timeline_id: "e7d25a1c90b84f3fa6120c4b8d93f57e".parse().unwrap(),
            token: Some(&token),
        };
        let check = check_safekeepers(request, limit, &Metrics::new().unwrap().tries).await;
        assert!(!format!("{check} {check:?} {request:?}").contains("planted"));
        (check, servers)
    }

    #[tokio::test]
    async fn sends_the_expected_options_and_queries() {
        let (check, servers) = ask(vec![at("0/2A3B4C8", "0/2a3b4c8")], LIMIT).await;
        assert_eq!(check, SyncCheck::InSync(Lsn(0x2A3_B4C8)));
        let ids = "-c timeline_id=e7d25a1c90b84f3fa6120c4b8d93f57e \
                   tenant_id=51b0c7e2a94d4c06b3f7d1e8a2640f9c";
        assert_eq!(
            servers[0].seen("startup "),
            [format!("client_encoding|UTF8|user|no_user|options|{ids}||")]
        );
        assert_eq!(servers[0].seen("password "), ["planted-token"]);
        assert_eq!(servers[0].seen("query "), ["TIMELINE_STATUS"]);
    }

    #[tokio::test]
    async fn one_silent_safekeeper_does_not_matter() {
        let acts = vec![at("0/9", "0/9"), Act::Mute, at("0/9", "0/9")];
        assert_eq!(ask(acts, LIMIT).await.0, SyncCheck::InSync(Lsn(9)));
        let acts = vec![at("0/0", "0/0"), Act::Hangup, at("0/0", "0/0")];
        assert_eq!(ask(acts, LIMIT).await.0, SyncCheck::InSync(Lsn::INVALID));
    }

    #[tokio::test]
    async fn each_of_them_can_be_asked() {
        let mut servers = Vec::new();
        for act in [at("0/9", "0/8"), at("0/9", "0/9"), Act::Hangup] {
            servers.push(Server::start(vec![act]).await);
        }
        let addresses: Vec<String> =
            servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let token = Secret::new("tok".to_owned());
        let request = SyncCheckRequest {
            safekeepers: &addresses,
            tenant_id: "51b0c7e2a94d4c06b3f7d1e8a2640f9c".parse().unwrap(),
            timeline_id: "e7d25a1c90b84f3fa6120c4b8d93f57e".parse().unwrap(),
            token: Some(&token),
        };
        let reports = ask_each(request, LIMIT).await;
        assert!(reports.iter().map(|report| &report.address).eq(&addresses));
        let answers: Vec<_> = reports.into_iter().filter_map(|report| report.answer).collect();
        let lsns = |flush, commit| Answer::Status { flush: Lsn(flush), commit: Lsn(commit) };
        assert_eq!(answers[..2], [lsns(9, 8), lsns(9, 9)]);
        assert!(matches!(answers[2], Answer::Failed(_)), "{answers:?}");
    }

    #[tokio::test]
    async fn an_answer_followed_by_a_close_counts() {
        let Act::Answer(bytes) = at("0/9", "0/9") else { unreachable!() };
        let (check, _) = ask(vec![Act::AnswerAndHangup(bytes)], LIMIT).await;
        assert_eq!(check, SyncCheck::InSync(Lsn(9)));
    }

    #[tokio::test]
    async fn two_dead_ones_are_named_with_their_reasons() {
        let acts = vec![at("0/9", "0/9"), Act::Mute, Act::Refuse(error("XX000", "bad token"))];
        let (check, servers) = ask(acts, Duration::from_millis(300)).await;
        let text = check.to_string();
        assert!(matches!(check, SyncCheck::NoQuorum(_)), "{text}");
        assert!(text.contains("1 of 3 safekeepers answered, 2 are needed: "), "{text}");
        let [_, mute, refusing] = [0, 1, 2].map(|n| format!("127.0.0.1:{}: ", servers[n].port));
        assert!(text.contains(&format!("{mute}no answer within 300 ms")), "{text}");
        assert!(text.contains(&refusing) && text.contains("bad token"), "{text}");
    }

    #[tokio::test]
    async fn a_difference_is_asked_about_once_more() {
        let (check, servers) = ask(vec![at("0/9", "0/8")], LIMIT).await;
        assert!(matches!(check, SyncCheck::NotInSync(_)));
        assert!(check.to_string().contains("flush_lsn 0/9, commit_lsn 0/8"), "{check}");
        assert_eq!(servers[0].seen("query ").len(), 2);
    }

    #[tokio::test]
    async fn an_unknown_timeline_is_not_asked_about_again() {
        let empty = Act::Answer(table(&["flush_lsn", "commit_lsn"], &[]));
        let (check, servers) = ask(vec![empty], LIMIT).await;
        assert!(matches!(check, SyncCheck::NotInSync(_)), "{check}");
        assert_eq!(servers[0].seen("query ").len(), 1);
    }

    /// Replies that made the original panic, and similar ones (06 W11, W12).
    #[tokio::test]
    async fn odd_replies_are_failures_of_that_safekeeper() {
        for act in [
            Act::Answer(table(&["flush_lsn"], &[&[Some("0/9")]])),
            Act::Answer(table(&["flush_lsn", "commit_lsn"], &[&[Some("0/9"), None]])),
            at("0/9", "soon"),
            Act::Answer(table(&["flush_lsn", "commit_lsn"], &[&[Some("0/9")]])),
            Act::Answer(error("XX000", "tenantid is required")),
            Act::AnswerAndHangup(b"T\0\0\0\x08garbage".to_vec()),
            Act::AnswerAndHangup(Vec::new()),
            Act::GreetAndHangup,
        ] {
            let (check, _) = ask(vec![act.clone()], LIMIT).await;
            assert!(matches!(check, SyncCheck::NoQuorum(_)), "{act:?}: {check}");
        }
        let addresses = ["no-port".to_owned(), "host:99999".to_owned()];
        let request = SyncCheckRequest {
            safekeepers: &addresses,
            tenant_id: "51b0c7e2a94d4c06b3f7d1e8a2640f9c".parse().unwrap(),
            timeline_id: "e7d25a1c90b84f3fa6120c4b8d93f57e".parse().unwrap(),
            token: None,
        };
        let check = check_safekeepers(request, LIMIT, &Metrics::new().unwrap().tries).await;
        assert!(check.to_string().contains("not of the form host:port"), "{check}");
    }
}
