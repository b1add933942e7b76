use super::*;

/// From hex.
pub(super) fn unhex(text: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A hash in hex.
pub(super) fn hash(text: &str) -> Hash {
    Hash(unhex(text).try_into().unwrap())
}

/// So many different leaves.
pub(super) fn some_leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|i| Hash::leaf(&i.to_be_bytes())).collect()
}

/// The definition of RFC 9162, section 2.1.1, as it stands there.
pub(super) fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of(b""),
        [leaf] => *leaf,
        _ => {
            let middle = leaves.len().next_power_of_two() / 2;
            Hash::node(&naive_root(&leaves[..middle]), &naive_root(&leaves[middle..]))
        }
    }
}

/// The eight entries that every implementation of Certificate Transparency is tested with.
pub(super) const ENTRIES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

#[test]
fn the_known_tree_has_its_known_roots() {
    // The reference roots of Certificate Transparency, computed once more with a plain Python implementation.
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Tree::new();
    for (size, root) in roots.iter().enumerate() {
        assert_eq!(tree.head(), Head { size: size as u64, root: hash(root) });
        if let Some(entry) = ENTRIES.get(size) {
            tree.append(Hash::leaf(&unhex(entry)));
        }
    }
}

#[test]
fn a_growing_tree_has_the_root_of_the_definition() {
    let leaves = some_leaves(600);
    let mut tree = Tree::new();
    for (size, leaf) in leaves.iter().enumerate() {
        assert_eq!(tree.root(), naive_root(&leaves[..size]), "{size}");
        assert_eq!(tree.edge().len(), size.count_ones() as usize);
        let again = Tree::with_edge(tree.size(), tree.edge().to_vec());
        assert_eq!(again.as_ref(), Ok(&tree));
        tree.append(*leaf);
    }
}

#[test]
fn nodes_are_told_once_and_with_their_hash() {
    let leaves = some_leaves(70);
    let mut tree = Tree::new();
    let mut told = Vec::new();
    for leaf in &leaves {
        tree.append_with(*leaf, |node, hash| told.push((node, hash)));
    }
    for (node, hash) in &told {
        let first = (node.index << node.level) as usize;
        assert_eq!(*hash, naive_root(&leaves[first..first + (1 << node.level)]), "{node:?}");
    }
    let nodes: std::collections::BTreeSet<_> = told.iter().map(|(node, _)| *node).collect();
    assert_eq!(nodes.len(), told.len());
    assert_eq!(told.len(), (0..7).map(|level| 70 >> level).sum::<usize>());
    let edge: Vec<Hash> =
        Tree::nodes(70).iter().map(|node| told.iter().find(|(n, _)| n == node).unwrap().1).collect();
    assert_eq!(edge, tree.edge());
}

#[test]
fn an_edge_of_another_size_is_refused() {
    for (size, hashes) in [(0, 1), (1, 0), (3, 1), (4, 2), (u64::MAX, 63)] {
        let edge = vec![Hash::EMPTY; hashes];
        assert_eq!(Tree::with_edge(size, edge), Err(BadEdge { size, found: hashes }));
    }
}

#[test]
fn leaves_of_any_length_are_hashed_alike() {
    for length in [0, 1, leaf::LONGEST - 1, leaf::LONGEST, leaf::LONGEST + 1, 300, 70_000] {
        let entry = vec![7; length];
        assert_eq!(Hash::leaf(&entry), Hash::of(&[&[0], &entry[..]].concat()), "{length}");
    }
}

#[test]
fn a_hash_is_read_as_it_is_shown() {
    let shown = "Xif96Py2I+PVGXAUc94gawM44IUMlQeOEgFVvPT1ufc=";
    let root = hash("5e27fde8fcb623e3d519701473de206b0338e0850c95078e120155bcf4f5b9f7");
    assert_eq!((root.to_string().as_str(), Hash::parse(shown)), (shown, Some(root)));
    let long = "A".repeat(1 << 20);
    for text in
        ["", "=", &shown[..43], &shown[1..], "Xif96Py2I+PVGXAUc94gawM44IUMlQeOEgFVvPT1ufd=", "AAAA", &long]
    {
        assert_eq!(Hash::parse(text), None, "{text:.50}");
    }
    assert_eq!(Hash::parse(&format!("{shown}\n")), None);
    assert_eq!(Hash::parse(&format!(" {shown}")), None);
    assert_eq!(Hash::parse(&"A".repeat(44)), None);
}
