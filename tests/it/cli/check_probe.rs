//! `compute_ctl check --probe`: connects to storage as a start would.

use compute_ctl::dev::safekeeper::SafekeeperBehaviour;
use compute_ctl::dev::safekeeper::StandInSafekeeper;
use serde_json::json;

use crate::support::bed::Bed;
use crate::support::process::check;
use crate::support::server::on_one_server;

/// A port without a listener.
const DEAD: [&str; 2] = ["127.0.0.1:1", "127.0.0.1:2"];

#[tokio::test]
async fn storage_that_answers() {
    on_one_server(|server| async {
        let bed = Bed::with_safekeepers(server, 3).await;
        let path = bed.write("config.json", &bed.spec.config()).display().to_string();
        let checked = check(&["--config", &path, "--probe"]).await;
        let text = checked.good();
        assert!(text.contains("pageserver 127.0.0.1:"), "{text}");
        for address in bed.safekeepers.iter().map(StandInSafekeeper::address) {
            let line = format!("safekeeper {address}: flush_lsn 0/1F30EC8, commit_lsn 0/1F30EC8\n");
            assert!(text.contains(&line), "{text}");
        }
        assert!(text.contains("safekeepers: in sync at 0/1F30EC8"), "{text}");
        assert_eq!(bed.pageserver.journal().commands().len(), 0, "nothing was fetched");
        assert_eq!(bed.pageserver.journal().startups().len(), 1);
        assert!(!bed.pgdata().exists());
    })
    .await;
}

#[tokio::test]
async fn storage_that_would_make_the_start_fail() {
    on_one_server(|server| async {
        let mut bed = Bed::with_safekeepers(server, 1).await;
        let alive = bed.safekeepers[0].address();
        // Two of three are gone.
        bed.spec.safekeeper_connstrings =
            vec![alive.clone(), DEAD[0].to_owned(), DEAD[1].to_owned()];
        let path = bed.write("config.json", &bed.spec.config()).display().to_string();
        let checked = check(&["--config", &path, "--probe"]).await;
        assert!(checked.bad().contains("1 of 3 safekeepers answered, 2 are needed"), "{checked:?}");
        assert!(checked.stdout.contains("pageserver 127.0.0.1:"), "{checked:?}");

        // One of three is down, which is enough. They are out of sync: a start would sync.
        let behind = StandInSafekeeper::start(0, SafekeeperBehaviour::at(1)).await.unwrap();
        bed.spec.safekeeper_connstrings = vec![alive, behind.address(), DEAD[0].to_owned()];
        let path = bed.write("config.json", &bed.spec.config()).display().to_string();
        let checked = check(&["--config", &path, "--probe"]).await;
        assert!(checked.good().contains("a start would sync them first"), "{checked:?}");

        // No pageserver.
        bed.spec.pageserver_connstring = format!("postgres://u:planted@{}", DEAD[0]);
        let path = bed.write("config.json", &bed.spec.config()).display().to_string();
        let checked = check(&["--config", &path, "--probe"]).await;
        assert!(checked.bad().contains("no pageserver of shard 0 can be used"), "{checked:?}");
        assert!(checked.stdout.contains("cannot connect to pageserver"), "{checked:?}");
        assert!(!format!("{checked:?}").contains("planted"));

        // Over gRPC the token is seen only with the first call.
        bed.spec.pageserver_over_grpc(&bed.pageserver);
        let path = bed.write("config.json", &bed.spec.config()).display().to_string();
        let checked = check(&["--config", &path, "--probe"]).await;
        let line = format!("pageserver 127.0.0.1:{}: connected (gRPC)", bed.pageserver.grpc_port());
        assert!(checked.stdout.contains(&line), "{checked:?}");
        bed.spec.extra.clear();

        // A replica does not ask safekeepers.
        bed.spec.mode = json!("Replica");
        bed.spec.safekeeper_connstrings = Vec::new();
        bed.spec.pageserver_connstring = bed.pageserver.connstring();
        let path = bed.write("config.json", &bed.spec.config()).display().to_string();
        let checked = check(&["--config", &path, "--probe"]).await;
        assert!(checked.good().contains("only a primary needs them"), "{checked:?}");
    })
    .await;
}
