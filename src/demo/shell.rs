//! A small shell and a few commands, for `kubectl exec` in the demo. Nothing of the machine it runs on is seen or touched.
//!
//! It knows quotes, variables, `;`, `&&`, `||`, pipes and redirections to its own files, and the commands that `help` lists.

mod commands;
mod syntax;
mod tar;
pub mod tty;

use bytes::{Bytes, BytesMut};
pub(super) use commands::NAMES;
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use syntax::{Connector, Direction, Part, Simple, Word};
use tokio::sync::mpsc;
use tty::Tty;

/// Bytes that a container's files may hold together.
const DISK: usize = 64 << 20;
/// A pipeline's pieces in flight between two commands.
const PIPE: usize = 4;
/// A command ended by ^C, as shells report it.
const INTERRUPTED: u8 = 130;
/// A command ended because nobody reads its output.
const BROKEN_PIPE: u8 = 141;
const NOT_FOUND: u8 = 127;

/// Where a command runs.
#[derive(Debug, Clone)]
pub struct Container {
    /// The pod's name.
    pub hostname: String,
    /// The container's name.
    pub name: String,
    /// What `ps` and `/etc/os-release` say.
    pub image: String,
    /// The variables it starts with.
    pub env: BTreeMap<String, String>,
    /// Its files.
    pub files: Files,
}

/// A container's files: absolute paths and contents. Clones share them. An empty directory is a path that ends in `/`.
#[derive(Debug, Clone, Default)]
pub struct Files(Arc<Mutex<BTreeMap<String, Bytes>>>);

/// The standard streams that output can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fd {
    /// 1
    Out,
    /// 2
    Err,
}

/// Where a command reads. An empty piece is an end of input that may be followed by more, as ^D on a terminal is.
#[derive(Debug)]
pub struct Stdin {
    pieces: mpsc::Receiver<Bytes>,
    rest: BytesMut,
}

/// Where a command writes.
#[derive(Debug, Clone)]
pub struct Output(Target);

#[derive(Debug, Clone)]
enum Target {
    Caller { to: mpsc::Sender<(Fd, Bytes)>, fd: Fd, terminal: bool },
    Pipe(mpsc::Sender<Bytes>),
    File(Files, String),
    Nowhere,
}

/// A command's three streams and, when it has one, its terminal.
#[derive(Debug)]
pub struct Stdio {
    /// 0
    pub stdin: Stdin,
    /// 1
    pub stdout: Output,
    /// 2
    pub stderr: Output,
    /// Present with `-t`.
    pub tty: Option<Tty>,
}

/// Nobody reads the output any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// Runs `command` in `container` to its end; returns its exit code.
pub async fn run(container: Arc<Container>, command: &[String], mut io: Stdio) -> u8 {
    let mut shell = Shell {
        env: container.env.clone(),
        container,
        cwd: "/".to_owned(),
        last: 0,
        exited: false,
        tty: io.tty,
    };
    let interrupted = shell.interrupted();
    let result = match command.first().map(String::as_str) {
        Some(name) if is_shell(name) => shell.sh(command, &mut io.stdin, &io.stdout, &io.stderr).await,
        Some(name) if commands::known(name) => {
            tokio::select! {
                result = shell.command(command, &mut io.stdin, &io.stdout, &io.stderr) => result,
                () = interrupted => Ok(INTERRUPTED),
            }
        }
        name => {
            let text = format!(
                "exec failed: unable to start container process: exec: {:?}: executable file not found in $PATH\n",
                name.unwrap_or_default()
            );
            io.stderr.write(text).await.map(|()| NOT_FOUND)
        }
    };
    result.unwrap_or(BROKEN_PIPE)
}

/// Whether the command can be run at all.
pub fn exists(name: &str) -> bool {
    is_shell(name) || commands::known(name)
}

fn is_shell(name: &str) -> bool {
    matches!(name, "sh" | "bash" | "/bin/sh" | "/bin/bash" | "ash")
}

impl Files {
    /// These files.
    pub fn new(files: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        Self(Arc::new(Mutex::new(files.into_iter().collect())))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, path: &str) -> Option<Bytes> {
        self.lock().get(path).cloned()
    }

    fn is_dir(&self, path: &str) -> bool {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        prefix == "/"
            || self.lock().range(prefix.clone()..).next().is_some_and(|(p, _)| p.starts_with(&prefix))
    }

