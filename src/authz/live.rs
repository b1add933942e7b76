//! The cluster's own rules, as far as they are known.

use crate::rbac::Rules;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// Where rules are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Manifests, and the bootstrap rules.
    Files,
    /// The cluster's own objects, watched.
    Cluster,
}

/// `from files`, `from the cluster`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "from files",
            Self::Cluster => "from the cluster",
        })
    }
}

/// What is known of the cluster's rules.
#[derive(Debug, Clone, Default)]
pub enum Live {
    /// Nobody asked for them.
    #[default]
    Off,
    /// Not known yet, or no longer: they allow nothing, and what they might have allowed is answered with 503. Why, for the log.
    Unknown(Arc<str>),
    /// These.
    Known(Arc<Rules>),
}

/// What becomes of rules that can no longer be kept up to date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OnLoss {
    /// They allow nothing any more.
    #[default]
    Refuse,
    /// They go on to count.
    Keep,
}

impl Live {
    /// The rules, if they are known.
    pub fn known(&self) -> Option<&Arc<Rules>> {
        match self {
            Self::Known(rules) => Some(rules),
            Self::Off | Self::Unknown(_) => None,
        }
    }

    /// Why they are not, if they should be.
    pub fn unknown(&self) -> Option<&Arc<str>> {
        match self {
            Self::Unknown(why) => Some(why),
            Self::Off | Self::Known(_) => None,
        }
    }
}

/// The same rules, not equal ones.
impl PartialEq for Live {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Off, Self::Off) => true,
            (Self::Unknown(one), Self::Unknown(other)) => one == other,
            (Self::Known(one), Self::Known(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Live {}
