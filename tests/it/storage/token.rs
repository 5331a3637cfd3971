//! `storage_auth_token` reaches every program that needs it.

use compute_ctl::spec::Lsn;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, LSN_TEXT};
use crate::support::server::on_one_server;

const TOKEN: &str = "stub-token";

/// Environment variables of a process with this prefix.
fn environment(pid: i32, prefix: &str) -> Vec<String> {
    let text = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let all = text.split(|byte| *byte == 0).map(|it| String::from_utf8_lossy(it).into_owned());
    all.filter(|it| it.starts_with(prefix)).collect()
}

#[tokio::test]
async fn check_basebackup_sync_and_server_get_it() {
    on_one_server(|server| async {
        let mut bed = Bed::with_safekeepers(server, 3).await;
        bed.spec.storage_auth_token = Some(TOKEN.to_owned());
        bed.pageserver.behave(|it| it.password = Some(TOKEN.to_owned()));
        for safekeeper in &bed.safekeepers {
            safekeeper.behave(|it| {
                it.password = Some(TOKEN.to_owned());
                it.commit_lsn -= 8;
            });
        }
        let mut compute = bed.start();
        compute.wait_for("running").await;
        assert_eq!(bed.pageserver.journal().passwords(), [TOKEN]);
        for safekeeper in &bed.safekeepers {
            let passwords = safekeeper.journal().passwords();
            assert!(passwords.iter().all(|it| it == TOKEN));
        }
        let asked = bed.safekeepers.iter().filter(|it| !it.journal().passwords().is_empty());
        assert!(asked.count() >= 2, "a quorum was asked");
        assert_eq!(
            environment(compute.postmaster(), "NEON_AUTH_TOKEN"),
            [format!("NEON_AUTH_TOKEN={TOKEN}")]
        );

        let end = 0x2_0000_0010;
        bed.wrapper.set_lsn(end).unwrap();
        let (code, answer) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!((code.as_u16(), answer), (200, json!({"lsn": Lsn(end)})));
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        let calls = bed.wrapper.calls().unwrap();
        assert_eq!(calls.len(), 2, "at the start and at the end");
        assert!(calls.iter().all(|call| call.token.as_deref() == Some(TOKEN)));
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn without_one_no_program_gets_any() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.safekeepers[0].behave(|it| it.unknown_timeline = true);
        let mut compute = bed.start();
        compute.wait_for("running").await;
        assert_eq!(environment(compute.postmaster(), "NEON_AUTH_TOKEN"), [] as [&str; 0]);
        assert_eq!(bed.wrapper.calls().unwrap()[0].token, None);
        assert_eq!(bed.pageserver.journal().commands(), [bed.basebackup_command(Some(LSN_TEXT))]);
        assert_eq!(compute.stop(nix::sys::signal::Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
