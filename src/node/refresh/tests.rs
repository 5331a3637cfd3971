use std::sync::Arc;

use super::*;
use crate::node::ComputeParams;
use crate::os::children::Children;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::LogSink;
use futures_util::FutureExt as _;
use tokio::time::Instant;

fn running() -> Arc<ComputeNode> {
    let log = LogSink::new(std::io::sink()).unwrap();
    let metrics = Metrics::new().unwrap();
    let params = ComputeParams::for_tests();
    let node = ComputeNode::new(params, None, Children::new(), log, metrics).0;
    node.begin_start().unwrap();
    node.apply(Event::Succeeded).unwrap();
    node
}

fn refreshed(node: &ComputeNode) {
    node.refresh().unwrap();
    node.refresh_asked().now_or_never().expect("it was asked for");
    node.begin_refresh().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_next_fetch_rests_and_nothing_else_does() {
    let node = running();
    refreshed(&node);
    node.rest_from_refreshes();
    node.apply(Event::Succeeded).unwrap();
    let began = Instant::now();
    for _ in 0..3 {
        node.refresh().unwrap();
        assert_eq!(node.status(), ComputeStatus::Running);
    }
    node.apply(Event::Configure).unwrap();
    node.apply(Event::BeginConfiguration).unwrap();
    assert_eq!(node.refresh(), Err(WrongStatus(ComputeStatus::Configuration)));
    node.apply(Event::Succeeded).unwrap();

    node.refresh_asked().await;
    assert_eq!(began.elapsed(), node.params.timeouts.refresh.rest);
    assert_eq!(node.begin_refresh(), Ok(ComputeStatus::RefreshConfiguration));
    node.apply(Event::Succeeded).unwrap();
    assert!(node.refresh_asked().now_or_never().is_none(), "three requests are one fetch");
}

#[tokio::test(start_paused = true)]
async fn a_failed_compute_does_not_rest() {
    let node = running();
    node.rest_from_refreshes();
    node.apply(Event::Configure).unwrap();
    node.apply(Event::BeginConfiguration).unwrap();
    node.fail("x".to_owned()).unwrap();
    let began = Instant::now();
    node.refresh().unwrap();
    assert_eq!(node.status(), ComputeStatus::RefreshConfigurationPending);
    node.refresh_asked().await;
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
}

/// A permit that is left over, because a retry has served the request, begins nothing.
#[tokio::test(start_paused = true)]
async fn a_request_that_was_served_is_not_served_again() {
    let node = running();
    refreshed(&node);
    node.apply(Event::Failed).unwrap();
    node.refresh().unwrap();
    node.begin_refresh().unwrap();
    node.apply(Event::Succeeded).unwrap();
    node.refresh_asked().await;
    assert_eq!(node.begin_refresh(), Err(WrongStatus(ComputeStatus::Running)));
}

#[tokio::test(start_paused = true)]
async fn a_request_joins_the_refresh_under_way() {
    let node = running();
    #[expect(clippy::async_yields_async, reason = "the caller waits for the task later")]
    let join = || {
        let node = Arc::clone(&node);
        let joined = tokio::spawn(async move { node.refresh_or_join().await });
        async move {
            tokio::task::yield_now().await;
            joined
        }
    };
    // It has put another spec in force.
    refreshed(&node);
    let joined = join().await;
    node.apply(Event::Succeeded).unwrap();
    assert_eq!(joined.await.unwrap(), Ok(()));
    assert_eq!(node.status(), ComputeStatus::Running);

    // It has failed, and is tried again at once.
    refreshed(&node);
    let joined = join().await;
    node.apply(Event::Failed).unwrap();
    assert_eq!(joined.await.unwrap(), Ok(()));
    node.refresh_asked().now_or_never().expect("asked for");
    node.begin_refresh().unwrap();

    // It has found nothing new: what has changed since is fetched after the rest.
    let joined = join().await;
    node.rest_from_refreshes();
    node.apply(Event::Succeeded).unwrap();
    assert_eq!(joined.await.unwrap(), Ok(()));
    assert_eq!(node.status(), ComputeStatus::Running);
    node.refresh_asked().await;
    node.begin_refresh().unwrap();

    // It takes longer than a caller waits.
    let began = Instant::now();
    let refused = Err(WrongStatus(ComputeStatus::RefreshConfiguration));
    assert_eq!(node.refresh_or_join().await, refused);
    assert_eq!(began.elapsed(), node.params.timeouts.refresh.joined);
}
