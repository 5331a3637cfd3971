//! Metrics of the requests to the two HTTP servers.
//!
//! A server resolves the series of its routes once, so that a request looks up no label and
//! allocates nothing. The number of series is bounded: routes and methods are those of the server,
//! and all other requests share one series. A counter begins at 0 for each of them. A histogram has
//! ten series, and most routes are never asked, so a histogram begins with its first request.
//!
//! The counters are not those of the library: it keeps name, help and labels with each, which for
//! a few hundred series cost a tenth of a start's instructions and a quarter of a megabyte.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc, Describer as _};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

/// Label `route`, and `method`, of the requests that no route serves.
pub(crate) const UNKNOWN: &str = "unknown";

/// Values of the label `code`; an upgrade or a redirect counts as a success.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// Upper bounds in seconds. The last is the time of a slow `/configure`.
const BOUNDS: [f64; 8] = [0.0005, 0.002, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0];

const LABELS: [&str; 4] = ["server", "route", "method", "code"];

/// The families.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: Requests,
    durations: HistogramVec,
    certificate_expiry: GaugeVec,
    renewal_failures: IntCounterVec,
}

impl HttpMetrics {
    /// Registers the families. Fails only if another family has one of the names.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = Requests::new()?;
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "compute_ctl_http_request_duration_seconds",
                "Time from the head of a request to the head of its answer",
            )
            .buckets(BOUNDS.into()),
            &LABELS,
        )?;
        // Without labels, but a vector, so that there is no series without a certificate.
        let certificate_expiry = GaugeVec::new(
            Opts::new(
                "compute_ctl_http_tls_certificate_expiry_timestamp_seconds",
                "When the TLS certificate of the external HTTP server expires",
            ),
            &[],
        )?;
        // As above; it begins at 0 with the first certificate.
        let renewal_failures = IntCounterVec::new(
            Opts::new(
                "compute_ctl_http_tls_renewal_failures_total",
                "Times that the TLS files of the external HTTP server could not be used",
            ),
            &[],
        )?;
        registry.register(Box::new(certificate_expiry.clone()))?;
        registry.register(Box::new(renewal_failures.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        Ok(Self { requests, durations, certificate_expiry, renewal_failures })
    }

    /// Sets the end of the validity of the external server's certificate, in seconds since 1970.
    #[expect(clippy::cast_precision_loss, reason = "exact for the next million years")]
    pub fn set_certificate_expiry(&self, seconds: i64) {
        if let Ok(gauge) = self.certificate_expiry.get_metric_with_label_values::<&str>(&[]) {
            gauge.set(seconds as f64);
        }
    }

    /// The counter of failed renewals of that certificate, from 0 on.
    pub fn renewal_failures(&self) -> IntCounter {
        self.renewal_failures.with_label_values::<&str>(&[])
    }

    /// The series of one method of a route of a server. `route` is the path as the server declares
    /// it, not the path of a request.
    pub fn route(&self, server: &'static str, route: &str, method: &str) -> RouteMetrics {
        let (durations, route, method) =
            (self.durations.clone(), route.to_owned(), method.to_owned());
        let classes = CLASSES.map(|code| ClassMetrics {
            code,
            requests: AtomicU64::new(0),
            duration: OnceLock::new(),
        });
        let mut known = self.requests.series.lock();
        let asked = |series: &&Arc<Series>| {
            (series.server, &series.route, &series.method) == (server, &route, &method)
        };
        if let Some(series) = known.iter().find(asked) {
            return RouteMetrics(Arc::clone(series));
        }
        let series = Arc::new(Series { server, route, method, durations, classes });
        known.push(Arc::clone(&series));
        RouteMetrics(series)
    }
}

/// The series of one method of a route. Clones share them.
#[derive(Debug, Clone)]
pub struct RouteMetrics(Arc<Series>);

#[derive(Debug)]
struct Series {
    server: &'static str,
    route: String,
    method: String,
    durations: HistogramVec,
    classes: [ClassMetrics; 3],
}

/// The series of one class of answers.
#[derive(Debug)]
struct ClassMetrics {
    code: &'static str,
    requests: AtomicU64,
    duration: OnceLock<Histogram>,
}

impl RouteMetrics {
    /// Counts an answer with this status code. `took` is `None` if the client decided how long the
    /// answer took.
    pub fn answered(&self, code: u16, took: Option<Duration>) {
        let Series { server, route, method, durations, classes } = &*self.0;
        let [success, client_error, server_error] = classes;
        let class = match code {
            500.. => server_error,
            400..500 => client_error,
            _ => success,
        };
        class.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(took) = took {
            let labels = [server, route.as_str(), method, class.code];
            let duration = class.duration.get_or_init(|| durations.with_label_values(&labels));
            duration.observe(took.as_secs_f64());
        }
    }
}

/// The family of the counters.
#[derive(Debug, Clone)]
struct Requests {
    description: Desc,
    series: Arc<Mutex<Vec<Arc<Series>>>>,
}

impl Requests {
    fn new() -> Result<Self, prometheus::Error> {
        let name = "compute_ctl_http_requests_total";
        let labels = LABELS.map(str::to_owned).to_vec();
        let options = Opts::new(name, "Requests that the HTTP servers answered");
        let description = options.variable_labels(labels).describe()?;
        Ok(Self { description, series: Arc::default() })
    }
}

impl Collector for Requests {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let series = self.series.lock();
        let metrics = series.iter().flat_map(|it| it.classes.iter().map(move |class| (it, class)));
        let metrics = metrics.map(|(series, class)| {
            let values = [series.server, &series.route, &series.method, class.code];
            let mut labels: Vec<_> = LABELS.iter().zip(values).map(label).collect();
            // As the library orders them.
            labels.sort();
            let mut metric = Metric::from_label(labels);
            metric.set_counter(counter(class.requests.load(Ordering::Relaxed)));
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(self.description.fq_name.clone());
        family.set_help(self.description.help.clone());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

fn label((name, value): (&&str, &str)) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name((*name).to_owned());
    label.set_value(value.to_owned());
    label
}

#[expect(clippy::cast_precision_loss, reason = "exact for the first nine quadrillion requests")]
fn counter(count: u64) -> Counter {
    let mut counter = Counter::default();
    counter.set_value(count as f64);
    counter
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn counters_begin_at_0_and_histograms_with_a_request() {
        let registry = Registry::new();
        let metrics = HttpMetrics::register(&registry).unwrap();
        let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let route = metrics.route("external", "/a", "GET");
        let series = |code, kind: &str| {
            format!(
                r#"compute_ctl_http_request{kind}{{code="{code}",method="GET",route="/a",server="external"}} "#
            )
        };
        for code in CLASSES {
            assert!(text().contains(&(series(code, "s_total") + "0\n")), "{}", text());
        }
        assert!(!text().contains("duration"), "{}", text());
        for (code, class) in [(101, "2xx"), (200, "2xx"), (404, "4xx"), (503, "5xx")] {
            route.answered(code, Some(Duration::from_secs(60)));
            // One that the client made last long.
            metrics.route("external", "/a", "GET").answered(code, None);
            let twice = if code == 200 { "4\n" } else { "2\n" };
            assert!(text().contains(&(series(class, "s_total") + twice)), "{code}: {}", text());
            let timed = if code == 200 { "2\n" } else { "1\n" };
            let count = series(class, "_duration_seconds_count") + timed;
            assert!(text().contains(&count), "{code}: {}", text());
        }
    }
}
