//! One question over a connection of its own, as safekeepers and leases need it.

use tokio_postgres::{Config, Error, NoTls, SimpleQueryMessage, SimpleQueryRow};

/// Connects, asks, and returns the first row of the answer, if it has one. Without a deadline;
/// nothing is left when the future is dropped.
pub(super) async fn first_row(
    config: &Config,
    query: &str,
) -> Result<Option<SimpleQueryRow>, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    let mut query = std::pin::pin!(client.simple_query(query));
    let messages = tokio::select! {
        messages = &mut query => messages,
        // The answer may have come together with the end of the connection.
        _ = connection => query.await,
    };
    Ok(messages?.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    }))
}
