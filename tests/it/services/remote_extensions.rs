//! Extensions from a gateway: Postgres gets each requested file, downloaded once. Whatever the
//! gateway does, the request is answered and no partial file is left.

use std::fs;
use std::io::Write as _;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{Bed, names};
use crate::support::network::{HttpStub, Reply};
use crate::support::process::Compute;
use crate::support::server::{Relocated, on_one_server};

const CONTROL: &str = "default_version = '1.0'\nrelocatable = true\n";
const SQL: &str = "CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42';";

/// A zstd-compressed tar of these files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // Written directly: the builder would refuse some names.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(&builder.into_inner().unwrap()).unwrap();
    encoder.finish().unwrap()
}

pub fn sql_only() -> Vec<u8> {
    archive(&[
        ("share/extension/hypo_geo.control", CONTROL.as_bytes()),
        ("share/extension/hypo_geo--1.0.sql", SQL.as_bytes()),
    ])
}

pub fn remote_extensions() -> Value {
    let data = |control: Value| json!({"control_data": control, "archive_path": ""});
    json!({
        "public_extensions": ["hypo_geo"],
        "custom_extensions": [],
        "library_index": {"hypo_geo-2": "hypo_geo", "hypo": "hypo_geo", "locked": "locked"},
        "extension_data": {
            "hypo_geo": data(json!({"hypo_geo.control": CONTROL, "../evil.control": ""})),
            "locked": data(json!({"locked.control": CONTROL})),
        },
    })
}

fn start(bed: &Bed, gateway: &HttpStub) -> Compute {
    let mut args = bed.config_args();
    args.extend(["--remote-ext-base-url".to_owned(), format!("{}/gw/", gateway.url())]);
    bed.start_with(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Sends the request that Postgres sends.
async fn fetch(compute: &Compute, name: &str) -> (u16, String) {
    let url = format!("{}/extension_server/{name}", compute.internal);
    let response = compute.http.post(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn error(text: &str) -> String {
    json!({"error": text}).to_string()
}

async fn metric(compute: &Compute, status: &str) -> Option<String> {
    let (_, text) = compute.get("/metrics").await;
    let series = format!(
        "compute_ctl_remote_ext_requests_total{{filename=\"hypo_geo.tar.zst\",http_status=\"{status}\"}} "
    );
    let mut lines = text.as_str().unwrap().lines();
    lines.find_map(|line| line.strip_prefix(&series)).map(str::to_owned)
}

/// No file of an unfinished download is left.
fn assert_no_remains(folders: &Relocated) {
    for folder in [&folders.libraries, &folders.extensions] {
        let names = names(folder);
        assert!(!names.iter().any(|name| name.starts_with(".compute_ctl")), "{names:?}");
    }
}

async fn finish(mut compute: Compute, bed: &Bed) {
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    assert_nothing_left(bed);
}

#[tokio::test]
async fn an_extension_is_fetched_once_and_can_be_created() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let Some(folders) = bed.relocate_server().await else { return };
        fs::write(folders.extensions.join("hypo_geo.control"), "comment = 'mine'\n").unwrap();
        bed.spec.member("remote_extensions", remote_extensions());
        let gateway = HttpStub::start(Reply::Answer(200, sql_only()).held()).await;
        let mut compute = start(&bed, &gateway);
        compute.wait_for("running").await;
        assert_eq!(gateway.count(), 0);
        // The control files of the spec: they never replace a local one, and are written neither
        // for extensions that are not allowed nor outside the folder.
        let local = fs::read_to_string(folders.extensions.join("hypo_geo.control")).unwrap();
        assert_eq!(local, "comment = 'mine'\n");
        assert!(!folders.extensions.join("locked.control").exists());
        assert!(!folders.extensions.join("../evil.control").exists());
        compute.wait_for_log("has another one").await;

        // Ten requests at once; one client disconnects.
        let url = format!("{}/extension_server/hypo_geo", compute.internal);
        let ask = || tokio::spawn(compute.http.post(&url).send());
        let impatient = ask();
        gateway.wait_for(1).await;
        let waiting: Vec<_> = (0..9).map(|_| ask()).collect();
        impatient.abort();
        gateway.release();
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap().unwrap().status().as_u16(), 200);
        }
        assert_eq!(fetch(&compute, "hypo_geo").await, (200, String::new()));
        assert_eq!(fetch(&compute, "hypo_geo-2.so?is_library=true").await, (200, String::new()));
        assert_eq!(fetch(&compute, "hypo.so.3?is_library=true").await, (200, String::new()));
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let version = format!("v{}", bed.server.major);
        let tag = compute_ctl::telemetry::metrics::BUILD_TAG;
        assert_eq!(
            gateway.lines(),
            [format!("GET /gw/{tag}/{arch}/{version}/extensions/hypo_geo.tar.zst")]
        );
        assert_eq!(metric(&compute, "200 OK").await.as_deref(), Some("1"));

        let sql = compute.sql().await;
        sql.batch_execute("CREATE EXTENSION hypo_geo").await.unwrap();
        assert_eq!(compute.sql_text("SELECT answer()").await, "42");
        assert_no_remains(&folders);
        finish(compute, &bed).await;
    })
    .await;
}

