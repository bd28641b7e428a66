//! See `wt_proto_fuzz::capsule`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wt_proto_fuzz::capsule::check(data));
