//! Every body has an example that its schema allows and that programs can read.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::documents;
use crate::client::documents::{
    Catalog, Extension, Extra, Grant, Insights, Offload, Prewarm, Promotion, StartupMetrics,
    Status, Terminated,
};
use crate::client::{LogLevel, LogLine};
use crate::http::routes::document;
use crate::spec::ParsedSpec;
use crate::spec::wire::{ConfigureRequest, PromoteRequest};

/// Calls `check` for each body: what it is, its description, the whole description.
fn for_each_body(mut check: impl FnMut(String, &Value, &Value)) {
    let all = serde_json::to_value(document()).unwrap();
    let mut seen = 0;
    for (path, item) in all["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let answers = operation["responses"].as_object().unwrap();
            let answers = answers.iter().map(|(code, answer)| (code.as_str(), answer));
            for (what, body) in answers.chain([("request", &operation["requestBody"])]) {
                for (kind, content) in body["content"].as_object().into_iter().flatten() {
                    seen += 1;
                    check(format!("{method} {path}, {what}, {kind}"), content, &all);
                }
            }
        }
    }
    assert!(seen > 100, "only {seen} bodies were found");
}

#[test]
fn every_body_has_an_example() {
    let mut without = Vec::new();
    for_each_body(|name, content, _| {
        if content["example"].is_null() {
            without.push(name);
        }
    });
    assert!(without.is_empty(), "add them in src/http/examples:\n{}", without.join("\n"));
}

#[test]
fn every_example_has_the_form_that_is_described() {
    let mut faults = Vec::new();
    for_each_body(|name, content, all| {
        // References lead into the whole description.
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": [content["schema"]], "components": all["components"]
        });
        if content["schema"].is_null() {
            return;
        }
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors = validator.iter_errors(&content["example"]);
        faults.extend(errors.map(|error| format!("{name}: {error} at {}", error.instance_path())));
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn read<T: DeserializeOwned>(document: Option<Value>) -> T {
    serde_json::from_value(document.unwrap()).unwrap()
}

/// The handlers read the bodies of requests.
#[test]
fn requests_can_be_read() {
    let configure: ConfigureRequest = read(documents::request("configureCompute"));
    ParsedSpec::try_from(configure.spec).unwrap();
    let promote: PromoteRequest = read(documents::request("promoteReplica"));
    ParsedSpec::try_from(promote.spec).unwrap();
    read::<Extension>(documents::request("installExtension"));
    read::<Grant>(documents::request("setRoleGrants"));
}

/// The client reads the answers, and knows all members.
#[test]
fn answers_can_be_read() {
    let document = documents::answer("getComputeStatus").unwrap();
    let extra = Status::of(document.clone()).unwrap().extra().unwrap();
    assert_eq!(serde_json::to_value(&extra).unwrap(), document["extra"]);
    assert_eq!(extra.apply_report.as_ref().unwrap().operations.len(), 2);
    assert_eq!(extra.others, Extra::default().others, "a member without a type in the client");

    fn same<T: DeserializeOwned + serde::Serialize>(document: Option<Value>) {
        let document = document.unwrap();
        let read: T = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), document);
    }
    same::<StartupMetrics>(documents::answer("getComputeMetricsJSON"));
    same::<Terminated>(documents::answer("terminate"));
    same::<Prewarm>(documents::answer("getLfcPrewarmState"));
    same::<Offload>(documents::answer("getLfcOffloadState"));
    same::<Promotion>(documents::answer("promoteReplica"));
    same::<Promotion>(Some(documents::failed_promotion()));
    read::<Vec<LogLine>>(documents::answer("getLog"));
    read::<LogLevel>(documents::answer("getLogLevel"));
    read::<Catalog>(documents::answer("getDbsAndRoles"));
    let text: String = read(documents::answer("getComputeInsights"));
    let insights: Insights = serde_json::from_str(&text).unwrap();
    assert_eq!(insights.pg_stat_statements.len(), 1);
}

/// Generators of clients fail on these (see [`crate::http::named`]).
#[test]
fn no_form_is_described_where_it_is_used() {
    fn check(at: &str, value: &Value, faults: &mut Vec<String>) {
        let Some(members) = value.as_object() else {
            for item in value.as_array().into_iter().flatten() {
                check(at, item, faults);
            }
            return;
        };
        for (name, value) in members {
            let at = format!("{at}/{name}");
            if ["oneOf", "anyOf", "allOf"].contains(&name.as_str()) {
                let forms = value.as_array().unwrap();
                let named = |form: &&Value| form["$ref"].is_string() || form["type"] == "null";
                if name == "allOf" || !forms.iter().all(|form| named(&form)) {
                    faults.push(at.clone());
                }
            }
            check(&at, value, faults);
        }
    }
    let mut faults = Vec::new();
    check("", &serde_json::to_value(document()).unwrap(), &mut faults);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
