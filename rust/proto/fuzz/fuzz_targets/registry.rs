//! See `wt_proto_fuzz::registry`.
#![no_main]

use wt_proto_fuzz::registry::Input;

libfuzzer_sys::fuzz_target!(|input: Input| input.check());
