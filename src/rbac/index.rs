//! The index: an immutable form of the objects in which a decision touches only what could allow it.
//!
//! Every string that a rule can ask for is interned once as a [`Word`], so that a request is turned into a handful of
//! numbers first and compared as those. A user or group leads to its grants, these by the namespace to roles, and a role by
//! the resource to the few rules that mention it. The same backwards: a resource leads to the roles that mention it, and a
//! role to its grants.
//!
//! Everything there is much of lies in a few long tables, for the cluster's rules are indexed anew with every change:
//! 100,000 bindings take some tens of milliseconds, and some ten megabytes.

use super::{
    aggregate::aggregate,
    eval::Question,
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
    users: HashMap<Arc<str>, Span>,
    groups: HashMap<Arc<str>, Span>,
    /// Whose grants they are, and where theirs begin; in the order of the grants.
    subjects: Box<[(u32, Arc<str>)]>,
    /// Those of one subject together, by scope, at most one of a role in a scope.
    grants: Box<[Grant]>,
    /// By the position of the first grant: where one subject has more than [`MANY`] in one scope.
    many: HashMap<u32, Mentions>,
    pub(super) roles: Box<[RoleIndex]>,
    pub(super) bindings: Box<[Arc<BindingName>]>,
    /// All roles.
    pub(super) mentions: Mentions,
    /// Positions of grants, by scope, in it by role.
    held: Box<[u32]>,
    /// By scope, the part of `held`.
    places: Box<[Span]>,
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

/// Positions in a table, the second not included.
type Span = (u32, u32);

/// What one user name or group holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder<'a> {
    pub(super) name: &'a Arc<str>,
    pub(super) grants: Grants<'a>,
}

/// Grants of one subject, and where they are in the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grants<'a> {
    first: u32,
    pub(super) all: &'a [Grant],
}

/// A role, and positions of its grants.
pub(super) type Bound<'a> = (u32, &'a [u32]);

/// A role held through a binding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) scope: Scope,
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

/// Which of many roles are about a word.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    /// Their positions, by the resources and whole paths they list.
    words: Table<u32>,
    /// Positions of those with paths that end in `*`.
    prefixes: Box<[u32]>,
}

impl Mentions {
    /// Positions of what lists one of these words, or may match a path by its beginning. One may come twice.
    pub(super) fn of(&self, words: impl Iterator<Item = Word>, path: bool) -> impl Iterator<Item = u32> {
        let prefixes = if path { &*self.prefixes } else { &[] };
        words.flat_map(|word| self.words.get(word)).map(|&(_, i)| i).chain(prefixes.iter().copied())
    }
}

