//! Port-forward: a stream pair for each connection; a web page at the container's ports, an echo at 7.

use super::upgrade::{self, Wanted};
use crate::demo::{
    answer::{Answer, Failure},
    spdy::{
        reset,
        session::{Session, Stream},
    },
    websocket::Socket,
};
use bytes::{Bytes, BytesMut};
use http::{Response, header, request::Parts};
use http_body_util::Full;
use hyper::{service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::watch,
    task::JoinSet,
};

const PROTOCOL: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const ECHO: u16 = 7;
/// How long half a pair waits for the other.
const PAIRING: Duration = Duration::from_secs(30);

/// What answers behind the ports.
#[derive(Debug)]
struct Inside {
    name: String,
    page: String,
    /// Where the page is served.
    ports: Vec<u16>,
}

/// The web page of a pod.
pub(super) fn page(pod: &Value) -> String {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
    format!(
        "<!doctype html>\n<title>{0}</title>\n<h1>Hello from pod {0} in namespace {1}</h1>\n",
        text("name"),
        text("namespace")
    )
}

/// `…/portforward`
pub(super) fn serve(
    parts: &Parts,
    upgrade: Option<OnUpgrade>,
    pod: &Value,
    alive: watch::Receiver<()>,
) -> Result<Answer, Failure> {
    let wanted = Wanted::read(&parts.headers)?;
    let upgrade = upgrade.ok_or_else(|| Failure::bad_request("Upgrade request required"))?;
    let chosen = match wanted {
        Wanted::Spdy => upgrade::spdy(parts, &[PROTOCOL]),
        Wanted::WebSocket => upgrade::websocket(parts, &[TUNNEL]),
    };
    let (_, answer) = match chosen {
        Ok(chosen) => chosen,
        Err(refusal) => return Ok(refusal),
    };
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
    let ports = ports.filter_map(|p| u16::try_from(p["containerPort"].as_u64()?).ok()).chain([80]).collect();
    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let inside = Arc::new(Inside { name, page: page(pod), ports });
    tokio::spawn(async move {
        // Without the upgrade the caller has gone.
        let Ok(io) = upgrade.await else { return };
        let session = match wanted {
            Wanted::Spdy => Session::serve(TokioIo::new(io)),
            Wanted::WebSocket => Session::serve(Socket::serve(TokioIo::new(io)).into_pipe()),
        };
        forward(session, inside, alive).await;
    });
    Ok(answer)
}

/// Pairs streams and connects them, until the caller leaves or the pod goes.
async fn forward(mut session: Session, inside: Arc<Inside>, mut alive: watch::Receiver<()>) {
    let mut waiting: HashMap<String, Stream> = HashMap::new();
    let mut connections = JoinSet::new();
    let (late, mut timed_out) = tokio::sync::mpsc::unbounded_channel::<String>();
    loop {
        let stream = tokio::select! {
            stream = session.accept() => match stream {
                Some(stream) => stream,
                None => return,
            },
            Some(id) = timed_out.recv() => {
                if let Some(stream) = waiting.remove(&id) {
                    // Fails when the connection has ended, which accept() is about to say.
                    let _ = stream.output.reset(reset::CANCEL).await;
                }
                continue;
            }
            Some(_) = connections.join_next() => continue,
            _ = alive.changed() => return,
        };
        let id = match (stream.header("requestid"), stream.header("streamtype")) {
            (Some(id), Some("error" | "data")) => id.to_owned(),
            // Clients before requestid: the error stream is opened right before its data stream.
            (None, Some("error")) => format!("#{}", stream.id),
            (None, Some("data")) => format!("#{}", stream.id.saturating_sub(2)),
            _ => {
                let _ = stream.output.reset(reset::PROTOCOL_ERROR).await;
                continue;
            }
        };
        match waiting.remove(&id) {
            None => {
                let (late, key) = (late.clone(), id.clone());
                connections.spawn(async move {
                    tokio::time::sleep(PAIRING).await;
                    // The session that would hear it may have ended.
                    let _ = late.send(key);
                });
                waiting.insert(id, stream);
            }
            Some(other) if other.header("streamtype") == stream.header("streamtype") => {
                let _ = stream.output.reset(reset::PROTOCOL_ERROR).await;
                waiting.insert(id, other);
            }
            Some(other) => {
                let is_error = stream.header("streamtype") == Some("error");
                let (error, data) = if is_error { (stream, other) } else { (other, stream) };
                connections.spawn(connect(error, data, inside.clone()));
            }
        }
    }
}

/// One forwarded connection.
async fn connect(error: Stream, data: Stream, inside: Arc<Inside>) {
    let name = &inside.name;
    let asked = data.header("port").unwrap_or_default();
    let (port, why) = match asked.parse::<u16>() {
        Ok(0) => (0, Some(format!("port {asked:?} must be > 0"))),
        Err(_) => (0, Some(format!("unable to parse {asked:?} as a port"))),
        Ok(port) if port == ECHO || inside.ports.contains(&port) => (port, None),
        Ok(port) => {
            let why = format!(
                "error forwarding port {port} to pod {name}, uid : failed to connect to localhost:{port} inside \
                 namespace {name:?}: dial tcp4 127.0.0.1:{port}: connect: connection refused"
            );
            (port, Some(why))
        }
    };
    // Errors below mean that the caller has gone, and then nothing is owed to him.
    if let Some(why) = why {
        let _ = error.output.send(why.into()).await;
        let _ = error.output.finish().await;
        let _ = data.output.finish().await;
        return;
    }
    let (theirs, ours) = tokio::io::duplex(64 << 10);
    let pump = pump(data, ours);
    if port == ECHO {
        let (mut from, mut to) = tokio::io::split(theirs);
        let echo = async {
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        };
        tokio::join!(pump, echo);
    } else {
        let page = Bytes::from(inside.page.clone());
        let service = service_fn(move |_| {
            let page = page.clone();
            async move {
                let mut response = Response::new(Full::new(page));
                let html = http::HeaderValue::from_static("text/html; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, html);
                Ok::<_, Infallible>(response)
            }
        });
        let http = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(theirs), service);
        let _ = tokio::join!(pump, http);
    }
    let _ = error.output.finish().await;
}

/// Between a stream and a pipe, both ways, each half ended on its own.
async fn pump(mut stream: Stream, pipe: DuplexStream) {
    let (mut from, mut to) = tokio::io::split(pipe);
    let inwards = async {
        while let Some(bytes) = stream.input.recv().await {
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    let outwards = async {
        let mut buffer = BytesMut::with_capacity(32 << 10);
        while let Ok(1..) = from.read_buf(&mut buffer).await {
            if stream.output.send(buffer.split().freeze()).await.is_err() {
                return;
            }
            buffer.reserve(32 << 10);
        }
        let _ = stream.output.finish().await;
    };
    // Once the service has said all it will, what the caller still sends has no reader.
    tokio::pin!(inwards, outwards);
    tokio::select! {
        () = &mut outwards => {}
        () = &mut inwards => outwards.await,
    }
}
