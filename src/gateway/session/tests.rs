//! Credentials, cookies and origins of requests.

use http::Request;
use http::header::COOKIE;

use super::*;

fn sessions() -> Sessions {
    Sessions {
        cookie: Some("session".to_owned()),
        query_parameter: Some("token".to_owned()),
        allowed_origins: vec!["https://console.example.com".parse().unwrap()],
        ..Sessions::default()
    }
}

fn routed(path: &'static str) -> Routed {
    let target = Target { namespace: "team".into(), name: "box".into(), port: 80 };
    Routed { target, path: PathAndQuery::from_static(path), by: RoutedBy::Path("/sb/team/box/80".to_owned()) }
}

fn parts(headers: &[(&'static str, &str)]) -> request::Parts {
    let mut request = Request::new(());
    for (name, value) in headers {
        request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
    }
    request.into_parts().0
}

fn token(found: &Found) -> Option<&str> {
    match &found.credential {
        Credential::Bearer(token) => Some(token),
        Credential::None => None,
    }
}

fn cookie() -> String {
    format!("session={}", sealed("c", &routed("/").target))
}

#[test]
fn the_header_comes_before_the_query_and_the_query_before_the_cookie() {
    let cookie = cookie();
    let header = ("authorization", "bearer h");
    for (headers, path, wanted, source) in [
        (vec![header, ("cookie", &cookie)], "/?token=q", Some("h"), Some(Source::Header)),
        (vec![("cookie", &cookie)], "/?token=q", Some("q"), Some(Source::Query)),
        (vec![("cookie", &cookie)], "/", Some("c"), Some(Source::Cookie)),
        (vec![], "/", None, None),
        (vec![("authorization", "Basic abc")], "/?token=q", Some(""), Some(Source::Header)),
    ] {
        let found = sessions().take(&mut parts(&headers), &routed(path), "https").unwrap_or_else(|_| panic!());
        assert_eq!((token(&found), found.source), (wanted, source), "{path}");
        assert_eq!(found.path, "/");
    }
}

#[test]
fn the_sandbox_never_gets_the_token_or_the_cookie() {
    let own = cookie();
    let cookies = format!("a=1; {own}; b=\"2\"");
    let mut parts = parts(&[("cookie", &cookies), ("cookie", &own), ("authorization", "Bearer h")]);
    let found = sessions().take(&mut parts, &routed("/a%2F?x=1&token=q&y=%20&token=r&tok%65n=s&z"), "https");
    assert_eq!(found.unwrap_or_else(|_| panic!()).path, "/a%2F?x=1&y=%20&z");
    let left: Vec<_> = parts.headers.get_all(COOKIE).iter().collect();
    assert_eq!(left, ["a=1; b=\"2\""]);
}

#[test]
fn a_request_that_headers_route_has_its_credential_in_any_place_and_begins_no_session() {
    let own = cookie();
    for (path, wanted, source) in [("/?token=q&x=1", "q", Source::Query), ("/?x=1", "c", Source::Cookie)] {
        let mut parts = parts(&[("cookie", &own)]);
        let routed = Routed { by: RoutedBy::Header, ..routed(path) };
        let found = sessions().take(&mut parts, &routed, "https").unwrap_or_else(|_| panic!());
        assert_eq!((token(&found), found.source, found.path.as_str()), (Some(wanted), Some(source), "/?x=1"));
        assert!(!parts.headers.contains_key(COOKIE), "{path}");
        assert!(sessions().begin(&found, &routed, &Method::GET, false).is_none(), "{path}");
    }
}

#[test]
fn cookies_of_other_pages_hide_no_session() {
    let own = cookie();
    let other = Target { name: "other".into(), ..routed("/").target };
    let foreign = format!("session={}; session=x; name=\u{e9}; {own}", sealed("c", &other));
    let two = ("cookie", "session=evil");
    for headers in [vec![("cookie", &*foreign)], vec![two, ("cookie", &*own)]] {
        let mut parts = parts(&headers);
        let found = sessions().take(&mut parts, &routed("/"), "https").unwrap_or_else(|_| panic!());
        assert_eq!(token(&found), Some("c"), "{headers:?}");
    }
    let found = sessions().take(&mut parts(&[two]), &routed("/"), "https").unwrap_or_else(|_| panic!());
    assert_eq!(token(&found), Some(""), "no valid one");
}

#[test]
fn a_cookie_is_no_credential_for_another_sandbox_or_port() {
    let own = cookie();
    let target = routed("/").target;
    for other in [
        Target { name: "other".into(), ..target.clone() },
        Target { namespace: "other".into(), ..target.clone() },
        Target { port: 81, ..target },
    ] {
        let routed = Routed { target: other, ..routed("/") };
        let found = sessions().take(&mut parts(&[("cookie", &own)]), &routed, "https").unwrap_or_else(|_| panic!());
        assert_eq!(token(&found), Some(""));
    }
}

#[test]
fn a_session_begins_with_a_redirect() {
    let begin = |sessions: &Sessions, method: &Method, upgrade, path| {
        let routed = routed(path);
        let found = sessions.take(&mut parts(&[]), &routed, "https").unwrap_or_else(|_| panic!());
        sessions.begin(&found, &routed, method, upgrade)
    };
    let response = begin(&sessions(), &Method::GET, false, "/a?x=1&token=q").unwrap();
    let headers = response.headers();
    assert_eq!(
        (response.status().as_u16(), &headers[LOCATION]),
        (302, &HeaderValue::from_static("/sb/team/box/80/a?x=1"))
    );
    assert_eq!(headers[CACHE_CONTROL], "no-store");
    let cookie = headers[SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.starts_with("session=") && cookie.ends_with("; Path=/sb/team/box/80/; HttpOnly; Secure; SameSite=Lax"),
        "{cookie}"
    );
    let value = cookie.split(';').next().unwrap();
    let found = sessions().take(&mut parts(&[("cookie", value)]), &routed("/"), "https").unwrap_or_else(|_| panic!());
    assert_eq!(token(&found), Some("q"));
    for (method, upgrade, path) in
        [(Method::POST, false, "/?token=q"), (Method::GET, true, "/?token=q"), (Method::GET, false, "/")]
    {
        assert!(begin(&sessions(), &method, upgrade, path).is_none());
    }
    let insecure = Sessions { insecure: true, same_site: SameSite::Strict, ..sessions() };
    let response = begin(&insecure, &Method::HEAD, false, "/?token=q").unwrap();
    assert!(response.headers()[SET_COOKIE].to_str().unwrap().ends_with("/; HttpOnly; SameSite=Strict"));
}

#[test]
fn a_page_of_another_origin_must_not_use_the_cookie() {
    let own = cookie();
    let origin = |origin: &str, scheme| {
        let headers = [("cookie", own.as_str()), ("host", "gateway.example.com"), ("origin", origin)];
        sessions().take(&mut parts(&headers), &routed("/"), scheme).map_err(|refusal| refusal.reason).map(drop)
    };
    for good in ["https://gateway.example.com", "https://gateway.example.com:443", "https://console.example.com", ""] {
        assert_eq!(origin(good, "https"), Ok(()), "{good}");
    }
    for bad in [
        "http://gateway.example.com",
        "https://gateway.example.com:8443",
        "https://evil.example.com",
        "null",
        "https://gateway.example.com.evil.org",
        "https://x@gateway.example.com",
    ] {
        assert_eq!(origin(bad, "https"), Err(Reason::OriginNotAllowed), "{bad}");
    }
    assert_eq!(origin("https://gateway.example.com", "http"), Err(Reason::OriginNotAllowed));
    let headers = [("cookie", own.as_str()), ("host", "gateway.example.com"), ("origin", "null")];
    let refusal = sessions().take(&mut parts(&headers), &routed("/"), "https").map(drop).unwrap_err();
    assert_eq!(refusal.detail, "origin not allowed for cookie-authenticated request");
    // A header cannot be forged by a page.
    let headers = [("authorization", "Bearer h"), ("origin", "https://evil.example.com")];
    assert!(sessions().take(&mut parts(&headers), &routed("/"), "https").is_ok());
}

#[test]
fn the_scheme_of_another_proxy_counts_only_if_it_is_trusted() {
    let parts = parts(&[("x-forwarded-proto", "https, http")]);
    assert_eq!(sessions().scheme(&parts, "http"), "http");
    let trusting = Sessions { trust_forwarded_proto: true, ..sessions() };
    assert_eq!(trusting.scheme(&parts, "http"), "https");
}
