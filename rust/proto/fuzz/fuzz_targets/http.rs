//! See `wt_proto_fuzz::http`.
#![no_main]

use wt_proto_fuzz::http::Input;

libfuzzer_sys::fuzz_target!(|input: Input| input.check());
