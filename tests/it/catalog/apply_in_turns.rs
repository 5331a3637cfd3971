//! A `/configure` that comes while migrations run in the background: both are done, one after the
//! other, whatever they touch. The compute writes nothing once its end has begun.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const ROUNDS: usize = 5;

async fn configure(bed: &Bed, compute: &Compute) {
    let (code, body) = compute.configure(bed).await;
    assert_eq!(code.as_u16(), 200, "{body}\n{}", compute.log());
}

#[tokio::test]
async fn many_rounds_right_after_the_start() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        for name in ["ann", "bob", "eve"] {
            bed.spec.role(name, None);
        }
        for round in 0..ROUNDS {
            let mut compute = bed.start();
            bed.wait_running(&mut compute).await;
            // Every role is altered by the second migration, the privileged one by most of them.
            bed.spec.roles.clear();
            for name in ["ann", "bob", "eve"] {
                bed.spec.role(name, Some(&format!("{round:032x}")));
            }
            bed.spec.role(&format!("new_{round}"), None);
            configure(&bed, &compute).await;
            compute.wait_for_log_times("Finished migration id=12", 1).await;
            for sign in ["ERROR", "concurrently"] {
                assert_eq!(compute.count_in_log(sign), 0, "{}", compute.log());
            }
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        }
        assert_nothing_left(&bed);
    })
    .await;
}

/// Data in which each GRANT of a migration alters the role `ann` and then takes a while.
async fn slow_bed(server: compute_ctl::dev::servers::Server, seconds: u32) -> Bed {
    let mut bed = Bed::new(server).await;
    let mut compute = bed.start();
    bed.wait_running(&mut compute).await;
    let sql = format!(
        "CREATE ROLE ann;
         CREATE FUNCTION public.slow() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             IF current_setting('application_name') = 'compute_ctl:migrations' THEN
                 ALTER ROLE ann CONNECTION LIMIT 5;
                 PERFORM pg_sleep({seconds});
             END IF;
         END $$;
         CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('GRANT')
             EXECUTE FUNCTION public.slow();
         ALTER EVENT TRIGGER slow ENABLE ALWAYS;"
    );
    compute.sql().await.batch_execute(&sql).await.unwrap();
    bed.take_data(compute).await;
    bed.spec.skip_pg_catalog_updates = false;
    bed
}

async fn until_sleeping(compute: &Compute) {
    let sleeping = "SELECT count(*) FROM pg_stat_activity \
                    WHERE application_name = 'compute_ctl:migrations' AND wait_event = 'PgSleep'";
    until("a migration sleeps", || async { compute.sql_text(sleeping).await == "1" }).await;
}

#[tokio::test]
async fn an_apply_waits_for_the_step_that_runs() {
    on_one_server(|server| async {
        let mut bed = slow_bed(server, 1).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        until_sleeping(&compute).await;
        bed.spec.role("ann", Some("0123456789abcdef0123456789abcdef"));
        configure(&bed, &compute).await;
        compute.wait_for_log("Finished migration id=12").await;
        let ann = "SELECT rolpassword || ' ' || rolconnlimit FROM pg_authid WHERE rolname = 'ann'";
        assert_eq!(compute.sql_text(ann).await, "md50123456789abcdef0123456789abcdef 5");
        assert_eq!(compute.count_in_log("ERROR"), 0, "{}", compute.log());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn the_end_does_not_wait_for_migrations() {
    on_one_server(|server| async {
        let bed = slow_bed(server, 3600).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        until_sleeping(&compute).await;
        let (code, body) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!((code.as_u16(), &body["lsn"]), (200, &json!("0/1F30EC8")), "{body}");
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        assert_eq!(compute.count_in_log("Finished migration id=12"), 0);
        assert_eq!(compute.count_in_log("Failed to run migration"), 0, "{}", compute.log());
        assert_nothing_left(&bed);
    })
    .await;
}
