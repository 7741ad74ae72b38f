//! The server with real connections.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Extension;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const LIMITS: ServerLimits = ServerLimits {
    connections: 4,
    connections_per_peer: 4,
    first_request: Duration::from_millis(300),
    idle: Duration::from_secs(60),
    age: Duration::from_secs(60),
    body: 100,
    bytes: 150,
    memory: 1000,
    ..crate::limits::ENDPOINT_SERVER
};

async fn body(Extension(intake): Extension<Intake>, body: Body) -> Response {
    match intake.receive(body).await {
        Ok(bytes) => bytes.len().to_string().into_response(),
        Err(error) => (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()).into_response(),
    }
}

struct Running {
    address: SocketAddr,
    incidents: Arc<Mutex<Vec<Incident>>>,
    stop: CancellationToken,
}

async fn start(limits: ServerLimits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incidents: Arc<Mutex<Vec<Incident>>> = Arc::default();
    let noted = incidents.clone();
    let on_incident = Arc::new(move |incident| noted.lock().push(incident));
    let stop = CancellationToken::new();
    let router = Router::new().route("/", get(|| async { "ok" })).route("/body", post(body));
    tokio::spawn(serve(listener, Server { protocol: Protocol::Plain, limits, on_incident }, router, stop.clone()));
    Running { address, incidents, stop }
}

async fn send(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = timeout(Duration::from_secs(10), stream.read(&mut answer)).await.expect("an answer").unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// Waits until the server closes the connection.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.expect("the end of the connection");
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn silent_clients_keep_nobody_out() {
    let server = start(ServerLimits { first_request: Duration::from_secs(60), ..LIMITS }).await;
    let mut silent = Vec::new();
    for beginning in
        ["", "GET ", "GET / HTTP/1.1\r\nhost: a\r\n", "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n12"]
    {
        for _ in 0..5 {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(beginning.as_bytes()).await.unwrap();
            silent.push(stream);
            let mut good = TcpStream::connect(server.address).await.unwrap();
            assert!(send(&mut good, GET).await.ends_with("ok"), "{beginning:?}");
        }
    }
    assert!(server.incidents.lock().contains(&Incident::ConnectionEvicted));
}

#[tokio::test]
async fn a_client_that_completes_no_request_in_time_is_closed() {
    let server = start(LIMITS).await;
    for beginning in [
        "",
        "G",
        "GET / HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n12",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        closed(&mut stream).await;
    }
    assert_eq!(server.incidents.lock().len(), 5, "{:?}", server.incidents.lock());
    // An answered client may be silent for longer.
    let mut good = TcpStream::connect(server.address).await.unwrap();
    assert!(send(&mut good, GET).await.ends_with("ok"));
    sleep(LIMITS.first_request * 2).await;
    assert!(send(&mut good, GET).await.ends_with("ok"));
}

#[tokio::test]
async fn an_old_connection_ends_with_an_answer() {
    let server = start(ServerLimits { age: Duration::ZERO, ..LIMITS }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let answer = send(&mut stream, GET).await;
    assert!(answer.contains("connection: close") && answer.ends_with("ok"), "{answer}");
    closed(&mut stream).await;
}

#[tokio::test]
async fn a_body_has_a_limit_and_all_bodies_together_have_one() {
    let server = start(LIMITS).await;
    let request =
        |length: usize, body: &str| format!("POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}");
    let whole = "x".repeat(100);
    let connect = async || TcpStream::connect(server.address).await.unwrap();
    assert!(send(&mut connect().await, &request(100, &whole)).await.ends_with("100"));
    let answer = send(&mut connect().await, &request(101, &format!("{whole}x"))).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("more than 100 bytes"), "{answer}");
    // Half of a body is held by another client. The next body fits only in its place.
    let mut half = connect().await;
    half.write_all(request(100, &"x".repeat(90)).as_bytes()).await.unwrap();
    let answers = async {
        loop {
            let answer = send(&mut connect().await, &request(80, &"x".repeat(80))).await;
            if server.incidents.lock().is_empty() && answer.ends_with("80") {
                break;
            }
        }
    };
    timeout(Duration::from_secs(10), answers).await.expect("the smaller body");
}

/// The client still sends its body when the server refuses the request, and reads the answer only afterwards, as the HTTP
/// client of an API server may do. The body is larger than what sockets hold.
#[tokio::test]
async fn client_that_sends_a_large_body_gets_the_refusal() {
    const LENGTH: usize = 32 << 20;
    let server = start(ServerLimits { first_request: Duration::from_secs(60), ..LIMITS }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; LENGTH]).await.expect("the server reads the whole body");
    let mut answer = vec![0; 4096];
    let read = timeout(Duration::from_secs(10), stream.read(&mut answer)).await.expect("in time").expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("more than 100 bytes"), "{answer}");
}

#[tokio::test]
async fn a_server_ends_in_order() {
    let server = start(LIMITS).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert!(send(&mut stream, GET).await.ends_with("ok"));
    server.stop.cancel();
    closed(&mut stream).await;
    assert!(TcpStream::connect(server.address).await.is_err());
}

/// The second request of the test below is answered only when the work of the first one ends, because both together need
/// more memory than there is.
#[tokio::test]
async fn work_keeps_its_turn_after_its_request_was_answered() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let work = move |Extension(intake): Extension<Intake>, body: Body| {
        let released = released.clone();
        async move {
            intake.receive(body).await.unwrap();
            intake.turn(LIMITS.largest()).await.unwrap();
            let wait = move || released.lock().recv();
            match timeout(Duration::from_millis(50), intake.work(wait)).await {
                Ok(_) => "done",
                Err(_elapsed) => "late",
            }
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server { protocol: Protocol::Plain, limits: LIMITS, on_incident: Arc::new(|_| {}) };
    tokio::spawn(serve(listener, server, Router::new().route("/", post(work)), CancellationToken::new()));
    let request = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
    let mut first = TcpStream::connect(address).await.unwrap();
    assert!(send(&mut first, request).await.ends_with("late"));
    let mut second = TcpStream::connect(address).await.unwrap();
    second.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 1024];
    let early = timeout(Duration::from_secs(1), second.read(&mut answer)).await;
    assert!(early.is_err(), "the work of the first request still holds its turn");
    drop(release);
    let read = timeout(Duration::from_secs(10), second.read(&mut answer)).await.expect("an answer").unwrap();
    assert!(String::from_utf8_lossy(&answer[..read]).ends_with("done"));
}
