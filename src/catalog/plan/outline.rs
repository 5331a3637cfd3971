//! Which databases need not be looked into (05 §7.9b).
//!
//! Of what an unchanged apply does, opening a session in every database takes nearly all the time.
//! What it would find there leaves traces in a catalog that all databases share, and these come with
//! the snapshot as an [`Outline`]. Invariant: where they leave any doubt, except as below, the database
//! is looked into.
//!
//! Our default privileges are two rows, made in one transaction, together with the change of the
//! owner of `public`. They go when that schema goes, and when somebody drops what the privileged
//! role holds; nobody but a superuser can change them. So as long as there are two of them, they are
//! those. They stay with a schema that is given another name, so a schema that somebody made, which
//! may be called `public` by now, is looked at.
//!
//! What is not seen: what a superuser does by hand to these rows or to the owner of `public`; what
//! the two rows grant, where older software may have made them without the grant option, or without
//! MAINTAIN, which there is from 17 on; and what a user does in the name of a role that `initdb` made.
//! That may be default privileges `FOR ROLE pg_monitor` in place of ours after dropping them, or a
//! schema in place of `public` after renaming that, if it was made with `AUTHORIZATION
//! pg_database_owner` or given away with `ALTER SCHEMA … OWNER TO pg_database_owner`.

use super::super::snapshot::Outline;
use super::permissions::{ADMINS, Permissions};

/// On tables, and on sequences.
const DEFAULTS: usize = 2;
/// Since then `public` belongs to `pg_database_owner`, which leaves no trace.
const PREDEFINED_OWNER: u32 = 15;

/// Whether [`super::plan_database`] would ask for nothing.
pub(super) fn is_settled(outline: &Outline, permissions: &Permissions) -> bool {
    let owner_stays = match outline.public_owner.as_deref() {
        Some(owner) => !ADMINS.contains(&owner),
        None => permissions.major >= PREDEFINED_OWNER,
    };
    // That `web_access` holds something is to be seen, but not what.
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
            assert!(!is_settled(&settled(), &web), "{major}: what it holds is not to be seen");
        }
        let nobody = Outline { public_owner: None, ..settled(14) };
        assert!(!is_settled(&nobody, &permissions(14)), "still the superuser's");
    }
}
