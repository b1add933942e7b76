//! Who is asked about the API: the upstream, or a test's stand-in.

use crate::cluster::{
    Cluster,
    discovery::{Listing, Root, Told, Version},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use std::{collections::HashMap, fmt::Debug, future::ready};

/// See the methods of the same names of [`Cluster`].
pub(super) trait Source: Debug + Send + Sync {
    fn discovery<'a>(
        &'a self,
        root: Root,
        known: Option<&'a HeaderValue>,
    ) -> BoxFuture<'a, Result<Told<Listing>, String>>;

    fn group_version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Option<Version>, String>>;

    fn openapi_hashes(&self) -> BoxFuture<'_, Result<HashMap<String, String>, String>>;

    fn openapi<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
        known: Option<&'a HeaderValue>,
    ) -> BoxFuture<'a, Result<Told<Bytes>, String>>;
}

impl Source for Cluster {
    fn discovery<'a>(
        &'a self,
        root: Root,
        known: Option<&'a HeaderValue>,
    ) -> BoxFuture<'a, Result<Told<Listing>, String>> {
        Box::pin(self.discovery(root, known))
    }

    fn group_version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Option<Version>, String>> {
        Box::pin(self.group_version(group, version))
    }

    fn openapi_hashes(&self) -> BoxFuture<'_, Result<HashMap<String, String>, String>> {
        Box::pin(self.openapi_hashes())
    }

    fn openapi<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
        known: Option<&'a HeaderValue>,
    ) -> BoxFuture<'a, Result<Told<Bytes>, String>> {
        Box::pin(self.openapi(group, version, known))
    }
}

/// A cluster that never answers.
#[derive(Debug)]
pub(super) struct Nobody;

const NOBODY: &str = "there is no cluster";

impl Source for Nobody {
    fn discovery<'a>(
        &'a self,
        _: Root,
        _: Option<&'a HeaderValue>,
    ) -> BoxFuture<'a, Result<Told<Listing>, String>> {
        Box::pin(ready(Err(NOBODY.to_owned())))
    }

    fn group_version<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<Version>, String>> {
        Box::pin(ready(Err(NOBODY.to_owned())))
    }

    fn openapi_hashes(&self) -> BoxFuture<'_, Result<HashMap<String, String>, String>> {
        Box::pin(ready(Err(NOBODY.to_owned())))
    }

    fn openapi<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: Option<&'a HeaderValue>,
    ) -> BoxFuture<'a, Result<Told<Bytes>, String>> {
        Box::pin(ready(Err(NOBODY.to_owned())))
    }
}
