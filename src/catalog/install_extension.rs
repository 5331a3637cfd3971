//! An extension in a given version (05 §15.4).

use super::query_error::{self, QueryError};
use super::quote::{identifier, literal};
use super::session::Session;
use super::trust::close_triggers;

/// `application_name` of the session.
pub const APPLICATION_NAME: &str = "compute_ctl:install_extension";

/// Creates the extension in schema `public`, or updates it to the version; does nothing when the
/// version is installed. The session is on the database that gets it.
pub async fn install(session: &Session, extension: &str, version: &str) -> Result<(), QueryError> {
    let installed = format!(
        "SELECT extversion FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) {}",
        literal(extension)
    );
    let installed = query_error::texts(session, &installed).await?;
    if let Some(sql) = statement(extension, version, installed.first().map(String::as_str)) {
        // In the transaction of the script: nothing is open to tenants' triggers for a moment.
        let close = close_triggers(extension);
        let done = session.query(&format!("{sql}; {close}")).await;
        done.map_err(|error| QueryError { sql, error })?;
    }
    Ok(())
}

fn statement(extension: &str, version: &str, installed: Option<&str>) -> Option<String> {
    let (name, wanted) = (identifier(extension), identifier(version));
    match installed {
        Some(installed) if installed == version => None,
        Some(_) => Some(format!("ALTER EXTENSION {name} UPDATE TO {wanted}")),
        None => Some(format!(
            "CREATE EXTENSION IF NOT EXISTS {name} WITH SCHEMA public VERSION {wanted}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn create_update_or_nothing() {
        assert_eq!(
            statement("a\"b", "1", None).as_deref(),
            Some(r#"CREATE EXTENSION IF NOT EXISTS "a""b" WITH SCHEMA public VERSION "1""#)
        );
        assert_eq!(
            statement("citext", "1.6", Some("1.5")).as_deref(),
            Some(r#"ALTER EXTENSION "citext" UPDATE TO "1.6""#)
        );
        assert_eq!(statement("citext", "1.6", Some("1.6")), None);
    }
}