    /// Appends, or starts the file; false: the disk is full or the path is a directory.
    fn write(&self, path: &str, bytes: &[u8], append: bool) -> bool {
        if self.is_dir(path) {
            return false;
        }
        let mut files = self.lock();
        if files.values().map(Bytes::len).sum::<usize>() + bytes.len() > DISK {
            return false;
        }
        let before = if append { files.get(path).cloned().unwrap_or_default() } else { Bytes::new() };
        files.insert(path.to_owned(), [&before, bytes].concat().into());
        true
    }

    fn make_dir(&self, path: &str) {
        self.lock().insert(format!("{}/", path.trim_end_matches('/')), Bytes::new());
    }

    /// The file, or with everything below it; false: there is no such thing.
    fn remove(&self, path: &str) -> bool {
        let below = format!("{}/", path.trim_end_matches('/'));
        let mut files = self.lock();
        let before = files.len();
        files.retain(|p, _| p != path && !p.starts_with(&below));
        files.len() < before
    }

    /// Names directly in a directory; directories end in `/`.
    fn list(&self, path: &str) -> Vec<String> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let files = self.lock();
        let below = files.range(prefix.clone()..).take_while(|(p, _)| p.starts_with(&prefix));
        let mut names: Vec<String> = below
            .filter_map(|(p, _)| p.get(prefix.len()..))
            .map(|rest| rest.split_inclusive('/').next().unwrap_or_default().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        names.dedup();
        names
    }

    /// Files at or below a path, each with its path.
    fn below(&self, path: &str) -> Vec<(String, Bytes)> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let files = self.lock();
        files
            .iter()
            .filter(|(p, _)| *p == path || p.starts_with(&prefix))
            .map(|(p, b)| (p.clone(), b.clone()))
            .collect()
    }
}

impl Stdin {
    /// Reads what is sent to the other end.
    pub fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { pieces, rest: BytesMut::new() }
    }

    /// Nothing to read.
    pub fn empty() -> Self {
        Self::new(mpsc::channel(1).1)
    }

    /// The next bytes; None: end of input.
    async fn piece(&mut self) -> Option<Bytes> {
        if !self.rest.is_empty() {
            return Some(self.rest.split().freeze());
        }
        self.pieces.recv().await.filter(|p| !p.is_empty())
    }

    /// The next line without its end; None: end of input. Nothing is lost when it is dropped half-way.
    pub async fn line(&mut self) -> Option<String> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.rest.iter().skip(searched).position(|b| *b == b'\n') {
                let line = self.rest.split_to(searched + end + 1);
                return Some(String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned());
            }
            searched = self.rest.len();
            match self.pieces.recv().await {
                Some(piece) if !piece.is_empty() => self.rest.extend_from_slice(&piece),
                _ if self.rest.is_empty() => return None,
                _ => return Some(String::from_utf8_lossy(&self.rest.split()).into_owned()),
            }
        }
    }
}

impl Output {
    /// To whoever runs the command; a `terminal` gets CR LF for LF.
    pub fn new(to: mpsc::Sender<(Fd, Bytes)>, fd: Fd, terminal: bool) -> Self {
        Self(Target::Caller { to, fd, terminal })
    }

    /// Writes, waiting for the reader.
    pub(crate) async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        let bytes = bytes.into();
        match &self.0 {
            _ if bytes.is_empty() => Ok(()),
            Target::Caller { to, fd, terminal } => {
                let bytes = if *terminal { tty::to_terminal(&bytes) } else { bytes };
                to.send((*fd, bytes)).await.map_err(|_| Gone)
            }
            Target::Pipe(to) => to.send(bytes).await.map_err(|_| Gone),
            Target::File(files, path) => files.write(path, &bytes, true).then_some(()).ok_or(Gone),
            Target::Nowhere => Ok(()),
        }
    }
}

/// One shell process: what changes as it runs.
#[derive(Debug, Clone)]
struct Shell {
    container: Arc<Container>,
    env: BTreeMap<String, String>,
    cwd: String,
    last: u8,
    exited: bool,
    tty: Option<Tty>,
}

/// Commands run shells that run commands.
type Running<'a> = Pin<Box<dyn Future<Output = Result<u8, Gone>> + Send + 'a>>;