#[tokio::test]
async fn refusals_have_their_codes() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let Some(folders) = bed.relocate_server().await else { return };
        let gateway = HttpStub::start(Reply::Answer(200, sql_only())).await;

        // Without a gateway.
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let answer = fetch(&compute, "hypo_geo").await;
        assert_eq!(answer, (412, error("remote storage is not configured")));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);

        // First without `remote_extensions`, then with some by `/configure`.
        let mut compute = start(&bed, &gateway);
        compute.wait_for("running").await;
        let unavailable = error("information about remote extensions is unavailable");
        assert_eq!(fetch(&compute, "hypo_geo").await, (409, unavailable.clone()));
        bed.spec.member("remote_extensions", remote_extensions());
        let control = folders.extensions.join("hypo_geo.control");
        assert!(!control.exists());
        let (code, _) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200);
        // So that Postgres knows the extension, and requests it (07 W16).
        assert_eq!(fs::read_to_string(control).unwrap(), CONTROL);
        for (name, text) in [
            ("other", "extension other is not found"),
            ("locked", "extension locked is not found"),
            ("locked.so?is_library=true", "extension locked is not found"),
            ("none.so.2?is_library=true", "library none is not found"),
            ("a%20b/c", "extension a b/c is not found"),
        ] {
            assert_eq!(fetch(&compute, name).await, (404, error(text)), "{name}");
        }
        let text = "failed to deserialize query string: is_library: provided string was not `true` or \
                    `false`";
        assert_eq!(fetch(&compute, "hypo_geo?is_library=maybe").await, (400, error(text)));
        let (code, text) = fetch(&compute, "%ff").await;
        assert_eq!((code, text), (400, error("invalid url: invalid utf-8 in `filename`")));
        assert_eq!(fetch(&compute, "").await.0, 404);
        assert_eq!(gateway.count(), 0);
        finish(compute, &bed).await;

        // Without a spec.
        let config = json!({"compute_ctl_config": {"jwks": {"keys": []}}});
        let config = bed.write("empty.json", &config).display().to_string();
        let url = gateway.url();
        let mut compute = bed.start_with(&["-i", "c1", "-c", &config, "-r", &url]);
        compute.wait_for("empty").await;
        assert_eq!(fetch(&compute, "hypo_geo").await, (409, unavailable));
        let (code, _) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200);
        assert_eq!(fetch(&compute, "hypo_geo").await.0, 200);
        finish(compute, &bed).await;
    })
    .await;
}

/// After every fault all requests are answered, no file is left, and a later request starts anew.
#[tokio::test]
async fn whatever_the_gateway_does() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let Some(folders) = bed.relocate_server().await else { return };
        bed.spec.member("remote_extensions", remote_extensions());
        let good = sql_only();
        let mut wrong = good.clone();
        *wrong.last_mut().unwrap() ^= 1;
        let gateway = HttpStub::start(Reply::Answer(404, Vec::new())).await;
        let mut compute = start(&bed, &gateway);
        compute.wait_for("running").await;

        let climbing = archive(&[
            ("share/extension/hypo_geo--1.0.sql", b""),
            ("share/extension/../evil", b""),
        ]);
        let transport = "could not perform remote extensions server request: ";
        let status = "unexpected remote extensions server response status code: ";
        let cases = [
            (Reply::Answer(404, Vec::new()), format!("{status}404 Not Found"), 1),
            (Reply::Answer(500, Vec::new()), format!("{status}500 Internal Server Error"), 3),
            (
                Reply::Answer(503, Vec::new()),
                "remote extensions server is temporarily unavailable".to_owned(),
                3,
            ),
            (Reply::Truncated(good.clone()), transport.to_owned(), 3),
            (Reply::Reset, transport.to_owned(), 3),
            (Reply::Lie(2 << 30, good.clone()), "the archive has more than".to_owned(), 1),
            (Reply::Lie(1 << 29, good.clone()), transport.to_owned(), 3),
            (Reply::Answer(200, wrong), "not a complete zstd-compressed tar".to_owned(), 3),
            (Reply::Answer(200, b"<html>".to_vec()), "not a complete zstd".to_owned(), 3),
            (Reply::Answer(200, climbing), "leads out of its folder".to_owned(), 1),
        ];
        for (reply, text, tries) in cases {
            gateway.reply(reply.clone());
            let before = gateway.count();
            let (first, second) =
                tokio::join!(fetch(&compute, "hypo_geo"), fetch(&compute, "hypo_geo"));
            for (code, answer) in [&first, &second] {
                assert_eq!(*code, 500, "{reply:?}: {answer}");
                let head = "Failed to download a remote file: error downloading extension \
                            \\\"hypo_geo\\\": ";
                assert!(answer.contains(head) && answer.contains(&text), "{reply:?}: {answer}");
            }
            // The second request may have come after the first was over.
            let tried = gateway.count() - before;
            assert!(tried == tries || tried == 2 * tries, "{reply:?}: {tried} tries");
            assert!(!folders.extensions.join("hypo_geo--1.0.sql").exists(), "{reply:?}");
            assert_no_remains(&folders);
        }
        assert!(metric(&compute, "404 Not Found").await.is_some());
        assert!(metric(&compute, "503 Service Unavailable").await.is_some());
        assert!(metric(&compute, "unknown").await.is_some());

        gateway.reply(Reply::Answer(200, good));
        assert_eq!(fetch(&compute, "hypo_geo").await, (200, String::new()));
        assert!(folders.extensions.join("hypo_geo--1.0.sql").is_file());
        finish(compute, &bed).await;
    })
    .await;
}

