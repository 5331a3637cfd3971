use super::*;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::background::Background;
use crate::services::testing::{FullPort, LONG, PATIENCE, SHORT, stalling};

/// An archive with one library and one control file.
fn good_archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["lib/x.so", "share/extension/x.control"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, b"test".as_slice()).unwrap();
    }
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(&builder.into_inner().unwrap()).unwrap();
    encoder.finish().unwrap()
}

struct Bed {
    store: Arc<ExtensionStore>,
    metrics: Metrics,
    asked: Arc<AtomicUsize>,
    /// With `gated`, answers wait for this.
    gate: Arc<Notify>,
    dir: TempDir,
}

impl Bed {
    /// A gateway that gives answer number n to request number n, the last one again and again.
    async fn new(gated: bool, answers: Vec<fn() -> Response>) -> Self {
        Self::limited(gated, answers, limits()).await
    }

    async fn limited(gated: bool, answers: Vec<fn() -> Response>, limits: DownloadLimits) -> Self {
        let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (counter, opened) = (Arc::clone(&asked), Arc::clone(&gate));
        let handler = move || {
            let n = counter.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let (answer, opened) = (answers[n], Arc::clone(&opened));
            async move {
                if gated {
                    opened.notified().await;
                }
                answer()
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = format!("http://{}/gw/", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(handler);
        tokio::spawn(async move { axum::serve(listener, app).await });
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), &gateway, limits);
        Self { store: Arc::new(store.0), metrics: store.1, asked, gate, dir }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn count(&self, status: &str) -> u64 {
        count(&self.metrics, status)
    }

    fn installed(&self) -> bool {
        let has = |name: &str| self.dir.path().join(name).is_file();
        let (library, control) = (has("lib/x.so"), has("share/extension/x.control"));
        assert_eq!(library, control);
        // No other file.
        let left = ["lib", "share/extension"].map(|dir| fs::read_dir(self.dir.path().join(dir)));
        let left: usize = left.into_iter().map(|dir| dir.unwrap().count()).sum();
        assert_eq!(left, if library { 2 } else { 0 });
        library
    }
}

fn count(metrics: &Metrics, status: &str) -> u64 {
    let series = format!(
        r#"compute_ctl_remote_ext_requests_total{{filename="x.tar.zst",http_status="{status}"}} "#
    );
    let text = metrics.render().unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.map_or(0, |value| value.parse().unwrap())
}

fn limits() -> DownloadLimits {
    DownloadLimits {
        pause: Duration::from_millis(1),
        compressed_bytes: 1 << 20,
        unpacked_bytes: 1 << 20,
        ..DownloadLimits::default()
    }
}

fn store(dir: &Path, gateway: &str, limits: DownloadLimits) -> (ExtensionStore, Metrics) {
    let mut install = PgInstall::for_tests();
    fs::create_dir_all(dir.join("share/extension")).unwrap();
    fs::create_dir(dir.join("lib")).unwrap();
    (install.pkglibdir, install.sharedir) = (Some(dir.join("lib")), Some(dir.join("share")));
    let metrics = Metrics::new().unwrap();
    let gateway = Some(Url::parse(gateway).unwrap());
    (ExtensionStore::new(gateway, &install, limits, &metrics, &Background::default()), metrics)
}

fn good() -> Response {
    good_archive().into_response()
}

fn missing() -> Response {
    StatusCode::NOT_FOUND.into_response()
}

fn unavailable() -> Response {
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

fn garbage() -> Response {
    "<html>".into_response()
}

/// An endless frame that inflates to nothing.
fn too_long() -> Response {
    let head =
        futures_util::stream::iter([Bytes::from_static(b"\x50\x2a\x4d\x18\xff\xff\xff\xff")]);
    let endless = futures_util::stream::repeat(Bytes::from_static(&[0; 4096]));
    Body::from_stream(head.chain(endless).map(Ok::<_, std::io::Error>)).into_response()
}

#[tokio::test]
async fn one_download_for_all_waiting_callers() {
    let bed = Bed::new(true, vec![good]).await;
    let waiters: Vec<_> = (0..10)
        .map(|_| {
            let store = Arc::clone(&bed.store);
            tokio::spawn(async move { store.fetch("x").await })
        })
        .collect();
    // The download goes on even if the caller that started it leaves.
    waiters[0].abort();
    bed.gate.notify_one();
    let size = good_archive().len() as u64;
    let mut sizes = Vec::new();
    for waiter in waiters {
        if let Ok(result) = waiter.await {
            sizes.push(result.unwrap());
        }
    }
    assert!(sizes.iter().all(|seen| *seen == 0 || *seen == size), "{sizes:?}");
    assert!(bed.installed());
    assert_eq!(bed.store.fetch("x").await.unwrap(), 0);
    assert_eq!((bed.asked(), bed.count("200 OK")), (1, 1));
}

#[tokio::test]
async fn a_failure_is_told_to_all_and_forgotten() {
    let bed = Bed::new(false, vec![missing, good]).await;
    let (first, second) = tokio::join!(bed.store.fetch("x"), bed.store.fetch("x"));
    for result in [first, second] {
        let error = result.unwrap_err().to_string();
        assert_eq!(
            error,
            "unexpected remote extensions server response status code: 404 Not Found"
        );
    }
    assert!(!bed.installed());
    assert_eq!((bed.asked(), bed.count("404 Not Found")), (1, 1));
    assert!(bed.store.fetch("x").await.unwrap() > 0);
    assert!(bed.installed());
}

#[tokio::test]
async fn a_temporary_failure_is_tried_again() {
    let bed = Bed::new(false, vec![unavailable, garbage, good]).await;
    bed.store.fetch("x").await.unwrap();
    assert!(bed.installed());
    assert_eq!((bed.count("503 Service Unavailable"), bed.count("200 OK")), (1, 2));

    let bed = Bed::new(false, vec![unavailable]).await;
    let error = bed.store.fetch("x").await.unwrap_err().to_string();
    assert_eq!(error, "remote extensions server is temporarily unavailable");
    assert_eq!(bed.asked(), 3);
}

fn elsewhere() -> Response {
    (StatusCode::FOUND, [("location", "http://127.0.0.1:1/internal")]).into_response()
}

/// The target could be a port of this program.
#[tokio::test]
async fn a_gateway_that_points_elsewhere_is_not_followed() {
    let bed = Bed::new(false, vec![elsewhere]).await;
    let error = bed.store.fetch("x").await.unwrap_err().to_string();
    assert!(error.contains(" redirects to http://127.0.0.1:1: a redirect to another"), "{error}");
    assert_eq!(bed.asked(), 1, "not tried again");
}

#[tokio::test]
async fn a_body_has_its_limit_whatever_its_header_says() {
    let bed = Bed::new(false, vec![too_long]).await;
    let error = bed.store.fetch("x").await.unwrap_err();
    assert!(matches!(*error, DownloadError::TooLarge(limit) if limit == 1 << 20), "{error}");
    assert!(!bed.installed());
    assert_eq!(bed.asked(), 1, "not tried again");
}

#[tokio::test]
async fn every_wait_for_the_gateway_ends() {
    let full = FullPort::open();
    let mute = stalling(b"").await;
    let half = stalling(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n\x28\xb5").await;
    let patient = DownloadLimits { connect: LONG, idle: LONG, total: LONG, ..limits() };
    let connect = DownloadLimits { connect: SHORT, ..patient.clone() };
    let idle = DownloadLimits { idle: SHORT, ..patient.clone() };
    let total = DownloadLimits { total: SHORT, ..patient };
    for (case, gateway, limits, status) in [
        ("connect", full.address(), &connect, "unknown"),
        ("idle, no answer", mute, &idle, "unknown"),
        ("idle, half an answer", half, &idle, "200 OK"),
        ("total, no answer", mute, &total, "unknown"),
        ("total, half an answer", half, &total, "200 OK"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (store, metrics) = store(dir.path(), &format!("http://{gateway}/"), limits.clone());
        let ended = timeout(PATIENCE, store.fetch("x")).await;
        let error = ended.unwrap_or_else(|_| panic!("{case}: no end")).unwrap_err();
        assert!(
            matches!(*error, DownloadError::Transport { timed_out: true, .. }),
            "{case}: {error}"
        );
        assert_eq!(count(&metrics, status), 1, "{case}");
    }
}

/// A spec that has Postgres load the library of the extension.
fn preloading() -> ComputeSpec {
    serde_json::from_value(json!({
        "format_version": 1, "suspend_timeout_seconds": 0,
        "cluster": {"roles": [], "databases": [], "settings": [
            {"name": "shared_preload_libraries", "vartype": "string", "value": "x"}
        ]},
        "remote_extensions": {
            "public_extensions": ["x"],
            "custom_extensions": null,
            "library_index": {"x": "x"},
            "extension_data": {"x": {"control_data": {}, "archive_path": ""}},
        }
    }))
    .unwrap()
}

#[tokio::test]
async fn a_start_does_not_wait_without_a_limit() {
    let limits = DownloadLimits { preload: SHORT, ..limits() };
    let bed = Bed::limited(true, vec![good], limits).await;
    let spec = preloading();
    let loaded = timeout(PATIENCE, bed.store.before_postgres(&spec)).await.unwrap().unwrap();
    assert_eq!((loaded.count, loaded.total), (0, 0));
    assert!(!bed.installed());
    // The download goes on, and Postgres gets its files later.
    bed.gate.notify_one();
    timeout(PATIENCE, bed.store.fetch("x")).await.unwrap().unwrap();
    assert!(bed.installed());
    assert_eq!(bed.asked(), 1);
}

#[tokio::test]
async fn the_remains_of_a_killed_process_are_removed() {
    let bed = Bed::new(false, vec![good]).await;
    for folder in ["lib", "share/extension"] {
        let remains = bed.dir.path().join(folder).join(".compute_ctl-tmp-Ab3dEf/sub");
        fs::create_dir_all(&remains).unwrap();
        fs::write(remains.join("x.so"), "half").unwrap();
    }
    bed.store.before_postgres(&preloading()).await.unwrap();
    assert!(bed.installed(), "and nothing else is there");
}

#[tokio::test]
async fn a_gateway_that_is_down() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let dir = tempfile::tempdir().unwrap();
    let (store, metrics) = store(dir.path(), &gateway, limits());
    let error = store.fetch("x").await.unwrap_err().to_string();
    assert!(error.starts_with("could not perform remote extensions server request: "), "{error}");
    assert!(error.contains("refused"), "{error}");
    assert_eq!(count(&metrics, "unknown"), 3);
}

#[tokio::test]
async fn folders_that_cannot_be_written_are_named() {
    let bed = Bed::new(false, vec![good]).await;
    fs::remove_dir(bed.dir.path().join("lib")).unwrap();
    let error = bed.store.fetch("x").await.unwrap_err().to_string();
    assert!(error.contains("temporary folder in") && error.contains("/lib: "), "{error}");
    assert_eq!(bed.asked(), 1, "not tried again");
}