impl Shell {
    /// Waits for ^C; without a terminal, for ever.
    fn interrupted(&self) -> impl Future<Output = ()> + Send + 'static {
        let tty = self.tty.clone();
        async move {
            match tty {
                Some(tty) => tty.interrupted().await,
                None => std::future::pending().await,
            }
        }
    }

    /// `sh`, `sh -c TEXT`, `sh FILE`.
    fn sh<'a>(
        &'a mut self,
        args: &'a [String],
        stdin: &'a mut Stdin,
        out: &'a Output,
        err: &'a Output,
    ) -> Running<'a> {
        Box::pin(async move {
            let mut rest =
                args.iter().skip(1).skip_while(|a| matches!(a.as_str(), "-i" | "-l" | "-e" | "--login"));
            match rest.next().map(String::as_str) {
                None => return self.interactive(stdin, out, err).await,
                Some("-c" | "-ec" | "-lc") => {
                    let Some(text) = rest.next() else {
                        err.write("sh: 0: -c requires an argument\n").await?;
                        return Ok(2);
                    };
                    let interrupted = self.interrupted();
                    tokio::select! {
                        done = self.script(text, stdin, out, err) => done?,
                        () = interrupted => self.last = INTERRUPTED,
                    }
                }
                Some(file) => {
                    let Some(text) = self.container.files.read(&self.path(file)) else {
                        err.write(format!("sh: 0: cannot open {file}: No such file\n")).await?;
                        return Ok(2);
                    };
                    self.script(&String::from_utf8_lossy(&text), stdin, out, err).await?;
                }
            }
            Ok(self.last)
        })
    }

    /// Reads commands from its input; with a terminal it asks for them.
    async fn interactive(&mut self, stdin: &mut Stdin, out: &Output, err: &Output) -> Result<u8, Gone> {
        while !self.exited {
            let asks = self.tty.is_some();
            if asks {
                out.write(format!("{} # ", self.cwd)).await?;
            }
            let interrupted = self.interrupted();
            let line = tokio::select! {
                line = stdin.line() => line,
                () = interrupted => {
                    self.last = INTERRUPTED;
                    continue;
                }
            };
            let Some(line) = line else {
                if asks {
                    out.write("exit\n").await?;
                }
                break;
            };
            let interrupted = self.interrupted();
            tokio::select! {
                done = self.script(&line, stdin, out, err) => done?,
                () = interrupted => self.last = INTERRUPTED,
            }
        }
        Ok(self.last)
    }

    /// Runs every step of a text; its exit code is in `last`.
    async fn script(
        &mut self,
        text: &str,
        stdin: &mut Stdin,
        out: &Output,
        err: &Output,
    ) -> Result<(), Gone> {
        let steps = match syntax::parse(text) {
            Ok(steps) => steps,
            Err(why) => {
                self.last = 2;
                return err.write(format!("sh: 1: Syntax error: {why}\n")).await;
            }
        };
        for step in steps {
            let wanted = match step.connector {
                Connector::Always => true,
                Connector::IfSucceeded => self.last == 0,
                Connector::IfFailed => self.last != 0,
            };
            if wanted {
                self.last = match &step.pipeline[..] {
                    [one] => self.simple(one, stdin, out, err).await,
                    many => self.clone().pipeline(many, stdin, out, err).await,
                }
                .or_else(|gone| {
                    if matches!(out.0, Target::Caller { .. }) { Err(gone) } else { Ok(BROKEN_PIPE) }
                })?;
            }
            if self.exited {
                break;
            }
        }
        Ok(())
    }

    /// Runs commands at the same time, each reading what the one before writes.
    fn pipeline<'a>(
        self,
        commands: &'a [Simple],
        stdin: &'a mut Stdin,
        out: &'a Output,
        err: &'a Output,
    ) -> Running<'a> {
        Box::pin(async move {
            let Some((first, rest)) = commands.split_first() else { return Ok(0) };
            let mut own = self.clone();
            if rest.is_empty() {
                return own.simple(first, stdin, out, err).await;
            }
            let (to, from) = mpsc::channel(PIPE);
            let writer = async move {
                let pipe = Output(Target::Pipe(to));
                own.simple(first, stdin, &pipe, err).await
            };
            let reader = async move {
                let mut stdin = Stdin::new(from);
                self.pipeline(rest, &mut stdin, out, err).await
            };
            tokio::join!(writer, reader).1
        })
    }

    /// One command with its assignments and redirections.
    fn simple<'a>(
        &'a mut self,
        simple: &'a Simple,
        stdin: &'a mut Stdin,
        out: &'a Output,
        err: &'a Output,
    ) -> Running<'a> {
        Box::pin(async move {
            let (mut out, mut err) = (out.clone(), err.clone());
            let mut redirected = None;
            for redirect in &simple.redirects {
                let target = self.expand(std::slice::from_ref(&redirect.target)).concat();
                let path = self.path(&target);
                let file = match redirect.direction {
                    Direction::Duplicate if redirect.fd == 2 && target == "1" => {
                        err = out.clone();
                        continue;
                    }
                    Direction::Duplicate if redirect.fd == 1 && target == "2" => {
                        out = err.clone();
                        continue;
                    }
                    Direction::Duplicate => {
                        err.write(format!("sh: 1: {target}: Bad file descriptor\n")).await?;
                        return Ok(2);
                    }
                    Direction::Read if path == "/dev/null" => {
                        redirected = Some(Stdin::empty());
                        continue;
                    }
                    Direction::Read => {
                        let Some(bytes) = self.container.files.read(&path) else {
                            err.write(format!("sh: 1: cannot open {target}: No such file\n")).await?;
                            return Ok(2);
                        };
                        redirected = Some(Stdin { pieces: mpsc::channel(1).1, rest: bytes.into() });
                        continue;
                    }
                    _ if path == "/dev/null" => Output(Target::Nowhere),
                    direction => {
                        if !self.container.files.write(&path, b"", direction == Direction::Append) {
                            err.write(format!("sh: 1: cannot create {target}: Is a directory\n")).await?;
                            return Ok(2);
                        }
                        Output(Target::File(self.container.files.clone(), path))
                    }
                };
                *if redirect.fd == 2 { &mut err } else { &mut out } = file;
            }
            let stdin = redirected.as_mut().unwrap_or(stdin);
            let mut words = &simple.words[..];
            while let Some((first, rest)) = words.split_first() {
                let Some((name, value)) = syntax::assignment(first) else { break };
                let value = self.expand(&[value]).join(" ");
                self.env.insert(name, value);
                words = rest;
            }
            let args = self.expand(words);
            match args.first().map(String::as_str) {
                None => Ok(0),
                Some("cd") => {
                    let path = self.path(args.get(1).map_or("/root", String::as_str));
                    if self.container.files.is_dir(&path) || path == "/root" {
                        self.cwd = path;
                        return Ok(0);
                    }
                    err.write(format!("sh: 1: cd: can't cd to {}\n", args.get(1).map_or("", String::as_str)))
                        .await?;
                    Ok(2)
                }
                Some("exit") => {
                    self.exited = true;
                    Ok(args.get(1).and_then(|c| c.parse::<i64>().ok()).map_or(self.last, |c| c as u8))
                }
                Some("export") => {
                    for (name, value) in args.iter().skip(1).filter_map(|a| a.split_once('=')) {
                        self.env.insert(name.to_owned(), value.to_owned());
                    }
                    Ok(0)
                }
                Some(name) if is_shell(name) => {
                    let mut inner = self.clone();
                    inner.last = 0;
                    inner.sh(&args, stdin, &out, &err).await
                }
                Some(name) if commands::known(name) => self.command(&args, stdin, &out, &err).await,
                Some(name) => {
                    err.write(format!("sh: 1: {name}: not found\n")).await?;
                    Ok(NOT_FOUND)
                }
            }
        })
    }

    async fn command(
        &self,
        args: &[String],
        stdin: &mut Stdin,
        out: &Output,
        err: &Output,
    ) -> Result<u8, Gone> {
        commands::run(commands::Call { shell: self, args, stdin, out, err }).await
    }

    /// An absolute path without `.`, `..` and double slashes.
    fn path(&self, path: &str) -> String {
        let mut parts: Vec<&str> = Vec::new();
        let start = if path.starts_with('/') { "" } else { &self.cwd };
        for part in start.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    /// Words to arguments: unquoted variables fall apart at white space.
    fn expand(&self, words: &[Word]) -> Vec<String> {
        let mut args = Vec::new();
        for word in words {
            let mut current: Option<String> = None;
            for part in word {
                match part {
                    Part::Text(text) => current.get_or_insert_default().push_str(text),
                    Part::Variable { name, quoted: true } => {
                        current.get_or_insert_default().push_str(&self.variable(name));
                    }
                    Part::Variable { name, quoted: false } => {
                        let value = self.variable(name);
                        if value.starts_with(char::is_whitespace) {
                            args.extend(current.take());
                        }
                        for (i, field) in value.split_whitespace().enumerate() {
                            if i > 0 {
                                args.extend(current.take());
                            }
                            current.get_or_insert_default().push_str(field);
                        }
                        if value.ends_with(char::is_whitespace) {
                            args.extend(current.take());
                        }
                    }
                }
            }
            args.extend(current);
        }
        args
    }

    fn variable(&self, name: &str) -> String {
        match name {
            "?" => self.last.to_string(),
            "$" => "1".to_owned(),
            "#" => "0".to_owned(),
            "PWD" => self.cwd.clone(),
            name => self.env.get(name).cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
