//! What kube's calls go out through: the gate's own client, with the credential of now, for nothing but reading.

use super::fresh::{Fresh, Open};
use crate::client::{Client, Error, Opened};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Until an answer begins, and again until a list ends.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of a list's page, and of one line of a watch: more than any one object has, and in memory it is several times as much.
const LARGEST: usize = 32 << 20;

/// The calls about one kind.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    pub(super) client: Arc<Client>,
    pub(super) fresh: Arc<Fresh>,
    /// Set when an answer was larger than it may be.
    pub(super) too_large: Arc<AtomicBool>,
}

impl Transport {
    async fn send(self, method: Method, target: String) -> Result<Response<Heard>, Error> {
        if method != Method::GET {
            return Err(Error::Failed(format!("{method}: the rules are only read")));
        }
        let watch = target.split(['?', '&']).any(|pair| pair == "watch=true");
        if let Some(at) = self.fresh.not_before().filter(|_| watch) {
            sleep_until(at).await;
        }
        if watch && let Some(why) = self.fresh.must_list(Instant::now()) {
            return Err(Error::Failed(why.to_owned()));
        }
        let answer = self.client.open(&target, PATIENCE).await?;
        let open = (watch && answer.status() == StatusCode::OK).then(|| self.fresh.opened());
        let late = open.is_none().then(|| Box::pin(sleep(PATIENCE)));
        let too_large = self.too_large;
        Ok(answer.map(|body| Heard { body: Some(body), open, late, line: 0, too_large }))
    }
}

impl<B> tower_service::Service<Request<B>> for Transport {
    type Response = Response<Heard>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Heard>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let target = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
        Box::pin(self.clone().send(request.method().clone(), target))
    }
}

/// The body of an answer. A watch that ends, fails or is let go is no longer open.
pub(super) struct Heard {
    /// None: it has ended.
    body: Option<Opened>,
    /// For a watch.
    open: Option<Open>,
    /// For everything else.
    late: Option<Pin<Box<Sleep>>>,
    /// Bytes since the last line feed.
    line: usize,
    too_large: Arc<AtomicBool>,
}

impl Heard {
    fn end(&mut self) {
        self.body = None;
        if let Some(open) = self.open.take() {
            open.end();
        }
    }
}

impl Body for Heard {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if let Some(late) = &mut this.late
            && late.as_mut().poll(cx).is_ready()
        {
            this.end();
            return Poll::Ready(Some(Err(Error::Failed(format!("no whole answer within {PATIENCE:?}")))));
        }
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else { return Poll::Pending };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(open) = &mut this.open {
                    open.hear();
                }
                for piece in
                    frame.data_ref().into_iter().flat_map(|data| data.split_inclusive(|b| *b == b'\n'))
                {
                    this.line += piece.len();
                    if this.line > LARGEST {
                        this.too_large.store(true, Relaxed);
                        this.end();
                        let why = format!("the answer is larger than {LARGEST} bytes");
                        return Poll::Ready(Some(Err(Error::Failed(why))));
                    }
                    if piece.ends_with(b"\n") {
                        this.line = 0;
                    }
                }
            }
            Some(Err(_)) => this.end(),
            None => {
                if let Some(open) = this.open.take() {
                    open.finish();
                }
                this.end();
            }
        }
        Poll::Ready(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full};

    #[tokio::test]
    async fn a_page_that_is_too_large_is_not_read_to_its_end() {
        let too_large = Arc::new(AtomicBool::new(false));
        let heard = |bytes: Vec<u8>| {
            let body = Full::from(bytes).map_err(|never| match never {}).boxed_unsync();
            Heard { body: Some(body), open: None, late: None, line: 0, too_large: too_large.clone() }
        };
        assert!(heard(vec![b' '; LARGEST]).collect().await.is_ok());
        assert!(!too_large.load(Relaxed));
        assert!(heard(vec![b' '; LARGEST + 1]).collect().await.is_err());
        assert!(too_large.load(Relaxed));
    }
}
