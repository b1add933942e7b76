//! Lists and sets.

use super::super::runtime::{
    Args, LONGEST_LIST, Outcome, as_int, as_list, exactly, failed, made_bool, made_int, no_overload, spend,
};
use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        types::{CelDuration, CelInt, CelList, CelOptional, DYN_TYPE, LIST_TYPE},
        value::{CowVal, Val},
    },
};
use std::cmp::Ordering;

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_member_overload("isSorted", "list_is_sorted", LIST_TYPE, vec![], is_sorted)?;
    env.add_member_overload("sum", "list_sum", LIST_TYPE, vec![], sum)?;
    env.add_member_overload("min", "list_min", LIST_TYPE, vec![], |args| {
        extreme("min", args, Ordering::Less)
    })?;
    env.add_member_overload("max", "list_max", LIST_TYPE, vec![], |args| {
        extreme("max", args, Ordering::Greater)
    })?;
    env.add_member_overload("indexOf", "list_index_of", LIST_TYPE, vec![DYN_TYPE], index_of)?;
    env.add_member_overload("lastIndexOf", "list_last_index_of", LIST_TYPE, vec![DYN_TYPE], last_index_of)?;
    env.add_member_overload("first", "list_first", LIST_TYPE, vec![], |args| {
        end("first", args, <[_]>::first)
    })?;
    env.add_member_overload("last", "list_last", LIST_TYPE, vec![], |args| end("last", args, <[_]>::last))?;
    env.add_member_overload("unwrapOpt", "list_unwrap_opt", LIST_TYPE, vec![], unwrap)?;
    env.add_overload("optional.unwrap", "optional_unwrap", vec![LIST_TYPE], unwrap)?;
    env.add_overload("@distinct", "@distinct", vec![LIST_TYPE], distinct)?;
    env.add_overload("@lists.range", "@lists.range", vec![DYN_TYPE], range)?;
    env.add_overload("sets.contains", "sets_contains", vec![LIST_TYPE, LIST_TYPE], |args| {
        sets("sets.contains", args, |one, other| covers(one, other))
    })?;
    env.add_overload("sets.equivalent", "sets_equivalent", vec![LIST_TYPE, LIST_TYPE], |args| {
        sets("sets.equivalent", args, |one, other| covers(one, other) && covers(other, one))
    })?;
    env.add_overload("sets.intersects", "sets_intersects", vec![LIST_TYPE, LIST_TYPE], |args| {
        sets("sets.intersects", args, |one, other| one.iter().any(|item| holds(other, item.as_ref())))
    })
}

fn compare(function: &str, one: &dyn Val, other: &dyn Val) -> Result<Ordering, ExecutionError> {
    let why = || failed(function, "the elements have no order");
    one.as_comparer().ok_or_else(why)?.compare(other).map_err(|_| why())
}

fn is_sorted<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [list] = exactly("isSorted", args)?;
    for pair in as_list(list.as_ref()).unwrap_or_default().windows(2) {
        if let [one, other] = pair
            && compare("isSorted", one.as_ref(), other.as_ref())? == Ordering::Greater
        {
            return made_bool(false);
        }
    }
    made_bool(true)
}

/// What nothing adds up to depends on the type, which is not known of an empty list: 0.
fn sum<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [list] = exactly("sum", args)?;
    let mut total: Option<Box<dyn Val + 'v>> = None;
    for item in as_list(list.as_ref()).unwrap_or_default() {
        total = Some(match &total {
            None => item.clone_as_boxed(),
            Some(so_far) => {
                let adder = so_far.as_adder().ok_or_else(|| failed("sum", "the elements cannot be added"))?;
                adder.add(item.as_ref())?.into_owned()
            }
        });
    }
    let is_number =
        |total: &dyn Val| total.as_subtractor().is_some() || total.downcast_ref::<CelDuration>().is_some();
    match total {
        Some(total) if is_number(total.as_ref()) => Ok(CowVal::Owned(total)),
        Some(_) => Err(failed("sum", "the elements are no numbers")),
        None => Ok(CowVal::owned(CelInt::from(0))),
    }
}

