#!/usr/bin/env bash
# Changes the core in every way that cargo-mutants knows, one at a time, and sees to it that a test
# notices.
#
#     tests/mutants.sh [SAMPLE [FIRST]]
#
# All of them take hours. SAMPLE is how many are run, evenly spread over the list from a random one
# on; a sample says which one that was, and FIRST repeats it. What is changed and what is not, each
# with its reason, stands in .cargo/mutants.toml.
#
# Each mutant meets the unit tests and the model test; those that survive meet the tests of the
# behaviours. A mutant that hangs the tests is noticed, too. Ends with the survivors, and fails if
# they are more than 5 % of those that could be built.
#
# Works on a copy of the tree under target/mutants.
set -euo pipefail
cd "$(dirname "$0")/.."

sample=${1:-0}
first=${2:-}
version=27.1.0
survivors_max_percent=5
out=$PWD/target/mutants
tool=$PWD/target/tools/bin/cargo-mutants

quick=(--lib --test=model)
# Those that say most about the core, without those that need a process of their own or take long.
behaviours=(accept budgets closing connect consumption echo embedding half_close hand_over
    limits logging mailbox metrics panics pausing pressure quiet regressions regressions_sim reset
    sim socket_options stack stale_ids timers uptime urgent wakes write_vectored writing)

install_tool() {
    "$tool" mutants --version 2>/dev/null | grep -qx "cargo-mutants $version" ||
        cargo install --quiet --debug --locked --root target/tools cargo-mutants \
            --version "$version"
}

copy_tree() {
    rm -rf "$out/tree"
    mkdir -p "$out/tree"
    cp -r .cargo src tests examples benches Cargo.toml README.md "$out/tree"
    merge_behaviours
}

# Makes one binary of all behaviours, in the copy: to build one for each takes a minute for each
# mutant.
merge_behaviours() {
    local into=$out/tree/tests/behaviours name
    mkdir "$into"
    {
        echo '#![allow(missing_docs, dead_code, unused)]'
        echo '#[macro_use]'
        echo '#[path = "../support/mod.rs"]'
        echo 'mod support;'
        for name in "${behaviours[@]}"; do echo "mod $name;"; done
    } >"$into/main.rs"
    for name in "${behaviours[@]}"; do
        sed 's/^mod support;/use crate::support;/; s,path = "support/,path = "../support/,' \
            "tests/$name.rs" >"$into/$name.rs"
    done
}

# choose: writes the mutants to run to $out/chosen.
choose() {
    (cd "$out/tree" && "$tool" mutants --list) >"$out/all"
    local all every
    all=$(wc -l <"$out/all")
    if [ "$sample" -eq 0 ] || [ "$sample" -ge "$all" ]; then
        cp "$out/all" "$out/chosen"
        echo "all $all mutants"
        return
    fi
    every=$((all / sample))
    first=$((${first:-RANDOM} % every))
    awk -v every="$every" -v first="$first" 'NR % every == first' "$out/all" >"$out/chosen"
    echo "$(wc -l <"$out/chosen") of $all mutants: $0 $sample $first"
}

# run_pass NAME LIST TARGETS...: runs the mutants of a list with these targets of cargo; leaves what
# became of each in files of $out/NAME/mutants.out.
run_pass() {
    local name=$1 list=$2 status=0
    shift 2
    local -a only
    # The files, too: the tool runs the deleted fields of each whether they are asked for or not.
    mapfile -t only < <(cut -d: -f1 "$list" | sort -u | sed 's/^/--file=/'
        sed 's/[][(){}.*+?|^$\\&]/\\&/g; s/.*/--re=^&$/' "$list")
    rm -rf "${out:?}/$name"
    mkdir -p "$out/$name"
    (cd "$out/tree" && CARGO_TARGET_DIR=$out/build "$tool" mutants --in-place \
        --no-times --colors=never -o "$out/$name" "${@/#/--cargo-arg=}" "${only[@]}") || status=$?
    # 2: some were missed; 3: some hung.
    case $status in 0 | 2 | 3) ;; *) echo "cargo-mutants ends with $status"; exit 1 ;; esac
}

# of NAME RESULT LIST: the mutants of a list to which this happened in a pass.
of() {
    grep -Fxf "$3" "$out/$1/mutants.out/$2.txt" 2>/dev/null || true
}

# all_of RESULT: the mutants to which this happened in either pass.
all_of() {
    of quick "$1" "$out/chosen"
    of broad "$1" "$out/left"
}

install_tool
copy_tree
choose
HOTLOOP_SEEDS=2000 HOTLOOP_SHRINK=0 run_pass quick "$out/chosen" "${quick[@]}"
of quick missed "$out/chosen" >"$out/left"
rm -rf "$out/broad"
if [ -s "$out/left" ]; then
    # More threads than cores: they mostly wait.
    RUST_TEST_THREADS=8 run_pass broad "$out/left" --test=behaviours
fi

killed=$(all_of caught | wc -l)
hung=$(all_of timeout | wc -l)
unviable=$(of quick unviable "$out/chosen" | wc -l)
survived=$(of broad missed "$out/left" | wc -l)
of broad missed "$out/left" | sed 's/^/SURVIVED /'
echo "$killed killed, $survived survived, $hung timeouts, $unviable unviable"
built=$((killed + hung + survived))
chosen=$(wc -l <"$out/chosen")
if [ "$built" -eq 0 ] || [ $((built + unviable)) -ne "$chosen" ]; then
    echo "of $chosen mutants $((built + unviable)) have a result, and $built could be built"
    exit 1
fi
[ $((survived * 100)) -le $((built * survivors_max_percent)) ] ||
    { echo "more than $survivors_max_percent % of $built have survived"; exit 1; }
