//! See `wt_proto_fuzz::flow_control`.
#![no_main]

use wt_proto_fuzz::flow_control::Input;

libfuzzer_sys::fuzz_target!(|input: Input| input.check());
