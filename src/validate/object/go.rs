//! What an OpenAPI document does not tell of Go's types: the names of types that are strings or lists to JSON, and structs that are part of
//! another without a field of their own, which Go's errors name all the same. As of Kubernetes 1.36; where it is otherwise, a text is.

use std::{collections::HashMap, sync::LazyLock};

/// `Struct.field type`, a `[]` for each list or map that the value is inside; `Struct.field @Embedded`.
const TABLE: &str = include_str!("go.txt");

static NAMES: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    TABLE.lines().filter(|line| !line.contains('@')).filter_map(|line| line.split_once(' ')).collect()
});
static EMBEDDED: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| TABLE.lines().filter_map(|line| line.split_once(" @")).collect());

/// The type of a struct's field, or of what is in it `depth` lists or maps deep.
pub(super) fn type_of(of: &str, field: &str, depth: usize) -> Option<&'static str> {
    NAMES.get(&*format!("{of}.{field}{}", "[]".repeat(depth.min(4)))).copied()
}

/// The struct inside a struct that has the field.
pub(super) fn embedded(of: &str, field: &str) -> Option<&'static str> {
    EMBEDDED.get(&*format!("{of}.{field}")).copied()
}
