//! Compression of finished segments, in the background.
//!
//! In this order: the compressed form is written as `….jsonl.gz.new`; `fsync(2)` of it; `rename(2)` to `….jsonl.gz`; `fsync(2)` of
//! the folder; `unlink(2)` of the plain one.
//!
//! | a crash | leaves |
//! |---|---|
//! | before the rename | the plain one, and an unfinished `.new`, which the next start removes |
//! | before the unlink | both, of which readers take the compressed one; the next start removes the plain one |
//!
//! Whatever fails, the plain one stays and it is tried again when the next segment is finished.

use super::segment::{private, sync_folder};
use crate::audit::folder::{self, Segment};
use flate2::{Compression, write::GzEncoder};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::mpsc,
};

/// Of lines that are much alike: as small as with the usual 6, in two thirds of the time; 1 takes half the time and makes half as much
/// again of it.
const LEVEL: Compression = Compression::new(3);

/// The end that tells what is finished. The thread ends with it.
#[derive(Debug)]
pub(super) struct Sealer(mpsc::Sender<u64>);

impl Sealer {
    /// The segments up to this number are finished.
    pub(super) fn finished(&self, number: u64) {
        // It is gone only if it fell; then segments stay as they are.
        let _ = self.0.send(number);
    }
}

/// Begins with the segments up to `finished`.
pub(super) fn start(dir: &Path, finished: u64) -> io::Result<Sealer> {
    let (sender, receiver) = mpsc::channel();
    let sealer = Sealer(sender);
    sealer.finished(finished);
    let dir = dir.to_owned();
    std::thread::Builder::new().name("audit-seal".into()).spawn(move || run(&dir, &receiver))?;
    Ok(sealer)
}

fn run(dir: &Path, finished: &mpsc::Receiver<u64>) {
    while let Ok(mut number) = finished.recv() {
        while let Ok(next) = finished.try_recv() {
            number = next;
        }
        let segments = match folder::segments(dir) {
            Ok(segments) => segments,
            Err(e) => {
                tracing::warn!(error = %e, "cannot list the audit segments");
                continue;
            }
        };
        for segment in segments.iter().filter(|s| !s.compressed && s.number <= number) {
            if let Err(e) = seal(dir, segment) {
                tracing::warn!(segment.path = %segment.path.display(), error = %e, "cannot compress audit segment");
                break;
            }
        }
    }
}

/// Puts the compressed form in the place of a finished segment.
pub(super) fn seal(dir: &Path, segment: &Segment) -> io::Result<()> {
    let done = dir.join(format!("{}.jsonl.gz", segment.stem));
    let new = PathBuf::from(format!("{}.new", done.display()));
    let mut plain = match File::open(&segment.path) {
        // Removed since, because it was old.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let written = (|| {
        let file = private().create(true).truncate(true).open(&new)?;
        let mut gz = GzEncoder::new(file, LEVEL);
        io::copy(&mut plain, &mut gz)?;
        let file = gz.finish()?;
        // How old it is counts from its last line.
        file.set_modified(plain.metadata()?.modified()?)?;
        file.sync_all()?;
        fs::rename(&new, &done)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    sync_folder(dir)?;
    match fs::remove_file(&segment.path) {
        // Removed in the meantime, because it was old.
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::remove_file(&done),
        removed => removed,
    }
}
