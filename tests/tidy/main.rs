//! Checks what a machine can of the house style: sizes, words, and the direction of imports.
//!
//! Each finding prints as `file:line: rule`. A rule is no rule unless it is seen to fire: every one
//! of them has a snippet here that breaks it.

mod contract;
mod imports;
mod rules;
mod scan;
mod security;

use std::fs;
use std::path::Path;

use rules::{Finding, RULES};
use scan::Source;

#[test]
fn the_tree_is_tidy() {
    let sources = read_tree(Path::new(env!("CARGO_MANIFEST_DIR")));
    for path in ["src/lib.rs", "src/id.rs", "tests/tidy/main.rs"] {
        assert!(sources.iter().any(|source| source.path == path), "the walk misses {path}");
    }
    let mut findings: Vec<Finding> = sources.iter().flat_map(rules::check).collect();
    findings.extend(rules::check_totals(&sources));
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} findings\n{}\n", lines.len(), lines.join("\n"));
}

#[test]
fn every_rule_of_the_contract_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("tests/README.md")).expect("a table");
    let faults = contract::check(&table, &read_tree(root));
    assert!(faults.is_empty(), "tests/README.md\n{}\n", faults.join("\n"));
}

#[test]
fn security_tells_what_is_so() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SECURITY.md")).expect("a text");
    let faults = security::check(&text, &read_tree(root));
    assert!(faults.is_empty(), "SECURITY.md\n{}\n", faults.join("\n"));
}

