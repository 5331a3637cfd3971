//! The metrics of requests: which series counts which request.

use std::collections::BTreeMap;

use super::bed::{Answer, Api, good_body};

/// Series of `compute_ctl_http_request…` that are not 0, by `server method route code`.
fn series(api: &Api, family: &str) -> BTreeMap<String, u64> {
    let text = api.node.metrics.render().unwrap();
    let prefix = format!("compute_ctl_http_request{family}{{");
    let lines = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once("} "));
    let named = lines.map(|(labels, value)| {
        let labels: Vec<_> = labels.split(',').map(|it| it.split('"').nth(1).unwrap()).collect();
        let [code, method, route, server] = labels[..] else { panic!("{labels:?}") };
        (format!("{server} {method} {route} {code}"), value.parse().unwrap())
    });
    named.filter(|(_, value)| *value > 0).collect()
}

#[tokio::test]
async fn each_request_counts_for_its_route() {
    let api = Api::start();
    assert!(series(&api, "s_total").is_empty());
    let all = api.node.metrics.render().unwrap();
    let unasked = r#"compute_ctl_http_requests_total{code="5xx",method="POST",route="/promote",server="external"} 0"#;
    assert!(all.contains(unasked), "{all}");

    // Queries and tokens do not matter, and neither does a part of the path that is a parameter.
    assert_eq!(api.get("/status?a=b").await.code, 200);
    assert_eq!(Answer::of(api.client.get(api.external("/status"))).await.code, 400);
    assert_eq!(Answer::of(api.client.head(api.external("/status"))).await.code, 400);
    assert_eq!(api.configure(&good_body("")).await.code, 200);
    for file in ["a.tar.zst", "b/c"] {
        let url = api.internal(&format!("/extension_server/{file}"));
        Answer::of(api.client.post(url)).await;
    }
    assert_eq!(api.get("/openapi.json").await.code, 200);
    assert_eq!(Answer::of(api.client.get(api.internal("/openapi.json"))).await.code, 200);
    // Without a route: another path, another method, another server.
    assert_eq!(api.get("/nope").await.code, 404);
    assert_eq!(api.get("/extension_server/").await.code, 404);
    assert_eq!(api.post("/status").await.code, 405);
    let expected = [
        ("external GET /openapi.json 2xx", 1),
        ("external GET /status 2xx", 1),
        ("external GET /status 4xx", 2),
        ("external POST /configure 2xx", 1),
        ("external unknown unknown 4xx", 3),
        ("internal GET /openapi.json 2xx", 1),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    let is_extension = |name: &str| name.contains("/extension_server/{*filename}");
    let (extensions, others): (BTreeMap<_, _>, _) =
        series(&api, "s_total").into_iter().partition(|(name, _)| is_extension(name));
    assert_eq!(others, expected);
    assert_eq!(extensions.values().sum::<u64>(), 2, "{extensions:?}");
    let timed = series(&api, "_duration_seconds_count");
    assert_eq!(timed, others.into_iter().chain(extensions).collect());

    // The client chose how long this takes.
    assert_eq!(api.get("/status?wait=running").await.code, 200);
    assert_eq!(series(&api, "s_total")["external GET /status 2xx"], 2);
    assert_eq!(series(&api, "_duration_seconds_count"), timed);
}

/// Clients choose paths, methods, names and headers, and none of them makes a series.
#[tokio::test]
async fn clients_make_no_series() {
    let api = Api::start();
    let count = || api.node.metrics.render().unwrap().lines().count();
    let ask = async |number: usize| {
        for path in [
            format!("/nope-{number}"),
            format!("/extension_server/nope-{number}.so?is_library=true"),
            format!("/status/{number}?wait={number}"),
            format!("/database_schema?database=nope-{number}"),
        ] {
            for url in [api.external(&path), api.internal(&path)] {
                let method = format!("M{number}").parse().unwrap();
                let invented = api.client.request(method, &url).header("host", "localhost");
                Answer::of(invented).await;
                let request = api.client.post(&url).bearer_auth(format!("t{number}"));
                Answer::of(request.header("x-request-id", format!("r{number}"))).await;
            }
        }
    };
    // Histograms begin with the first request of their route.
    ask(0).await;
    let before = count();
    for number in 1..=130 {
        ask(number).await;
    }
    assert_eq!(count(), before, "{}", api.node.metrics.render().unwrap());
    let unknown: u64 = series(&api, "s_total")
        .iter()
        .filter_map(|(name, value)| name.contains("unknown unknown").then_some(*value))
        .sum();
    assert!(unknown > 1000, "{unknown}");
}
