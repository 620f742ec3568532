#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    ovis_fuzz::adapters::run(data);
});
