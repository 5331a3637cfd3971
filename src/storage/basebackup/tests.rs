use std::fs;

use tempfile::TempDir;

use super::*;
use crate::secret::Secret;
use crate::spec::pageserver::{Pageserver, PageserverConnectionInfo, PageserverProtocol, Shard};
use crate::spec::{ComputeMode, Lsn};
use crate::storage::testing::{Act, Server, copy, copy_end, error, gzip, tar};
use crate::telemetry::metrics::Metrics;

const LIMITS: BasebackupLimits = BasebackupLimits {
    progress: Duration::from_secs(5),
    connect: Duration::from_secs(5),
    first_byte: Duration::from_secs(5),
    slow: Duration::from_secs(5),
    stall: Duration::from_secs(5),
    retries: 2,
    first_pause: Duration::from_millis(1),
};

fn tries() -> StorageTries {
    Metrics::new().unwrap().tries
}

fn archive() -> Vec<u8> {
    gzip(&tar(&[("PG_VERSION", b"16\n"), ("neon.signal", b"PREV LSN: none")]))
}

fn good() -> Act {
    Act::Answer([copy(&archive(), 7), copy_end()].concat())
}

fn target(port: u16, mode: ComputeMode) -> PageserverTarget {
    let url = format!("postgresql://no_user@127.0.0.1:{port}");
    let info = PageserverConnectionInfo::from_connstring(&url, None).unwrap();
    PageserverTarget::new(&info, Some(&Secret::new("planted-token".to_owned())), mode).unwrap()
}

struct Run {
    outcome: Result<BasebackupStats, BasebackupError>,
    server: Server,
    pgdata: TempDir,
    progress: Progress,
}

async fn run_with(acts: Vec<Act>, limits: BasebackupLimits, early: bool, lsn: Lsn) -> Run {
    let server = Server::start(acts).await;
    let pgdata = tempfile::tempdir().unwrap();
    fs::write(pgdata.path().join("postgresql.conf"), "ours").unwrap();
    let target = target(server.port, ComputeMode::Primary);
    let request = BasebackupRequest {
        target: &target,
        tenant_id: "51b0c7e2a94d4c06b3f7d1e8a2640f9c".parse().unwrap(),
        timeline_id: "e7d25a1c90b84f3fa6120c4b8d93f57e".parse().unwrap(),
        lsn,
        replica: !lsn.is_valid(),
        pgdata: pgdata.path(),
    };
    let progress = Progress::default();
    let early = early.then(|| EarlyConnection::start(&target, limits.connect));
    let outcome = get_basebackup(request, early, limits, &progress, &tries()).await;
    assert!(!format!("{outcome:?} {request:?}").contains("planted"));
    Run { outcome, server, pgdata, progress }
}

async fn run(acts: Vec<Act>) -> Run {
    run_with(acts, LIMITS, false, Lsn(0x2A3_B4C8)).await
}

#[tokio::test]
async fn asks_as_documented_and_fills_the_figures() {
    let run = run(vec![good()]).await;
    let stats = run.outcome.unwrap();
    assert_eq!(stats.bytes, archive().len() as u64);
    assert!(stats.connect_micros > 0);
    assert_eq!(run.progress.bytes(), stats.bytes);
    assert_eq!(
        run.server.seen("startup "),
        ["client_encoding|UTF8|user|no_user|options|-c neon.compute_mode=primary|\
          application_name|compute_ctl||"]
    );
    assert_eq!(run.server.seen("password "), ["planted-token"]);
    assert_eq!(
        run.server.seen("query "),
        ["basebackup 51b0c7e2a94d4c06b3f7d1e8a2640f9c e7d25a1c90b84f3fa6120c4b8d93f57e \
          0/2A3B4C8 --gzip"]
    );
    assert_eq!(fs::read(run.pgdata.path().join("PG_VERSION")).unwrap(), b"16\n");
}

#[tokio::test]
async fn the_latest_is_asked_for_without_an_lsn() {
    let run = run_with(vec![good()], LIMITS, true, Lsn::INVALID).await;
    run.outcome.unwrap();
    let query = run.server.seen("query ").remove(0);
    assert!(query.ends_with("e7d25a1c90b84f3fa6120c4b8d93f57e --gzip --replica"), "{query}");
    assert_eq!(run.server.seen("startup ").len(), 1, "the early connection is the one used");
}

