//! What stands where in the folder of a journal; for the journal itself and for everybody who reads one.
//!
//! | path | what |
//! |---|---|
//! | `audit-<UTC start>-<number>.jsonl` | a segment: one event a line; the one of the greatest number is being written |
//! | `audit-<UTC start>-<number>.jsonl.gz` | a finished segment, compressed |
//! | `log/` | the tree over all lines, as C2SP tlog-tiles |
//! | `sinks/<name>` | how far a sink has come |
//! | `audit.pub` | the public key that the tree's head is signed with |
//! | `signing.key` | the private one, if it has no place of its own |
//! | `hmac.key` | the key of marks and digests |
//! | `lock` | locked by the process that writes |

use flate2::read::MultiGzDecoder;
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

/// Of the tree.
pub const LOG: &str = "log";
/// Of the sinks' cursors.
pub const SINKS: &str = "sinks";
/// The public key.
pub const PUBLIC_KEY: &str = "audit.pub";

/// One file of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where it is.
    pub path: PathBuf,
    /// Its name without `.jsonl` and what follows; these sort as they were begun.
    pub stem: String,
    /// Its number; they grow, but not always by one.
    pub number: u64,
    /// Whether it is compressed.
    pub compressed: bool,
}

impl Segment {
    /// What a file of this name is, if it is a segment.
    pub fn of(dir: &Path, name: &str) -> Option<Self> {
        let (rest, compressed) = match name.strip_suffix(".gz") {
            Some(rest) => (rest, true),
            None => (name, false),
        };
        let stem = rest.strip_suffix(".jsonl")?;
        let (_, number) = stem.strip_prefix("audit-")?.rsplit_once('-')?;
        let number = number.parse().ok()?;
        Some(Self { path: dir.join(name), stem: stem.to_owned(), number, compressed })
    }

    /// Its lines, from the first on.
    pub fn open(&self) -> io::Result<Box<dyn BufRead + Send>> {
        let (file, compressed) = match File::open(&self.path) {
            // It may have been compressed since it was found.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !self.compressed => {
                let mut path = self.path.clone().into_os_string();
                path.push(".gz");
                (File::open(path)?, true)
            }
            opened => (opened?, self.compressed),
        };
        Ok(match compressed {
            true => Box::new(BufReader::with_capacity(256 << 10, MultiGzDecoder::new(file))),
            false => Box::new(BufReader::with_capacity(256 << 10, file)),
        })
    }
}

/// All segments of a folder, oldest first. Of one that is there twice, because a crash came between its compression and its
/// removal, the compressed form, which is whole by then.
pub fn segments(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        found.extend(entry?.file_name().to_str().and_then(|name| Segment::of(dir, name)));
    }
    found.sort_unstable_by(|a: &Segment, b| {
        (a.number, &a.stem, !a.compressed).cmp(&(b.number, &b.stem, !b.compressed))
    });
    found.dedup_by(|later, first| later.stem == first.stem);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::Folder;
    use flate2::{Compression, write::GzEncoder};
    use std::io::{Read as _, Write as _};

    #[test]
    fn segments_are_found_in_their_order_and_once() {
        let folder = Folder::new();
        let plain = |name: &str, text: &str| fs::write(folder.0.join(name), text).unwrap();
        plain("audit-20260102T030405.678Z-00000010.jsonl", "d\n");
        plain("audit-20260102T030405.678Z-00000009.jsonl", "c\n");
        plain("audit-20250102T030405.678Z-00000002.jsonl", "b, as far as it was not removed\n");
        for other in ["lock", "audit-x.jsonl", "audit-20250102T030405.678Z-1.jsonl.gz.new", "audit-1.json"] {
            plain(other, "no segment\n");
        }
        let file = File::create(folder.0.join("audit-20250102T030405.678Z-00000002.jsonl.gz")).unwrap();
        let mut gz = GzEncoder::new(file, Compression::fast());
        gz.write_all(b"b\n").unwrap();
        gz.finish().unwrap();
        let mut text = String::new();
        let segments = segments(&folder.0).unwrap();
        assert_eq!(segments.iter().map(|s| s.number).collect::<Vec<_>>(), [2, 9, 10]);
        for segment in segments {
            segment.open().unwrap().read_to_string(&mut text).unwrap();
        }
        assert_eq!(text, "b\nc\nd\n");
    }
}
