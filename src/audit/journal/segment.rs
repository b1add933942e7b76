//! The files of the journal: `audit-<UTC start>-<number>.jsonl`, one event a line, whose names sort as they were written.
//!
//! A folder belongs to one process: `lock` in it is held locked. A segment is made with its first line, mode 0600, and is
//! synced when the next one takes its place. A crash can leave the newest segment's last line torn; the next start ends it
//! with a newline, so that the line before and the line after stay readable, and says so in the record.

use crate::audit::{event::MicroTime, ledger::Position};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// When a segment ends and how long it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Bytes after which the next segment begins.
    pub(crate) max_size: u64,
    /// Age after which the next segment begins.
    pub(crate) rotate_every: Option<Duration>,
    /// Age after which a finished segment is removed.
    pub(crate) max_age: Option<Duration>,
    /// Finished segments that stay.
    pub(crate) max_backups: Option<usize>,
    /// Bytes of all segments that stay.
    pub(crate) max_total_size: Option<u64>,
}

/// The last line of an earlier process, cut off in its middle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Torn {
    /// The segment's file name.
    pub(crate) file: String,
    /// How much of the line there is, in bytes.
    pub(crate) bytes: u64,
}

/// Where lines end up; a trait so that tests can have a disk that fails.
pub(crate) trait Sink: Write + Send {
    /// As `File::sync_data`.
    fn sync(&mut self) -> io::Result<()>;
}

impl Sink for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Makes a new segment's file.
pub(crate) type Create = Box<dyn FnMut(&Path) -> io::Result<Box<dyn Sink>> + Send>;

/// The segments of one folder, written by one thread.
pub(crate) struct Segments {
    dir: PathBuf,
    keep: Keep,
    create: Create,
    current: Option<Current>,
    number: u64,
    /// Up to which there are whole lines.
    whole: Position,
    /// Names never go back in time, even if the clock does.
    latest: String,
    /// Held, not read: the lock goes with it.
    _lock: File,
}

struct Current {
    sink: Box<dyn Sink>,
    path: PathBuf,
    inode: Option<u64>,
    size: u64,
    began: SystemTime,
}

/// A folder that cannot be a journal.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process has it.
    #[error("audit folder {}: another gatelog writes to it", .0.display())]
    Taken(PathBuf),
    /// It cannot be made, read or written.
    #[error("audit folder {}: {}: {}", .0.display(), .1, .2)]
    Io(PathBuf, &'static str, #[source] io::Error),
}