impl<'a> Grants<'a> {
    pub(super) fn at(self, scope: Scope) -> Self {
        let (before, all) = run(self.all, scope, |grant| grant.scope);
        Self { first: self.first.saturating_add(number(before)), all }
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
    pub(super) verbs: Arc<[Word]>,
    pub(super) groups: Arc<[Word]>,
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

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T> Table<T> {
    fn new(mut pairs: Vec<(u32, T)>) -> Self {
        pairs.sort_by_key(|&(key, _)| key);
        Self(pairs.into())
    }

    /// The pairs of one key, in the order they were given.
    pub(super) fn get(&self, key: u32) -> &[(u32, T)] {
        run(&self.0, key, |&(k, _)| k).1
    }

    fn keys(&self) -> impl Iterator<Item = u32> {
        self.0.chunk_by(|a, b| a.0 == b.0).filter_map(|run| Some(run.first()?.0))
    }
}

/// What has this key in a list sorted by it, and where that begins.
fn run<T>(list: &[T], key: u32, key_of: impl Fn(&T) -> u32) -> (usize, &[T]) {
    let from = list.partition_point(|item| key_of(item) < key);
    let rest = list.get(from..).unwrap_or_default();
    let len = match rest {
        // Mostly there is none or one.
        [] => 0,
        [first, ..] if key_of(first) != key => 0,
        [_, second, ..] if key_of(second) != key => 1,
        _ => rest.partition_point(|item| key_of(item) <= key),
    };
    (from, rest.get(..len).unwrap_or_default())
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
        let (mut words, mut counts) = (Words::new(), Counts::default());
        let mut by_name: HashMap<&RoleName, u32> = HashMap::default();
        let roles = roles.into_iter();
        let mut indexes = Vec::with_capacity(roles.size_hint().0);
        for role in roles {
            counts.roles += 1;
            counts.rules += role.rules.len();
            by_name.insert(&role.name, number(indexes.len()));
            indexes.push(RoleIndex::new(role.rules.as_slice().into(), true, &mut words));
        }

        let bindings = bindings.into_iter();
        let mut names = Vec::with_capacity(bindings.size_hint().0);
        let mut scopes: HashMap<Arc<str>, Scope> = HashMap::default();
        let mut collected = Collected::default();
        let mut dangling = false;
        for binding in bindings {
            let role = *by_name.entry(&binding.name.role).or_insert_with(|| {
                dangling = true;
                indexes.push(RoleIndex::new(Box::default(), false, &mut words));
                number(indexes.len() - 1)
            });
            let scope = match &binding.name.namespace {
                None => CLUSTER,
                Some(namespace) => scopes.get(namespace).copied().unwrap_or_else(|| {
                    let next = number(scopes.len() + 1);
                    scopes.insert(Arc::clone(namespace), next);
                    next
                }),
            };
            let grant = |kind| Grant { scope, role, binding: number(names.len()), kind };
            for subject in &binding.subjects {
                collected.add(subject, grant);
            }
            names.push(Arc::clone(&binding.name));
        }
        counts.bindings = names.len();
        collected.index(Self {
            words: words.words,
            scopes,
            roles: indexes.into(),
            bindings: names.into(),
            dangling,
            counts,
            ..Self::default()
        })
    }

    /// How much was indexed.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What the caller holds: by name, and by each group.
    pub(super) fn holders<'a>(&'a self, user: &str, groups: &[String]) -> impl Iterator<Item = Holder<'a>> {
        let groups = groups.iter().filter_map(|group| self.holder(&self.groups, group));
        self.holder(&self.users, user).into_iter().chain(groups)
    }

    /// What one user or group holds.
    pub(super) fn held_by(&self, kind: SubjectKind, name: &str) -> Option<Holder<'_>> {
        self.holder(if kind == SubjectKind::Group { &self.groups } else { &self.users }, name)
    }

    fn holder<'a>(&'a self, of: &'a HashMap<Arc<str>, Span>, name: &str) -> Option<Holder<'a>> {
        let (name, &span) = of.get_key_value(name)?;
        Some(Holder { name, grants: Grants { first: span.0, all: part(&self.grants, span) } })
    }

    /// The index over these grants, all of one scope, if there are many.
    pub(super) fn many(&self, grants: Grants<'_>) -> Option<&Mentions> {
        if grants.all.len() > MANY { self.many.get(&grants.first) } else { None }
    }

    /// Roles bound in `scope` that could allow it, each with the positions of its grants there, and whether these are all:
    /// `most` are looked at.
    pub(super) fn bound(&self, question: &Question<'_>, scope: Scope, most: usize) -> (Vec<Bound<'_>>, bool) {
        let role_of = |&i: &u32| self.grants.get(i as usize).map_or(UNHEARD, |grant| grant.role);
        let here = self.places.get(scope as usize).map_or(&[][..], |&span| part(&self.held, span));
        let mentioned = || self.mentions.of(question.words(), question.is_path());
        // Whichever are fewer: those that are bound here, or those that mention it.
        if here.len() <= most && mentioned().nth(here.len()).is_some() {
            let runs = here.chunk_by(|a, b| role_of(a) == role_of(b));
            return (runs.filter_map(|held| Some((role_of(held.first()?), held))).collect(), true);
        }
        let mut roles: Vec<u32> = mentioned().take(most).collect();
        let all = roles.len() < most;
        roles.sort_unstable();
        roles.dedup();
        let held = roles.into_iter().map(|role| (role, run(here, role, role_of).1));
        (held.filter(|(_, held)| !held.is_empty()).collect(), all)
    }

    /// The grant at a position, and whose it is.
    pub(super) fn grant(&self, at: u32) -> Option<(&Arc<str>, &Grant)> {
        let whose = self.subjects.partition_point(|&(first, _)| first <= at).checked_sub(1)?;
        Some((&self.subjects.get(whose)?.1, self.grants.get(at as usize)?))
    }
}

