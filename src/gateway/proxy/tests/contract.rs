//! The rows of the router's contract that clients see.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;

use super::harness::{Gateway, Server, TOKEN, accept, listener};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Own: yes\r\n\r\nok";
const ID: &str = "X-Sandbox-ID: box\r\n";

fn detail(text: &str) -> String {
    format!("{{\"detail\":\"{text}\"}}\n")
}

#[tokio::test]
async fn refusals_have_the_texts_that_clients_compare() {
    let gateway = Gateway::new().await;
    for (path, headers, status, text) in [
        ("/", "", 400, "X-Sandbox-ID header is required."),
        ("/", "X-Sandbox-ID: Box\r\n", 400, "Invalid sandbox ID format."),
        ("/", "X-Sandbox-ID: box\r\nX-Sandbox-Namespace: a_b\r\n", 400, "Invalid namespace format."),
        ("/", "X-Sandbox-ID: box\r\nX-Sandbox-Port: 0\r\n", 400, "Invalid port format."),
        ("/sb/team", "", 400, "Path-routed request must have the form <prefix>/<namespace>/<id>/<port>/..."),
        ("/sb/team/box/80/%g", "", 400, "Invalid percent-encoding in path."),
        ("/", ID, 502, "Could not connect to the backend sandbox: box"),
    ] {
        let answer = gateway.get(path, headers).await;
        assert_eq!((answer.status, answer.body), (status, detail(text)), "{path} {headers}");
    }
    let answer = gateway.get("/", "").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let answer = gateway.get("/", ID).await;
    assert_eq!((answer.header("x-sandbox-state"), answer.header("retry-after")), (Some("not-found"), None));
    // A preflight carries no such header.
    let preflight = gateway.send("OPTIONS / HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    assert_eq!(preflight.status, 400);
}

#[tokio::test]
async fn a_request_goes_to_the_sandbox_and_port_that_it_names() {
    let gateway = Gateway::new().await;
    let _sandbox = gateway.answering("box", OK).await;
    for (path, headers, wanted) in [
        ("/", "X-Sandbox-ID: box\r\n", "default/box:8888"),
        ("/", "X-Sandbox-ID: box\r\nX-Sandbox-Namespace: team\r\nX-Sandbox-Port: 9090\r\n", "team/box:9090"),
        ("/sb/team/box/80/", "X-Sandbox-ID: other\r\n", "team/box:80"),
        ("/", "X-Sandbox-ID: box\r\nX-Sandbox-Pod-IP: 169.254.169.254\r\nX-Sandbox-UID: x\r\n", "default/box:8888"),
        ("/", "X-Sandbox-ID: box\r\nX-Sandbox-Pod-IP: nonsense\r\n", "default/box:8888"),
    ] {
        gateway.cluster.dialled.lock().clear();
        // Connections are reused only for the same target, so each request dials.
        let answer = gateway.get(path, headers).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.header("x-own")), (200, "ok", Some("yes")));
        let dialled: Vec<String> = gateway.cluster.dialled.lock().iter().map(ToString::to_string).collect();
        assert!(dialled.iter().all(|target| target == wanted), "{dialled:?} {wanted}");
    }
    let hosted = gateway.send("GET /x HTTP/1.1\r\nHost: box--81.team.sb.example.com\r\n\r\n").await;
    assert_eq!(hosted.status, 200);
    assert_eq!(gateway.cluster.dialled.lock().last().unwrap().to_string(), "team/box:81");
}

#[tokio::test]
async fn paths_go_on_byte_for_byte() {
    let gateway = Gateway::new().await;
    let sandbox = gateway.answering("box", OK).await;
    let long = format!("/{}", "a/".repeat(2000));
    for path in [
        "/",
        "//",
        "///x",
        "/a//b/",
        "/./a",
        "/../a",
        "/a/../../b",
        "/%2F",
        "/download/d%2Fx",
        "/exists/..%2Fq",
        "/list/%2f%2F",
        "/%2e%2e/%2E",
        "/a;b=c?x=%20&y=+&&=",
        "/?",
        "/a?b?c",
        "/%00%ff",
        "/a:b@c",
        "/~!$&'()*+,;=",
        "/%",
        "/%zz",
        "/a|b",
        "/[x]",
        "/\"q\"",
        "*",
        &long,
    ] {
        sandbox.requests.lock().clear();
        let method = if path == "*" { "OPTIONS" } else { "GET" };
        let answer = gateway.send(&format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\n{ID}\r\n")).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            sandbox.request().starts_with(&format!("{method} {path} HTTP/1.1\r\n")),
            "{path}: {}",
            sandbox.request()
        );
        if path.starts_with('/') && !path.contains("%zz") && path != "/%" {
            sandbox.requests.lock().clear();
            let answer = gateway.get(&format!("/sb/team/box/80{path}"), "").await;
            assert_eq!(answer.status, 200, "{path}");
            assert!(
                sandbox.request().starts_with(&format!("GET {path} HTTP/1.1\r\n")),
                "{path}: {}",
                sandbox.request()
            );
        }
    }
}

