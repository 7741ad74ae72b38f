//! A server on this machine that answers as a test says.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use http::{HeaderMap, Response};
use serde_json::json;
use tokio::net::TcpListener;

use crate::digest::Digest;

pub(super) type Reply = Response<Body>;

/// Serves answers to the path, with its query, and the headers of a request. Returns the host of the server, which runs until
/// the end of the test.
pub(super) async fn serve(answer: impl Fn(&str, &HeaderMap) -> Reply + Send + Sync + 'static) -> String {
    let answer = Arc::new(answer);
    let app = Router::new().fallback(move |request: Request| {
        let reply = answer(request.uri().path_and_query().map_or("", |path| path.as_str()), request.headers());
        async move { reply }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    host
}

pub(super) fn reply(status: u16, body: Body) -> Reply {
    Response::builder().status(status).body(body).unwrap()
}

pub(super) fn blob(content: &[u8]) -> Reply {
    reply(200, content.to_vec().into())
}

/// The manifest of a component.
pub(super) fn manifest(component: &[u8]) -> Reply {
    let layer = json!({ "mediaType": "application/wasm", "digest": Digest::of(component), "size": component.len() });
    blob(json!({ "schemaVersion": 2, "layers": [layer] }).to_string().as_bytes())
}
