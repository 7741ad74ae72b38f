//! Confines the answers of a Sandbox: under the path prefix, `Location` and the `Path` of cookies; under any host, the
//! cookies that would reach other Sandboxes, and the headers with which the gateway speaks for itself.

use http::HeaderMap;
use http::header::{CONTENT_LOCATION, HeaderName, HeaderValue, LOCATION, SET_COOKIE};

use crate::answer::{REASON_HEADER, STATE_HEADER};

/// Removes what a Sandbox must not say: headers of the gateway, its session cookie, and the Domain of cookies.
pub(crate) fn confine(headers: &mut HeaderMap, session: Option<&str>) {
    for name in [REASON_HEADER, STATE_HEADER] {
        headers.remove(name);
    }
    let is_session = |cookie: &&HeaderValue| {
        let name = cookie.as_bytes().split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        session.is_some_and(|session| session.as_bytes() == name)
    };
    let cookies = headers.get_all(SET_COOKIE).iter().filter(|cookie| !is_session(cookie)).map(without_domain).collect();
    replace(headers, SET_COOKIE, cookies);
}

/// The cookie without a Domain, so that browsers send it to this host alone.
fn without_domain(cookie: &HeaderValue) -> HeaderValue {
    let is_domain = |attribute: &&[u8]| {
        let name = attribute.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"domain")
    };
    let mut attributes = cookie.as_bytes().split(|b| *b == b';');
    let first = attributes.next().unwrap_or_default();
    let kept: Vec<&[u8]> = std::iter::once(first).chain(attributes.filter(|part| !is_domain(part))).collect();
    HeaderValue::from_bytes(&kept.join(&b";"[..])).unwrap_or_else(|_| cookie.clone())
}

/// Rewrites the headers of an answer. `front` is the part of the client's path in front of the Sandbox's own, and
/// `hosts` are the hosts under which the Sandbox may know itself: its address, and the host of the client.
pub(crate) fn under(headers: &mut HeaderMap, front: &str, hosts: &[&str]) {
    for name in [LOCATION, CONTENT_LOCATION] {
        let rewritten = headers.get(&name).and_then(|value| location(value, front, hosts));
        if let Some(value) = rewritten {
            headers.insert(name, value);
        }
    }
    let cookies: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().map(|cookie| scoped(cookie, front)).collect();
    replace(headers, SET_COOKIE, cookies);
}

fn replace(headers: &mut HeaderMap, name: HeaderName, values: Vec<HeaderValue>) {
    headers.remove(&name);
    for value in values {
        headers.append(name.clone(), value);
    }
}

/// An absolute path, or a URL of one of the hosts, becomes an absolute path under the prefix. A relative path and the
/// URL of another host stay.
fn location(value: &HeaderValue, front: &str, hosts: &[&str]) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let path = match text.split_once("//") {
        Some(("" | "http:" | "https:", rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (host, path) = rest.split_at(end);
            if !hosts.iter().any(|own| own.eq_ignore_ascii_case(host)) {
                return None;
            }
            path
        }
        Some(_) | None => text.starts_with('/').then_some(text)?,
    };
    if under_front(path.as_bytes(), front) {
        return HeaderValue::from_str(path).ok();
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    HeaderValue::from_str(&format!("{front}{slash}{path}")).ok()
}

/// Whether the Sandbox knows its prefix itself.
fn under_front(path: &[u8], front: &str) -> bool {
    let rest = path.strip_prefix(front.as_bytes());
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b'?' | b'#')))
}

/// The cookie with its Path under the prefix. A cookie without a Path gets one, because the browser would derive it from
/// the URL, which may be above the Sandbox's own.
fn scoped(cookie: &HeaderValue, front: &str) -> HeaderValue {
    let mut attributes = cookie.as_bytes().split(|b| *b == b';');
    let mut scoped = attributes.next().unwrap_or_default().to_vec();
    let mut path = None;
    for attribute in attributes {
        let mut parts = attribute.splitn(2, |b| *b == b'=');
        let name = parts.next().unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"path") {
            path = Some(parts.next().unwrap_or_default().trim_ascii());
        } else {
            scoped.push(b';');
            scoped.extend_from_slice(attribute);
        }
    }
    let path = path.filter(|path| path.starts_with(b"/")).unwrap_or(b"/");
    scoped.extend_from_slice(b"; Path=");
    if !under_front(path, front) {
        scoped.extend_from_slice(front.as_bytes());
    }
    scoped.extend_from_slice(path);
    // The bytes of a valid value and of a path are valid. An empty cookie says nothing.
    HeaderValue::from_bytes(&scoped).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Removes the headers with which a Sandbox would act on the whole origin that it shares with others.
