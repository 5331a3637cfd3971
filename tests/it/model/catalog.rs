//! The roles and databases of the specs of a life on a real server, and what becomes of the catalog.
//!
//! Pure. A spec says what must be there, and what is to be deleted. What it does not name stays as it
//! is (05 §1), so the catalog depends on every spec that was applied, in their order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

const ROLES: u32 = 4;
const DATABASES: u32 = 3;

/// The part of a catalog that the specs of these lives name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    pub roles: BTreeSet<String>,
    /// Owners by database.
    pub databases: BTreeMap<String, String>,
}

/// What the spec of a number says.
#[derive(Debug)]
pub struct Wanted {
    roles: BTreeSet<String>,
    databases: BTreeMap<String, String>,
    deleted: BTreeSet<String>,
}

/// Spreads neighbours (SplitMix64).
fn bits(number: u32) -> u64 {
    let mut bits = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits ^ (bits >> 27)
}

impl Wanted {
    pub fn of(number: u32) -> Self {
        let bits = bits(number);
        let is_set = |bit: u32| bits >> bit & 1 == 1;
        let role = |index: u32| format!("model role {index}");
        let roles: BTreeSet<_> =
            (0..ROLES).filter(|index| *index == 0 || is_set(*index)).map(role).collect();
        let (mut databases, mut deleted) = (BTreeMap::new(), BTreeSet::new());
        for index in 0..DATABASES {
            let name = format!("model \"data\" {index}");
            if is_set(8 + index) {
                let owner = (bits >> (16 + 4 * index)) as usize % roles.len();
                databases.extend(roles.iter().nth(owner).map(|owner| (name, owner.clone())));
            } else if is_set(12 + index) {
                deleted.insert(name);
            }
        }
        Self { roles, databases, deleted }
    }

    /// Puts it into a spec.
    pub fn write(&self, spec: &mut Value) {
        let role =
            |name: &String| json!({"name": name, "encrypted_password": null, "options": null});
        let database = |(name, owner): (&String, &String)| json!({"name": name, "owner": owner, "options": null});
        let delete = |name: &String| json!({"action": "delete_db", "name": name});
        spec["cluster"]["roles"] = self.roles.iter().map(role).collect();
        spec["cluster"]["databases"] = self.databases.iter().map(database).collect();
        spec["delta_operations"] = self.deleted.iter().map(delete).collect();
    }
}

impl Catalog {
    /// After the specs of these numbers.
    pub fn after(applied: &[u32]) -> Self {
        let mut catalog = Self::default();
        for wanted in applied.iter().map(|number| Wanted::of(*number)) {
            catalog.databases.retain(|name, _| !wanted.deleted.contains(name));
            catalog.roles.extend(wanted.roles);
            catalog.databases.extend(wanted.databases);
        }
        catalog
    }
}

/// A database that no spec can get: its owner is not there.
pub fn orphan() -> Value {
    json!({"name": "model orphan", "owner": "model nobody", "options": null})
}

#[test]
fn specs_differ_and_what_they_do_not_name_stays() {
    let wanted: Vec<_> = (1..30).map(Wanted::of).collect();
    assert!(wanted.iter().any(|it| !it.deleted.is_empty()));
    assert!(wanted.iter().any(|it| it.databases.is_empty()));
    assert!(wanted.iter().any(|it| it.databases.len() == DATABASES as usize));
    let all: Vec<_> = (1..30).collect();
    assert_eq!(Catalog::after(&all).roles.len(), ROLES as usize);
    for (number, wanted) in (1..30).zip(&wanted) {
        let catalog = Catalog::after(&[number]);
        assert_eq!(catalog.databases, wanted.databases);
        assert!(catalog.databases.values().all(|owner| catalog.roles.contains(owner)));
        // Twice is the same as once.
        assert_eq!(Catalog::after(&[number, number]), catalog);
    }
}
