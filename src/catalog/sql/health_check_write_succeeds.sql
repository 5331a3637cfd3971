
BEGIN
    @TRUST@
    INSERT INTO public.health_check (id, updated_at) VALUES (1, pg_catalog.now())
    ON CONFLICT (id) DO UPDATE SET updated_at = EXCLUDED.updated_at;
    RETURN 1;
EXCEPTION WHEN OTHERS THEN
    RAISE EXCEPTION '[DATABRICKS_SMGR] health_check failed: [%] %', SQLSTATE, SQLERRM;
END
