//! Exec and attach: a command between a caller and the shell, over SPDY streams or WebSocket channels.

use super::{
    Container, Options, Sub,
    logs::Log,
    upgrade::{self, Wanted},
};
use crate::demo::{
    answer::{Answer, Failure},
    shell::{self, Fd, Output, Stdin, Stdio, tty::Size, tty::Tty},
    spdy::{
        reset,
        session::{Session, Sink},
    },
    websocket::{Message, Socket},
};
use base64::Engine as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// How long the client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);
/// A real process takes about this long to start. kubectl counts on it: what comes over a WebSocket before it has set up its
/// channels it throws away.
const STARTING: Duration = Duration::from_millis(50);
/// What a container's killed process reports.
const KILLED: u8 = 137;
const SPDY_PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const WEBSOCKET_PROTOCOLS: [&str; 6] = [
    "",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "v5.channel.k8s.io",
];

/// The channels of WebSocket messages; on SPDY each is a stream.
mod channel {
    pub(super) const STDIN: u8 = 0;
    pub(super) const STDOUT: u8 = 1;
    pub(super) const STDERR: u8 = 2;
    pub(super) const ERROR: u8 = 3;
    pub(super) const RESIZE: u8 = 4;
    /// v5: the message's second byte names the channel that ends.
    pub(super) const CLOSE: u8 = 255;
}

