//! The admin listener: `/metrics`, `/livez`, `/readyz`, `/healthz` over plain HTTP/1.1, without authentication.
//!
//! It shows nothing that is secret, but it is meant for the kubelet and for Prometheus, so it has an address of its own that
//! a NetworkPolicy can close. It goes on answering while the gate drains.

use super::health::{Answer, Health, Question};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{Mutex, Semaphore},
    task::JoinSet,
};

/// Probes and scrapes need a handful; more is somebody playing.
const MAX_CONNECTIONS: usize = 64;
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until `shutdown` is ready, then hangs up.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    health: Arc<Health>,
    shutdown: impl Future<Output = ()>,
) {
    let admin = Arc::new(Admin { registry, health, scraping: Mutex::new(()) });
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let place = tokio::select! {
            () = &mut shutdown => return,
            Ok(place) = Arc::clone(&places).acquire_owned() => place,
        };
        let stream = tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: trying again at once would only spin.
                    tracing::warn!(%error, "admin listener cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        while connections.try_join_next().is_some() {}
        let admin = Arc::clone(&admin);
        connections.spawn(async move {
            let _place = place;
            let service = service_fn(|request| admin.answer(request));
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_READ_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "admin connection ended");
            }
        });
    }
}

struct Admin {
    registry: Registry,
    health: Arc<Health>,
    /// One scrape at a time: each may take milliseconds of processor.
    scraping: Mutex<()>,
}

impl Admin {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed\n"));
        }
        let path = request.uri().path();
        if path == "/metrics" {
            return Ok(self.metrics().await);
        }
        let query = request.uri().query().unwrap_or_default();
        let answered =
            [("/livez", Question::Live), ("/readyz", Question::Ready), ("/healthz", Question::Health)]
                .into_iter()
                .find_map(|(prefix, question)| match path.strip_prefix(prefix)? {
                    "" => Some(self.health.answer(question, query)),
                    rest => self.health.answer_one(question, rest.strip_prefix('/')?),
                });
        Ok(match answered {
            Some(Answer { code, text: body }) => {
                text(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
            }
            None => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        })
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let _one_at_a_time = self.scraping.lock().await;
        let registry = self.registry.clone();
        // Away from the threads that serve requests.
        let rendered =
            tokio::task::spawn_blocking(move || TextEncoder::new().encode_to_string(&registry.gather()))
                .await;
        match rendered {
            Ok(Ok(metrics)) => {
                let mut response = text(StatusCode::OK, metrics);
                let format = HeaderValue::from_static(prometheus::TEXT_FORMAT);
                response.headers_mut().insert(header::CONTENT_TYPE, format);
                response
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "metrics cannot be rendered");
                text(StatusCode::INTERNAL_SERVER_ERROR, "500 metrics cannot be rendered\n")
            }
            Err(error) => {
                tracing::error!(%error, "metrics cannot be rendered");
                text(StatusCode::INTERNAL_SERVER_ERROR, "500 metrics cannot be rendered\n")
            }
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Metrics, health::Scope};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
    };

    async fn ask(address: std::net::SocketAddr, line: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn it_answers_probes_and_scrapes_until_told_to_stop() {
        let registry = Registry::new();
        let _metrics = Metrics::new(&registry).unwrap();
        let health = Health::new();
        let upstream = health.state("upstream", Scope::Ready);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, registry, health, async move {
            let _ = stopped.await;
        }));

        for (line, status, body) in [
            ("GET /livez", "200 OK", "ok"),
            ("HEAD /livez", "200 OK", ""),
            ("GET /livez?verbose", "200 OK", "[+]ping ok\nlivez check passed\n"),
            (
                "GET /readyz",
                "500 Internal Server Error",
                "[+]ping ok\n[-]upstream failed: reason withheld\nreadyz check failed\n",
            ),
            ("GET /readyz/ping", "200 OK", "ok"),
            ("GET /readyz/upstream", "500 Internal Server Error", "internal server error: not known yet\n"),
            ("GET /readyz/", "404 Not Found", "404 page not found\n"),
            ("GET /readyzz", "404 Not Found", "404 page not found\n"),
            ("GET /livez/upstream", "404 Not Found", "404 page not found\n"),
            ("GET /", "404 Not Found", "404 page not found\n"),
            ("POST /livez", "405 Method Not Allowed", "405 method not allowed\n"),
        ] {
            let (head, answer) = ask(address, line).await;
            assert_eq!(head.lines().next(), Some(format!("HTTP/1.1 {status}").as_str()), "{line}");
            assert_eq!(answer, body, "{line}");
        }
        upstream.ok();
        assert_eq!(ask(address, "GET /readyz").await.1, "ok");

        let (head, body) = ask(address, "GET /metrics").await;
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        for name in ["gatelog_build_info", "gatelog_connections", "process_resident_memory_bytes"] {
            assert!(body.contains(name), "no {name} in\n{body}");
        }

        drop(stop);
        serving.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "still listening");
    }
}
