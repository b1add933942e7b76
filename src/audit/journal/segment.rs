//! The files of the journal: `audit-<UTC start>-<number>.jsonl`, one event a line, whose names sort as they were written.
//!
//! A folder belongs to one process: `lock` in it is held locked. A segment is made with its first line, mode 0600.
//!
//! # What is called, in this order, and what a crash leaves
//!
//! **A line**: `write(2)` to the end of the newest segment (`O_APPEND`), then `fdatasync(2)`, which also writes the new length.
//!
//! | a crash | leaves |
//! |---|---|
//! | before the write | nothing of the line; nobody was told that it is kept |
//! | in the write, or before the sync | the line, a part of it or nothing; of the machine, not of the process alone: nobody who waits for the disk was told |
//! | after the sync | the line |
//!
//! A part of a line is at the end of its file. The next start ends it with a newline, so that what stands before and what comes
//! after stay readable, and says so in the record.
//!
//! **A write that fails** may have written something all the same: `ftruncate(2)` to where the last whole line ended, before
//! anything else is done with the file. While that fails nothing is written at all.
//!
//! **A sync that fails** says nothing of what is on the disk, and the next one on the same file may say that all is well. The
//! file is given up: `open(2)` of a new segment, `write(2)` of all lines whose sync failed, `fsync(2)` of it and of the folder,
//! and only then `ftruncate(2)` and `fsync(2)` of the old one to where its last good sync ended (`unlink(2)`, if that is its
//! beginning). A crash in between leaves these lines twice, and never less than once.
//!
//! **The next segment**: `fdatasync(2)` of the old one; the file `open` (see `open`) as `open.new`, `fsync(2)`, `rename(2)`;
//! `open(2)` of the new one (`O_EXCL`), `fsync(2)` of the folder; then its first line.
//!
//! | a crash | leaves |
//! |---|---|
//! | before the rename | the old list of open requests, which tells to begin the search in an older segment; `open.new`, which the next start removes |
//! | before the folder's sync | perhaps no new segment; nothing is in it |
//! | before the first line | an empty segment |
//!
//! **Compression**, of finished segments: see `seal`.

use crate::audit::{
    event::MicroTime,
    folder::{self, Segment},
    ledger::Position,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// When a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Bytes after which the next segment begins.
    pub(crate) max_size: u64,
    /// Age after which the next segment begins.
    pub(crate) rotate_every: Option<Duration>,
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
pub(crate) trait Sink: Send + Sync {
    /// Appends; may take only a part.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// As `File::sync_data`.
    fn sync(&self) -> io::Result<()>;
    /// As `File::set_len`.
    fn truncate(&self, size: u64) -> io::Result<()>;
}

impl Sink for File {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&mut &*self).write(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }
}

/// Makes a new segment's file.
pub(crate) type Create = Box<dyn FnMut(&Path) -> io::Result<Arc<dyn Sink>> + Send>;

/// The segments of one folder.
pub(crate) struct Segments {
    dir: PathBuf,
    keep: Keep,
    create: Create,
    current: Option<Current>,
    /// Of the newest segment.
    number: u64,
    /// Up to where there are whole lines.
    end: Position,
    /// Names never go back in time, even if the clock does.
    latest: String,
    /// Files given up that still hold lines which are elsewhere by now, and the length they should have.
    untrimmed: Vec<(Current, u64)>,
    /// The folder is ours as long as somebody has it.
    lock: Option<File>,
}

struct Current {
    sink: Arc<dyn Sink>,
    path: PathBuf,
    inode: Option<u64>,
    number: u64,
    /// Bytes of whole lines.
    size: u64,
    /// There may be something behind them.
    torn: bool,
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
    /// Takes the folder, made if it is missing, removes what an earlier process began and did not finish, and ends what it left
    /// torn.
    pub(crate) fn open(dir: &Path, keep: Keep) -> Result<(Self, Vec<Torn>), FolderError> {
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
        clean(dir).map_err(fault("what an earlier process left cannot be removed"))?;
        let segments = folder::segments(dir).map_err(fault("cannot be listed"))?;
        let mut torn = Vec::new();
        for segment in segments.iter().filter(|segment| !segment.compressed) {
            torn.extend(mend(&segment.path).map_err(fault("a segment cannot be read"))?);
        }
        let number = segments.iter().map(|s| s.number).max().unwrap_or(0);
        let newest = segments.last().filter(|segment| !segment.compressed);
        let offset = newest.and_then(|s| fs::metadata(&s.path).ok()).map_or(0, |m| m.len());
        let create = |path: &Path| -> io::Result<Arc<dyn Sink>> {
            Ok(Arc::new(private().append(true).create_new(true).open(path)?))
        };
        let this = Self {
            dir: dir.to_owned(),
            keep,
            create: Box::new(create),
            current: None,
            number,
            end: Position { segment: number, offset },
            latest: segments.last().and_then(|s| start_of(&s.stem)).unwrap_or_default().to_owned(),
            untrimmed: Vec::new(),
            lock: Some(lock),
        };
        Ok((this, torn))
    }

