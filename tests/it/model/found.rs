//! What a real server has: the spec that it has loaded, and the objects of its catalog.

use std::time::Duration;

use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::catalog::Catalog;

/// A server that has been killed may not answer at all.
const LIMIT: Duration = Duration::from_secs(20);

pub struct Found {
    /// Of the spec.
    pub number: u32,
    pub catalog: Catalog,
}

/// `None` if there is no server any more.
pub async fn found(connstr: &str) -> Option<Found> {
    tokio::time::timeout(LIMIT, ask(connstr)).await.ok()?.ok()
}

async fn ask(connstr: &str) -> Result<Found, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(connstr, NoTls).await?;
    let asked = async {
        let number = rows(&client, "SHOW app.number").await?;
        let roles = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname LIKE 'model %'";
        let databases = "SELECT d.datname, r.rolname FROM pg_catalog.pg_database d \
            JOIN pg_catalog.pg_roles r ON r.oid = d.datdba WHERE d.datname LIKE 'model %'";
        let roles = rows(&client, roles).await?.into_iter().flatten().collect();
        let pairs = rows(&client, databases).await?.into_iter();
        let pair = |row: Vec<String>| Some((row.first()?.clone(), row.get(1)?.clone()));
        let catalog = Catalog { roles, databases: pairs.filter_map(pair).collect() };
        let number = number.concat().concat().parse().unwrap();
        Ok(Found { number, catalog })
    };
    tokio::select! {
        found = asked => found,
        broken = connection => match broken {
            Err(error) => Err(error),
            Ok(()) => unreachable!("the client is still there"),
        },
    }
}

/// Columns of the rows.
async fn rows(
    client: &tokio_postgres::Client,
    query: &str,
) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let columns = |row: &tokio_postgres::SimpleQueryRow| {
        (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect()
    };
    Ok(rows.map(columns).collect())
}