impl Segments {
    /// Takes the folder, made if it is missing, and ends what an earlier process left torn.
    pub(crate) fn open(dir: &Path, keep: Keep) -> Result<(Self, Option<Torn>), FolderError> {
        let fault = |what| move |e| FolderError::Io(dir.to_owned(), what, e);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fault("cannot be made"))?;
        let lock = private()
            .create(true)
            .truncate(false)
            .open(dir.join("lock"))
            .map_err(fault("cannot be written"))?;
        lock.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => FolderError::Taken(dir.to_owned()),
            fs::TryLockError::Error(e) => FolderError::Io(dir.to_owned(), "cannot be locked", e),
        })?;
        let names = names(dir).map_err(fault("cannot be listed"))?;
        let torn = match names.last() {
            Some(name) => mend(&dir.join(name)).map_err(fault("its newest segment cannot be read"))?,
            None => None,
        };
        let number = names.iter().filter_map(|n| number_of(n)).max().unwrap_or(0);
        let offset = names.last().and_then(|name| fs::metadata(dir.join(name)).ok()).map_or(0, |m| m.len());
        let create = |path: &Path| -> io::Result<Box<dyn Sink>> {
            Ok(Box::new(private().create_new(true).open(path)?))
        };
        let this = Self {
            dir: dir.to_owned(),
            keep,
            create: Box::new(create),
            current: None,
            number,
            whole: Position { segment: number, offset },
            latest: names.last().and_then(|n| start_of(n)).unwrap_or_default().to_owned(),
            _lock: lock,
        };
        this.prune();
        Ok((this, torn))
    }

    #[cfg(test)]
    pub(crate) fn set_create(&mut self, create: Create) {
        self.create = create;
    }

    /// Up to which there are whole lines.
    pub(crate) fn position(&self) -> Position {
        self.whole
    }

    /// Whether the next write of `bytes` begins a segment.
    pub(crate) fn begins(&self, bytes: usize, now: SystemTime) -> bool {
        self.current
            .as_ref()
            .is_none_or(|c| c.size + bytes as u64 > self.keep.max_size || self.is_old(c, now))
    }

    /// Writes `lines[*done..]`, whole lines, to one segment; `done` tells how far it came. After an error the same call may
    /// be repeated.
    pub(crate) fn write(&mut self, lines: &[u8], done: &mut usize, now: SystemTime) -> io::Result<()> {
        if *done == 0 && self.begins(lines.len(), now) {
            self.finish()?;
            self.begin(now)?;
        }
        if self.current.is_none() {
            // The file was given up in the middle of these lines: the one that was begun is written anew.
            *done = lines[..*done].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            self.begin(now)?;
        }
        let Some(current) = &mut self.current else { return Err(io::ErrorKind::NotFound.into()) };
        let first = current.size == 0;
        while *done < lines.len() {
            match current.sink.write(&lines[*done..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    *done += n;
                    current.size += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.whole = Position { segment: self.number, offset: current.size };
        // Not before: on a failing disk segments would go, and nothing come.
        if first {
            self.prune();
        }
        Ok(())
    }

    /// Ends the current segment if its time has come, or if somebody took its file away.
    pub(crate) fn tick(&mut self, now: SystemTime) -> io::Result<()> {
        let Some(current) = &self.current else { return Ok(()) };
        if self.is_old(current, now) {
            return self.finish();
        }
        if current.inode.is_some() && fs::metadata(&current.path).ok().map(|m| m.ino()) != current.inode {
            tracing::warn!(segment.path = %current.path.display(), "audit segment was moved or removed, beginning another");
            return self.finish();
        }
        Ok(())
    }

    /// Leaves the current segment as it is; the next write begins another.
    pub(crate) fn give_up(&mut self) {
        // An empty one would only push a full one out of its place among the backups.
        if let Some(empty) = self.current.take().filter(|current| current.size == 0) {
            let _ = fs::remove_file(empty.path);
        }
    }

    /// Syncs and closes the current segment.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let Some(current) = &mut self.current {
            current.sink.sync()?;
            self.current = None;
        }
        Ok(())
    }

    fn is_old(&self, current: &Current, now: SystemTime) -> bool {
        let age = now.duration_since(current.began).unwrap_or_default();
        self.keep.rotate_every.is_some_and(|limit| age >= limit)
    }

    fn begin(&mut self, now: SystemTime) -> io::Result<()> {
        let text = MicroTime::at(now).to_string();
        // 2026-01-02T03:04:05.678901Z as 20260102T030405.678Z.
        let compact: String = text[..23].chars().filter(|c| !matches!(c, '-' | ':')).chain(['Z']).collect();
        let latest = compact.max(self.latest.clone());
        let path = self.dir.join(format!("audit-{latest}-{:08}.jsonl", self.number + 1));
        let sink = (self.create)(&path)?;
        let inode = fs::metadata(&path).ok().map(|m| m.ino());
        self.number += 1;
        self.latest = latest;
        self.current = Some(Current { sink, path, inode, size: 0, began: now });
        Ok(())
    }

    /// Removes what is over the limits, oldest first. The current segment stays whatever its size.
    fn prune(&self) {
        let Ok(names) = names(&self.dir) else { return };
        let current = self.current.as_ref().and_then(|c| c.path.file_name());
        let finished: Vec<_> = names
            .iter()
            .map(|n| self.dir.join(n))
            .filter(|p| p.file_name() != current)
            .filter_map(|p| fs::metadata(&p).ok().map(|m| (p, m)))
            .collect();
        let mut total: u64 = finished.iter().map(|(_, m)| m.len()).sum();
        let now = SystemTime::now();
        for (i, (path, meta)) in finished.iter().enumerate() {
            let age = meta.modified().ok().and_then(|t| now.duration_since(t).ok()).unwrap_or_default();
            let why = if self.keep.max_backups.is_some_and(|most| finished.len() - i > most) {
                "maxBackups"
            } else if self.keep.max_total_size.is_some_and(|most| total > most) {
                "maxTotalSize"
            } else if self.keep.max_age.is_some_and(|most| age > most) {
                "maxAge"
            } else {
                break;
            };
            match fs::remove_file(path) {
                Ok(()) => {
                    tracing::info!(segment.path = %path.display(), limit = why, "removed old audit segment")
                }
                Err(e) => {
                    tracing::warn!(segment.path = %path.display(), error = %e, "cannot remove old audit segment")
                }
            }
            total = total.saturating_sub(meta.len());
        }
    }
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segments")
            .field("dir", &self.dir)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// The segments in `dir`, oldest first.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string().ok().filter(|n| number_of(n).is_some()));
    }
    names.sort_unstable();
    Ok(names)
}

/// When a segment of this name began, in the name's own form, which sorts as time does.
pub(crate) fn start_of(name: &str) -> Option<&str> {
    Some(name.strip_prefix("audit-")?.strip_suffix(".jsonl")?.rsplit_once('-')?.0)
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("audit-")?.strip_suffix(".jsonl")?.rsplit_once('-')?.1.parse().ok()
}

/// A secret of this folder, made with its first use: the key of the digests that stand for what is not recorded.
pub(crate) fn key(dir: &Path) -> Result<[u8; 32], FolderError> {
    let path = dir.join("hmac.key");
    let fault = |what| move |e| FolderError::Io(path.clone(), what, e);
    let path = dir.join("hmac.key");
    let mut key = [0; 32];
    match File::open(&path) {
        Ok(mut file) => {
            file.read_exact(&mut key).map_err(fault("expected 32 bytes"))?;
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            aws_lc_rs::rand::fill(&mut key)
                .map_err(|_| FolderError::Io(path.clone(), "no randomness", io::ErrorKind::Other.into()))?;
            // Renamed into place, so that a crash leaves the whole key or none.
            let new = dir.join("hmac.key.new");
            let write = || {
                let mut file = private().create(true).truncate(true).open(&new)?;
                file.write_all(&key)?;
                file.sync_all()?;
                fs::rename(&new, &path)
            };
            write().map_err(fault("cannot be written"))?;
        }
        Err(e) => return Err(fault("cannot be read")(e)),
    }
    Ok(key)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Ends a torn last line.
fn mend(path: &Path) -> io::Result<Option<Torn>> {
    let mut file = OpenOptions::new().read(true).append(true).open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    let mut block = vec![0; 64 << 10];
    let mut end = size;
    let mut torn = 0;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        if let Some(at) = block.iter().rposition(|b| *b == b'\n') {
            torn += (block.len() - at - 1) as u64;
            break;
        }
        torn += block.len() as u64;
        end = start;
    }
    if torn == 0 {
        return Ok(None);
    }
    file.write_all(b"\n")?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Some(Torn { file: name, bytes: torn }))
}

#[cfg(test)]
mod tests;
