//! Installs an extension in a given version (05 §15.4).
//!
//! The extension `neon` and all extensions in our schemas are refused ([`super::protected`]).
//! Extensions of `pg_catalog`, such as `plpgsql`, are updated like any other, and created where
//! their control file permits schema `public`: Postgres checks that.

use super::protected::{self, Refusal, RequestError};
use super::query_error::{self, QueryError};
use super::trust::close_triggers;
use crate::sql::Session;
use crate::sql::quote::{identifier, literal};

/// `application_name` of the session.
pub(crate) const APPLICATION_NAME: &str = "compute_ctl:install_extension";

/// A request for an extension whose name is not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Installation<'a> {
    extension: &'a str,
    version: &'a str,
}

impl<'a> Installation<'a> {
    /// Checks the name.
    pub(crate) fn new(extension: &'a str, version: &'a str) -> Result<Self, Refusal> {
        protected::extension(extension)?;
        Ok(Self { extension, version })
    }

    /// Creates the extension in schema `public`, or updates it to the version; does nothing when
    /// the version is installed. The session must be in the database that gets it.
    pub(crate) async fn carry_out(&self, session: &Session) -> Result<(), RequestError> {
        let Self { extension, version } = *self;
        let installed = query_error::texts(session, &installed(extension)).await?;
        let installed = installed.first().map(String::as_str);
        if installed == Some(IN_OUR_SCHEMA) {
            return Err(Refusal::InOurSchema(extension.to_owned()).into());
        }
        let installed = installed.and_then(|text| text.strip_prefix(VERSION));
        if let Some(sql) = statement(extension, version, installed) {
            // In the transaction of the script, so that tenants never hold TRIGGER on the new
            // tables.
            let close = close_triggers(extension);
            let done = session.query(&format!("{sql}; {close}")).await;
            done.map_err(|error| QueryError { sql, error })?;
        }
        Ok(())
    }
}

/// The answer of [`installed`] about an extension in one of our schemas.
const IN_OUR_SCHEMA: &str = "in our schema";
/// The start of its answer about any other extension; the version follows.
const VERSION: &str = "version ";

/// A query that has one row if the extension is installed.
fn installed(extension: &str) -> String {
    format!(
        "SELECT CASE WHEN {} THEN '{IN_OUR_SCHEMA}'::pg_catalog.text \
                     ELSE pg_catalog.concat('{VERSION}'::pg_catalog.text, e.extversion) END \
         FROM pg_catalog.pg_extension e \
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace \
         WHERE e.extname OPERATOR(pg_catalog.=) {}::pg_catalog.name",
        protected::is_ours("n.nspname"),
        literal(extension)
    )
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
    fn what_is_ours_is_refused() {
        assert_eq!(Installation::new("neon", "1.6"), Err(Refusal::OurExtension));
        assert!(Installation::new("plpgsql", "1.0").is_ok());
    }

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