#[tokio::test]
async fn any_message_size_will_do() {
    for piece in [1, 100_000_000] {
        let mut answer = copy(&archive(), piece);
        answer.extend(crate::storage::testing::message(b'd', b""));
        run(vec![Act::Answer([answer, copy_end()].concat())]).await.outcome.unwrap();
    }
}

/// Each transient failure, followed by a good try that must find a clean directory.
#[tokio::test]
async fn transient_failures_are_tried_again_in_a_clean_directory() {
    let leftover = gzip(&tar(&[("leftover", b"1")]));
    let half = archive()[..archive().len() / 2].to_vec();
    let late = error("XX000", "failed after the archive");
    for (name, act) in [
        ("refused", Act::Hangup),
        ("closed after the greeting", Act::GreetAndHangup),
        ("bad token", Act::Refuse(error("XX000", "JWT authentication error"))),
        ("error at once", Act::Answer(error("XX000", "no such thing"))),
        ("cut", Act::AnswerAndHangup(copy(&leftover, 20))),
        ("truncated", Act::Answer([copy(&half, 20), copy_end()].concat())),
        ("error midway", Act::Answer([copy(&half, 20), late.clone()].concat())),
        ("error after the archive", Act::Answer([copy(&leftover, 20), late.clone()].concat())),
        (
            "error after CopyDone",
            Act::Answer(
                [copy(&leftover, 20), crate::storage::testing::message(b'c', b""), late].concat(),
            ),
        ),
        ("no data", Act::Answer([copy(b"", 1), copy_end()].concat())),
        ("garbage", Act::Answer([copy(b"garbage", 3), copy_end()].concat())),
        ("no protocol", Act::AnswerAndHangup(b"H\0\0\0\0HTTP/1.1 400".to_vec())),
        ("a result set", Act::Answer(crate::storage::testing::table(&["a"], &[]))),
    ] {
        let run = run(vec![act, good()]).await;
        run.outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(run.server.seen("query ").last().map(|q| q.ends_with("--gzip")), Some(true));
        let mut left: Vec<_> = fs::read_dir(run.pgdata.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["PG_VERSION", "neon.signal", "postgresql.conf"], "{name}");
    }
}

