//! The figures of the README about applies, each with its comparison.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use compute_ctl::dev::spec::SpecBuilder;

use super::bed::{Bed, Compute};
use super::by_hand;
use super::common::process::pause;
use super::common::samples::{Samples, heading, milliseconds, verdict};

const HUNDRED: usize = 100;
/// As many databases at a time as at a start with `max_connections` of 100.
const CONCURRENCY: usize = 33;
/// The concurrency of a spec that does not set it.
const ONE_AT_A_TIME: usize = 1;
/// How much longer each of a thousand databases may take than each of 250. Linear growth gives 1,
/// quadratic growth gives 4; one first apply differs from the next by several per cent.
const GROWTH: f64 = 1.1;
/// The pause before memory is measured, so that freed memory has been returned.
const SETTLE: Duration = Duration::from_secs(1);

pub fn databases(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("store{n}")).collect()
}

fn roles(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("owner{n}")).collect()
}

/// So many roles, and a database of each.
fn spec(bed: &Bed, count: usize, concurrency: usize) -> SpecBuilder {
    let mut spec = bed.spec();
    spec.member("reconfigure_concurrency", concurrency.into());
    for (role, database) in roles(count).iter().zip(databases(count)) {
        spec.role(role, None).database(&database, role);
    }
    spec
}

/// One role and one database: the whole step between a ready Postgres and `running`, when they must
/// be created, and when they exist already.
pub fn small(bed: &Bed, runs: usize) -> anyhow::Result<()> {
    let spec = spec(bed, 1, ONE_AT_A_TIME);
    let mut skipped = bed.spec();
    skipped.member("skip_pg_catalog_updates", true.into());
    let [mut first, mut floor, mut ratio] = std::array::from_fn(|_| Samples::default());
    let [mut alone, mut again] = std::array::from_fn(|_| Samples::default());
    for _ in 0..runs {
        bed.start(&skipped)?.stop()?;
        let by_hand = milliseconds(by_hand::one(bed, "owner0", "store0")?);
        let compute = bed.start(&spec)?;
        let applied = apply_phase(&compute)?;
        floor.push(by_hand);
        first.push(applied);
        ratio.push(applied / by_hand);
        // Not counted: right after a start the extensions of all databases are listed, and Postgres
        // waits 100 ms for a session in a template to end.
        compute.run(["CREATE DATABASE another".to_owned()])?;
        alone.push_time(compute.run(["CREATE DATABASE \"yet another\"".to_owned()])?);
        compute.stop()?;
    }
    bed.serve_last()?;
    for _ in 0..runs {
        let compute = bed.start(&spec)?;
        again.push(apply_phase(&compute)?);
        compute.stop()?;
    }
    bed.serve_empty();
    heading("Start with one role and one database: phase apply_catalog");
    first.print("the first one, which makes them", "ms");
    floor.print("the same SQL by one client, after a start", "ms");
    ratio.print("the first / the second, round by round", "");
    alone.print("CREATE DATABASE alone, in an open session", "ms");
    again.print("a later one, which finds them", "ms");
    verdict("ratio", ratio.median(), 1.15, "");
    verdict("a later one", again.median(), 20.0, "ms");
    Ok(())
}

/// How long the phase of the start took, in milliseconds.
fn apply_phase(compute: &Compute<'_>) -> anyhow::Result<f64> {
    let metrics = compute.get("/metrics")?;
    let name = "compute_ctl_startup_phase_seconds{phase=\"apply_catalog\"} ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    Ok(value.context("no such metric")?.trim().parse::<f64>()? * 1e3)
}

/// First apply against the bare statements, unchanged apply against the bare sessions.
pub fn hundred(bed: &Bed, runs: usize) -> anyhow::Result<()> {
    let compute = bed.start(&bed.spec())?;
    let (parallel, serial) = (spec(bed, HUNDRED, CONCURRENCY), spec(bed, HUNDRED, ONE_AT_A_TIME));
    let [mut psql, mut first, mut ratio, mut first_serial] =
        std::array::from_fn(|_| Samples::default());
    let [mut four, mut four_ratio] = std::array::from_fn(|_| Samples::default());
    let [mut opening, mut again, mut again_ratio, mut again_serial] =
        std::array::from_fn(|_| Samples::default());
    for round in 0..runs {
        let (mut bare, mut applied) = (Duration::ZERO, Duration::ZERO);
        for turn in 0..2 {
            if (round + turn).is_multiple_of(2) {
                bare = by_psql(&compute)?;
            } else {
                applied = compute.apply(&parallel)?;
                unchanged(&compute, &parallel, round, &mut opening, &mut again, &mut again_ratio)?;
                again_serial.push_time(compute.apply(&serial)?);
            }
            clear(&compute)?;
        }
        let by_four = by_hand::by_four(&compute, &roles(HUNDRED), &databases(HUNDRED))?;
        clear(&compute)?;
        four.push_time(by_four);
        four_ratio.push(milliseconds(applied) / milliseconds(by_four));
        psql.push_time(bare);
        first.push_time(applied);
        ratio.push(milliseconds(applied) / milliseconds(bare));
        first_serial.push_time(compute.apply(&serial)?);
        clear(&compute)?;
    }
    compute.stop()?;
    heading(&format!("{HUNDRED} roles and {HUNDRED} databases, none of them there"));
    psql.print("CREATE ROLE, CREATE DATABASE, one psql", "ms");
    first.print(&format!("/configure, {CONCURRENCY} databases at a time"), "ms");
    first_serial.print("/configure, one database at a time", "ms");
    ratio.print("the second / the first, round by round", "");
    verdict("ratio", ratio.median(), 0.8, "");
    four.print("all of its statements by four clients", "ms");
    four_ratio.print("/configure / that, round by round", "");
    verdict("ratio", four_ratio.median(), 0.75, "");
    heading("The same, all of them there");
    opening.print("opening a session in each, in turn", "ms");
    again.print(&format!("/configure, {CONCURRENCY} databases at a time"), "ms");
    again_serial.print("/configure, one database at a time", "ms");
    again_ratio.print("the second / the first, round by round", "");
    verdict("ratio", again_ratio.median(), 0.5, "");
    Ok(())
}

