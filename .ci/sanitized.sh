# Sourced by `asan` and `tsan`: runs test binaries that were built with a sanitizer.
# shellcheck shell=bash

# A test that hangs fails.
limit_s=${limit_s:-300}

# test_binaries: reads what cargo says of its build; prints the name and the file of each.
test_binaries() {
    python3 -c '
import json, sys
for message in map(json.loads, sys.stdin):
    if message.get("executable") and message["profile"]["test"]:
        print(message["target"]["name"], message["executable"])
' | sort
}

# is_found WORD LOG COMMAND...: runs a program with a planted mistake, which has to be found, or the
# runs of the tests would say nothing.
is_found() {
    local word=$1 log=$2 status=0
    shift 2
    "$@" >"$log" 2>&1 || status=$?
    [ "$status" -ne 66 ] || ! grep -q "$word" "$log" || return 0
    tail -n 40 "$log"
    echo "a planted mistake is not found ($word), exit code $status"
    return 1
}

# run NAME FILE ARGUMENT...: runs one binary and prints one line about it. Some run themselves as a
# child: the last result is their own.
run() {
    local name=$1 log=$home/run-$1.log began=$SECONDS status=0 result passed
    shift
    timeout -k 10 "$limit_s" "$@" >"$log" 2>&1 </dev/null || status=$?
    result=$(sed -n 's/^test result: \(.*\); finished.*/\1/p' "$log" | tail -n 1)
    passed=$(sed -n 's/^ok\. \([0-9]*\) passed.*/\1/p' <<<"$result")
    binaries=$((binaries + 1))
    if [ "$status" -eq 0 ] && [ -n "$passed" ] && ! grep -q "Sanitizer" "$log"; then
        ran=$((ran + passed))
        echo "$name: ${result%; 0 measured*}, $((SECONDS - began)) s"
    else
        failed=$((failed + 1))
        tail -n 100 "$log"
        echo "$name: FAILED, exit code $status, ${result:-no result}," \
            "$(grep -c "Sanitizer" "$log") lines of reports"
    fi
}

# run_all SANITIZER TESTS_MIN: runs what $home/binaries lists, each with the arguments that
# `arguments NAME` prints, and says what came of it. Fewer tests than that are a mistake.
run_all() {
    local name file more began=$SECONDS
    binaries=0 ran=0 failed=0
    while read -r name file; do
        read -ra more <<<"$(arguments "$name" | tr '\n' ' ')"
        run "$name" "$file" ${more[@]+"${more[@]}"}
    done <"$home/binaries"
    echo "$ran tests of $binaries binaries under $1, $failed binaries failed, $((SECONDS - began)) s"
    if [ "$ran" -lt "$2" ] || [ "$binaries" -ne "$(wc -l <"$home/binaries")" ]; then
        echo "only $ran tests, at least $2 are expected"
        return 1
    fi
    [ "$failed" -eq 0 ]
}
