//! What expressions are evaluated with: the interpreter's own library, Kubernetes' functions, and a bound on the work.
//!
//! The interpreter has no bound of its own. Every round of a comprehension, and every function whose work grows faster than
//! its arguments, is counted here; a long text or list is refused before it is made. Functions know nothing of who called
//! them, so the count stands in the thread, which an evaluation never leaves.

use super::{library, unescape};
use cel::{
    Context, Env, ExecutionError, Value,
    common::{
        ast::IdedExpr,
        types::{
            CelBool, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelOptional, CelString,
            DURATION_TYPE, DYN_TYPE, LIST_TYPE, TIMESTAMP_TYPE, Type,
        },
        value::{CowVal, Val},
    },
    extensions,
};
use std::{
    cell::Cell,
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

/// Rounds of comprehensions and the like in one evaluation; a token can hold about 20,000 list elements.
const STEPS: u64 = 1_000_000;

/// Time for one evaluation; Kubernetes' limit is meant to be a tenth of a second.
const TIME: Duration = Duration::from_secs(1);

/// Bytes of a text that an expression makes.
pub(super) const LONGEST_TEXT: usize = 1 << 20;

/// Elements of a list that an expression makes.
pub(super) const LONGEST_LIST: usize = 100_000;

pub(super) type Outcome<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;
pub(super) type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;

/// With everything declared; an error means that two declarations clash.
pub(super) static ENV: LazyLock<Result<Arc<Env>, String>> =
    LazyLock::new(|| env().map(Arc::new).map_err(|clash| clash.to_string()));

/// Functions that the interpreter has too, but not as Kubernetes has them or not bounded; they are called `@name`. `args` counts
/// what a method is called on.
pub(super) fn is_ours(name: &str, args: usize) -> bool {
    match name {
        "indexOf" | "lastIndexOf" => args == 3,
        _ => matches!(
            name,
            "matches" | "replace" | "join" | "format" | "distinct" | "lists.range" | "timestamp"
        ),
    }
}

/// Types whose names have dots.
pub(super) const TYPES: [&str; 5] =
    ["google.protobuf.Duration", "google.protobuf.Timestamp", "net.IP", "net.CIDR", "kubernetes.URL"];

fn env() -> Result<Env, cel::DeclarationError> {
    let mut env = Env::default().with_stdlib();
    // As Kubernetes: the last one wins.
    env.set_error_on_duplicate_map_keys(false);
    env.add_extension(extensions::strings)?;
    env.add_extension(extensions::lists)?;
    let any = |count: usize| (0..count).map(|_| DYN_TYPE).collect::<Vec<Type>>();
    env.add_overload("@step", "@step", any(0), step)?;
    env.add_overload("@kept", "@kept", any(1), kept)?;
    env.add_overload("@elements", "@elements", any(1), elements)?;
    env.add_overload("@entries", "@entries", any(1), entries)?;
    env.add_overload("@key", "@key", any(1), key)?;
    env.add_overload("@claim", "@claim", any(1), claim)?;
    env.add_overload("@has", "@has", any(2), has)?;
    env.add_overload("@within", "@within", any(2), within)?;
    env.add_overload("@add", "@add", any(2), add)?;
    env.add_overload("@text", "@text", any(1), text)?;
    env.add_overload("@zero", "@zero", any(1), zero)?;
    env.add_overload("@optional", "@optional", any(2), optional)?;
    env.add_overload("@timestamp", "@timestamp", any(1), timestamp)?;
    env.add_overload("@merged", "@merged", vec![LIST_TYPE], merged)?;
    env.add_overload("@paired", "@paired", vec![LIST_TYPE], paired)?;
    env.add_overload("int", "duration_to_int64", vec![DURATION_TYPE], nanoseconds)?;
    for name in ["net.IP", "net.CIDR", "kubernetes.URL"] {
        env.add_type(named(name))?;
    }
    library::extend(&mut env)?;
    Ok(env)
}

// === work ===

thread_local! {
    static WORK: Cell<Work> = const { Cell::new(Work { left: 0, until: None }) };
}

#[derive(Clone, Copy)]
struct Work {
    left: u64,
    until: Option<Instant>,
}

/// Runs `evaluation` with what work it may do. Whatever it came to is void if that was not enough: an error in one operand
/// may be hidden by another.
pub(super) fn bounded<T>(evaluation: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    WORK.set(Work { left: STEPS, until: Instant::now().checked_add(TIME) });
    let came = evaluation();
    if WORK.get().left == 0 { Err("the expression took too much work".to_owned()) } else { came }
}

/// Takes `steps` from what may be done.
pub(super) fn spend(steps: usize) -> Result<(), ExecutionError> {
    let mut work = WORK.get();
    let late = work.until.is_some_and(|until| Instant::now() > until);
    work.left = if late { 0 } else { work.left.saturating_sub(steps as u64) };
    WORK.set(work);
    if work.left == 0 { Err(failed("@step", "too much work")) } else { Ok(()) }
}

/// Whether an expression of literals alone has a value.
pub(super) fn constant(expr: &IdedExpr) -> Result<(), ()> {
    let env = ENV.as_ref().map_err(|_| ())?;
    let context = Context::with_env(env.clone());
    let came = bounded(|| Value::resolve_val(expr, &context).map(|_| ()).map_err(|error| error.to_string()));
    came.map_err(|_| ())
}

// === values ===

pub(super) fn failed(function: &str, why: &str) -> ExecutionError {
    ExecutionError::function_error(function, why)
}

pub(super) fn no_overload(function: &str, args: &[CowVal<'_, '_>]) -> ExecutionError {
    ExecutionError::no_such_overload(
        function,
        args.iter().map(|arg| arg.get_type().name().to_owned()).collect(),
    )
}

/// Exactly as many arguments.
pub(super) fn exactly<'b, 'v, const N: usize>(
    function: &str,
    args: Args<'b, 'v>,
) -> Result<[CowVal<'b, 'v>; N], ExecutionError> {
    args.try_into().map_err(|args: Args<'b, 'v>| no_overload(function, &args))
}

pub(super) fn as_text<'a, 'v>(val: &'a (dyn Val + 'v)) -> Option<&'a str> {
    val.downcast_ref::<CelString<'v>>().map(CelString::inner)
}

