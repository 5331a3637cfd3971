//! Sessions of the compute on a server with hostile users (05 §3, §18, weaknesses 5 and 6).

use std::sync::Arc;
use std::time::Duration;

use compute_ctl::dev::servers::Server;
use compute_ctl::sql::{
    APPLY_CONFIG, LockWatch, MaintenanceSession, Session, SessionConfig, SessionDeadlines,
    SessionError, session_config,
};
use tokio_postgres::NoTls;

use crate::support::assertions::{PATIENCE, until};
use crate::support::server::{Vanilla, on_one_server, pg_version};

const SHORT: Duration = Duration::from_millis(700);

fn deadlines(lock: Duration) -> SessionDeadlines {
    SessionDeadlines { connect: PATIENCE, statement: PATIENCE, lock }
}

fn config(server: &Server, url: &str) -> SessionConfig {
    let version = pg_version(server);
    session_config(url, "compute_ctl:test", version).unwrap()
}

async fn shown(session: &Session, setting: &str) -> String {
    let rows = session.query(&format!("SHOW {setting}")).await.unwrap();
    rows[0].try_get(0).unwrap().unwrap().to_owned()
}

/// The statement that holds a lock, and the statement that waits for it.
const LOCKS: [(&str, &str); 6] = [
    ("ALTER ROLE ann CONNECTION LIMIT 5", "ALTER ROLE ann NOLOGIN"),
    ("LOCK TABLE pg_authid IN EXCLUSIVE MODE", "CREATE ROLE bob"),
    (
        "LOCK TABLE pg_default_acl",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO ann",
    ),
    ("LOCK TABLE pg_subscription", "LOCK TABLE pg_subscription IN ACCESS EXCLUSIVE MODE"),
    ("ALTER DATABASE postgres CONNECTION LIMIT 50", "ALTER DATABASE postgres OWNER TO ann"),
    ("CREATE TABLE public.made (x int)", "CREATE TABLE public.made (x int)"),
];

#[tokio::test]
async fn the_holder_of_the_lock_is_named() {
    on_one_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        vanilla
            .client
            .batch_execute("CREATE ROLE ann; SET application_name = 'greedy'")
            .await
            .unwrap();
        let pid: i32 =
            vanilla.client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let config = config(&server, &vanilla.url());
        let session = MaintenanceSession::connect(&config, deadlines(SHORT)).await.unwrap();
        let session = session.session();
        for (lock, statement) in LOCKS {
            vanilla.client.batch_execute(&format!("BEGIN; {lock}")).await.unwrap();
            let message = format!("SELECT 1; {statement}");
            let error = session.batch(&message).await.unwrap_err();
            assert_eq!(error.completed, 1, "{lock}: {error:?}");
            let text = error.error.to_string();
            let SessionError::Blocked { waited, blockers } = error.error else { panic!("{text}") };
            assert!(waited >= SHORT, "{lock}: {text}");
            let pids: Vec<_> = blockers.iter().map(|blocker| blocker.pid).collect();
            assert_eq!(pids, [pid], "{lock}");
            for part in ["user \"cloud_admin\"", "application \"greedy\"", "idle in transaction"] {
                assert!(text.contains(part), "{text}");
            }
            assert!(!text.contains(lock), "{text}");
            vanilla.client.batch_execute("ROLLBACK").await.unwrap();
            // The statement had no effect and does not wait any more, and the session can be used.
            assert_eq!(shown(session, "search_path").await, "");
        }
        let made = "SELECT count(*) FROM pg_roles WHERE rolname = 'bob'";
        let made: i64 = vanilla.client.query_one(made, &[]).await.unwrap().get(0);
        assert_eq!(made, 0);
        vanilla.stop().await;
    })
    .await;
}

