//! The page of a compute, as its operator gets it and as a browser shows it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use compute_ctl::dev::pageserver::Fault;
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use tokio::process::Command;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::{Compute, DevBed};
use crate::support::server::on_one_server;

/// The limit of one run of the browser; a busy machine needs long.
const LIMIT: Duration = Duration::from_secs(120);

/// Text that would be a script, if a page took it for HTML.
const HOSTILE: &str = "<script>document.title = 'taken'</script><img src=http://other.example/x>";

async fn page(compute: &Compute, path: &str) -> (StatusCode, String) {
    let response = compute.http.get(format!("{}{path}", compute.internal)).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

/// Waits until the page has all these parts.
async fn shows(compute: &Compute, parts: &[&str]) -> String {
    until(&format!("the page shows {parts:?}"), || async {
        let has = async {
            let response = compute.http.get(&compute.internal).send().await.ok()?;
            let text = response.text().await.ok()?;
            Some(parts.iter().all(|part| text.contains(part)))
        };
        has.await.unwrap_or_default()
    })
    .await;
    page(compute, "/").await.1
}

/// A start that stalls, one that runs, and one that fails.
#[tokio::test]
async fn it_follows_the_compute() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("operation_uuid", HOSTILE.into());
        bed.pageserver.set_fault(Fault::StallAfter(100_000), None);
        let mut compute = bed.start();
        let parts = [">init</h1>", "100000 bytes of the basebackup", "1 of ", "class=\"open\""];
        let text = shows(&compute, &parts).await;
        assert!(text.contains("the compute is starting"), "{text}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);

        bed.pageserver.clear_faults();
        let mut compute = bed.start();
        let text = shows(&compute, &[">running</h1>", ">ready</p>", "apply_catalog"]).await;
        assert!(text.contains("&lt;script&gt;") && !text.contains("<script"), "{text}");
        // A setting that only a start can change.
        bed.spec.set("max_wal_senders", "7");
        assert_eq!(compute.configure(&bed).await.0, StatusCode::OK);
        let waits =
            "Waits for a restart of Postgres: </strong><code><bdi>max_wal_senders</bdi></code>";
        shows(&compute, &[waits, "reconfiguration (<bdi>/configure"]).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);

        bed.spec.set("no_such_setting_anywhere", HOSTILE);
        let mut compute = bed.start();
        let text = shows(&compute, &[">failed</h1>", "Failed in <code>start_postgres"]).await;
        assert!(text.contains("#status-failed-postgres"), "{text}");
        assert!(!text.contains("<script") && !text.contains("<img"), "{text}");
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// A `/configure` that waits for a lock shows what it works on.
#[tokio::test]
async fn it_shows_a_reconfiguration() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.allow_holding();
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("ann", None);
        let mut compute = bed.start();
        compute.wait_for("running").await;
        compute.hold_in("postgres", "ALTER ROLE ann CONNECTION LIMIT 5").await;
        bed.spec.roles.clear();
        bed.spec.role("ann", Some("0123456789abcdef0123456789abcdef"));
        let looks = async {
            let parts =
                [">configuration</h1>", "<h2>In progress</h2>", "<code>apply_catalog</code>"];
            let text = shows(&compute, &parts).await;
            assert!(text.contains(">ready</p>"), "Postgres serves all the time: {text}");
            compute.release_in("postgres").await;
        };
        let ((code, answer), ()) = tokio::join!(compute.configure(&bed), looks);
        assert_eq!(code, StatusCode::OK, "{answer}");
        let text = shows(&compute, &[">running</h1>", "reconfiguration (<bdi>/configure"]).await;
        assert!(!text.contains("In progress"), "{text}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// `dev` has it on the external port, where its user looks, for this machine only.
#[tokio::test]
async fn dev_has_it_on_the_external_port() {
    on_one_server(|server| async {
        let bed = DevBed::new(server);
        let mut dev = bed.start(&[]);
        let url = dev.printed("curl ").await;
        let base = url.strip_suffix("/status").unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
        let get = async |path: &str| {
            let response = http.get(format!("{base}{path}")).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            response.text().await.unwrap()
        };
        let page = get("/").await;
        for part in [">running</h1>", ">ready</p>", "<svg", "Status changes", "Log"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        // Every link of the page leads somewhere on this port.
        for link in ["details", "api", "openapi.json", "?refresh=0"] {
            assert!(page.contains(&format!("href=\"{link}\"")), "{link}: {page}");
            get(&format!("/{link}")).await;
        }
        let rebound = http.get(base).header("host", "rebound.example").send().await.unwrap();
        assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
        assert_eq!(dev.stop(Signal::SIGINT).await, 0, "{}", dev.output());
        bed.assert_nothing_left();
    })
    .await;
}

/// The first of these browsers that is installed.
fn browser() -> &'static str {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&folders).collect();
    let installed = |name: &&str| folders.iter().any(|folder| folder.join(name).is_file());
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(installed);
    found.expect("there is no Chromium, deploy/prepare --tests installs it")
}

/// What the browser says on stdout; its console must be empty.
async fn browse(dir: &Path, url: &str, arguments: &[&str]) -> String {
    let profile = tempfile::tempdir_in(dir).unwrap();
    let mut command = Command::new(browser());
    command
        // The tests may run as root, in a container.
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
        // A request to another machine fails, and says so.
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .args(["--enable-logging=stderr", "--v=0", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(url)
        .current_dir(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.expect("it takes too long");
    let output = output.expect("the browser cannot be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    let console: Vec<_> = stderr.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "{url} {arguments:?}: {console:#?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The picture of a page: a PNG of this size.
async fn picture(dir: &Path, url: &str, name: &str, size: (u32, u32), dark: bool) {
    let file = dir.join(format!("{name}.png"));
    let window = format!("--window-size={},{}", size.0, size.1);
    let screenshot = format!("--screenshot={}", file.display());
    let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!dark));
    browse(dir, url, &[&window, &screenshot, &scheme]).await;
    let bytes = std::fs::read(&file).unwrap();
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    assert!(bytes.starts_with(b"\x89PNG"), "{name}");
    assert_eq!((number(16), number(20)), size, "{name}");
    // An empty page is far smaller.
    assert!(bytes.len() > 20_000, "{name}: {} bytes", bytes.len());
    if let Some(kept) = std::env::var_os("KEEP_PICTURES") {
        std::fs::copy(&file, PathBuf::from(kept).join(format!("{name}.png"))).unwrap();
    }
}

/// Light and dark, wide and narrow: no error and no refused request in the console, and no script.
#[tokio::test]
#[ignore = "slow: .ci/run runs it"]
async fn a_browser_shows_it() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.role("ann", None).database("shop", "ann");
        bed.spec.skip_pg_catalog_updates = false;
        let compute = &mut bed.start();
        compute.wait_for("running").await;
        bed.spec.role("<script>alert(1)</script>", None).set("work_mem", "8MB");
        bed.spec.set("max_wal_senders", "7");
        assert_eq!(compute.configure(&bed).await.0, StatusCode::OK);
        let dir = tempfile::tempdir().unwrap();
        let (page, reference) =
            (format!("{}/", compute.internal), format!("{}/api", compute.internal));
        for (name, width, dark) in [
            ("running-light", 1280, false),
            ("running-dark", 1280, true),
            ("running-narrow", 500, false),
        ] {
            picture(dir.path(), &page, name, (width, 1600), dark).await;
        }
        picture(dir.path(), &reference, "api", (1280, 1600), false).await;
        let dom = browse(dir.path(), &page, &["--dump-dom"]).await;
        assert!(dom.contains(">running</h1>") && !dom.contains("<script"), "{dom}");
        assert!(!dom.contains("<title>taken"), "{dom}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);

        bed.spec.set("no_such_setting_anywhere", HOSTILE);
        let mut compute = bed.start();
        compute.wait_for_failure().await;
        picture(dir.path(), &page, "failed", (1280, 1600), false).await;
        compute.dismiss().await;

        bed.spec.settings.shift_remove("no_such_setting_anywhere");
        bed.pageserver.set_fault(Fault::StallAfter(100_000), None);
        let mut compute = bed.start();
        shows(&compute, &["100000 bytes of the basebackup"]).await;
        picture(dir.path(), &page, "starting", (1280, 1600), false).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