#[tokio::test]
async fn silence_ends_at_the_limits() {
    let limits = BasebackupLimits {
        first_byte: Duration::from_millis(100),
        stall: Duration::from_millis(100),
        connect: Duration::from_millis(100),
        retries: 0,
        ..LIMITS
    };
    let stalled = copy(&archive()[..10], 10);
    for (act, text) in [
        (Act::Mute, "did not accept the connection within"),
        (Act::Answer(Vec::new()), "sent nothing within"),
        (Act::Answer(copy(b"", 1)), "sent nothing within"),
        (Act::Answer(stalled), "stopped sending"),
    ] {
        let run = run_with(vec![act], limits, false, Lsn(1)).await;
        let error = run.outcome.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn gives_up_with_the_servers_own_words() {
    let run = run(vec![Act::Answer(error("XX000", "no such thing"))]).await;
    let error = run.outcome.unwrap_err();
    assert_eq!(run.server.seen("query ").len(), 3);
    assert_eq!(error.tries, 3);
    let text = error.to_string();
    assert!(text.starts_with("failed to get basebackup@0/2A3B4C8: "), "{text}");
    assert!(text.contains("no such thing"), "{text}");
}

#[tokio::test]
async fn permanent_failures_are_not_tried_again() {
    let climbing = gzip(&tar(&[("../evil", b"1")]));
    for (act, class) in [
        (Act::Answer([copy(&climbing, 1000), copy_end()].concat()), ErrorClass::Local),
        (Act::Answer(error("42601", "syntax error")), ErrorClass::Refused),
    ] {
        let run = run(vec![act, good()]).await;
        let error = run.outcome.unwrap_err();
        assert_eq!(error.error.class(), class);
        assert_eq!(run.server.seen("query ").len(), 1);
        assert!(!run.pgdata.path().join("../evil").exists());
    }
}

/// Runs with several pageservers; returns how often each was asked, and the result.
async fn run_over(
    servers: &[Server],
    limits: BasebackupLimits,
    early: bool,
) -> (Vec<usize>, Result<BasebackupStats, BasebackupError>) {
    let pageservers = servers.iter().map(|server| Pageserver {
        id: None,
        libpq_url: Some(Secret::new(format!("postgresql://u@127.0.0.1:{}", server.port))),
        grpc_url: None,
    });
    let pageservers = pageservers.collect();
    let info = PageserverConnectionInfo {
        shard_count: 0,
        stripe_size: None,
        shards: [("0000".parse().unwrap(), Shard { pageservers })].into(),
        prefer_protocol: PageserverProtocol::Libpq,
    };
    let token = Secret::new("planted-token".to_owned());
    let target = PageserverTarget::new(&info, Some(&token), ComputeMode::Primary).unwrap();
    let pgdata = tempfile::tempdir().unwrap();
    let request = BasebackupRequest {
        target: &target,
        tenant_id: "51b0c7e2a94d4c06b3f7d1e8a2640f9c".parse().unwrap(),
        timeline_id: "e7d25a1c90b84f3fa6120c4b8d93f57e".parse().unwrap(),
        lsn: Lsn(1),
        replica: false,
        pgdata: pgdata.path(),
    };
    let early = early.then(|| EarlyConnection::start(&target, limits.connect));
    let outcome = get_basebackup(request, early, limits, &Progress::default(), &tries()).await;
    (servers.iter().map(|server| server.seen("password ").len()).collect(), outcome)
}

/// One pageserver may serve what another refuses; only refusals by all of them end the fetch.
#[tokio::test]
async fn a_refusal_is_that_of_one_pageserver() {
    let refusals = || Act::Answer(error("42601", "syntax error"));
    for early in [false, true] {
        let refused = Act::Refuse(error("28P01", "not you"));
        let servers = [Server::start(vec![refused]).await, Server::start(vec![good()]).await];
        let (asked, outcome) = run_over(&servers, LIMITS, early).await;
        outcome.unwrap();
        assert_eq!(asked, [1, 1]);
    }
    let servers = [Server::start(vec![refusals()]).await, Server::start(vec![refusals()]).await];
    let (asked, outcome) = run_over(&servers, LIMITS, false).await;
    assert_eq!((asked, outcome.unwrap_err().tries), (vec![1, 1], 2));
    // A bad archive is refused whichever pageserver sends it.
    let climbing = gzip(&tar(&[("../evil", b"1")]));
    let climbing = Act::Answer([copy(&climbing, 1000), copy_end()].concat());
    let servers = [Server::start(vec![climbing]).await, Server::start(vec![good()]).await];
    let (asked, outcome) = run_over(&servers, LIMITS, false).await;
    assert_eq!((asked, outcome.unwrap_err().tries), (vec![1, 0], 1));
}

/// Ten retries are left, but a fifth slow try is not made.
#[tokio::test]
async fn two_slow_rounds_are_enough() {
    let moment = Duration::from_millis(50);
    let limits = BasebackupLimits { first_byte: moment, slow: moment, retries: 10, ..LIMITS };
    let servers = [
        Server::start(vec![Act::Answer(Vec::new())]).await,
        Server::start(vec![Act::Answer(copy(b"", 1))]).await,
    ];
    let (asked, outcome) = run_over(&servers, limits, false).await;
    let error = outcome.unwrap_err();
    assert_eq!((asked, error.tries), (vec![2, 2], 4));
    assert!(matches!(error.error, FetchError::FirstByteTimeout(limit) if limit == moment));
}

/// The time until the server agrees to stream counts against the limit for the first byte.
#[tokio::test]
async fn one_limit_from_the_command_to_the_first_byte() {
    let limit = Duration::from_millis(300);
    let limits = BasebackupLimits { first_byte: limit, retries: 0, ..LIMITS };
    let answer = [copy(&archive(), 7), copy_end()].concat();
    // The first message is the agreement.
    let pieces = [&answer[..8], &answer[8..]].map(<[u8]>::to_vec);
    let slowly = Act::AnswerSlowly(limit * 2 / 3, pieces.to_vec());
    let run = run_with(vec![slowly], limits, false, Lsn(1)).await;
    let error = run.outcome.unwrap_err();
    assert!(matches!(error.error, FetchError::FirstByteTimeout(_)), "{error:?}");
}

#[tokio::test]
async fn a_lost_early_connection_is_replaced_and_does_not_count() {
    let limits = BasebackupLimits { retries: 0, ..LIMITS };
    let run = run_with(vec![Act::GreetAndHangup, good()], limits, true, Lsn(1)).await;
    run.outcome.unwrap();
    assert_eq!(run.server.seen("startup ").len(), 2);
}

#[tokio::test]
async fn a_refused_early_connection_is_the_first_try() {
    let run = run_with(vec![Act::Hangup, good()], LIMITS, true, Lsn(1)).await;
    run.outcome.unwrap();
    let limits = BasebackupLimits { retries: 0, ..LIMITS };
    let run = run_with(vec![Act::Hangup, good()], limits, true, Lsn(1)).await;
    assert_eq!(run.outcome.unwrap_err().tries, 1);
}

/// The count of received bytes is readable during a try and restarts with each try.
#[tokio::test]
async fn bytes_so_far_are_visible() {
    let whole = archive();
    let [more, less] = [&whole[..whole.len() - 1], &whole[..7]];
    let server = Server::start(vec![
        Act::AnswerAndHangup(copy(more, 5)),
        // Sends nothing more and keeps the connection open.
        Act::Answer(copy(less, 5)),
    ])
    .await;
    let pgdata = tempfile::tempdir().unwrap();
    let target = target(server.port, ComputeMode::Primary);
    let request = BasebackupRequest {
        target: &target,
        tenant_id: "51b0c7e2a94d4c06b3f7d1e8a2640f9c".parse().unwrap(),
        timeline_id: "e7d25a1c90b84f3fa6120c4b8d93f57e".parse().unwrap(),
        lsn: Lsn(1),
        replica: false,
        pgdata: pgdata.path(),
    };
    let progress = Progress::default();
    let elsewhere = progress.clone();
    assert_eq!(elsewhere.bytes(), 0);
    let seen = async {
        let mut most = 0;
        // Only the second try keeps its final count, so the last check is against that one.
        while server.seen("query ").len() < 2 || elsewhere.bytes() != less.len() as u64 {
            most = most.max(elsewhere.bytes());
            tokio::task::yield_now().await;
        }
        most
    };
    let peers = tries();
    let most = tokio::select! {
        outcome = get_basebackup(request, None, LIMITS, &progress, &peers) => panic!("{outcome:?}"),
        most = seen => most,
    };
    assert!((1..=more.len() as u64).contains(&most), "{most}");
}

#[tokio::test]
async fn dropping_the_future_leaves_nothing_running() {
    let big = gzip(&tar(&[("big", &vec![0; 4 << 20])]));
    let server = Server::start(vec![Act::Answer(copy(&big, 1000))]).await;
    let pgdata = tempfile::tempdir().unwrap();
    let target = target(server.port, ComputeMode::Primary);
    let request = BasebackupRequest {
        target: &target,
        tenant_id: "51b0c7e2a94d4c06b3f7d1e8a2640f9c".parse().unwrap(),
        timeline_id: "e7d25a1c90b84f3fa6120c4b8d93f57e".parse().unwrap(),
        lsn: Lsn(1),
        replica: false,
        pgdata: pgdata.path(),
    };
    let progress = Progress::default();
    let peers = tries();
    let fetch = get_basebackup(request, None, LIMITS, &progress, &peers);
    let outcome = tokio::select! {
        outcome = fetch => Some(outcome),
        () = async { while progress.bytes() == 0 { tokio::task::yield_now().await } } => None,
    };
    assert!(outcome.is_none());
    // A writer still running would make the removal fail, or would leave files behind.
    let path = pgdata.keep();
    fs::remove_dir_all(&path).unwrap();
    assert!(!path.exists());
}
