#!/bin/sh
# Runs every test given, and adds up their last lines, `N passed, N failed`. A test that ends without
# that line has failed. From the top folder.
set -u
passed=0
failed=0
for test in "$@"; do
    case $test in
    *.py) command="python3 $test" ;;
    *) command=$test ;;
    esac
    output=$($command 2>&1)
    status=$?
    echo "== $test"
    echo "$output"
    last=$(echo "$output" | tail -n 1)
    case $last in
    *[0-9]" passed, "[0-9]*" failed")
        passed=$((passed + ${last%% passed*}))
        last=${last#*, }
        failed=$((failed + ${last%% failed*}))
        [ $status -eq 0 ] || [ "${last%% failed*}" -ne 0 ] || failed=$((failed + 1))
        ;;
    *)
        echo "$test ended without its closing line, status $status"
        failed=$((failed + 1))
        ;;
    esac
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