/// If compute_ctl may not write to a folder, the error says so.
#[tokio::test]
async fn folders_that_cannot_be_written() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let Some(folders) = bed.relocate_server().await else { return };
        bed.spec.member("remote_extensions", remote_extensions());
        let gateway = HttpStub::start(Reply::Answer(200, sql_only())).await;
        let mode = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(&folders.extensions, mode).unwrap();
        };
        mode(0o555);
        // A compute without the extension is better than none (02 W11).
        let mut compute = start(&bed, &gateway);
        compute.wait_for("running").await;
        compute.wait_for_log("could not write the control file \"hypo_geo.control\"").await;
        let (code, text) = fetch(&compute, "hypo_geo").await;
        assert_eq!(code, 500, "{text}");
        for part in ["permission denied", "/share/", "must be able to write there"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        mode(0o755);
        assert_eq!(fetch(&compute, "hypo_geo").await, (200, String::new()));
        finish(compute, &bed).await;
    })
    .await;
}

/// A library of the server under another name, as if it were a remote one.
fn with_library(folders: &Relocated) -> Option<Vec<u8>> {
    let library = ["auto_explain.so", "plpgsql.so"]
        .iter()
        .find_map(|name| fs::read(folders.libraries.join(name)).ok())?;
    Some(archive(&[
        ("lib/hypo.so", library.as_slice()),
        ("share/extension/hypo_geo--1.0.sql", SQL.as_bytes()),
    ]))
}

#[tokio::test]
async fn preloaded_libraries_are_there_before_postgres() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let Some(folders) = bed.relocate_server().await else { return };
        let archive = with_library(&folders).unwrap();
        bed.spec.member("remote_extensions", remote_extensions());
        bed.spec.set("shared_preload_libraries", "hypo");
        let gateway = HttpStub::start(Reply::Answer(200, archive.clone()).held()).await;
        let mut compute = start(&bed, &gateway);
        gateway.wait_for(1).await;
        assert!(!bed.pgdata().join("postmaster.pid").exists());
        gateway.release();
        compute.wait_for("running").await;
        assert_eq!(compute.sql_text("SHOW shared_preload_libraries").await, "hypo");
        let (_, metrics) = compute.get("/metrics.json").await;
        assert_eq!(metrics["num_ext_downloaded"], 1);
        assert_eq!(metrics["largest_ext_size"], archive.len());
        assert_eq!(metrics["total_ext_download_size"], archive.len());
        assert_eq!(gateway.count(), 1);
        // Created from a control file of the spec and the content of the archive.
        compute.sql().await.batch_execute("CREATE EXTENSION hypo_geo").await.unwrap();
        finish(compute, &bed).await;
    })
    .await;
}

#[tokio::test]
async fn preloaded_libraries_that_cannot_be_had() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let Some(_) = bed.relocate_server().await else { return };
        bed.spec.member("remote_extensions", remote_extensions());
        let gateway = HttpStub::start(Reply::Answer(500, Vec::new())).await;

        // Indexed, but not allowed: no download is begun.
        bed.spec.set("shared_preload_libraries", "locked");
        let mut compute = start(&bed, &gateway);
        let failure = compute.wait_for_failure().await;
        assert!(failure.contains("shared_preload_libraries"), "{failure}");
        assert!(failure.contains("extension locked is not found"), "{failure}");
        assert_eq!((gateway.count(), bed.pageserver.journal().commands().len()), (0, 0));
        compute.dismiss().await;

        // The gateway fails, for two libraries of one extension: Postgres is started nevertheless.
        bed.spec.set("shared_preload_libraries", "hypo, hypo_geo-2, hypo");
        let mut compute = start(&bed, &gateway);
        compute.wait_for_failure().await;
        eventually("postgres was started", || compute.log().contains("could not access file"))
            .await;
        compute.assert_logged("Failed to download extension: \"hypo_geo\"", 2).await;
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}
