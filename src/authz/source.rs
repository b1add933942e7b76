//! Where the rules come from: manifests in files and folders, on top of the roles that every cluster starts with.

use super::{Mode, OnLoss, Tell};
use crate::rbac::{self, Counts, Objects, Problem, Rules};
use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Files, and folders of which every `*.yaml`, `*.yml` and `*.json` is read in the order of their names. Folders inside
    /// folders are not entered, names that begin with a dot are passed over.
    pub paths: Vec<PathBuf>,
    /// Whether the roles and bindings that every cluster starts with are there, too. An object of the same kind and name in
    /// `paths` takes the place of theirs.
    pub bootstrap: bool,
    /// Whether the cluster's own rules count as well.
    pub cluster: Option<Cluster>,
    /// A candidate that is asked beside the rules that count.
    pub shadow: Option<Shadow>,
    /// Whether refusals are carried out.
    pub mode: Mode,
    /// What callers are told of the rules when they are refused.
    pub tell: Tell,
}

/// The cluster's own rules, watched with the gate's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// How long they count after the last sign that they are up to date.
    pub max_age: Duration,
    /// What becomes of them then.
    pub on_loss: OnLoss,
}

/// Rules that are rehearsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// As [`Config::paths`].
    pub paths: Vec<PathBuf>,
    /// As [`Config::bootstrap`].
    pub bootstrap: bool,
}

impl Default for Config {
    /// The bootstrap rules alone.
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            bootstrap: true,
            cluster: None,
            shadow: None,
            mode: Mode::default(),
            tell: Tell::default(),
        }
    }
}

/// A file or folder that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The system's own reason.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Larger than any manifest may be.
    #[error("{}: larger than the allowed {LARGEST} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// Neither folder nor file: a pipe or a device would block.
    #[error("{}: is neither a file nor a folder", path.display())]
    Special {
        /// Which.
        path: PathBuf,
    },
}

/// Bytes of one file.
const LARGEST: u64 = crate::codec::yaml::Limits::DUMP.bytes as u64;

/// The texts of all manifests at one time. Two that are equal make equal rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Manifests {
    /// Name and text, in order.
    files: Vec<(String, String)>,
    /// Folders in which nothing was found to read.
    empty: Vec<String>,
    bootstrap: bool,
}

/// Rules, and what deserves a second look in them.
#[derive(Debug)]
pub struct Loaded {
    /// What is decided by.
    pub rules: Rules,
    /// How much of it came from files rather than from the bootstrap rules.
    pub own: Counts,
    /// Bindings without a role, folders without a manifest.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads all files; to see whether anything changed, read again and compare.
    ///
    /// # Errors
    /// Everything that cannot be read, not only the first.
    pub fn read(&self) -> Result<Manifests, Vec<Unreadable>> {
        Manifests::from(&self.paths, self.bootstrap)
    }
}

impl Shadow {
    /// Reads all files.
    ///
    /// # Errors
    /// Everything that cannot be read, not only the first.
    pub fn read(&self) -> Result<Manifests, Vec<Unreadable>> {
        Manifests::from(&self.paths, self.bootstrap)
    }
}

impl Manifests {
    fn from(paths: &[PathBuf], bootstrap: bool) -> Result<Self, Vec<Unreadable>> {
        let mut manifests = Self { files: Vec::new(), empty: Vec::new(), bootstrap };
        let mut errors = Vec::new();
        for path in paths {
            if let Err(e) = manifests.read(path) {
                errors.push(e);
            }
        }
        if errors.is_empty() { Ok(manifests) } else { Err(errors) }
    }

    fn read(&mut self, path: &Path) -> Result<(), Unreadable> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| Unreadable::Io { path, error }
        };
        let found = fs::metadata(path).map_err(failed(path))?;
        if !found.is_dir() {
            return self.read_file(path, path.display().to_string());
        }
        // A mounted ConfigMap is a link to a folder that is exchanged as a whole: what is read from behind the link belongs
        // together.
        let folder = fs::canonicalize(path.join("..data")).unwrap_or_else(|_| path.to_owned());
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed(path))? {
            let name = PathBuf::from(entry.map_err(failed(path))?.file_name());
            let hidden = name.to_string_lossy().starts_with('.');
            let manifest = name.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
            if manifest && !hidden && !folder.join(&name).is_dir() {
                names.push(name);
            }
        }
        if names.is_empty() {
            self.empty.push(path.display().to_string());
        }
        names.sort();
        names
            .iter()
            .try_for_each(|name| self.read_file(&folder.join(name), path.join(name).display().to_string()))
    }

    fn read_file(&mut self, path: &Path, name: String) -> Result<(), Unreadable> {
        let failed = |error| Unreadable::Io { path: path.to_owned(), error };
        // Asked before it is opened, for opening a pipe waits for its other end.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(Unreadable::Special { path: path.to_owned() });
        }
        let mut text = String::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(LARGEST + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > LARGEST {
            return Err(Unreadable::TooLarge { path: path.to_owned() });
        }
        self.files.push((name, text));
        Ok(())
    }

    /// Parses and indexes.
    ///
    /// # Errors
    /// Every problem in every file, each with its place.
    pub fn rules(&self) -> Result<Loaded, Vec<Problem>> {
        let (mut objects, mut problems) = (Objects::default(), Vec::new());
        for (name, text) in &self.files {
            rbac::read(name, text, &mut objects, &mut problems);
        }
        problems.extend(rbac::duplicates(&objects));
        if !problems.is_empty() {
            return Err(problems);
        }
        let own = Counts {
            roles: objects.roles.len(),
            rules: objects.roles.iter().map(|r| r.rules.len()).sum(),
            bindings: objects.bindings.len(),
        };
        if self.bootstrap {
            objects = objects.over(bootstrap());
        }
        let empty =
            self.empty.iter().map(|folder| format!("{folder}: holds no *.yaml, *.yml or *.json file"));
        let dangling = rbac::dangling(&objects).into_iter().map(|p| p.to_string());
        let warnings = empty.chain(dangling).collect();
        Ok(Loaded { rules: Rules::new(objects), own, warnings })
    }
}

/// The roles and bindings that every cluster starts with, as shipped in `policies/rbac`.
pub fn bootstrap() -> Objects {
    let (mut objects, mut problems) = (Objects::default(), Vec::new());
    for (name, text) in BOOTSTRAP {
        rbac::read(name, text, &mut objects, &mut problems);
    }
    // A test reads them; should one ever be wrong nevertheless, less is granted, never more.
    debug_assert!(problems.is_empty(), "{problems:?}");
    objects
}

/// The shipped manifests: name and text.
pub const BOOTSTRAP: [(&str, &str); 2] = [
    ("policies/rbac/system.yaml", include_str!("../../policies/rbac/system.yaml")),
    ("policies/rbac/user.yaml", include_str!("../../policies/rbac/user.yaml")),
];