    #[cfg(test)]
    pub(crate) fn set_create(&mut self, create: Create) {
        self.create = create;
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Hands over the lock: who has it says how long the folder is ours.
    pub(crate) fn take_lock(&mut self) -> Option<File> {
        self.lock.take()
    }

    /// Up to where there are whole lines.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// The file that is written at the moment.
    pub(crate) fn sink(&self) -> Option<Arc<dyn Sink>> {
        self.current.as_ref().map(|current| current.sink.clone())
    }

    /// The number that the next segment will have.
    pub(crate) fn next(&self) -> u64 {
        self.number + 1
    }

    /// The greatest number of a segment that is finished, and all below it are as well.
    pub(crate) fn finished(&self) -> u64 {
        let current = self.current.as_ref().map(|c| c.number);
        let unfinished = self.untrimmed.iter().map(|(file, _)| file.number).chain(current).min();
        unfinished.map_or(self.number, |number| number.saturating_sub(1))
    }

    /// Whether `bytes` more can be written to the current segment as it is.
    pub(crate) fn is_ready(&self, bytes: usize, now: SystemTime) -> bool {
        self.current.as_ref().is_some_and(|c| !c.torn) && !self.is_due(bytes, now)
    }

    /// Whether a new segment has to begin for `bytes` more.
    pub(crate) fn is_due(&self, bytes: usize, now: SystemTime) -> bool {
        self.current.as_ref().is_none_or(|c| {
            let full = c.size > 0 && c.size + bytes as u64 > self.keep.max_size;
            !c.torn && (full || self.is_old(c, now))
        })
    }

    /// Whether the current segment should end although nothing is to be written: it is old, or somebody took its file away.
    pub(crate) fn is_over(&self, now: SystemTime) -> bool {
        self.current.as_ref().is_some_and(|c| !c.torn && self.is_old(c, now) || c.is_gone())
    }

    /// Writes whole lines to the current segment, all of them or none.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Err(io::ErrorKind::NotFound.into()) };
        current.append(lines)?;
        self.end = Position { segment: current.number, offset: current.size };
        Ok(())
    }

    /// Makes the next segment. What is in the one before is on the disk.
    pub(crate) fn begin(&mut self, now: SystemTime) -> io::Result<()> {
        self.current = None;
        let new = self.make(now)?;
        self.end = Position { segment: new.number, offset: 0 };
        self.current = Some(new);
        Ok(())
    }

    /// Makes the next segment with `lines` in it, on the disk, in place of the current one, in which nothing is believed that
    /// stands behind `synced`.
    pub(crate) fn replace(&mut self, lines: &[u8], synced: u64, now: SystemTime) -> io::Result<()> {
        let mut new = self.make(now)?;
        if let Err(e) = new.append(lines).and_then(|()| new.sink.sync()) {
            let _ = fs::remove_file(&new.path);
            return Err(e);
        }
        self.end = Position { segment: new.number, offset: new.size };
        if let Some(old) = self.current.replace(new) {
            self.untrimmed.push((old, synced));
        }
        self.trim();
        Ok(())
    }

    /// Takes away from files that were given up what is elsewhere by now.
    pub(crate) fn trim(&mut self) {
        self.untrimmed.retain(|(file, size)| {
            let cut = || match size {
                _ if file.is_gone() => Ok(()),
                0 => fs::remove_file(&file.path).and_then(|()| sync_folder(&self.dir)),
                size => {
                    // Another descriptor may do what this one cannot, and knows nothing of the sync that failed.
                    let again = OpenOptions::new().write(true).open(&file.path)?;
                    file.sink.truncate(*size).or_else(|_| again.set_len(*size))?;
                    again.sync_all()
                }
            };
            let result = cut();
            if let Err(e) = &result {
                tracing::error!(
                    segment.path = %file.path.display(), error = %e,
                    "cannot cut off what is written elsewhere as well: these audit lines are there twice"
                );
            }
            result.is_err()
        });
    }

