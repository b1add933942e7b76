//! Any file that a gate reads, looked at by itself: what kind it is, whether the gate would take it, and what it says.

use super::{Draft, Error, Errors, Kind, Reader, Report, SECTIONS, check, load};
use crate::{
    audit::policy::Policy,
    authn, authz,
    codec::yaml::{self, Limits},
    pem::File,
};
use serde_json::Value;
use std::{fmt, path::Path};

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The file and its kind, in words.
    pub title: String,
    /// What there is to know of it, a line each.
    pub lines: Vec<String>,
    /// What is odd but harmless.
    pub warnings: Vec<String>,
}

/// The kinds there are, for people.
const KINDS: &str = "Gateway or GatewayPart of gatelog.dev/v1alpha1, AuthenticationConfiguration of apiserver.config.k8s.io/v1, Policy of \
                     audit.k8s.io/v1, or Role, ClusterRole, RoleBinding and ClusterRoleBinding of rbac.authorization.k8s.io/v1";

/// Looks at the file by the kind of its first document; all that is wrong is reported. Only a Gateway's other files are looked at
/// as well: what another kind points to need not be there.
pub fn examine(path: &Path) -> Result<Document, Errors> {
    let file = path.display().to_string();
    let refused = |problems: Vec<String>| {
        let error = |problem: String| {
            let problem = problem.strip_prefix(&format!("{file}: ")).unwrap_or(&problem).to_owned();
            Error { file: file.clone(), key: String::new(), problem }
        };
        Errors(problems.into_iter().map(error).collect())
    };
    let read = File::read(path).and_then(|file| Ok(file.text()?.to_owned()));
    let text = read.map_err(|problem| refused(vec![problem]))?;
    let documents = yaml::documents_within(&text, Limits::DUMP).map_err(|e| refused(vec![e.to_string()]))?;
    let first = documents.first().map(|document| &document.value);
    let named =
        |key: &str| first.and_then(|first| first.get(key)).and_then(Value::as_str).unwrap_or_default();
    let (api, kind) = (named("apiVersion"), named("kind"));
    let document =
        |title: String, lines, warnings| Document { title: format!("{file}: {title}"), lines, warnings };
    match (api.rsplit_once('/').map_or("", |(group, _)| group), kind) {
        ("gatelog.dev", "GatewayPart") => {
            let sections = part(path, &text)?;
            let line = format!("holds {}; to start a gate takes a whole Gateway", sections.join(", "));
            Ok(document("some sections of a Gateway".to_owned(), vec![line], Vec::new()))
        }
        ("gatelog.dev", _) => {
            let Report { lines, warnings } = check(&load(path)?)?;
            Ok(document("a Gateway".to_owned(), lines.iter().map(ToString::to_string).collect(), warnings))
        }
        ("apiserver.config.k8s.io", _) => {
            let authn::Outline { lines, warnings } = authn::outline(&text).map_err(refused)?;
            Ok(document("an AuthenticationConfiguration".to_owned(), lines, warnings))
        }
        ("audit.k8s.io", _) => {
            let policy = Policy::parse(&text).map_err(|errors| refused(errors.0))?;
            let line = super::check::of(policy.rules(), "rule");
            Ok(document("an audit policy".to_owned(), vec![line], Vec::new()))
        }
        ("rbac.authorization.k8s.io", _) | ("", "List") => {
            let config = authz::Config { paths: vec![path.to_owned()], ..authz::Config::default() };
            let lines = |problems: Vec<_>| problems.iter().map(ToString::to_string).collect();
            let manifests =
                config.read().map_err(|errors| refused(errors.iter().map(ToString::to_string).collect()))?;
            let loaded = manifests.rules().map_err(|problems| refused(lines(problems)))?;
            let line = super::check::counts(loaded.own);
            Ok(document("RBAC manifests".to_owned(), vec![line], loaded.warnings))
        }
        ("", "") if api.is_empty() => {
            Err(refused(vec![format!("holds neither apiVersion nor kind, expected {KINDS}")]))
        }
        _ => Err(refused(vec![format!(
            "kind {kind:?} of apiVersion {api:?} is not one that the gate reads, expected {KINDS}"
        )])),
    }
}

/// The sections that a GatewayPart holds.
fn part(path: &Path, text: &str) -> Result<Vec<&'static str>, Errors> {
    let reader = Reader::new(path);
    let root = reader.document(text);
    let sections: Vec<_> = SECTIONS.into_iter().filter(|section| root.has(section)).collect();
    if sections.is_empty() {
        root.wrong("", format!("expected at least one of {}", SECTIONS.join(", ")));
    }
    // Only for what it finds wrong.
    let _ = Draft::read(root, Kind::GatewayPart);
    match reader.into_errors() {
        errors if errors.is_empty() => Ok(sections),
        errors => Err(Errors(errors)),
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}
