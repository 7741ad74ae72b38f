//! Routing by host, path and headers, in every form that a client may send.

use http::{HeaderValue, Request};

use super::*;

fn router() -> Router {
    Router { path: Some("/sb".parse().unwrap()), host: Some("Sandbox.Example.com".parse().unwrap()) }
}

fn request(uri: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::new(());
    *request.uri_mut() = uri.parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request
}

/// `TARGET PATH BY`, or the detail of the refusal.
fn shown(uri: &str, headers: &[(&'static str, &str)]) -> String {
    match router().route(&request(uri, headers)) {
        Ok(Route::Health) => "health".to_owned(),
        Ok(Route::Sandbox(Routed { target, path, by })) => match by {
            RoutedBy::Header => format!("{target} {path} header"),
            RoutedBy::Path(front) => format!("{target} {path} under {front}"),
            RoutedBy::Host => format!("{target} {path} host"),
        },
        Err(refusal) => format!("{} {}", refusal.reason.status().as_u16(), refusal.detail),
    }
}

#[test]
fn headers_name_the_sandbox() {
    let id = ("x-sandbox-id", "box");
    let cases: &[(&[(&'static str, &str)], &str)] = &[
        (&[id], "default/box:8888 / header"),
        (&[id, ("x-sandbox-namespace", "team"), ("x-sandbox-port", "9090")], "team/box:9090 / header"),
        (&[id, ("x-sandbox-namespace", ""), ("x-sandbox-port", "")], "default/box:8888 / header"),
        (&[id, id], "default/box:8888 / header"),
        (&[], "400 X-Sandbox-ID header is required."),
        (&[("x-sandbox-id", "")], "400 X-Sandbox-ID header is required."),
        (&[("x-sandbox-id", "Box")], "400 Invalid sandbox ID format."),
        (&[("x-sandbox-id", "a.b")], "400 Invalid sandbox ID format."),
        (&[("x-sandbox-id", "a/../b")], "400 Invalid sandbox ID format."),
        (&[("x-sandbox-id", "é")], "400 Invalid sandbox ID format."),
        (&[id, ("x-sandbox-id", "other")], "400 The header x-sandbox-id has several values."),
        (&[id, ("x-sandbox-namespace", "Team")], "400 Invalid namespace format."),
        (
            &[id, ("x-sandbox-namespace", "a"), ("x-sandbox-namespace", "b")],
            "400 The header x-sandbox-namespace has several values.",
        ),
        (&[id, ("x-sandbox-port", "0")], "400 Invalid port format."),
        (&[id, ("x-sandbox-port", "65536")], "400 Invalid port format."),
        (&[id, ("x-sandbox-port", "+80")], "400 Invalid port format."),
    ];
    for (headers, wanted) in cases {
        assert_eq!(shown("/", headers), *wanted, "{headers:?}");
    }
}

#[test]
fn pod_address_and_uid_of_a_client_have_no_effect() {
    for ip in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::ffff:169.254.169.254", "nonsense", ""] {
        let headers = [("x-sandbox-id", "box"), ("x-sandbox-pod-ip", ip), ("x-sandbox-uid", "other")];
        assert_eq!(shown("/a", &headers), "default/box:8888 /a header", "{ip}");
    }
}

#[test]
fn paths_name_the_sandbox_and_go_on_byte_for_byte() {
    for (path, wanted) in [
        ("/sb/team/box/80/", "team/box:80 / under /sb/team/box/80"),
        ("/sb/team/box/80/a%2Fb?x=1&y=%20", "team/box:80 /a%2Fb?x=1&y=%20 under /sb/team/box/80"),
        ("/sb/team/box/80//a//b/", "team/box:80 //a//b/ under /sb/team/box/80"),
        ("/sb/team/box/80/../../../x", "team/box:80 /../../../x under /sb/team/box/80"),
        ("/sb/team/box/80/..%2F..%2fx", "team/box:80 /..%2F..%2fx under /sb/team/box/80"),
        ("/sb/team/box/80/healthz", "team/box:80 /healthz under /sb/team/box/80"),
        ("/sb/team/box/080/", "team/box:80 / under /sb/team/box/080"),
        ("/sb/team/box/80", "team/box:80 / under /sb/team/box/80"),
        ("/sb/team/box/80?x=1", "team/box:80 /?x=1 under /sb/team/box/80"),
        ("/sb/%74eam/b%6Fx/%38%30/%61", "team/box:80 /%61 under /sb/%74eam/b%6Fx/%38%30"),
    ] {
        assert_eq!(shown(path, &[("x-sandbox-id", "other")]), wanted, "{path}");
    }
    let form = "400 Path-routed request must have the form <prefix>/<namespace>/<id>/<port>/...";
    for (path, wanted) in [
        ("/sb", form),
        ("/sb/", form),
        ("/sb/team", form),
        ("/sb/team/box", form),
        ("/sb//box/80/", form),
        ("/sb/team//80/", form),
        ("/sb/team/box//", form),
        // An escape is decoded once, and separates nothing.
        ("/sb/%2574eam/box/80/", "400 Invalid namespace format."),
        ("/sb/%54eam/box/80/", "400 Invalid namespace format."),
        ("/sb/team%2Fother/80/80/", "400 Invalid namespace format."),
        ("/sb/team%2Fbox/80/", form),
        ("/sb/%2e%2e/box/80/", "400 Invalid namespace format."),
        ("/sb/team/%2E%2E%2Fother/80/", "400 Invalid sandbox ID format."),
        ("/sb/team/box%00/80/", "400 Invalid sandbox ID format."),
        ("/sb/team/b%C3%B6x/80/", "400 Invalid sandbox ID format."),
        ("/sb/team/b%F6x/80/", "400 Invalid sandbox ID format."),
        ("/sb/team/box/80%2F81/", "400 Invalid port format."),
        ("/sb/team/box/%2B80/", "400 Invalid port format."),
        ("/sb/team/box/80%", "400 Invalid percent-encoding in path."),
        ("/sb/Team/box/80/", "400 Invalid namespace format."),
        ("/sb/team/../80/", "400 Invalid sandbox ID format."),
        ("/sb/team/box%2Fx/80/", "400 Invalid sandbox ID format."),
        ("/sb/team/box/http/", "400 Invalid port format."),
        ("/sb/team/box/0/", "400 Invalid port format."),
        ("/sb/team/box/80/%zz", "400 Invalid percent-encoding in path."),
        ("/sb/team/box/80/%2", "400 Invalid percent-encoding in path."),
        ("/sb/healthz", form),
    ] {
        // A path under the prefix is never routed by headers.
        assert_eq!(shown(path, &[("x-sandbox-id", "other")]), wanted, "{path}");
    }
}

#[test]
fn the_prefix_matches_at_a_slash_alone() {
    for path in
        ["/sbx/team/box/80/", "/SB/team/box/80/", "//sb/team/box/80/", "/%73b/team/box/80/", "/./sb/team/box/80/"]
    {
        assert_eq!(shown(path, &[("x-sandbox-id", "other")]), format!("default/other:8888 {path} header"));
    }
}

#[test]
fn hosts_name_the_sandbox() {
    for (host, wanted) in [
        ("box--80.team.sandbox.example.com", "team/box:80 /x host"),
        ("BOX--80.Team.SANDBOX.example.COM:8443", "team/box:80 /x host"),
        ("box.team.sandbox.example.com.", "team/box:8888 /x host"),
        ("a--b.team.sandbox.example.com", "team/a--b:8888 /x host"),
        ("a--b--9.team.sandbox.example.com", "team/a--b:9 /x host"),
        ("box--0.team.sandbox.example.com", "400 Invalid port format."),
        ("box--99999.team.sandbox.example.com", "400 Invalid port format."),
        ("--80.team.sandbox.example.com", "400 Invalid sandbox ID format."),
        ("box.-.sandbox.example.com", "400 Invalid namespace format."),
    ] {
        assert_eq!(shown("/x", &[("host", host), ("x-sandbox-id", "other")]), wanted, "{host}");
        // HTTP/2 has the host in the URI.
        let uri = format!("http://{host}/x");
        assert_eq!(shown(&uri, &[("x-sandbox-id", "other")]), wanted, "{host}");
    }
    let form = "400 Host-routed request must have a host of the form <id>--<port>.<namespace>.<domain>";
    for host in ["team.sandbox.example.com", "x.box.team.sandbox.example.com"] {
        assert_eq!(shown("/x", &[("host", host), ("x-sandbox-id", "other")]), form, "{host}");
    }
    for host in [
        "sandbox.example.com",
        "box.team.sandbox.example.com.evil.org",
        "box.team.xsandbox.example.com",
        "10.0.0.1",
        "[::1]:80",
    ] {
        let wanted = "default/other:8888 /x header";
        assert_eq!(shown("/x", &[("host", host), ("x-sandbox-id", "other")]), wanted, "{host}");
    }
}

#[test]
fn two_hosts_are_refused() {
    let two = [("host", "a"), ("host", "b"), ("x-sandbox-id", "box")];
    assert!(shown("/", &two).starts_with("400 The request has several Host"));
    let other = [("host", "a.example.com"), ("x-sandbox-id", "box")];
    assert!(shown("http://b.example.com/", &other).starts_with("400 The Host header differs"));
}

#[test]
fn the_health_page_is_the_gateways_and_that_of_a_named_host_is_the_sandboxs() {
    assert_eq!(shown("/healthz", &[("x-sandbox-id", "box")]), "health");
    assert_eq!(shown("/healthz?x", &[]), "health");
    assert_eq!(shown("/healthz", &[("host", "box.team.sandbox.example.com")]), "team/box:8888 /healthz host");
    for path in ["/healthz/", "//healthz", "/./healthz", "/%68ealthz", "/x/../healthz", "/healthz%2f"] {
        assert_eq!(shown(path, &[("x-sandbox-id", "box")]), format!("default/box:8888 {path} header"));
    }
}

#[test]
fn prefixes_and_domains_that_match_nothing_are_refused() {
    for bad in ["", "/", "sb", "/sb/", "/a b", "/a?b", "/a#b", "/a//b", "/../b", "/a%20"] {
        assert!(bad.parse::<PathPrefix>().is_err(), "{bad}");
    }
    assert!("/a/b".parse::<PathPrefix>().is_ok());
    for bad in ["", ".", "a..b", ".a", "a_b", "a:80", "*.a"] {
        assert!(bad.parse::<HostDomain>().is_err(), "{bad}");
    }
}
