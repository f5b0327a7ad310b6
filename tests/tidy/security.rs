//! What `SECURITY.md` says of the tree: every limit is shown by tests that exist, and the counts of
//! `unsafe` are the real ones.

use crate::contract::exists;
use crate::scan::{Source, find_words};

/// Below this the table of limits has lost its rows, or their form.
const LIMITS_MIN: usize = 15;

/// Finds what is wrong with the tables.
pub(crate) fn check(text: &str, sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains("::"));
    let mut limits = 0;
    for row in rows {
        limits += 1;
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or("");
        let tests: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        let unknown = tests.iter().filter(|test| !exists(test, sources));
        faults.extend(unknown.map(|test| format!("there is no test `{test}`")));
        if tests.is_empty() {
            faults.push(format!("shown by nothing: {row}"));
        }
    }
    if limits < LIMITS_MIN {
        faults.push(format!("{limits} limits, at least {LIMITS_MIN} are expected"));
    }
    for source in sources.iter().filter(|source| source.is_in("src/")) {
        let (told, real) = (told(text, &source.path), count(source));
        if told != real {
            faults.push(format!("{}: {real} times unsafe, told are {told}", source.path));
        }
    }
    faults
}

/// What the table says of a file; 0 if it has no row.
fn told(text: &str, path: &str) -> usize {
    let start = format!("| `{path}` | ");
    let row = text.lines().find_map(|line| line.strip_prefix(&start));
    row.and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0)
}

fn count(source: &Source) -> usize {
    let lines = source.lines.iter().filter(|line| !line.in_test);
    lines.map(|line| find_words(&line.code, "unsafe").count()).sum()
}

#[test]
fn what_is_not_so_is_found() {
    let source = |path, text| Source::parse(path, text);
    let a = "fn f() {\n    unsafe { g() }\n}\n#[cfg(test)]\nmod tests {\n    unsafe { g() }\n}\n";
    let sources = [source("src/sys/a.rs", a), source("tests/a.rs", "#[test]\nfn there() {}\n")];
    let limits = "| `A::b` | 1 | x | `a::there` |\n".repeat(LIMITS_MIN);
    let right = format!("{limits}| `src/sys/a.rs` | 1 | y | z |\n");
    assert_eq!(check(&right, &sources), Vec::<String>::new());
    let gone = right.replacen("a::there", "a::gone", 1);
    assert_eq!(check(&gone, &sources), ["there is no test `a::gone`"]);
    assert_eq!(check(&right.replace("| 1 | y", "| 2 | y"), &sources).len(), 1);
    assert_eq!(check(&limits, &sources), ["src/sys/a.rs: 1 times unsafe, told are 0"]);
    assert_eq!(check(&right.replacen("`a::there`", "me", 1), &sources).len(), 1);
    assert_eq!(check("| `src/sys/a.rs` | 1 | y | z |\n", &sources).len(), 1);
}
