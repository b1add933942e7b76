//! Asking a gate that runs, at its `admin.socket`.

use super::{Failure, UNAVAILABLE, usage};
use crate::authz::explain::Question;
use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{path::Path, time::Duration};
use tokio::{net::UnixStream, runtime::Builder, time::timeout};

/// A gate with a hundred thousand bindings takes less.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer: everybody who may, of a hundred thousand bindings.
const LARGEST: usize = 256 << 20;

/// Puts a question to the gate that listens at `path`.
pub(super) fn ask<T: DeserializeOwned>(path: &Path, what: &str, question: &Question) -> Result<T, Failure> {
    let at = || format!("--socket {}", path.display());
    let unavailable = |error: anyhow::Error| Failure { code: UNAVAILABLE, error: error.context(at()) };
    let body = serde_json::to_vec(question).map_err(anyhow::Error::new)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::new)?;
    let answered = runtime.block_on(async { timeout(PATIENCE, call(path, what, body)).await });
    let answered = answered.unwrap_or_else(|_| Err(anyhow!("no answer within {PATIENCE:?}")));
    let (status, body) = answered.map_err(unavailable)?;
    if status == StatusCode::OK {
        let no_answer =
            || format!("what answers there is no gate: its answer to {what} cannot be understood");
        return serde_json::from_slice(&body).with_context(no_answer).map_err(unavailable);
    }
    let said = serde_json::from_slice(&body).ok();
    let said = said.as_ref().and_then(|said: &Value| said.get("message")?.as_str());
    match (status, said) {
        (StatusCode::BAD_REQUEST, Some(said)) => Err(usage(anyhow!("{said:?}").context(at()))),
        (_, Some(said)) => Err(unavailable(anyhow!("status {}: {said:?}", status.as_u16()))),
        (_, None) => Err(unavailable(anyhow!("what answers there is no gate: status {}", status.as_u16()))),
    }
}

async fn call(path: &Path, what: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), anyhow::Error> {
    let stream = UnixStream::connect(path).await.context("no gate answers there")?;
    let no_answer = "what answers there is no gate";
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context(no_answer)?;
    let asking = async move {
        let request = Request::post(format!("/v1/{what}"))
            .header(header::HOST, "gatelog")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let answer = sender.send_request(request).await.context(no_answer)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        Ok((status, body.map_err(|error| anyhow!("the answer: {error}"))?.to_bytes()))
    };
    let (asked, _) = tokio::join!(asking, connection);
    asked
}
