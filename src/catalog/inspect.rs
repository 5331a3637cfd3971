//! Reads, in one round trip, which parts of 05 §7.9b a database already has.
//!
//! The plan asks for this only where nothing outside of the database tells. A look costs about as
//! much as the session it needs, so the rows are read raw: functions and joins would make a fresh
//! session load twice as many catalogs.

use super::plan::{DatabaseState, Permissions};
use crate::sql::{Session, SessionError, TypedRow};

const SQL: &str = "\
    SELECT 'public', oid, pg_catalog.pg_get_userbyid(nspowner), nspacl \
        FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) 'public'; \
    SELECT 'default', defaclnamespace, defaclobjtype, defaclacl FROM pg_catalog.pg_default_acl";

/// All privileges on tables and sequences with grant option, as access control lists show them.
const TABLES: &str = "a*r*w*d*D*x*t*";
const TABLES_17: &str = "a*r*w*d*D*x*t*m*";
const SEQUENCES: &str = "r*w*U*";

/// Reads the schema `public` of the session's database, and the default privileges.
pub(crate) async fn look(
    session: &Session,
    permissions: &Permissions,
) -> Result<DatabaseState, SessionError> {
    let Permissions { privileged_role, session_role, major, .. } = permissions;
    let tables = if *major >= 17 { TABLES_17 } else { TABLES };
    let all = |privileges| format!("{privileged_role}={privileges}/{session_role}");
    let (tables, sequences) = (all(tables), all(SEQUENCES));

    let mut state = DatabaseState::default();
    let mut public = None;
    for row in session.query(SQL).await? {
        let row = TypedRow(&row);
        let list = items(row.optional(3)?.unwrap_or_default());
        match row.text(0)? {
            "public" => {
                public = Some(row.owned(1)?);
                state.public_owner = Some(row.owned(2)?);
                state.web_access = list.iter().any(|item| lets_web_access_create(item));
            }
            _ if public.as_deref() != Some(row.text(1)?) => {}
            _ => match row.text(2)? {
                "r" => state.default_tables |= list.contains(&tables),
                "S" => state.default_sequences |= list.contains(&sequences),
                _ => {}
            },
        }
    }
    Ok(state)
}

fn lets_web_access_create(item: &str) -> bool {
    let privileges = item.strip_prefix("web_access=").and_then(|rest| rest.split('/').next());
    privileges.is_some_and(|privileges| privileges.contains('C'))
}

/// The items of an access control list in the text form of an array. Items with special characters
/// in their names are quoted; a comma inside the quotes does not end an item.
fn items(array: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in
        array.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default().chars()
    {
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            ',' if !escaped && !quoted => items.push(String::new()),
            _ => items.iter_mut().last().into_iter().for_each(|item| item.push(c)),
        }
        escaped = false;
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_a_list() {
        assert_eq!(items("{a=r/b,=UC/b}"), ["a=r/b", "=UC/b"]);
        let odd = r#"{"\"x,boss=r*w*U*/b,y\"=r/b","\"c\\\\d\"=w/b",boss=r*w*U*/b}"#;
        assert_eq!(items(odd), ["\"x,boss=r*w*U*/b,y\"=r/b", "\"c\\\\d\"=w/b", "boss=r*w*U*/b"]);
        assert_eq!(items(""), [""]);
    }

    #[test]
    fn privileges_that_let_web_access_create() {
        assert!(lets_web_access_create("web_access=UC/x"));
        for not in ["web_access=U/Creator", "web_access2=C/x", "x=C/web_access", "=UC/x"] {
            assert!(!lets_web_access_create(not), "{not}");
        }
    }
}
