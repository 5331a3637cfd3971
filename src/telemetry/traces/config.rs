//! What the standard variables ask for (01 §2, §21).
//!
//! Rule: a value that cannot be used never fails a start. It gets one line in the log, which names
//! the variable and the reason and does not repeat the value, and the default applies.

use std::str::FromStr;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::env::{OTLP_HEADERS, OTLP_TRACES_HEADERS, Otel};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const DEFAULT_ENDPOINT: &str = "http://localhost:4318/v1/traces";
const SERVICE: &str = "compute_ctl";

/// Largest value of the numbers about batches: bounds what a wrong number can cost.
const MOST: u64 = 1_000_000;

/// How traces are made and exported.
#[derive(Debug, Clone)]
pub(super) struct TraceConfig {
    /// Where each batch is posted to.
    pub(super) endpoint: Url,
    /// Headers of each request; all are marked sensitive.
    pub(super) headers: HeaderMap,
    /// Whether bodies are compressed with gzip.
    pub(super) gzip: bool,
    /// Limit for one request.
    pub(super) timeout: Duration,
    /// Which traces are recorded.
    pub(super) sampler: Sampler,
    /// The program, in every batch.
    pub(super) resource: Resource,
    /// `traceparent` is taken from requests and sent with requests.
    pub(super) propagates: bool,
    /// Sizes and times of batches.
    pub(super) batches: Batches,
}

/// Sizes and times of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batches {
    /// Ended spans that may wait; more are dropped.
    pub(super) queue: usize,
    /// Spans of one request.
    pub(super) size: usize,
    /// How long a span waits for others.
    pub(super) delay: Duration,
}

/// Reads the variables, and collects the remarks.
struct Reader<'a> {
    otel: &'a Otel,
    remarks: Vec<String>,
}

impl TraceConfig {
    /// `None` if there are no traces. The remarks are for the log.
    pub(super) fn read(otel: &Otel) -> (Option<Self>, Vec<String>) {
        let mut reader = Reader { otel, remarks: Vec::new() };
        // Exactly this text (01 §2).
        if otel.get("OTEL_SDK_DISABLED") == Some("true") || !reader.exports() {
            return (None, reader.remarks);
        }
        reader.note_unsupported();
        let endpoint = reader.endpoint().or_else(|| Url::parse(DEFAULT_ENDPOINT).ok());
        // The default is a URL.
        let Some(endpoint) = endpoint else { return (None, reader.remarks) };
        let timeouts = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        let request = reader.millis(&timeouts, 10_000);
        let export = reader.millis(&["OTEL_BSP_EXPORT_TIMEOUT"], 30_000);
        let config = Self {
            endpoint,
            headers: reader.headers(),
            gzip: reader.gzip(),
            timeout: request.min(export),
            sampler: reader.sampler(),
            resource: reader.resource(),
            propagates: reader.propagates(),
            batches: reader.batches(),
        };
        (Some(config), reader.remarks)
    }
}

