//! The direction of imports: downward, or within a layer.

use crate::scan::{Source, find_words, has_word, is_name_char};

/// From top to bottom. A new module has to be given its layer here.
const LAYERS: &[&[&str]] = &[
    &["checked", "client", "framing", "guide", "sim"],
    &["event_loop"],
    &["handler", "net"],
    &["conn", "conn_map", "listener", "mailbox", "timer", "wake"],
    &["backend"],
    &["sys"],
    &[
        "addr",
        "chaos",
        "config",
        "error",
        "fault",
        "id",
        "options",
        "random",
        "recv_memory",
        "segment",
        "socket_option",
        "stage",
        "stats",
        "throttle",
        "time",
    ],
];

/// Who may import what from above, and why: file, path, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("src/segment.rs", "sys::memory", "chunks are aligned, and allocating so is unsafe"),
    ("src/stage.rs", "sys::memory", "it is aligned, and allocating so is unsafe"),
    ("src/recv_memory.rs", "sys::memory", "it is aligned, and allocating so is unsafe"),
];

/// Finds the imports that do not point downward: (index of the line, what is wrong).
pub(crate) fn check(source: &Source) -> Vec<(usize, String)> {
    if !source.is_in("src/") || source.path == "src/lib.rs" {
        return Vec::new();
    }
    let Some(own) = layer(module(source)) else {
        return vec![(0, format!("module `{}` has no layer", module(source)))];
    };
    let crate_paths = crate_paths(&source.code());
    let upward = crate_paths.into_iter().filter_map(|(line, path)| {
        let fault = fault(source, own, &path)?;
        Some((line, format!("`crate::{path}` {fault}")))
    });
    upward.chain(climbs(source)).collect()
}

/// Returns the top-level module that a file belongs to.
fn module(source: &Source) -> &str {
    let name = source.path.trim_start_matches("src/").trim_end_matches(".rs");
    name.split('/').next().expect("a split has a first part")
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

fn fault(source: &Source, own: usize, path: &str) -> Option<&'static str> {
    let is_excepted = |(file, allowed, _reason): &(&str, &str, &str)| {
        source.path == *file && (path == *allowed || path.starts_with(&format!("{allowed}::")))
    };
    match layer(path.split("::").next()?) {
        None => Some("is not in a module that has a layer"),
        Some(other) if other < own && !EXCEPTIONS.iter().any(is_excepted) => Some("points upward"),
        Some(_) => None,
    }
}

/// Finds paths that leave a module through its parent, where `check` does not see them.
fn climbs(source: &Source) -> impl Iterator<Item = (usize, String)> {
    let is_root = source.path.matches('/').count() == 1 || source.path.ends_with("/mod.rs");
    let word = if is_root { "super::" } else { "super::super::" };
    let lines = source.lines.iter().enumerate();
    let climbing = lines.filter(move |(_, line)| !line.in_test && has_word(&line.code, word));
    climbing.map(move |(index, _)| (index, format!("`{word}` hides where the import points")))
}

/// Returns every path that begins with `crate::`, those in braces one by one, without it.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in find_words(code, "crate::") {
        let mut rest = &code[at + "crate::".len()..];
        use_tree(&mut rest, "", &mut found);
    }
    let line = |rest_len: usize| code[..code.len() - rest_len].matches('\n').count();
    found.into_iter().map(|(rest_len, path)| (line(rest_len), path)).collect()
}

/// Reads a path or a list of paths in braces: (what was left of the text before it, the path).
fn use_tree(rest: &mut &str, prefix: &str, found: &mut Vec<(usize, String)>) {
    *rest = rest.trim_start();
    if let Some(list) = rest.strip_prefix('{') {
        *rest = list;
        return use_list(rest, prefix, found);
    }
    let start = rest.len();
    let (name, after) = rest.split_at(rest.find(|c| !is_name_char(c)).unwrap_or(rest.len()));
    let path = format!("{prefix}{name}");
    *rest = after;
    match after.strip_prefix("::") {
        Some(inner) => {
            *rest = inner;
            use_tree(rest, &format!("{path}::"), found);
        }
        None => found.push((start, path)),
    }
}

fn use_list(rest: &mut &str, prefix: &str, found: &mut Vec<(usize, String)>) {
    loop {
        *rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        if rest.is_empty() {
            return;
        }
        if let Some(after) = rest.strip_prefix('}') {
            *rest = after;
            return;
        }
        use_tree(rest, prefix, found);
        // Passes over `as name` and `*`.
        *rest = rest.trim_start_matches(|c| c != ',' && c != '}');
    }
}

#[test]
fn nested_lists_are_read_path_by_path() {
    let code = "use crate::{\n    a::{self, b::*, c as d},\n    e,\n};\nf(crate::g::h::<u8>());\n";
    let paths = crate_paths(code);
    let expected = [(1, "a::self"), (1, "a::b::"), (1, "a::c"), (2, "e"), (4, "g::h::")];
    assert_eq!(paths, expected.map(|(line, path)| (line, path.to_owned())));
}

#[test]
fn every_exception_is_one() {
    for (file, path, reason) in EXCEPTIONS {
        let source = Source::parse(file, &format!("use crate::{path};\n"));
        let other = Source::parse("src/time.rs", &format!("use crate::{path};\n"));
        assert_eq!((check(&source).len(), check(&other).len()), (0, 1), "{file}: {reason}");
    }
}
