//! The few things that are done to files, so that tests can have a disk that fails, and one that loses its power.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    thread,
    time::SystemTime,
};

/// Files below one folder, by their paths in it, with slashes; the folder itself is the empty path.
pub(super) trait Disk: Send {
    /// All of a file.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// What a folder holds.
    fn names(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Bytes of a file, and when it was last written.
    fn look(&self, path: &str) -> io::Result<(u64, SystemTime)>;
    /// Makes a folder, unless it is there.
    fn make_folder(&mut self, folder: &str) -> io::Result<()>;
    /// Makes files, or makes them anew, and syncs them; that they have these names is not synced.
    fn write(&mut self, files: &[(String, &[u8])]) -> io::Result<()>;
    /// Puts a file in another's place.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Makes a folder's names durable.
    fn sync_folder(&mut self, folder: &str) -> io::Result<()>;
    /// Removes a file, if it is there.
    fn remove(&mut self, path: &str) -> io::Result<()>;
    /// Removes a folder, if it is there and empty.
    fn remove_folder(&mut self, folder: &str) -> io::Result<()>;
}

/// The real one.
#[derive(Debug)]
pub(super) struct Files(pub(super) PathBuf);

/// Files that one thread writes and syncs one after the other. A sync is all waiting: more threads wait together.
const ALONE: usize = 8;
/// Threads that sync, at most.
const THREADS: usize = 8;

impl Files {
    fn write_one(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(self.0.join(path))?;
        file.write_all(bytes)?;
        file.sync_all()
    }
}

impl Disk for Files {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(path))
    }

    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.0.join(folder))? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn look(&self, path: &str) -> io::Result<(u64, SystemTime)> {
        let meta = fs::metadata(self.0.join(path))?;
        Ok((meta.len(), meta.modified()?))
    }

    fn make_folder(&mut self, folder: &str) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(self.0.join(folder)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }

    fn write(&mut self, files: &[(String, &[u8])]) -> io::Result<()> {
        let each = |files: &[(String, &[u8])]| {
            files.iter().try_for_each(|(path, bytes)| self.write_one(path, bytes))
        };
        if files.len() <= ALONE {
            return each(files);
        }
        thread::scope(|scope| {
            let parts = files.chunks(files.len().div_ceil(THREADS));
            let threads: Vec<_> = parts.map(|part| scope.spawn(move || each(part))).collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread that writes fell over")))
            })
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        File::open(self.0.join(folder))?.sync_all()
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        missing_is_fine(fs::remove_file(self.0.join(path)))
    }

    fn remove_folder(&mut self, folder: &str) -> io::Result<()> {
        match fs::remove_dir(self.0.join(folder)) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            done => missing_is_fine(done),
        }
    }
}

fn missing_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The bytes of a file that may be missing.
pub(super) fn read_if_there(disk: &dyn Disk, path: &str) -> io::Result<Option<Vec<u8>>> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Puts files in their places, whole or not at all each, and makes that durable but for the names in `folders`, which are
/// added: the caller syncs them.
pub(super) fn put(
    disk: &mut dyn Disk,
    files: &[(String, &[u8])],
    folders: &mut BTreeSet<String>,
) -> io::Result<()> {
    // Not beside a tile: who lists a folder of tiles finds nothing else, whatever a crash leaves.
    let place = |path: &str| match path.strip_prefix("log/") {
        Some(path) => format!("log/{}.new", path.replace('/', "-")),
        None => format!("{path}.new"),
    };
    let new: Vec<_> = files.iter().map(|(path, bytes)| (place(path), *bytes)).collect();
    disk.write(&new)?;
    for ((path, _), (new, _)) in files.iter().zip(&new) {
        disk.rename(new, path)?;
        folders.insert(parent(path).to_owned());
    }
    Ok(())
}

/// The folder that a path is in.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
