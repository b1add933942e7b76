//! A record in its folder, as a verifier reads it: segments, tiles and the checkpoint, which may be written to, compressed and
//! removed at the same time.

use super::read;
use crate::audit::{
    folder,
    tree::{
        Hash,
        checkpoint::{self, Checkpoint},
        note::{BadKey, LARGEST, Note, VerifierKey},
        tile::{BadTile, Entries, Holds, Tile, WIDTH},
    },
};
use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Where it is.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// The folder of the segments.
    pub(super) dir: PathBuf,
    log: PathBuf,
}

/// The public keys that count. Their names are the logs that they may sign for.
#[derive(Debug, Clone)]
pub(super) struct Keys(Vec<VerifierKey>);

/// Leaves, as they are stored.
#[derive(Debug)]
pub(super) struct Bundle {
    entries: Vec<u8>,
    hashes: Vec<u8>,
}

/// A file of the tree that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// It is not there, and nothing wider in its place.
    #[error("{0} is missing")]
    Missing(Tile),
    /// It is not what it should be.
    #[error(transparent)]
    Tile(#[from] BadTile),
    /// It cannot be read.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum NoKeys {
    /// Neither a key nor a file.
    #[error("--key: {text:?} is no key ({key}), and no file ({file})")]
    Neither {
        /// What was given.
        text: String,
        /// Why it is no key.
        key: BadKey,
        /// Why it is no file.
        file: io::Error,
    },
    /// A line of the file.
    #[error("--key: {}:{line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        source: BadKey,
    },
    /// Nothing in the file.
    #[error("--key: {} holds no key", .0.display())]
    Empty(PathBuf),
}

impl Keys {
    /// `text`: a public key as `name+id+key`, or the path of a file with one a line.
    pub(super) fn read(text: &str) -> Result<Self, NoKeys> {
        let key = match text.trim().parse() {
            Ok(key) => return Ok(Self(vec![key])),
            Err(key) => key,
        };
        let path = Path::new(text);
        let lines =
            fs::read_to_string(path).map_err(|file| NoKeys::Neither { text: text.to_owned(), key, file })?;
        let lines = lines.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
        let keys = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(line, text)| {
                text.parse().map_err(|source| NoKeys::Line { path: path.to_owned(), line, source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(NoKeys::Empty(path.to_owned()));
        }
        Ok(Self(keys))
    }

    /// The checkpoint in a note, when one of the keys signed it for the log that has its name.
    pub(super) fn open(&self, note: &[u8]) -> Result<Checkpoint, checkpoint::Error> {
        let origin = Checkpoint::parse(Note::parse(note)?.unverified())?.origin;
        if !self.know(&origin) {
            let expected = self.0.iter().map(VerifierKey::name).collect::<Vec<_>>().join(" or ");
            return Err(checkpoint::Error::Origin { found: origin, expected });
        }
        Checkpoint::open(note, &origin, &self.0)
    }

    /// Whether one of them has this name.
    pub(super) fn know(&self, origin: &str) -> bool {
        self.0.iter().any(|key| key.name() == origin)
    }

    /// All of them.
    pub(super) fn all(&self) -> &[VerifierKey] {
        &self.0
    }
}

impl Bundle {
    /// Each leaf with its stored hash.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Hash)> {
        let hashes = self.hashes.as_chunks().0;
        Entries(&self.entries).map_while(Result::ok).zip(hashes.iter().map(|hash| Hash(*hash)))
    }
}

impl Record {
    /// `path`: the folder of the segments, or one that holds it under the name `audit`.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let inner = path.join("audit");
        let dir = match path.join(folder::LOG).is_dir() || !inner.join(folder::LOG).is_dir() {
            true => read::folder(path)?,
            false => inner,
        };
        Ok(Self { log: dir.join(folder::LOG), dir })
    }

    /// The newest checkpoint, a signed note; and its path.
    pub(super) fn note(&self) -> (PathBuf, io::Result<Vec<u8>>) {
        let path = self.log.join("checkpoint");
        let read = || {
            let mut note = Vec::new();
            File::open(&path)?.take(LARGEST as u64 + 1).read_to_end(&mut note)?;
            Ok(note)
        };
        let note = read();
        (path, note)
    }

    /// The bytes of a tile, or more of the same place: partial tiles go when wider ones are there.
    pub(super) fn tile(&self, tile: Tile) -> Result<Vec<u8>, Unusable> {
        let path = self.log.join(tile.full().to_string());
        let partial = self.log.join(Tile { width: 1, ..tile }.to_string());
        let partials = partial.parent().unwrap_or(&self.log).to_owned();
        // A wider one may come and the narrow one go between two looks; full ones stay.
        for _ in 0..3 {
            let exact = self.log.join(tile.to_string());
            for path in [&path, &exact] {
                match fs::read(path) {
                    Ok(bytes) => return Ok(bytes),
                    Err(e) if is_absent(&e) => {}
                    Err(e) => return Err(Unusable::Io(path.clone(), e)),
                }
            }
            let wider = fs::read_dir(&partials).into_iter().flatten().flatten().filter_map(|entry| {
                let width: u16 = entry.file_name().to_str()?.parse().ok()?;
                (tile.width..WIDTH).contains(&width).then(|| (width, entry.path()))
            });
            match wider.max().map(|(_, path)| fs::read(path)) {
                Some(Ok(bytes)) => return Ok(bytes),
                Some(Err(_)) => {}
                None => break,
            }
        }
        // The full one may have come with the last look.
        fs::read(&path).map_err(|_| Unusable::Missing(tile))
    }

    /// A bundle of leaves and their stored hashes.
    pub(super) fn bundle(&self, index: u64, width: u16) -> Result<Bundle, Unusable> {
        let read = |tile: Tile| -> Result<_, Unusable> { Ok(tile.trim(&self.tile(tile)?)?.to_vec()) };
        let entries = Tile { holds: Holds::Entries, index, width };
        let hashes = Tile { holds: Holds::Hashes(0), ..entries };
        Ok(Bundle { entries: read(entries)?, hashes: read(hashes)? })
    }

    /// The first bundle of leaves that is there, of a tree of `size` leaves.
    pub(super) fn first_bundle(&self, size: u64) -> io::Result<Option<u64>> {
        least(&self.log.join("tile/entries"), 0, size / u64::from(WIDTH))
    }
}

/// The least number of a tile below `dir`, whose own name stands for `above`. Shorter numbers are smaller. A partial tile counts
/// from `last` on: before, it is left over from a smaller tree.
fn least(dir: &Path, above: u64, last: u64) -> io::Result<Option<u64>> {
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(dir) {
        Err(e) if is_absent(&e) => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let group = name.trim_start_matches('x');
        let group = group.strip_suffix(".p").unwrap_or(group);
        let Ok(number) = group.parse::<u64>() else { continue };
        let Some(number) = above.checked_mul(1000).and_then(|above| above.checked_add(number)) else {
            continue;
        };
        if name.ends_with(".p") && number < last {
            continue;
        }
        if name.starts_with('x') { dirs.push((number, name.to_owned())) } else { files.push(number) }
    }
    if let Some(least) = files.into_iter().min() {
        return Ok(Some(least));
    }
    dirs.sort_unstable();
    for (number, name) in dirs {
        if let Some(least) = least(&dir.join(name), number, last)? {
            return Ok(Some(least));
        }
    }
    Ok(None)
}

/// Whether there is no such file; a directory where a file was looked for is none.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}
