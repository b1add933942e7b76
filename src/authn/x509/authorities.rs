//! The CAs of one bundle, and the judgement of a connection's chain under them, which is kept with the connection.
//!
//! webpki builds the path and checks signatures, validity, basic constraints, name constraints and revocation. What it leaves
//! out and Go does not is checked here: a CA's own certificate (validity, path length, key usage, extended key usage, critical
//! extensions) and `keyCertSign` of intermediates.

use super::{
    bounds::{Bounds, ClientAuth, authority, both, may_sign, validity},
    credential_id, parsed,
    revocation::{List, Revocations},
    why::{describe, is_unknown},
};
use arc_swap::ArcSwapOption;
use rustls::pki_types::{
    CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::prelude::X509Certificate;

/// More certificates than any real chain has; bounds what a stranger can make the gate verify.
const MAX_PRESENTED: usize = 16;
/// In how many ways what is presented may be strung together by its names. Real chains have one, or a few where CAs sign each other;
/// of a stranger's webpki would try 200,000 before it looks at a signature.
const MAX_WAYS: usize = 32;
/// How long a refusal is kept with its connection. Seconds. (A certificate may become valid meanwhile.)
pub(super) const REFUSAL_KEPT: u64 = 10;

/// The CAs of one bundle in one snapshot.
#[derive(Debug)]
pub(in crate::authn) struct Authorities {
    /// Tells judgements under these CAs from those under others.
    generation: u64,
    /// One, unless CAs of the same name have revocation lists of their own.
    pub(super) groups: Vec<Group>,
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
}

/// CAs to which the same revocation lists apply.
#[derive(Debug, Default)]
pub(super) struct Group {
    anchors: Vec<TrustAnchor<'static>>,
    /// What a trust anchor leaves out of its certificate; parallel to `anchors`.
    pub(super) bounds: Vec<Bounds>,
    /// The newest first.
    lists: Vec<Arc<List>>,
    /// The keys of the other groups' CAs, to which other lists apply.
    elsewhere: Vec<SubjectPublicKeyInfoDer<'static>>,
}

/// The judgement of a connection's chain, kept with the connection. `T` is what was made of the leaf.
#[derive(Debug)]
pub(in crate::authn) struct Cache<T>(pub(super) ArcSwapOption<Judgement<T>>);

#[derive(Debug)]
pub(super) struct Judgement<T> {
    generation: u64,
    /// When this judgement holds, in seconds since the epoch.
    holds: RangeInclusive<u64>,
    pub(super) outcome: Result<T, String>,
}

/// A chain that leads to a CA.
struct Verified<'a> {
    leaf: X509Certificate<'a>,
    /// When every certificate on the way to the CA is valid. Seconds since the epoch.
    valid: RangeInclusive<u64>,
    /// The last second in which every revocation list that was consulted is the newest.
    fresh: u64,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}

