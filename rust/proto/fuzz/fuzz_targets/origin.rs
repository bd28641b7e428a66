//! See `wt_proto_fuzz::origin`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| wt_proto_fuzz::origin::check(text));
