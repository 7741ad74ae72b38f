//! The head of a request as the Sandbox gets it, and the head of an answer as the client gets it.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::request;
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};
use tokio::time::Instant;

use crate::kind::{Kind, tokens};
use crate::route::RoutedBy;
use crate::{grpc, trace_context};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The headers that concern one connection alone, and not those behind it.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// The facts about a request that its head is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inbound<'a> {
    /// The address of the client.
    pub(crate) client: IpAddr,
    /// The scheme of the client's connection.
    pub(crate) scheme: &'static str,
    /// The protocol.
    pub(crate) kind: Kind,
    /// Whether the client asks for another protocol.
    pub(crate) upgrade: bool,
    /// The way in which the request was routed.
    pub(crate) by: &'a RoutedBy,
    /// Whether the Sandbox gets the client's Host.
    pub(crate) keep_host: bool,
    /// The time until which a gRPC call must have ended.
    pub(crate) call: Option<Instant>,
}

/// The head of a request for the Sandbox at this address. The host of the client and its credential stay behind.
pub(crate) fn request_head(parts: request::Parts, path: PathAndQuery, inbound: &Inbound<'_>) -> Forward {
    let client_host = client_host(&parts);
    let request::Parts { method, mut headers, .. } = parts;
    let upgrade = inbound.upgrade.then(|| headers.get(UPGRADE).cloned()).flatten();
    let wants_trailers = headers.get_all(TE).iter().any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    remove_hop_by_hop(&mut headers);
    for name in [AUTHORIZATION, FORWARDED, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, EXPECT, HOST] {
        headers.remove(name);
    }
    let keep_host = inbound.keep_host || *inbound.by == RoutedBy::Host;
    // The Origin names the gateway's host. A server that compares it with its own would refuse the client.
    if inbound.upgrade && !keep_host {
        headers.remove(ORIGIN);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    if let Ok(client) = HeaderValue::from_str(&inbound.client.to_canonical().to_string()) {
        headers.insert(FORWARDED_FOR, client);
    }
    if let Some(host) = &client_host {
        headers.insert(FORWARDED_HOST, host.clone());
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(inbound.scheme));
    trace_context::ensure(&mut headers);
    join_cookies(&mut headers);
    match inbound.kind {
        Kind::Http => {
            // Without the list of their names, trailers would not be sent.
            if !wants_trailers {
                headers.remove(TE);
            }
        }
        Kind::Grpc => {}
        Kind::GrpcWeb(_) => {
            let content_type = grpc::web::sandbox_content_type(headers.get(http::header::CONTENT_TYPE));
            headers.insert(http::header::CONTENT_TYPE, content_type);
            for name in [http::header::ACCEPT, http::header::CONTENT_LENGTH] {
                headers.remove(name);
            }
            headers.remove("x-grpc-web");
        }
    }
    if inbound.kind != Kind::Http {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.remove(TRAILER);
        headers.remove(GRPC_TIMEOUT);
    }
    let host = client_host.filter(|_| keep_host);
    Forward { method, path, headers, host, http2: inbound.kind != Kind::Http, call: inbound.call }
}

/// The head of a request, except for the address of the pod.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    method: Method,
    path: PathAndQuery,
    headers: HeaderMap,
    /// The Host that the Sandbox gets. `None` for its own address.
    host: Option<HeaderValue>,
    /// Whether the Sandbox gets the request over HTTP/2.
    pub(crate) http2: bool,
    call: Option<Instant>,
}

impl Forward {
    /// The head of the request for the pod at this address, with the time that is left for a call now. Waking the Sandbox
    /// may have taken a part of it.
    pub(crate) fn to<B>(&self, address: SocketAddr, body: B) -> http::Request<B> {
        let mut request = http::Request::new(body);
        let own =
            || HeaderValue::from_str(&address.to_string()).unwrap_or_else(|_| HeaderValue::from_static("sandbox"));
        let host = self.host.clone().unwrap_or_else(own);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(call) = self.call {
            let left = call.saturating_duration_since(Instant::now());
            request.headers_mut().insert(GRPC_TIMEOUT, grpc::timeout_value(left));
        }
        if self.http2 {
            *request.version_mut() = Version::HTTP_2;
            let mut uri = http::uri::Parts::default();
            uri.scheme = Some(http::uri::Scheme::HTTP);
            uri.authority = host.to_str().ok().and_then(|host| host.parse().ok());
            uri.path_and_query = Some(self.path.clone());
            *request.uri_mut() = Uri::from_parts(uri).unwrap_or_else(|_| Uri::from(self.path.clone()));
        } else {
            *request.uri_mut() = Uri::from(self.path.clone());
            request.headers_mut().insert(HOST, host);
        }
        request
    }
}

/// The host that the client sent.
pub(crate) fn client_host(parts: &request::Parts) -> Option<HeaderValue> {
    let authority = parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    authority.or_else(|| parts.headers.get(HOST).cloned())
}

