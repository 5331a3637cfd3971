//! The floor of an apply: the same statements by clients that know beforehand what is missing. They
//! read no state, report nothing, and send each statement as soon as the one it needs is done.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::future::{join_all, try_join};
use nix::sys::signal::Signal;
use tokio_postgres::Client;

use super::bed::{Bed, Compute, session};
use super::common::process::Process;

/// Logged when a server without a supervisor accepts sessions.
const READY: &str = "database system is ready to accept connections";
/// The clients of [`by_four`], as many as an apply uses to create databases.
const CLIENTS: usize = 4;

const PRIVILEGED_ROLE: &str = "CREATE ROLE neon_superuser CREATEDB CREATEROLE NOLOGIN REPLICATION \
                               BYPASSRLS IN ROLE pg_read_all_data, pg_write_all_data";
const HEALTH_CHECK: &str = include_str!("../../src/catalog/sql/create_health_check.sql");
/// What an apply sends to each new database.
const INSIDE: &str = "\
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO neon_superuser WITH GRANT OPTION; \
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO neon_superuser \
    WITH GRANT OPTION";

fn create_role(name: &str) -> String {
    format!(
        "CREATE ROLE \"{name}\" INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION \
         IN ROLE neon_superuser LOGIN PASSWORD NULL"
    )
}

/// The statements after `CREATE DATABASE`.
fn hand_over(name: &str, owner: &str) -> String {
    format!(
        "ALTER DATABASE \"{name}\" OWNER TO \"{owner}\"; \
         GRANT ALL PRIVILEGES ON DATABASE \"{name}\" TO neon_superuser"
    )
}

async fn create_database(client: &Client, name: &str, owner: &str) -> anyhow::Result<()> {
    client.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await?;
    Ok(client.batch_execute(&hand_over(name, owner)).await?)
}

async fn work_inside(bed: &Bed, name: &str) -> anyhow::Result<()> {
    let client = session(&bed.connstr_of("cloud_admin", name)).await?;
    Ok(client.batch_execute(INSIDE).await?)
}

/// One role and one database on a server that has just been started, from the connect to the last
/// answer. The data directory is that of a compute that has ended without looking at its catalog.
pub fn one(bed: &Bed, role: &str, database: &str) -> anyhow::Result<Duration> {
    let pgdata = bed.pgdata();
    forget_caches(&pgdata)?;
    let mut command = Command::new(&bed.server.postgres);
    command.arg("-D").arg(&pgdata);
    bed.owner.run_as(&mut command);
    let server = Process::start(command, READY)?;
    server.reached()?;
    let took = bed.block_on(async {
        let began = Instant::now();
        let client = session(&bed.connstr()).await?;
        let roles = [PRIVILEGED_ROLE, &create_role(role)].join(";\n");
        let create = format!("CREATE DATABASE \"{database}\"");
        let hand_over = hand_over(database, role);
        // Sent at once: the server takes one after the other.
        let sent = [roles.as_str(), &create, &hand_over].map(|sql| client.batch_execute(sql));
        for done in join_all(sent).await {
            done?;
        }
        let check = HEALTH_CHECK.replace("@PRIVILEGED@", "neon_superuser");
        let system = ["CREATE SCHEMA IF NOT EXISTS neon", &check].join(";\n");
        let system = async { Ok(client.batch_execute(&system).await?) };
        try_join(system, work_inside(bed, database)).await?;
        anyhow::Ok(began.elapsed())
    })?;
    server.stop(Signal::SIGQUIT)?;
    Ok(took)
}

/// The files that a server's first session writes, and that a new basebackup does not have.
fn forget_caches(pgdata: &Path) -> anyhow::Result<()> {
    let databases = fs::read_dir(pgdata.join("base"))?.collect::<Result<Vec<_>, _>>()?;
    let folders = databases.into_iter().map(|entry| entry.path()).chain([pgdata.join("global")]);
    for folder in folders {
        let _ = fs::remove_file(folder.join("pg_internal.init"));
    }
    Ok(())
}

/// Many roles, each with a database, on a running compute. One client creates the roles, four share
/// the databases, and when all are there, four sessions at a time work inside them.
pub fn by_four(
    compute: &Compute<'_>,
    roles: &[String],
    databases: &[String],
) -> anyhow::Result<Duration> {
    let bed = compute.bed;
    let share = databases.len().div_ceil(CLIENTS);
    let pairs: Vec<_> = databases.iter().zip(roles).collect();
    bed.block_on(async {
        let began = Instant::now();
        let first = session(&bed.connstr()).await?;
        let create: Vec<_> = roles.iter().map(|role| create_role(role)).collect();
        first.batch_execute(&create.join(";\n")).await?;
        let creating = pairs.chunks(share).map(|pairs| async move {
            let client = session(&bed.connstr()).await?;
            for (database, role) in pairs {
                create_database(&client, database, role).await.context((*database).clone())?;
            }
            anyhow::Ok(())
        });
        join_all(creating).await.into_iter().collect::<anyhow::Result<()>>()?;
        let inside = pairs.chunks(share).map(|pairs| async move {
            for (database, _) in pairs {
                work_inside(bed, database).await?;
            }
            anyhow::Ok(())
        });
        join_all(inside).await.into_iter().collect::<anyhow::Result<()>>()?;
        Ok(began.elapsed())
    })
}
