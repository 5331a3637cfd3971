// Calls a compute with the types that openapi-typescript generates and openapi-fetch: EXTERNAL,
// INTERNAL and TOKEN are in the environment, and so is the CONFIGURATION to apply; its last role
// `pg_mine` cannot be created. Each assignment with a type is a check of the compiler.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { env: Record<string, string | undefined> };

type Schemas = components["schemas"];

function given(name: string): string {
    const value = process.env[name];
    if (value === undefined) throw new Error(`${name} is not in the environment`);
    return value;
}

function check(holds: boolean, what: unknown): asserts holds {
    if (!holds) throw new Error(JSON.stringify(what));
}

/** The document of an answer with success. */
function success<T>(answer: { data?: T; error?: unknown; response: Response }, code = 200): T {
    check(answer.response.status === code && answer.data !== undefined, answer);
    return answer.data;
}

/** The text of an answer with an error. */
function failure(
    answer: { error?: Schemas["ErrorDocument"]; response: Response },
    code: number,
): string {
    check(answer.response.status === code && answer.error !== undefined, answer);
    return answer.error.error;
}

const baseUrl = given("EXTERNAL");
const headers = { authorization: `Bearer ${given("TOKEN")}` };
const external = createClient<paths>({ baseUrl, headers });
const stranger = createClient<paths>({ baseUrl, headers: { authorization: "Bearer a.b.c" } });
const internal = createClient<paths>({ baseUrl: given("INTERNAL") });
const without = createClient<paths>({ baseUrl });

const status: Schemas["StatusDocument"] = success(await external.GET("/status"));
const name: "running" | "failed" | Schemas["ComputeStatus"] = status.status;
check(name === "running" && status.tenant?.length === 32, status);
const query = { wait: "running", timeout: "5s" } as const;
check(success(await external.GET("/status", { params: { query } })).status === "running", query);
check(failure(await stranger.GET("/status"), 401) !== "", "401");

check(success(await without.GET("/live")) === "ok", "live");
const text: string = success(await without.GET("/metrics", { parseAs: "text" }));
check(text.includes("compute_ctl_up{"), text);
failure(await without.GET("/autoscaling_metrics"), 500);
const metrics: Schemas["StartupMetrics"] = success(await external.GET("/metrics.json"));
check(metrics.total_startup_ms > 0, metrics);
const insights: string = success(await external.GET("/insights"));
check("pg_stat_statements" in JSON.parse(insights), insights);
check(success(await external.POST("/check_writability")), "writability");
const { roles } = success(await external.GET("/dbs_and_roles"));
check(roles.some((role) => role.name === "authenticated"), roles);
// The type of the answer says JSON, although it is SQL text.
const database = (database: string) => ({ params: { query: { database } }, parseAs: "text" as const });
const schema = success(await external.GET("/database_schema", database("postgres")));
check(String(schema).includes("CREATE SCHEMA auth"), schema);
failure(await external.GET("/database_schema", database("nothing")), 404);

// Documents with several forms, by their discriminator.
const prewarm: Schemas["PrewarmState"] = success(await external.GET("/lfc/prewarm"));
const loaded: number = prewarm.status === "completed" ? prewarm.prewarmed : 0;
check(prewarm.status === "not_prewarmed" && loaded === 0, prewarm);
const offload: Schemas["OffloadState"] = success(await external.GET("/lfc/offload"));
check(offload.status === "not_offloaded", offload);

// Outcomes are a string or an object.
const body: Schemas["ConfigureRequest"] = JSON.parse(given("CONFIGURATION"));
check(failure(await external.POST("/configure", { body }), 500).includes("pg_mine"), "configure");
const operations = async () =>
    success(await external.GET("/status")).extra?.apply_report?.operations ?? [];
const mine = (await operations()).find((it) => it.object.name === "pg_mine")?.outcome;
check(typeof mine === "object" && mine.failed.sqlstate === "42939", mine);
// Back to the configuration of the start.
const refreshed = await internal.POST("/refresh_configuration");
check(refreshed.response.status === 200, refreshed);
const back = { wait: "running", timeout: "1m" } as const;
const again = success(await external.GET("/status", { params: { query: back } }));
check(again.status === "running", again);
body.spec.cluster.roles.pop();
const after: Schemas["StatusDocument"] = success(await external.POST("/configure", { body }));
check(after.status === "running", after);
const outcomes = (await operations()).map((it) => it.outcome);
check(outcomes.length > 0 && outcomes.every((it) => it === "done"), outcomes);

const promotion = await external.POST("/promote", {
    body: { spec: body.spec, wal_flush_lsn: "0/1F30EC8" },
});
check(promotion.response.status === 500 && promotion.error !== undefined, promotion);

const grants: Schemas["SchemaGrants"] = {
    database: "postgres",
    schema: "auth",
    privileges: ["USAGE"],
    role: "authenticated",
};
success(await internal.POST("/grants", { body: grants }), 201);
const mode = { params: { query: { mode: "fast" } } } as const;
const terminated: Schemas["TerminateDocument"] = success(await external.POST("/terminate", mode));
check(terminated.lsn === "0/1F30EC8", terminated);
success(await external.POST("/terminate"), 201);
check(failure(await external.POST("/configure", { body }), 412).includes("status"), "412");
console.log("done");
