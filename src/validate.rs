//! Is it well formed: requests held against the cluster's own API before they are forwarded.
//!
//! Two looks at a request, both after it was authorized: [`Validate::head`] at what its head alone tells (path, verb, names, query,
//! media types), and [`Validate::body`] at its object, if somebody must see it. Each check is a [`Part`] with a [`Mode`] of its own; what a
//! check finds is refused with kube-apiserver's own Status, or told as a `Warning:`, or not looked for.
//!
//! What kube-apiserver accepts is never refused in the default configuration. So what depends on the cluster ([`catalog`]) counts only
//! while it is known to be fresh, and what webhooks of the cluster may complete (the value level) is only warned of.

pub mod catalog;
mod handler;
mod holes;
mod media;
mod metrics;
mod names;
mod object;
pub mod patch;
mod query;
mod routes;
pub mod schema;
#[cfg(test)]
mod tests;
mod value;

pub use metrics::Metrics;
pub use object::hold;

use crate::{
    authz::Permit,
    codec::document::Document,
    request::{Asked, RequestInfo, Verb},
    status::Status,
};
use catalog::{Catalog, Lookup};
use http::{HeaderMap, header::CONTENT_TYPE};
use std::sync::Arc;

/// What is done about what is found. Ordered: the stricter, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Nothing is looked for.
    Off,
    /// The caller and the record are told.
    Warn,
    /// The request is refused.
    Enforce,
}

/// A part of validation, as the configuration, the record and the metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Group, version, resource, subresource, verb: 404, 405.
    Routes,
    /// Names and namespaces in the path.
    Names,
    /// Options in the query: type, value, combination.
    Query,
    /// Parameters that no option has; `Warn` and `Enforce` only when asked for.
    UnknownParameters,
    /// `Content-Type` and `Accept`: 415, 406.
    MediaTypes,
    /// Objects as kube-apiserver decodes them.
    Objects,
    /// Patches: shape and size.
    Patches,
    /// What kube-apiserver itself lets through though it should not.
    Holes,
    /// Values of an object's fields, which webhooks of the cluster may still complete.
    Values,
}

/// What is validated, and what comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The most that any part does.
    pub mode: Mode,
    /// By the order of [`Part::ALL`].
    pub parts: [Mode; Part::ALL.len()],
    /// API groups whose values are enforced whatever the part says; empty text is the core group.
    pub enforce_values_of: Vec<String>,
}

/// Validation. One for the process.
#[derive(Debug)]
pub struct Validate {
    config: Arc<Config>,
    catalog: Arc<Catalog>,
    metrics: Metrics,
}

/// What the head of a request has led to, on the way to its body.
#[derive(Debug)]
pub struct Plan {
    findings: Findings,
    route: Lookup,
    wants_object: bool,
    wants_options: bool,
    envelope_only: bool,
}

/// What checks have found that did not refuse the request.
#[derive(Debug)]
pub struct Findings {
    config: Arc<Config>,
    list: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which part found it.
    pub part: Part,
    /// The rule, as the record and the metrics name it: `unknown-field`.
    pub rule: &'static str,
    /// What the caller is told.
    pub text: String,
}

/// A request that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}/{}: {}", .part.as_str(), .rule, .status.message)]
pub struct Invalid {
    /// Which part refuses it.
    pub part: Part,
    /// By which rule.
    pub rule: &'static str,
    /// The answer.
    pub status: Status,
}

// === impl Part ===

impl Part {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Routes,
        Self::Names,
        Self::Query,
        Self::UnknownParameters,
        Self::MediaTypes,
        Self::Objects,
        Self::Patches,
        Self::Holes,
        Self::Values,
    ];

    /// The key under `validation`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Routes => "routes",
            Self::Names => "names",
            Self::Query => "query",
            Self::UnknownParameters => "unknownParameters",
            Self::MediaTypes => "mediaTypes",
            Self::Objects => "objects",
            Self::Patches => "patches",
            Self::Holes => "holes",
            Self::Values => "values",
        }
    }

    /// What it does unless the configuration says otherwise.
    pub const fn default_mode(self) -> Mode {
        match self {
            Self::UnknownParameters => Mode::Off,
            Self::Values => Mode::Warn,
            _ => Mode::Enforce,
        }
    }
}

// === impl Finding, Invalid ===

impl Finding {
    /// `objects/unknown-field`
    pub fn name(&self) -> String {
        format!("{}/{}", self.part.as_str(), self.rule)
    }
}

impl Invalid {
    /// `objects/unknown-field`
    pub fn name(&self) -> String {
        format!("{}/{}", self.part.as_str(), self.rule)
    }
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self { mode: Mode::Enforce, parts: Part::ALL.map(Part::default_mode), enforce_values_of: Vec::new() }
    }
}

impl Config {
    /// What a part does.
    pub fn part(&self, part: Part) -> Mode {
        self.parts.get(part as usize).copied().unwrap_or(Mode::Off).min(self.mode)
    }

    /// What is done about values of objects of an API group.
    pub fn values_of(&self, group: &str) -> Mode {
        if self.enforce_values_of.iter().any(|enforced| enforced == group) {
            Mode::Enforce.min(self.mode)
        } else {
            self.part(Part::Values)
        }
    }
}

// === impl Validate ===

impl Validate {
    /// Validation by what `catalog` knows.
    pub fn new(config: Config, catalog: Arc<Catalog>, metrics: Metrics) -> Self {
        Self { config: Arc::new(config), catalog, metrics }
    }