fn extreme<'b, 'v>(function: &str, args: Args<'b, 'v>, wanted: Ordering) -> Outcome<'b, 'v> {
    let [list] = exactly(function, args)?;
    let mut best: Option<&(dyn Val + 'v)> = None;
    for item in as_list(list.as_ref()).unwrap_or_default() {
        let better = match best {
            Some(best) => compare(function, item.as_ref(), best)? == wanted,
            None => true,
        };
        if better {
            best = Some(item.as_ref());
        }
    }
    match best {
        Some(best) => Ok(CowVal::Owned(best.clone_as_boxed())),
        None => Err(failed(function, "the list is empty")),
    }
}

fn index_of<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [list, item] = exactly("indexOf", args)?;
    place(as_list(list.as_ref()).unwrap_or_default().iter().position(|one| one.equals(item.as_ref())))
}

fn last_index_of<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [list, item] = exactly("lastIndexOf", args)?;
    place(as_list(list.as_ref()).unwrap_or_default().iter().rposition(|one| one.equals(item.as_ref())))
}

fn place<'b, 'v>(place: Option<usize>) -> Outcome<'b, 'v> {
    made_int(place.and_then(|place| i64::try_from(place).ok()).unwrap_or(-1))
}

type Member<'v> = Box<dyn Val + 'v>;

fn end<'b, 'v>(
    function: &str,
    args: Args<'b, 'v>,
    which: impl for<'a> FnOnce(&'a [Member<'v>]) -> Option<&'a Member<'v>>,
) -> Outcome<'b, 'v> {
    let [list] = exactly(function, args)?;
    let found = which(as_list(list.as_ref()).unwrap_or_default()).cloned();
    Ok(CowVal::owned(found.map_or_else(CelOptional::none, CelOptional::of)))
}

/// What the optional values of a list hold.
fn unwrap<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [list] = exactly("optional.unwrap", args)?;
    let mut held: Vec<Member<'v>> = Vec::new();
    for item in as_list(list.as_ref()).unwrap_or_default() {
        match item.downcast_ref::<CelOptional<'v>>() {
            Some(optional) => held.extend(optional.option().map(Val::clone_as_boxed)),
            None => return Err(no_overload("optional.unwrap", &[list])),
        }
    }
    Ok(CowVal::owned(CelList::from(held)))
}

fn distinct<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [list] = exactly("distinct", args)?;
    let mut seen: Vec<Member<'v>> = Vec::new();
    for item in as_list(list.as_ref()).unwrap_or_default() {
        spend(1 + seen.len() / 16)?;
        if !holds(&seen, item.as_ref()) {
            seen.push(item.clone());
        }
    }
    Ok(CowVal::owned(CelList::from(seen)))
}

fn range<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let [count] = exactly("lists.range", args)?;
    let Some(count) = as_int(count.as_ref()) else { return Err(no_overload("lists.range", &[count])) };
    match usize::try_from(count) {
        Ok(len) if len <= LONGEST_LIST => {
            spend(len)?;
            let numbers: Vec<Member<'v>> =
                (0..count).map(|n| Box::new(CelInt::from(n)) as Member<'v>).collect();
            Ok(CowVal::owned(CelList::from(numbers)))
        }
        _ => Err(failed("lists.range", "the number is negative or too high")),
    }
}

fn sets<'b, 'v>(
    function: &str,
    args: Args<'b, 'v>,
    test: impl FnOnce(&[Member<'v>], &[Member<'v>]) -> bool,
) -> Outcome<'b, 'v> {
    let [one, other] = exactly(function, args)?;
    match (as_list(one.as_ref()), as_list(other.as_ref())) {
        (Some(one), Some(other)) => {
            spend(1 + one.len().saturating_mul(other.len()) / 16)?;
            made_bool(test(one, other))
        }
        _ => Err(no_overload(function, &[one, other])),
    }
}

fn covers(one: &[Member<'_>], other: &[Member<'_>]) -> bool {
    other.iter().all(|item| holds(one, item.as_ref()))
}

fn holds(list: &[Member<'_>], item: &dyn Val) -> bool {
    list.iter().any(|one| one.equals(item))
}