/// However many sessions of one apply wait, a single session looks for the blockers of all.
#[tokio::test]
async fn one_session_asks_for_all() {
    on_one_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        let watches = "SELECT pid FROM pg_stat_activity \
            WHERE application_name = 'compute_ctl:lock_watch'";
        let pid: i32 =
            vanilla.client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        vanilla.client.batch_execute("CREATE TABLE public.wanted ()").await.unwrap();
        let config = config(&server, &vanilla.url());
        let watch = Arc::<LockWatch>::default();
        let mut sessions = Vec::new();
        for _ in 0..5 {
            let watch = Arc::clone(&watch);
            let session = MaintenanceSession::connect_with(&config, deadlines(SHORT), watch).await;
            sessions.push(session.unwrap());
        }
        let mut seen = Vec::new();
        for _ in 0..2 {
            vanilla.client.batch_execute("BEGIN; LOCK TABLE public.wanted").await.unwrap();
            let waiting = sessions.iter().map(|it| it.session().query("TABLE public.wanted"));
            for result in futures_util::future::join_all(waiting).await {
                let error = result.unwrap_err();
                let SessionError::Blocked { blockers, .. } = &error else { panic!("{error}") };
                assert!(blockers.iter().any(|blocker| blocker.pid == pid), "{error}");
            }
            vanilla.client.batch_execute("ROLLBACK").await.unwrap();
            let rows = vanilla.client.query(watches, &[]).await.unwrap();
            seen.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
        }
        assert!(seen.len() == 2 && seen[0] == seen[1], "{seen:?}");
        drop((sessions, watch));
        until("the watch is closed", || async {
            vanilla.client.query(watches, &[]).await.unwrap().is_empty()
        })
        .await;
        vanilla.stop().await;
    })
    .await;
}

/// No session can look for blockers any more; the statement still ends, and its error says so.
#[tokio::test]
async fn a_full_server_does_not_tell_the_holder_of_the_lock() {
    on_one_server(|server| async move {
        let options =
            ["max_connections=6", "max_wal_senders=1", "superuser_reserved_connections=1"];
        let vanilla = Vanilla::start(&server, &options).await;
        let config = config(&server, &vanilla.url());
        let deadlines = SessionDeadlines { connect: PATIENCE, statement: 3 * SHORT, lock: SHORT };
        let session = MaintenanceSession::connect(&config, deadlines).await.unwrap();
        vanilla.client.batch_execute("BEGIN; CREATE ROLE ann").await.unwrap();
        let mut users = Vec::new();
        while let Ok((client, connection)) = tokio_postgres::connect(&vanilla.url(), NoTls).await {
            tokio::spawn(connection);
            users.push(client);
        }
        let error = session.session().query("CREATE ROLE ann").await.unwrap_err();
        assert!(matches!(error, SessionError::Unexplained { .. }), "{error}");
        let error = error.to_string();
        for part in ["did not answer within 2.1s", "whether a lock", "no free connection", "53300"]
        {
            assert!(error.contains(part), "{error}");
        }
        drop(users);
        vanilla.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_prepared_transaction_is_named_too() {
    on_one_server(|server| async move {
        let vanilla = Vanilla::start(&server, &["max_prepared_transactions=1"]).await;
        vanilla.client.batch_execute("CREATE TABLE public.kept ()").await.unwrap();
        let prepare = "BEGIN; LOCK TABLE public.kept; PREPARE TRANSACTION 'forgotten'";
        vanilla.client.batch_execute(prepare).await.unwrap();
        let config = config(&server, &vanilla.url());
        let session = Session::connect(&config, deadlines(SHORT)).await.unwrap();
        let error = session.query("DROP TABLE public.kept").await.unwrap_err().to_string();
        assert!(error.ends_with("for a lock held by a prepared transaction"), "{error}");
        vanilla.stop().await;
    })
    .await;
}

/// A statement that is slow for other reasons continues, and so does one whose lock becomes free.
#[tokio::test]
async fn a_statement_that_is_slow_for_other_reasons_goes_on() {
    on_one_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        vanilla.client.batch_execute("BEGIN; CREATE TABLE public.made (x int)").await.unwrap();
        let config = config(&server, &vanilla.url());
        let session = Session::connect(&config, deadlines(SHORT)).await.unwrap();
        session.query("SELECT pg_catalog.pg_sleep(1.5)").await.unwrap();

        let patient = Session::connect(&config, deadlines(PATIENCE)).await.unwrap();
        let waiting = "SELECT count(*) FROM pg_catalog.pg_locks WHERE NOT granted";
        let release = async {
            until("it waits", || async {
                session.query(waiting).await.unwrap()[0].try_get(0).unwrap() != Some("0")
            })
            .await;
            vanilla.client.batch_execute("ROLLBACK").await.unwrap();
        };
        let (made, ()) = tokio::join!(patient.query("CREATE TABLE public.made (x int)"), release);
        made.unwrap();
        vanilla.stop().await;
    })
    .await;
}

/// A session that is dropped while its statement waits changes nothing later.
#[tokio::test]
async fn nothing_is_done_for_a_dropped_session() {
    on_one_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        vanilla.client.batch_execute("CREATE ROLE ann").await.unwrap();
        let config = config(&server, &vanilla.url());
        let dropped = Session::connect(&config, deadlines(PATIENCE)).await.unwrap();
        let watch = Session::connect(&config, deadlines(PATIENCE)).await.unwrap();
        let waiting = "SELECT count(*) FROM pg_catalog.pg_locks WHERE NOT granted";
        let locks = || async {
            watch.query(waiting).await.unwrap()[0].try_get(0).unwrap().unwrap().to_owned()
        };
        vanilla.client.batch_execute("BEGIN; ALTER ROLE ann NOINHERIT").await.unwrap();
        tokio::select! {
            done = dropped.query("ALTER ROLE ann LOGIN") => panic!("{done:?}"),
            () = until("it waits", || async { locks().await != "0" }) => {}
        }
        drop(dropped);
        until("no session waits", || async { locks().await == "0" }).await;
        vanilla.client.batch_execute("COMMIT").await.unwrap();
        let row =
            vanilla.client.query_one("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'ann'", &[]);
        assert!(!row.await.unwrap().get::<_, bool>(0));
        vanilla.stop().await;
    })
    .await;
}