pub(super) fn as_list<'a, 'v>(val: &'a (dyn Val + 'v)) -> Option<&'a [Box<dyn Val + 'v>]> {
    val.downcast_ref::<CelList<'v>>().map(CelList::inner)
}

pub(super) fn as_int(val: &dyn Val) -> Option<i64> {
    val.downcast_ref::<CelInt>().map(|int| *int.inner())
}

/// A text, if it is not too long.
pub(super) fn made_text<'b, 'v>(function: &str, text: String) -> Outcome<'b, 'v> {
    if text.len() > LONGEST_TEXT {
        return Err(failed(function, "the text is too long"));
    }
    Ok(CowVal::owned(CelString::from(text)))
}

pub(super) fn made_texts<'b, 'v>(texts: impl Iterator<Item = String>) -> Outcome<'b, 'v> {
    let mut list: Vec<Box<dyn Val + 'v>> = Vec::new();
    for text in texts {
        if list.len() >= LONGEST_LIST {
            return Err(failed("list", "the list is too long"));
        }
        list.push(Box::new(CelString::from(text)));
    }
    Ok(CowVal::owned(CelList::from(list)))
}

pub(super) fn made_bool<'b, 'v>(value: bool) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(CelBool::from(value)))
}

pub(super) fn made_int<'b, 'v>(value: i64) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(CelInt::from(value)))
}

// === what the checker sends here ===

fn step<'b, 'v>(_: Args<'b, 'v>) -> Outcome<'b, 'v> {
    spend(1)?;
    made_bool(true)
}

/// What a round leaves behind takes memory until the end, so it is counted by its size.
fn kept<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [value] = exactly("map", args)?;
    spend(weight(value.as_ref()))?;
    Ok(value)
}

/// About a sixteenth of the bytes.
fn weight<'v>(value: &(dyn Val + 'v)) -> usize {
    if let Some(text) = as_text(value) {
        text.len() / 16
    } else if let Some(list) = as_list(value) {
        list.iter().map(|item| 1 + weight(item.as_ref())).sum()
    } else if let Some(map) = value.downcast_ref::<CelMap<'v>>() {
        map.inner().values().map(|value| 4 + weight(value.as_ref())).sum()
    } else {
        0
    }
}

