-- The tables need not exist, and a statement that names a table that does not would be an error;
-- the statements of a block are looked at only when they are reached.
DO $block$
DECLARE
    done boolean := false;
    todo text;
BEGIN
    IF to_regclass('neon.drop_subscriptions_done') IS NOT NULL THEN
        done := EXISTS (
            SELECT FROM neon.drop_subscriptions_done WHERE timeline_id = @TIMELINE@
        );
    END IF;
    IF to_regclass('neon.drop_subscriptions_todo') IS NOT NULL THEN
        SELECT 'todo ' || array_to_string(subscriptions, ' ') INTO todo
        FROM neon.drop_subscriptions_todo WHERE timeline_id = @TIMELINE@;
    END IF;
    PERFORM set_config('compute_ctl.subscriptions_done', left(done::text, 1), true);
    PERFORM set_config('compute_ctl.subscriptions_todo', coalesce(todo, ''), true);
END
$block$;
SELECT 'subscriptions done', current_setting('compute_ctl.subscriptions_done'),
    current_setting('compute_ctl.subscriptions_todo');