pub(crate) fn isolate(headers: &mut HeaderMap) {
    for name in ["service-worker-allowed", "clear-site-data"] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRONT: &str = "/sb/team/box/80";
    const HOSTS: [&str; 2] = ["10.0.0.7:80", "gateway.example.com"];

    fn rewritten(name: HeaderName, value: &'static str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(name.clone(), HeaderValue::from_static(value));
        under(&mut headers, FRONT, &HOSTS);
        headers[name].to_str().unwrap().to_owned()
    }

    #[test]
    fn locations_are_put_under_the_prefix() {
        for (sent, wanted) in [
            ("/login?next=/a", "/sb/team/box/80/login?next=/a"),
            ("/", "/sb/team/box/80/"),
            ("/a%2Fb//c", "/sb/team/box/80/a%2Fb//c"),
            ("login", "login"),
            ("../login", "../login"),
            ("?a=1", "?a=1"),
            ("#top", "#top"),
            ("http://10.0.0.7:80/x", "/sb/team/box/80/x"),
            ("https://Gateway.Example.com/x#y", "/sb/team/box/80/x#y"),
            ("http://10.0.0.7:80", "/sb/team/box/80/"),
            ("http://10.0.0.7:80?x", "/sb/team/box/80/?x"),
            ("//10.0.0.7:80/x", "/sb/team/box/80/x"),
            ("https://example.org/x", "https://example.org/x"),
            ("//example.org/x", "//example.org/x"),
            ("mailto:a@example.org", "mailto:a@example.org"),
            ("/sb/team/box/80/x", "/sb/team/box/80/x"),
            ("/sb/team/box/800/x", "/sb/team/box/80/sb/team/box/800/x"),
            ("/a//b", "/sb/team/box/80/a//b"),
        ] {
            assert_eq!(rewritten(LOCATION, sent), wanted, "{sent}");
        }
    }

    #[test]
    fn a_sandbox_cannot_speak_for_the_gateway_or_to_other_sandboxes() {
        let mut headers = HeaderMap::new();
        for cookie in
            ["a=1; Domain=example.com; Path=/; domain = .x", "session=stolen; Path=/", "b=Domain=x", "sessions=1"]
        {
            headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
        }
        headers.insert(REASON_HEADER, HeaderValue::from_static("Forbidden"));
        headers.insert(STATE_HEADER, HeaderValue::from_static("suspended"));
        confine(&mut headers, Some("session"));
        assert_eq!(headers.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1; Path=/", "b=Domain=x", "sessions=1"]);
        assert_eq!(headers.len(), 3);
        confine(&mut headers, None);
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn cookies_are_scoped_to_the_sandbox() {
        for (sent, wanted) in [
            ("a=1", "a=1; Path=/sb/team/box/80/"),
            ("a=1; Path=/; HttpOnly", "a=1; HttpOnly; Path=/sb/team/box/80/"),
            ("a=1; path=/lab; Secure", "a=1; Secure; Path=/sb/team/box/80/lab"),
            ("a=1; Path=/sb/team/box/80/x", "a=1; Path=/sb/team/box/80/x"),
            ("a=1; Path=/sb/other/box/80/", "a=1; Path=/sb/team/box/80/sb/other/box/80/"),
            ("a=1; Path=relative", "a=1; Path=/sb/team/box/80/"),
            ("a=\"x y\"; Max-Age=3", "a=\"x y\"; Max-Age=3; Path=/sb/team/box/80/"),
        ] {
            assert_eq!(rewritten(SET_COOKIE, sent), wanted, "{sent}");
        }
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_static("a=1"));
        headers.append(SET_COOKIE, HeaderValue::from_static("b=2"));
        under(&mut headers, FRONT, &HOSTS);
        assert_eq!(headers.get_all(SET_COOKIE).iter().count(), 2);
    }

    #[test]
    fn cookies_of_any_bytes_stay_under_the_prefix() {
        let mut headers = HeaderMap::new();
        headers.insert(SET_COOKIE, HeaderValue::from_bytes(b"a=\xe9; Path=/; HttpOnly").unwrap());
        headers.append(SET_COOKIE, HeaderValue::from_bytes(b"b=1; Path=/\xe9").unwrap());
        under(&mut headers, FRONT, &HOSTS);
        let all: Vec<&[u8]> = headers.get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let wanted: [&[u8]; 2] = [b"a=\xe9; HttpOnly; Path=/sb/team/box/80/", b"b=1; Path=/sb/team/box/80/\xe9"];
        assert_eq!(all, wanted);
    }

    #[test]
    fn a_sandbox_does_not_act_on_the_origin_of_others() {
        let mut headers = HeaderMap::new();
        headers.insert("service-worker-allowed", HeaderValue::from_static("/"));
        headers.insert("clear-site-data", HeaderValue::from_static("\"*\""));
        isolate(&mut headers);
        assert!(headers.is_empty());
    }
}
