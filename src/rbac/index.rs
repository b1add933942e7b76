//! The index: an immutable form of the objects in which a decision touches only what could allow it.
//!
//! Every string that a rule can ask for is interned once as a [`Word`], so that a request is turned into a handful of
//! numbers first and compared as those. A user or group leads to its [`Holder`], that by the namespace to its grants,
//! a grant to its role, and the role by the resource to the few rules that mention it. Roles are stored once however
//! many bindings refer to them: 100,000 bindings cost some tens of megabytes.

use super::{
    aggregate::aggregate,
    model::{Binding, BindingName, Objects, Role, RoleName, Rule, Subject},
};
use std::{collections::HashSet, sync::Arc};

/// Asked once for every group of a caller; seeded, but much quicker than the standard one.
pub(super) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// The rules of one snapshot: ask [`Rules::decide`].
#[derive(Debug, Default)]
pub struct Rules {
    pub(super) words: HashMap<Box<str>, Word>,
    /// Namespaces in which anything is granted.
    pub(super) scopes: HashMap<Arc<str>, Scope>,
    /// By user name; a ServiceAccount is the user it authenticates as, namespace and all.
    pub(super) users: HashMap<Arc<str>, Holder>,
    pub(super) groups: HashMap<Arc<str>, Holder>,
    pub(super) roles: Box<[RoleIndex]>,
    pub(super) bindings: Box<[Arc<BindingName>]>,
    /// Whether any binding refers to a role that does not exist.
    pub(super) dangling: bool,
    counts: Counts,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Roles and ClusterRoles.
    pub roles: usize,
    /// Their rules, aggregated ones included.
    pub rules: usize,
    /// RoleBindings and ClusterRoleBindings.
    pub bindings: usize,
}

/// An interned string.
pub(super) type Word = u32;
/// `*`, which matches anything in most lists.
pub(super) const STAR: Word = 0;
/// The empty string, which is never looked up.
pub(super) const EMPTY: Word = 1;
/// A string that no rule mentions.
pub(super) const UNHEARD: Word = Word::MAX;

/// A namespace, or the whole cluster.
pub(super) type Scope = u32;
pub(super) const CLUSTER: Scope = 0;

/// More distinct roles than this in one scope, and a holder gets an index over them.
const MANY: usize = if cfg!(test) { 3 } else { 24 };

/// What one user name or group holds.
#[derive(Debug)]
pub(super) struct Holder {
    /// By scope, at most one for each role.
    pub(super) grants: Table<Grant>,
    /// For scopes with more than [`MANY`] grants, sorted.
    many: Box<[(Scope, Many)]>,
}

/// A role held through a binding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) role: u32,
    pub(super) binding: u32,
    pub(super) kind: SubjectKind,
}

/// What kind of subject a binding names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubjectKind {
    /// A user by name.
    User,
    /// A group.
    Group,
    /// A ServiceAccount, spelled as its user name.
    ServiceAccount,
}

/// Which of many grants mention a word.
#[derive(Debug)]
pub(super) struct Many {
    /// Positions in the scope's grants, by resource or whole path.
    pub(super) mentions: Table<u32>,
    /// Positions of grants whose roles have paths ending in `*`.
    pub(super) prefixes: Box<[u32]>,
}

impl Holder {
    pub(super) fn many(&self, scope: Scope) -> Option<&Many> {
        let i = self.many.binary_search_by_key(&scope, |&(s, _)| s).ok()?;
        self.many.get(i).map(|(_, many)| many)
    }
}

/// A role's rules, findable.
#[derive(Debug)]
pub(super) struct RoleIndex {
    /// As they were written, to explain by; a role that does not exist has none.
    pub(super) rules: Box<[Arc<Rule>]>,
    pub(super) exists: bool,
    /// The same, to decide by.
    pub(super) tests: Box<[Test]>,
    /// Rules by the resources they list.
    pub(super) resources: Table<u32>,
    /// Rules by the whole paths they list.
    pub(super) paths: Table<u32>,
    /// Paths that ended in `*`, without it, and their rules.
    pub(super) prefixes: Box<[(Box<str>, u32)]>,
}