/// The keys of a map in their order, so that no result depends on chance.
fn keys<'a, 'v>(map: &'a CelMap<'v>) -> Vec<(&'a CelMapKey<'v>, &'a (dyn Val + 'v))> {
    let mut keys: Vec<_> = map.inner().iter().map(|(key, value)| (key, value.as_ref())).collect();
    keys.sort_by_key(|(key, _)| *key);
    keys
}

fn key_value<'v>(key: &CelMapKey<'v>) -> Box<dyn Val + 'v> {
    match key.clone() {
        CelMapKey::Bool(key) => Box::new(key),
        CelMapKey::Int(key) => Box::new(key),
        CelMapKey::String(key) => Box::new(key),
        CelMapKey::UInt(key) => Box::new(key),
    }
}

/// What a comprehension of one variable goes through.
fn elements<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [range] = exactly("all", args)?;
    if let Some(map) = range.downcast_ref::<CelMap<'v>>() {
        spend(map.inner().len())?;
        let keys: Vec<_> = keys(map).into_iter().map(|(key, _)| key_value(key)).collect();
        return Ok(CowVal::owned(CelList::from(keys)));
    }
    if as_list(range.as_ref()).is_none() {
        return Err(no_overload("all", &[range]));
    }
    Ok(range)
}

/// What a comprehension of two variables goes through: pairs.
fn entries<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [range] = exactly("all", args)?;
    let pair = |key, value: &(dyn Val + 'v)| {
        Box::new(CelList::from(vec![key, value.clone_as_boxed()])) as Box<dyn Val + 'v>
    };
    let pairs: Vec<Box<dyn Val + 'v>> = if let Some(map) = range.downcast_ref::<CelMap<'v>>() {
        spend(map.inner().len())?;
        keys(map).into_iter().map(|(key, value)| pair(key_value(key), value)).collect()
    } else if let Some(list) = as_list(range.as_ref()) {
        spend(list.len())?;
        (0..).zip(list).map(|(place, value)| pair(Box::new(CelInt::from(place)), value.as_ref())).collect()
    } else {
        return Err(no_overload("all", &[range]));
    };
    Ok(CowVal::owned(CelList::from(pairs)))
}

/// A computed key of something in the claims or the extra.
fn key<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [key] = exactly("_[_]", args)?;
    match as_text(key.as_ref()).and_then(unescape) {
        Some(name) => made_text("_[_]", name),
        None => Ok(key),
    }
}

/// The computed name of a claim.
fn claim<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [key] = exactly("_[_]", args)?;
    let Some(name) = as_text(key.as_ref()) else { return Err(no_overload("_[_]", &[key])) };
    match unescape(name) {
        Some(name) => made_text("_[_]", name),
        None => Err(failed("_[_]", "no claim has such a name")),
    }
}

/// Whether a field is there; what has no fields has not this one either.
fn has<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [of, key] = exactly("has", args)?;
    let mut of = of.as_ref();
    while let Some(optional) = of.downcast_ref::<CelOptional<'v>>() {
        match optional.option() {
            Some(held) => of = held,
            None => return made_bool(false),
        }
    }
    match of.downcast_ref::<CelMap<'v>>().and_then(Val::as_container) {
        Some(map) => made_bool(map.contains(key.as_ref())?),
        None => made_bool(false),
    }
}

fn within<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [item, container] = exactly("in", args)?;
    if let Some(list) = as_list(container.as_ref()) {
        spend(list.len() / 16)?;
    }
    match container.as_container().map(|of| of.contains(item.as_ref())) {
        Some(Ok(held)) => made_bool(held),
        _ => Err(no_overload("in", &[item, container])),
    }
}

/// `a.?b` and `a[?b]`, and what is selected out of an optional value: nothing where there is no such key or index, or where
/// there can be none. A list still takes only numbers, and a map only what can be a key.
fn optional<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [of, key] = exactly("_?._", args)?;
    let mut held = of.as_ref();
    while let Some(optional) = held.downcast_ref::<CelOptional<'v>>() {
        match optional.option() {
            Some(inner) => held = inner,
            None => return Ok(CowVal::owned(CelOptional::none())),
        }
    }
    let none = || Ok(CowVal::owned(CelOptional::none()));
    let Some(indexer) = held.as_indexer() else { return none() };
    match indexer.get(key.as_ref()) {
        Ok(found) => Ok(CowVal::owned(CelOptional::of(found.into_owned()))),
        Err(ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_)) => none(),
        Err(_) => Err(no_overload("_?._", &[of, key])),
    }
}

