//! Runs `bodies::framing` on what the fuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = hotloop_fuzz::bodies::framing::check(input);
});
