//! The table that says which test holds which rule: every rule has a line, and every test that is
//! named there exists.

use std::collections::BTreeMap;

use crate::scan::Source;

/// How many rules the contract has.
const RULES: usize = 17;

/// Finds what is wrong with the table.
pub(crate) fn check(table: &str, sources: &[Source]) -> Vec<String> {
    let rows = rows(table);
    let missing = (1..=RULES).map(|number| format!("C{number}"));
    let mut faults: Vec<String> =
        missing.filter(|rule| !rows.contains_key(rule)).map(|rule| format!("no {rule}")).collect();
    for (rule, tests) in rows {
        let unknown = tests.iter().filter(|test| !exists(test, sources));
        faults.extend(unknown.map(|test| format!("{rule}: there is no test `{test}`")));
        if tests.is_empty() {
            faults.push(format!("{rule} has no test"));
        }
    }
    faults
}

/// Reads the rows: a rule, and the tests in backquotes.
fn rows(table: &str) -> BTreeMap<String, Vec<String>> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("| C")?.split_once(" | "));
    rows.map(|(number, tests)| {
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (format!("C{number}"), tests)
    })
    .collect()
}

/// Returns whether a test binary has a test of that name: a function, and either the attribute or
/// a place in the list of a macro.
pub(crate) fn exists(test: &str, sources: &[Source]) -> bool {
    let Some((binary, name)) = test.split_once("::") else { return false };
    let (file, folder) = (format!("tests/{binary}.rs"), format!("tests/{binary}/"));
    let of_binary = sources.iter().filter(|one| one.path == file || one.path.starts_with(&folder));
    of_binary.into_iter().any(|source| is_test(&source.code(), name))
}

fn is_test(code: &str, name: &str) -> bool {
    let declared = format!("fn {name}(");
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let marked = lines.windows(2).any(|two| two[0] == "#[test]" && two[1].starts_with(&declared));
    let (listed, listed_alone) = (format!("{name},"), format!("({name},"));
    let in_list = lines.iter().any(|line| *line == listed || line.contains(&listed_alone));
    marked || (in_list && code.contains(&declared))
}

#[test]
fn a_rule_without_a_line_and_a_test_that_is_gone_are_found() {
    let text = "#[test]\nfn there() {}\nfn helper() {}\nfn told() {}\non_script!(told,);\n";
    let source = Source::parse("tests/a.rs", text);
    let full: String = (1..=RULES).map(|number| format!("| C{number} | `a::there` |\n")).collect();
    assert_eq!(check(&full, std::slice::from_ref(&source)), Vec::<String>::new());
    let gone = full.replace("| C3 | `a::there`", "| C3 | `a::gone`");
    assert_eq!(check(&gone, std::slice::from_ref(&source)), ["C3: there is no test `a::gone`"]);
    let told = full.replace("| C3 | `a::there`", "| C3 | `a::told`");
    assert_eq!(check(&told, std::slice::from_ref(&source)), Vec::<String>::new());
    let helper = full.replace("| C3 | `a::there`", "| C3 | `a::helper`");
    assert_eq!(check(&helper, std::slice::from_ref(&source)).len(), 1, "a helper is no test");
    let short = full.replace("| C17 |", "| D17 |");
    assert_eq!(check(&short, &[source]), ["no C17"]);
}
