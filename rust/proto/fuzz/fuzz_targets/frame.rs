//! See `wt_proto_fuzz::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wt_proto_fuzz::frame::check(data));