/// What of a rule is left to compare when its resource or path has been found; all lists sorted.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) verbs: Box<[Word]>,
    pub(super) groups: Box<[Word]>,
    /// Not interned: they are many, and compared last.
    pub(super) names: Box<[Box<str>]>,
}

impl Test {
    /// Whether the rule is about the object of this name.
    pub(super) fn means(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.binary_search_by(|n| (**n).cmp(name)).is_ok()
    }
}

/// Whether a sorted list holds a word, or the star, which sorts first.
pub(super) fn has(list: &[Word], word: Word) -> bool {
    list.first() == Some(&STAR) || word != UNHEARD && list.binary_search(&word).is_ok()
}

/// A sorted multimap in one piece of memory.
#[derive(Debug)]
pub(super) struct Table<T>(Box<[(u32, T)]>);

impl<T> Table<T> {
    fn new(mut pairs: Vec<(u32, T)>) -> Self {
        pairs.sort_by_key(|&(key, _)| key);
        Self(pairs.into())
    }

    /// The pairs of one key, in the order they were given.
    pub(super) fn get(&self, key: u32) -> &[(u32, T)] {
        let from = self.0.partition_point(|&(k, _)| k < key);
        let rest = self.0.get(from..).unwrap_or_default();
        let len = match rest {
            // Mostly there is none or one.
            [] => 0,
            [(k, _), ..] if *k != key => 0,
            [_, (k, _), ..] if *k != key => 1,
            _ => rest.partition_point(|&(k, _)| k <= key),
        };
        rest.get(..len).unwrap_or_default()
    }

    /// The pairs of every key.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[(u32, T)]> {
        self.0.chunk_by(|a, b| a.0 == b.0)
    }
}

impl Rules {
    /// Computes the aggregated roles and indexes everything. Of roles with one name the last counts; a binding whose role is
    /// missing grants nothing, and denials say so.
    pub fn new(mut objects: Objects) -> Self {
        aggregate(&mut objects.roles);
        Self::as_written(&objects.roles, &objects.bindings)
    }

    /// As [`Rules::new`], but aggregated roles have the rules that are written in them: those of a cluster, where somebody
    /// else computes them. Shares rules and names with the objects.
    pub fn as_written<'a>(
        roles: impl IntoIterator<Item = &'a Role>,
        bindings: impl IntoIterator<Item = &'a Binding>,
    ) -> Self {
        let mut words = Words::new();
        let mut indexes = Vec::new();
        let mut by_name: HashMap<&RoleName, u32> = HashMap::default();
        let mut counts = Counts::default();
        for role in roles {
            counts.roles += 1;
            counts.rules += role.rules.len();
            by_name.insert(&role.name, number(indexes.len()));
            indexes.push(RoleIndex::new(role.rules.as_slice().into(), true, &mut words));
        }
        let mut roles = indexes;

        let mut rules = Self::default();
        let mut names = Vec::new();
        let mut users = Holders::default();
        let mut groups = Holders::default();
        for binding in bindings {
            let role = *by_name.entry(&binding.name.role).or_insert_with(|| {
                rules.dangling = true;
                roles.push(RoleIndex::new(Box::default(), false, &mut words));
                number(roles.len() - 1)
            });
            let scope = match &binding.name.namespace {
                None => CLUSTER,
                Some(namespace) => {
                    let next = number(rules.scopes.len() + 1);
                    *rules.scopes.entry(Arc::clone(namespace)).or_insert(next)
                }
            };
            let grant = |kind| Grant { role, binding: number(names.len()), kind };
            for subject in &binding.subjects {
                match subject {
                    Subject::User(name) => users.add(name, scope, grant(SubjectKind::User)),
                    Subject::Group(name) => groups.add(name, scope, grant(SubjectKind::Group)),
                    Subject::ServiceAccount { namespace, name } => {
                        let user = format!("system:serviceaccount:{namespace}:{name}");
                        users.add(&user, scope, grant(SubjectKind::ServiceAccount));
                    }
                }
            }
            names.push(Arc::clone(&binding.name));
        }
        counts.bindings = names.len();
        rules.counts = counts;
        rules.users = users.finish(&roles);
        rules.groups = groups.finish(&roles);
        rules.words = words.0;
        rules.roles = roles.into();
        rules.bindings = names.into();
        rules
    }

    /// How much was indexed.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl RoleIndex {
    fn new(rules: Box<[Arc<Rule>]>, exists: bool, words: &mut Words) -> Self {
        let (mut resources, mut paths, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
        let mut tests = Vec::with_capacity(rules.len());
        for (i, rule) in rules.iter().enumerate() {
            let i = number(i);
            resources.extend(words.list(&rule.resources).iter().map(|&word| (word, i)));
            for url in &rule.non_resource_urls {
                // Every star at the end belongs to the pattern, and no other star does.
                match url.strip_suffix('*') {
                    Some(_) => prefixes.push((url.trim_end_matches('*').into(), i)),
                    None => paths.push((words.word(url), i)),
                }
            }
            let mut names: Vec<Box<str>> = rule.resource_names.iter().map(|n| n.as_str().into()).collect();
            names.sort_unstable();
            let (verbs, groups) = (words.list(&rule.verbs), words.list(&rule.api_groups));
            tests.push(Test { verbs, groups, names: names.into() });
        }
        let (resources, paths) = (Table::new(resources), Table::new(paths));
        Self { rules, exists, tests: tests.into(), resources, paths, prefixes: prefixes.into() }
    }
}