fn read_tree(root: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    for top in ["src", "tests", "examples", "benches"] {
        read_dir(root, &root.join(top), &mut sources);
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn read_dir(root: &Path, dir: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.expect("a directory that can be listed").path();
        if path.is_dir() {
            read_dir(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file in UTF-8");
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy();
            sources.push(Source::parse(&name.replace('\\', "/"), &text));
        }
    }
}

/// What breaks which rule, where: path, text, line, rule.
const BAD: &[(&str, &str, usize, &str)] = &[
    ("src/a.rs", "// TODO: more\n", 1, "unfinished"),
    ("examples/a.rs", "//! A.\n/* FIXME */\n", 2, "unfinished"),
    ("tests/a.rs", "fn f() {\n    dbg!(1);\n}\n", 2, "unfinished"),
    ("src/time.rs", "fn f() {\n    todo!()\n}\n", 2, "unfinished"),
    ("src/time.rs", "use std::cell::RefCell;\n", 1, "shared ownership"),
    ("src/time.rs", "struct A(Rc<u8>);\n", 1, "shared ownership"),
    ("src/time.rs", "fn f() {\n    unsafe { g() }\n}\n", 2, "unsafe outside sys"),
    ("src/backend/epoll.rs", "unsafe impl Send for A {}\n", 1, "unsafe outside sys"),
    ("src/sys/a.rs", "fn f() {\n    unsafe { g() }\n}\n", 2, "SAFETY"),
    ("src/sys/a.rs", "// Why not.\nunsafe impl Send for A {}\n", 2, "SAFETY"),
    ("src/sys/a.rs", "// SAFETY: a.\nf();\nunsafe { g() }\n", 3, "SAFETY"),
    ("src/sys/a.rs", "// SAFETY: a.\n\nunsafe { g() }\n", 3, "SAFETY"),
    ("tests/a.rs", "unsafe impl Send for A {}\n", 1, "SAFETY"),
    ("src/sys/a.rs", "pub(crate) unsafe fn f() {}\n", 1, "unsafe fn"),
    ("src/net/a.rs", "#[cfg(target_os = \"linux\")]\nfn f() {}\n", 1, "platform"),
    ("src/time.rs", "#[cfg(any(\n    test,\n    windows,\n))]\n", 1, "platform"),
    ("src/backend/epoll.rs", "#[cfg_attr(not(unix), path = \"a\")]\nmod a;\n", 1, "platform"),
    ("src/time.rs", "const A: bool = cfg!(unix);\n", 1, "platform"),
    ("src/time.rs", "#[cfg(any(all(test, unix), windows))]\nfn f() {}\n", 1, "platform"),
    ("src/backend/epoll.rs", "use libc::c_int;\n", 1, "libc"),
    ("src/net/mod.rs", "const A: i32 = libc::EAGAIN;\n", 1, "libc"),
    ("src/time.rs", "use std::time::{Duration, Instant};\n", 1, "clock or socket"),
    ("src/net/open.rs", "fn f(_: std::net::TcpStream) {}\n", 1, "clock or socket"),
    ("src/net/open.rs", "use socket2::Socket;\n", 1, "clock or socket"),
    ("src/time.rs", "fn f() {\n    std::time::SystemTime::now();\n}\n", 2, "clock or socket"),
    ("src/time.rs", "pub fn get_nanos() {}\n", 1, "getter"),
    ("src/time.rs", "pub const fn get_nanos() {}\n", 1, "getter"),
    ("tests/a.rs", "#[path = \"../src/id.rs\"]\nmod id;\n", 1, "private modules"),
    ("examples/a.rs", "use std::io;\n", 1, "example opens"),
    ("src/id.rs", "use crate::time::Time;\nuse crate::sys::clock;\n", 2, "import"),
    ("src/net/mod.rs", "use crate::event_loop::Loop;\n", 1, "import"),
    ("src/net/mod.rs", "fn f() -> crate::event_loop::Loop {\n}\n", 1, "import"),
    ("src/conn/mod.rs", "use crate::{\n    id::Key,\n    net::{Net, Sent},\n};\n", 3, "import"),
    ("src/sys/mod.rs", "pub(in crate::backend) mod a;\n", 1, "import"),
    ("src/backend/mod.rs", "mod tests {\n    use crate::handler as h;\n}\n", 2, "import"),
    ("src/segment.rs", "use crate::sys::socket;\n", 1, "import"),
    ("src/conn/mod.rs", "use crate::ConnId;\n", 1, "import"),
    ("src/conn/mod.rs", "use super::net::Net;\n", 1, "import"),
    ("src/conn/a.rs", "use super::super::net::Net;\n", 1, "import"),
    ("src/new.rs", "\n", 1, "import"),
    ("src/time.rs", "fn f() {\n    g();\n", 1, "function of 70 lines"),
];

#[test]
fn every_rule_fires_on_what_breaks_it() {
    for (path, text, line, rule) in BAD {
        assert_fires(path, text, *line, rule);
    }
}

#[test]
fn every_limit_holds_exactly_and_no_further() {
    let lines = |count: usize| "x\n".repeat(count);
    let function = |len: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(len - 2));
    for (path, within, beyond, line, rule) in [
        ("src/id.rs", "é".repeat(100), "é".repeat(101), 1, "line of 100"),
        ("src/id.rs", lines(700), lines(701), 701, "file of 700"),
        ("src/lib.rs", lines(150), lines(151), 151, "lib.rs of 150"),
        ("src/id.rs", function(70), function(71), 1, "function of 70 lines"),
        ("examples/a.rs", lines(100), lines(101), 101, "example of 100"),
    ] {
        assert_silent(path, &within, rule);
        assert_fires(path, &beyond, line, rule);
    }
}

#[test]
fn every_rule_has_something_that_breaks_it() {
    let limits = ["line of 100", "file of 700", "lib.rs of 150", "example of 100"];
    for (name, _) in RULES {
        let shown = BAD.iter().any(|(_, _, _, rule)| rule == name) || limits.contains(name);
        assert!(shown, "nothing shows that the rule \"{name}\" fires");
    }
}

/// What looks like a violation and is none.
const GOOD: &[(&str, &str)] = &[
    ("src/time.rs", "//! Unlike [`std::time::Instant`] and [`crate::net::Net`].\n"),
    (
        "src/time.rs",
        "/* unsafe /* libc:: */ RefCell */\nconst A: &str = \"unsafe libc:: RefCell\";\n",
    ),
    (
        "src/time.rs",
        "const A: &str = r#\"use \"crate::net\" // unsafe\"#;\nfn f<'a>(_: &'a u8) {}\n",
    ),
    ("src/time.rs", "const A: [char; 3] = ['\"', '\\'', '/']; // \"\nconst B: u8 = b'\"';\n"),
    ("src/time.rs", "#![deny(unsafe_code)]\nstruct Instants(Arc<u8>, Src<u8>);\n"),
    (
        "src/time.rs",
        "#[cfg(test)]\nmod tests {\n    use super::*;\n    use std::time::Instant;\n}\n",
    ),
    ("src/time.rs", "pub fn get_mut() {}\nfn get_raw() {}\n"),
    ("src/time.rs", "#[cfg(all(test, feature = \"unix\"))]\nfn f() {}\n"),
    ("src/time.rs", "#[cfg(all(test, target_os = \"linux\"))]\nmod tests;\n"),
    ("src/timer/tests.rs", "use super::*;\nuse std::time::Instant;\n"),
    ("src/backend/mod.rs", "#[cfg(unix)]\nuse crate::sys::{clock, epoll::Epoll};\n"),
    ("src/backend/epoll.rs", "use std::net::TcpStream;\nuse super::Backend;\n"),
    ("src/handler.rs", "use crate::net::Net;\n"),
    ("src/net/mod.rs", "use crate::handler::Handler;\nuse crate::net::{open, write};\n"),
    ("src/segment.rs", "use crate::sys::memory::AlignedBytes;\n"),
    ("src/lib.rs", "pub use crate::event_loop::Loop;\n"),
    ("src/sys/a.rs", "// SAFETY: it holds,\n// for long.\n#[inline]\nunsafe impl Send for A {}\n"),
    (
        "src/sys/a.rs",
        "fn f() {\n    // SAFETY: it holds.\n    let a =\n        unsafe { libc::g() };\n}\n",
    ),
    ("tests/a.rs", "unsafe impl A for B {\n    unsafe fn f() {}\n}\n// not checked: SAFETY\n"),
    ("tests/a.rs", "use libc::c_int;\nuse std::cell::RefCell;\n"),
    ("tests/a.rs", "#[path = \"../examples/echo.rs\"]\nmod echo;\n"),
    ("tests/a.rs", "#[path = \"support/errno.rs\"]\nmod errno;\n"),
];

#[test]
fn nothing_fires_on_what_only_looks_like_a_violation() {
    for (path, text) in GOOD {
        let findings = rules::check(&Source::parse(path, text));
        let expected = usize::from(text.contains("not checked: SAFETY"));
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), expected, "{lines:?} for\n{text}");
    }
}