    /// Whether the current file was taken away: then nothing that is torn in it is in the journal.
    pub(crate) fn is_gone(&self) -> bool {
        self.current.as_ref().is_some_and(Current::is_gone)
    }

    /// The current segment is over; all of it is on the disk.
    pub(crate) fn finish(&mut self) {
        self.current = None;
    }

    fn is_old(&self, current: &Current, now: SystemTime) -> bool {
        let age = now.duration_since(current.began).unwrap_or_default();
        self.keep.rotate_every.is_some_and(|limit| age >= limit)
    }

    fn make(&mut self, now: SystemTime) -> io::Result<Current> {
        let text = MicroTime::at(now).to_string();
        // 2026-01-02T03:04:05.678901Z as 20260102T030405.678Z.
        let compact: String = text[..23].chars().filter(|c| !matches!(c, '-' | ':')).chain(['Z']).collect();
        let latest = compact.max(self.latest.clone());
        let number = self.number + 1;
        let path = self.dir.join(format!("audit-{latest}-{number:08}.jsonl"));
        let sink = (self.create)(&path)?;
        if let Err(e) = sync_folder(&self.dir) {
            let _ = fs::remove_file(&path);
            return Err(e);
        }
        let inode = fs::metadata(&path).ok().map(|m| m.ino());
        self.number = number;
        self.latest = latest;
        Ok(Current { sink, path, inode, number, size: 0, torn: false, began: now })
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

impl Current {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.sink.truncate(self.size)?;
            self.torn = false;
        }
        let mut done = 0;
        while let Some(rest) = lines.get(done..).filter(|rest| !rest.is_empty()) {
            let failure = match self.sink.write(rest) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(n) => {
                    done += n;
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => e,
            };
            // A disk may have written although it said no.
            self.torn = self.sink.truncate(self.size).is_err();
            return Err(failure);
        }
        self.size += lines.len() as u64;
        Ok(())
    }

    fn is_gone(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(meta) => self.inode.is_some_and(|inode| inode != meta.ino()),
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// The names of all segments that are not compressed, oldest first.
#[cfg(test)]
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let name = |s: Segment| s.path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(folder::segments(dir)?.into_iter().filter_map(name).collect())
}

/// When a segment of this stem began, in the name's own form, which sorts as time does.
fn start_of(stem: &str) -> Option<&str> {
    Some(stem.strip_prefix("audit-")?.rsplit_once('-')?.0)
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
            write_whole(dir, "hmac.key", &key).map_err(fault("cannot be written"))?;
        }
        Err(e) => return Err(fault("cannot be read")(e)),
    }
    Ok(key)
}

/// Writes the file `name` in `dir`, renamed into place, so that a crash leaves the whole new one or the old one. The rename is
/// on the disk once the folder is synced.
pub(super) fn write_whole(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = private().create(true).truncate(true).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(name))
}

/// Makes what was renamed, made or removed in `dir` last.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Removes what was not finished, and the plain form of what is there compressed as well.
fn clean(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let unfinished = name
            .strip_suffix(".new")
            .is_some_and(|name| Segment::of(dir, name).is_some_and(|s| s.compressed) || name == "open");
        let twice = Segment::of(dir, name).is_some_and(|segment| {
            !segment.compressed && fs::exists(dir.join(format!("{name}.gz"))).unwrap_or(false)
        });
        if twice {
            // The compressed form stays for sure.
            sync_folder(dir)?;
        }
        if unfinished || twice {
            fs::remove_file(dir.join(name))?;
        }
    }
    Ok(())
}

/// Ends a torn last line.
fn mend(path: &Path) -> io::Result<Option<Torn>> {
    let mut file = OpenOptions::new().read(true).append(true).open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    let mut block = vec![0; if size == 0 { 0 } else { 64 << 10 }];
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
    file.sync_all()?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Some(Torn { file: name, bytes: torn }))
}

#[cfg(test)]
mod tests;