fn unchanged(
    compute: &Compute<'_>,
    spec: &SpecBuilder,
    round: usize,
    opening: &mut Samples,
    again: &mut Samples,
    ratio: &mut Samples,
) -> anyhow::Result<()> {
    let databases = databases(HUNDRED);
    // Not counted: the first session in a new database writes a cache file.
    compute.open_sessions(&databases)?;
    let (opened, applied) = if round.is_multiple_of(2) {
        let opened = compute.open_sessions(&databases)?;
        (opened, compute.apply(spec)?)
    } else {
        let applied = compute.apply(spec)?;
        (compute.open_sessions(&databases)?, applied)
    };
    opening.push_time(opened);
    again.push_time(applied);
    ratio.push(milliseconds(applied) / milliseconds(opened));
    Ok(())
}

/// Exactly the statements that the apply executes for the same roles and databases.
fn by_psql(compute: &Compute<'_>) -> anyhow::Result<Duration> {
    let create_roles = roles(HUNDRED).into_iter().map(|name| {
        format!(
            "CREATE ROLE \"{name}\" INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION \
             IN ROLE \"neon_superuser\" LOGIN PASSWORD NULL;\n"
        )
    });
    let create_databases =
        databases(HUNDRED).into_iter().map(|name| format!("CREATE DATABASE \"{name}\";\n"));
    let script = compute.bed.dir().join("create.sql");
    fs::write(&script, create_roles.chain(create_databases).collect::<String>())?;
    let mut command = Command::new(compute.bed.clients.program("psql"));
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(script);
    command.arg(compute.bed.connstr()).stdin(Stdio::null());
    let began = Instant::now();
    let output = command.output()?;
    let took = began.elapsed();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

/// Removes the objects of one measurement before the next.
fn clear(compute: &Compute<'_>) -> anyhow::Result<()> {
    let drop_databases =
        databases(HUNDRED).into_iter().map(|name| format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
    let drop_roles = roles(HUNDRED).into_iter().map(|name| format!("DROP ROLE \"{name}\""));
    compute.run(drop_databases.chain(drop_roles).chain(["CHECKPOINT".to_owned()]))?;
    Ok(())
}

/// How time and memory grow.
pub fn thousand(bed: &Bed, runs: usize) -> anyhow::Result<()> {
    let mut per_database = Vec::new();
    for count in [250, 1000] {
        let compute = bed.start(&bed.spec())?;
        let spec = spec(bed, count, CONCURRENCY);
        let first = milliseconds(compute.apply(&spec)?) / count as f64;
        let mut again = Samples::default();
        for _ in 0..runs {
            again.push(milliseconds(compute.apply(&spec)?) / count as f64);
        }
        pause(SETTLE);
        let (resident, peak) = (compute.process.memory("VmRSS")?, compute.process.memory("VmHWM")?);
        heading(&format!("{count} roles and {count} databases, {CONCURRENCY} at a time"));
        println!("  {:<46}{first:>9.2}{:>18}  ms", "first /configure, per database", "");
        again.print("unchanged /configure, per database", "ms");
        println!("  memory of compute_ctl: VmRSS {resident:.1} MiB, VmHWM {peak:.1} MiB");
        verdict("VmHWM", peak, 40.0, "MiB");
        compute.stop_and_delete()?;
        per_database.push((first, again.median()));
    }
    if let [few, many] = per_database.as_slice() {
        println!("\n  of 1000 databases against 250, per database:");
        verdict("first apply", many.0 / few.0, GROWTH, "times");
        verdict("unchanged apply", many.1 / few.1, GROWTH, "times");
    }
    Ok(())
}