impl Authorities {
    /// Takes the certificates of a bundle; the problems of each are said, not only the first.
    pub(in crate::authn) fn new(
        bundle: &[CertificateDer<'static>],
        revocations: Option<&Revocations>,
    ) -> Result<Self, Vec<String>> {
        static GENERATION: AtomicU64 = AtomicU64::new(0);
        let (mut authorities, mut errors) = (Vec::new(), Vec::new());
        for (i, certificate) in bundle.iter().enumerate() {
            match authority(certificate, i + 1) {
                Ok(authority) => authorities.push(authority),
                Err(problem) => errors.push(format!("certificate {}: {problem}", i + 1)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
        let keys: Vec<_> = authorities
            .iter()
            .map(|(anchor, bounds)| (anchor.subject.to_vec(), bounds.key.clone()))
            .collect();
        let mut groups: Vec<Group> = Vec::new();
        for ((anchor, bounds), (name, key)) in authorities.into_iter().zip(&keys) {
            let lists = revocations.map_or_else(Vec::new, |r| r.concerning(name, key, &keys, algorithms));
            let same = |group: &Group| {
                group.lists.len() == lists.len()
                    && group.lists.iter().zip(&lists).all(|(a, b)| Arc::ptr_eq(a, b))
            };
            let at = groups.iter().position(same).unwrap_or(groups.len());
            if at == groups.len() {
                groups.push(Group { lists, ..Group::default() });
            }
            if let Some(group) = groups.get_mut(at) {
                group.anchors.push(anchor);
                group.bounds.push(bounds);
            }
        }
        for group in &mut groups {
            let own =
                |key: &&SubjectPublicKeyInfoDer<'_>| group.bounds.iter().any(|bounds| bounds.key == **key);
            let others = keys.iter().map(|(_, key)| key).filter(|key| !own(key));
            group.elsewhere = others.cloned().collect();
        }
        Ok(Self { generation: GENERATION.fetch_add(1, Ordering::Relaxed), groups, algorithms })
    }

    /// How many CAs there are.
    pub(in crate::authn) fn len(&self) -> usize {
        self.groups.iter().map(|group| group.anchors.len()).sum()
    }

    /// What is odd at `now` but no reason to refuse the bundle.
    pub(in crate::authn) fn warnings(&self, now: SystemTime) -> Vec<String> {
        let now = seconds(now);
        let mut all: Vec<&Bounds> = self.groups.iter().flat_map(|group| &group.bounds).collect();
        all.sort_by_key(|bounds| bounds.place);
        let warn = |bounds: &Bounds| {
            let odd = if !bounds.may_sign {
                "its key usage rules out signing certificates, or it has a critical extension that is not understood"
            } else if !bounds.client_auth {
                "its extended key usage rules out client certificates"
            } else if now > *bounds.valid.end() {
                "has expired"
            } else {
                return None;
            };
            Some(format!("certificate {}: {odd}", bounds.place))
        };
        all.into_iter().filter_map(warn).collect()
    }

    /// Whether a CA of this name is among them: None if not, else whether one of them has signed `list`.
    pub(super) fn signed(
        &self,
        name: &[u8],
        by: impl Fn(&SubjectPublicKeyInfoDer<'_>) -> bool,
    ) -> Option<bool> {
        let all = self.groups.iter().flat_map(|group| group.anchors.iter().zip(&group.bounds));
        let keys = all.filter(|(anchor, _)| anchor.subject.as_ref() == name).map(|(_, bounds)| &bounds.key);
        keys.map(by).reduce(|one, other| one || other)
    }

    /// Whether one CA, by name and key, is in both bundles.
    pub(in crate::authn) fn overlap(&self, other: &Self) -> bool {
        let all = |authorities: &'_ Self| {
            authorities.groups.iter().flat_map(|group| &group.anchors).cloned().collect::<Vec<_>>()
        };
        let (ours, theirs) = (all(self), all(other));
        ours.iter().any(|a| {
            theirs
                .iter()
                .any(|b| a.subject == b.subject && a.subject_public_key_info == b.subject_public_key_info)
        })
    }

    pub(super) fn algorithms(&self) -> &'static [&'static dyn SignatureVerificationAlgorithm] {
        self.algorithms
    }

    /// What `read` makes of the leaf of `chain` and the time of its expiry, once it is shown to lead to one of the CAs. Ok(None):
    /// there is no chain. What comes out is kept in `cache` until it can change; the error names the certificate.
    pub(in crate::authn) fn judge<T: Clone>(
        &self,
        chain: &[CertificateDer<'static>],
        cache: &Cache<T>,
        now: SystemTime,
        read: impl FnOnce(&X509Certificate<'_>, Option<SystemTime>) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let Some((leaf, rest)) = chain.split_first() else { return Ok(None) };
        let now = seconds(now);
        if let Some(known) = &*cache.0.load()
            && known.generation == self.generation
            && known.holds.contains(&now)
        {
            return known.outcome.clone().map(Some);
        }
        let judged = self.verify(leaf, rest, now).and_then(|verified| {
            let (from, until) = verified.valid.into_inner();
            // Good to the end of its last second.
            let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(until.saturating_add(1)));
            Ok((read(&verified.leaf, expires)?, from..=until.min(verified.fresh)))
        });
        let (outcome, holds) = match judged {
            Ok((outcome, holds)) => (Ok(outcome), holds),
            Err(problem) => {
                let why = format!("client certificate {}: {problem}", credential_id(leaf));
                (Err(why), now..=now.saturating_add(REFUSAL_KEPT))
            }
        };
        cache.0.store(Some(Arc::new(Judgement {
            generation: self.generation,
            holds,
            outcome: outcome.clone(),
        })));
        outcome.map(Some)
    }

    fn verify<'a>(
        &self,
        leaf: &'a CertificateDer<'static>,
        rest: &[CertificateDer<'static>],
        now: u64,
    ) -> Result<Verified<'a>, String> {
        if rest.len() >= MAX_PRESENTED {
            return Err(format!("more than {MAX_PRESENTED} certificates were presented"));
        }
        let entity = EndEntityCert::try_from(leaf).map_err(|e| describe(&e))?;
        // What cannot be read is passed over, as webpki will.
        let links: Vec<_> = rest.iter().filter_map(|der| EndEntityCert::try_from(der).ok()).collect();
        let links: Vec<_> = links.iter().map(|link| (link.subject(), link.issuer())).collect();
        let mut ways = MAX_WAYS;
        if exhausts(entity.issuer(), &links, 0, &mut ways) {
            return Err("the certificates that were presented could be a chain in too many ways".to_owned());
        }
        let mut why = webpki::Error::UnknownIssuer;
        for group in &self.groups {
            match group.verify(&entity, rest, self.algorithms, now) {
                Ok(way) => {
                    let leaf = parsed(leaf)?;
                    let valid = both(way, validity(&leaf));
                    return Ok(Verified { leaf, valid, fresh: group.fresh(now) });
                }
                // Another group may know more of it than that it is not theirs.
                Err(problem) if is_unknown(&why) => why = problem,
                Err(_) => {}
            }
        }
        Err(describe(&why))
    }
}

impl Group {
    /// When all the way above the leaf is valid.
    fn verify(
        &self,
        entity: &EndEntityCert<'_>,
        rest: &[CertificateDer<'static>],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
        now: u64,
    ) -> Result<RangeInclusive<u64>, webpki::Error> {
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().map(|list| &list.list).collect();
        // Without a list there is nothing to build.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let within = |path: &VerifiedPath<'_>| self.way(path, now).map(drop);
        let path = entity.verify_for_usage(
            algorithms,
            &self.anchors,
            rest,
            time,
            ClientAuth,
            revocation,
            Some(&within),
        )?;
        self.way(&path, now)
    }

    /// What webpki does not check of the path above the leaf, and when all of that is valid. An error makes webpki try other ways.
    fn way(&self, path: &VerifiedPath<'_>, now: u64) -> Result<RangeInclusive<u64>, webpki::Error> {
        let known = |(anchor, _): &(&TrustAnchor<'static>, &Bounds)| std::ptr::eq(*anchor, path.anchor());
        let bounds = self.anchors.iter().zip(&self.bounds).find(known).map(|(_, bounds)| bounds);
        let bounds = bounds.ok_or(webpki::Error::UnknownIssuer)?;
        bounds.check(path.intermediate_certificates().count(), now)?;
        let mut valid = bounds.valid.clone();
        for link in path.intermediate_certificates() {
            // Signed by a CA here, but one itself: its own lists count, which are not consulted on this way.
            if self.elsewhere.contains(&link.subject_public_key_info()) {
                return Err(webpki::Error::UnknownIssuer);
            }
            let der = link.der();
            let link = parsed(&der).map_err(|_| webpki::Error::BadDer)?;
            if !may_sign(&link) {
                return Err(webpki::Error::EndEntityUsedAsCa);
            }
            valid = both(valid, validity(&link));
        }
        Ok(valid)
    }

    /// Until when the lists are what they are now. One that has already expired refuses whom it concerns, and no longer changes.
    fn fresh(&self, now: u64) -> u64 {
        let ends = self.lists.iter().map(|list| list.next_update).filter(|end| *end > now);
        ends.min().map_or(u64::MAX, |end| end.saturating_sub(1))
    }
}

/// Whether the chains upwards from `issuer`, through `links` (subject and issuer) that are not yet `used`, are more than are `left`.
fn exhausts(issuer: &[u8], links: &[(&[u8], &[u8])], used: u32, left: &mut usize) -> bool {
    links.iter().enumerate().any(|(i, (subject, next))| {
        let link = 1 << i;
        if used & link != 0 || *subject != issuer {
            return false;
        }
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => return true,
        }
        exhausts(next, links, used | link, left)
    })
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
