//! See `wt_proto_fuzz::error_code`.
#![no_main]

use wt_proto_fuzz::error_code::Input;

libfuzzer_sys::fuzz_target!(|input: Input| input.check());
