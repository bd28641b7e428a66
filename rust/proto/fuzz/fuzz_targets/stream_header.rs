//! See `wt_proto_fuzz::stream_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wt_proto_fuzz::stream_header::check(data));
