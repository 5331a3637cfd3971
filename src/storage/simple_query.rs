//! One query over a new connection, for safekeepers and leases.

use tokio_postgres::{Config, Error, NoTls, SimpleQueryMessage, SimpleQueryRow};

/// Connects, runs the query, and returns the first row, if any. Has no deadline; dropping the
/// future closes the connection.
pub(super) async fn first_row(
    config: &Config,
    query: &str,
) -> Result<Option<SimpleQueryRow>, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    let mut query = std::pin::pin!(client.simple_query(query));
    let messages = tokio::select! {
        messages = &mut query => messages,
        // The answer may have arrived together with the end of the connection.
        _ = connection => query.await,
    };
    Ok(messages?.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    }))
}