/// The words while they are collected.
struct Words(HashMap<Box<str>, Word>);

impl Words {
    fn new() -> Self {
        Self([("*".into(), STAR), ("".into(), EMPTY)].into_iter().collect())
    }

    fn word(&mut self, text: &str) -> Word {
        if let Some(&word) = self.0.get(text) {
            return word;
        }
        let word = number(self.0.len());
        self.0.insert(text.into(), word);
        word
    }

    /// Sorted, without repetition.
    fn list(&mut self, texts: &[String]) -> Box<[Word]> {
        let mut words: Vec<Word> = texts.iter().map(|t| self.word(t)).collect();
        words.sort_unstable();
        words.dedup();
        words.into()
    }
}

/// Holders while their grants are collected.
#[derive(Default)]
struct Holders(HashMap<Arc<str>, Vec<(Scope, Grant)>>);

impl Holders {
    fn add(&mut self, name: &str, scope: Scope, grant: Grant) {
        match self.0.get_mut(name) {
            Some(grants) => grants.push((scope, grant)),
            None => drop(self.0.insert(name.into(), vec![(scope, grant)])),
        }
    }

    fn finish(self, roles: &[RoleIndex]) -> HashMap<Arc<str>, Holder> {
        let holder = |mut grants: Vec<(Scope, Grant)>| {
            // One binding is as good as another of the same role: the first is kept.
            let mut seen = HashSet::new();
            grants.retain(|(scope, grant)| seen.insert((*scope, grant.role)));
            let grants = Table::new(grants);
            let many = grants.iter().filter(|g| g.len() > MANY);
            let many = many.filter_map(|g| Some((g.first()?.0, Many::new(g, roles)))).collect();
            Holder { grants, many }
        };
        self.0.into_iter().map(|(name, grants)| (name, holder(grants))).collect()
    }
}

impl Many {
    fn new(grants: &[(Scope, Grant)], roles: &[RoleIndex]) -> Self {
        let (mut mentions, mut prefixes) = (Vec::new(), Vec::new());
        for (i, (_, grant)) in grants.iter().enumerate() {
            let (i, Some(role)) = (number(i), roles.get(grant.role as usize)) else { continue };
            let words =
                role.resources.iter().chain(role.paths.iter()).filter_map(|pairs| Some(pairs.first()?.0));
            mentions.extend(words.map(|word| (word, i)));
            prefixes.extend((!role.prefixes.is_empty()).then_some(i));
        }
        Self { mentions: Table::new(mentions), prefixes: prefixes.into() }
    }
}

/// Positions are kept in 32 bits; four thousand million strings or bindings do not fit into memory first. Should they
/// ever, the highest number stands for all further ones, which is [`UNHEARD`] and matches nothing.
fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
