//! Name syntax: the three shapes of names that Kubernetes tells apart in URLs and identities.

/// May be one segment of a path: neither `.` nor `..`, and without `/` and `%`. Empty and any length pass.
pub fn is_path_segment(name: &str) -> bool {
    name != "." && name != ".." && !name.bytes().any(|b| b == b'/' || b == b'%')
}

/// RFC 1123 label of at most 63 bytes: namespaces.
pub fn is_dns_label(name: &str) -> bool {
    name.len() <= 63 && is_label_text(name)
}

/// RFC 1123 subdomain of at most 253 bytes: service accounts, nodes, most objects. The parts have no length of their own.
pub fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label_text)
}

fn is_label_text(s: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = s.as_bytes();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
}
