//! See `wt_proto_fuzz::headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wt_proto_fuzz::headers::check(data));