/// A `v1` PodExecOptions or PodAttachOptions.
#[derive(Debug, Clone)]
struct Asked {
    /// None: attach.
    command: Option<Vec<String>>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// `…/exec` and `…/attach`
pub(super) fn serve(
    parts: &Parts,
    upgrade: Option<OnUpgrade>,
    options: &Options,
    sub: Sub,
    container: Arc<Container>,
) -> Result<Answer, Failure> {
    let tty = options.flag("tty");
    let asked = Asked {
        command: (sub == Sub::Exec).then(|| options.all("command").map(str::to_owned).collect()),
        stdin: options.flag("stdin"),
        stdout: options.flag("stdout"),
        // A terminal has one output.
        stderr: options.flag("stderr") && !tty,
        tty,
    };
    if !(asked.stdin || asked.stdout || asked.stderr) {
        return Err(Failure::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    if asked.command.as_ref().is_some_and(Vec::is_empty) {
        return Err(Failure::bad_request("you must specify at least one command for the container"));
    }
    let wanted = Wanted::read(&parts.headers)?;
    let upgrade = upgrade.ok_or_else(|| Failure::bad_request("Upgrade request required"))?;
    let chosen = match wanted {
        Wanted::Spdy => upgrade::spdy(parts, &SPDY_PROTOCOLS),
        Wanted::WebSocket => upgrade::websocket(parts, &WEBSOCKET_PROTOCOLS),
    };
    let (protocol, answer) = match chosen {
        Ok(chosen) => chosen,
        Err(refusal) => return Ok(refusal),
    };
    tokio::spawn(async move {
        // Without the upgrade the caller has gone.
        let Ok(io) = upgrade.await else { return };
        let io = TokioIo::new(io);
        match wanted {
            Wanted::Spdy => over_spdy(Session::serve(io), protocol, &asked, container).await,
            Wanted::WebSocket => over_websocket(Socket::serve(io), protocol, &asked, container).await,
        }
    });
    Ok(answer)
}

/// A command that runs; dropping it kills it.
struct Process {
    stdin: mpsc::Sender<Bytes>,
    size: watch::Sender<Size>,
    output: mpsc::Receiver<(Fd, Bytes)>,
    task: JoinSet<u8>,
}

impl Process {
    fn start(asked: &Asked, container: Arc<Container>) -> Self {
        let (stdin, typed) = mpsc::channel(16);
        let (size, sizes) = watch::channel(Size { width: 80, height: 24 });
        let (to, output) = mpsc::channel(16);
        let mut task = JoinSet::new();
        let mut alive = container.alive.clone();
        let tty = asked.tty;
        let work = async move |command: Option<Vec<String>>| {
            let (terminal, typed) = match tty {
                true => {
                    let (terminal, lines) = Tty::start(typed, to.downgrade(), sizes);
                    (Some(terminal), lines)
                }
                false => (None, typed),
            };
            let stdin = Stdin::new(typed);
            let stdout = Output::new(to.clone(), Fd::Out, tty);
            let stderr = Output::new(to, if tty { Fd::Out } else { Fd::Err }, tty);
            let io = Stdio { stdin, stdout, stderr, tty: terminal };
            match command {
                Some(command) => shell::run(container.shell.clone(), &command, io).await,
                None => attached(&container.log, io).await,
            }
        };
        let command = asked.command.clone();
        task.spawn(async move {
            tokio::select! {
                code = work(command) => code,
                _ = alive.changed() => KILLED,
            }
        });
        Self { stdin, size, output, task }
    }

    /// The exit code, once the output has ended.
    async fn code(&mut self) -> u8 {
        self.task.join_next().await.and_then(Result::ok).unwrap_or(KILLED)
    }
}

/// The container's own process: shows its log as it goes on, and says what it is told. ^C and ^D leave it.
async fn attached(log: &Log, mut io: Stdio) -> u8 {
    let (_, mut next) = log.since(u64::MAX);
    let mut reading = true;
    loop {
        let left = async {
            match &io.tty {
                Some(tty) => tty.interrupted().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            line = io.stdin.line(), if reading => match line {
                Some(line) => log.say(&line),
                None if io.tty.is_some() => return 0,
                None => reading = false,
            },
            () = left => return 0,
            () = log.more(next) => {
                let (lines, after) = log.since(next);
                next = after;
                let text: String = lines.into_iter().map(|l| l.text + "\n").collect();
                if io.stdout.write(text).await.is_err() {
                    return 0;
                }
            }
        }
    }
}

/// What the error channel says at the end; `plain`: as before v4, text or nothing.
fn ended(code: u8, plain: bool) -> Option<Bytes> {
    let message = format!("command terminated with non-zero exit code: exit status {code}");
    let status = match (code, plain) {
        (0, true) => return None,
        (_, true) => return Some(message.into()),
        (0, false) => json!({"metadata": {}, "status": "Success"}),
        (code, false) => json!({
            "metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
    };
    Some(status.to_string().into())
}

/// JSON objects one after the other, cut anywhere.
#[derive(Default)]
struct Resizes(BytesMut);

impl Resizes {
    fn push(&mut self, bytes: &[u8]) -> Option<Size> {
        const LONGEST: usize = 4096;
        self.0.extend_from_slice(bytes);
        let mut last = None;
        let mut objects = serde_json::Deserializer::from_slice(&self.0).into_iter::<Value>();
        let mut read = 0;
        while let Some(Ok(object)) = objects.next() {
            read = objects.byte_offset();
            last = serde_json::from_value(object).ok().or(last);
        }
        drop(self.0.split_to(read));
        if self.0.len() > LONGEST {
            self.0.clear();
        }
        last
    }
}

async fn over_spdy(mut session: Session, protocol: &str, asked: &Asked, container: Arc<Container>) {
    let resizes = asked.tty && matches!(protocol, "v4.channel.k8s.io" | "v3.channel.k8s.io");
    let plain = protocol != "v4.channel.k8s.io";
    let expected = 1 + [asked.stdin, asked.stdout, asked.stderr, resizes].iter().filter(|w| **w).count();
    let (mut error, mut stdin, mut stdout, mut stderr, mut resize) = (None, None, None, None, None);
    let opening = async {
        for _ in 0..expected {
            let Some(stream) = session.accept().await else { return false };
            let place = match stream.header("streamtype") {
                Some("error") => &mut error,
                Some("stdin") if asked.stdin => &mut stdin,
                Some("stdout") if asked.stdout => &mut stdout,
                Some("stderr") if asked.stderr => &mut stderr,
                Some("resize") if resizes => &mut resize,
                _ => return false,
            };
            if place.replace(stream).is_some() {
                return false;
            }
        }
        true
    };
    // Dropping the session closes the connection.
    if !tokio::time::timeout(OPENING, opening).await.unwrap_or(false) {
        return;
    }
    let mut process = Process::start(asked, container);
    let mut pumps = JoinSet::new();
    if let Some(mut stream) = stdin {
        let to = std::mem::replace(&mut process.stdin, mpsc::channel(1).0);
        pumps.spawn(async move {
            while let Some(bytes) = stream.input.recv().await {
                // Nobody reads it any more: the rest is thrown away.
                let _ = to.send(bytes).await;
            }
        });
    } else {
        process.stdin = mpsc::channel(1).0;
    }
    if let Some(mut stream) = resize {
        let size = process.size.clone();
        pumps.spawn(async move {
            let mut resizes = Resizes::default();
            while let Some(bytes) = stream.input.recv().await {
                if let Some(new) = resizes.push(&bytes) {
                    size.send_replace(new);
                }
            }
        });
    }
    let sink = |fd| match fd {
        Fd::Out => stdout.as_ref(),
        Fd::Err => stderr.as_ref(),
    };
    loop {
        tokio::select! {
            output = process.output.recv() => {
                let Some((fd, bytes)) = output else { break };
                if let Some(stream) = sink(fd)
                    && stream.output.send(bytes).await.is_err()
                {
                    return;
                }
            }
            extra = session.accept() => {
                // None: the caller has left.
                let Some(extra) = extra else { return };
                let _ = extra.output.reset(reset::REFUSED).await;
            }
        }
    }
    let said = ended(process.code().await, plain);
    let finish = async |sink: Option<&Sink>, last: Option<Bytes>| {
        if let Some(sink) = sink {
            // Errors mean that the caller has gone.
            if let Some(last) = last {
                let _ = sink.send(last).await;
            }
            let _ = sink.finish().await;
        }
    };
    finish(stdout.as_ref().map(|s| &s.output), None).await;
    finish(stderr.as_ref().map(|s| &s.output), None).await;
    finish(error.as_ref().map(|s| &s.output), said).await;
}

/// Messages of a channel, as text or bytes.
#[derive(Clone, Copy)]
struct Framing {
    base64: bool,
}

impl Framing {
    fn write(self, channel: u8, bytes: &[u8]) -> Message {
        if self.base64 {
            let mut text = char::from(b'0' + channel).to_string();
            base64::engine::general_purpose::STANDARD.encode_string(bytes, &mut text);
            return Message::Text(text.into());
        }
        let mut message = BytesMut::with_capacity(1 + bytes.len());
        message.put_u8(channel);
        message.put_slice(bytes);
        Message::Binary(message.freeze())
    }

    /// None: nothing to do with it.
    fn read(self, message: Message) -> Option<(u8, Bytes)> {
        let (Message::Text(mut bytes) | Message::Binary(mut bytes)) = message else { return None };
        let first = bytes.split_to(bytes.len().min(1)).first().copied()?;
        if !self.base64 {
            return Some((first, bytes));
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(&bytes).ok()?;
        Some((first.checked_sub(b'0')?, decoded.into()))
    }
}

async fn over_websocket(socket: Socket, protocol: &str, asked: &Asked, container: Arc<Container>) {
    let framing = Framing { base64: protocol.contains("base64") };
    let halves_close = protocol.starts_with("v5.");
    let plain = !(halves_close || protocol.starts_with("v4."));
    let Socket { mut input, output } = socket;
    let lowest = match asked {
        Asked { stdout: true, .. } => channel::STDOUT,
        Asked { stderr: true, .. } => channel::STDERR,
        _ => channel::ERROR,
    };
    // Errors on `output` mean that the caller has gone.
    if output.send(framing.write(lowest, b"")).await.is_err() {
        return;
    }
    tokio::time::sleep(STARTING).await;
    let mut process = Process::start(asked, container);
    let mut stdin = asked.stdin.then(|| process.stdin.clone());
    process.stdin = mpsc::channel(1).0;
    let size = process.size.clone();
    let mut reader = JoinSet::new();
    reader.spawn(async move {
        let mut resizes = Resizes::default();
        while let Some(message) = input.recv().await {
            match framing.read(message) {
                Some((channel::STDIN, bytes)) if !bytes.is_empty() => {
                    if let Some(to) = &stdin {
                        // Nobody reads it any more: the rest is thrown away.
                        let _ = to.send(bytes).await;
                    }
                }
                Some((channel::RESIZE, bytes)) => {
                    if let Some(new) = resizes.push(&bytes) {
                        size.send_replace(new);
                    }
                }
                Some((channel::CLOSE, which)) if halves_close && which[..] == [channel::STDIN] => {
                    stdin = None
                }
                _ => {}
            }
        }
    });
    loop {
        tokio::select! {
            piece = process.output.recv() => {
                let message = match piece {
                    None => break,
                    Some((Fd::Out, bytes)) if asked.stdout => framing.write(channel::STDOUT, &bytes),
                    Some((Fd::Err, bytes)) if asked.stderr => framing.write(channel::STDERR, &bytes),
                    Some(_) => continue,
                };
                if output.send(message).await.is_err() {
                    return;
                }
            }
            // The caller has left.
            _ = reader.join_next() => return,
        }
    }
    if let Some(said) = ended(process.code().await, plain) {
        let _ = output.send(framing.write(channel::ERROR, &said)).await;
    }
    // Dropping the last sender closes with 1000.
}
