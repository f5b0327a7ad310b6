//! Runs `bodies::resp` on what the fuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    hotloop_fuzz::bodies::resp::check(input);
});