fn add<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [one, other] = exactly("_+_", args)?;
    if let (Some(a), Some(b)) = (as_text(one.as_ref()), as_text(other.as_ref())) {
        if a.len() + b.len() > LONGEST_TEXT {
            return Err(failed("_+_", "the text is too long"));
        }
    } else if let (Some(a), Some(b)) = (as_list(one.as_ref()), as_list(other.as_ref())) {
        let len = a.len() + b.len();
        spend(len)?;
        if len > LONGEST_LIST {
            return Err(failed("_+_", "the list is too long"));
        }
    } else if as_list(one.as_ref()).is_some() {
        // The interpreter would add the keys of a map.
        return Err(no_overload("_+_", &[one, other]));
    }
    match one.as_adder() {
        Some(adder) => Ok(CowVal::Owned(adder.add(other.as_ref())?.into_owned())),
        None => Err(no_overload("_+_", &[one, other])),
    }
}

/// Numbers as Go writes them; everything else is left to `string`. Not a time: its offset is lost, which Kubernetes would show.
fn text<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [value] = exactly("string", args)?;
    if value.get_type() == &TIMESTAMP_TYPE {
        return Err(no_overload("string", &[value]));
    }
    match value.downcast_ref::<CelDouble>() {
        Some(number) => made_text("string", library::shown(*number.inner())),
        None => Ok(value),
    }
}

/// Whether an empty list or map is a zero value is not the same of a claim as of one made here.
fn zero<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [value] = exactly("optional.ofNonZeroValue", args)?;
    let size =
        value.as_sizer().filter(|_| as_text(value.as_ref()).is_none()).map(|sizer| *sizer.size().inner());
    if size == Some(0) {
        return Err(failed("optional.ofNonZeroValue", "an empty list or map"));
    }
    Ok(value)
}

/// The interpreter takes more forms of a time than RFC 3339 has.
fn timestamp<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    if let [time] = args.as_slice()
        && let Some(text) = as_text(time.as_ref())
        && !library::is_time(text)
    {
        return Err(failed("timestamp", "not a time"));
    }
    let env = ENV.as_ref().map_err(|clash| failed("timestamp", clash))?;
    match env.find_overload("timestamp", &args) {
        Some(made) => made(args),
        None => Err(no_overload("timestamp", &args)),
    }
}

fn nanoseconds<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [duration] = exactly("int", args)?;
    match duration.downcast_ref::<CelDuration>().and_then(|duration| duration.inner().num_nanoseconds()) {
        Some(nanoseconds) => made_int(nanoseconds),
        None => Err(no_overload("int", &[duration])),
    }
}

/// One map of several, which may not share keys.
fn merged<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [list] = exactly("transformMapEntry", args)?;
    let mut all = HashMap::new();
    for one in as_list(list.as_ref()).unwrap_or_default() {
        let Some(map) = one.downcast_ref::<CelMap<'v>>() else {
            return Err(no_overload("transformMapEntry", &[list]));
        };
        for (key, value) in map.inner() {
            if all.insert(key.clone(), value.clone()).is_some() {
                return Err(failed("transformMapEntry", "a key is there already"));
            }
        }
    }
    Ok(CowVal::owned(CelMap::from(all)))
}

/// A map of pairs.
fn paired<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [list] = exactly("transformMap", args)?;
    let mut all = HashMap::new();
    for pair in as_list(list.as_ref()).unwrap_or_default() {
        let Some([key, value]) = as_list(pair.as_ref()) else {
            return Err(no_overload("transformMap", &[list]));
        };
        let key =
            CelMapKey::try_from(key.clone_as_boxed()).map_err(|_| failed("transformMap", "not a key"))?;
        all.insert(key, value.clone());
    }
    Ok(CowVal::owned(CelMap::from(all)))
}

/// A type that only functions make.
pub(super) const fn named(name: &'static str) -> Type {
    Type::simple_type(cel::common::types::Kind::Opaque, name)
}
