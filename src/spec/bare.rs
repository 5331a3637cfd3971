//! The bare spec of `--spec`, the older form.
//!
//! It was written by hand and by tools in the years before `suspend_timeout_seconds` became a
//! required member (02 §5), so that this one member may be missing here: it then is -1, which means
//! the default. All other documents must have it.

use std::fmt;

use serde::de::value::I64Deserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::wire::ComputeSpec;

const MEMBER: &str = "suspend_timeout_seconds";
const DEFAULT: i64 = -1;

/// A spec that may lack the youngest of its required members.
#[derive(Debug)]
pub(super) struct BareSpec(pub(super) ComputeSpec);

impl<'de> Deserialize<'de> for BareSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ComputeSpec::deserialize(Older(deserializer)).map(Self)
    }
}

/// A deserializer, visitor or map that adds the member if it is missing.
struct Older<T>(T);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Older<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Older(visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Older<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(OlderMembers { members, state: State::Missing })
    }
}

struct OlderMembers<A> {
    members: A,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has not been seen so far.
    Missing,
    /// It is there.
    Present,
    /// Its name was added at the end, and its value is next.
    Added,
    /// Its value was added.
    Over,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for OlderMembers<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        if self.state == State::Over {
            return Ok(None);
        }
        let name = match self.members.next_key::<String>()? {
            Some(name) => {
                if name == MEMBER {
                    self.state = State::Present;
                }
                name
            }
            None if self.state == State::Missing => {
                self.state = State::Added;
                MEMBER.to_owned()
            }
            None => return Ok(None),
        };
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        if self.state == State::Added {
            self.state = State::Over;
            return seed.deserialize(I64Deserializer::new(DEFAULT));
        }
        self.members.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::parse;
    use super::*;
    use serde_json::{Value, json};

    fn spec() -> Value {
        json!({
            "format_version": 1.0, "operation_uuid": "o", "delta_operations": [],
            "cluster": {"cluster_id": "c", "name": "n", "state": "restarted",
                "roles": [{"name": "a", "colour": 1}], "databases": [], "settings": []}
        })
    }

    #[test]
    fn only_this_member_may_be_missing() {
        let parsed = parse::<BareSpec>(spec().to_string().as_bytes()).unwrap();
        assert_eq!(parsed.value.0.suspend_timeout_seconds, -1);
        assert_eq!(parsed.unknown_members, ["cluster.roles[0].colour"]);

        let mut with = spec();
        with[MEMBER] = json!(300);
        let parsed = parse::<BareSpec>(with.to_string().as_bytes()).unwrap();
        assert_eq!(parsed.value.0.suspend_timeout_seconds, 300);

        let (mut without, mut null, mut bad) = (spec(), with.clone(), with);
        without.as_object_mut().unwrap().remove("cluster");
        null[MEMBER] = Value::Null;
        bad["cluster"]["roles"] = json!([{"name": 7}]);
        for (document, error) in [
            (without, "missing field `cluster`"),
            (null, "suspend_timeout_seconds: invalid type: null"),
            (bad, "cluster.roles[0].name: invalid type: integer"),
            (json!([]), "invalid type"),
            (json!("planted"), "invalid type"),
        ] {
            let text = parse::<BareSpec>(document.to_string().as_bytes()).unwrap_err().to_string();
            assert!(text.contains(error) && !text.contains("planted"), "{text}");
        }
    }
}
