//! Decides which databases need no session (05 §7.9b).
//!
//! In an unchanged apply, opening a session in every database takes nearly all the time. The state
//! inside a database leaves traces in a catalog that all databases share, and the snapshot reads
//! them as an [`Outline`]. Invariant: where the outline leaves any doubt, except as below, the
//! apply opens a session in the database.
//!
//! Our default privileges are two rows, written in one transaction with the change of the owner of
//! `public`. They disappear with that schema, and when a user drops what the privileged role
//! holds; only a superuser can change them. So as long as there are two such rows, they are ours.
//! They stay with a schema that is renamed, so a database with a schema that `initdb` did not
//! make, which may be called `public` by now, is looked into.
//!
//! An outline does not show: what a superuser changes by hand in these rows or in the owner of
//! `public`; which privileges the two rows grant, where older software may have made them without
//! the grant option, or without MAINTAIN, which exists from 17 on; and what a user does in the
//! name of a role that `initdb` made. Such a user can replace our default privileges by others
//! `FOR ROLE pg_monitor`, or rename `public` and replace it by a schema that was made with
//! `AUTHORIZATION pg_database_owner` or given away with `ALTER SCHEMA … OWNER TO
//! pg_database_owner`.

use super::super::snapshot::Outline;
use super::permissions::{ADMINS, Permissions};

/// Rows of our default privileges: one for tables, one for sequences.
const DEFAULTS: usize = 2;
/// From this version on `public` belongs to `pg_database_owner`, which leaves no trace.
const PREDEFINED_OWNER: u32 = 15;

/// Whether [`super::plan_database`] would return no operations.
pub(super) fn is_settled(outline: &Outline, permissions: &Permissions) -> bool {
    let owner_stays = match outline.public_owner.as_deref() {
        Some(owner) => !ADMINS.contains(&owner),
        None => permissions.major >= PREDEFINED_OWNER,
    };
    // The outline shows that `web_access` holds privileges, but not which.
    outline.defaults == DEFAULTS && !outline.more_schemas && owner_stays && !permissions.web_access
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(major: u32) -> Outline {
        // 14 gives `public` to the owner of the database.
        let public_owner = (major < 15).then(|| "ann".to_owned());
        Outline { defaults: 2, public_owner, more_schemas: false }
    }

    fn permissions(major: u32) -> Permissions {
        Permissions { major, ..Permissions::default() }
    }

    #[test]
    fn traces_of_an_apply_are_enough() {
        for major in 14..=17 {
            assert!(is_settled(&settled(major), &permissions(major)), "{major}");
        }
        let given_away = Outline { public_owner: Some("ann".to_owned()), ..settled(17) };
        assert!(is_settled(&given_away, &permissions(17)));
    }

    #[test]
    fn any_doubt_is_a_reason_to_look() {
        let owned_by = |owner: &str| Some(owner.to_owned());
        for major in 14..=17 {
            let settled = || settled(major);
            for (outline, why) in [
                (Outline { defaults: 0, ..settled() }, "schema dropped, or a new database"),
                (Outline { defaults: 1, ..settled() }, "half of it"),
                (Outline { defaults: 3, ..settled() }, "others for the privileged role"),
                (Outline { more_schemas: true, ..settled() }, "one of them may be public"),
                (Outline { public_owner: owned_by("cloud_admin"), ..settled() }, "not given away"),
                (Outline { public_owner: owned_by("zenith_admin"), ..settled() }, "not given away"),
            ] {
                assert!(!is_settled(&outline, &permissions(major)), "{major}: {why}");
            }
            let web = Permissions { web_access: true, ..permissions(major) };
            assert!(
                !is_settled(&settled(), &web),
                "{major}: the outline does not show what it holds"
            );
        }
        let unowned = Outline { public_owner: None, ..settled(14) };
        assert!(!is_settled(&unowned, &permissions(14)), "still the superuser's");
    }
}
