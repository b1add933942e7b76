//! `admin.socket`: a unix socket at which the gate's own user asks what its rules say. Nothing can be changed there.
//!
//! HTTP/1.1 with JSON: `POST /v1/explain` and `POST /v1/who-can` take an [`explain::Question`] and answer what `gatelog explain -o
//! json` and `gatelog who-can -o json` print, or a `v1` Status.

use crate::{authz::explain, body, codec::json, gateway::Gateway, status::Status};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::{
    convert::Infallible,
    fs::{self, DirBuilder, Permissions},
    io::{self, ErrorKind},
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::UnixListener,
    sync::{Mutex, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

/// A person asks once, a script one after the other.
const MAX_CONNECTIONS: usize = 8;
/// For a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// For everything that is asked over one connection.
const CONNECTION: Duration = Duration::from_secs(60);
/// Bytes of a question: a user in thousands of groups.
const LARGEST: usize = 256 << 10;
/// What a question holds.
const LIMITS: json::Limits = json::Limits { depth: 8, nodes: 20_000 };

/// The socket's place in the file system; it is given up on drop.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Device and inode, so that no other's is removed.
    own: (u64, u64),
}

/// Listens at `path`, for nobody but the gate's own user from the first moment.
///
/// The folder is made if only it is missing. A socket that nobody listens at is replaced.
///
/// # Errors
/// Somebody listens there, it is no socket, or the system's own reason.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, Place), String> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if !folder.exists() {
        DirBuilder::new().mode(0o700).create(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let mode = fs::metadata(folder).map_err(|e| format!("{}: {e}", folder.display()))?.mode();
    if mode & 0o022 != 0 {
        tracing::warn!(
            folder = %folder.display(),
            mode = format!("{:o}", mode & 0o7777),
            "others may write to the folder of admin.socket, and so put a socket of theirs in its place"
        );
    }
    is_free(path)?;
    // A socket is made with the mode that the process's mask leaves; nobody else reaches it before it has its own.
    let mut chance = [0; 4];
    aws_lc_rs::rand::fill(&mut chance).map_err(|_| "no randomness for a name".to_owned())?;
    let private = folder.join(format!(".{:08x}", u32::from_ne_bytes(chance)));
    DirBuilder::new().mode(0o700).create(&private).map_err(|e| format!("{}: {e}", private.display()))?;
    let made = make(&private.join("s"), path).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => {
            "is too long for a socket, expected a folder of less than 90 bytes".to_owned()
        }
        _ => error.to_string(),
    });
    let _ = fs::remove_dir_all(&private);
    made
}

fn make(private: &Path, path: &Path) -> io::Result<(UnixListener, Place)> {
    let listener = UnixListener::bind(private)?;
    fs::set_permissions(private, Permissions::from_mode(0o600))?;
    let made = fs::symlink_metadata(private)?;
    fs::rename(private, path)?;
    Ok((listener, Place { path: path.to_owned(), own: (made.dev(), made.ino()) }))
}

/// Whether there is nothing, or a socket whose gate is gone.
fn is_free(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
        Ok(found) if !found.file_type().is_socket() => return Err("is there, and is no socket".to_owned()),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(format!("is there, and whether it is in use cannot be told: {error}")),
        Ok(_) => Err("somebody listens there already, another gate?".to_owned()),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.own)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "admin.socket cannot be removed");
        }
    }
}

/// Answers until dropped.
pub(super) async fn serve(listener: UnixListener, gateway: Arc<Gateway>) {
    let desk = Arc::new(Desk { gateway, answering: Mutex::default() });
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would only spin.
                tracing::warn!(%error, "admin.socket cannot accept");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let desk = Arc::clone(&desk);
        connections.spawn(async move {
            let _place = place;
            let service = service_fn(|request| desk.answer(request));
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = timeout(CONNECTION, served).await {
                tracing::debug!(%error, "a connection to admin.socket ended");
            }
        });
    }
}

struct Desk {
    gateway: Arc<Gateway>,
    /// One answer at a time: each may look at a hundred thousand bindings.
    answering: Mutex<()>,
}

type Answered = Result<Bytes, Status>;

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (status, body) = match self.answered(request).await {
            Ok(body) => (StatusCode::OK, body),
            Err(status) => {
                let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (code, status.json())
            }
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    async fn answered(&self, request: Request<Incoming>) -> Answered {
        let explains = match request.uri().path() {
            "/v1/explain" => true,
            "/v1/who-can" => false,
            _ => return Err(Status::new(404, "NotFound", "expected /v1/explain or /v1/who-can")),
        };
        if request.method() != Method::POST {
            return Err(Status::new(405, "MethodNotAllowed", "expected POST"));
        }
        let too_large = || Status::bad_request(format!("the question is larger than {LARGEST} bytes"));
        let body = request.into_body();
        if body.size_hint().lower() > LARGEST as u64 {
            // Who is still writing when the socket closes may miss the answer.
            body::drain(Some(body)).await;
            return Err(too_large());
        }
        let question = Limited::new(body, LARGEST).collect().await;
        let question = question.map_err(|error| match error.is::<LengthLimitError>() {
            true => too_large(),
            false => Status::bad_request("the question did not come whole"),
        })?;
        let question = understood(&question.to_bytes())?;
        let _one_at_a_time = self.answering.lock().await;
        let authz = self.gateway.snapshot().authz.clone();
        let looking = tokio::task::spawn_blocking(move || {
            if explains { rendered(authz.explain(&question)) } else { rendered(authz.who_can(&question)) }
        });
        looking.await.unwrap_or_else(|_| Err(Status::internal("no answer was found")))
    }
}

fn understood(body: &[u8]) -> Result<explain::Question, Status> {
    let bad = |why: String| Status::bad_request(format!("the question: {why}"));
    let value = json::value(body, LIMITS).map_err(|error| bad(error.to_string()))?;
    if !value.is_object() {
        return Err(bad("expected an object".to_owned()));
    }
    serde_json::from_value(value).map_err(|error| bad(error.to_string()))
}

fn rendered<T: Serialize>(answer: Result<T, explain::BadQuestion>) -> Answered {
    let answer = answer.map_err(|error| Status::bad_request(error.to_string()))?;
    match serde_json::to_string_pretty(&answer) {
        Ok(text) => Ok((text + "\n").into()),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}
