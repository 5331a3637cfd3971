//! Work beside Postgres ends with the compute, even if its peer does not answer, and leaves
//! nothing.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::assertions::{assert_nothing_left, eventually, until};
use crate::support::bed::{Bed, names};
use crate::support::network::{HttpStub, Reply};
use crate::support::server::on_one_server;

/// The time after the answer within which the process ends, on a busy machine too.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_prewarm_and_an_offload() {
    on_one_server(|server| async {
        let storage = HttpStub::start(Reply::Answer(200, Vec::new()).held()).await;
        let mut bed = Bed::new(server).await;
        bed.prewarm_from(&storage);
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let state = "CREATE SCHEMA neon; \
             CREATE FUNCTION neon.get_local_cache_state(max_chunks int DEFAULT NULL) RETURNS bytea \
             LANGUAGE sql AS $$SELECT '\\x00'::bytea$$";
        compute.run(state).await;
        for path in ["/lfc/prewarm", "/lfc/offload"] {
            assert_eq!(compute.post(path, None).await.0.as_u16(), 202);
        }
        storage.wait_for(2).await;
        let (code, _) = compute.post("/terminate", None).await;
        assert_eq!(code.as_u16(), 200);
        // The process stays for a while, the downloads do not.
        for (path, what) in [("/lfc/prewarm", "prewarm"), ("/lfc/offload", "offload")] {
            let state = compute.get(path).await.1;
            let error = format!("the {what} was interrupted: the compute is ending");
            assert_eq!(state, json!({"status": "failed", "error": error}));
            assert_eq!(compute.post(path, None).await.0.as_u16(), 202);
        }
        let again = compute.prewarm_outcome().await;
        assert!(
            again["error"].as_str().unwrap().starts_with("connecting to postgres: "),
            "{again}"
        );
        until("the offload has ended", || async {
            compute.get("/lfc/offload").await.1["status"] != "offloading"
        })
        .await;
        assert_eq!(storage.count(), 2, "nothing is begun any more");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The first half of an archive is unpacked already, and is removed.
#[tokio::test]
async fn a_download() {
    for dies in [false, true] {
        on_one_server(|server| async {
            let mut bed = Bed::new(server).await;
            let Some(folders) = bed.relocate_server().await else { return };
            bed.spec.member(
                "remote_extensions",
                json!({
                    "public_extensions": ["slow"], "custom_extensions": null, "library_index": {},
                    "extension_data": {"slow": {"control_data": {}, "archive_path": ""}},
                }),
            );
            let gateway = HttpStub::start(Reply::Stalled(archive())).await;
            let mut compute = bed.start_with_args(&["-r", &gateway.url()]);
            compute.wait_for("running").await;
            let url = format!("{}/extension_server/slow", compute.internal);
            let asked = tokio::spawn(compute.http.post(url).send());
            let half =
                || names(&folders.extensions).iter().any(|name| name.starts_with(".compute_ctl"));
            eventually("a file of the archive is unpacked", half).await;

            if dies {
                kill(Pid::from_raw(compute.postmaster()), Signal::SIGKILL).unwrap();
            } else {
                let (code, _) = compute.post("/terminate?mode=immediate", None).await;
                assert_eq!(code.as_u16(), 200);
            }
            let code = compute.wait_exit_within(SOON).await.code();
            assert_eq!(code, Some(if dies { 1 } else { 0 }), "{}", compute.log());
            let answer = asked.await.unwrap().unwrap();
            assert_eq!(answer.status().as_u16(), 500);
            assert!(answer.text().await.unwrap().contains("the download was interrupted"));
            assert!(!half(), "{:?}", names(&folders.extensions));
            assert!(!names(&folders.extensions).iter().any(|name| name.starts_with("slow")));
            assert_nothing_left(&bed);
        })
        .await;
    }
}

/// Larger than the pieces in which it is sent, and not compressible, so that half of it holds
/// files.
fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut number = 1_u64;
    for file in 0..8 {
        let content: Vec<u8> = std::iter::repeat_with(|| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (number >> 56) as u8
        })
        .take(300_000)
        .collect();
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let name = format!("share/extension/slow--{file}.sql");
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    zstd::encode_all(builder.into_inner().unwrap().as_slice(), 1).unwrap()
}
