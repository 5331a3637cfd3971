//! A call that is given up has failed and has ended, whatever the server does with its statement.

use std::time::Duration;

use compute_ctl::sql::{
    CallError, CallLimits, Session, SessionDeadlines, SessionError, session_config,
};
use tokio_postgres::types::Type;
use tokio_util::sync::CancellationToken;

use crate::support::assertions::{PATIENCE, until};
use crate::support::server::{Vanilla, on_one_server, pg_version};

/// When it is cancelled, it returns as if it had succeeded, after more time than other statements
/// may take.
const STUBBORN: &str = "
    CREATE TABLE public.calls (state bytea);
    CREATE FUNCTION public.stubborn(state bytea) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.calls VALUES (state);
        PERFORM pg_catalog.pg_sleep(3600);
    EXCEPTION WHEN query_canceled THEN
        PERFORM pg_catalog.pg_sleep(1.5);
    END $$";
const CALL: &str = "SELECT public.stubborn($1)";
const AT_WORK: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE state = 'active' AND query LIKE 'SELECT public.stubborn%'";

#[tokio::test]
async fn what_is_given_up_has_failed_and_ended() {
    on_one_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        vanilla.client.batch_execute(STUBBORN).await.unwrap();
        let count = async |query: &str| -> i64 {
            vanilla.client.query_one(query, &[]).await.unwrap().get(0)
        };
        let version = pg_version(&server);
        let config = session_config(&vanilla.url(), "compute_ctl:test", version).unwrap();
        let deadlines = SessionDeadlines { connect: PATIENCE, statement: PATIENCE, lock: PATIENCE };
        let session = Session::connect(&config, deadlines).await.unwrap();
        let patient = CallLimits { answer: PATIENCE, stop: PATIENCE };
        let state = (&b"\x00\xff".as_slice(), Type::BYTEA);

        let second = Duration::from_secs(1);
        let short = CallLimits { answer: second, ..patient };
        let never = CancellationToken::new();
        let error = session.call(CALL, &[(state.0, Type::BYTEA)], short, &never).await.unwrap_err();
        assert_eq!(error, CallError::Session(SessionError::StatementDeadline(second)));
        assert_eq!(count(AT_WORK).await, 0);

        let cancel = CancellationToken::new();
        let begun = async {
            until("it is at work", || async { count(AT_WORK).await == 1 }).await;
            cancel.cancel();
        };
        let parameters = [(state.0 as _, state.1)];
        let (ended, ()) = tokio::join!(session.call(CALL, &parameters, patient, &cancel), begun);
        assert_eq!(ended.unwrap_err(), CallError::Cancelled);
        assert_eq!(count(AT_WORK).await, 0);

        // No statement is begun for a caller that has left already, and the session can still be
        // used.
        let insert = "INSERT INTO public.calls VALUES ('x') RETURNING state";
        let ended = session.call(insert, &[], patient, &cancel).await;
        assert_eq!(ended.unwrap_err(), CallError::Cancelled);
        assert_eq!(count("SELECT count(*) FROM public.calls").await, 0);
        let rows = session.call(insert, &[], patient, &never).await.unwrap();
        assert_eq!(rows[0].get::<_, Vec<u8>>(0), b"x");
        assert_eq!(count("SELECT count(*) FROM public.calls").await, 1);
        vanilla.stop().await;
    })
    .await;
}
