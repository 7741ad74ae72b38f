//! The protocol of a request on top of HTTP.

use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, UPGRADE};
use http::{Method, Request, Version};

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP.
    Http,
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web, which browsers send over any version of HTTP.
    GrpcWeb(WebEncoding),
}

/// The encoding of a gRPC-Web body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebEncoding {
    /// The bytes as they are.
    Binary,
    /// Base64.
    Text,
}

impl Kind {
    /// The protocol of a request.
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Self {
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let Some(content_type) = content_type.filter(|_| request.method() == Method::POST) else { return Kind::Http };
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is = |name: &str| {
            essence
                .strip_prefix(name)
                .is_some_and(|codec| codec.is_empty() || (codec.len() > 1 && codec.starts_with('+')))
        };
        if is("application/grpc") && request.version() == Version::HTTP_2 {
            Kind::Grpc
        } else if is("application/grpc-web") {
            Kind::GrpcWeb(WebEncoding::Binary)
        } else if is("application/grpc-web-text") {
            Kind::GrpcWeb(WebEncoding::Text)
        } else {
            Kind::Http
        }
    }
}

/// Whether the client asks for another protocol on its connection. An upgrade to HTTP/2 does not count, and the request
/// is forwarded without it: the requests in the tunnel would have no limits, and could say anything about their client.
#[must_use]
pub fn is_upgrade(version: Version, headers: &HeaderMap) -> bool {
    let is_http2 = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.to_ascii_lowercase().contains("h2c"));
    let mut values = headers.get_all(UPGRADE).iter();
    let asked = values.next().is_some_and(|value| !value.is_empty() && !is_http2(value)) && !values.any(is_http2);
    version == Version::HTTP_11 && asked && tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// The tokens of the header Connection.
pub(crate) fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_recognised_by_version_method_and_content_type() {
        let kind = |content_type: &str, method: Method, version| {
            let mut request = Request::new(());
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
            *request.method_mut() = method;
            *request.version_mut() = version;
            Kind::of(&request)
        };
        let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
        for (content_type, method, version, wanted) in [
            ("application/grpc", Method::POST, h2, Kind::Grpc),
            ("application/grpc+proto", Method::POST, h2, Kind::Grpc),
            ("Application/GRPC; x=y", Method::POST, h2, Kind::Grpc),
            ("application/grpc", Method::GET, h2, Kind::Http),
            ("application/grpc", Method::POST, h1, Kind::Http),
            ("application/grpcx", Method::POST, h2, Kind::Http),
            ("application/grpc+", Method::POST, h2, Kind::Http),
            ("application/grpc-web", Method::POST, h1, Kind::GrpcWeb(WebEncoding::Binary)),
            ("application/grpc-web+proto", Method::POST, h2, Kind::GrpcWeb(WebEncoding::Binary)),
            ("application/grpc-web-text+proto", Method::POST, h1, Kind::GrpcWeb(WebEncoding::Text)),
            ("application/json", Method::POST, h2, Kind::Http),
        ] {
            assert_eq!(kind(content_type, method, version), wanted, "{content_type}");
        }
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        let headers = |connection: &'static str, upgrade: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
            headers
        };
        assert!(is_upgrade(Version::HTTP_11, &headers("keep-alive, Upgrade", "websocket")));
        assert!(!is_upgrade(Version::HTTP_11, &headers("keep-alive", "websocket")));
        assert!(!is_upgrade(Version::HTTP_11, &headers("upgrade", "")));
        for http2 in ["h2c", "H2C", "websocket, h2c"] {
            assert!(!is_upgrade(Version::HTTP_11, &headers("upgrade, http2-settings", http2)));
        }
        assert!(!is_upgrade(Version::HTTP_2, &headers("upgrade", "websocket")));
        assert!(!is_upgrade(Version::HTTP_10, &headers("upgrade", "websocket")));
    }
}
