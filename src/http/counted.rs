//! Finds the metrics of the route that serves a request.
//!
//! This looks at the path and the method alone, beside the routing of axum: what axum notes about
//! the route is not visible outside of the routes, where requests without a route are counted too.

use std::collections::HashMap;

use axum::http::Method;

use super::api::Route;
use crate::telemetry::http_metrics::{HttpMetrics, RouteMetrics, UNKNOWN};

/// The metrics of each route of one server.
#[derive(Debug)]
pub(super) struct Counted {
    /// By path.
    fixed: HashMap<String, Vec<(Method, RouteMetrics)>>,
    /// By the part of the path in front of a parameter, which is the last part of a path.
    open: Vec<(String, Vec<(Method, RouteMetrics)>)>,
    unknown: RouteMetrics,
}

impl Counted {
    /// Only requests without a route.
    pub(super) fn nothing(metrics: &HttpMetrics, server: &'static str) -> Self {
        let unknown = metrics.route(server, UNKNOWN, UNKNOWN);
        Self { fixed: HashMap::new(), open: Vec::new(), unknown }
    }

    /// Adds the methods of a route.
    pub(super) fn add(&mut self, metrics: &HttpMetrics, server: &'static str, route: &Route) {
        let methods = route
            .verbs
            .iter()
            .map(|verb| (verb.clone(), metrics.route(server, &route.path, verb.as_str())));
        match route.path.split_once('{') {
            Some((fixed, _)) => self.open.push((fixed.to_owned(), methods.collect())),
            None => self.fixed.entry(route.path.clone()).or_default().extend(methods),
        }
    }

    /// The metrics for a request. HEAD counts as GET, which answers it.
    pub(super) fn find(&self, method: &Method, path: &str) -> &RouteMetrics {
        let within = |(fixed, _): &&(String, _)| {
            path.len() > fixed.len() && path.starts_with(fixed.as_str())
        };
        let open = || self.open.iter().find(within).map(|(_, methods)| methods);
        let methods = self.fixed.get(path).or_else(open);
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let mut methods = methods.into_iter().flatten();
        methods.find(|(verb, _)| verb == method).map_or(&self.unknown, |(_, metrics)| metrics)
    }
}
