//! The configuration: raw, then checked.

/// Everything that a gate needs to know; each domain's own part.
#[derive(Debug, Clone)]
pub struct Config {
    pub server: crate::server::Config,
    pub gateway: crate::gateway::Config,
    pub forward: crate::forward::Config,
    pub limits: crate::limits::Config,
    pub audit: crate::audit::Config,
}

/// Every problem of a configuration at once.
#[derive(Debug, thiserror::Error)]
#[error("configuration")]
pub struct Errors {}