fn part<T>(table: &[T], (from, to): Span) -> &[T] {
    table.get(from as usize..to as usize).unwrap_or_default()
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

/// The words while they are collected, and lists of them, of which there are few.
#[derive(Default)]
struct Words {
    words: HashMap<Box<str>, Word>,
    lists: HashSet<Arc<[Word]>, foldhash::fast::RandomState>,
    scratch: Vec<Word>,
}

impl Words {
    fn new() -> Self {
        Self { words: [("*".into(), STAR), ("".into(), EMPTY)].into_iter().collect(), ..Self::default() }
    }

    fn word(&mut self, text: &str) -> Word {
        if let Some(&word) = self.words.get(text) {
            return word;
        }
        let word = number(self.words.len());
        self.words.insert(text.into(), word);
        word
    }

    /// Sorted, without repetition.
    fn list(&mut self, texts: &[String]) -> Arc<[Word]> {
        let mut list = std::mem::take(&mut self.scratch);
        list.clear();
        list.extend(texts.iter().map(|text| self.word(text)));
        list.sort_unstable();
        list.dedup();
        let known = self.lists.get(list.as_slice()).cloned().unwrap_or_else(|| {
            let new: Arc<[Word]> = list.as_slice().into();
            self.lists.insert(Arc::clone(&new));
            new
        });
        self.scratch = list;
        known
    }
}

/// Grants while they are collected.
#[derive(Default)]
struct Collected {
    /// Users and groups are numbered together; the second number is not known yet.
    users: HashMap<Arc<str>, Span>,
    groups: HashMap<Arc<str>, Span>,
    /// By number.
    names: Vec<Arc<str>>,
    grants: Vec<(u32, Grant)>,
    account: String,
}

impl Collected {
    fn add(&mut self, subject: &Subject, grant: impl Fn(SubjectKind) -> Grant) {
        let (known, name, kind) = match subject {
            Subject::User(name) => (&mut self.users, name, SubjectKind::User),
            Subject::Group(name) => (&mut self.groups, name, SubjectKind::Group),
            Subject::ServiceAccount { namespace, name } => {
                self.account.clear();
                for part in ["system:serviceaccount:", namespace, ":", name] {
                    self.account.push_str(part);
                }
                (&mut self.users, &self.account, SubjectKind::ServiceAccount)
            }
        };
        let (whose, _) = known.get(name.as_str()).copied().unwrap_or_else(|| {
            let (name, new) = (Arc::<str>::from(name.as_str()), (number(self.names.len()), 0));
            known.insert(Arc::clone(&name), new);
            self.names.push(name);
            new
        });
        self.grants.push((whose, grant(kind)));
    }

    /// Puts the grants in order, and makes the tables that lead to them.
    fn index(mut self, mut rules: Rules) -> Rules {
        // One binding is as good as another of the same role: the first is kept.
        self.grants.sort_unstable_by_key(|(whose, g)| (*whose, g.scope, g.role, g.binding));
        self.grants.dedup_by_key(|(whose, g)| (*whose, g.scope, g.role));
        self.grants.sort_by_key(|(whose, g)| (*whose, g.scope, g.binding));
        let mut spans: Vec<Span> = Vec::with_capacity(self.names.len());
        let mut first = 0;
        for theirs in self.grants.chunk_by(|a, b| a.0 == b.0) {
            spans.push((first, first + number(theirs.len())));
            for held in theirs.chunk_by(|a, b| a.1.scope == b.1.scope) {
                if held.len() > MANY {
                    let roles = held.iter().filter_map(|(_, grant)| rules.roles.get(grant.role as usize));
                    rules.many.insert(first, Mentions::new(roles));
                }
                first += number(held.len());
            }
        }
        rules.grants = self.grants.iter().map(|&(_, grant)| grant).collect();
        // Everybody who has a number has a grant, so the two lists are equally long.
        rules.subjects = spans.iter().map(|span| span.0).zip(self.names).collect();
        for span in self.users.values_mut().chain(self.groups.values_mut()) {
            *span = spans.get(span.0 as usize).copied().unwrap_or_default();
        }
        (rules.users, rules.groups) = (self.users, self.groups);

        let grants = rules.grants.iter().enumerate();
        let mut held: Vec<(Scope, u32, u32)> =
            grants.map(|(i, grant)| (grant.scope, grant.role, number(i))).collect();
        held.sort_unstable();
        rules.places = vec![(0, 0); rules.scopes.len() + 1].into();
        let mut first = 0;
        for here in held.chunk_by(|a, b| a.0 == b.0) {
            let end = first + number(here.len());
            if let Some(place) = here.first().and_then(|&(scope, ..)| rules.places.get_mut(scope as usize)) {
                *place = (first, end);
            }
            first = end;
        }
        rules.held = held.into_iter().map(|(_, _, i)| i).collect();
        rules.mentions = Mentions::new(rules.roles.iter());
        rules
    }
}

impl Mentions {
    fn new<'a>(roles: impl Iterator<Item = &'a RoleIndex>) -> Self {
        let (mut words, mut prefixes) = (Vec::new(), Vec::new());
        for (i, role) in roles.enumerate() {
            let i = number(i);
            words.extend(role.resources.keys().chain(role.paths.keys()).map(|word| (word, i)));
            prefixes.extend((!role.prefixes.is_empty()).then_some(i));
        }
        Self { words: Table::new(words), prefixes: prefixes.into() }
    }
}

/// Positions are kept in 32 bits; four thousand million strings or bindings do not fit into memory first. Should they
/// ever, the highest number stands for all further ones, which is [`UNHEARD`] and matches nothing.
fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
