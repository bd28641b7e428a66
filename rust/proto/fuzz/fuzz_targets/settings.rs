//! See `wt_proto_fuzz::settings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wt_proto_fuzz::settings::check(data));