    /// What is known of the cluster's API.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Looks at what the head of a request tells.
    ///
    /// # Errors
    /// What is wrong is enforced.
    pub async fn head(&self, permit: &Permit, headers: &HeaderMap) -> Result<Plan, Box<Invalid>> {
        let findings = Findings::new(self.config.clone());
        let mut plan = Plan {
            findings,
            route: Lookup::Unsure,
            wants_object: false,
            wants_options: false,
            envelope_only: false,
        };
        let asked = permit.asked();
        if self.config.mode == Mode::Off {
            return Ok(plan);
        }
        plan.route = self.catalog.find(&asked.info);
        if is_own(&asked.info) && matches!(plan.route, Lookup::Missing(_)) {
            plan.route = Lookup::Unsure;
        }
        if let Lookup::Missing(_) = plan.route {
            let certain = plan.findings.mode(Part::Routes) != Mode::Off;
            plan.route = self.catalog.find_again(asked, certain).await;
        }
        if let Lookup::Known(route) = &mut plan.route
            && depends_on_origin(headers)
        {
            route.origin = self.catalog.origin_of(route).await;
        }
        let checked = plan.check_head(permit.asked(), headers);
        self.counted(checked)?;
        Ok(plan)
    }

    /// Looks at the body of a request; `document` is None where it was not read whole or is empty.
    ///
    /// # Errors
    /// What is wrong is enforced.
    pub async fn body(
        &self,
        plan: &mut Plan,
        permit: &Permit,
        headers: &HeaderMap,
        document: Option<&Document<'_>>,
    ) -> Result<(), Box<Invalid>> {
        if plan.wants_options {
            let checked = holes::options(&mut plan.findings, permit.asked(), headers, &plan.route, document);
            self.counted(checked)?;
        }
        if plan.wants_object {
            let checked = object::body(plan, &self.catalog, permit, headers, document).await;
            self.counted(checked)?;
        }
        if plan.envelope_only {
            self.metrics.envelope_only();
        }
        for finding in &plan.findings.list {
            self.metrics.warned(finding);
        }
        Ok(())
    }

    fn counted(&self, checked: Result<(), Box<Invalid>>) -> Result<(), Box<Invalid>> {
        checked.inspect_err(|invalid| self.metrics.refused(invalid))
    }
}

/// Reviews of oneself: the gate answers them, in versions that the cluster may not serve any more, or not yet.
fn is_own(info: &RequestInfo) -> bool {
    matches!(info.group(), "authentication.k8s.io" | "authorization.k8s.io")
        && info.resource().starts_with("selfsubject")
}

/// Whether a body is in a form that not everybody takes: then it is worth finding out who serves the kind.
fn depends_on_origin(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    [&b"application/vnd.kubernetes.protobuf"[..], b"application/strategic-merge-patch"]
        .iter()
        .any(|form| media.get(..form.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(form)))
}

// === impl Plan ===

impl Plan {
    /// Whether somebody must see the body whole.
    pub fn wants_body(&self) -> bool {
        self.wants_object || self.wants_options
    }

    /// Whether an object was looked at, but not its fields: what they are is not known, or how they are written.
    pub fn is_envelope_only(&self) -> bool {
        self.envelope_only
    }

    /// What was found and is only told.
    pub fn into_findings(self) -> Vec<Finding> {
        self.findings.list
    }

    fn check_head(&mut self, asked: &Asked, headers: &HeaderMap) -> Result<(), Box<Invalid>> {
        let (route, found) = (&self.route, &mut self.findings);
        holes::head(found, asked, headers, route)?;
        routes::check(found, asked, route)?;
        media::patches(found, asked, headers, route)?;
        names::check(found, asked, route)?;
        media::accepted(found, asked, headers, route)?;
        // An update's options come before what its body is written in, a create's after.
        if asked.info.verb() == Verb::Update {
            query::check(found, asked, headers, route)?;
            media::objects(found, asked, headers, route)?;
        } else {
            media::objects(found, asked, headers, route)?;
            query::check(found, asked, headers, route)?;
        }
        media::streams(found, asked, headers, route)?;
        self.wants_options = holes::wants_options(found, asked, headers, route);
        self.wants_object = object::wants_body(found, asked, headers, route);
        Ok(())
    }
}

// === impl Findings ===

impl Findings {
    /// Nothing is found yet.
    pub fn new(config: Arc<Config>) -> Self {
        Self { config, list: Vec::new() }
    }

    /// What a part does.
    pub fn mode(&self, part: Part) -> Mode {
        self.config.part(part)
    }

    /// What is done about values of objects of an API group.
    pub fn values_of(&self, group: &str) -> Mode {
        self.config.values_of(group)
    }

    /// Something for which kube-apiserver's answer would be `status`: it is refused, told, or passed over, as `mode` says.
    ///
    /// # Errors
    /// `mode` says so.
    pub fn fault(
        &mut self,
        mode: Mode,
        part: Part,
        rule: &'static str,
        status: impl FnOnce() -> Status,
    ) -> Result<(), Box<Invalid>> {
        match mode {
            Mode::Off => Ok(()),
            Mode::Warn => {
                self.list.push(Finding { part, rule, text: status().message });
                Ok(())
            }
            Mode::Enforce => Err(Box::new(Invalid { part, rule, status: status() })),
        }
    }

    /// Something that kube-apiserver itself only warns of.
    pub fn warning(&mut self, part: Part, rule: &'static str, text: String) {
        if self.mode(part) != Mode::Off {
            self.list.push(Finding { part, rule, text });
        }
    }
}
