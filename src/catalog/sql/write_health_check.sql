DO $block$
BEGIN
    @TRUST@
    INSERT INTO public.health_check (id, updated_at) VALUES (1, pg_catalog.now())
    ON CONFLICT (id) DO UPDATE SET updated_at = EXCLUDED.updated_at;
END
$block$
