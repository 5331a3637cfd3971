//! The reference of the API as a page, from its description in OpenAPI.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::document;
use super::text::shown;

/// The whole document. Members of the description that have another form are left out.
pub(crate) fn render(description: &Value) -> String {
    let operations: Vec<_> = operations(description).collect();
    let components = &description["components"];
    let schemas = &components["schemas"];
    document(
        "API reference",
        None,
        &html! {
            header.top.busy {
                p.id { "compute_ctl" }
                h1 { "API reference" }
                p.since { a href="." { "state of the compute" } " · " a href="openapi.json" { "OpenAPI" } }
            }
            main {
                @for tag in members(&description["tags"]) {
                    section {
                        h2 { (word(&tag["name"])) " " small { (word(&tag["description"])) } }
                        table { tbody {
                            @for one in operations.iter().filter(|one| one.is_in(&tag["name"])) {
                                tr {
                                    td.method { (one.method) }
                                    td.name { a href={ "#" (one.id()) } { code { (shown(one.path)) } } }
                                    td { (word(&one.value["summary"])) }
                                }
                            }
                        } }
                    }
                }
                @for one in &operations { (one.render()) }
                @for (name, schema) in object(schemas) {
                    section.schema id={ "schema-" (name) } {
                        h2 { code { (shown(name)) } }
                        pre { (pretty(schema)) }
                    }
                }
            }
        },
    )
}

/// A method of a path.
struct Operation<'a> {
    method: String,
    path: &'a str,
    value: &'a Value,
}

fn operations(description: &Value) -> impl Iterator<Item = Operation<'_>> {
    object(&description["paths"]).flat_map(|(path, item)| {
        object(item)
            .filter(|(_, value)| value["responses"].is_object())
            .map(move |(method, value)| Operation { method: method.to_uppercase(), path, value })
    })
}

impl Operation<'_> {
    fn id(&self) -> &str {
        self.value["operationId"].as_str().unwrap_or_default()
    }

    fn is_in(&self, tag: &Value) -> bool {
        members(&self.value["tags"]).any(|it| it == tag)
    }

    fn render(&self) -> Markup {
        let Self { method, path, value } = self;
        let parameters: Vec<_> = members(&value["parameters"]).collect();
        let body = &value["requestBody"];
        html! {
            section.operation id=(self.id()) {
                h3 { span.method { (method) } code { (shown(path)) } }
                p { (word(&value["summary"])) }
                @if value["description"].is_string() { p.dim { (word(&value["description"])) } }
                @if value["security"].is_array() { p.dim { "Asks for a token." } }
                @if !parameters.is_empty() {
                    table {
                        thead { tr {
                            th scope="col" { "Parameter" } th scope="col" { "In" } th scope="col" { "Meaning" }
                        } }
                        tbody {
                            @for one in parameters {
                                tr {
                                    td.name { code { (word(&one["name"])) } }
                                    td.name { (word(&one["in"])) }
                                    td { (word(&one["description"])) }
                                }
                            }
                        }
                    }
                }
                @if body.is_object() { p { "Body: " (content(&body["content"])) } }
                table {
                    thead { tr {
                        th scope="col" { "Answer" } th scope="col" { "Meaning" } th scope="col" { "Body" }
                    } }
                    tbody {
                        @for (code, answer) in object(&value["responses"]) {
                            tr {
                                td.name { (shown(code)) }
                                td { (word(&answer["description"])) }
                                td { (content(&answer["content"])) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The type of a body, with its schema and its examples.
fn content(content: &Value) -> Markup {
    html! {
        @for (media, value) in object(content) {
            (shown(media)) " " (schema(&value["schema"]))
            @if !value["example"].is_null() { pre { (pretty(&value["example"])) } }
            @for (_, example) in object(&value["examples"]) {
                @if !example["value"].is_null() { pre { (pretty(&example["value"])) } }
            }
        }
    }
}

/// A link to a schema with a name; nothing for others, which have no more than their type.
fn schema(schema: &Value) -> Markup {
    let name = schema["$ref"].as_str().and_then(|it| it.strip_prefix("#/components/schemas/"));
    html! { @if let Some(name) = name { a href={ "#schema-" (name) } { code { (shown(name)) } } } }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A text of the description, in which backticks surround code.
fn word(value: &Value) -> Markup {
    let parts = value.as_str().unwrap_or_default().split('`');
    html! {
        @for (at, part) in parts.enumerate() {
            @if at % 2 == 1 { code { (shown(part)) } } @else { (shown(part)) }
        }
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn members(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_with_all_their_parts() {
        let page = render(&json!({
            "tags": [{"name": "external", "description": "the <first>"}],
            "paths": {"/a/{b}": {"post": {
                "tags": ["external"], "operationId": "doIt", "summary": "Does `<it>` now",
                "security": [], "parameters": [{"name": "b", "in": "path", "description": "what"}],
                "requestBody": {"content": {"application/json": {
                    "schema": {"$ref": "#/components/schemas/It"}, "example": {"a": "<b>"}
                }}},
                "responses": {"200": {"description": "Done", "content": {"text/plain": {}}}}
            }}},
            "components": {"schemas": {"It": {"type": "object"}}}
        }));
        for part in [
            "the &lt;first&gt;",
            "<code><bdi>&lt;it&gt;</bdi></code>",
            "href=\"#doIt\"",
            "id=\"doIt\"",
            "Asks for a token.",
            "href=\"#schema-It\"",
            "id=\"schema-It\"",
            "&lt;b&gt;",
            "text/plain",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("<b>") && !page.contains("<first>"));
        assert!(render(&json!(null)).contains("API reference"), "any document");
    }
}