/// Removes the headers that concern the connection alone, those that Connection names included.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers).filter_map(|token| token.parse().ok()).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// HTTP/2 clients split the header Cookie. HTTP/1.1 servers expect one.
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Request;

    use super::*;

    fn forwarded(headers: &[(&'static str, &'static str)], change: impl FnOnce(&mut Inbound<'_>)) -> Request<()> {
        forward(headers, change).to("10.0.0.7:8888".parse().unwrap(), ())
    }

    fn forward(headers: &[(&'static str, &'static str)], change: impl FnOnce(&mut Inbound<'_>)) -> Forward {
        let mut request = Request::new(());
        *request.uri_mut() = "/a%2Fb//c?d".parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let (parts, ()) = request.into_parts();
        let mut inbound = Inbound {
            client: "::ffff:192.0.2.1".parse().unwrap(),
            scheme: "https",
            kind: Kind::Http,
            upgrade: false,
            by: &RoutedBy::Header,
            keep_host: false,
            call: None,
        };
        change(&mut inbound);
        let path = parts.uri.path_and_query().unwrap().clone();
        request_head(parts, path, &inbound)
    }

    #[test]
    fn credentials_and_connection_headers_stay_behind() {
        let request = forwarded(
            &[
                ("host", "router"),
                ("authorization", "Bearer secret"),
                ("proxy-authorization", "Basic secret"),
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-for", "203.0.113.10"),
                ("x-forwarded-host", "evil"),
                ("x-forwarded-proto", "gopher"),
                ("forwarded", "for=evil"),
                ("connection", "close, x-private"),
                ("connection", "X-Other"),
                ("x-private", "1"),
                ("x-other", "1"),
                ("keep-alive", "1"),
                ("te", "gzip"),
                ("expect", "100-continue"),
                ("x-sandbox-id", "box"),
                ("x-sandbox-timeout", "60"),
                ("cookie", "a=1"),
                ("cookie", "b=2"),
                ("origin", "https://example.com"),
                ("accept-encoding", "gzip"),
            ],
            |_| {},
        );
        let headers = request.headers();
        for gone in [
            "authorization",
            "proxy-authorization",
            "forwarded",
            "connection",
            "x-private",
            "x-other",
            "keep-alive",
            "te",
            "expect",
        ] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        for (name, wanted) in [
            ("host", "10.0.0.7:8888"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-host", "router"),
            ("x-forwarded-proto", "https"),
            ("x-sandbox-id", "box"),
            ("x-sandbox-timeout", "60"),
            ("cookie", "a=1; b=2"),
            ("origin", "https://example.com"),
            ("accept-encoding", "gzip"),
        ] {
            assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [wanted], "{name}");
        }
        assert!(headers.contains_key("traceparent"));
        assert_eq!(request.uri(), "/a%2Fb//c?d");
    }

    #[test]
    fn an_upgrade_goes_on_without_the_origin_of_the_gateway() {
        let headers = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("origin", "https://gateway"),
            ("host", "gateway"),
        ];
        let request = forwarded(&headers, |inbound| inbound.upgrade = true);
        assert_eq!(request.headers()["connection"], "Upgrade");
        assert_eq!(request.headers()["upgrade"], "websocket");
        assert!(!request.headers().contains_key("origin"));
    }

    #[test]
    fn an_own_host_stays_with_its_origin() {
        let headers = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("origin", "https://box"),
            ("host", "box.example.com"),
        ];
        for keep in [true, false] {
            let request = forwarded(&headers, |inbound| {
                inbound.upgrade = true;
                inbound.keep_host = keep;
                inbound.by = if keep { &RoutedBy::Header } else { &RoutedBy::Host };
            });
            assert_eq!(
                (&request.headers()["host"], &request.headers()["origin"]),
                (&"box.example.com".parse().unwrap(), &"https://box".parse().unwrap())
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_goes_on_over_http2_with_the_time_that_is_left() {
        let headers = [
            ("host", "gateway"),
            ("grpc-timeout", "9S"),
            ("te", "trailers"),
            ("content-type", "application/grpc-web+json"),
            ("x-grpc-web", "1"),
        ];
        let forward = forward(&headers, |inbound| {
            inbound.kind = Kind::GrpcWeb(crate::kind::WebEncoding::Binary);
            inbound.call = Some(Instant::now() + Duration::from_millis(3010));
        });
        // The Sandbox was woken meanwhile.
        tokio::time::advance(Duration::from_secs(3)).await;
        let request = forward.to("10.0.0.7:8888".parse().unwrap(), ());
        assert_eq!(
            (request.version(), request.uri().to_string()),
            (Version::HTTP_2, "http://10.0.0.7:8888/a%2Fb//c?d".to_owned())
        );
        assert_eq!(request.headers()["grpc-timeout"], "10000000n");
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.headers()["content-type"], "application/grpc+json");
        assert!(!request.headers().contains_key("host") && !request.headers().contains_key("x-grpc-web"));
    }
}