#[test]
fn the_median_counts_functions_of_src_without_tests() {
    let long = "fn f() {\n    1;\n    2;\n    3;\n    4;\n    5;\n    6;\n    7;\n}\n";
    let short = "fn f() {}\n";
    let tests = format!("#[cfg(test)]\nmod tests {{\n    {short}    {short}    {short}}}\n");
    let fires = |path: &str, text: &str| {
        let sources = [Source::parse("src/id.rs", long), Source::parse(path, text)];
        rules::check_totals(&sources).iter().any(|finding| finding.rule == "median of 8")
    };
    assert!(fires("src/time.rs", &tests) && fires("tests/a.rs", &short.repeat(9)));
    assert!(!fires("src/time.rs", &short.repeat(2)));
}

#[test]
fn the_lines_of_the_largest_example_are_counted_together() {
    let fires = |len: usize| {
        let parts = [("examples/kv/main.rs", 200), ("examples/kv/a.rs", len)];
        let parse = |(path, len)| Source::parse(path, &"x\n".repeat(len));
        let findings = rules::check_totals(&parts.map(parse));
        findings.iter().any(|finding| finding.rule == "kv of 300")
    };
    assert_eq!((fires(100), fires(101)), (false, true));
}

fn assert_fires(path: &str, text: &str, line: usize, rule: &str) {
    let findings = rules::check(&Source::parse(path, text));
    let found = findings.iter().any(|finding| finding.rule == rule && finding.line == line);
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(found, "no \"{rule}\" at {path}:{line}, but {lines:?}, for\n{text}");
}

fn assert_silent(path: &str, text: &str, rule: &str) {
    let findings = rules::check(&Source::parse(path, text));
    assert!(findings.iter().all(|finding| finding.rule != rule), "\"{rule}\" fires within limits");
}
