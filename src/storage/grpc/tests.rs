use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tonic::Code;

use super::*;
use crate::dev::pageserver::{Fault, PageserverOptions, StandInPageserver};
use crate::secret::Secret;
use crate::spec::ComputeMode;
use crate::spec::pageserver::PageserverConnectionInfo;
use crate::storage::basebackup::{
    BasebackupLimits, BasebackupStats, EarlyConnection, get_basebackup,
};
use crate::storage::errors::BasebackupError;
use crate::storage::testing::{gzip, tar};
use crate::storage::{PageserverTarget, Progress};

const LIMITS: BasebackupLimits = BasebackupLimits {
    progress: Duration::from_secs(5),
    connect: Duration::from_secs(5),
    first_byte: Duration::from_secs(5),
    slow: Duration::from_secs(5),
    stall: Duration::from_secs(5),
    retries: 2,
    first_pause: Duration::from_millis(1),
};

struct Bed {
    server: StandInPageserver,
    dir: TempDir,
}

impl Bed {
    async fn new(archive: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let archive_path = dir.path().join("base.tar.gz");
        fs::write(&archive_path, archive).unwrap();
        let options = PageserverOptions { archive: archive_path, ..Default::default() };
        Self { server: StandInPageserver::start(options).await.unwrap(), dir }
    }

    fn pgdata(&self) -> std::path::PathBuf {
        self.dir.path().join("pgdata")
    }

    async fn fetch(
        &self,
        lsn: Lsn,
        early: bool,
        limits: BasebackupLimits,
    ) -> Result<BasebackupStats, BasebackupError> {
        let pgdata = self.pgdata();
        let _ = fs::remove_dir_all(&pgdata);
        fs::create_dir(&pgdata).unwrap();
        fetch(&self.server.grpc_url(), &pgdata, lsn, early, limits).await
    }
}

async fn fetch(
    url: &str,
    pgdata: &Path,
    lsn: Lsn,
    early: bool,
    limits: BasebackupLimits,
) -> Result<BasebackupStats, BasebackupError> {
    let info = format!(
        r#"{{"shard_count":2,"stripe_size":8,"prefer_protocol":"grpc","shards":{{
            "0002":{{"pageservers":[{{"grpc_url":"{url}"}}]}},"0102":{{"pageservers":[]}}}}}}"#
    );
    let info: PageserverConnectionInfo = serde_json::from_str(&info).unwrap();
    let token = Secret::new("planted-token".to_owned());
    let target = PageserverTarget::new(&info, Some(&token), ComputeMode::Primary).unwrap();
    let request = BasebackupRequest {
        target: &target,
        tenant_id: "51b0c7e2a94d4c06b3f7d1e8a2640f9c".parse().unwrap(),
        timeline_id: "e7d25a1c90b84f3fa6120c4b8d93f57e".parse().unwrap(),
        lsn,
        replica: !lsn.is_valid(),
        pgdata,
    };
    let early = early.then(|| EarlyConnection::start(&target, limits.connect));
    let tries = crate::telemetry::metrics::Metrics::new().unwrap().tries;
    let outcome = get_basebackup(request, early, limits, &Progress::default(), &tries).await;
    assert!(!format!("{outcome:?} {request:?}").contains("planted"));
    outcome
}

fn archive() -> Vec<u8> {
    gzip(&tar(&[("PG_VERSION", b"16\n"), ("neon.signal", b"PREV LSN: none")]))
}

const LSN: Lsn = Lsn(0x2A3_B4C8);

#[tokio::test]
async fn asks_as_documented_and_fills_the_figures() {
    let bed = Bed::new(&archive()).await;
    let stats = bed.fetch(LSN, true, LIMITS).await.unwrap();
    assert_eq!(stats.bytes, archive().len() as u64);
    assert!(stats.connect_micros > 0);
    assert_eq!(fs::read(bed.pgdata().join("PG_VERSION")).unwrap(), b"16\n");
    bed.fetch(Lsn::INVALID, false, LIMITS).await.unwrap();

    let journal = bed.server.grpc_journal();
    assert_eq!(
        journal.commands(),
        ["GetBaseBackup 0/2A3B4C8 gzip", "GetBaseBackup 0/0 replica gzip"]
    );
    assert_eq!(journal.passwords(), ["planted-token"; 2]);
    assert_eq!(journal.connections(), 2);
    let metadata = &journal.startups()[0];
    let header = |name: &str| {
        let mut found = metadata.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    };
    assert_eq!(header("neon-tenant-id"), Some("51b0c7e2a94d4c06b3f7d1e8a2640f9c"));
    assert_eq!(header("neon-timeline-id"), Some("e7d25a1c90b84f3fa6120c4b8d93f57e"));
    assert_eq!(header("neon-shard-id"), Some("0002"));
    assert!(header("user-agent").is_some_and(|it| it.starts_with("compute_ctl/")), "{metadata:?}");
    for absent in ["grpc-timeout", "grpc-accept-encoding", "grpc-encoding"] {
        assert_eq!(header(absent), None);
    }
}