#[tokio::test]
async fn no_form_of_a_path_reaches_the_gateways_own_page_or_another_sandbox() {
    let gateway = Gateway::new().await;
    let own = gateway.answering("box", OK).await;
    let other = gateway.answering("other", OK).await;
    for path in [
        "/sb/team/box/80/healthz",
        "/sb/team/box/80/../../other/80/",
        "/sb/team/box/80/..%2f..%2fother/80/",
        "/sb/team/box/80/%2e%2e/%2e%2e/other/80/",
        "/sb/team/box/80//sb/team/other/80/",
        "/sb/team/box/80/http://other/",
        "/sb/team/box/80/\\..\\..\\other\\80",
    ] {
        own.requests.lock().clear();
        let answer = gateway.get(path, "X-Sandbox-ID: other\r\n").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{path}");
        assert_eq!(own.requests.lock().len(), 1, "{path}");
        assert!(other.requests.lock().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn the_health_page_answers_any_method_and_header() {
    let gateway = Gateway::new().await;
    for method in ["GET", "POST", "DELETE", "OPTIONS"] {
        let request = format!("{method} /healthz HTTP/1.1\r\nHost: gateway\r\n{ID}\r\n");
        assert_eq!(gateway.send(&request).await.body, "{\"status\":\"ok\"}\n", "{method}");
    }
    assert!(gateway.cluster.dialled.lock().is_empty());
}

#[tokio::test]
async fn every_method_and_a_head_without_body_pass() {
    let gateway = Gateway::new().await;
    let head = "HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\n";
    let _missing = gateway.answering("missing", head).await;
    let mut client = gateway.client().await;
    client.write("HEAD /x HTTP/1.1\r\nHost: gateway\r\nX-Sandbox-ID: missing\r\n\r\n").await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("content-length: 7"), "{answer}");
    let sandbox = gateway.answering("box", OK).await;
    for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let answer =
            gateway.send(&format!("{method} / HTTP/1.1\r\nHost: gateway\r\n{ID}Content-Length: 0\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{method}");
        assert!(sandbox.requests.lock().last().unwrap().starts_with(method));
    }
    let connect = gateway.send("CONNECT box:80 HTTP/1.1\r\nHost: box:80\r\nX-Sandbox-ID: box\r\n\r\n").await;
    assert_eq!(connect.status, 400);
}

#[tokio::test]
async fn the_sandbox_sees_its_own_address_and_the_clients_address_and_no_credential() {
    let gateway = Gateway::new().await;
    let sandbox = gateway.answering("box", OK).await;
    let headers =
        "X-Sandbox-ID: box\r\nAuthorization: Bearer secret\r\nX-Forwarded-For: 203.0.113.1\r\nOrigin: http://o\r\n";
    gateway.get("/", headers).await;
    let request = sandbox.request().to_ascii_lowercase();
    for wanted in [
        format!("host: {}\r\n", sandbox.address),
        "x-forwarded-for: 127.0.0.1\r\n".to_owned(),
        "x-forwarded-host: gateway\r\n".to_owned(),
        "x-forwarded-proto: http\r\n".to_owned(),
        "x-sandbox-id: box\r\n".to_owned(),
        "origin: http://o\r\n".to_owned(),
        "traceparent: 00-".to_owned(),
    ] {
        assert!(request.contains(&wanted), "{wanted}: {request}");
    }
    assert!(!request.contains("secret") && !request.contains("203.0.113.1"), "{request}");
}

/// The fault of other gateways: the application compares Host with its own name and answers 403.
#[tokio::test]
async fn an_application_that_checks_its_host_gets_the_host_of_the_client() {
    let checks = |request: &str| {
        let own = request.to_ascii_lowercase().contains("host: box--80.team.sb.example.com\r\n");
        if own { OK.to_owned() } else { "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned() }
    };
    let gateway = Gateway::new().await;
    let sandbox = Server::start(checks).await;
    gateway.sandbox("box", sandbox.address);
    let hosted = "GET / HTTP/1.1\r\nHost: box--80.team.sb.example.com\r\n\r\n";
    assert_eq!(gateway.send(hosted).await.status, 200);
    // The same after a cold start.
    gateway.cluster.asleep.lock().insert("box".to_owned(), Duration::from_millis(50));
    assert_eq!(gateway.send(hosted).await.status, 200);
    let preserving = Gateway::with(|config| config.preserve_host = true).await;
    let sandbox = preserving.answering("box", OK).await;
    preserving.get("/", ID).await;
    assert!(sandbox.request().to_ascii_lowercase().contains("host: gateway\r\n"));
}

#[tokio::test]
async fn answers_are_put_under_the_path_prefix() {
    let redirect = "HTTP/1.1 302 Found\r\nLocation: /login\r\nSet-Cookie: a=1; Path=/\r\nContent-Length: 0\r\n\r\n";
    let gateway = Gateway::new().await;
    let _sandbox = gateway.answering("box", redirect).await;
    let under = gateway.get("/sb/team/box/80/", "").await;
    assert_eq!(under.header("location"), Some("/sb/team/box/80/login"));
    assert_eq!(under.header("set-cookie"), Some("a=1; Path=/sb/team/box/80/"));
    let by_header = gateway.get("/", ID).await;
    assert_eq!((by_header.status, by_header.header("location")), (302, Some("/login")));
    let plain = Gateway::with(|config| config.rewrite_responses = false).await;
    let _sandbox = plain.answering("box", redirect).await;
    assert_eq!(plain.get("/sb/team/box/80/", "").await.header("location"), Some("/login"));
}

#[tokio::test]
async fn the_right_to_one_sandbox_is_none_to_another() {
    let gateway = Gateway::authorized().await;
    let _own = gateway.answering("box", OK).await;
    let _other = gateway.answering("other", OK).await;
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for (headers, status, text) in [
        (String::new(), 401, Some("unauthenticated")),
        (bearer("nonsense"), 401, Some("unauthenticated")),
        ("Authorization: Basic dG9rZW4tb2YtYm94Og==\r\n".to_owned(), 401, Some("unauthenticated")),
        (bearer(&format!("{TOKEN}other")), 403, Some("forbidden")),
        (bearer(&format!("{TOKEN}box")), 200, None),
    ] {
        let answer = gateway.get("/", &format!("{ID}{headers}")).await;
        let wanted = text.map_or("ok".to_owned(), detail);
        assert_eq!((answer.status, answer.body), (status, wanted), "{headers}");
    }
    let unauthenticated = gateway.get("/", ID).await;
    assert_eq!(unauthenticated.header("www-authenticate"), Some("Bearer"));
}

#[tokio::test]
async fn a_session_serves_one_sandbox_alone() {
    let gateway = Gateway::authorized().await;
    let sandbox = gateway.answering("box", OK).await;
    let _other = gateway.answering("other", OK).await;
    let begun = gateway.get(&format!("/sb/team/box/80/a?x=1&token={TOKEN}box"), "").await;
    assert_eq!((begun.status, begun.header("location")), (302, Some("/sb/team/box/80/a?x=1")));
    assert!(sandbox.requests.lock().is_empty());
    let cookie = begun.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let cookies = format!("Cookie: a=1; {cookie}\r\n");
    assert_eq!(gateway.get("/sb/team/box/80/a?x=1", &cookies).await.status, 200);
    let request = sandbox.request().to_ascii_lowercase();
    assert!(request.contains("cookie: a=1\r\n") && !request.contains("session"), "{request}");
    for (path, headers) in [
        ("/sb/team/other/80/", String::new()),
        ("/sb/team/box/81/", String::new()),
        ("/sb/other/box/80/", String::new()),
        ("/", ID.to_owned()),
    ] {
        assert_eq!(gateway.get(path, &format!("{cookies}{headers}")).await.status, 401, "{path}");
    }
    let evil = gateway.get("/sb/team/box/80/", &format!("{cookies}Origin: http://evil.example.com\r\n")).await;
    assert_eq!((evil.status, evil.body), (403, detail("origin not allowed for cookie-authenticated request")));
    let denied = "sandbox_router_authz_decisions_total{decision=\"deny\",sandbox_namespace=\"-\"} 5";
    gateway.await_metric(denied).await;
    let own = gateway.get("/sb/team/box/80/", &format!("{cookies}Origin: http://gateway\r\n")).await;
    assert_eq!(own.status, 200);
    // Headers may name the Sandbox of the cookie, and the token may be in the query.
    let by_header = "X-Sandbox-ID: box\r\nX-Sandbox-Namespace: team\r\nX-Sandbox-Port: 80\r\n";
    let with_token = format!("/b?token={TOKEN}box");
    for (path, headers) in [("/b", cookies.as_str()), (with_token.as_str(), "")] {
        sandbox.requests.lock().clear();
        assert_eq!(gateway.get(path, &format!("{headers}{by_header}")).await.status, 200, "{path}");
        let request = sandbox.request().to_ascii_lowercase();
        assert!(request.starts_with("get /b http/1.1\r\n") && !request.contains("session"), "{request}");
    }
    // A wrong token begins no session.
    let wrong = gateway.get("/sb/team/box/80/?token=wrong", "").await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
}

#[tokio::test]
async fn failures_and_bytes_are_counted_for_the_namespace() {
    let gateway = Gateway::new().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    gateway.sandbox("closed", closed);
    let _sandbox = gateway.answering("box", OK).await;
    let refused = gateway.get("/", "X-Sandbox-ID: closed\r\nX-Sandbox-Namespace: team\r\n").await;
    let text = detail("Could not connect to the backend sandbox: closed");
    assert_eq!((refused.status, &refused.body), (502, &text));
    assert!(gateway.metric("sandbox_router_upstream_errors_total{reason=\"dial\",sandbox_namespace=\"team\"} 1"));
    // The text went to the client, and nothing went to the Sandbox.
    for (family, value) in [
        ("client_tx_bytes_total", text.len()),
        ("response_size_bytes_sum", text.len()),
        ("response_size_bytes_count", 1),
    ] {
        gateway.await_metric(&format!("sandbox_router_{family}{{sandbox_namespace=\"team\"}} {value}")).await;
    }
    for family in ["upstream_rx_bytes_total", "upstream_tx_bytes_total", "client_rx_bytes_total"] {
        assert!(!gateway.metric(&format!("sandbox_router_{family}{{sandbox_namespace=\"team\"}} 0")), "{family}");
    }
    // Nothing of this body is read.
    let nameless = gateway.send("POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\n\r\nabc").await;
    for (family, value) in [
        ("client_tx_bytes_total", nameless.body.len()),
        ("response_size_bytes_sum", nameless.body.len()),
        ("request_size_bytes_sum", 0),
        ("request_size_bytes_count", 1),
    ] {
        gateway.await_metric(&format!("sandbox_router_{family}{{sandbox_namespace=\"-\"}} {value}")).await;
    }
    let body = "x".repeat(300);
    let request = format!("POST / HTTP/1.1\r\nHost: g\r\n{ID}Content-Length: 300\r\n\r\n{body}");
    assert_eq!(gateway.send(&request).await.status, 200);
    for (family, bytes) in
        [("client_rx_bytes", 300), ("upstream_tx_bytes", 300), ("upstream_rx_bytes", 2), ("client_tx_bytes", 2)]
    {
        gateway.await_metric(&format!("sandbox_router_{family}_total{{sandbox_namespace=\"default\"}} {bytes}")).await;
    }
}

#[tokio::test]
async fn a_probe_neither_wakes_nor_counts() {
    let gateway = Gateway::new().await;
    let _sandbox = gateway.answering("box", OK).await;
    gateway.cluster.asleep.lock().insert("box".to_owned(), Duration::from_millis(20));
    let probe = gateway.get("/", "X-Sandbox-ID: box\r\nUser-Agent: kube-probe/1.37\r\n").await;
    assert_eq!((probe.status, probe.header("x-sandbox-state")), (503, Some("suspended")));
    assert_eq!(gateway.get("/", ID).await.status, 200);
}

/// The fault of other gateways: the first request of a sleeping application fails.
#[tokio::test]
async fn a_request_is_held_until_the_sandbox_answers() {
    let gateway = Gateway::new().await;
    let sandbox = gateway.answering("box", OK).await;
    gateway.cluster.asleep.lock().insert("box".to_owned(), Duration::from_millis(300));
    let body = "x".repeat(1000);
    let request =
        format!("POST /execute HTTP/1.1\r\nHost: g\r\n{ID}X-Sandbox-Timeout: 60\r\nContent-Length: 1000\r\n\r\n{body}");
    assert_eq!(gateway.send(&request).await.status, 200);
    assert!(sandbox.request().ends_with(&body));
}

/// The fault of other gateways: timeouts have no effect after a cold start.
#[tokio::test]
async fn the_time_of_the_client_counts_from_its_request_and_after_a_cold_start() {
    let gateway = Gateway::with(|config| config.timeouts.proxy = Duration::from_secs(60)).await;
    let silent = listener(&gateway, "box").await;
    for asleep in [None, Some(Duration::from_millis(200)), Some(Duration::from_secs(30))] {
        if let Some(time) = asleep {
            gateway.cluster.asleep.lock().insert("box".to_owned(), time);
        }
        let begin = std::time::Instant::now();
        let headers = format!("{ID}X-Sandbox-Timeout: 0.6\r\n");
        let asked = gateway.get("/", &headers);
        let served = async {
            if asleep.is_none_or(|time| time < Duration::from_secs(1)) {
                std::mem::forget(accept(&silent).await);
            }
        };
        let (answer, ()) = tokio::join!(asked, served);
        let late = asleep.is_some_and(|time| time > Duration::from_secs(1));
        assert_eq!(answer.status, if late { 503 } else { 504 }, "{asleep:?}");
        if !late {
            assert_eq!(answer.body, detail("Timed out waiting for the backend sandbox: box"));
        }
        let time = begin.elapsed();
        assert!(time >= Duration::from_millis(550) && time < Duration::from_secs(10), "{time:?}");
    }
    let timeouts = "sandbox_router_upstream_errors_total{reason=\"timeout\",sandbox_namespace=\"default\"} 2";
    assert!(gateway.metric(timeouts));
}

#[tokio::test]
async fn a_command_may_take_longer_than_a_header_timeout_of_others() {
    // Upstream's router gives up after 30 s. Here the limit exists only if somebody sets it.
    assert!(crate::timeouts::Timeouts::DEFAULT.response_head.is_zero());
    let gateway = Gateway::with(|config| config.timeouts.response_head = Duration::from_millis(100)).await;
    let silent = listener(&gateway, "box").await;
    let (answer, _connection) = tokio::join!(gateway.get("/", ID), accept(&silent));
    assert_eq!(answer.status, 504);
}

#[tokio::test]
async fn a_browser_gets_a_page_while_its_sandbox_wakes() {
    let gateway = Gateway::new().await;
    gateway.cluster.asleep.lock().insert("box".to_owned(), Duration::from_secs(30));
    let headers = "Accept: text/html,*/*\r\nX-Sandbox-ID: box\r\nX-Sandbox-Timeout: 0.1\r\n";
    let answer = gateway.get("/", headers).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
    assert!(answer.header("content-type").unwrap().starts_with("text/html"));
    assert!(answer.body.contains("http-equiv=\"refresh\""));
}

#[tokio::test]
async fn a_sandbox_that_breaks_off_is_reported() {
    let gateway = Gateway::new().await;
    for garbage in [
        "",
        "HTTP/1.1 200 O",
        "garbage\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ] {
        let sandbox = listener(&gateway, "box").await;
        let served = async {
            let (mut stream, _) = accept(&sandbox).await;
            tokio::io::AsyncWriteExt::write_all(&mut stream, garbage.as_bytes()).await.unwrap();
        };
        let (answer, ()) = tokio::join!(gateway.get("/", ID), served);
        assert_eq!(
            (answer.status, answer.body),
            (502, detail("Could not connect to the backend sandbox: box")),
            "{garbage:?}"
        );
    }
    gateway.await_metric("sandbox_router_upstream_errors_total{reason=\"eof\",sandbox_namespace=\"default\"} 4").await;
    assert_eq!(gateway.cluster.connections.load(Ordering::Relaxed), 4);
}
