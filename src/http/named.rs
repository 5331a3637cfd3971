//! Gives each form of a document a schema of its own, because generators of clients fail on forms
//! that are described where they are used: they invent names that clash, or leave the operation out.
//!
//! ```text
//! oneOf: [{status: "a"}, {allOf: [B, {status: "b"}]}]   oneOf: [XA, XB], discriminator: status
//! oneOf: ["a", "b", {c: {…}}]                           oneOf: [XName, XC], with XCContent
//! ```
//!
//! What is valid stays the same.

use std::collections::BTreeMap;

use utoipa::openapi::schema::{
    Components, Discriminator, Object, OneOf, OneOfBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr};

/// Changes every schema that has several forms.
pub(super) fn name_forms(components: &mut Components) {
    let names: Vec<String> = components.schemas.keys().cloned().collect();
    for name in names {
        let Some(RefOr::T(Schema::OneOf(schema))) = components.schemas.get(&name) else { continue };
        if let Some(named) = Forms::of(&name, schema, components) {
            components.schemas.extend(named.added);
            components.schemas.insert(name, RefOr::T(Schema::OneOf(named.schema)));
        }
    }
}

/// A schema whose forms are references, and the schemas that they refer to.
struct Forms {
    schema: OneOf,
    added: Vec<(String, RefOr<Schema>)>,
}

impl Forms {
    /// None if it only says that a document may be null.
    fn of(name: &str, schema: &OneOf, components: &Components) -> Option<Self> {
        let mut forms = Vec::new();
        for item in &schema.items {
            match item {
                RefOr::Ref(_) => return None,
                RefOr::T(form) => forms.push(whole(form, components)?),
            }
        }
        let mut added = Vec::new();
        let mut mapping = BTreeMap::new();
        let mut tag = None;
        // All strings are one schema, at the place of the first one.
        let strings: Vec<_> = forms.iter().filter_map(|form| form.enum_values.clone()).collect();
        if !strings.is_empty() {
            let mut all = Object::with_type(Type::String);
            all.enum_values = Some(strings.concat());
            added.push((format!("{name}Name"), RefOr::T(all.into())));
        }
        for mut form in forms.into_iter().filter(|form| form.enum_values.is_none()) {
            let found = form.properties.iter().find_map(|(member, of)| Some((member, only(of)?)));
            let form_name = if let Some((member, value)) = found {
                let form_name = format!("{name}{}", pascal(&value));
                mapping.insert(value, at(&form_name));
                tag = Some(member.clone());
                form_name
            } else {
                // The object has one member, which names the form.
                let (member, content) = form.properties.iter_mut().next()?;
                let form_name = format!("{name}{}", pascal(member));
                if let RefOr::T(_) = content {
                    let content_name = format!("{form_name}Content");
                    let reference = Ref::new(at(&content_name));
                    let content = std::mem::replace(content, RefOr::Ref(reference));
                    added.push((content_name, content));
                }
                form_name
            };
            added.push((form_name, RefOr::T(form.into())));
        }
        let references = added.iter().filter(|(of, _)| !of.ends_with("Content"));
        let builder = references.fold(OneOfBuilder::new(), |builder, (of, _)| {
            builder.item(RefOr::<Schema>::Ref(Ref::new(at(of))))
        });
        let mut named = builder.description(schema.description.clone()).build();
        named.discriminator = tag.map(|tag| Discriminator::with_mapping(tag, mapping));
        Some(Self { schema: named, added })
    }
}

/// A form as one object or string; the members of other schemas are copied.
fn whole(form: &Schema, components: &Components) -> Option<Object> {
    match form {
        Schema::Object(object) => Some(object.clone()),
        Schema::AllOf(parts) => {
            let mut all = Object::with_type(Type::Object);
            all.description.clone_from(&parts.description);
            for part in &parts.items {
                let part = match part {
                    RefOr::T(part) => part,
                    RefOr::Ref(reference) => {
                        let name = reference.ref_location.rsplit('/').next()?;
                        match components.schemas.get(name)? {
                            RefOr::T(part) => part,
                            RefOr::Ref(_) => return None,
                        }
                    }
                };
                let Schema::Object(part) = part else { return None };
                all.required.extend(part.required.iter().cloned());
                all.properties.extend(part.properties.clone());
            }
            Some(all)
        }
        _ => None,
    }
}

/// The value of a member that can have only one.
fn only(member: &RefOr<Schema>) -> Option<String> {
    let RefOr::T(Schema::Object(object)) = member else { return None };
    match object.enum_values.as_deref() {
        Some([value]) if object.schema_type == SchemaType::Type(Type::String) => {
            value.as_str().map(str::to_owned)
        }
        _ => None,
    }
}

fn at(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

/// `not_prewarmed` as `NotPrewarmed`.
fn pascal(text: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_uppercase().to_string());
        first.unwrap_or_default() + letters.as_str()
    };
    text.split('_').map(capital).collect()
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::json;
    use utoipa::{PartialSchema as _, ToSchema};

    use super::*;

    #[derive(Serialize, ToSchema)]
    #[serde(tag = "state", rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Tagged {
        NotYet,
        Done(Figures),
    }

    #[derive(Serialize, ToSchema)]
    struct Figures {
        bytes: u32,
    }

    #[derive(Serialize, ToSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Mixed {
        One,
        Two { why: String },
        Three,
    }

    #[test]
    fn forms_have_names() {
        let mut components = Components::new();
        for (name, schema) in [
            ("Tagged", Tagged::schema()),
            ("Figures", Figures::schema()),
            ("Mixed", Mixed::schema()),
        ] {
            components.schemas.insert(name.to_owned(), schema);
        }
        name_forms(&mut components);
        let all = serde_json::to_value(&components.schemas).unwrap();
        let reference = |name| json!({"$ref": format!("#/components/schemas/{name}")});
        assert_eq!(
            all["Tagged"],
            json!({
                "oneOf": [reference("TaggedNotYet"), reference("TaggedDone")],
                "discriminator": {
                    "propertyName": "state",
                    "mapping": {
                        "not_yet": "#/components/schemas/TaggedNotYet",
                        "done": "#/components/schemas/TaggedDone"
                    }
                }
            })
        );
        assert_eq!(all["TaggedDone"]["required"], json!(["bytes", "state"]));
        assert_eq!(all["TaggedDone"]["properties"]["state"]["enum"], json!(["done"]));
        assert_eq!(all["Mixed"]["oneOf"], json!([reference("MixedName"), reference("MixedTwo")]));
        assert_eq!(all["MixedName"]["enum"], json!(["One", "Three"]));
        assert_eq!(all["MixedTwo"]["properties"]["Two"], reference("MixedTwoContent"));
        assert_eq!(all["MixedTwoContent"]["required"], json!(["why"]));
    }
}
