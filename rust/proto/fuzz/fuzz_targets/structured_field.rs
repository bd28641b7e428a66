//! See `wt_proto_fuzz::structured_field`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| wt_proto_fuzz::structured_field::check(text));
