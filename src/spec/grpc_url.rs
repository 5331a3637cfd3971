//! `grpc_url` of a pageserver: `grpc://[user@]host:port` (06 §5.1).
//!
//! Only host and port are used. A user or password in the URL is never sent: over gRPC the storage
//! token is the only credential, and it goes into the metadata of a call.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use url::Url;

/// HTTP's port for a URL without one.
const DEFAULT_PORT: u16 = 80;

/// Host and port of a pageserver that speaks gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcAddress {
    /// In the form of a URL: an IPv6 address is in brackets.
    host: String,
    port: u16,
}

/// Why a URL cannot be used. The text does not repeat the URL: it may hold a password.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum GrpcUrlError {
    /// Not a URL, or without a host.
    #[error("it is not of the form grpc://host:port")]
    Form,
    /// Tokens would be sent in clear text where encryption was asked for.
    #[error("it demands TLS, which this version does not speak")]
    Tls,
}

impl FromStr for GrpcAddress {
    type Err = GrpcUrlError;

    fn from_str(text: &str) -> Result<Self, GrpcUrlError> {
        let url = Url::parse(text).map_err(|_| GrpcUrlError::Form)?;
        match url.scheme() {
            "grpc" | "http" => {}
            "grpcs" | "https" => return Err(GrpcUrlError::Tls),
            _ => return Err(GrpcUrlError::Form),
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(GrpcUrlError::Form)?;
        let address = Self { host: host.to_owned(), port: url.port().unwrap_or(DEFAULT_PORT) };
        // The host of a scheme that is not the web's may have escapes, which HTTP refuses.
        let authority = address.to_string().parse::<hyper::http::uri::Authority>();
        authority.map_err(|_| GrpcUrlError::Form)?;
        Ok(address)
    }
}

impl fmt::Display for GrpcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let good = [
            ("grpc://no_user@ps-1.storage:51051", "ps-1.storage:51051"),
            ("grpc://u:planted@10.0.0.7:51051/", "10.0.0.7:51051"),
            ("http://no_user@ps:51051", "ps:51051"),
            ("grpc://[2001:db8::7]:51051", "[2001:db8::7]:51051"),
            ("grpc://ps", "ps:80"),
            ("http://ps:80", "ps:80"),
        ];
        for (text, address) in good {
            assert_eq!(text.parse::<GrpcAddress>().unwrap().to_string(), address, "{text}");
        }
        for text in ["https://ps:1", "grpcs://ps:1"] {
            assert_eq!(text.parse::<GrpcAddress>(), Err(GrpcUrlError::Tls), "{text}");
        }
        let bad = [
            "",
            "ps:51051",
            "127.0.0.1:51051",
            "grpc://",
            "grpc:///x",
            "postgres://ps:1",
            "grpc://ps:70000",
            "grpc://p%41s:1",
            "grpc://pé:1",
        ];
        for text in bad {
            assert_eq!(text.parse::<GrpcAddress>(), Err(GrpcUrlError::Form), "{text}");
        }
    }
}
