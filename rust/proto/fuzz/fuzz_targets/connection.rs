//! See `wt_proto_fuzz::connection`.
#![no_main]

use wt_proto_fuzz::connection::Input;

libfuzzer_sys::fuzz_target!(|input: Input| input.check());
