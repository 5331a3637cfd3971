-- The tables may be missing, and a statement that names a missing table fails. PL/pgSQL analyses
-- the statements of a block only when it reaches them.
DO $block$
DECLARE
    done pg_catalog.bool := false;
    todo pg_catalog.text;
BEGIN
    IF pg_catalog.to_regclass('neon.drop_subscriptions_done') IS NOT NULL THEN
        @TRUST_DONE@
        done := EXISTS (
            SELECT FROM neon.drop_subscriptions_done
            WHERE timeline_id OPERATOR(pg_catalog.=) @TIMELINE@
        );
    END IF;
    IF pg_catalog.to_regclass('neon.drop_subscriptions_todo') IS NOT NULL THEN
        @TRUST_TODO@
        SELECT pg_catalog.concat('todo ', pg_catalog.array_to_string(subscriptions, ' ')) INTO todo
        FROM neon.drop_subscriptions_todo WHERE timeline_id OPERATOR(pg_catalog.=) @TIMELINE@;
    END IF;
    PERFORM pg_catalog.set_config('compute_ctl.subscriptions_done',
        pg_catalog.left(done::pg_catalog.text, 1), true);
    PERFORM pg_catalog.set_config('compute_ctl.subscriptions_todo', COALESCE(todo, ''), true);
END
$block$;
SELECT 'subscriptions done', pg_catalog.current_setting('compute_ctl.subscriptions_done'),
    pg_catalog.current_setting('compute_ctl.subscriptions_todo');
