//! See `wt_proto_fuzz::session`.
#![no_main]

use wt_proto_fuzz::session::Input;

libfuzzer_sys::fuzz_target!(|input: Input| input.check());