/// The login may be a member of `cloud_admin` that is not a superuser itself (05 §18).
#[tokio::test]
async fn only_a_member_will_do() {
    on_one_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        let roles = "CREATE ROLE member LOGIN IN ROLE cloud_admin; CREATE ROLE stranger LOGIN";
        vanilla.client.batch_execute(roles).await.unwrap();
        for url in [vanilla.url(), vanilla.url().replace("cloud_admin", "member")] {
            let config = config(&server, &url);
            let session = MaintenanceSession::connect(&config, deadlines(PATIENCE)).await.unwrap();
            let session = session.session();
            for (setting, value) in [
                ("role", "cloud_admin"),
                ("log_statement", "none"),
                ("pgaudit.log", "none"),
                ("neon.forward_ddl", "false"),
            ] {
                assert_eq!(shown(session, setting).await, value, "{url} {setting}");
            }
            session.query("CREATE ROLE made SUPERUSER; DROP ROLE made").await.unwrap();
        }
        let url = vanilla.url().replace("cloud_admin", "stranger");
        let config = config(&server, &url);
        let session = MaintenanceSession::connect(&config, deadlines(PATIENCE)).await;
        let error = session.unwrap_err().to_string();
        assert!(error.contains("(SQLSTATE 42501)"), "{error}");
        vanilla.stop().await;
    })
    .await;
}

/// Options in the URL win, except over the ones that keep DDL from being forwarded (05 §3.1,
/// §19.2).
#[tokio::test]
async fn the_urls_options_win_except_over_forwarding() {
    on_one_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        let own = "?options=-c%20work_mem%3D1MB%20-c%20statement_timeout%3D12345\
                   %20-c%20neon.forward_ddl%3Dtrue%20-c%20log_statement%3Dall";
        let config = config(&server, &format!("{}{own}", vanilla.url()));
        let session = MaintenanceSession::connect(&config, deadlines(PATIENCE)).await.unwrap();
        for (setting, value) in [
            ("work_mem", "1MB"),
            ("statement_timeout", "12345ms"),
            ("neon.forward_ddl", "false"),
            ("log_statement", "none"),
            ("application_name", APPLY_CONFIG),
        ] {
            assert_eq!(shown(session.session(), setting).await, value, "{setting}");
        }
        let session = Session::connect(&config, deadlines(PATIENCE)).await.unwrap();
        assert_eq!(shown(&session, "neon.forward_ddl").await, "true");
        vanilla.stop().await;
    })
    .await;
}