#[tokio::test]
async fn any_size_of_chunk_up_to_4_mib() {
    let bed = Bed::new(&archive()).await;
    for size in [1, 256 * 1024] {
        bed.server.behave(|it| it.grpc_chunk = size);
        bed.fetch(LSN, false, LIMITS).await.unwrap();
    }
    let mut noise = vec![0; 5 * 1024 * 1024];
    fastrand::Rng::with_seed(7).fill(&mut noise);
    let bed = Bed::new(&gzip(&tar(&[("noise", &noise)]))).await;
    for size in [1024 * 1024, MAX_MESSAGE - 16] {
        bed.server.behave(|it| it.grpc_chunk = size);
        bed.fetch(LSN, false, LIMITS).await.unwrap();
        assert!(fs::read(bed.pgdata().join("noise")).unwrap() == noise);
    }
    bed.server.behave(|it| it.grpc_chunk = MAX_MESSAGE + 1);
    let error = bed.fetch(LSN, false, LIMITS).await.unwrap_err();
    assert_eq!(error.tries, 3);
    let text = error.to_string();
    assert!(text.contains("4194304") && text.contains("OutOfRange"), "{text}");
}

#[tokio::test]
async fn failures_are_tried_again_and_their_words_survive() {
    let bed = Bed::new(&archive()).await;
    let text = || "disk on fire".to_owned();
    let status = |code| format!("the pageserver answers: disk on fire (gRPC status {code})");
    for (fault, words, early) in [
        (Fault::Refuse, "was lost".to_owned(), false),
        (Fault::Error(text()), status("NotFound"), false),
        (Fault::Error(text()), status("NotFound"), true),
        (Fault::Status(Code::FailedPrecondition, text()), status("FailedPrecondition"), false),
        (Fault::DropAfter(20), "was lost".to_owned(), false),
        (Fault::ErrorAfter(20, text()), status("Internal"), false),
        (Fault::ErrorAfterArchive(text()), status("Internal"), false),
        (Fault::Garbage, "not a complete gzip stream".to_owned(), false),
        (Fault::Truncated(20), "not a complete gzip stream".to_owned(), false),
        (Fault::Empty, "archive is empty".to_owned(), false),
    ] {
        bed.server.set_fault(fault.clone(), None);
        let error = bed.fetch(LSN, early, LIMITS).await.unwrap_err();
        assert_eq!(error.tries, 3, "{fault:?}");
        assert!(error.to_string().contains(&words), "{fault:?}: {error}");
        bed.server.set_fault(fault, Some(2));
        bed.fetch(LSN, early, LIMITS).await.unwrap();
    }
}

#[tokio::test]
async fn permanent_failures_are_not_tried_again() {
    let bed = Bed::new(&archive()).await;
    for code in [Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented] {
        bed.server.set_fault(Fault::Status(code, "no".to_owned()), None);
        assert_eq!(bed.fetch(LSN, false, LIMITS).await.unwrap_err().tries, 1, "{code:?}");
    }
}

#[tokio::test]
async fn an_early_connection_that_is_lost_is_replaced_at_once() {
    let bed = Bed::new(&archive()).await;
    // The connection is accepted, then closed before the call is sent.
    bed.server.set_fault(Fault::Refuse, Some(1));
    let limits = BasebackupLimits { retries: 0, ..LIMITS };
    bed.fetch(LSN, true, limits).await.unwrap();
}

#[tokio::test]
async fn silence_has_limits() {
    let bed = Bed::new(&archive()).await;
    let moment = Duration::from_millis(100);
    let limits = BasebackupLimits { first_byte: moment, stall: moment, retries: 0, ..LIMITS };
    bed.server.set_fault(Fault::Silence, None);
    let error = bed.fetch(LSN, false, limits).await.unwrap_err();
    assert!(matches!(error.error, FetchError::FirstByteTimeout(_)), "{error:?}");
    bed.server.set_fault(Fault::StallAfter(20), None);
    let error = bed.fetch(LSN, false, limits).await.unwrap_err();
    assert!(matches!(error.error, FetchError::Stalled(_)), "{error:?}");

    // Nothing listens on this port.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("grpc://{address}");
    let error = fetch(&url, &bed.pgdata(), LSN, true, limits).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "failed to get basebackup@0/2A3B4C8: cannot connect to pageserver {address}: \
             Connection refused (os error 111)"
        )
    );
}

#[test]
fn points_in_time() {
    let time = |seconds, nanos| point_in_time(Timestamp { seconds, nanos });
    let expected = SystemTime::UNIX_EPOCH + Duration::from_millis(1_760_000_600_250);
    assert_eq!(time(1_760_000_600, 250_000_000), Some(expected));
    for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
        assert_eq!(time(seconds, nanos), None, "{seconds} {nanos}");
    }
}