impl Reader<'_> {
    fn refuse(&mut self, name: &str, why: &str) {
        self.remarks.push(format!("{name} cannot be used: {why}; the default applies"));
    }

    /// The value of the first variable that is set, or the default if it is unset or unusable.
    fn parsed<T>(
        &mut self,
        names: &[&str],
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let (name, text) = self.otel.first(names)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.refuse(name, why);
                None
            }
        }
    }

    fn exports(&mut self) -> bool {
        let exports = self.parsed(&["OTEL_TRACES_EXPORTER"], |text| match text {
            "otlp" => Ok(true),
            "none" => Ok(false),
            _ => Err("it is neither \"otlp\" nor \"none\""),
        });
        exports.unwrap_or(true)
    }

    fn note_unsupported(&mut self) {
        let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        self.parsed(&protocols, |text| match text {
            "http/protobuf" => Ok(()),
            _ => Err("traces are sent as \"http/protobuf\" only, usually to port 4318"),
        });
        self.parsed(&["OTEL_EXPORTER_OTLP_CERTIFICATE"], |_| {
            Err::<(), _>("the certificate authorities of the system are used")
        });
    }

    /// The address for traces as it is; the general one with the path added.
    fn endpoint(&mut self) -> Option<Url> {
        let url = |text: &str| {
            let url = Url::parse(text).map_err(|_| "it is not a URL")?;
            let usable = matches!(url.scheme(), "http" | "https") && url.has_host();
            if usable { Ok(url) } else { Err("it is not an http or https URL") }
        };
        if self.otel.get(TRACES_ENDPOINT).is_some() {
            return self.parsed(&[TRACES_ENDPOINT], url);
        }
        self.parsed(&[ENDPOINT], |text| {
            let mut url = url(text)?;
            let path = url.path_segments_mut();
            let mut path = path.map_err(|()| "it is not an http or https URL")?;
            path.pop_if_empty().extend(["v1", "traces"]);
            drop(path);
            Ok(url)
        })
    }

    fn headers(&mut self) -> HeaderMap {
        let headers = self.parsed(&[OTLP_TRACES_HEADERS, OTLP_HEADERS], |text| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs(text)? {
                let name = HeaderName::from_str(&name).map_err(|_| "a name is not a header's")?;
                let value = HeaderValue::from_str(&value);
                let mut value = value.map_err(|_| "a value cannot be sent in a header")?;
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            Ok(headers)
        });
        headers.unwrap_or_default()
    }

    fn gzip(&mut self) -> bool {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
        let gzip = self.parsed(&names, |text| match text {
            "gzip" => Ok(true),
            "none" => Ok(false),
            _ => Err("it is neither \"gzip\" nor \"none\""),
        });
        gzip.unwrap_or(false)
    }

    fn millis(&mut self, names: &[&str], default: u64) -> Duration {
        let millis = self.parsed(names, |text| match text.parse() {
            Ok(millis) if millis > 0 => Ok(millis),
            _ => Err("it is not a number of milliseconds above 0"),
        });
        Duration::from_millis(millis.unwrap_or(default))
    }

    fn number(&mut self, name: &str, default: u64) -> usize {
        let number = self.parsed(&[name], |text| match text.parse() {
            Ok(number) if (1..=MOST).contains(&number) => Ok(number),
            _ => Err("it is not a whole number from 1 to 1000000"),
        });
        usize::try_from(number.unwrap_or(default)).unwrap_or(usize::MAX)
    }

    fn batches(&mut self) -> Batches {
        let queue = self.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048);
        let size = self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512);
        let delay = self.millis(&["OTEL_BSP_SCHEDULE_DELAY"], 5000);
        // The standard: a batch is not larger than the queue.
        Batches { queue, size: size.min(queue), delay }
    }

    fn sampler(&mut self) -> Sampler {
        let parent_based = |sampler| Ok(Sampler::ParentBased(Box::new(sampler)));
        let names = ["OTEL_TRACES_SAMPLER"];
        let of_ratio = |text: &str| text == "traceidratio" || text == "parentbased_traceidratio";
        let has_ratio = self.otel.get("OTEL_TRACES_SAMPLER").is_some_and(of_ratio);
        let ratio = if has_ratio { self.ratio() } else { 1.0 };
        let sampler = self.parsed(&names, |text| match text {
            "always_on" => Ok(Sampler::AlwaysOn),
            "always_off" => Ok(Sampler::AlwaysOff),
            "traceidratio" => Ok(Sampler::TraceIdRatioBased(ratio)),
            "parentbased_always_on" => parent_based(Sampler::AlwaysOn),
            "parentbased_always_off" => parent_based(Sampler::AlwaysOff),
            "parentbased_traceidratio" => parent_based(Sampler::TraceIdRatioBased(ratio)),
            _ => Err("it is not the name of a sampler of the standard"),
        });
        sampler.unwrap_or_else(|| Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
    }

    fn ratio(&mut self) -> f64 {
        let ratio = self.parsed(&["OTEL_TRACES_SAMPLER_ARG"], |text| match text.parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
            _ => Err("it is not a number from 0 to 1"),
        });
        ratio.unwrap_or(1.0)
    }

    fn resource(&mut self) -> Resource {
        let attributes = self.parsed(&["OTEL_RESOURCE_ATTRIBUTES"], pairs).unwrap_or_default();
        let service = self.otel.get("OTEL_SERVICE_NAME").map(str::to_owned);
        let own = [
            KeyValue::new("service.name", SERVICE),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ];
        // A later attribute replaces an earlier one.
        let attributes = attributes.into_iter().map(|(key, value)| KeyValue::new(key, value));
        let service = service.map(|service| KeyValue::new("service.name", service));
        Resource::builder_empty()
            .with_attributes(own)
            .with_attributes(attributes)
            .with_attributes(service)
            .build()
    }

    fn propagates(&mut self) -> bool {
        let propagates = self.parsed(&["OTEL_PROPAGATORS"], |text| {
            let mut names = text.split(',').map(str::trim);
            match text {
                "none" => Ok(false),
                _ if names.clone().any(|name| name == "tracecontext") => Ok(true),
                // Known to the standard, and without a use here.
                _ if names.all(|name| name == "baggage") => Ok(false),
                _ => Err("only \"tracecontext\" and \"none\" have an effect"),
            }
        });
        propagates.unwrap_or(true)
    }
}

/// `name=value,name=value`, with percent-encoded values.
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let pair = |entry: &str| {
        let (name, value) =
            entry.split_once('=').ok_or("an entry is not of the form name=value")?;
        let decoded = |part: &str| {
            let decoded = percent_decode_str(part.trim()).decode_utf8();
            decoded.map(String::from).map_err(|_| "a value is not UTF-8 when it is decoded")
        };
        let name = decoded(name)?;
        if name.is_empty() { Err("an entry has no name") } else { Ok((name, decoded(value)?)) }
    };
    entries.map(pair).collect()
}

#[cfg(test)]
mod tests;
