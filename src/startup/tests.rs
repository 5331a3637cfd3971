use std::io::Write;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::dev::pageserver::{Fault, PageserverOptions, StandInPageserver};
use crate::dev::safekeeper::{SafekeeperBehaviour, StandInSafekeeper};
use crate::dev::spec::SpecBuilder;
use crate::node::ComputeParams;
use crate::node::requests::Request;
use crate::os::children::Children;
use crate::spec::wire::ComputeSpec;
use crate::storage::sync::SyncLimits;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::LogSink;
use crate::timeouts::Timeouts;

/// A compute on this directory, with a spec and without a Postgres.
fn node(
    pgdata: &Path,
    spec: &SpecBuilder,
) -> (Arc<ComputeNode>, AcceptedSpec, UnboundedReceiver<Request>) {
    let spec: ComputeSpec = serde_json::from_value(spec.spec()).unwrap();
    let params = ComputeParams {
        pgdata: pgdata.to_owned(),
        // A slow answer on a busy machine must not cause a sync.
        timeouts: Timeouts {
            sync: SyncLimits { answer: Duration::from_secs(60), ..SyncLimits::default() },
            ..Timeouts::default()
        },
        ..ComputeParams::for_tests()
    };
    let spec = params.accept(ParsedSpec::try_from(spec).unwrap()).unwrap();
    let log = LogSink::new(std::io::sink()).unwrap();
    let metrics = Metrics::new().unwrap();
    let (node, requests) = ComputeNode::new(params, Some(&spec), Children::new(), log, metrics);
    (node, spec, requests)
}

/// The node shows how much has arrived during the basebackup, and a start that is dropped leaves
/// nothing behind that still writes.
#[tokio::test]
async fn the_basebackup_can_be_followed_and_given_up() {
    const SENT: u64 = 1000;
    let dir = tempfile::tempdir().unwrap();
    let mut noise = vec![0; 10_000];
    fastrand::Rng::with_seed(7).fill(&mut noise);
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&noise).unwrap();
    let archive = dir.path().join("base.tar.gz");
    std::fs::write(&archive, packer.finish().unwrap()).unwrap();
    let options = PageserverOptions { archive, ..Default::default() };
    let pageserver = StandInPageserver::start(options).await.unwrap();
    pageserver.set_fault(Fault::StallAfter(SENT), None);
    let safekeeper = StandInSafekeeper::start(0, SafekeeperBehaviour::at(1)).await.unwrap();

    let pgdata = dir.path().join("pgdata");
    std::fs::create_dir(&pgdata).unwrap();
    let spec =
        SpecBuilder::new(pageserver.connstring(), vec![safekeeper.address()], 5432, dir.path());
    let (node, spec, _requests) = node(&pgdata, &spec);
    let mut leftovers = Leftovers::default();
    assert_eq!(node.basebackup.bytes(), 0);
    let followed = async {
        while node.basebackup.bytes() < SENT {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        outcome = prepare_pgdata(&node, &spec, &mut leftovers) => panic!("{outcome:?}"),
        () = followed => {}
    }
    assert_eq!(node.basebackup.bytes(), SENT);
    let phases = node.phases();
    let last = phases.last().unwrap();
    assert_eq!(last.phase, StartPhase::Basebackup);
    assert!(phases.iter().all(|phase| phase.took.is_some()), "dropped, so none is in progress");
    // A writer that still ran would make this fail or leave something behind.
    std::fs::remove_dir_all(&pgdata).unwrap();
    assert!(!pgdata.exists());
}
