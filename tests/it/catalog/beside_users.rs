//! Users work while many databases are created: none of them sees an error.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::json;
use tokio_postgres::{Error, NoTls};

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::{Compute, running_for_catalog};
use crate::support::server::on_one_server;

const DATABASES: usize = 200;
const USERS: i32 = 3;
const ACCOUNTS: i32 = 100;
/// Transactions of a user before it connects anew.
const PER_SESSION: i32 = 50;

/// As a user, with transactions that read and write, until `over`; returns how many there were.
async fn works(compute: &Compute, number: i32, over: &AtomicBool) -> Result<i32, Error> {
    let mut config: tokio_postgres::Config = compute.connstr.parse()?;
    config.user("ann").dbname("shop");
    let mut done = 0;
    loop {
        let (mut session, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        for _ in 0..PER_SESSION {
            let id = (done * USERS + number) % ACCOUNTS;
            let transaction = session.transaction().await?;
            let update = "UPDATE accounts SET balance = balance + 1 WHERE id = $1";
            assert_eq!(transaction.execute(update, &[&id]).await?, 1);
            let select = "SELECT balance FROM accounts WHERE id = $1";
            let balance: i32 = transaction.query_one(select, &[&id]).await?.get(0);
            assert!(balance > 0);
            transaction.execute("INSERT INTO history VALUES ($1, now())", &[&id]).await?;
            transaction.commit().await?;
            done += 1;
        }
        drop(session);
        connection.await.unwrap()?;
        if over.load(SeqCst) {
            return Ok(done);
        }
    }
}

#[tokio::test]
#[ignore = "slow: .ci/run runs it"]
async fn users_see_no_error_while_databases_are_made() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("ann", None).database("shop", "ann");
        compute.apply(&bed).await;
        let schema = format!(
            "CREATE TABLE public.accounts (id int PRIMARY KEY, balance int NOT NULL); \
             INSERT INTO public.accounts SELECT n, 0 FROM generate_series(0, {ACCOUNTS} - 1) n; \
             CREATE TABLE public.history (id int, at timestamptz); \
             ALTER TABLE public.accounts OWNER TO ann; ALTER TABLE public.history OWNER TO ann"
        );
        compute.run_in("shop", &schema).await;

        bed.spec.member("reconfigure_concurrency", json!(8));
        for n in 0..DATABASES {
            bed.spec.database(&format!("d{n}"), "ann");
        }
        let over = AtomicBool::new(false);
        let history = "SELECT count(*) FROM history";
        let apply = async {
            let busy = || async { compute.rows_in("shop", history).await != ["0"] };
            until("users are at work", busy).await;
            compute.apply(&bed).await;
            over.store(true, SeqCst);
        };
        let users = futures_util::future::try_join_all(
            (0..USERS).map(|number| works(&compute, number, &over)),
        );
        let ((), done) = tokio::join!(apply, users);
        let done: i32 = done.expect("a user has met an error").into_iter().sum();
        assert_eq!(compute.rows_in("shop", history).await, [done.to_string()]);
        let made = "SELECT count(*) FROM pg_database WHERE datname ~ '^d[0-9]+$'";
        assert_eq!(compute.rows(made).await, [DATABASES.to_string()]);
        compute.apply_changes_nothing(&bed).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
